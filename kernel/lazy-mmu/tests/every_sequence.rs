//! Every sequence of calls up to length 8, under every model, against the tables in `rules/`.
//!
//! The sequences are walked as a tree, so that common beginnings are run once. Each step is made
//! twice: on the value ([`LazyMmuState`]) and through the calls of the trait ([`LazyMmu`]), which
//! have a short way of their own.

mod rules;

use core::cell::Cell;

use lazy_mmu::{ArchCall, LazyMmu, LazyMmuState, Model, Token, Transition, Warning};
use rules::{Call, Outcome, Rules, State};

/// Longest sequence. Miri is a thousand times slower.
const LENGTH: u32 = if cfg!(miri) { 3 } else { 8 };

/// One step of a sequence.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A call, with this token if it takes one.
    Call(Call, Token),
    /// An interrupt comes, or bottom halves are disabled; these nest.
    EnterInterrupt,
    /// The end of one; nothing if there is none.
    LeaveInterrupt,
}

/// The six steps. Where a token is not to matter, the calls get the wrong one.
const STEPS: [Step; 6] = [
    Step::Call(Call::Enable, Token::Default),
    Step::Call(Call::Disable, Token::Nested),
    Step::Call(Call::Pause, Token::Default),
    Step::Call(Call::Resume, Token::Nested),
    Step::EnterInterrupt,
    Step::LeaveInterrupt,
];

/// The same for the model that heeds tokens: disable and resume with either, whatever came back
/// before. So each sequence is run with every assignment of tokens: right, swapped, dropped,
/// used twice.
const STEPS_WITH_TOKENS: [Step; 8] = [
    Step::Call(Call::Enable, Token::Default),
    Step::Call(Call::Disable, Token::Default),
    Step::Call(Call::Disable, Token::Nested),
    Step::Call(Call::Pause, Token::Default),
    Step::Call(Call::Resume, Token::Default),
    Step::Call(Call::Resume, Token::Nested),
    Step::EnterInterrupt,
    Step::LeaveInterrupt,
];

/// A task for the trait's calls: the last thing asked for, without a list that grows.
struct Task {
    /// The model in force.
    model: Model,
    /// The state.
    lazy: Cell<LazyMmuState>,
    /// Interrupt context?
    in_interrupt: Cell<bool>,
    /// The hook of this step, and how many there were.
    arch: Cell<(Option<ArchCall>, u8)>,
    /// The warning of this step, and how many there were.
    warning: Cell<(Option<Warning>, u8)>,
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
    }
    fn arch(&self, call: ArchCall) {
        self.arch.set((Some(call), self.arch.get().1 + 1));
    }
    fn warn(&self, warning: Warning) {
        self.warning.set((Some(warning), self.warning.get().1 + 1));
    }
}

/// The rules of one model, each case looked up once: text is slow to read.
struct Table {
    /// The rules.
    rules: Rules,
    /// By call, context, token, and state: what the rules said.
    outcomes: Vec<Option<Outcome>>,
    /// By state: is the mode active in a task, and in interrupt context?
    active: Vec<Option<[bool; 2]>>,
}

/// No counter gets beyond this in a sequence.
const STATES: usize = (LENGTH as usize + 1) * (LENGTH as usize + 1) * 2;

impl Table {
    /// The rules of `model`, nothing looked up yet.
    fn new(model: Model) -> Self {
        let (outcomes, active) = (vec![None; 4 * 2 * 2 * STATES], vec![None; STATES]);
        Table {
            rules: Rules::of(model),
            outcomes,
            active,
        }
    }

    /// Where a state is kept.
    fn index((n, p, on): State) -> usize {
        (usize::from(n) * (LENGTH as usize + 1) + usize::from(p)) * 2 + usize::from(on)
    }

    /// What the rules say of this call.
    fn get(&mut self, call: Call, interrupt: bool, token: Token, state: State) -> Outcome {
        let case = (call as usize * 2 + usize::from(interrupt)) * 2 + token as usize;
        let rules = &self.rules;
        let row = || rules.look_up(call, interrupt, token, state);
        *self.outcomes[case * STATES + Self::index(state)].get_or_insert_with(row)
    }

    /// Whether the rules say that the mode is active, in a task and in interrupt context.
    fn active(&mut self, state: State) -> [bool; 2] {
        let rules = &self.rules;
        let row = |interrupt| {
            rules
                .look_up(Call::Active, interrupt, Token::Default, state)
                .active
        };
        *self.active[Self::index(state)].get_or_insert_with(|| [false, true].map(row))
    }
}

/// A walk over all sequences of one model.
struct Walk {
    /// The rules.
    table: Table,
    /// The model.
    model: Model,
    /// The steps to choose from.
    steps: &'static [Step],
    /// The sequence so far, for the message of a failure.
    path: Vec<Step>,
    /// Sequences of full length that were run.
    sequences: u64,
}

impl Walk {
    /// Runs every sequence that goes on from here.
    fn walk(&mut self, state: State, value: LazyMmuState, interrupts: u8) {
        if self.path.len() == LENGTH as usize {
            self.sequences += 1;
            return;
        }
        for step in self.steps {
            self.path.push(*step);
            match *step {
                Step::EnterInterrupt => self.walk(state, value, interrupts + 1),
                Step::LeaveInterrupt => self.walk(state, value, interrupts.saturating_sub(1)),
                Step::Call(call, token) => {
                    let in_interrupt = interrupts > 0;
                    let expected = self.table.get(call, in_interrupt, token, state);
                    let (after, outcome) = by_value(self.model, value, call, token, in_interrupt);
                    self.compare(expected, outcome, "by value");
                    let outcome = by_trait(self.model, value, call, token, in_interrupt);
                    // Through the trait a call does not say whether it was ignored.
                    let outcome = Outcome {
                        ignored: expected.ignored,
                        ..outcome
                    };
                    self.compare(expected, outcome, "by trait");
                    let active = self.table.active(expected.state);
                    let found = [false, true].map(|context| after.is_active(self.model, context));
                    assert!(
                        found == active,
                        "{}: active after {:?}",
                        self.model,
                        self.path
                    );
                    self.walk(expected.state, after, interrupts);
                }
            }
            self.path.pop();
        }
    }

