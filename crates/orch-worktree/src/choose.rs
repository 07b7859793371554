//! Chooses how worktrees are made.

use std::{fs::File, io::Read, path::Path};

use crate::{kind::TreeKind, repo::Repo};

/// From how many files on anything but a plain worktree is worth what it leaves behind: below, git
/// checks all of them out within some 50 ms.
const MANY: u32 = 1000;

/// How worktrees are made, and why in this way.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TreeChoice {
    /// How; never [`TreeKind::Auto`].
    pub kind: TreeKind,
    /// Why, for a person.
    pub why: String,
}

impl Repo {
    /// How worktrees are made here. Found out once.
    pub(crate) fn choice(&self) -> &TreeChoice {
        self.choice.get_or_init(|| {
            let files = files_in(&self.top_admin.join("index"));
            choose(self.trees.kind, files, || {
                self.overlay.probe().map_err(|error| error.to_string())
            })
        })
    }
}

fn choose(
    wanted: TreeKind,
    files: Option<u32>,
    probe: impl FnOnce() -> Result<(), String>,
) -> TreeChoice {
    let choice = |kind, why: String| TreeChoice { kind, why };
    match wanted {
        TreeKind::Worktree | TreeKind::Pool => choice(wanted, "as configured".into()),
        TreeKind::Overlay => match probe() {
            Ok(()) => choice(wanted, "as configured".into()),
            Err(error) => choice(
                TreeKind::Pool,
                format!("overlay is configured, but can't be used here: {error}"),
            ),
        },
        TreeKind::Auto => {
            if let Some(files) = files.filter(|files| *files < MANY) {
                let why = format!("git checks {files} files out at once");
                return choice(TreeKind::Worktree, why);
            }
            match probe() {
                Ok(()) => choice(TreeKind::Overlay, "overlayfs works here".into()),
                Err(error) => choice(TreeKind::Pool, format!("no overlayfs here: {error}")),
            }
        }
    }
}

/// How many entries an index has; `None` where it can't be read.
fn files_in(index: &Path) -> Option<u32> {
    // "DIRC", the version, the number of entries; see gitformat-index(5).
    let mut header = [0; 12];
    File::open(index).ok()?.read_exact(&mut header).ok()?;
    let number = header[8..].try_into().ok()?;
    header.starts_with(b"DIRC").then(|| u32::from_be_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_takes_the_quickest_that_works() {
        let works = || Ok(());
        let fails = || Err("not permitted".to_owned());
        let auto = |files, probe: fn() -> Result<(), String>| choose(TreeKind::Auto, files, probe);
        assert_eq!(auto(Some(12), works).kind, TreeKind::Worktree);
        assert_eq!(auto(Some(MANY), works).kind, TreeKind::Overlay);
        assert_eq!(auto(None, works).kind, TreeKind::Overlay);
        let pool = auto(Some(50_000), fails);
        assert_eq!(pool.kind, TreeKind::Pool);
        assert!(pool.why.contains("not permitted"));
    }

    #[test]
    fn what_is_configured_holds_where_it_can() {
        for kind in [TreeKind::Worktree, TreeKind::Pool, TreeKind::Overlay] {
            assert_eq!(choose(kind, Some(1), || Ok(())).kind, kind);
        }
        let fails = || Err("not permitted".to_owned());
        assert_eq!(choose(TreeKind::Overlay, Some(1), fails).kind, TreeKind::Pool);
    }

    #[test]
    fn the_index_tells_how_many_files_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("index");
        assert_eq!(files_in(&index), None);
        std::fs::write(&index, b"DIRC\0\0\0\x02\0\0\x27\x10more").unwrap();
        assert_eq!(files_in(&index), Some(10_000));
        std::fs::write(&index, b"something else").unwrap();
        assert_eq!(files_in(&index), None);
    }
}
