//! Memory management. Each file uses only those before it here, but for `vmalloc/` and
//! `page_alloc/`, whose files are parts of one thing: `layout`, `ranges`, `unflushed`,
//! `page_alloc`, `sequence`, `lazy`, `tlb`, `page_table`, `linear_map`, `kasan`, `debug_pagealloc`,
//! `vmalloc`, `set_memory`, `heap`, `dump`, `ptdump`, `explain`, `snapshot`, `bring_up`; and of a
//! program's memory `asid`, `user_tlb`, `gather`, `address_space`.

#[cfg(target_os = "none")]
pub mod address_space;
/// What of address spaces executes no instruction.
#[cfg(not(target_os = "none"))]
pub mod address_space {
    mod region;
    pub use region::{Access, Full, Protection, Region, Regions};
}
pub mod asid;
#[cfg(target_os = "none")]
pub mod bring_up;
#[cfg(target_os = "none")]
pub mod debug_pagealloc;
#[cfg(target_os = "none")]
pub mod dump;
#[cfg(target_os = "none")]
pub mod explain;
pub mod flush_cost;
#[cfg(all(feature = "oracle", target_os = "none"))]
mod gallery_ktests;
#[cfg(target_os = "none")]
pub mod gather;
#[cfg(target_os = "none")]
pub mod heap;
pub mod kasan;
pub mod layout;
pub mod lazy;
#[cfg(target_os = "none")]
pub mod linear_map;
pub mod page_alloc;
pub mod page_table;
#[cfg(target_os = "none")]
pub mod ptdump;
pub mod ranges;
pub mod sequence;
#[cfg(target_os = "none")]
pub mod set_memory;
#[cfg(target_os = "none")]
pub mod shares;
#[cfg(all(feature = "oracle", target_os = "none"))]
mod snapshot;
#[cfg(target_os = "none")]
pub mod stack;
#[cfg(all(feature = "ktests", target_os = "none"))]
pub(crate) mod testing;
pub mod tlb;
pub mod unflushed;
pub mod user_tlb;
pub mod vmalloc;
pub mod zap_cost;

#[cfg(test)]
pub(crate) mod host_tests;
