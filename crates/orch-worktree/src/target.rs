//! Where the results of a run go: to a branch of the repository, or to one of a remote.

use orch_model::{CommitId, ports::WorktreeError};

use crate::{
    error::target_error,
    names::{self, HEADS},
    parse::listed,
    repo::Repo,
};

/// Where git keeps what it knows of the branches of remotes.
pub(crate) const REMOTES: &str = "refs/remotes/";

/// The branch that the results of a run are brought to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A branch of the repository, without `refs/heads/`.
    Branch(String),
    /// A branch of a remote. No branch of the repository has a part in it.
    Remote { remote: String, branch: String },
}

impl Target {
    /// As people write it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Branch(branch) => branch.clone(),
            Self::Remote { remote, branch } => format!("{remote}/{branch}"),
        }
    }

    /// What stands for it in the repository.
    pub(crate) fn reference(&self) -> String {
        match self {
            Self::Branch(branch) => names::head(branch),
            Self::Remote { remote, branch } => format!("{REMOTES}{remote}/{branch}"),
        }
    }

    /// What a reference stands for, or a name such as `origin/main`, given the remotes. Names of remotes
    /// may have slashes.
    fn of_remote<'r>(name: &str, remotes: impl Iterator<Item = &'r str>) -> Option<Self> {
        let of = |remote: &'r str| Some((remote, name.strip_prefix(remote)?.strip_prefix('/')?));
        let (remote, branch) = remotes.filter_map(of).max_by_key(|(remote, _)| remote.len())?;
        (!branch.is_empty()).then(|| Self::Remote { remote: remote.into(), branch: branch.into() })
    }
}

impl Repo {
    /// What a plan calls the target. A branch of the repository comes first.
    pub(crate) async fn target_named(&self, name: &str) -> Result<Target, WorktreeError> {
        let name = name.strip_prefix(HEADS).unwrap_or(name);
        if !name.contains('/')
            || self.refs(&[names::head(name)]).await?.contains_key(&names::head(name))
        {
            return Ok(Target::Branch(name.to_owned()));
        }
        let remotes = self.git.plain().line(["remote"]).await?;
        let remote = Target::of_remote(name, remotes.lines());
        Ok(remote.unwrap_or_else(|| Target::Branch(name.to_owned())))
    }

    /// The target that a reference stands for.
    pub(crate) async fn target_of(&self, reference: &str) -> Result<Target, WorktreeError> {
        let Some(name) = reference.strip_prefix(REMOTES) else {
            let branch = reference.strip_prefix(HEADS).unwrap_or(reference);
            return Ok(Target::Branch(branch.to_owned()));
        };
        let remotes = self.git.plain().line(["remote"]).await?;
        let found = Target::of_remote(name, remotes.lines());
        // Somebody removed the remote: to bring the results there fails, and says so.
        let first = name.split('/').take(1);
        found.or_else(|| Target::of_remote(name, first)).ok_or_else(|| {
            target_error(format!("{reference} is no branch of a remote, so it can't be a target"))
        })
    }

    /// Where a target stands as a run begins. One that doesn't exist is to be made from the base.
    pub(crate) async fn start_of(
        &self,
        target: &Target,
        base: Option<&str>,
    ) -> Result<CommitId, WorktreeError> {
        let heads = self.refs(&[HEADS]).await?;
        if heads.contains_key("refs/heads/orch") {
            return Err(target_error(
                "a branch named `orch` is in the way of the branches `orch/<run>/<task>`; rename it with `git branch -m orch NEW-NAME`",
            ));
        }
        let tip = match target {
            Target::Branch(branch) => heads.get(&names::head(branch)).map(|r| r.commit.clone()),
            Target::Remote { remote, branch } => self.fetch(remote, branch).await?,
        };
        match (tip, base) {
            (Some(tip), _) => Ok(tip),
            (None, Some(base)) => self.commit_named(base, target).await,
            (None, None) => match target {
                Target::Branch(branch) => {
                    let known = heads.keys().filter(|name| !name.starts_with(names::OURS));
                    let known: Vec<_> = known.filter_map(|n| n.strip_prefix(HEADS)).collect();
                    Err(no_such_branch(branch, &known))
                }
                Target::Remote { remote, branch } => Err(target_error(format!(
                    "there is no branch `{branch}` in the remote `{remote}`; to have it made, give the run a `base`, such as `HEAD`"
                ))),
            },
        }
    }

    /// The commit that a branch or tag of the user's checkout names.
    async fn commit_named(&self, base: &str, target: &Target) -> Result<CommitId, WorktreeError> {
        let git = self.git.on_repository(&self.top_admin);
        let commit = format!("{base}^{{commit}}");
        let arguments = ["rev-parse", "--verify", "-q", "--end-of-options", &commit];
        let answer = git.call(arguments).answer().await?;
        match answer.success() {
            Ok(out) => Ok(CommitId::new(String::from_utf8_lossy(&out).trim_end())),
            Err(_) => Err(target_error(format!(
                "there is no branch, tag or commit `{base}` to make `{}` from",
                target.name()
            ))),
        }
    }
}

fn no_such_branch(target: &str, branches: &[&str]) -> WorktreeError {
    if branches.is_empty() {
        return target_error(format!(
            "branch `{target}` has no commits yet; make a first one: `git add . && git commit -m first`"
        ));
    }
    let mut similar: Vec<(f64, &str)> = branches
        .iter()
        .map(|name| (strsim::jaro_winkler(target, name), *name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .collect();
    similar.sort_by(|a, b| b.0.total_cmp(&a.0));
    let similar: Vec<&str> = similar.into_iter().map(|(_, name)| name).take(3).collect();
    let cure = if similar.is_empty() {
        format!(
            "make it with `git branch -- {target}`, or give the run a `base`, such as `HEAD`, to have it made, or name one of {}",
            listed(branches)
        )
    } else {
        format!("did you mean {}?", listed(&similar))
    };
    target_error(format!("there is no branch `{target}`; {cure}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_of_a_remote_counts() {
        let remotes = ["origin", "origin/fork", "o"];
        let parts = |name: &str| match Target::of_remote(name, remotes.into_iter()) {
            Some(Target::Remote { remote, branch }) => Some((remote, branch)),
            _ => None,
        };
        let some = |remote: &str, branch: &str| Some((remote.to_owned(), branch.to_owned()));
        assert_eq!(parts("origin/main"), some("origin", "main"));
        assert_eq!(parts("origin/a/b"), some("origin", "a/b"));
        assert_eq!(parts("origin/fork/a"), some("origin/fork", "a"));
        for none in ["originally/main", "origin", "origin/", "main"] {
            assert_eq!(parts(none), None, "{none}");
        }
    }
}
