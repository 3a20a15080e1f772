//! Links the kernel with the workspace's `linker.ld`, and builds the program for
//! EL0 that is part of it; for the target only: the host builds this package
//! too, as a test harness of its pure modules.

use std::{env, path::Path, path::PathBuf, process::Command};

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
    build_program(&manifest.join("user"));
}

/// Compiles and links the program in `directory` to `OUT_DIR/user.elf`.
///
/// With the rustc of this build and nothing else: the program has no dependencies,
/// and a second cargo would want the locks of the first, or the network. It is
/// always optimised, so the kernel is the same whatever profile it is built with.
fn build_program(directory: &Path) {
    let variable = |name| env::var_os(name).expect("cargo sets it");
    let output = PathBuf::from(variable("OUT_DIR")).join("user.elf");
    let script = directory.join("user.ld");
    println!("cargo::rerun-if-changed={}", directory.display());
    let mut rustc = Command::new(variable("RUSTC"));
    rustc
        .args([
            "--crate-name",
            "user",
            "--crate-type",
            "bin",
            "--edition",
            "2024",
        ])
        .arg("--target")
        .arg(variable("TARGET"))
        .args([
            "-C",
            "opt-level=s",
            "-C",
            "lto=fat",
            "-C",
            "codegen-units=1",
        ])
        .args([
            "-C",
            "panic=abort",
            "-C",
            "relocation-model=static",
            "-C",
            "strip=symbols",
        ])
        .arg(format!("-Clink-arg=-T{}", script.display()))
        // Segments lie in the file as densely as their contents allow: nobody maps the file.
        .arg("-Clink-arg=-zmax-page-size=16")
        // The same file wherever the tree is.
        .arg(format!("--remap-path-prefix={}=user", directory.display()))
        // Lints are for clippy, which looks at the package itself.
        .args(["--cap-lints", "allow", "-o"])
        .arg(&output)
        .arg(directory.join("src/main.rs"));
    let status = rustc
        .status()
        .unwrap_or_else(|error| panic!("{rustc:?}: {error}"));
    assert!(
        status.success(),
        "the program for EL0 does not build: {rustc:?}"
    );
}
