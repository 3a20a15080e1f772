//! The header of a saved trace.

use super::RECORD_BYTES;
use core::fmt;

/// What a saved trace begins with: name and version.
pub const MAGIC: [u8; 8] = *b"LULLMMU1";

/// Bytes of the header.
pub const HEADER_BYTES: usize = 48;

/// Flag: the CPUs have FEAT_ETS2.
const ETS2: u32 = 1 << 0;

/// What holds for a whole trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The CPUs have FEAT_ETS2 (ID_AA64MMFR1_EL1.ETS >= 2).
    pub ets2: bool,
    /// Units of [`Event::time`](crate::Event::time) in a second; 0 where that is not known.
    pub ticks_per_second: u64,
}

impl Header {
    /// Its saved form.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&(RECORD_BYTES as u32).to_le_bytes());
        bytes[12..16].copy_from_slice(&if self.ets2 { ETS2 } else { 0 }.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.ticks_per_second.to_le_bytes());
        bytes
    }

    /// Reads the saved form.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, HeaderError> {
        let half = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        if bytes[0..8] != MAGIC {
            return Err(HeaderError::Magic);
        }
        if half(8) as usize != RECORD_BYTES {
            return Err(HeaderError::RecordSize(half(8)));
        }
        let flags = half(12);
        if flags & !ETS2 != 0 {
            return Err(HeaderError::Flags(flags));
        }
        if bytes[24..].iter().any(|byte| *byte != 0) {
            return Err(HeaderError::Unused);
        }
        Ok(Self {
            ets2: flags & ETS2 != 0,
            ticks_per_second: u64::from(half(16)) | u64::from(half(20)) << 32,
        })
    }
}

/// Why a header could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// It does not begin with [`MAGIC`].
    Magic,
    /// Its records have another size than [`RECORD_BYTES`].
    RecordSize(u32),
    /// It has flags that are not known.
    Flags(u32),
    /// Bytes that must be zero are not.
    Unused,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("it does not begin with LULLMMU1"),
            Self::RecordSize(size) => {
                write!(f, "its records have {size} bytes, not {RECORD_BYTES}")
            }
            Self::Flags(flags) => write!(f, "unknown flags {flags:#x}; known: {ETS2:#x}"),
            Self::Unused => f.write_str("bytes 24 to 47 of its header are not zero"),
        }
    }
}

impl core::error::Error for HeaderError {}
