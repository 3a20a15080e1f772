//! Circles between modules: each floor of the house uses only floors below it.
//!
//! What a module uses is read from its text: the paths after `use`, and those that begin with
//! `crate::`, `super::` or `self::` anywhere. A parent that hands out what its children have
//! (`pub use child::…`) does not use them. Modules of tests are left out: they may use anything.

use crate::failure::{Doing, Failure, Result};
use crate::workspace::Workspace;
use std::collections::{BTreeMap, BTreeSet};

/// The crates that are looked at, by their directory of sources.
const SOURCES: [&str; 2] = ["kernel/src", "boot/src"];

/// A module: the segments of its path; none for the crate.
type Module = Vec<String>;
/// What each module uses.
type Uses = BTreeMap<Module, BTreeSet<Module>>;

/// Looks for circles.
///
/// # Errors
/// With each circle by its modules' names, or if a source can't be read.
pub fn check(workspace: &Workspace) -> Result {
    let mut found = Vec::new();
    for directory in SOURCES {
        let mut texts = BTreeMap::new();
        read(&workspace.root.join(directory), &mut Vec::new(), &mut texts)?;
        let named = |circle: Vec<_>| format!("{directory}: {}", circle.join(" <-> "));
        found.extend(circles(&texts).into_iter().map(named));
    }
    if found.is_empty() {
        return Ok(());
    }
    Err(Failure::fail(found.join("; ")))
}

/// Reads the modules below a directory, which is the module `at`.
fn read(
    directory: &std::path::Path,
    at: &mut Module,
    texts: &mut BTreeMap<Module, String>,
) -> Result {
    for entry in directory.read_dir().doing("list the sources")? {
        let path = entry.doing("list the sources")?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if is_of_tests(&name) {
            continue;
        }
        let is_root = matches!(&*name, "main" | "lib" | "mod");
        if !is_root {
            at.push(name.to_string());
        }
        if path.is_dir() {
            read(&path, at, texts)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).doing("read the sources")?;
            texts.insert(at.clone(), text);
        }
        if !is_root {
            at.pop();
        }
    }
    Ok(())
}

/// Whether a module of that name holds tests, or what only tests use.
fn is_of_tests(name: &str) -> bool {
    matches!(name, "testing") || name.ends_with("tests")
}

