//! The tour: one file a scene. A scene says what it shows, does it, and checks it.
//!
//! Checks are against what the chosen model and backend are *expected* to do: an expected warning
//! is right, a missing or an extra one is wrong.

mod barriers;
mod call_tree;
mod catch;
mod contention;
mod hazards;
mod history;
mod interrupt;
mod layout;
mod nesting;
mod options;
mod pause;
mod preempt;
mod scratch;
mod timeline;
mod zap;

use crate::{
    mm::lazy,
    oracle::Boundary,
    println,
    trace::{self, Event},
    verdict, warning,
};
use alloc::{boxed::Box, string::String, vec::Vec};
use core::{fmt, mem::MaybeUninit};

/// A part of the tour.
#[derive(Debug)]
pub struct Scene {
    /// As it is named on the command line.
    pub name: &'static str,
    /// What it shows, in a line.
    pub shows: &'static str,
    run: fn() -> Result<(), Trouble>,
}

/// Every scene, in the order of the tour.
pub const SCENES: [Scene; 12] = [
    Scene {
        name: "layout",
        shows: "the address space as it is mapped, and that no frame is writable and executable",
        run: layout::run,
    },
    Scene {
        name: "barriers",
        shows: "what a vmap costs when its barriers are issued at once, and when they are put off",
        run: barriers::run,
    },
    Scene {
        name: "nesting",
        shows: "sections inside sections: which call does what",
        run: nesting::run,
    },
    Scene {
        name: "pause",
        shows: "a section inside a pause inside a section: the chain that decided the rules",
        run: pause::run,
    },
    Scene {
        name: "catch",
        shows: "a use after free, an overrun and a read out of bounds, each caught",
        run: catch::run,
    },
    Scene {
        name: "hazards",
        shows: "what each deferral breaks when its rule is not kept",
        run: hazards::run,
    },
    Scene {
        name: "options",
        shows: "what may stand inside a pause: the four options of the thread",
        run: options::run,
    },
    Scene {
        name: "zap",
        shows: "pages of a program are unmapped, and the list of them needs a page in mid-section",
        run: zap::run,
    },
    Scene {
        name: "history",
        shows: "every set of rules, on every chain of calls that broke one",
        run: history::run,
    },
    Scene {
        name: "preempt",
        shows: "a section that is preempted, and moved to another CPU: what it owes goes with it",
        run: preempt::run,
    },
    Scene {
        name: "interrupt",
        shows: "a timer interrupt that maps a page inside someone's open section",
        run: interrupt::run,
    },
    Scene {
        name: "contention",
        shows: "one lock around every section, against none: who waits for whom",
        run: contention::run,
    },
];

/// Why a scene did not end well.
#[derive(Debug)]
pub enum Trouble {
    /// Something was not as expected.
    Failed(String),
    /// It needs what this boot does not have.
    Needs(&'static str),
}

/// Ends the scene when something is not as expected; what it was is formatted.
macro_rules! ensure {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err($crate::tour::Trouble::Failed(alloc::format!($($what)+)));
        }
    };
}
use ensure;

/// How a scene ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Ok,
    Failed,
    Skipped,
}

/// Plays every scene. Returns whether none failed.
pub fn play() -> bool {
    let ends = SCENES.each_ref().map(end_of);
    let count = |end: End| ends.iter().filter(|e| **e == end).count();
    let skipped = count(End::Skipped);
    let ok = count(End::Ok);
    match skipped {
        0 => println!("\ntour: {} scenes, {ok} ok", SCENES.len()),
        _ => println!(
            "\ntour: {} scenes, {ok} ok, {skipped} skipped",
            SCENES.len()
        ),
    }
    count(End::Failed) == 0
}

/// Plays one scene. Returns whether it did not fail.
pub fn play_one(scene: &Scene) -> bool {
    end_of(scene) != End::Failed
}

fn end_of(scene: &Scene) -> End {
    warning::print_again();
    println!("\n--- {}: {}", scene.name, scene.shows);
    let (model, backend) = (lazy::model(), lazy::backend());
    let result = (scene.run)();
    // Before what was left behind is put right.
    let judged = verdict::at(Boundary::Scene).map_err(failed);
    // A scene that failed must not decide what the next one finds.
    let left = left_behind();
    lazy::choose(model, backend)
        .unwrap_or_else(|lazy::Busy| unreachable!("the state has been put back"));
    match result.and(left).and(judged) {
        Ok(()) => {
            println!("scene {}: ok", scene.name);
            End::Ok
        }
        Err(Trouble::Failed(why)) => {
            println!("scene {}: FAILED ({why})", scene.name);
            End::Failed
        }
        Err(Trouble::Needs(what)) => {
            println!("scene {}: skipped (needs {what})", scene.name);
            End::Skipped
        }
    }
}

/// A scene must leave no section open, no pause, and nothing put off.
fn left_behind() -> Result<(), Trouble> {
    let mut state = String::new();
    lazy::describe(&mut state).map_err(failed)?;
    ensure!(lazy::reset(), "left behind: {state}");
    Ok(())
}

/// Room for the events of the largest recording of the tour: mapping 4096 pages one by one, with
/// their shadow.
const EVENTS: usize = 24 * 1024;

/// Records what happens while `action` runs, and gives the events to `judge`.
fn recorded<R>(
    action: impl FnOnce() -> Result<R, Trouble>,
    judge: impl FnOnce(&[Event], R) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    recorded_with_room(EVENTS, action, judge)
}

/// As [`recorded`], with room for `room` events.
fn recorded_with_room<R>(
    room: usize,
    action: impl FnOnce() -> Result<R, Trouble>,
    judge: impl FnOnce(&[Event], R) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let mut memory: Box<[MaybeUninit<Event>]> = Box::new_uninit_slice(room);
    let Some(mut recording) = trace::start(&mut memory) else {
        return Err(Trouble::Failed("another recording is under way".into()));
    };
    let result = action();
    let events = recording
        .events()
        .map_err(|incomplete| Trouble::Failed(alloc::format!("{incomplete}")))?;
    judge(events, result?)
}

/// What went wrong, as a reason for a scene to fail.
fn failed(error: impl fmt::Display) -> Trouble {
    Trouble::Failed(alloc::format!("{error}"))
}

/// `count` pages of the allocator, given back when the value is dropped.
struct Frames(Vec<vmsa::Frame>);

impl Frames {
    fn allocate(count: u64) -> Result<Self, Trouble> {
        use crate::mm::page_alloc;
        // Room first: growing the vector can't fail half-way then.
        let mut frames = Vec::new();
        frames.try_reserve_exact(count as usize).map_err(failed)?;
        frames.extend(
            page_alloc::allocate_list(count)
                .map_err(failed)?
                .into_frames(),
        );
        Ok(Self(frames))
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        use crate::mm::page_alloc;
        let Some(mut list) = page_alloc::empty_list() else {
            return;
        };
        for frame in &self.0 {
            // What can't be given back is reported there.
            let _ = page_alloc::give_up(&mut list, *frame);
        }
        page_alloc::free_list(list);
    }
}
