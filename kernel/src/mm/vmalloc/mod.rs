//! vmalloc: memory that is contiguous in the address space and not in RAM.
//!
//! An area takes addresses ([`space`]: from this CPU's arena; [`area`]: lowest fit, a guard page
//! behind), a shadow, pages, and leaves that map them. Freeing one clears the leaves and gives the pages back at once, but not the
//! addresses, and does not flush: those wait in a list until there are enough of them for one flush
//! ([`purge`]). Until then a TLB may still know the area: an accepted window, which Linux has as
//! well. DEBUG_PAGEALLOC does without it.

pub mod area;
pub mod space;
mod sync;

#[cfg(target_os = "none")]
mod allocate;
#[cfg(target_os = "none")]
mod deferred;
#[cfg(target_os = "none")]
mod huge;
#[cfg(target_os = "none")]
mod info;
#[cfg(all(feature = "ktests", target_os = "none"))]
mod ktests;
#[cfg(target_os = "none")]
mod map_ram;
#[cfg(test)]
mod model;
#[cfg(target_os = "none")]
mod purge;
#[cfg(target_os = "none")]
mod reserve;
#[cfg(target_os = "none")]
mod state;

#[cfg(target_os = "none")]
pub use allocate::{free_deferred, vfree, vmalloc, vmalloc_aligned, vmap, vunmap, vzalloc};
pub use area::AreaKind;
#[cfg(target_os = "none")]
pub use deferred::{deferred, wait_for_deferred};
#[cfg(target_os = "none")]
pub use huge::{SplitError, split_block, vmalloc_huge};
#[cfg(target_os = "none")]
pub use info::{describe, vmallocinfo};
#[cfg(target_os = "none")]
pub use map_ram::{vm_map_ram, vm_unmap_ram};
#[cfg(target_os = "none")]
pub use purge::{unpurged, vm_unmap_aliases};
#[cfg(target_os = "none")]
pub use reserve::Error;
#[cfg(target_os = "none")]
pub use state::{Area, Stats, arena, find, init, record_pages, stats};
