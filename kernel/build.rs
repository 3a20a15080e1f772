//! Links the kernel with the workspace's `linker.ld`, for the target only: the
//! host builds this package too, as a test harness of its pure modules.

use std::{env, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let script = manifest.join("../linker.ld");
    println!("cargo::rerun-if-changed={}", script.display());
    println!("cargo::rustc-link-arg-bins=-T{}", script.display());
    // Segments are aligned to the granule, not to the 64 KiB that lld assumes.
    println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");
}
