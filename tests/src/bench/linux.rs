//! What Linux costs in the same emulator: `tests/bench-linux.json`, whose first line says where the
//! figures come from.

use super::measurement::{self, Key, Measurement};
use crate::failure::Result;

const FIGURES: &str = include_str!("../../bench-linux.json");

/// Every figure.
///
/// # Errors
/// If the file is not what it should be.
pub fn figures() -> Result<Vec<Measurement>> {
    measurement::read(FIGURES)
}

/// The figure of one of Linux's kernels for what was measured: its own, or of fresh memory.
pub fn like<'a>(figures: &'a [Measurement], kernel: &str, key: &Key) -> Option<&'a Measurement> {
    figures.iter().find(|figure| {
        figure.key.kernel == kernel
            && figure.key.case == key.case
            && figure.key.size == key.size
            && figure.key.debug_pagealloc == key.debug_pagealloc
            && !key.kasan
    })
}

/// The kernel of Linux that a measurement is set beside, and the one with batched barriers.
pub fn kernels(key: &Key) -> &'static [&'static str] {
    if key.debug_pagealloc {
        &["linux-ap"]
    } else {
        &["linux-a", "linux-b"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_where_it_comes_from_and_has_what_it_should() {
        assert!(FIGURES.starts_with("{\"source\": \"Linux 6.12"));
        let figures = figures().unwrap();
        assert_eq!(figures.len() + 1, FIGURES.lines().count());
        let ours = r#"{"case":"vmalloc_pair","n":64,"kernel":"lull","memory":"fragmented","debug_pagealloc":false,"kasan":false,"backend":"barriers","insn":1}"#;
        let ours = Measurement::parse(ours, "max").unwrap();
        let insn = |kernel| like(&figures, kernel, &ours.key).map(|figure| figure.insn);
        assert_eq!(insn("linux-a"), Some(25_882.0));
        assert_eq!(insn("linux-b"), Some(26_392.0));
        assert_eq!(insn("linux-ap"), None);
    }

    #[test]
    fn no_figure_is_there_twice() {
        let mut keys: Vec<_> = figures().unwrap().into_iter().map(|it| it.key).collect();
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }
}
