//! Which settings can make git run a program or lead it elsewhere.

use crate::view::is_program;

/// Whole names.
const NAMES: &[&str] = &[
    "core.alternaterefscommand",
    "core.askpass",
    "core.attributesfile",
    "core.bare",
    "core.editor",
    "core.fsmonitor",
    "core.gitproxy",
    "core.hookspath",
    "core.pager",
    "core.sshcommand",
    "core.worktree",
    "diff.external",
    "gc.recentobjectshook",
    "gpg.program",
    "init.templatedir",
    "interactive.difffilter",
    "lfs.standalonetransferagent",
    "sequence.editor",
    "uploadpack.packobjectshook",
];

/// Sections of which everything does.
const SECTIONS: &[&str] = &[
    "alias",
    "browser",
    "credential",
    "difftool",
    "filter",
    "guitool",
    "include",
    "includeif",
    "man",
    "mergetool",
    "pager",
    "protocol",
    "url",
];

/// The section and the last part of names with something in between.
const LAST: &[(&str, &str)] = &[
    ("diff", "command"),
    ("diff", "textconv"),
    ("gpg", "defaultkeycommand"),
    ("gpg", "program"),
    ("lfs", "clean"),
    ("lfs", "path"),
    ("lfs", "smudge"),
    ("merge", "driver"),
    ("remote", "pushurl"),
    ("remote", "receivepack"),
    ("remote", "uploadpack"),
    ("remote", "url"),
    ("remote", "vcs"),
    ("submodule", "update"),
    ("tar", "command"),
    ("trailer", "cmd"),
    ("trailer", "command"),
];

/// What agents set so that git asks nothing: programs that do nothing.
const QUIET: (&[&str], &[&str]) =
    (&["core.editor", "core.pager", "sequence.editor"], &["", ":", "cat", "true"]);

/// Whether a setting, as git lists it, can make git run a program or lead it elsewhere.
pub(super) fn matters(key: &str, value: &str) -> bool {
    if QUIET.0.contains(&key) && QUIET.1.contains(&value) {
        return false;
    }
    let (section, rest) = key.split_once('.').unwrap_or((key, ""));
    let last = rest.rsplit_once('.').map(|(_, last)| last);
    NAMES.contains(&key)
        || SECTIONS.contains(&section)
        || last.is_some_and(|last| LAST.contains(&(section, last)))
}

/// Whether it may be added: another remote does nothing before somebody names it.
pub(super) fn may_be_added(key: &str, value: &str) -> bool {
    let is_address = key.ends_with(".url") || key.ends_with(".pushurl");
    key.starts_with("remote.") && is_address && !value.lines().any(is_program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_and_tools_write_by_themselves_does_not_matter() {
        for key in [
            "branch.feature/x.merge",
            "branch.x.remote",
            "core.repositoryformatversion",
            "core.sparsecheckout",
            "extensions.worktreeconfig",
            "lfs.https://example.com/x.access",
            "lfs.repositoryformatversion",
            "remote.origin.fetch",
            "remote.origin.gh-resolved",
            "user.name",
        ] {
            assert!(!matters(key, "x"), "{key}");
        }
        assert!(!matters("core.pager", "cat") && matters("core.pager", "cat; id"));
        assert!(matters("core.fsmonitor", "true"));
    }

    #[test]
    fn what_runs_a_program_or_leads_elsewhere_matters() {
        for key in [
            "alias.st",
            "core.hookspath",
            "credential.https://x.helper",
            "diff.x.textconv",
            "filter.lfs.required",
            "gpg.ssh.program",
            "include.path",
            "includeif.gitdir:/x.path",
            "lfs.customtransfer.x.path",
            "merge.x.driver",
            "remote.origin.url",
            "submodule.a.b.update",
            "url.ssh://x/.insteadof",
        ] {
            assert!(matters(key, "x"), "{key}");
        }
        assert!(may_be_added("remote.fork.url", "https://example.com/x"));
        assert!(!may_be_added("remote.fork.url", "ext::sh -c id"));
        assert!(!may_be_added("filter.x.url", "x"));
    }
}
