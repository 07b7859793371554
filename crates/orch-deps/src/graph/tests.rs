use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::testing::{Oracle, any_plan, assert_same, at, names, plan};

const PLAN: &str = "
    epic infra
    epic docs
    epic auth infra docs
    login @auth <schema ~e2e-old
    signup @auth
    schema @infra
    network @infra <schema
    e2e-old
    deploy <login <signup ~login";

#[test]
fn epics_are_expanded() {
    let plan = plan(PLAN);
    let graph = Graph::new(&plan);
    let of = |task| at(&plan, task);
    assert_eq!(names(&plan, &graph.needs(of("login"))), "schema network");
    assert_eq!(names(&plan, &graph.needs(of("signup"))), "schema network");
    assert_eq!(
        graph.waits_for(of("login")),
        [
            (of("schema"), EdgeKind::Hard),
            (of("network"), EdgeKind::Hard),
            (of("e2e-old"), EdgeKind::Soft)
        ]
    );
    assert_eq!(names(&plan, &graph.dependents(of("schema"))), "login signup network");
    assert_eq!(names(&plan, &graph.dependents(of("e2e-old"))), "login");
    assert_eq!(names(&plan, &graph.blocking(of("deploy"))), "login signup schema network e2e-old");
    assert_eq!(names(&plan, &graph.all_dependents(of("network"))), "login signup deploy");
    assert_eq!((graph.len(), graph.is_empty()), (6, false));
}

#[test]
fn what_is_both_needed_and_waited_for_is_needed() {
    let plan = plan("a\nb <a ~a");
    let graph = Graph::new(&plan);
    assert_eq!(graph.waits_for(at(&plan, "b")), [(at(&plan, "a"), EdgeKind::Hard)]);
    assert_eq!(graph.dependent_count(at(&plan, "a")), 1);
}

#[test]
fn two_large_epics_are_a_small_graph() {
    let mut text = String::from("epic first\nepic second first\n");
    for index in 0..5000 {
        text += &format!("a{index} @first\nb{index} @second\n");
    }
    let plan = plan(&text);
    let graph = Graph::new(&plan);
    assert_eq!(graph.graph.edge_count(), 10_001, "not 25 million");
    assert_eq!(graph.dependent_count(at(&plan, "a7")), 5000);
    assert_eq!(graph.needs(at(&plan, "b7")).len(), 5000);
    assert_eq!(graph.waves().len(), 2);
}

#[test]
fn an_epic_without_tasks_holds_nothing_up() {
    let plan = plan("epic empty\nepic full empty\na @full");
    let graph = Graph::new(&plan);
    assert!(graph.needs(at(&plan, "a")).is_empty());
    assert_eq!(graph.roots().count(), 1);
}

#[test]
fn the_critical_path_prefers_time_then_tasks_then_plan_order() {
    let cases = [
        ("long =9s\na =1s\nb =1s <a", "long", 9),
        ("single =2s\na =1s\nb =1s <a", "a b", 2),
        ("b\na\nc <a <b", "b c", 0),
        ("epic x\nepic y x\na @x =3s\nb @x =4s\nc @y =1s", "b c", 5),
    ];
    for (text, path, seconds) in cases {
        let plan = plan(text);
        let graph = Graph::new(&plan);
        let (found, time) =
            graph.critical_path(|task| plan.task(task).estimate.unwrap_or_default());
        assert_eq!((&*names(&plan, &found), time.as_secs()), (path, seconds), "{text}");
    }
}

#[test]
fn an_empty_plan_has_no_path() {
    let plan = plan("a");
    let graph = Graph { tasks: 0, order: Vec::new(), dependents: Vec::new(), ..Graph::new(&plan) };
    assert_eq!(graph.critical_path(|_| Duration::MAX), (Vec::new(), Duration::ZERO));
    assert!(graph.is_empty());
}

