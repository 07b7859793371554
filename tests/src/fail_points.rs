//! The fail points of `orch`: which there are, and which of them a call passed.
//!
//! They are found where they stand, in the source: nobody has to keep a list, and one that no scenario
//! reaches is noticed.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
};

use crate::{Orch, TestRepo};

/// What is before the name of a fail point in the source without white space, and what stands for that name
/// in the list: a name that ends with `*` stands for several.
const SIGNS: [(&str, &str); 3] =
    [("point!(", ""), ("orch_faults::write_all(", ""), ("orch_faults::file_point(", "(*)")];

/// A family of fail points whose names are made of what git is called for.
const GIT: &str = "git::*";

/// All fail points that the source has, without `.before` and `.after`. Those of a family are one.
///
/// # Panics
/// Where the source can't be read.
#[must_use]
pub fn registered() -> BTreeSet<String> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut found = BTreeSet::new();
    for file in sources(&crates) {
        if file.components().any(|part| part.as_os_str() == "orch-faults") {
            continue;
        }
        let text = fs::read_to_string(&file).expect("source can be read");
        let dense: String = text.split_whitespace().collect();
        for (sign, family) in SIGNS {
            for (at, _) in dense.match_indices(sign) {
                let rest = &dense[at + sign.len()..];
                if let Some((name, _)) = rest.strip_prefix('"').and_then(|r| r.split_once('"')) {
                    found.insert(format!("{name}{family}"));
                }
            }
        }
        if dense.contains("point!(orch_faults::git_point(") {
            found.insert(GIT.into());
        }
    }
    found
}

/// Whether a point that was passed is one of those that a registered name stands for.
#[must_use]
pub fn is_of(registered: &str, point: &str) -> bool {
    let Some((name, _side)) = point.rsplit_once('.') else { return false };
    match registered.split_once('*') {
        Some((begin, end)) => name.starts_with(begin) && name.ends_with(end),
        None => name == registered,
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the source").filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found
}

/// What happens at a fail point, the first time that it is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// The process is killed.
    Kill,
    /// The operation fails: with EIO before it, or with ENOSPC after it was done.
    Error,
    /// It is late, some times.
    Delay,
}

impl Deed {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kill, Self::Error, Self::Delay];

    /// In the language of `FAILPOINTS`.
    const fn action(self, is_after: bool) -> &'static str {
        match self {
            Self::Kill => "1*return(kill)",
            Self::Error if is_after => "1*return(ENOSPC)",
            Self::Error => "1*return(EIO)",
            Self::Delay => "3*sleep(200)",
        }
    }
}

/// A point, and what happens there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The point, with `.before` or `.after`.
    pub point: String,
    /// What happens.
    pub deed: Deed,
}

/// As `FAILPOINTS` has it.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.point, self.deed.action(self.point.ends_with(".after")))
    }
}

/// That a fail point was passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// The process that passed it.
    pub pid: u32,
    /// The thread of it.
    pub thread: u32,
    /// The point, with `.before` or `.after`.
    pub point: String,
}

/// The file in which a call of `orch` writes down the fail points that it passes.
#[derive(Debug)]
pub struct PointLog(PathBuf);

impl PointLog {
    /// A new one, beside the repository.
    #[must_use]
    pub fn new(repo: &TestRepo) -> Self {
        Self(repo.fresh("points", "log"))
    }

    /// Has a call write it.
    #[must_use]
    pub fn of<'r>(&self, orch: Orch<'r>) -> Orch<'r> {
        orch.env("ORCH_FAULTS_LOG", &self.0)
    }

    /// The points that were passed, in order.
    #[must_use]
    pub fn passed(&self) -> Vec<Passed> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        let line = |line: &str| {
            let mut words = line.split(' ');
            let (pid, thread) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            Some(Passed { pid, thread, point: words.next()?.to_owned() })
        };
        text.lines().filter_map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_found_in_the_source() {
        let found = registered();
        for name in ["journal::append", "journal::sync", "disk::replace(*)", "git::*"] {
            assert!(found.contains(name), "{name} is not among {found:#?}");
        }
        assert!(is_of("disk::replace(*)", "disk::replace(current).before"));
        assert!(is_of("git::*", "git::update-ref.after"));
        assert!(!is_of("journal::sync", "journal::append.after"));
    }
}
