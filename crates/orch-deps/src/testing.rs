//! Plans for tests: a line per task or epic.

use std::{collections::BTreeSet, fmt::Debug, ops::Range};

use orch_model::{
    EpicId, LockName, PlanSpec, TaskId, TaskIndex, ValidPlan,
    plan::spec::{EpicSpec, LockSpec, TaskSpec},
};
use proptest::prelude::*;

/// Reads `epic ID NEEDED...` and `ID @epic <needed ~after p0 =5m f:glob l:lock l:lock:shared
/// l:lock:1/2 # title`; all but the id may be left out.
pub(crate) fn plan(text: &str) -> ValidPlan {
    ValidPlan::new(spec(text)).expect("a valid plan")
}

pub(crate) fn spec(text: &str) -> PlanSpec {
    let mut spec = PlanSpec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (words, title) =
            line.split_once(" # ").map_or((line, None), |(words, title)| (words, Some(title)));
        let mut words = words.split_whitespace();
        let first = words.next().expect("a word");
        if first == "epic" {
            let mut ids = words.map(|word| EpicId::new(word).expect("an id"));
            let id = ids.next().expect("the id of an epic");
            spec.epics.push(EpicSpec {
                id,
                title: title.map(Into::into),
                template: None,
                needs: ids.collect(),
            });
            continue;
        }
        let mut task = TaskSpec::new(id(first)).run("true");
        task.title = title.map(Into::into);
        words.for_each(|word| set(&mut task, word));
        spec.tasks.push(task);
    }
    spec
}

fn set(task: &mut TaskSpec, word: &str) {
    let (sign, rest) = word.split_at(1);
    match sign {
        "@" => task.epic = Some(EpicId::new(rest).expect("an id")),
        "<" => task.needs.push(id(rest)),
        "~" => task.after.push(id(rest)),
        "p" => task.priority = Some(rest.parse().expect("a number")),
        "=" => task.estimate = Some(rest.parse().expect("a duration")),
        "f" => task.files.push(rest[1..].into()),
        "l" => {
            let (name, mode) = rest[1..].split_once(':').unwrap_or((&rest[1..], ""));
            let number = |text: &str| text.parse().expect("a number");
            task.locks.push(LockSpec {
                name: LockName::new(name).expect("a name"),
                shared: mode == "shared",
                counted: mode.split_once('/').map(|(count, of)| (number(count), number(of))),
                pool: None,
            });
        }
        _ => panic!("what is {word:?}?"),
    }
}

fn id(text: &str) -> TaskId {
    TaskId::new(text).expect("an id")
}

/// The position of a task.
pub(crate) fn at(plan: &ValidPlan, task: &str) -> TaskIndex {
    plan.index_of(&id(task)).expect(task)
}

/// Ids with blanks between them.
pub(crate) fn names<'a>(
    plan: &ValidPlan,
    tasks: impl IntoIterator<Item = &'a TaskIndex>,
) -> String {
    let ids: Vec<_> = tasks.into_iter().map(|task| plan.task(*task).id.as_str()).collect();
    ids.join(" ")
}

/// Any plan of so many tasks: up to five epics, needs and afters, priorities, estimates, claims.
pub(crate) fn any_plan(tasks: Range<usize>) -> impl Strategy<Value = ValidPlan> {
    let task = (
        proptest::option::of(0_usize..5),
        proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..4),
        0_u8..5,
        proptest::option::of(0_u64..20),
        proptest::sample::subsequence(
            vec!["src/**", "src/a", "src/a/x.rs", "docs/*.md", "docs/b.md", "Cargo.lock"],
            0..3,
        ),
    );
    let epics = proptest::collection::vec(proptest::collection::vec(any::<bool>(), 5), 5);
    (proptest::collection::vec(task, tasks), epics, any::<prop::sample::Index>()).prop_map(
        |(mut tasks, epics, turn)| {
            // Epics in rising order, needs only backward: no cycle. Then the plan is turned, so that
            // plan order is not the order of the dependencies.
            let mut sorted: Vec<_> = tasks.iter().filter_map(|task| task.0).collect();
            sorted.sort_unstable();
            let mut sorted = sorted.into_iter();
            tasks.iter_mut().for_each(|task| {
                if task.0.is_some() {
                    task.0 = sorted.next();
                }
            });
            let mut lines: Vec<String> = Vec::new();
            for (index, (epic, edges, priority, estimate, files)) in tasks.iter().enumerate() {
                let mut line = format!("t{index} p{priority}");
                line.extend(epic.map(|epic| format!(" @e{epic}")));
                line.extend(estimate.map(|seconds| format!(" ={seconds}s")));
                line.extend(files.iter().map(|glob| format!(" f:{glob}")));
                let mut needs = BTreeSet::new();
                for (other, hard) in edges.iter().filter(|_| index > 0) {
                    let other = other.index(index);
                    if needs.insert(other) {
                        line += &format!(" {}t{other}", if *hard { '<' } else { '~' });
                    }
                }
                lines.push(line);
            }
            let turn = turn.index(lines.len().max(1));
            lines.rotate_left(turn);
            for (index, row) in epics.iter().enumerate() {
                let needs =
                    (0..index).filter(|other| row[*other]).map(|other| format!(" e{other}"));
                lines.push(format!("epic e{index}{}", needs.collect::<String>()));
            }
            plan(&lines.join("\n"))
        },
    )
}

/// Dependencies of every task, expanded without any cleverness.
#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) hard: Vec<BTreeSet<usize>>,
    pub(crate) soft: Vec<BTreeSet<usize>>,
}

impl Oracle {
    pub(crate) fn new(plan: &ValidPlan) -> Self {
        let (mut hard, mut soft) = (Vec::new(), Vec::new());
        for task in plan.tasks() {
            let mut needs: BTreeSet<_> = task.needs.iter().map(|t| t.get()).collect();
            for epic in task.epic.iter().flat_map(|epic| &plan.epics()[epic.get()].needs) {
                needs.extend(plan.epics()[epic.get()].tasks.iter().map(|t| t.get()));
            }
            soft.push(task.after.iter().map(|t| t.get()).filter(|t| !needs.contains(t)).collect());
            hard.push(needs);
        }
        Self { hard, soft }
    }

    pub(crate) fn before(&self, task: usize) -> BTreeSet<usize> {
        &self.hard[task] | &self.soft[task]
    }

    /// By task: all that must end before, found by adding what the known ones wait for until
    /// nothing changes.
    pub(crate) fn closures(&self) -> Vec<BTreeSet<usize>> {
        let mut all: Vec<_> = (0..self.len()).map(|task| self.before(task)).collect();
        loop {
            let more: Vec<BTreeSet<usize>> = all
                .iter()
                .map(|before| before.iter().fold(before.clone(), |sum, t| &sum | &all[*t]))
                .collect();
            if more == all {
                return all;
            }
            all = more;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.hard.len()
    }
}

/// Compares indices with the oracle's numbers.
pub(crate) fn assert_same<'a>(
    found: impl IntoIterator<Item = &'a TaskIndex>,
    expected: impl IntoIterator<Item = usize>,
    what: impl Debug,
) {
    let found: Vec<_> = found.into_iter().map(|task| task.get()).collect();
    let expected: Vec<_> = expected.into_iter().collect();
    assert_eq!(found, expected, "{what:?}");
}
