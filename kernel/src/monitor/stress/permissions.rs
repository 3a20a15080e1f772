//! What `set_memory_*` must do: the permissions of the pages of an area after each call.

use crate::mm::{linear_map, set_memory::Error};

/// Pages of an area whose permissions are kept, from the first on.
pub(super) const KEPT: u64 = 64;

/// A bit for each page of an area.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Permissions {
    read_only: u64,
    executable: u64,
    invalid: u64,
}

/// The bits of `count` pages from page `first` on.
pub(super) fn mask(first: u64, count: u64) -> u64 {
    (u64::MAX >> (KEPT - count)) << first
}

impl Permissions {
    /// Whether page `n` is valid.
    pub(super) fn is_valid(&self, n: u64) -> bool {
        n >= KEPT || self.invalid >> n & 1 == 0
    }

    /// Whether page `n`, one of the first, is read-only.
    pub(super) fn is_read_only(&self, n: u64) -> bool {
        self.read_only >> n & 1 == 1
    }

    /// What a call on the pages of `mask` must give, and what the permissions are then.
    pub(super) fn apply(&mut self, call: Change, mask: u64) -> Result<(), Error> {
        let both = Err(Error::WritableAndExecutable);
        match call {
            Change::ReadOnly => self.read_only |= mask,
            Change::Writable if self.executable & mask != 0 => return both,
            Change::Writable => self.read_only &= !mask,
            // With an alias in blocks every frame is writable, there.
            Change::Executable
                if self.read_only & mask != mask || !linear_map::is_page_granular() =>
            {
                return both;
            }
            Change::Executable => self.executable |= mask,
            Change::NotExecutable => self.executable &= !mask,
            Change::Valid => self.invalid &= !mask,
            Change::Invalid => self.invalid |= mask,
        }
        Ok(())
    }
}

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    ReadOnly,
    Writable,
    Executable,
    NotExecutable,
    Valid,
    Invalid,
}
