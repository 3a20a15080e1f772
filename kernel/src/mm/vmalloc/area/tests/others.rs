//! The pool, the areas in use and those that wait for the purge.

use super::*;

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
    assert!(busy.remove(address(108) + 8).is_none());
    assert_eq!(busy.iter().map(first).collect::<Vec<_>>(), [104, 108, 112]);
    assert_eq!(
        busy.remove(address(108)).map(|area| first(&area)),
        Some(108)
    );
    assert!(busy.remove(address(108)).is_none());
    assert_eq!(busy.count(), 2);
}

#[test]
fn lazy_areas_come_out_in_the_order_they_were_freed_in() {
    let mut free = space(&[(100, 20)]);
    let mut lazy = LazyAreas::new();
    assert!(lazy.pop().is_none());
    for (at, pages) in [(110, 2), (100, 1), (105, 4)] {
        lazy.push(free.take_exact(range(at, pages)).unwrap());
    }
    assert_eq!((lazy.count(), lazy.pages()), (3, 7));
    assert_eq!(lazy.iter().map(first).collect::<Vec<_>>(), [110, 100, 105]);
    assert_eq!(lazy.pop().map(|area| first(&area)), Some(110));
    lazy.push(free.take_exact(range(115, 1)).unwrap());
    assert_eq!((lazy.count(), lazy.pages()), (3, 6));
    let mut purging = lazy.take_all();
    assert_eq!((lazy.count(), lazy.pages(), lazy.iter().count()), (0, 0, 0));
    let order: Vec<_> = core::iter::from_fn(|| purging.pop())
        .map(|area| first(&area))
        .collect();
    assert_eq!(order, [100, 105, 115]);
    assert_eq!((purging.count(), purging.pages()), (0, 0));
    check_records(&free, 5 - 1); // one was dropped with the assertion on `pop`
}
