//! Locks: what one task says of them has to agree with itself and with the others.

use std::collections::{HashMap, HashSet};

use super::{Checker, names};
use crate::{
    id::LockName,
    plan::{
        LockClaim, LockMode, PoolValues,
        path::Path,
        problem::Finding,
        spec::{LockSpec, PoolSpec, TaskSpec},
    },
};

fn claim(lock: &LockSpec) -> LockClaim {
    let name = lock.name.clone();
    if let Some(PoolSpec { pool, count }) = &lock.pool {
        return LockClaim::pooled(name, *count, pool.clone());
    }
    let mode = match lock.counted {
        Some((count, of)) => LockMode::Counted { count, of },
        None if lock.shared => LockMode::Shared,
        None => LockMode::Exclusive,
    };
    LockClaim::new(name, mode)
}

/// The claims of one task, by name.
pub(super) fn claims(locks: &[LockSpec]) -> Vec<LockClaim> {
    let mut claims: Vec<_> = locks.iter().map(claim).collect();
    claims.sort_by(|a, b| a.name.cmp(&b.name));
    claims.dedup_by(|a, b| a.name == b.name);
    claims
}

/// What all tasks have to agree on.
#[derive(PartialEq)]
enum Kind<'a> {
    Plain,
    Counted(u32),
    Pool(&'a PoolValues),
}

impl<'a> Kind<'a> {
    fn of(lock: &'a LockSpec) -> Self {
        match (&lock.pool, lock.counted) {
            (Some(pool), _) => Self::Pool(&pool.pool.values),
            (None, Some((_, of))) => Self::Counted(of),
            (None, None) => Self::Plain,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Plain => "a plain lock".into(),
            Self::Counted(of) => format!("a counted lock of {of}"),
            Self::Pool(values) => format!("a pool of {values}"),
        }
    }
}

impl Checker<'_> {
    pub(super) fn locks(&mut self) {
        let spec = self.spec;
        let mut first_use: HashMap<&LockName, (Kind<'_>, Path)> = HashMap::new();
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
                let kind = Kind::of(lock);
                match first_use.get(name) {
                    None => drop(first_use.insert(name, (kind, path))),
                    Some((first, _)) if *first == kind => {}
                    Some((first, place)) => {
                        let place = place.clone();
                        let (here, there) = (kind.describe(), first.describe());
                        let message = format!("`{name}` is {here}, and elsewhere {there}");
                        let help = match (&kind, first) {
                            (Kind::Pool(_), Kind::Pool(_)) => {
                                "give it the same values in every task, or use two pools"
                            }
                            _ => "count it in the same way in every task",
                        };
                        self.report(
                            Finding::new(path, message)
                                .help(help)
                                .related(place, format!("{there} here")),
                        );
                    }
                }
            }
            self.variables_of_pools(task, index);
        }
    }

    /// Text with such amounts is refused as it is read; code may still give them.
    fn amounts(&mut self, lock: &LockSpec, path: &Path) {
        if let Some(pool) = &lock.pool {
            return self.pool(pool, path);
        }
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

    fn pool(&mut self, spec: &PoolSpec, path: &Path) {
        let (count, values) = (spec.count, &spec.pool.values);
        if values.is_empty() {
            let finding = Finding::new(path.clone(), "the pool has no values");
            self.report(finding.help("write for example `values = [\"a\", \"b\"]`"));
        } else if count == 0 || count > values.len() {
            let size = values.len();
            let finding =
                Finding::new(path.clone(), format!("{count} values of {size} can't be held"));
            self.report(finding.help("`count` must be at least 1 and at most the pool's size"));
        }
        if let PoolValues::List(list) = values {
            let mut seen = HashSet::new();
            for value in list {
                let (message, help) = if value.contains('\0') {
                    ("contains a NUL character", "remove it: no program can be given one")
                } else if !seen.insert(value) {
                    ("is in the pool twice", "keep one of the two")
                } else {
                    continue;
                };
                let finding = Finding::new(path.clone(), format!("the value {value:?} {message}"));
                self.report(finding.help(help));
            }
        }
        if let Some(env) = &spec.pool.env
            && let Err((message, help)) = names::variable(env)
        {
            let help = if help.contains("RUST_LOG") {
                "write for example `env = \"PORT\"`"
            } else {
                &*help
            };
            self.report(Finding::new(path.clone(), message).help(help.to_owned()));
        }
    }

    /// A variable that a pool gives may be given by nothing else.
    fn variables_of_pools(&mut self, task: &TaskSpec, index: usize) {
        let mut given: HashMap<String, &LockName> = HashMap::new();
        for (at, lock) in task.locks.iter().enumerate() {
            let Some(PoolSpec { pool, count }) = &lock.pool else { continue };
            let count = (*count).min(pool.values.len());
            let values: Vec<String> = pool.values.iter().take(count as usize).collect();
            let path = || Path::element("task", index).then("locks").then(at);
            for name in pool.variables(&values).into_keys() {
                let by_env =
                    task.env.contains_key(&name) || self.spec.defaults.env.contains_key(&name);
                let by = match given.get(&name) {
                    _ if by_env => "`env`".into(),
                    Some(other) => format!("the pool `{other}`"),
                    None => {
                        given.insert(name, &lock.name);
                        continue;
                    }
                };
                let message = format!("`{name}` is given by the pool `{}` and by {by}", lock.name);
                self.report(
                    Finding::new(path(), message).help("choose another name for one of them"),
                );
                break;
            }
        }
    }
}