#[test]
fn the_larger_bound_is_named() {
    let plan = plan("a =4s\nb =4s\nc =2s <a");
    let graph = Graph::new(&plan);
    let time = |task| plan.task(task).estimate.unwrap_or_default();
    let secs = Duration::from_secs;
    let expected =
        Bounds { critical_path: secs(6), work: secs(10), lower: secs(10), by: BoundBy::Work };
    assert_eq!(graph.bounds(time, 1), expected);
    assert_eq!(graph.bounds(time, 0), expected, "nothing runs at width 0");
    let expected = Bounds { lower: secs(6), by: BoundBy::CriticalPath, ..expected };
    assert_eq!(graph.bounds(time, 2), expected);
    let endless = graph.bounds(|_| Duration::MAX, usize::MAX);
    assert_eq!(endless.lower, Duration::MAX, "sums saturate");
}

/// The time along the longest chain that begins with a task, by trying them all.
fn longest(oracle: &Oracle, durations: &[Duration], task: usize) -> Duration {
    let next = (0..oracle.len()).filter(|other| oracle.before(*other).contains(&task));
    let rest = next.map(|other| longest(oracle, durations, other)).max();
    durations[task] + rest.unwrap_or_default()
}

proptest! {
    #[test]
    fn neighbours_agree_with_the_oracle(plan in any_plan(1..24)) {
        let (graph, oracle) = (Graph::new(&plan), Oracle::new(&plan));
        let closures = oracle.closures();
        for task in plan.indices() {
            let number = task.get();
            assert_same(&graph.needs(task), oracle.hard[number].iter().copied(), "needs");
            let soft: Vec<_> = graph
                .waits_for(task)
                .into_iter()
                .filter_map(|(task, kind)| (kind == EdgeKind::Soft).then_some(task))
                .collect();
            assert_same(&soft, oracle.soft[number].iter().copied(), "soft");
            let dependents = (0..oracle.len()).filter(|other| oracle.before(*other).contains(&number));
            let found = graph.dependents(task);
            assert_same(&found, dependents, "dependents");
            prop_assert_eq!(found.len(), graph.dependent_count(task));
            assert_same(&graph.blocking(task), closures[number].iter().copied(), "blocking");
            let all = (0..oracle.len()).filter(|other| closures[*other].contains(&number));
            assert_same(&graph.all_dependents(task), all, "all dependents");
        }
    }

    #[test]
    fn masks_agree_with_the_oracle(plan in any_plan(1..80)) {
        let (graph, oracle) = (Graph::new(&plan), Oracle::new(&plan));
        let closures = oracle.closures();
        let tasks: Vec<_> = plan.indices().collect();
        for block in tasks.chunks(BLOCK) {
            let masks = graph.ordered_with(block);
            for (a, mask) in masks.iter().enumerate() {
                for (bit, b) in block.iter().enumerate() {
                    let ordered = a == b.get()
                        || closures[a].contains(&b.get())
                        || closures[b.get()].contains(&a);
                    prop_assert_eq!(mask & (1 << bit) != 0, ordered, "{} and {:?}", a, b);
                }
            }
        }
    }

    #[test]
    fn the_critical_path_is_the_longest_of_all_chains(plan in any_plan(1..10)) {
        let (graph, oracle) = (Graph::new(&plan), Oracle::new(&plan));
        let durations: Vec<_> =
            plan.tasks().iter().map(|task| task.estimate.unwrap_or_default()).collect();
        let (path, time) = graph.critical_path(|task| durations[task.get()]);
        let expected = (0..oracle.len()).map(|task| longest(&oracle, &durations, task)).max();
        prop_assert_eq!(Some(time), expected);
        prop_assert_eq!(path.iter().map(|task| durations[task.get()]).sum::<Duration>(), time);
        for pair in path.windows(2) {
            prop_assert!(oracle.before(pair[1].get()).contains(&pair[0].get()), "a chain: {:?}", path);
        }
    }
}
