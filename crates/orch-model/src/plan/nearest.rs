//! "Did you mean": the name that somebody probably had in mind.

/// Keys of other tools, and what they are called here.
#[cfg(feature = "parse")]
const SYNONYMS: [(&str, &str); 24] = [
    ("agent", "agents"),
    ("agents", "agent"),
    ("args", "command"),
    ("cmd", "run"),
    ("command", "run"),
    ("concurrency", "max_concurrency"),
    ("dependencies", "needs"),
    ("depends", "needs"),
    ("depends_on", "needs"),
    ("deps", "needs"),
    ("description", "title"),
    ("environment", "env"),
    ("epics", "epic"),
    ("jobs", "max_concurrency"),
    ("key", "id"),
    ("name", "id"),
    ("name", "title"),
    ("parallelism", "max_concurrency"),
    ("requires", "needs"),
    ("retry", "retries"),
    ("script", "run"),
    ("tasks", "task"),
    ("test", "verify"),
    ("branch", "target"),
];

/// The candidate at the smallest edit distance (Damerau-Levenshtein, letter case aside) from
/// `word`: at most a third of its length, as in rustc. The first of several.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    let limit = length.max(3) / 3;
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        // The distance is at least the difference in length.
        if candidate.chars().count().abs_diff(length) > limit {
            continue;
        }
        let distance = strsim::damerau_levenshtein(&word, &candidate.to_lowercase());
        if distance <= limit && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Like [`nearest`], and knows the keys of other tools.
#[cfg(feature = "parse")]
pub(super) fn nearest_key(word: &str, known: &[&'static str]) -> Option<&'static str> {
    nearest(word, known.iter().copied()).or_else(|| {
        let (_, ours) = SYNONYMS
            .iter()
            .find(|(theirs, ours)| theirs.eq_ignore_ascii_case(word) && known.contains(ours))?;
        Some(ours)
    })
}

/// "`a`, `b` or `c`".
pub(super) fn list<T: AsRef<str>>(names: &[T], last: &str) -> String {
    let mut text = String::new();
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            let glue = if at + 1 == names.len() { format!(" {last} ") } else { ", ".into() };
            text.push_str(&glue);
        }
        text.push('`');
        text.push_str(name.as_ref());
        text.push('`');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        let known = ["needs", "after", "timeout", "id", "run"];
        for (word, expected) in [
            ("need", Some("needs")),
            ("NEEDS", Some("needs")),
            ("timeuot", Some("timeout")),
            ("rnu", Some("run")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }

    #[cfg(feature = "parse")]
    #[test]
    fn keys_of_other_tools_are_known() {
        let known = ["needs", "run", "id", "title"];
        assert_eq!(nearest_key("depends_on", &known), Some("needs"));
        assert_eq!(nearest_key("command", &known), Some("run"));
        assert_eq!(nearest_key("jobs", &known), None);
    }

    #[test]
    fn names_are_listed() {
        assert_eq!(list::<&str>(&[], "or"), "");
        assert_eq!(list(&["a"], "or"), "`a`");
        assert_eq!(list(&["a", "b", "c"], "or"), "`a`, `b` or `c`");
    }
}