    /// Fails with the sequence that led here.
    fn compare(&self, expected: Outcome, outcome: Outcome, how: &str) {
        assert!(
            expected == outcome,
            "{} {how}, after {:?}:\nexpected {expected:?}\n   found {outcome:?}",
            self.model,
            self.path,
        );
    }
}

/// The crate's state in the table's terms.
fn state_of(value: LazyMmuState) -> State {
    (value.enable_count(), value.pause_count(), value.flag())
}

/// One call on the value.
fn by_value(
    model: Model,
    mut value: LazyMmuState,
    call: Call,
    token: Token,
    in_interrupt: bool,
) -> (LazyMmuState, Outcome) {
    let (token, transition) = match call {
        Call::Enable => value.enable(model, in_interrupt),
        Call::Disable => (Token::Default, value.disable(model, token, in_interrupt)),
        Call::Pause => value.pause(model, in_interrupt),
        Call::Resume => (Token::Default, value.resume(model, token, in_interrupt)),
        Call::Active => unreachable!("not a step"),
    };
    let Transition {
        arch,
        warning,
        ignored,
    } = transition;
    let state = state_of(value);
    (
        value,
        Outcome {
            state,
            arch,
            warning,
            token,
            ignored,
            active: false,
        },
    )
}

/// One call through the trait.
fn by_trait(
    model: Model,
    value: LazyMmuState,
    call: Call,
    token: Token,
    in_interrupt: bool,
) -> Outcome {
    let task = Task {
        model,
        lazy: Cell::new(value),
        in_interrupt: Cell::new(in_interrupt),
        arch: Cell::default(),
        warning: Cell::default(),
    };
    let token = match call {
        Call::Enable => task.enable(),
        Call::Pause => task.pause(),
        Call::Disable => {
            task.disable(token);
            Token::Default
        }
        Call::Resume => {
            task.resume(token);
            Token::Default
        }
        Call::Active => unreachable!("not a step"),
    };
    let ((arch, hooks), (warning, warnings)) = (task.arch.get(), task.warning.get());
    assert!(
        hooks <= 1 && warnings <= 1,
        "{call:?}: {hooks} hooks, {warnings} warnings"
    );
    Outcome {
        state: state_of(task.lazy.get()),
        arch,
        warning,
        token,
        ignored: false,
        active: false,
    }
}

/// Walks all sequences of `model`.
fn every_sequence(model: Model) {
    let steps: &'static [Step] = if model == Model::Token {
        &STEPS_WITH_TOKENS
    } else {
        &STEPS
    };
    let table = Table::new(model);
    let mut walk = Walk {
        table,
        model,
        steps,
        path: Vec::new(),
        sequences: 0,
    };
    walk.walk((0, 0, false), LazyMmuState::new(), 0);
    assert_eq!(walk.sequences, (steps.len() as u64).pow(LENGTH));
}

/// Every sequence under `strict`.
#[test]
fn strict() {
    every_sequence(Model::Strict);
}

/// Every sequence under `tolerant`.
#[test]
fn tolerant() {
    every_sequence(Model::Tolerant);
}

/// Every sequence under `avoid`.
#[test]
fn avoid() {
    every_sequence(Model::Avoid);
}

/// Every sequence under `token`, with every assignment of tokens.
#[test]
fn token() {
    every_sequence(Model::Token);
}

/// Every sequence under `nesting-level`.
#[test]
fn nesting_level() {
    every_sequence(Model::NestingLevel);
}

/// Every sequence under `two-counters`.
#[test]
fn two_counters() {
    every_sequence(Model::TwoCounters);
}

/// The counters' ends, which no short sequence reaches: every call at and next to them.
#[test]
fn edges_of_the_counters() {
    for model in [Model::NestingLevel, Model::TwoCounters] {
        let rules = Rules::of(model);
        let edges: &[u16] = if cfg!(miri) {
            &[1, 256]
        } else {
            &[0, 1, 2, 253, 254, 255, 256]
        };
        for &sections in edges {
            for &pauses in edges {
                let mut value = LazyMmuState::new();
                for _ in 0..sections {
                    let _ = value.enable(model, false);
                }
                for _ in 0..pauses {
                    let _ = value.pause(model, false);
                }
                let before = state_of(value);
                let full = |count: u16| u8::try_from(count).unwrap_or(u8::MAX);
                assert_eq!(before.0, full(sections));
                assert_eq!(
                    before.1,
                    if model == Model::TwoCounters {
                        full(pauses)
                    } else {
                        0
                    }
                );
                for call in [Call::Enable, Call::Disable, Call::Pause, Call::Resume] {
                    for in_interrupt in [false, true] {
                        let token = Token::Default;
                        let expected = rules.look_up(call, in_interrupt, token, before);
                        let (_, found) = by_value(model, value, call, token, in_interrupt);
                        assert_eq!(found, expected, "{model}: {call:?} from {before:?}");
                        let found = by_trait(model, value, call, token, in_interrupt);
                        let found = Outcome {
                            ignored: expected.ignored,
                            ..found
                        };
                        assert_eq!(
                            found, expected,
                            "{model}: {call:?} from {before:?}, by trait"
                        );
                    }
                }
            }
        }
    }
}
