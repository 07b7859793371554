//! Plans of given shapes. The same arguments always give the same plan.

use orch_model::{
    LockName, PlanSpec, TaskId,
    plan::spec::{DefaultsSpec, Isolation, LockSpec, TaskSpec},
};

fn id(index: usize) -> TaskId {
    TaskId::new(format!("t{index}")).expect("a short id")
}

/// A plan of `tasks` tasks that write nothing and are never retried; `shape` says of each by its
/// number which earlier ones it needs.
fn plan(tasks: usize, mut shape: impl FnMut(usize) -> Vec<usize>) -> PlanSpec {
    let mut spec = PlanSpec::new();
    spec.defaults = DefaultsSpec {
        isolation: Some(Isolation::None),
        retries: Some(0),
        ..DefaultsSpec::default()
    };
    for index in 0..tasks {
        let mut task = TaskSpec::new(id(index)).run("true");
        task.needs = shape(index).into_iter().map(id).collect();
        spec.tasks.push(task);
    }
    spec
}

/// Each task needs the one before it.
#[must_use]
pub fn chain(tasks: usize) -> PlanSpec {
    plan(tasks, |index| index.checked_sub(1).into_iter().collect())
}

/// No task needs another.
#[must_use]
pub fn wide(tasks: usize) -> PlanSpec {
    plan(tasks, |_| Vec::new())
}

/// Levels of `width` tasks; each task needs one to three tasks of the level before its own, picked
/// from `seed`.
///
/// # Panics
/// Where `width` is 0.
#[must_use]
pub fn layered(tasks: usize, width: usize, seed: u64) -> PlanSpec {
    let mut random = fastrand::Rng::with_seed(seed);
    plan(tasks, |index| {
        let level = index / width;
        if level == 0 {
            return Vec::new();
        }
        let before = (level - 1) * width..level * width;
        let mut needs: Vec<_> =
            (0..random.usize(1..=3)).map(|_| random.usize(before.clone())).collect();
        needs.sort_unstable();
        needs.dedup();
        needs
    })
}

/// Lets every task of a plan take the same lock, shared, so that all of them may still run
/// together: the cost of keeping books on locks without their effect.
///
/// # Panics
/// Never: the name is a valid one.
#[must_use]
pub fn sharing_a_lock(mut spec: PlanSpec) -> PlanSpec {
    for task in &mut spec.tasks {
        let name = LockName::new("common").expect("a name");
        task.locks.push(LockSpec { name, shared: true, counted: None, pool: None });
    }
    spec
}

/// Lets every task of a plan hold the same lock alone, so that one runs at a time.
///
/// # Panics
/// Never: the name is a valid one.
#[must_use]
pub fn fighting_for_a_lock(mut spec: PlanSpec) -> PlanSpec {
    for task in &mut spec.tasks {
        let name = LockName::new("common").expect("a name");
        task.locks.push(LockSpec { name, shared: false, counted: None, pool: None });
    }
    spec
}

/// Gives every task of a plan a glob of its own: one folder in five belongs to ten tasks, the
/// others to one. Who claims files works in a worktree.
#[must_use]
pub fn with_distinct_globs(mut spec: PlanSpec) -> PlanSpec {
    spec.defaults.isolation = None;
    for (index, task) in spec.tasks.iter_mut().enumerate() {
        task.files = vec![match index % 5 {
            0 => format!("src/common{}/*/f{index}.rs", index / 50),
            _ => format!("src/m{index}/**/*.rs"),
        }];
    }
    spec
}

/// A plan as its file.
///
/// # Panics
/// Where a task has more than an id, a shell line, needs and files; no shape above has, but for
/// locks, which the file leaves out.
#[must_use]
pub fn to_toml(spec: &PlanSpec) -> String {
    let quoted = |words: Vec<&str>| {
        words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
    };
    let mut text = String::from("version = 1\n[defaults]\nretries = 0\n");
    if spec.defaults.isolation == Some(Isolation::None) {
        text.push_str("isolation = \"none\"\n");
    }
    for task in &spec.tasks {
        let needs = quoted(task.needs.iter().map(TaskId::as_str).collect());
        let files = quoted(task.files.iter().map(String::as_str).collect());
        let run = task.run.as_ref().expect("a shell line");
        text.push_str(&format!(
            "\n[[task]]\nid = \"{}\"\nrun = \"{run}\"\nneeds = [{needs}]\nfiles = [{files}]\n",
            task.id
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use orch_model::plan::{self, Format};

    use super::*;

    #[test]
    fn the_file_of_a_plan_is_the_plan() {
        for spec in [chain(5), wide(5), layered(20, 4, 1), with_distinct_globs(layered(20, 4, 2))] {
            let parsed = plan::parse(&to_toml(&spec), Format::Toml).expect("a valid plan");
            assert_eq!(parsed.tasks(), spec.validate().expect("a valid plan").tasks());
        }
    }

    #[test]
    fn layers_need_the_layer_before_and_nothing_else() {
        let spec = layered(100, 10, 3);
        let number = |id: &TaskId| id.as_str()[1..].parse::<usize>().expect("a number");
        for task in &spec.tasks {
            let level = number(&task.id) / 10;
            assert_eq!(task.needs.is_empty(), level == 0, "{}", task.id);
            assert!(task.needs.iter().all(|other| number(other) / 10 + 1 == level));
        }
        assert_eq!(spec, layered(100, 10, 3));
        assert_ne!(spec, layered(100, 10, 4));
    }
}
