//! How the work of tasks is brought together.

use super::{Checker, DEFAULT_TIMEOUT, agents::template_help};
use crate::plan::{
    Epic, Merging, MessageField, MessageTemplate, Task,
    path::Path,
    problem::Finding,
    spec::{Isolation, Strategy},
};

impl Checker<'_> {
    pub(super) fn merging(&mut self) -> Merging {
        let merge = &self.spec.merge;
        let path = Path::from("merge");
        self.timeout(merge.timeout, &path);
        self.verify(&merge.verify, &path);
        if merge.batch == Some(0) {
            let finding = Finding::new(path.then("batch"), "`batch` is 0: nothing could be merged");
            self.report(finding.help("write 1 or more, or leave it out"));
        }
        for (key, is_given) in
            [("batch", merge.batch.is_some()), ("timeout", merge.timeout.is_some())]
        {
            if is_given && merge.verify.is_empty() {
                let message =
                    format!("`{key}` has no effect where nothing verifies the merged result");
                let finding = Finding::new(path.then(key), message).on_key();
                self.report(finding.help(format!("write `verify`, or remove `{key}`")));
            }
        }
        let strategy = merge.strategy.unwrap_or_default();
        for (key, is_given) in [
            ("verify", !merge.verify.is_empty()),
            ("message", merge.message.is_some()),
            ("on_conflict", merge.on_conflict.is_some()),
        ] {
            if is_given && strategy == Strategy::None {
                let message = format!("`{key}` has no effect where nothing is merged");
                let finding = Finding::new(path.then(key), message).on_key();
                self.report(finding.help(format!("remove `{key}`, or choose another `strategy`")));
            }
        }
        self.resolver(&path);
        Merging {
            resolver: merge.resolver.clone(),
            strategy,
            message: self.message(&path),
            verify: merge.verify.clone(),
            timeout: merge.timeout.unwrap_or(DEFAULT_TIMEOUT).0,
            batch: merge.batch.map_or(1, |batch| batch.max(1) as usize),
        }
    }

    fn message(&mut self, path: &Path) -> Option<MessageTemplate> {
        let text = self.spec.merge.message.as_deref()?;
        self.text(text, "message", path);
        match MessageTemplate::new(text) {
            Ok(template) => Some(template),
            Err(error) => {
                let help = template_help(&error, &MessageField::ALL.map(MessageField::name));
                self.report(Finding::new(path.then("message"), error.to_string()).help(help));
                None
            }
        }
    }

    /// Where nothing is merged, no task finds the work of another one.
    pub(super) fn stays_apart(&mut self, strategy: Strategy, tasks: &[Task], epics: &[Epic]) {
        if strategy != Strategy::None {
            return;
        }
        let help = "write `after` where only the order matters, or choose another `strategy`";
        for (index, task) in tasks.iter().enumerate() {
            let leaves_work = |needed: &&Task| needed.isolation != Isolation::None;
            let needed = task.needs.iter().map(|needed| &tasks[needed.get()]).find(leaves_work);
            if let Some(needed) = needed {
                let message = format!(
                    "`{}` would not find the work of `{}`: with `strategy = \"none\"` nothing is merged",
                    task.id, needed.id
                );
                let path = Path::element("task", index).then("needs");
                self.report(Finding::new(path, message).on_key().help(help));
            }
        }
        for (index, epic) in epics.iter().enumerate().filter(|(_, epic)| !epic.needs.is_empty()) {
            let message = format!(
                "the tasks of `{}` would not find the work of other epics: with `strategy = \"none\"` nothing is merged",
                epic.id
            );
            let path = Path::element("epic", index).then("needs");
            self.report(
                Finding::new(path, message)
                    .on_key()
                    .help("write `after` in its tasks where only the order matters, or choose another `strategy`"),
            );
        }
    }
}
