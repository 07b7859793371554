//! Locks: what one task says of them has to agree with itself and with the others.

use std::collections::HashMap;

use super::Checker;
use crate::{
    id::LockName,
    plan::{LockClaim, LockMode, path::Path, problem::Finding, spec::LockSpec},
};

pub(super) fn mode(lock: &LockSpec) -> LockMode {
    match lock.counted {
        Some((count, of)) => LockMode::Counted { count, of },
        None if lock.shared => LockMode::Shared,
        None => LockMode::Exclusive,
    }
}

/// The claims of one task, by name.
pub(super) fn claims(locks: &[LockSpec]) -> Vec<LockClaim> {
    let mut claims: Vec<_> =
        locks.iter().map(|lock| LockClaim { name: lock.name.clone(), mode: mode(lock) }).collect();
    claims.sort_by(|a, b| a.name.cmp(&b.name));
    claims.dedup_by(|a, b| a.name == b.name);
    claims
}

fn describe(of: Option<u32>) -> String {
    of.map_or_else(|| "a plain lock".into(), |of| format!("a counted lock of {of}"))
}

impl Checker<'_> {
    pub(super) fn locks(&mut self) {
        let spec = self.spec;
        let mut first_use: HashMap<&LockName, (Option<u32>, Path)> = HashMap::new();
        for (index, task) in spec.tasks.iter().enumerate() {
            for (at, lock) in task.locks.iter().enumerate() {
                let path = Path::element("task", index).then("locks").then(at);
                let name = &lock.name;
                self.amounts(lock, &path);
                if let Some(first) = task.locks[..at].iter().position(|other| other.name == *name) {
                    let first = Path::element("task", index).then("locks").then(first);
                    let message = format!("task `{}` names the lock `{name}` twice", task.id);
                    self.report(
                        Finding::new(path, message)
                            .help("keep one of the two")
                            .related(first, "first named here"),
                    );
                    continue;
                }
                let of = lock.counted.map(|(_, of)| of);
                match first_use.get(name) {
                    None => drop(first_use.insert(name, (of, path))),
                    Some((first, _)) if *first == of => {}
                    Some((first, place)) => {
                        let place = place.clone();
                        let (here, there) = (describe(of), describe(*first));
                        let message = format!("`{name}` is {here}, and elsewhere {there}");
                        let help = "count it in the same way in every task";
                        self.report(
                            Finding::new(path, message)
                                .help(help)
                                .related(place, format!("{there} here")),
                        );
                    }
                }
            }
        }
    }

    /// Text with such amounts is refused as it is read; code may still give them.
    fn amounts(&mut self, lock: &LockSpec, path: &Path) {
        let Some((count, of)) = lock.counted else { return };
        if count == 0 || count > of {
            let finding =
                Finding::new(path.clone(), format!("{count} units of {of} can't be held"));
            self.report(finding.help("`count` must be at least 1 and at most `of`"));
        }
        if lock.shared {
            let finding =
                Finding::new(path.clone(), "a lock is either `shared` or counted, not both");
            self.report(finding.help("leave out `shared`, or `count` and `of`"));
        }
    }
}
