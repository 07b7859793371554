use std::collections::BTreeSet;

use orch_model::ValidPlan;
use proptest::prelude::*;

use super::*;
use crate::testing::{Oracle, any_plan, at, names, plan};

fn frontier(plan: &ValidPlan) -> Frontier {
    Frontier::new(Arc::new(Graph::new(plan)))
}

/// Resolves tasks one after the other and tells what followed: `task: ready | skipped(because)`.
fn tell(text: &str, ends: &[(&str, Ended)]) -> Vec<String> {
    let plan = plan(text);
    let mut frontier = frontier(&plan);
    let mut told = vec![names(&plan, &frontier.initially_ready())];
    for (task, ended) in ends {
        let resolved = frontier.resolve(at(&plan, task), *ended);
        let mut line = names(&plan, &resolved.ready);
        for (task, because) in &resolved.skipped {
            line += &format!(" -{}({})", plan.task(*task).id, plan.task(*because).id);
        }
        told.push(line.trim().into());
    }
    told
}

use Ended::{Failed, Succeeded};

#[test]
fn success_releases_what_waits_for_nothing_else() {
    let told = tell(
        "d <b <c\nb <a\nc <a ~x\na\nx",
        &[("a", Succeeded), ("x", Failed), ("c", Succeeded), ("b", Succeeded)],
    );
    assert_eq!(told, ["a x", "b", "c", "", "d"]);
}

#[test]
fn failure_skips_all_that_need_it_and_releases_what_comes_after() {
    let told = tell("a\nb <a\nc <b\nd <a <c\nlast ~c ~a", &[("a", Failed)]);
    assert_eq!(told, ["a", "last -b(a) -c(b) -d(a)"]);
}

#[test]
fn an_epic_fails_with_its_first_task_and_opens_with_its_last() {
    let text = "epic x\nepic y x\nepic z y\na @x\nb @x\nc @y\nd @z\nend ~d";
    let told = tell(text, &[("a", Succeeded), ("b", Succeeded), ("c", Succeeded)]);
    assert_eq!(told, ["a b", "", "c", "d"]);
    let told = tell(text, &[("b", Failed), ("a", Failed)]);
    assert_eq!(told, ["a b", "end -c(b) -d(c)", ""]);
}

#[test]
fn a_blocked_task_can_be_cancelled() {
    let told = tell(
        "a\nb <a\nc <b\nd ~b\ne ~b ~a",
        &[("b", Failed), ("b", Failed), ("c", Succeeded), ("a", Succeeded)],
    );
    assert_eq!(told, ["a", "d -c(b)", "", "", "e"], "neither twice nor after it has ended");
}

#[test]
fn it_says_what_a_task_waits_for() {
    let plan = plan("epic x\nepic y x\na @x\nb @x\nc\nd @y <c <a ~b");
    let mut frontier = frontier(&plan);
    let wait = |frontier: &Frontier, limit| {
        names(&plan, &frontier.unresolved_dependencies(at(&plan, "d"), limit))
    };
    assert_eq!(wait(&frontier, 9), "a b c");
    assert_eq!(wait(&frontier, 2), "a b");
    frontier.resolve(at(&plan, "a"), Succeeded);
    assert_eq!(wait(&frontier, 9), "b c");
    frontier.resolve(at(&plan, "c"), Succeeded);
    frontier.resolve(at(&plan, "b"), Succeeded);
    assert_eq!(wait(&frontier, 9), "");
    assert!(frontier.is_ready(at(&plan, "d")) && !frontier.is_resolved(at(&plan, "d")));
    assert_eq!(names(&plan, &frontier.ready()), "d");
    assert_eq!((frontier.unresolved(), frontier.graph().len()), (1, 4));
}

#[test]
fn what_an_epic_brings_is_waited_for() {
    let plan = plan("epic x\nepic y x\na @x\nb @x\nd @y");
    let frontier = frontier(&plan);
    assert_eq!(names(&plan, &frontier.unresolved_dependencies(at(&plan, "d"), 9)), "a b");
    assert_eq!(names(&plan, &frontier.unresolved_dependencies(at(&plan, "d"), 1)), "a");
    assert_eq!(names(&plan, &frontier.unresolved_dependencies(at(&plan, "d"), 0)), "");
}

