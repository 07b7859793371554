//! What goes wrong with worktrees and merges.

use std::path::PathBuf;

use crate::ports::BoxError;

/// Why a worktree or a merge failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorktreeError {
    /// Git is not installed.
    #[error("can't run git: {source}; install git 2.38 or newer")]
    NoGit {
        /// What the system said.
        source: std::io::Error,
    },
    /// Git is too old.
    #[error("git {found} is too old: orch needs 2.38 or newer for `git merge-tree --write-tree`")]
    GitTooOld {
        /// The version found.
        found: String,
    },
    /// The folder belongs to no repository.
    #[error("{path} is not in a git repository; run `git init` there, or name one with --repo")]
    NotARepository {
        /// The folder.
        path: PathBuf,
    },
    /// The target branch can't be used.
    #[error("{message}")]
    Target {
        /// What is wrong, and the cure.
        message: String,
    },
    /// A git command failed.
    #[error("`git {command}` ended with {status}: {stderr}")]
    Git {
        /// The subcommand and its arguments.
        command: String,
        /// The exit status, for people.
        status: String,
        /// What it printed, shortened.
        stderr: String,
    },
    /// What was asked for would touch what is not its to touch, or there is nothing to do it to. Nothing
    /// was changed.
    #[error("{message}")]
    Refused {
        /// Why, and the cure.
        message: String,
    },
    /// Going on would lose work.
    #[error("{path} is kept: {reason}")]
    WouldLoseWork {
        /// The worktree.
        path: PathBuf,
        /// What would be lost.
        reason: String,
    },
    /// Something was changed that makes git run programs, or leads it elsewhere.
    #[error("{}", crate::outcome::tampered(changes))]
    Tampered {
        /// What, each as a sentence.
        changes: Vec<String>,
    },
    /// A system call failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// An error of a foreign implementation.
    #[error(transparent)]
    Other {
        /// The error.
        source: BoxError,
    },
}

impl WorktreeError {
    /// What an implementation answers that can't do this.
    pub(super) fn unsupported(what: &str) -> Self {
        Self::Other { source: format!("this implementation can't {what}").into() }
    }
}
