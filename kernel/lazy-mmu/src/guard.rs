//! The trait that a kernel implements, the raw calls that it gets for it, and the guards.

use core::fmt;
use core::marker::PhantomData;

use crate::{ArchCall, Call, LazyMmuState, Model, Token, Transition, Warning};

/// The current task's lazy MMU mode, as a kernel provides it.
///
/// Implemented once, usually by a type without fields that looks up the running task. The
/// provided methods are Linux's four calls, the [guards](crate::Section), and what
/// [`Model::Avoid`] asks of others.
///
/// # Order, and preemption
///
/// Each call warns, stores the new state, and then calls the hook, as Linux does. The mode
/// therefore reads active a moment before `arch_enter` runs. That is sound while whatever the hook
/// keeps belongs to the task. Where it belongs to the CPU and the context switch acts on it, a
/// preemption in between makes the switch and the resumed task both enter: the crash of Xen PV
/// guests in v7.0-rc1 to -rc6 (introduced by commit `291b3abed657`). Such a kernel must disable
/// preemption around the call.
///
/// An interrupt may come between reading and storing the state: a handler's calls leave it
/// unchanged, under every model but [`Model::Strict`].
pub trait LazyMmu {
    /// The model in force. It must not change while a section or pause is open.
    fn model(&self) -> Model;
    /// Is this interrupt context, in Linux's sense: a handler, an NMI, or bottom halves disabled?
    fn in_interrupt(&self) -> bool;
    /// The current task's state.
    fn state(&self) -> LazyMmuState;
    /// Stores the current task's state.
    fn set_state(&self, state: LazyMmuState);
    /// Runs the architecture's hook; the new state is stored already.
    fn arch(&self, call: ArchCall);
    /// Reports a call that the model does not allow; the state is still the old one.
    fn warn(&self, warning: Warning);

    /// Is told of every call once it is through, with the state that it left: for tracing, and for
    /// what is to last as long as a section does, pauses and all. The guards' calls and ignored
    /// ones are among them. Does nothing unless implemented.
    #[inline]
    fn observe(&self, _call: Call, _state: LazyMmuState, _transition: Transition) {}

    /// Whether nothing but the rules of [`Model::TwoCounters`] is to be looked at in this call: it
    /// is the model, and [`observe_plain`](LazyMmu::observe_plain) is all that has to hear of it.
    /// Asked once at each enable and disable; `false` is always right, and the long way.
    #[inline]
    fn is_plain(&self, _call: Call) -> bool {
        self.model() == Model::TwoCounters
    }

    /// As [`observe`](LazyMmu::observe), of a call that was [plain](LazyMmu::is_plain), neither
    /// ignored nor warned of.
    #[inline]
    fn observe_plain(&self, call: Call, state: LazyMmuState, transition: Transition) {
        self.observe(call, state, transition);
    }

    /// `lazy_mmu_mode_enable()`. Raw: prefer [`section`](LazyMmu::section).
    #[inline]
    fn enable(&self) -> Token {
        if short_enable(self) {
            Token::Default
        } else {
            enable_in_full(self).0
        }
    }

    /// `lazy_mmu_mode_disable()`. Raw: asks again whether the call is to be ignored, as Linux
    /// does, which loses the section if the answer has changed since the enable.
    #[inline]
    fn disable(&self, token: Token) {
        if !short_disable(self, self.in_interrupt()) {
            disable_in_full(self, token);
        }
    }

    /// `lazy_mmu_mode_pause()`. Raw: prefer [`paused`](LazyMmu::paused).
    #[inline]
    fn pause(&self) -> Token {
        let mut state = self.state();
        let (token, transition) = state.pause(self.model(), self.in_interrupt());
        apply(self, Call::Pause, state, transition);
        token
    }

    /// `lazy_mmu_mode_resume()`. Raw.
    #[inline]
    fn resume(&self, token: Token) {
        let mut state = self.state();
        let transition = state.resume(self.model(), token, self.in_interrupt());
        apply(self, Call::Resume, state, transition);
    }

    /// `is_lazy_mmu_mode_active()`: is maintenance deferred here and now?
    #[inline]
    fn is_active(&self) -> bool {
        self.state().is_active(self.model(), self.in_interrupt())
    }

    /// Opens a section that ends when the guard is dropped.
    #[inline(always)]
    fn section(&self) -> Section<'_, Self>
    where
        Self: Sized,
    {
        Section::open(self)
    }

    /// Pauses the mode until the guard is dropped.
    #[inline]
    fn paused(&self) -> Pause<'_, Self>
    where
        Self: Sized,
    {
        Pause::begin(self)
    }

