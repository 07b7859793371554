//! Text of agents, made harmless before it is kept.

/// Beginnings of what services give out as keys. What variables hold, and what the configuration's `redact`
/// matches, was taken out before the output was stored; this is for what neither knows.
const KEYS: &[&str] = &[
    "sk-",
    "sk_",
    "pk_",
    "rk_",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "eyJ",
    "npm_",
    "pypi-",
    "hf_",
];

/// From this length on such a word is a key, in bytes.
const SHORTEST: usize = 16;

/// Names before `=` or `:` whose values are secret.
const NAMES: &[&str] =
    &["key", "token", "secret", "password", "passwd", "credential", "authorization"];

/// One line, at most `limit` characters: without escape sequences, control characters and characters that
/// change the direction of text or are not seen, with what looks like a key taken out.
///
/// ```
/// use orch_history::expertise::clean;
///
/// assert_eq!(clean("\u{1b}[31merror:\u{1b}[0m\n  no\ttable", 40), "error: no table");
/// assert_eq!(clean("API_KEY=abcdefgh1234 failed", 40), "API_KEY=[redacted] failed");
/// ```
#[must_use]
pub fn clean(text: &str, limit: usize) -> String {
    let text = without_sequences(text);
    let words: Vec<String> = text.split_whitespace().map(redacted).collect();
    let mut line = words.join(" ");
    if let Some((end, _)) = line.char_indices().nth(limit) {
        let dots = line.char_indices().nth(limit.saturating_sub(1)).map_or(end, |(at, _)| at);
        line.truncate(dots);
        line.push('…');
    }
    line
}

fn without_sequences(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                // A control sequence ends with a character from @ on.
                Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                // A title or a link ends with BEL or ESC \.
                Some(']') => {
                    while let Some(c) = chars.next() {
                        if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                _ => {}
            },
            c if c.is_whitespace() => out.push(' '),
            c if c.is_control() || is_hidden(c) => {}
            c => out.push(c),
        }
    }
    out
}

/// What changes the direction of text, or takes no place.
const fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn redacted(word: &str) -> String {
    const REDACTED: &str = "[redacted]";
    if let Some(at) = word.find(['=', ':']) {
        let (name, value) = (word[..at].to_ascii_lowercase(), &word[at + 1..]);
        let is_path = value.starts_with('/');
        if value.len() >= 8 && !is_path && NAMES.iter().any(|known| name.contains(known)) {
            return format!("{}{REDACTED}", &word[..=at]);
        }
    }
    let bare = word.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    if bare.len() >= SHORTEST && KEYS.iter().any(|key| bare.starts_with(key)) {
        return REDACTED.into();
    }
    // A password in an address.
    if let Some((scheme, rest)) = word.split_once("://")
        && let Some((user, host)) = rest.split_once('@')
        && user.contains(':')
    {
        return format!("{scheme}://{REDACTED}@{host}");
    }
    word.to_owned()
}

/// What two texts have in common that differ only in numbers, hashes, paths and case.
pub(super) fn normal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        let core = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '/' && c != '.');
        let is_hash = core.len() >= 7
            && core.bytes().all(|b| b.is_ascii_hexdigit())
            && core.bytes().any(|b| b.is_ascii_digit());
        if core.contains('/') {
            out.push_str("<path>");
        } else if is_hash {
            out.push_str("<hash>");
        } else {
            let mut in_number = false;
            for c in word.chars().flat_map(char::to_lowercase) {
                if c.is_ascii_digit() {
                    if !in_number {
                        out.push('#');
                    }
                    in_number = true;
                } else {
                    in_number = false;
                    out.push(c);
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_taken_out_wherever_they_stand() {
        for (text, kept) in [
            ("use ghp_0123456789abcdef0123 now", "use [redacted] now"),
            ("(sk-proj-0123456789abcdef)", "[redacted]"),
            ("token: short", "token: short"),
            ("DB_PASSWORD:correct-horse", "DB_PASSWORD:[redacted]"),
            ("KEY_FILE=/etc/keys/mine", "KEY_FILE=/etc/keys/mine"),
            ("postgres://ann:pw@db/x", "postgres://[redacted]@db/x"),
            ("https://example.org/a@b", "https://example.org/a@b"),
        ] {
            assert_eq!(clean(text, 99), kept);
        }
    }

    #[test]
    fn nothing_passes_for_something_else() {
        let text = "a\u{202e}b\u{200b}c\u{1b}]0;title\u{7}d\u{1b}]8;;x\u{1b}\\e\u{9b}f\r\ng";
        assert_eq!(clean(text, 99), "abcdef g");
        assert_eq!(clean("äöü", 2), "ä…");
        assert_eq!(clean("äö", 2), "äö");
    }

    #[test]
    fn what_differs_in_numbers_and_places_is_the_same() {
        let one = normal("error[E0425] at src/a.rs:12:3 in 0badc0ffee1, took 1.25s");
        assert_eq!(one, normal("Error[E0599] at  lib/b/c.rs:7 in deadbeef123, took 3.5s"));
        assert_ne!(normal("no such table: users"), normal("no such table: orders"));
    }

    proptest! {
        #[test]
        fn it_is_one_line_of_bounded_length_and_clean_again(text: String, limit in 1usize..60) {
            let line = clean(&text, limit);
            prop_assert!(line.chars().count() <= limit, "{line:?}");
            prop_assert!(!line.chars().any(|c| c.is_control() || is_hidden(c)), "{line:?}");
            prop_assert_eq!(clean(&line, limit), line);
        }
    }
}
