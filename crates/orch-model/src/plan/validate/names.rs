//! Names of branches, files and variables: what git, the file system and `execve` refuse.
//!
//! Each check gives what is wrong and how to mend it.

type Check = Result<(), (String, String)>;

fn refuse(message: impl Into<String>, help: impl Into<String>) -> Check {
    Err((message.into(), help.into()))
}

/// The rules of `git check-ref-format --branch`.
pub(super) fn branch(name: &str) -> Check {
    let help = "write the name of a branch, such as `main`";
    if name.is_empty() {
        return refuse("the name of the target branch is empty", help);
    }
    let is_bad = |c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c);
    if let Some(character) = name.chars().find(|c| is_bad(*c)) {
        return refuse(format!("git allows no {character:?} in the name of a branch"), help);
    }
    if name.starts_with('-') {
        return refuse("the name of a branch can't begin with a dash", help);
    }
    for part in ["..", "@{", "//"] {
        if name.contains(part) {
            return refuse(format!("git allows no `{part}` in the name of a branch"), help);
        }
    }
    let is_bad_part =
        |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    if name == "@" || name == "HEAD" || name.ends_with('.') || name.split('/').any(is_bad_part) {
        return refuse(format!("git allows no branch with the name `{name}`"), help);
    }
    Ok(())
}

/// A glob relative to the repository.
pub(super) fn file_glob(pattern: &str) -> Check {
    let write = |pattern: &str| format!("write `{pattern}`");
    if pattern.is_empty() {
        return refuse(
            "the glob is empty",
            "write for example `src/auth/**`, or `**` for all files",
        );
    }
    if pattern.starts_with('/') {
        let relative = pattern.trim_start_matches('/');
        return refuse(
            "the glob is absolute; globs are relative to the repository",
            write(relative),
        );
    }
    if let Some(relative) = pattern.strip_prefix("./") {
        return refuse("the glob begins with `./`, which never matches", write(relative));
    }
    if pattern.split('/').any(|part| part == "..") {
        return refuse("the glob contains `..`", "name files of the repository, from its root");
    }
    if pattern.ends_with('/') {
        return refuse(
            "the glob names a folder, which matches no file",
            write(&format!("{pattern}**")),
        );
    }
    match glob::Pattern::new(pattern) {
        Ok(_) => Ok(()),
        Err(error) => {
            let help = "`**` stands alone between slashes; a literal `[`, `*` or `?` is written `[[]`, `[*]`, `[?]`";
            refuse(
                format!("bad glob `{pattern}`: {} (at character {})", error.msg, error.pos),
                help,
            )
        }
    }
}

/// A file relative to the repository.
pub(super) fn file(path: &str) -> Check {
    let help =
        "give the path of a file in the repository, from its root, such as `prompts/login.md`";
    if path.trim().is_empty() {
        return refuse("the path is empty", help);
    }
    if path.contains('\0') {
        return refuse("the path contains a NUL character", help);
    }
    if path.starts_with('/') {
        return refuse("the path is absolute; it has to be relative to the repository", help);
    }
    if path.split('/').any(|part| part == "..") {
        return refuse("the path contains `..`", help);
    }
    Ok(())
}

/// A variable of the environment.
pub(super) fn variable(name: &str) -> Check {
    let help = "write for example `RUST_LOG = \"info\"`";
    if name.is_empty() {
        return refuse("the name of a variable is empty", help);
    }
    if let Some(character) = name.chars().find(|c| matches!(c, '=' | '\0')) {
        return refuse(format!("the name of a variable can't contain {character:?}"), help);
    }
    if name.starts_with("ORCH_") {
        return refuse(
            format!("`{name}` is reserved: orch sets the variables `ORCH_...` itself"),
            "choose another name",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(check: fn(&str) -> Check, good: &[&str], bad: &[(&str, &str)]) {
        for name in good {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for (name, expected) in bad {
            let (message, help) = check(name).expect_err(name);
            assert!(message.contains(expected), "{name}: {message}");
            assert!(!help.is_empty());
        }
    }

    #[test]
    fn branches() {
        check(
            branch,
            &["main", "feature/x-1", "é", "a@b", "x.y"],
            &[
                ("", "empty"),
                ("a b", "' '"),
                ("a~1", "'~'"),
                ("a\u{7f}", "\\u{7f}"),
                ("-x", "dash"),
                ("a..b", "`..`"),
                ("a@{1}", "`@{`"),
                ("a//b", "`//`"),
                ("@", "`@`"),
                ("HEAD", "`HEAD`"),
                ("a.", "`a.`"),
                ("/a", "`/a`"),
                ("a/", "`a/`"),
                ("a/.b", "`a/.b`"),
                ("a.lock/b", "`a.lock/b`"),
            ],
        );
    }

    #[test]
    fn globs() {
        check(
            file_glob,
            &["src/**", "**", "a/*.rs", "[ab].c", "Makefile", "..a"],
            &[
                ("", "empty"),
                ("/etc/*", "absolute"),
                ("./a", "`./`"),
                ("a/../b", "`..`"),
                ("src/", "folder"),
                ("a***", "bad glob"),
                ("a[", "bad glob"),
            ],
        );
        assert_eq!(file_glob("src/").unwrap_err().1, "write `src/**`");
        assert_eq!(file_glob("//a").unwrap_err().1, "write `a`");
    }

    #[test]
    fn files() {
        let bad = [(" ", "empty"), ("a\0", "NUL"), ("/a", "absolute"), ("a/..", "`..`")];
        check(file, &["a", "prompts/login.md", "..a"], &bad);
    }

    #[test]
    fn variables() {
        let bad = [("", "empty"), ("A=B", "'='"), ("A\0", "'\\0'"), ("ORCH_RUN_ID", "reserved")];
        check(variable, &["A", "a.b", "ORCHARD"], &bad);
    }
}
