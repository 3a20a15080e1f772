//! The pool, the areas in use, chains.

use super::*;

/// Takes an area out of use, whatever its kind.
pub(super) fn take_out(busy: &mut BusyAreas, start: VirtAddr) -> Option<OwnedArea> {
    busy.remove_if(start, |_| true)
}

#[test]
fn pool_hands_out_every_object_of_a_page_once() {
    let mut pool: Pool<VmapArea> = pool();
    assert!(pool.allocate().is_none(), "only `reserve` asks for memory");
    pool.reserve(1).unwrap();
    assert_eq!(
        (pool.pages(), pool.spare()),
        (1, Pool::<VmapArea>::PER_PAGE)
    );
    let objects: Vec<_> = core::iter::from_fn(|| pool.allocate()).collect();
    assert_eq!(objects.len(), Pool::<VmapArea>::PER_PAGE);
    let place = |area: &VmapArea| core::ptr::from_ref(area).addr();
    assert_eq!(place(objects[0]) % 4096, 0);
    for pair in objects.windows(2) {
        assert_eq!(place(pair[1]) - place(pair[0]), size_of::<VmapArea>());
    }
    assert!(place(objects[objects.len() - 1]) % 4096 <= 4096 - size_of::<VmapArea>());
    for object in &objects {
        assert_eq!(
            (object.pages.get(), object.info()),
            (0, AreaInfo::default())
        );
    }
    pool.release(objects[3]);
    assert!(core::ptr::eq(pool.allocate().unwrap(), objects[3]));
    assert_eq!((pool.pages(), pool.spare()), (1, 0));
}

#[test]
fn busy_areas_are_found_by_start_and_by_any_address() {
    const HERE: &Location<'_> = Location::caller();
    let mut free = space(&[(100, 20)]);
    let mut busy = BusyAreas::new();
    for at in [112, 104, 108] {
        let mut area = free.take_exact(range(at, 3)).unwrap();
        area.set_info(AreaInfo {
            requested: at,
            caller: Some(HERE),
            kind: AreaKind::Vmap,
        });
        busy.insert(area);
    }
    check_busy(&busy);
    let containing = |at: u64| busy.find_containing(address(at) + 0xfff).map(first);
    assert_eq!([103, 104, 106, 107, 114, 115].map(containing), {
        [None, Some(104), Some(104), None, Some(112), None]
    });
    let info = busy.find(address(108)).unwrap().info();
    assert_eq!(
        (info.requested, info.caller, info.kind),
        (108, Some(HERE), AreaKind::Vmap)
    );
    assert!(busy.find(address(109)).is_none());
    assert!(
        busy.find(address(108) + 8).is_none(),
        "inside is not the start"
    );
    assert!(take_out(&mut busy, address(108) + 8).is_none());
    assert_eq!(busy.iter().map(first).collect::<Vec<_>>(), [104, 108, 112]);
    assert_eq!(
        take_out(&mut busy, address(108)).map(|area| first(&area)),
        Some(108)
    );
    assert!(take_out(&mut busy, address(108)).is_none());
    assert_eq!(busy.count(), 2);
}

#[test]
fn an_area_of_another_kind_stays_in_use() {
    let mut free = space(&[(100, 20)]);
    let mut busy = BusyAreas::new();
    busy.insert(free.take_exact(range(104, 3)).unwrap());
    assert!(
        busy.remove_if(address(104), |kind| kind == AreaKind::Vmap)
            .is_none()
    );
    check_busy(&busy);
    let area = busy.remove_if(address(104), |kind| kind == AreaKind::Vmalloc);
    assert_eq!(area.map(|area| first(&area)), Some(104));
}

#[test]
fn a_chain_gives_back_what_came_last_first() {
    let mut free = space(&[(100, 20)]);
    let mut chain = Chain::new();
    assert!(chain.is_empty() && chain.pop().is_none());
    for (at, pages) in [(110, 2), (100, 1), (105, 4)] {
        chain.push(free.take_exact(range(at, pages)).unwrap());
    }
    assert_eq!(chain.iter().map(first).collect::<Vec<_>>(), [105, 100, 110]);
    let mut pop = |chain: &mut Chain| {
        let area = chain.pop()?;
        let at = first(&area);
        free.insert(area);
        Some(at)
    };
    assert_eq!(pop(&mut chain), Some(105));
    assert_eq!([pop(&mut chain), pop(&mut chain)], [Some(100), Some(110)]);
    assert_eq!(pop(&mut chain), None);
    assert!(chain.is_empty());
    check_records(&free, 0);
}

#[test]
fn neighbours_in_a_chain_are_one_run_and_come_back_as_one() {
    let mut free = space(&[(100, 20)]);
    let mut chain = Chain::new();
    // From the last to the first: two below each other, two above, one apart, one of another kind.
    let of = [
        (118, 2, AreaKind::VmallocHuge),
        (116, 2, AreaKind::Vmalloc),
        (109, 3, AreaKind::Vmalloc),
        (107, 2, AreaKind::Vmalloc),
        (101, 1, AreaKind::Vmalloc),
        (102, 2, AreaKind::Vmalloc),
    ];
    for (at, pages, kind) in of {
        let mut area = free.take_exact(range(at, pages)).unwrap();
        area.set_info(AreaInfo {
            kind,
            ..AreaInfo::default()
        });
        chain.push(area);
    }
    let spare = chain.join_neighbours();
    assert_eq!(
        chain.iter().map(VmapArea::range).collect::<Vec<_>>(),
        [range(101, 3), range(107, 5), range(116, 2), range(118, 2)]
    );
    check_records(&free, of.len());
    free.take_back(spare);
    check_records(&free, 4);
    // Nothing is left to be joined.
    free.take_back(chain.join_neighbours());
    check_records(&free, 4);
    while let Some(area) = chain.pop() {
        free.insert(area);
    }
    assert_eq!(listing(&free), [(100, 20)]);
    check_free(&free);
    check_records(&free, 0);
}

#[test]
fn an_area_claims_what_is_free_around_it_up_to_a_multiple() {
    // Multiples of 8 pages; fences at 103 and 121.
    let mut free = space(&[(104, 17)]);
    let mut area = free.take_exact(range(107, 6)).unwrap();
    free.claim_around(&mut area, 8 * PAGE_SIZE);
    assert_eq!(
        (area.range(), listing(&free)),
        (range(104, 16), vec![(120, 1)])
    );
    free.insert(area);
    // What is in use in between ends it.
    let fence = free.take_exact(range(105, 1)).unwrap();
    let mut area = free.take_exact(range(107, 2)).unwrap();
    let above = free.take_exact(range(109, 1)).unwrap();
    free.claim_around(&mut area, 8 * PAGE_SIZE);
    assert_eq!(area.range(), range(106, 3));
    // At a multiple there is nothing more to claim.
    let mut exact = free.take_exact(range(112, 8)).unwrap();
    free.claim_around(&mut exact, 8 * PAGE_SIZE);
    assert_eq!(exact.range(), range(112, 8));
    for area in [fence, area, above, exact] {
        free.insert(area);
    }
    assert_eq!(listing(&free), [(104, 17)]);
    check_free(&free);
    check_records(&free, 0);
}
