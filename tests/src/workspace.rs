//! Where things are, and how the kernel is built.

use crate::failure::{Doing, Failure, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target that the kernel is built for: soft float, because the kernel must
/// not touch the FP registers, of which it saves none.
pub const TARGET: &str = "aarch64-unknown-none-softfloat";

/// What the kernel is built with. Each has a directory of its own below `target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// Nothing but the kernel.
    Plain,
    /// The kernel's own tests.
    Tests,
    /// The oracle, and the tests.
    Oracle,
    /// All planted bugs, the oracle and the tests.
    Bugs,
}

impl Build {
    /// The build that has the kernel's own tests of this one. They are twice as much code as the
    /// kernel, so the plain one has none.
    pub fn with_tests(self) -> Self {
        match self {
            Self::Plain => Self::Tests,
            other => other,
        }
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        self.feature().unwrap_or("plain")
    }

    /// The feature of the package `kernel`, and the directory.
    fn feature(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Tests => Some("ktests"),
            Self::Oracle => Some("oracle"),
            Self::Bugs => Some("bugs"),
        }
    }
}

/// The project's directories.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// Where the workspace's `Cargo.toml` is.
    pub root: PathBuf,
    /// Where cargo builds: `target`, or what `CARGO_TARGET_DIR` says.
    pub target: PathBuf,
    /// What `cargo metadata --no-deps` says of the packages.
    pub packages: Vec<Package>,
}

/// One package of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Whether it may be published, which is when it must be ready for it.
    pub publishable: bool,
}

impl Workspace {
    /// Finds the workspace that this program belongs to.
    ///
    /// # Errors
    /// If cargo cannot describe it.
    pub fn find() -> Result<Self> {
        // Cargo says where the package is when it runs the program; without
        // cargo it is where it was built.
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package.parent().unwrap_or(Path::new(".")).to_owned();
        let output = cargo(&root)
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .doing("run cargo metadata")?;
        if !output.status.success() {
            return Err(Failure::error("cargo metadata failed"));
        }
        let metadata: serde_json::Value =
            serde_json::from_slice(&output.stdout).doing("read cargo metadata")?;
        let target = metadata["target_directory"].as_str().unwrap_or("target");
        let target = root.join(target);
        Ok(Self {
            root,
            target,
            packages: packages(&metadata),
        })
    }

    /// The kernel's image of that build.
    pub fn image_of(&self, build: Build) -> PathBuf {
        let target = self.target_of(build);
        target.join(TARGET).join("release").join("kernel")
    }

    /// Where that build is made.
    fn target_of(&self, build: Build) -> PathBuf {
        build
            .feature()
            .map_or_else(|| self.target.clone(), |name| self.target.join(name))
    }

    /// Where the log of a test is kept, so that it can be read afterwards.
    pub fn log(&self, name: &str) -> PathBuf {
        let safe: String = name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "._=+-".contains(c) {
                    c
                } else {
                    '-'
                }
            })
            .collect();
        self.target.join("test-logs").join(format!("{safe}.log"))
    }

    /// A path as a person at the root of the workspace would write it.
    pub fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    /// A cargo command at the root of the workspace.
    pub fn cargo(&self) -> Command {
        cargo(&self.root)
    }

    /// Builds an image of the kernel.
    ///
    /// # Errors
    /// If it does not build; cargo has then said why.
    pub fn build(&self, build: Build) -> Result<PathBuf> {
        let image = self.image_of(build);
        let with = build.feature();
        if !image.exists() {
            let with = with.map(|name| format!(" with feature {name}"));
            eprintln!("lull: building the kernel{}", with.unwrap_or_default());
        }
        let mut command = self.cargo();
        command.args(["build", "-q", "--release", "-p", "kernel"]);
        command.args(["--target", TARGET]);
        if let Some(feature) = with {
            command.args(["--features", feature, "--target-dir"]);
            command.arg(self.target_of(build));
        }
        let status = command.stdin(Stdio::null()).status().doing("run cargo")?;
        if !status.success() {
            return Err(Failure::error("the kernel does not build"));
        }
        Ok(image)
    }
}

/// A cargo command in that directory. `cargo run` tells its program about the
/// package; a second cargo must not take that for its own.
fn cargo(root: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    // An interrupt from the keyboard, a jobserver that is not ours: make's own.
    command.env_remove("MAKEFLAGS").env_remove("MFLAGS");
    command
}

/// The packages that the metadata names, in its order.
fn packages(metadata: &serde_json::Value) -> Vec<Package> {
    let list = metadata["packages"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    list.iter()
        .filter_map(|package| {
            let name = package["name"].as_str()?.to_owned();
            // `publish` is null where nothing is said, and an empty list for `false`.
            let publishable = package["publish"]
                .as_array()
                .is_none_or(|to| !to.is_empty());
            Some(Package { name, publishable })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publish_false_is_an_empty_list() {
        let metadata = serde_json::json!({ "packages": [
            { "name": "a", "publish": null },
            { "name": "b", "publish": [] },
            { "name": "c", "publish": ["somewhere"] },
        ]});
        let publishable: Vec<_> = packages(&metadata).iter().map(|p| p.publishable).collect();
        assert_eq!(publishable, [true, false, true]);
    }

    #[test]
    fn each_build_has_a_directory_of_its_own() {
        let workspace = Workspace {
            root: "/w".into(),
            target: "/w/target".into(),
            packages: vec![],
        };
        let image = |build| workspace.image_of(build);
        let rest = "aarch64-unknown-none-softfloat/release/kernel";
        assert_eq!(image(Build::Plain), Path::new("/w/target").join(rest));
        assert_eq!(
            image(Build::Tests),
            Path::new("/w/target/ktests").join(rest)
        );
        assert_eq!(
            image(Build::Oracle),
            Path::new("/w/target/oracle").join(rest)
        );
        assert_eq!(image(Build::Bugs), Path::new("/w/target/bugs").join(rest));
    }

    #[test]
    fn a_log_is_one_file_whatever_the_test_is_called() {
        let workspace = Workspace {
            root: "/w".into(),
            target: "/w/target".into(),
            packages: vec![],
        };
        let log = workspace.log("tour/CPU=max b");
        assert_eq!(log, Path::new("/w/target/test-logs/tour-CPU=max-b.log"));
        assert_eq!(
            workspace.relative(&log),
            Path::new("target/test-logs/tour-CPU=max-b.log")
        );
    }
}
