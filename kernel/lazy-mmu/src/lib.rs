//! The nesting state machine of Linux's lazy MMU mode, as a value.
//!
//! *Lazy MMU mode* is a section of code, `enable` to `disable`, in which a kernel may put off the
//! maintenance that its page-table stores need (barriers, TLB invalidations, hypercalls) and do it
//! once at the end. What happens when such a section is opened inside another, is paused, or is met
//! by an interrupt took Linux six attempts to settle. All six are here, as [`Model`]s of one state
//! machine: four bytes in a task, four calls, and what each call asks of the architecture.
//!
//! Nothing is executed and nothing allocated; there is no `unsafe` and no dependency. The crate
//! knows neither an architecture nor a kernel: [`ArchCall`] says what to do, you do it.
//!
//! # In a kernel
//!
//! Put a [`LazyMmuState`] into each task and implement [`LazyMmu`] once. Then open sections with
//! [`LazyMmu::section`] and step out of them with [`LazyMmu::paused`].
//!
//! ```
//! use core::cell::{Cell, RefCell};
//! use lazy_mmu::{ArchCall, LazyMmu, LazyMmuState, Model, Warning};
//!
//! /// What a kernel keeps in its task.
//! #[derive(Default)]
//! struct Task {
//!     lazy: Cell<LazyMmuState>,
//!     in_interrupt: Cell<bool>,
//!     log: RefCell<Vec<ArchCall>>,
//! }
//!
//! impl LazyMmu for Task {
//!     fn model(&self) -> Model { Model::TwoCounters }
//!     fn in_interrupt(&self) -> bool { self.in_interrupt.get() }
//!     fn state(&self) -> LazyMmuState { self.lazy.get() }
//!     fn set_state(&self, state: LazyMmuState) { self.lazy.set(state) }
//!     fn arch(&self, call: ArchCall) { self.log.borrow_mut().push(call) }
//!     fn warn(&self, warning: Warning) { panic!("{warning}") }
//! }
//!
//! let task = Task::default();
//! {
//!     let _outer = task.section();
//!     {
//!         let _nested = task.section();
//!         assert!(task.is_active());
//!     } // flushes; the mode stays on
//!     {
//!         let _paused = task.paused();
//!         assert!(!task.is_active());
//!         let inside = task.section(); // legal, and does nothing
//!         assert!(inside.is_no_op());
//!     }
//!     assert!(task.is_active());
//! }
//! assert_eq!(task.lazy.get(), LazyMmuState::new());
//! use ArchCall::{Enter, Flush, Leave};
//! assert_eq!(*task.log.borrow(), [Enter, Flush, Leave, Enter, Leave]);
//! ```
//!
//! # The default model, call by call
//!
//! From the commit message of `5ab246749569` (Linux v7.0); the counts are those after the call.
//!
//! | call | arch | state |
//! |---|---|---|
//! | `enable` | enter | `enable=1 pause=0` |
//! | `enable` | | `enable=2 pause=0` |
//! | `pause` | leave | `enable=2 pause=1` |
//! | `resume` | enter | `enable=2 pause=0` |
//! | `disable` | flush | `enable=1 pause=0` |
//! | `disable` | leave | `enable=0 pause=0` |
//!
//! # What is deferred
//!
//! Ask [`LazyMmu::is_active`] at each store: if it says no, do the maintenance at once; if yes,
//! remember that it is owed, per task, and do it at [`ArchCall::Leave`] and [`ArchCall::Flush`].
//! An address whose entry was changed in an open section must not be used before one of them.
//!
//! # Where this is stricter than Linux
//!
//! Counters saturate, with a warning, where Linux's wrap. The guards remember that their call was
//! ignored. Everything else is as Linux did it, bugs included: that is what the models are for.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod call;
mod guard;
mod model;
mod state;
mod warning;

pub use call::{ArchCall, Call, Token, Transition};
pub use guard::{LazyMmu, Pause, Section};
pub use model::{Model, UnknownModel};
pub use state::{LazyMmuState, StateDisplay};
pub use warning::Warning;

/// The README's examples are doc tests too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
