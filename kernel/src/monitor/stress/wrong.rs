//! What a random operation found wrong.

use alloc::string::String;
use core::fmt;

/// Why a run fails, in words. Only a run that fails has any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong(pub(super) String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A [`Wrong`] with a formatted text.
macro_rules! wrong {
    ($($why:tt)+) => { $crate::monitor::stress::wrong::Wrong(alloc::format!($($why)+)) };
}

/// Returns a [`Wrong`] unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err($crate::monitor::stress::wrong::wrong!($($why)+));
        }
    };
}

pub(super) use {ensure, wrong};
