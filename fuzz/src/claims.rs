//! Globs of the files that tasks claim.
//!
//! Whether two overlap is asked in either order with the same answer, a glob overlaps itself and `**`, and
//! two that match the same path overlap. What matches is what the crate `glob` says; a glob that ends in a plain
//! name and has no `**` also claims what is below that.

use glob::{MatchOptions, Pattern};
use orch_deps::conflict::globs_overlap;

use crate::input::Input;

/// What globs are made of, so that two of them often have something in common.
const PARTS: [&str; 16] = [
    "a", "b", "ab", "/", "/", "*", "?", "**", "/**/", "[ab]", "[!a]", "[a-b]", ".", "..", "]", "é",
];

const NAMES: [&str; 8] = ["a", "b", "ab", "/", "é", "]", ".b", "aa/b"];

/// Runs the target.
///
/// # Panics
/// Where something does not hold.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (a, b) = if input.flag() {
        (input.text(40), input.text(40))
    } else {
        (parts(&mut input, &PARTS), parts(&mut input, &PARTS))
    };
    let answer = globs_overlap(&a, &b);
    assert_eq!(answer, globs_overlap(&b, &a), "{a:?} and {b:?} the other way round");
    for glob in [&a, &b] {
        assert!(globs_overlap(glob, glob), "{glob:?} and itself");
        assert!(globs_overlap(glob, "**"), "{glob:?} and **");
    }
    if answer {
        return;
    }
    let (Ok(first), Ok(second)) = (Pattern::new(&a), Pattern::new(&b)) else { return };
    let mut tried = [
        parts(&mut input.clone(), &NAMES),
        String::from_utf8_lossy(input.clone().take(40)).into_owned(),
        example(&a, &mut input.clone()),
        example(&b, &mut input),
    ];
    for path in &mut tried {
        if path.split('/').any(|name| matches!(name, "" | "." | "..")) {
            continue;
        }
        assert!(
            !(claims(&a, &first, path) && claims(&b, &second, path)),
            "{a:?} and {b:?} both claim {path:?}, and are said not to overlap"
        );
    }
}

fn parts(input: &mut Input<'_>, parts: &[&str]) -> String {
    let count = input.below(12);
    input.take(count).iter().map(|byte| parts[usize::from(*byte) % parts.len()]).collect()
}

/// A path that may match: each wildcard is replaced as the input says.
fn example(glob: &str, input: &mut Input<'_>) -> String {
    let mut path = String::new();
    let mut rest = glob.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            '*' if rest.next_if_eq(&'*').is_some() => {
                match input.below(4) {
                    // `**/` may stand for nothing.
                    0 => drop(rest.next_if_eq(&'/')),
                    some => path.push_str(["a", "b/a", "ab"][some - 1]),
                }
            }
            '*' => path.push_str(["", "a", "b", "ab"][input.below(4)]),
            '?' => path.push_str(["a", "b", "é", "]"][input.below(4)]),
            '[' => {
                let mut set: Vec<char> = Vec::new();
                while let Some(letter) = rest.next_if(|letter| *letter != ']' || set.is_empty()) {
                    set.push(letter);
                }
                rest.next();
                set.extend(['b', 'c']);
                path.push(set[input.below(set.len().min(256))]);
            }
            letter => path.push(letter),
        }
    }
    path
}

/// Whether a path belongs to what a glob claims.
fn claims(glob: &str, pattern: &Pattern, path: &str) -> bool {
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
    if pattern.matches_with(path, options) {
        return true;
    }
    let last = glob.rsplit('/').next().unwrap_or_default();
    let names_a_place = !last.is_empty()
        && !last.contains(['*', '?'])
        && !glob.contains('[')
        && !glob.contains("**");
    let mut above = path;
    while names_a_place && let Some((folder, _)) = above.rsplit_once('/') {
        if pattern.matches_with(folder, options) {
            return true;
        }
        above = folder;
    }
    false
}
