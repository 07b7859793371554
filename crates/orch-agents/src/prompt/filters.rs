//! What templates can do with values.

use std::fmt::Write;

use minijinja::{Environment, Error, Value};
use orch_model::prompt::one_line;

/// The filters that there are besides those of minijinja.
pub(super) const NAMES: [&str; 7] = ["text", "line", "titled", "code", "fenced", "made", "held"];

pub(super) fn add(env: &mut Environment<'static>) {
    env.add_filter("text", |text: &str| text.trim_end_matches(['\r', '\n']).to_owned());
    env.add_filter("line", |text: &str| one_line(text));
    env.add_filter("titled", titled);
    env.add_filter("code", |text: &str| code(text));
    env.add_filter("fenced", |text: &str| fenced(text));
    env.add_filter("made", made);
    env.add_filter("held", held);
}

/// `: ` and a title; nothing for none.
fn titled(title: &Value) -> String {
    title.as_str().map_or_else(String::new, |title| format!(": {}", one_line(title)))
}

/// The longest run of backticks in a text.
fn ticks(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// One line as code, whatever it contains.
pub(super) fn code(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let fence = "`".repeat(ticks(&line) + 1);
    let pad = if line.starts_with('`') || line.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{line}{pad}{fence}")
}

/// Lines as a block of their own, which nothing in them can end.
pub(super) fn fenced(text: &str) -> String {
    let fence = "`".repeat(ticks(text).max(2) + 1);
    let plain = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    let text: String = text.chars().filter(|c| plain(*c)).collect();
    format!("{fence}text\n{}\n{fence}", text.trim_end())
}

/// Lists of commits and files.
fn made(of: &Value) -> Result<String, Error> {
    let mut text = String::new();
    let list = |name: &str| of.get_attr(name)?.try_iter();
    let more = |name: &str| of.get_attr(name).map(|n| n.as_usize().unwrap_or(0));
    for commit in list("commits")? {
        let (id, subject) = (commit.get_attr("id")?, commit.get_attr("subject")?);
        // Writing to a string can't fail.
        let _ = writeln!(text, "- {id} {}", code(&subject.to_string()));
    }
    let more_commits = more("more_commits")?;
    if more_commits > 0 {
        let _ = writeln!(text, "- and {more_commits} more commits");
    }
    let mut files: Vec<String> = list("files")?.map(|file| code(&file.to_string())).collect();
    let more_files = more("more_files")?;
    if more_files > 0 {
        files.push(format!("and {more_files} more"));
    }
    if !files.is_empty() {
        let _ = writeln!(text, "- files: {}", files.join(", "));
    }
    Ok(text)
}

/// A lock that is held.
fn held(lock: &Value) -> Result<String, Error> {
    let mut text = code(&lock.get_attr("name")?.to_string());
    if lock.get_attr("shared")?.is_true() {
        text.push_str(" (shared)");
    }
    if let Ok(mut units) = lock.get_attr("units")?.try_iter()
        && let (Some(count), Some(of)) = (units.next(), units.next())
    {
        let _ = write!(text, " ({count} of {of})");
    }
    if let Some(variable) = lock.get_attr("env")?.as_str() {
        let _ = write!(text, " in `${variable}`");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_quotation() {
        assert_eq!(code("make test"), "`make test`");
        assert_eq!(code("echo `date`"), "`` echo `date` ``");
        assert_eq!(code("a\nb"), "`a b`");
        assert_eq!(fenced("done\n"), "```text\ndone\n```");
        assert_eq!(fenced("a\n````\nb\u{1b}[2J"), "`````text\na\n````\nb[2J\n`````");
    }
}