/// Every circle, by the names of its modules.
fn circles(texts: &BTreeMap<Module, String>) -> Vec<Vec<String>> {
    let uses: Uses = texts
        .iter()
        .map(|(module, text)| (module.clone(), used(module, text, texts)))
        .collect();
    let reached: Uses = uses
        .keys()
        .map(|module| (module.clone(), reached(module, &uses)))
        .collect();
    let mut circles = BTreeSet::new();
    for (module, from_here) in &reached {
        // Whoever is reached and reaches back is in one circle with it.
        let mut circle: Vec<_> = from_here
            .iter()
            .filter(|other| reached[*other].contains(module))
            .map(|other| name(other))
            .collect();
        circle.sort();
        if !circle.is_empty() {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

/// All that a module uses, and what that uses in turn.
fn reached(from: &Module, uses: &Uses) -> BTreeSet<Module> {
    let mut reached = BTreeSet::new();
    let mut left = vec![from];
    while let Some(module) = left.pop() {
        for next in &uses[module] {
            if reached.insert(next.clone()) {
                left.push(next);
            }
        }
    }
    reached
}

fn name(module: &[String]) -> String {
    if module.is_empty() {
        return "crate".to_owned();
    }
    module.join("::")
}

/// The other modules that the text of a module names.
fn used(module: &Module, text: &str, texts: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let known = |path: &[String]| texts.contains_key(path);
    let mut used = BTreeSet::new();
    for Path {
        inside,
        path,
        handed_out,
    } in paths(&tokens(text))
    {
        let scope = [module.as_slice(), &inside].concat();
        let Some(mut target) = absolute(&scope, &path, known) else {
            continue;
        };
        while !target.is_empty() && !known(&target) {
            target.pop();
        }
        let own = handed_out && target.starts_with(module);
        // What is named in the crate itself are its macros.
        if !target.is_empty() && target != *module && !own {
            used.insert(target);
        }
    }
    used
}

/// A path from the crate on; `None` if it leads into another crate.
fn absolute(
    scope: &[String],
    path: &[String],
    known: impl Fn(&[String]) -> bool,
) -> Option<Module> {
    let ups = path.iter().take_while(|word| *word == "super").count();
    let (start, rest) = match path.first()?.as_str() {
        "crate" => (&scope[..0], &path[1..]),
        "self" => (scope, &path[1..]),
        "super" => (&scope[..scope.len().saturating_sub(ups)], &path[ups..]),
        child => {
            let child = [scope, &[child.to_owned()]].concat();
            (known(&child).then_some(scope)?, path)
        }
    };
    Some([start, rest].concat())
}

/// A path in a text.
#[derive(Debug, PartialEq, Eq)]
struct Path {
    /// The modules in the text that it stands in.
    inside: Vec<String>,
    path: Vec<String>,
    /// It is in a `pub use`.
    handed_out: bool,
}

/// The paths of every `use`, and those that begin with `crate`, `super` or `self`.
fn paths(tokens: &[&str]) -> Vec<Path> {
    let mut paths = Vec::new();
    // The modules around, each with the depth of braces that it begins at.
    let mut around: Vec<(usize, String)> = Vec::new();
    let (mut depth, mut at) = (0, 0);
    let token = |at: usize| tokens.get(at).copied().unwrap_or_default();
    while at < tokens.len() {
        let before = token(at.wrapping_sub(1));
        let mut found = Vec::new();
        match (token(at), token(at + 1)) {
            ("{", _) => depth += 1,
            ("}", _) => {
                depth -= 1;
                around.pop_if(|(begun, _)| *begun == depth);
            }
            ("mod", name) if token(at + 2) == "{" => {
                if is_of_tests(name) {
                    at = behind_block(tokens, at + 2);
                    continue;
                }
                around.push((depth, name.to_owned()));
            }
            // `use<…>` says what a type captures.
            ("use", next) if next != "<" => {
                at = tree(tokens, at + 1, &[], &mut found);
            }
            ("crate" | "super" | "self", "::") if before != "::" => {
                at = tree(tokens, at, &[], &mut found);
            }
            _ => {}
        }
        // What was read to its end may end with a brace that is to be counted.
        at += usize::from(found.is_empty());
        paths.extend(found.into_iter().map(|path| Path {
            inside: around.iter().map(|(_, name)| name.clone()).collect(),
            path,
            handed_out: matches!(before, "pub" | ")"),
        }));
    }
    paths
}

/// Reads a path, or a tree of them as `use` has it; gives back where it ends.
fn tree(tokens: &[&str], mut at: usize, start: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = start.to_vec();
    loop {
        match tokens.get(at).copied().unwrap_or_default() {
            "{" => {
                at += 1;
                while !matches!(tokens.get(at), None | Some(&"}")) {
                    at = tree(tokens, at, &path, found);
                    // Behind a path stand its other name and a comma.
                    while !matches!(tokens.get(at), None | Some(&("}" | ","))) {
                        at += 1;
                    }
                    at += usize::from(tokens.get(at) == Some(&","));
                }
                return at + 1;
            }
            word if is_word(word) || word == "*" => path.push(word.to_owned()),
            _ => break,
        }
        at += 1;
        if tokens.get(at) != Some(&"::") {
            break;
        }
        at += 1;
    }
    found.push(path);
    at
}

/// Behind the brace that closes the block which begins at `at`.
fn behind_block(tokens: &[&str], at: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(at) {
        match *token {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    tokens.len()
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c == '_' || c.is_alphabetic())
}

/// The words and signs of a text, without comments, strings and characters.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => quoted(rest, '"'),
            'r' if rest.starts_with("r\"") || rest.starts_with("r#\"") => {
                let end = if rest.starts_with("r#") { "\"#" } else { "\"" };
                let start = 1 + end.len();
                let end_at = rest[start..].find(end);
                end_at.map_or(rest.len(), |at| start + at + end.len())
            }
            // A character, or a lifetime.
            '\'' if rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\'') => {
                quoted(rest, '\'')
            }
            _ if first.is_whitespace() => first.len_utf8(),
            _ => {
                let length = if is_word(rest) {
                    rest.find(|c: char| c != '_' && !c.is_alphanumeric())
                        .unwrap_or(rest.len())
                } else if rest.starts_with("::") {
                    2
                } else {
                    first.len_utf8()
                };
                tokens.push(&rest[..length]);
                length
            }
        };
        rest = &rest[length..];
    }
    tokens
}