    /// Calls the page allocator (or anything that may end there) as the model demands.
    ///
    /// Under [`Model::Avoid`] the mode is left before and entered after, if it is active; under
    /// the others `allocate` is simply called.
    #[inline]
    fn call_page_allocator<R>(&self, allocate: impl FnOnce() -> R) -> R
    where
        Self: Sized,
    {
        let _left =
            (self.model().page_allocator_leaves() && self.is_active()).then(|| Pause::begin(self));
        allocate()
    }

    /// The assertion of [`Model::Avoid`], for `mmu_gather`'s TLB flush, batch free and table free:
    /// warns if the mode is active. Nothing under the other models.
    #[inline]
    fn check_gather_flush(&self) {
        if self.model().flush_in_section_warns() && self.is_active() {
            self.warn(Warning::FlushInSection);
        }
    }
}

/// The enable that is nearly all of them: of the default model, and neither ignored nor one too
/// many. False if it is another; then nothing has been done.
#[inline(always)]
fn short_enable<L: LazyMmu + ?Sized>(lazy: &L) -> bool {
    let mut state = lazy.state();
    let short = lazy.is_plain(Call::Enable) && state.counts_up(lazy.in_interrupt());
    if short {
        let call = state.count_up();
        store_and_call(lazy, state, call);
        lazy.observe_plain(Call::Enable, state, Transition::made(call, None));
    }
    short
}

/// The disable that is nearly all of them, as [`short_enable`].
#[inline(always)]
fn short_disable<L: LazyMmu + ?Sized>(lazy: &L, in_interrupt: bool) -> bool {
    let mut state = lazy.state();
    let short = lazy.is_plain(Call::Disable) && state.counts_down(in_interrupt);
    if short {
        let call = state.count_down();
        store_and_call(lazy, state, Some(call));
        lazy.observe_plain(Call::Disable, state, Transition::made(Some(call), None));
    }
    short
}

/// An enable under any model.
///
/// Out of line: a section costs a few instructions only if the warnings, and the models that are
/// there to be looked at, do not stand in its way.
#[cold]
#[inline(never)]
fn enable_in_full<L: LazyMmu + ?Sized>(lazy: &L) -> (Token, Transition) {
    let mut state = lazy.state();
    let (token, transition) = state.enable(lazy.model(), lazy.in_interrupt());
    apply(lazy, Call::Enable, state, transition);
    (token, transition)
}

/// A disable under any model, as [`enable_in_full`].
#[cold]
#[inline(never)]
fn disable_in_full<L: LazyMmu + ?Sized>(lazy: &L, token: Token) {
    let mut state = lazy.state();
    let transition = state.disable(lazy.model(), token, lazy.in_interrupt());
    apply(lazy, Call::Disable, state, transition);
}

/// The drop of a guard under any model, as [`enable_in_full`].
#[cold]
#[inline(never)]
fn close_in_full<L: LazyMmu + ?Sized>(lazy: &L, owed: Owed) {
    let mut state = lazy.state();
    let transition = match owed {
        Owed::Disable(token) => state.close(lazy.model(), token),
        // Its enable was not counted.
        Owed::Flush => Transition {
            arch: Some(ArchCall::Flush),
            warning: None,
            ignored: true,
        },
        Owed::Nothing => return,
    };
    apply(lazy, Call::Disable, state, transition);
}

/// The enable of a guard under any model, as [`enable_in_full`]: what its drop owes.
#[cold]
#[inline(never)]
fn open_in_full<L: LazyMmu + ?Sized>(lazy: &L) -> Owed {
    match enable_in_full(lazy) {
        (token, Transition { ignored: false, .. }) => Owed::Disable(token),
        (_, Transition { warning: None, .. }) => Owed::Nothing,
        _ => Owed::Flush,
    }
}

/// Warns, stores, then calls the hook: the order that [`LazyMmu`] promises.
#[inline]
fn apply<L: LazyMmu + ?Sized>(lazy: &L, call: Call, state: LazyMmuState, transition: Transition) {
    if let Some(warning) = transition.warning {
        lazy.warn(warning);
    }
    store_and_call(lazy, state, transition.arch);
    lazy.observe(call, state, transition);
}

/// Stores the new state, then calls the hook.
#[inline(always)]
fn store_and_call<L: LazyMmu + ?Sized>(lazy: &L, state: LazyMmuState, call: Option<ArchCall>) {
    lazy.set_state(state);
    if let Some(call) = call {
        lazy.arch(call);
    }
}

