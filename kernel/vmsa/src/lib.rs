#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

pub mod addr;
pub mod attributes;
pub mod descriptor;
pub mod esr;
pub mod frame;
pub mod level;
pub mod live;
pub mod range;
pub mod tcr;
pub mod tlbi;
pub mod walk;

pub use addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr, VirtAddr};
pub use attributes::{Attributes, MAIR_EL1};
pub use descriptor::{Descriptor, Kind};
pub use esr::Esr;
pub use frame::Frame;
pub use level::{Level, PTRS_PER_TABLE};
pub use live::{LiveChange, Reason, live_change};
pub use range::PageRange;
pub use tcr::Tcr;
pub use tlbi::{MAX_TLBI_RANGE_PAGES, Operation};
pub use walk::{Walk, walk};

// Addresses are 64 bits wide here and become pointers: a narrower `usize`
// would cut them short without a word.
const _: () = assert!(usize::BITS == 64);
