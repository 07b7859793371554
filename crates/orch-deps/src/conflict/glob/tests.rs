use ::glob::{MatchOptions, Pattern};
use proptest::prelude::*;

use super::*;

fn overlap(a: &str, b: &str) -> bool {
    let (a, b) = (Glob::parse(a), Glob::parse(b));
    let answer = a.overlaps(&b);
    assert_eq!(answer, b.overlaps(&a), "it is symmetric");
    answer
}

#[test]
fn these_overlap() {
    for (a, b) in [
        ("src/auth/**", "src/auth/**"),
        ("src/auth/**", "src/**/login.rs"),
        ("src/auth", "src/auth/**"),
        ("src/auth", "src/auth/login.rs"),
        ("src/auth/", "./src//auth/login.rs"),
        ("crates/*/src", "crates/a/src/lib.rs"),
        ("/src/a", "src/a"),
        ("src/a/../b", "src/b/c"),
        ("a/**", "a"),
        ("**", "x"),
        ("**/a/**/b", "a/b"),
        ("*.rs", "lib.*"),
        ("a*b*c", "*abc"),
        ("l?b", "lib"),
        ("[a-c]x", "bx"),
        ("[!a]x", "bx"),
        ("[a-c]x", "[c-e]x"),
        ("[!a]", "[!b]"),
        ("[]]", "]"),
        ("[-a]", "-"),
        ("[*]", "[*]"),
        ("**/**/a", "**/a"),
        ("", "anything/at/all"),
        (".", "x"),
        // In doubt, yes.
        ("[a", "zzz"),
        ("../x", "y"),
        ("*/../x", "y/z"),
    ] {
        assert!(overlap(a, b), "{a} and {b}");
    }
}

#[test]
fn these_do_not() {
    for (a, b) in [
        ("src/auth", "src/authz"),
        ("src/auth/**", "src/authz/**"),
        ("src/*", "src/a/b"),
        ("src/*.rs", "src/a/b.rs"),
        ("src/*.rs", "src/*.md"),
        ("**/a.rs", "**/b.rs"),
        ("**/test/*.rs", "src/**/*.md"),
        ("a?", "a"),
        ("[a-c]x", "dx"),
        ("[!a]x", "ax"),
        ("[a-c]x", "[d-f]x"),
        ("[*]", "a"),
        ("a/*/c", "a/b/d"),
        ("a*b", "a*c"),
    ] {
        assert!(!overlap(a, b), "{a} and {b}");
    }
}

#[test]
fn the_prefix_is_what_every_path_begins_with() {
    for (glob, prefix) in [
        ("src/auth/**", "src/auth"),
        ("src/auth", "src/auth"),
        ("src/a*/b", "src/a"),
        ("src/*/b", "src/"),
        ("**/b", ""),
        ("*.rs", ""),
        ("[ab]/c", ""),
        ("[a]b/c", "ab/c"),
    ] {
        assert_eq!(Glob::parse(glob).prefix(), prefix, "{glob}");
    }
}

#[test]
fn names_may_be_long() {
    let name = "long-".repeat(20);
    assert!(overlap("src/long*-", &format!("src/{name}")));
    assert!(!overlap("src/long*x", &format!("src/{name}")));
    assert!(overlap(&format!("{}**", "*/".repeat(50)), &format!("{}**", "a/".repeat(60))));
}

/// Every path of at most three names of at most two letters.
fn paths() -> Vec<String> {
    let names: Vec<String> = ["a", "b", "aa", "ab", "ba", "bb"].map(Into::into).into();
    let mut paths = names.clone();
    let mut last = names.clone();
    for _ in 0..2 {
        last = last.iter().flat_map(|p| names.iter().map(move |n| format!("{p}/{n}"))).collect();
        paths.extend(last.iter().cloned());
    }
    paths
}

fn any_glob() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        4 => "[ab]{1,2}",
        3 => "[ab*?]{1,3}",
        1 => Just("[ab]".to_owned()),
        1 => Just("[!a]".to_owned()),
        1 => Just("[a-b]*".to_owned()),
        3 => Just("**".to_owned()),
    ];
    let name = name.prop_filter("** stands alone", |name| name == "**" || !name.contains("**"));
    proptest::collection::vec(name, 1..4).prop_map(|names| names.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn never_disjoint_where_a_path_matches_both(a in any_glob(), b in any_glob()) {
        let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
        let patterns = (Pattern::new(&a).unwrap(), Pattern::new(&b).unwrap());
        let both = paths().into_iter().find(|path| {
            patterns.0.matches_with(path, options) && patterns.1.matches_with(path, options)
        });
        let answer = overlap(&a, &b);
        if let Some(path) = both {
            prop_assert!(answer, "{} and {} both match {}", a, b, path);
            let (p, q) = (Glob::parse(&a).prefix(), Glob::parse(&b).prefix());
            prop_assert!(p.starts_with(&q) || q.starts_with(&p), "{:?} and {:?}", p, q);
        }
    }
}
