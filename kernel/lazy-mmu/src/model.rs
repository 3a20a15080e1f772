//! The six historic sets of nesting rules, by name.
//!
//! The rules themselves are in `state.rs`; this file says which exist, where each
//! comes from, and what callers outside the state machine must know of them.

use core::fmt;

/// One historic set of nesting rules of Linux's lazy MMU mode.
///
/// In the order of their making. The default is the one that Linux has kept.
///
/// | model | in Linux | what it remembers |
/// |---|---|---|
/// | [`Strict`](Model::Strict) | arm64 in v6.16-rc, commit `5fdd05efa1cd` | one flag |
/// | [`Tolerant`](Model::Tolerant) | arm64 from v6.16, commit `1ef3095b1405` | one flag |
/// | [`Avoid`](Model::Avoid) | RFC "Lazy mmu mode fixes and improvements", 30 May 2025 | one flag |
/// | [`Token`](Model::Token) | "Nesting support for lazy MMU mode" v1 and v2, September 2025 | one flag, and a token with the caller |
/// | [`NestingLevel`](Model::NestingLevel) | the same series, v4, 29 October 2025 | a level and a flag |
/// | [`TwoCounters`](Model::TwoCounters) | the same series, v5 to v6; v7.0, commit `5ab246749569` | two counters |
///
/// A counter exists only in the last two. In Linux all of theirs are a `u8` that wraps after
/// a `VM_WARN_ON_ONCE`: `nesting_level` of v4, `enable_count` and `pause_count` of v5 to v7.0.
/// Here they saturate, with a [`Warning`](crate::Warning) each time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Model {
    /// Nesting and use in interrupt context are errors: both warn, neither is prevented.
    ///
    /// arm64 `TIF_LAZY_MMU` as first merged (commit `5fdd05efa1cd`, v6.16-rc). In an interrupt
    /// the mode still reads active, so a handler's stores are deferred on the interrupted
    /// task's account: the bug that ended this model.
    Strict,
    /// Nesting is silent, and the inner disable ends the mode for the outer section too.
    ///
    /// Commit `1ef3095b1405` (v6.16). Interrupt context had become a no-op shortly before.
    Tolerant,
    /// Nesting warns again, and the page allocator is kept out of sections.
    ///
    /// The RFC of 30 May 2025: see [`Model::page_allocator_leaves`] and
    /// [`Model::flush_in_section_warns`] for the part that callers play.
    Avoid,
    /// Enable returns a [`Token`](crate::Token) that the matching disable must be given.
    ///
    /// v1 and v2 of the nesting series (`lazy_mmu_state_t`, `LAZY_MMU_DEFAULT`,
    /// `LAZY_MMU_NESTED`).
    Token,
    /// A nesting level in the task, and a flag that pause clears; no calls while paused.
    ///
    /// v4 of the nesting series. Its warning at an enable inside a pause fired at once when
    /// KASAN met DEBUG_PAGEALLOC.
    NestingLevel,
    /// Two counters in the task; pause and resume are legal anywhere and nest.
    ///
    /// v5 and later of the nesting series, merged for v7.0 (commit `5ab246749569`).
    #[default]
    TwoCounters,
}

impl Model {
    /// Every model, oldest first.
    pub const ALL: [Model; 6] = [
        Model::Strict,
        Model::Tolerant,
        Model::Avoid,
        Model::Token,
        Model::NestingLevel,
        Model::TwoCounters,
    ];

    /// The name by which a person chooses the model, such as `two-counters`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Model::Strict => "strict",
            Model::Tolerant => "tolerant",
            Model::Avoid => "avoid",
            Model::Token => "token",
            Model::NestingLevel => "nesting-level",
            Model::TwoCounters => "two-counters",
        }
    }

    /// The model of that [`name`](Model::name).
    ///
    /// # Errors
    ///
    /// [`UnknownModel`], whose text lists the names that are known.
    ///
    /// ```
    /// use lazy_mmu::Model;
    ///
    /// assert_eq!(Model::parse("token"), Ok(Model::Token));
    /// assert_eq!(
    ///     Model::parse("lazy").unwrap_err().to_string(),
    ///     "unknown model 'lazy'; known: strict, tolerant, avoid, token, nesting-level, two-counters",
    /// );
    /// ```
    pub fn parse(name: &str) -> Result<Model, UnknownModel<'_>> {
        Model::ALL
            .into_iter()
            .find(|model| model.name() == name)
            .ok_or(UnknownModel { name })
    }

    /// Must a caller of the page allocator leave the mode before the call and enter it after,
    /// where the mode is active?
    ///
    /// Only in [`Model::Avoid`]: the RFC did so around `__get_free_page` in `tlb_next_batch`.
    /// [`LazyMmu::call_page_allocator`](crate::LazyMmu::call_page_allocator) does it.
    #[must_use]
    pub const fn page_allocator_leaves(self) -> bool {
        matches!(self, Model::Avoid)
    }

    /// Does `mmu_gather`'s TLB flush, batch free or table free warn inside a section?
    ///
    /// Only in [`Model::Avoid`]. `flush_tlb_kernel_range` is not among the RFC's assertions.
    /// [`LazyMmu::check_gather_flush`](crate::LazyMmu::check_gather_flush) is that assertion.
    #[must_use]
    pub const fn flush_in_section_warns(self) -> bool {
        matches!(self, Model::Avoid)
    }

    /// Does a store to a live kernel entry warn in interrupt context?
    ///
    /// Only in [`Model::Strict`], whose `queue_pte_barriers` began with
    /// `VM_WARN_ON(in_interrupt())`; since then such a store gets its barriers at once.
    #[must_use]
    pub const fn store_in_interrupt_warns(self) -> bool {
        matches!(self, Model::Strict)
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl<'a> TryFrom<&'a str> for Model {
    type Error = UnknownModel<'a>;

    /// As [`Model::parse`].
    fn try_from(name: &'a str) -> Result<Self, Self::Error> {
        Model::parse(name)
    }
}

/// The error of [`Model::parse`]: no model has this name.
///
/// Its text repeats the name and lists those that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownModel<'a> {
    /// What was asked for.
    pub name: &'a str,
}

impl fmt::Display for UnknownModel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown model '{}'; known: ", self.name)?;
        for (index, model) in Model::ALL.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", model.name())?;
        }
        Ok(())
    }
}

impl core::error::Error for UnknownModel<'_> {}
