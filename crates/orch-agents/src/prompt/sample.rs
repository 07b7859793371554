//! Examples, which templates are tried with before anything is started.

use std::path::PathBuf;

use minijinja::Value;
use orch_model::{
    CommitId, DomainName, EpicId, RunId, TaskId,
    plan::spec::Expects,
    prompt::{
        LastAttempt, Made, PromptBranch, PromptContext, PromptDependency, PromptEpic, PromptLock,
        PromptText,
    },
};

/// What a template can name.
pub(super) fn names() -> Vec<String> {
    let context = Value::from_serialize(bare());
    let mut names: Vec<String> =
        context.try_iter().into_iter().flatten().map(|name| name.to_string()).collect();
    names.retain(|name| name != "template");
    names.sort_unstable();
    names
}

/// A task of which little is known.
pub(super) fn bare() -> PromptContext {
    let run = RunId::new("20261121-064312-kqzv").expect("an id");
    let task = TaskId::new("login").expect("an id");
    PromptContext::new(run, task, "Log people in.")
}

/// A task of which all is known.
pub(super) fn full() -> PromptContext {
    let made =
        Made::of([("1a2b3c4", "Add the table of users")].into_iter(), ["db/users.sql"].into_iter());
    let commit = CommitId::new("5d6e7f80123456789abcdef0123456789abcdef0");
    PromptContext {
        title: Some("Log people in".into()),
        epic: EpicId::new("auth").ok().map(|id| PromptEpic { id, title: Some("People".into()) }),
        skills: vec![PromptText { name: "style".into(), text: "Be brief.".into() }],
        domain: DomainName::new("api").ok(),
        knowledge: Some("Handlers are in `src/api`.".into()),
        dependencies: vec![PromptDependency {
            task: TaskId::new("schema").expect("an id"),
            title: Some("The tables".into()),
            is_merged: true,
            attempt: 1,
            summary: Some("Added the table.".into()),
            commit: Some(commit.short().to_owned()),
            made: made.clone(),
        }],
        more_dependencies: 1,
        branch: Some(PromptBranch {
            name: "orch/20261121-064312-kqzv/login".into(),
            base: Some(commit.short().to_owned()),
        }),
        files: vec!["src/**".into()],
        locks: vec![PromptLock {
            name: "ports".into(),
            shared: false,
            units: Some((1, 100)),
            env: Some("PORT".into()),
        }],
        verify: vec!["make test".into()],
        expects: Expects::Explained,
        attempt: 2,
        last: Some(LastAttempt {
            attempt: 1,
            class: "verification".into(),
            message: "`make test` ended with exit code 2".into(),
            conflict: Some("Do it again.".into()),
            output: Some(PathBuf::from("/logs/login.1.log")),
            reference: Some("refs/orch/preserved/r/login/1".into()),
            made,
            said: Some("Done.".into()),
            verification: Some("1 test failed".into()),
        }),
        ..bare()
    }
}
