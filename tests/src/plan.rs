//! Writing plans.

use std::fmt;

use toml::{Table, Value};

use crate::binary;

/// The text of a plan under construction. It knows nothing of what makes a plan valid, so that
/// wrong ones can be written as well.
#[derive(Debug, Clone)]
pub struct Plan {
    run: Table,
    defaults: Table,
    merge: Table,
    agents: Table,
    epics: Vec<Value>,
    tasks: Vec<Value>,
}

impl Default for Plan {
    fn default() -> Self {
        Self::new()
    }
}

impl Plan {
    /// A plan without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self {
            run: Table::new(),
            defaults: Table::new(),
            merge: Table::new(),
            agents: Table::new(),
            epics: Vec::new(),
            tasks: Vec::new(),
        }
    }

    /// Sets a value of `[run]`.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.run.insert(key.into(), value.into());
        self
    }

    /// Sets a value of `[defaults]`.
    #[must_use]
    pub fn default_value(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.defaults.insert(key.into(), value.into());
        self
    }

    /// Sets a value of `[merge]`.
    #[must_use]
    pub fn merge_value(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.merge.insert(key.into(), value.into());
        self
    }

    /// A shell line that verifies what a merge gives.
    #[must_use]
    pub fn verify_merged(self, line: &str) -> Self {
        self.merge_value("verify", list(&[line]))
    }

    /// Adds `[agents.NAME]`: the fake agent with these arguments.
    #[must_use]
    pub fn agent(mut self, name: &str, arguments: &[&str]) -> Self {
        let agent = binary::fake_agent().to_string_lossy();
        let mut table = Table::new();
        table.insert("command".into(), list(&[&[&*agent], arguments].concat()));
        self.agents.insert(name.into(), table.into());
        self
    }

    /// Adds `[agents.NAME]`: a coding agent of a kind, that is at this path.
    #[must_use]
    pub fn coding_agent(mut self, name: &str, kind: &str, program: &str) -> Self {
        let mut table = Table::new();
        table.insert("kind".into(), kind.into());
        table.insert("command".into(), list(&[program]));
        self.agents.insert(name.into(), table.into());
        self
    }

    /// Adds an epic.
    #[must_use]
    pub fn epic(mut self, id: &str, needs: &[&str]) -> Self {
        let mut epic = Table::new();
        epic.insert("id".into(), id.into());
        if !needs.is_empty() {
            epic.insert("needs".into(), list(needs));
        }
        self.epics.push(epic.into());
        self
    }

    /// Adds a task.
    #[must_use]
    pub fn task(mut self, id: impl AsRef<str>, fill: impl FnOnce(Task) -> Task) -> Self {
        let mut task = Table::new();
        task.insert("id".into(), id.as_ref().into());
        self.tasks.push(fill(Task(task)).0.into());
        self
    }
}

/// The TOML text.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut plan = Table::new();
        plan.insert("version".into(), 1.into());
        for (name, table) in [
            ("run", &self.run),
            ("defaults", &self.defaults),
            ("merge", &self.merge),
            ("agents", &self.agents),
        ] {
            if !table.is_empty() {
                plan.insert(name.into(), table.clone().into());
            }
        }
        for (name, list) in [("epic", &self.epics), ("task", &self.tasks)] {
            if !list.is_empty() {
                plan.insert(name.into(), list.clone().into());
            }
        }
        fmt::Display::fmt(&plan, f)
    }
}

/// A task under construction.
#[derive(Debug, Clone)]
pub struct Task(Table);

impl Task {
    /// The fake agent does this.
    #[must_use]
    pub fn script(self, script: impl AsRef<str>) -> Self {
        let agent = binary::fake_agent().to_string_lossy();
        self.set("run", list(&[&*agent, script.as_ref()]))
    }

    /// An agent of the plan gets this prompt.
    #[must_use]
    pub fn prompt(self, agent: &str, prompt: impl AsRef<str>) -> Self {
        self.set("agent", agent).set("prompt", prompt.as_ref())
    }

    /// A shell runs this line.
    #[must_use]
    pub fn shell(self, line: &str) -> Self {
        self.set("run", line)
    }

    /// Tasks that must have been merged before.
    #[must_use]
    pub fn needs<const N: usize>(self, needs: [&str; N]) -> Self {
        self.set("needs", list(&needs))
    }

    /// Tasks that must have ended before.
    #[must_use]
    pub fn after<const N: usize>(self, after: [&str; N]) -> Self {
        self.set("after", list(&after))
    }

    /// Shell lines that verify it.
    #[must_use]
    pub fn verify<const N: usize>(self, lines: [&str; N]) -> Self {
        self.set("verify", list(&lines))
    }

    /// Globs of the files that it writes.
    #[must_use]
    pub fn files<const N: usize>(self, globs: [&str; N]) -> Self {
        self.set("files", list(&globs))
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        let env = self.0.entry("env").or_insert_with(|| Table::new().into());
        if let Value::Table(env) = env {
            env.insert(name.into(), value.into());
        }
        self
    }

    /// Adds an exclusive lock.
    #[must_use]
    pub fn lock(self, name: &str) -> Self {
        self.add_lock(name.into())
    }

    /// Adds a shared lock.
    #[must_use]
    pub fn shared_lock(self, name: &str) -> Self {
        let table = [("name".into(), name.into()), ("shared".into(), true.into())];
        self.add_lock(Table::from_iter(table).into())
    }

    /// Adds units of a counted lock.
    #[must_use]
    pub fn counted_lock(self, name: &str, count: u32, of: u32) -> Self {
        let table = [
            ("name".into(), name.into()),
            ("count".into(), i64::from(count).into()),
            ("of".into(), i64::from(of).into()),
        ];
        self.add_lock(Table::from_iter(table).into())
    }

    /// Adds values of a pool of numbers.
    #[must_use]
    pub fn pool_lock(self, name: &str, range: &str, count: u32, env: &str) -> Self {
        let table = [
            ("pool".into(), name.into()),
            ("range".into(), range.into()),
            ("count".into(), i64::from(count).into()),
            ("env".into(), env.into()),
        ];
        self.add_lock(Table::from_iter(table).into())
    }

    fn add_lock(mut self, lock: Value) -> Self {
        let locks = self.0.entry("locks").or_insert_with(|| Vec::<Value>::new().into());
        if let Value::Array(locks) = locks {
            locks.push(lock);
        }
        self
    }

    /// Sets any other value.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }
}

fn list(items: &[&str]) -> Value {
    items.iter().map(|item| Value::from(*item)).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_written_as_people_would() {
        let text = Plan::new()
            .set("max_concurrency", 4)
            .epic("auth", &["infra"])
            .task("a", |t| t.shell("true").lock("db").shared_lock("ports"))
            .task("b", |t| t.shell("echo \"hi\"").needs(["a"]).env("X", "1"))
            .to_string();
        let expected = [
            "version = 1",
            "[run]\nmax_concurrency = 4",
            "[[epic]]\nid = \"auth\"\nneeds = [\"infra\"]",
            "[[task]]\nid = \"a\"\n",
            "{ name = \"ports\", shared = true }",
            "needs = [\"a\"]",
        ];
        for part in expected {
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
    }
}
