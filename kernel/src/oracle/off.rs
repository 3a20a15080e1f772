//! What callers name of an oracle that is not there.

/// The rules that are broken on purpose somewhere; `mmu_oracle::Rule` has them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is documented there")]
pub enum Rule {
    NotVisible,
    StaleAccess,
    FrameReuse,
    MappedFrameFreed,
    LeaveWithoutBarriers,
    SectionLeftOpen,
    PauseLeft,
    Unflushed,
    BreakBeforeMake,
}

/// Where a task may have nothing open; as `mmu_oracle::event::Boundary`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// A scene or a test ends.
    Scene,
    /// A monitor command ends.
    Command,
}

/// Runs `action`, which breaks `rules` on purpose.
#[inline(always)]
pub fn expect<R>(_rules: &[Rule], action: impl FnOnce() -> R) -> R {
    action()
}