/// How long what begins with a quote is, up to the next one that has no backslash before it.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The circles of modules with these texts.
    fn found(modules: &[(&str, &str)]) -> Vec<String> {
        let path = |name: &str| match name {
            "" => Vec::new(),
            name => name.split("::").map(str::to_owned).collect(),
        };
        let texts = modules
            .iter()
            .map(|(name, text)| (path(name), (*text).to_owned()))
            .collect();
        circles(&texts)
            .into_iter()
            .map(|circle| circle.join(" <-> "))
            .collect()
    }

    #[test]
    fn a_circle_has_its_modules_names() {
        let circle = [
            ("", "mod a; mod b; mod c; mod d;"),
            ("a", "use crate::b::B;"),
            ("b", "use super::{c::{self, C as D}, d};"),
            ("c", "fn f() { crate::a::f() }"),
            ("d", "use core::fmt;"),
        ];
        assert_eq!(found(&circle), ["a <-> b <-> c"]);
        let two = [
            ("a", "use crate::b::B;"),
            ("b", "use crate::a::A;"),
            ("c", "use crate::{a, d};"),
            ("d", "use crate::{a::A, c::*};"),
        ];
        assert_eq!(found(&two), ["a <-> b", "c <-> d"]);
    }

    #[test]
    fn floors_have_none() {
        let house = [
            ("a", "use crate::{b, c}; use crate::println;"),
            ("b", "use super::c::C;"),
            (
                "c",
                "/// See [`crate::a`].\nfn f() -> impl Sized + use<> { \"crate::a::f() {\" }",
            ),
        ];
        assert!(found(&house).is_empty());
    }

    #[test]
    fn a_parent_may_hand_out_its_children_and_not_use_them() {
        let child = ("a::b", "use super::A;");
        for fine in [
            "mod b; pub use b::B;",
            "mod b; pub(super) use self::b::{B, C};",
        ] {
            assert!(found(&[("a", fine), child]).is_empty(), "{fine}");
        }
        for used in ["mod b; use b::B;", "mod b; fn f() { self::b::f() }"] {
            assert_eq!(found(&[("a", used), child]), ["a <-> a::b"], "{used}");
        }
    }

    #[test]
    fn super_is_what_is_around_it() {
        let inline = [
            (
                "a",
                "mod inner { use super::A; use super::super::b::B; } use super::c::C;",
            ),
            (
                "b",
                "mod inner { fn f() { match x { '{' | '\\'' => {} } } } use super::c::C;",
            ),
            (
                "c",
                "fn f<'a>() {} mod tests { use super::*; use crate::{a, b}; }",
            ),
        ];
        assert!(found(&inline).is_empty());
        let circle = [inline[0], ("b", "mod inner {} use super::a::A;"), inline[2]];
        assert_eq!(found(&circle), ["a <-> b"]);
    }

    #[test]
    fn modules_of_tests_are_left_out() {
        for name in [
            "tests",
            "ktests",
            "host_tests",
            "deferred_ktests",
            "testing",
        ] {
            assert!(is_of_tests(name), "{name}");
        }
        assert!(!is_of_tests("test"));
    }

    #[test]
    fn this_project_is_read() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernel/src");
        let mut texts = BTreeMap::new();
        read(&root, &mut Vec::new(), &mut texts).unwrap();
        let module = |name: &str| name.split("::").map(str::to_owned).collect::<Module>();
        assert!(texts.contains_key(&Vec::new()));
        assert!(!texts.contains_key(&module("mm::testing")));
        let purge = module("mm::vmalloc::purge");
        let used = used(&purge, &texts[&purge], &texts);
        assert!(used.contains(&module("mm::tlb")) && used.contains(&module("arch::record")));
    }
}