/// What a section's guard owes when it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    /// The enable was ignored: nothing was deferred on its account.
    Nothing,
    /// The counter was full: the section cannot be counted down, but its changes were deferred.
    Flush,
    /// The enable counts, and gave this token.
    Disable(Token),
}

/// A lazy section, open until this is dropped.
///
/// Stricter than Linux's pair of calls in one thing: it remembers whether its enable did anything,
/// and its drop undoes just that. So neither a return in mid-section (Linux: fixed by
/// `fea18c686320`) nor a change of context or of pause between the two ends
/// (`enable(); spin_lock_bh(); disable();`) leaves the mode on. Otherwise its two ends follow the
/// model's rules, faults and warnings included.
///
/// It belongs to the task that opened it, so it is not `Send`:
///
/// ```compile_fail,E0277
/// fn to_another_task<T: Send>(_: T) {}
/// fn f<L: lazy_mmu::LazyMmu + Sync>(lazy: &L) {
///     to_another_task(lazy.section());
/// }
/// ```
#[must_use = "the section ends when the guard is dropped"]
pub struct Section<'a, L: LazyMmu> {
    /// The task's mode.
    lazy: &'a L,
    /// What the drop has to do.
    owed: Owed,
    /// A task's own: a raw pointer is neither `Send` nor `Sync`.
    not_send: PhantomData<*const ()>,
}

impl<'a, L: LazyMmu> Section<'a, L> {
    /// Opens a section: [`LazyMmuState::enable`].
    #[inline(always)]
    pub fn open(lazy: &'a L) -> Self {
        let owed = if short_enable(lazy) {
            Owed::Disable(Token::Default)
        } else {
            open_in_full(lazy)
        };
        Section {
            lazy,
            owed,
            not_send: PhantomData,
        }
    }

    /// Did the enable do nothing, so that the drop will do nothing either?
    #[must_use]
    pub fn is_no_op(&self) -> bool {
        self.owed == Owed::Nothing
    }
}

impl<L: LazyMmu> Drop for Section<'_, L> {
    #[inline(always)]
    fn drop(&mut self) {
        let counts = matches!(self.owed, Owed::Disable(_));
        if !(counts && short_disable(self.lazy, false)) {
            close_in_full(self.lazy, self.owed);
        }
    }
}

impl<L: LazyMmu> fmt::Debug for Section<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Section")
            .field("owed", &self.owed)
            .finish_non_exhaustive()
    }
}

/// A pause, in effect until this is dropped.
///
/// Like [`Section`] it undoes only what it did: in interrupt context nothing, and under the models
/// that keep a flag nothing if the mode was off already (where Linux's resume would have turned it
/// on for good). Not `Send` either:
///
/// ```compile_fail,E0277
/// fn to_another_task<T: Send>(_: T) {}
/// fn f<L: lazy_mmu::LazyMmu + Sync>(lazy: &L) {
///     to_another_task(lazy.paused());
/// }
/// ```
#[must_use = "the pause ends when the guard is dropped"]
pub struct Pause<'a, L: LazyMmu> {
    /// The task's mode.
    lazy: &'a L,
    /// The token for the resume, if one is owed.
    owed: Option<Token>,
    /// As in [`Section`].
    not_send: PhantomData<*const ()>,
}

impl<'a, L: LazyMmu> Pause<'a, L> {
    /// Pauses: [`LazyMmuState::pause`].
    #[inline]
    pub fn begin(lazy: &'a L) -> Self {
        let model = lazy.model();
        let mut state = lazy.state();
        let left = model == Model::TwoCounters || state.flag();
        let (token, transition) = state.pause(model, lazy.in_interrupt());
        apply(lazy, Call::Pause, state, transition);
        let owed = (left && !transition.ignored).then_some(token);
        Pause {
            lazy,
            owed,
            not_send: PhantomData,
        }
    }

    /// Did the pause do nothing, so that the drop will do nothing either?
    #[must_use]
    pub fn is_no_op(&self) -> bool {
        self.owed.is_none()
    }
}

impl<L: LazyMmu> Drop for Pause<'_, L> {
    #[inline]
    fn drop(&mut self) {
        if let Some(token) = self.owed {
            let mut state = self.lazy.state();
            let transition = state.resume(self.lazy.model(), token, false);
            apply(self.lazy, Call::Resume, state, transition);
        }
    }
}

impl<L: LazyMmu> fmt::Debug for Pause<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pause")
            .field("owed", &self.owed)
            .finish_non_exhaustive()
    }
}
