//! Trailers: the `Key: value` lines at the end of a commit's message.

/// A message that ends with these trailers, under the rules of `git interpret-trailers`: where the
/// last paragraph consists of trailers already they join it, otherwise they are one of their own.
/// Trailers of the same keys that stand there are replaced: they were forged, or belong to an earlier
/// commit of the same work.
///
/// ```
/// use orch_model::trailers::append;
///
/// let text = append("Fix it\n\nSigned-off-by: Ann <ann@example.org>\n", &[("Orch-Task", "fix")]);
/// assert_eq!(text, "Fix it\n\nSigned-off-by: Ann <ann@example.org>\nOrch-Task: fix\n");
/// ```
#[must_use]
pub fn append(message: &str, trailers: &[(&str, &str)]) -> String {
    let message = message.trim_end();
    let (above, block) = split(message);
    let is_replaced = |key: &str| trailers.iter().any(|(ours, _)| key.eq_ignore_ascii_case(ours));
    let mut text = above.trim_end().to_owned();
    text.push_str("\n\n");
    let mut keeps = true;
    for line in block.lines() {
        if !is_continued(line) {
            keeps = key(line).is_none_or(|key| !is_replaced(key));
        }
        if keeps {
            text.push_str(line);
            text.push('\n');
        }
    }
    for (key, value) in trailers {
        text.push_str(&format!("{key}: {value}\n"));
    }
    text
}

/// The value of the last trailer with this key.
///
/// ```
/// use orch_model::trailers::value;
///
/// let text = "Fix it\n\nOrch-Task: fix\n";
/// assert_eq!(value(text, "Orch-Task"), Some("fix"));
/// assert_eq!(value("Orch-Task: fix\n", "Orch-Task"), None);
/// ```
#[must_use]
pub fn value<'m>(message: &'m str, wanted: &str) -> Option<&'m str> {
    let (_, block) = split(message.trim_end());
    let mut all = block.lines().filter_map(|line| Some((key(line)?, line.split_once(':')?.1)));
    all.rfind(|(key, _)| key.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
}

/// What stands above the block of trailers, and the block; that may be empty. The first paragraph is
/// the title, and never a block.
fn split(message: &str) -> (&str, &str) {
    let mut start = None;
    let mut at = 0;
    for line in message.split_inclusive('\n') {
        at += line.len();
        if line.trim().is_empty() {
            start = Some(at);
        }
    }
    match start {
        Some(start) if !message[..start].trim().is_empty() && is_block(&message[start..]) => {
            message.split_at(start)
        }
        _ => (message, ""),
    }
}

/// All lines are trailers, or one is of git's own making and a quarter are.
fn is_block(paragraph: &str) -> bool {
    const GIT: [&str; 2] = ["Signed-off-by: ", "(cherry picked from commit "];
    let (mut trailers, mut others, mut of_git) = (0, 0, false);
    for line in paragraph.lines() {
        let is_git = GIT.iter().any(|start| line.starts_with(start));
        of_git |= is_git;
        if is_git || key(line).is_some() {
            trailers += 1;
        } else if !(is_continued(line) && trailers > 0) {
            others += 1;
        }
    }
    trailers > 0 && (others == 0 || (of_git && trailers * 3 >= others))
}

/// A line that goes on with the value of the one before.
fn is_continued(line: &str) -> bool {
    line.starts_with([' ', '\t'])
}

/// The key of a trailer.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(':')?;
    let key = key.trim_end_matches([' ', '\t']);
    let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    is_key.then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_join_a_block_or_are_one() {
        let table = [
            ("Title", "Title\n\nOrch-Run: r\n"),
            ("Title: of it\n", "Title: of it\n\nOrch-Run: r\n"),
            ("Title\n\nBody\n\n\n", "Title\n\nBody\n\nOrch-Run: r\n"),
            ("Title\n\nBody: it goes\non\n", "Title\n\nBody: it goes\non\n\nOrch-Run: r\n"),
            ("Title\n\nA-b: c\nD: e\n f\n", "Title\n\nA-b: c\nD: e\n f\nOrch-Run: r\n"),
            ("T\n\nA: b\n\nlast\n", "T\n\nA: b\n\nlast\n\nOrch-Run: r\n"),
            (
                "T\n\nsome text\nSigned-off-by: A <a>\n",
                "T\n\nsome text\nSigned-off-by: A <a>\nOrch-Run: r\n",
            ),
            ("T\n\nsome text\nAcked-by: A\n", "T\n\nsome text\nAcked-by: A\n\nOrch-Run: r\n"),
            ("T\n\norch-run: forged\n on\nX: y\n", "T\n\nX: y\nOrch-Run: r\n"),
            ("T\n\nOrch-Run: forged\n", "T\n\nOrch-Run: r\n"),
        ];
        for (message, expected) in table {
            assert_eq!(append(message, &[("Orch-Run", "r")]), expected, "{message:?}");
            assert_eq!(append(expected, &[("Orch-Run", "r")]), expected, "twice: {message:?}");
            assert_eq!(value(expected, "Orch-Run"), Some("r"), "{message:?}");
        }
    }
}