/// What has become of a task in the model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Open,
    Succeeded,
    Failed,
}

/// Readiness worked out from scratch after every end.
struct Model {
    oracle: Oracle,
    fates: Vec<Fate>,
    reported: BTreeSet<usize>,
}

impl Model {
    fn is_ready(&self, task: usize) -> bool {
        self.fates[task] == Fate::Open
            && self.oracle.hard[task].iter().all(|t| self.fates[*t] == Fate::Succeeded)
            && self.oracle.soft[task].iter().all(|t| self.fates[*t] != Fate::Open)
    }

    /// Skips until nothing changes; returns (newly ready, newly skipped).
    fn settle(&mut self) -> (Vec<usize>, Vec<usize>) {
        let mut skipped = BTreeSet::new();
        while let Some(task) = (0..self.fates.len()).find(|task| {
            self.fates[*task] == Fate::Open
                && self.oracle.hard[*task].iter().any(|t| self.fates[*t] == Fate::Failed)
        }) {
            self.fates[task] = Fate::Failed;
            skipped.insert(task);
        }
        let ready: Vec<_> = (0..self.fates.len())
            .filter(|task| self.is_ready(*task) && !self.reported.contains(task))
            .collect();
        self.reported.extend(&ready);
        (ready, skipped.into_iter().collect())
    }
}

proptest! {
    #[test]
    fn it_agrees_with_readiness_from_scratch(
        plan in any_plan(1..24),
        choices in proptest::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 200),
    ) {
        let mut frontier = frontier(&plan);
        let tasks = plan.tasks().len();
        let mut model = Model {
            oracle: Oracle::new(&plan),
            fates: vec![Fate::Open; tasks],
            reported: BTreeSet::new(),
        };
        let number = |tasks: &[TaskIndex]| -> Vec<usize> { tasks.iter().map(|t| t.get()).collect() };
        prop_assert_eq!(number(&frontier.initially_ready()), model.settle().0);
        let mut choices = choices.into_iter();
        let mut told = BTreeSet::new();
        while frontier.unresolved() > 0 {
            let (which, outcome) = choices.next().expect("every turn ends a task");
            // Mostly a task that is ready; now and then one that is blocked.
            let open: Vec<_> = (0..tasks).filter(|t| model.fates[*t] == Fate::Open).collect();
            let ready: Vec<_> = open.iter().copied().filter(|t| model.is_ready(*t)).collect();
            prop_assert!(!ready.is_empty(), "something can always run");
            prop_assert_eq!(number(&frontier.ready()), ready.clone());
            let from = if outcome == 0 { &open } else { &ready };
            let task = *which.get(from);
            for other in &open {
                let waits = model.oracle.before(*other);
                let waits: BTreeSet<_> =
                    waits.into_iter().filter(|t| model.fates[*t] == Fate::Open).collect();
                let found = frontier.unresolved_dependencies(TaskIndex::from(*other), usize::MAX);
                prop_assert_eq!(number(&found).into_iter().collect::<BTreeSet<_>>(), waits);
            }
            let ended = if outcome < 2 { Failed } else { Succeeded };
            model.fates[task] = if ended == Failed { Fate::Failed } else { Fate::Succeeded };
            told.insert(task);
            let resolved = frontier.resolve(TaskIndex::from(task), ended);
            let (ready, skipped) = model.settle();
            prop_assert_eq!(number(&resolved.ready), ready);
            let found: Vec<_> = resolved.skipped.iter().map(|(task, _)| task.get()).collect();
            prop_assert_eq!(&found, &skipped);
            for (task, because) in resolved.skipped {
                prop_assert!(model.oracle.hard[task.get()].contains(&because.get()));
                prop_assert_eq!(model.fates[because.get()], Fate::Failed);
                prop_assert!(told.insert(task.get()), "reported once");
            }
            let left = model.fates.iter().filter(|fate| **fate == Fate::Open).count();
            prop_assert_eq!(frontier.unresolved(), left);
        }
        prop_assert_eq!(told.len(), tasks, "every task ends");
    }
}
