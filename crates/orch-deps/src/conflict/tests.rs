use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::testing::{Oracle, any_plan, at, names, plan};

#[test]
fn tasks_with_the_same_claims_form_a_group() {
    let plan = plan("a f:src/** f:docs\nb f:docs f:src/**\nc f:src/x.rs\nd f:web\ne");
    let conflicts = Conflicts::new(&plan);
    let group = |task| conflicts.group_of(at(&plan, task));
    assert_eq!(group("a"), Some(GroupIndex(0)));
    assert_eq!(group("b"), group("a"), "the order of the claims does not matter");
    assert_eq!((group("c"), group("d")), (Some(GroupIndex(1)), Some(GroupIndex(2))));
    assert_eq!(group("e"), None);
    assert_eq!(conflicts.group_count(), 3);
    assert_eq!(names(&plan, conflicts.tasks_of(GroupIndex(0))), "a b");
    let rows: Vec<_> =
        (0..3).map(|group| conflicts.conflicting_groups(GroupIndex(group))).collect();
    let expected = [vec![0, 1], vec![0, 1], vec![2]].map(|row| row.into_iter().map(GroupIndex));
    assert_eq!(rows, expected.map(Iterator::collect::<Vec<_>>));
    let overlap = |a, b| conflicts.overlap(at(&plan, a), at(&plan, b));
    assert!(overlap("a", "b") && overlap("c", "b") && overlap("d", "d"));
    assert!(!overlap("c", "d") && !overlap("a", "e") && !overlap("e", "e"));
    let pairs: Vec<_> = conflicts.pairs().map(|(a, b)| (a.0, b.0)).collect();
    assert_eq!(pairs, [(0, 1), (0, 2), (1, 2)]);
}

fn clashes(text: &str) -> Vec<String> {
    let plan = plan(text);
    let tell = |clash: Clash| {
        let mut line = format!("{}: {}", clash.glob, names(&plan, &clash.tasks));
        if let Some((other, tasks)) = clash.other {
            line += &format!(" | {other}: {}", names(&plan, &tasks));
        }
        line
    };
    Conflicts::new(&plan).clashes(&Graph::new(&plan)).map(tell).collect()
}

#[test]
fn clashes_are_told_by_glob() {
    assert_eq!(clashes("a f:x\nb f:x\nc f:x/y"), ["x: a b", "x: a b | x/y: c"]);
    assert_eq!(clashes("a f:x\nb f:x <a"), [""; 0], "they wait for one another");
    assert_eq!(clashes("a f:x\nb f:x <a\nc f:x <a"), ["x: b c"]);
    assert_eq!(clashes("a f:x f:x/y\nb f:x"), ["x: a b"], "not again for x/y");
    assert_eq!(clashes("a f:x/y\nb f:x/y\nc f:x"), ["x/y: a b", "x/y: a b | x: c"]);
    assert_eq!(clashes("a f:x\nb f:y"), [""; 0]);
}

/// Ten thousand tasks whose claims say little at a glance.
#[test]
fn ten_thousand_claims_are_compared() {
    let kinds: [fn(usize) -> String; 4] = [
        |n| format!("src/m{n}/**"),
        |n| format!("**/name{}.rs", n % 10),
        |n| format!("crates/*/part{n}"),
        |n| format!("src/m{n}"),
    ];
    let mut text = String::new();
    for index in 0..10_000 {
        text += &format!("t{index} f:{} f:shared\n", kinds[index % 4](index / 4));
    }
    let plan = plan(&text);
    let conflicts = Conflicts::new(&plan);
    assert_eq!(conflicts.group_count(), 7510);
    assert_eq!(conflicts.conflicting_groups(GroupIndex(0)).len(), 7510, "by the shared claim");
    let overlaps = |text: &str| {
        let place = conflicts.globs.iter().position(|glob| &**glob == text).expect(text);
        conflicts.overlaps[place].len()
    };
    assert_eq!(overlaps("shared"), 1 + 10, "itself and every **/name");
    assert_eq!(overlaps("src/m7/**"), 2 + 10, "src/m7 as well");
    assert_eq!(overlaps("crates/*/part7"), 1 + 10);
    assert_eq!(overlaps("**/name1.rs"), 1 + 1 + 3 * 2500);
    let graph = Graph::new(&plan);
    let clashes: Vec<_> = conflicts.clashes(&graph).collect();
    assert_eq!(clashes.iter().map(|clash| clash.tasks.len()).max(), Some(10_000));
    assert_eq!(conflicts.pairs_unordered(&graph).take(10).count(), 10);
}

proptest! {
    #[test]
    fn pairs_agree_with_comparing_everything(plan in any_plan(1..40)) {
        let (graph, oracle) = (Graph::new(&plan), Oracle::new(&plan));
        let conflicts = Conflicts::new(&plan);
        let globs: Vec<Vec<_>> =
            plan.tasks().iter().map(|t| t.files.iter().map(|f| Glob::parse(f)).collect()).collect();
        let closures = oracle.closures();
        let (mut all, mut unordered) = (Vec::new(), BTreeSet::new());
        for a in 0..oracle.len() {
            for b in a + 1..oracle.len() {
                if globs[a].iter().any(|g| globs[b].iter().any(|h| g.overlaps(h))) {
                    let pair = (TaskIndex::from(a), TaskIndex::from(b));
                    all.push(pair);
                    if !closures[a].contains(&b) && !closures[b].contains(&a) {
                        unordered.insert(pair);
                    }
                }
            }
        }
        prop_assert_eq!(conflicts.pairs().collect::<Vec<_>>(), all);
        let found: Vec<_> = conflicts.pairs_unordered(&graph).collect();
        prop_assert_eq!(found, unordered.iter().copied().collect::<Vec<_>>());
        // Every task that has such a pair is told in some clash with the other one, and no other.
        let mut told = BTreeSet::new();
        for clash in conflicts.clashes(&graph) {
            let others = clash.other.map_or_else(|| clash.tasks.clone(), |(_, tasks)| tasks);
            for a in &clash.tasks {
                let partners = others.iter().map(|b| (*a.min(b), *a.max(b)));
                let partners: Vec<_> = partners.filter(|pair| unordered.contains(pair)).collect();
                prop_assert!(!partners.is_empty(), "{:?} clashes with nothing", a);
                told.extend(partners);
            }
        }
        prop_assert_eq!(told, unordered);
    }
}
