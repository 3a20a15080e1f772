//! KASAN: a shadow byte for every 8 bytes says which of them may be accessed.
//!
//! Nothing instruments the compiler's loads and stores: scenes and tests use [`access`], which
//! checks the shadow first. What makes the shadow a part of the story is how it is had. That of a
//! vmalloc area is backed by pages of its own, which are mapped when the area is made and unmapped
//! when it is purged ([`populate`]), by the same walks and lazy sections as the area itself. All
//! other memory shares one page of zeroes: everything is allowed there.

#[cfg(target_os = "none")]
pub mod access;
#[cfg(all(feature = "ktests", target_os = "none"))]
mod ktests;
#[cfg(target_os = "none")]
pub mod populate;
#[cfg(target_os = "none")]
pub mod report;
pub mod shadow;

#[cfg(target_os = "none")]
pub use populate::{
    enable, is_on, map_shared_shadow, poison, populate_vmalloc, release_vmalloc, unpoison,
};
