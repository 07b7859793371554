//! Which settings of a repository the engine's git may have.

/// Settings that neither run a program nor lead elsewhere: formats, how files are written, names of
/// people, how merges and diffs are made.
const NAMES: &[&str] = &[
    "core.abbrev",
    "core.autocrlf",
    "core.bigfilethreshold",
    "core.checkroundtripencoding",
    "core.checkstat",
    "core.commitgraph",
    "core.compression",
    "core.eol",
    "core.excludesfile",
    "core.filemode",
    "core.fsync",
    "core.fsyncmethod",
    "core.ignorecase",
    "core.ignorestat",
    "core.logallrefupdates",
    "core.loosecompression",
    "core.multipackindex",
    "core.precomposeunicode",
    "core.preloadindex",
    "core.protecthfs",
    "core.protectntfs",
    "core.repositoryformatversion",
    "core.safecrlf",
    "core.sharedrepository",
    "core.sparsecheckout",
    "core.sparsecheckoutcone",
    "core.splitindex",
    "core.symlinks",
    "core.trustctime",
    "core.untrackedcache",
    "core.whitespace",
    "diff.algorithm",
    "diff.indentheuristic",
    "diff.renamelimit",
    "diff.renames",
    "extensions.compatobjectformat",
    "extensions.objectformat",
    "extensions.partialclone",
    "extensions.preciousobjects",
    "extensions.refstorage",
    "extensions.relativeworktrees",
    "gpg.format",
    "i18n.commitencoding",
    "i18n.logoutputencoding",
    "lfs.concurrenttransfers",
    "lfs.fetchexclude",
    "lfs.fetchinclude",
    "lfs.repositoryformatversion",
    "lfs.url",
    "merge.conflictstyle",
    "merge.directoryrenames",
    "merge.renamelimit",
    "merge.renames",
    "merge.renormalize",
    "user.email",
    "user.name",
    "user.signingkey",
];

/// The same, whatever their last part is.
const SECTIONS: &[&str] =
    &["author", "checkout", "committer", "feature", "index", "pack", "rerere", "sparse"];

/// The same of remotes: what a partial clone needs to fetch objects that it lacks.
const REMOTE: &[&str] = &["fetch", "partialclonefilter", "promisor", "tagopt", "url"];

/// Whether the engine's git may have a setting of the repository.
pub(super) fn is_harmless(key: &str, value: &str) -> bool {
    if NAMES.contains(&key) {
        return true;
    }
    let Some((section, rest)) = key.split_once('.') else { return false };
    match (section, rest.rsplit_once('.')) {
        ("remote", Some((_, name))) => {
            REMOTE.contains(&name) && !(name == "url" && is_program(value))
        }
        ("http", _) => true,
        (section, None) => SECTIONS.contains(&section),
        _ => false,
    }
}

/// Whether a URL makes git run a program that it names: `ext::sh -c ...`, `foo::...`, or an option
/// in its place.
pub(crate) fn is_program(url: &str) -> bool {
    let helper = url.split_once("::").map(|(helper, _)| helper);
    helper.is_some_and(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)))
        || url.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_a_program_or_leads_elsewhere_is_left_out() {
        for key in [
            "core.bare",
            "core.fsmonitor",
            "core.hookspath",
            "core.worktree",
            "core.sshcommand",
            "core.pager",
            "core.attributesfile",
            "core.alternaterefscommand",
            "filter.x.clean",
            "merge.x.driver",
            "diff.external",
            "diff.x.textconv",
            "gpg.program",
            "gpg.ssh.defaultkeycommand",
            "include.path",
            "includeif.x.path",
            "alias.status",
            "credential.helper",
            "remote.a.uploadpack",
            "remote.a.vcs",
            "url.x.insteadof",
            "extensions.worktreeconfig",
            "gc.recentobjectshook",
            "uploadpack.packobjectshook",
            "submodule.x.update",
            "lfs.customtransfer.x.path",
            "anything.new",
        ] {
            assert!(!is_harmless(key, "x"), "{key}");
        }
        assert!(is_harmless("core.autocrlf", "input"));
        assert!(is_harmless("remote.origin.url", "git@host:path"));
        for url in ["ext::sh -c id", "-oProxyCommand=id"] {
            assert!(!is_harmless("remote.origin.url", url), "{url}");
        }
        assert!(is_harmless("remote.origin.url", "https://[::1]/x"));
    }
}
