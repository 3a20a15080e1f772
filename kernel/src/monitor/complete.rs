//! Completing a word: how much of it is certain. Pure.

/// What can be said of a word that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// No word begins so.
    None,
    /// One word does: what is missing of it.
    Whole(&'static str),
    /// Several do: what all of them go on with, perhaps nothing.
    Part(&'static str),
}

/// Completes `begun` to the words of `known`.
pub fn complete(begun: &str, known: impl Iterator<Item = &'static str>) -> Completion {
    let mut endings = known.filter_map(|word| word.strip_prefix(begun));
    let Some(first) = endings.next() else {
        return Completion::None;
    };
    let mut common = first;
    let mut several = false;
    for ending in endings {
        several = true;
        let same = common
            .char_indices()
            .zip(ending.chars())
            .find(|((_, a), b)| a != b)
            .map_or(common.len().min(ending.len()), |((at, _), _)| at);
        common = &common[..same];
    }
    if several {
        Completion::Part(common)
    } else {
        Completion::Whole(common)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(begun: &str) -> Completion {
        complete(begun, ["vfree", "vmalloc", "vmallocinfo", "pt"].into_iter())
    }

    #[test]
    fn a_word_is_completed_as_far_as_it_is_certain() {
        assert_eq!(of("vf"), Completion::Whole("ree"));
        assert_eq!(of("p"), Completion::Whole("t"));
        assert_eq!(of("vm"), Completion::Part("alloc"));
        assert_eq!(of("v"), Completion::Part(""));
        assert_eq!(of("vmalloc"), Completion::Part(""));
        let longest_first = ["vmallocinfo", "vmalloc"].into_iter();
        assert_eq!(complete("vm", longest_first), Completion::Part("alloc"));
        assert_eq!(of("vmallocinfo"), Completion::Whole(""));
        assert_eq!(of("x"), Completion::None);
        assert_eq!(of(""), Completion::Part(""));
    }
}
