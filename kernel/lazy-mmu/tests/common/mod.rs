//! A task that records what its lazy MMU mode asks for.

use core::cell::{Cell, RefCell};

use lazy_mmu::{ArchCall, Call, LazyMmu, LazyMmuState, Model, Transition, Warning};

/// What was asked of the kernel, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// `LazyMmu::warn`.
    Warn(Warning),
    /// `LazyMmu::set_state`.
    Store(LazyMmuState),
    /// `LazyMmu::arch`.
    Arch(ArchCall),
    /// `LazyMmu::observe`.
    Observe(Call, LazyMmuState, Transition),
}

/// One task, one model.
#[derive(Debug)]
pub struct Task {
    /// The model in force.
    pub model: Model,
    /// The state that a kernel keeps in its task.
    pub lazy: Cell<LazyMmuState>,
    /// What `in_interrupt()` says.
    pub in_interrupt: Cell<bool>,
    /// Everything asked for so far.
    pub events: RefCell<Vec<Event>>,
}

#[allow(dead_code, reason = "each test file uses its part")]
impl Task {
    /// A new task.
    pub fn new(model: Model) -> Self {
        let (lazy, in_interrupt, events) = Default::default();
        Task {
            model,
            lazy,
            in_interrupt,
            events,
        }
    }

    /// The hooks called since the last time this was asked.
    pub fn take_arch(&self) -> Vec<ArchCall> {
        let hook = |event: &Event| {
            if let Event::Arch(call) = event {
                Some(*call)
            } else {
                None
            }
        };
        let calls = self.events.borrow().iter().filter_map(hook).collect();
        self.events
            .borrow_mut()
            .retain(|event| hook(event).is_none());
        calls
    }

    /// The warnings since the last time this was asked.
    pub fn take_warnings(&self) -> Vec<Warning> {
        let warning = |event: &Event| {
            if let Event::Warn(warning) = event {
                Some(*warning)
            } else {
                None
            }
        };
        let warnings = self.events.borrow().iter().filter_map(warning).collect();
        self.events
            .borrow_mut()
            .retain(|event| warning(event).is_none());
        warnings
    }

    /// The state in the model's words.
    pub fn text(&self) -> String {
        self.lazy.get().display(self.model).to_string()
    }
}

impl LazyMmu for Task {
    fn model(&self) -> Model {
        self.model
    }
    fn in_interrupt(&self) -> bool {
        self.in_interrupt.get()
    }
    fn state(&self) -> LazyMmuState {
        self.lazy.get()
    }
    fn set_state(&self, state: LazyMmuState) {
        self.lazy.set(state);
        self.events.borrow_mut().push(Event::Store(state));
    }
    fn arch(&self, call: ArchCall) {
        self.events.borrow_mut().push(Event::Arch(call));
    }
    fn warn(&self, warning: Warning) {
        self.events.borrow_mut().push(Event::Warn(warning));
    }
    fn observe(&self, call: Call, state: LazyMmuState, transition: Transition) {
        self.events
            .borrow_mut()
            .push(Event::Observe(call, state, transition));
    }
}
