//! Memory management. Each file uses only those above it in this list.

pub mod layout;
pub mod lazy;
pub mod page_alloc;
pub mod page_table;
pub mod ranges;
pub mod tlb;
#[cfg(target_os = "none")]
pub mod linear_map;
pub mod kasan;
pub mod vmalloc;
#[cfg(target_os = "none")]
pub mod set_memory;
#[cfg(target_os = "none")]
pub mod debug_pagealloc;
#[cfg(target_os = "none")]
pub mod heap;
#[cfg(target_os = "none")]
pub mod bring_up;
#[cfg(target_os = "none")]
pub mod dump;
#[cfg(target_os = "none")]
pub mod explain;
