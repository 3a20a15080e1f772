//! Whatever is done to it: the tree holds what a plain map holds, in as many tables as it takes.

use super::*;
use proptest::prelude::*;
use vmsa::Attributes;

/// What is done to a few pages.
#[derive(Clone, Debug)]
enum Action {
    Map,
    Unmap,
    Protect,
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 1 } else { 64 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever is mapped, unmapped and changed: the tree holds what a plain map holds.
    #[test]
    fn the_tree_does_what_a_map_does(
        actions in prop::collection::vec(
            (
                prop_oneof![Just(Action::Map), Just(Action::Unmap), Just(Action::Protect)],
                prop::sample::select(&[
                    0xffff_0000_0000_0000_u64, 0xffff_8000_3fff_0000, 0xffff_807f_ffff_0000,
                    0xffff_ffff_ffe0_0000,
                ]),
                0u64..32,
                1u64..if cfg!(miri) { 20 } else { 600 },
            ),
            1..if cfg!(miri) { 4 } else { 12 },
        )
    ) {
        let _machine = Machine::take();
        let mut arena = Arena::new();
        let mut tree = tree(&mut arena);
        let mut model = BTreeMap::new();
        for (action, base, offset, pages) in actions {
            let Some(range) = PageRange::new(VirtAddr::literal(base + offset * PAGE_SIZE), pages)
            else { continue };
            match action {
                Action::Map => {
                    let result = map(&mut tree, range);
                    let mut expected = Ok(());
                    for va in (0..pages).map(|n| range.page(n)) {
                        if model.contains_key(&va.as_u64()) {
                            expected = Err(Error::Occupied(va));
                            break;
                        }
                        model.insert(va.as_u64(), frame_of(va));
                    }
                    prop_assert_eq!(result, expected);
                }
                Action::Unmap => {
                    let mut taken = Vec::new();
                    tree.apply_to_existing_page_range(range, |leaf| {
                        let old = leaf.take();
                        if !old.is_none() {
                            taken.push(leaf.va().as_u64());
                        }
                        Ok(())
                    }).unwrap();
                    let keys: Vec<_> = (0..pages)
                        .map(|n| range.page(n).as_u64())
                        .filter(|va| model.remove(va).is_some())
                        .collect();
                    prop_assert_eq!(taken, keys);
                }
                Action::Protect => {
                    tree.apply_to_existing_page_range(range, |leaf| {
                        let old = leaf.get();
                        if !old.is_none() {
                            leaf.set(old, old.with_attributes(Attributes::KERNEL_RODATA));
                        }
                        Ok(())
                    }).unwrap();
                    for va in (0..pages).map(|n| range.page(n).as_u64()) {
                        if let Some(entry) = model.get_mut(&va) {
                            *entry = entry.with_attributes(Attributes::KERNEL_RODATA);
                        }
                    }
                }
            }
            prop_assert!(!lazy::is_active() && !crate::task::current().deferred.barriers.get());
        }
        prop_assert_eq!(mapped(&tree), model);
    }

    /// As many tables as the range needs and the tree lacks, no more.
    #[test]
    fn no_table_too_many(
        start in 0u64..1 << 36,
        pages in 1u64..if cfg!(miri) { 3000 } else { 1 << 19 },
        before in 0u64..1 << 20,
    ) {
        let _machine = Machine::take();
        let start = VirtAddr::literal(0xffff << 48 | start << 12);
        let Some(range) = PageRange::new(start, pages) else { return Ok(()) };
        let mut arena = Arena::new();
        let mut tree = tree(&mut arena);
        let inside = range.page(before % pages);
        tree.prepare(PageRange::new(inside, 1).unwrap()).unwrap();
        prop_assert_eq!(tree.memory().used(), 4);
        tree.prepare(range).unwrap();
        prop_assert_eq!(tree.memory().used(), 1 + tables_for(range));
        let most = tree.memory().calls().iter().max();
        prop_assert!(most.is_some_and(|n| *n <= BATCH));
    }
}
