//! Counting and recording, on the host.

use super::*;
use crate::{
    arch::{
        barrier,
        record::{note, span},
    },
    mm::host_tests::Machine,
};

/// Records `action` into room for `N` events.
fn record<const N: usize>(action: impl FnOnce()) -> Result<Vec<Kind>, Incomplete> {
    let mut memory = [const { MaybeUninit::uninit() }; N];
    let mut recording = start(&mut memory).expect("the machine is ours");
    action();
    let events = recording.events()?;
    Ok(events.iter().map(|event| event.kind).collect())
}

#[test]
fn a_recording_holds_as_many_events_as_there_is_room_for() {
    let _machine = Machine::take();
    let isbs = |count| move || (0..count).for_each(|_| barrier::isb());
    let kinds = record::<3>(isbs(3)).unwrap();
    assert_eq!(kinds.len(), 3);
    assert!(
        kinds
            .iter()
            .all(|kind| matches!(kind, Kind::Barrier(Barrier::Isb)))
    );
    assert_eq!(record::<3>(isbs(5)).unwrap_err(), Incomplete { lost: 2 });
    assert_eq!(record::<0>(isbs(0)).unwrap().len(), 0);
}

#[test]
fn there_is_one_recording_at_a_time() {
    let _machine = Machine::take();
    let (mut one, mut other) = (
        [const { MaybeUninit::uninit() }; 1],
        [const { MaybeUninit::uninit() }; 1],
    );
    let first = start(&mut one);
    assert!(first.is_some() && recording());
    assert!(start(&mut other).is_none());
    drop(first);
    assert!(!recording());
    assert!(start(&mut other).is_some());
}

#[test]
fn what_comes_after_the_stop_is_not_in_it_but_is_counted() {
    let _machine = Machine::take();
    let before = Counts::now();
    let mut memory = [const { MaybeUninit::uninit() }; 4];
    let mut recording = start(&mut memory).unwrap();
    barrier::dsb_ish();
    recording.stop();
    barrier::dsb_ishst();
    barrier::dsb_nsh();
    let recorded = Counts::of(recording.events().unwrap());
    let only = |dsb, isb| Counts {
        dsb,
        isb,
        ..Counts::default()
    };
    assert_eq!(recorded, only(1, 0));
    assert_eq!(before.since(), only(3, 0));
    barrier::isb();
    assert_eq!(before.since(), only(3, 1));
}

#[test]
fn spans_and_calls_are_recorded_and_not_counted() {
    let _machine = Machine::take();
    let before = Counts::now();
    let kinds = record::<4>(|| {
        let _outer = span("outer");
        drop(span("inner"));
        note(|| Kind::Enter("noted"));
        // The drop of `_outer` is one event more than there is room for.
    });
    assert_eq!(kinds.unwrap_err(), Incomplete { lost: 1 });
    let kinds = record::<2>(|| drop(span("name"))).unwrap();
    assert!(matches!(
        kinds[..],
        [Kind::Enter("name"), Kind::Leave("name")]
    ));
    assert_eq!(before.since(), Counts::default());
}
