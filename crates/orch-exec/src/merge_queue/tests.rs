//! The queue against a model: tasks that clash, conflict and contain each other, verifications that fail
//! by chance, tasks that are told to stop, and somebody else who moves the results.

use std::collections::BTreeSet;

use proptest::prelude::*;

#[cfg(feature = "defaults")]
mod git;
mod world;

use world::{Answer, Case, Play, play};

/// What the queue must come to where nobody interferes: one task at a time, in their order.
fn model(case: &Case) -> Vec<Answer> {
    let mut results: Vec<usize> = Vec::new();
    let mut answers = vec![Answer::Stopped; case.tasks];
    for task in case.order() {
        answers[task] = if case.is_in(task, &results) {
            Answer::Merged
        } else if case.conflicts(task, &results) {
            Answer::Conflicted
        } else if case.fails(&[&results[..], &[task]].concat()) {
            Answer::Refused
        } else {
            results.push(task);
            Answer::Merged
        };
    }
    answers
}

fn pairs(tasks: usize) -> impl Strategy<Value = BTreeSet<(usize, usize)>> {
    let pairs = prop::collection::vec((0..tasks, 0..tasks), 0..4);
    pairs.prop_map(|pairs| {
        let ordered = pairs.into_iter().map(|(a, b)| (a.min(b), a.max(b)));
        ordered.filter(|(a, b)| a != b).collect()
    })
}

prop_compose! {
    /// Tasks without anybody who interferes.
    fn quiet()(tasks in 1usize..9)(
        tasks in Just(tasks),
        batch in 1usize..8,
        bad in prop::collection::btree_set(0..tasks, 0..3),
        clashes in pairs(tasks),
        conflicts in pairs(tasks),
        contains in pairs(tasks),
        delays in prop::collection::vec(0u64..4, tasks),
        flakes in any::<u64>(),
    ) -> Case {
        // One that contains another has its faults too, and what it conflicts with.
        let contains = contains.into_iter().take(1).collect();
        Case { tasks, batch, bad, clashes, conflicts, contains, delays, flakes, ..Case::default() }
    }
}

prop_compose! {
    /// The same with others who push, and tasks that are told to stop.
    fn noisy()(case in quiet())(
        stops in prop::collection::btree_map(0..case.tasks, 0u64..12, 0..3),
        pushes in prop::collection::vec(0u64..30, 0..4),
        foreign_conflict in prop::option::of(0..case.tasks),
        foreign_clash in prop::option::of(0..case.tasks),
        case in Just(case),
    ) -> Case {
        Case { stops, pushes, foreign_conflict, foreign_clash, ..case }
    }
}

prop_compose! {
    /// Nobody is told to stop, and the orchestrator is killed again and again.
    fn mortal()(case in noisy())(
        kills in prop::collection::vec(0..2000 * case.tasks as u64, 0..5),
        case in Just(case),
    ) -> Case {
        Case { kills, stops: std::collections::BTreeMap::new(), ..case }
    }
}

/// What holds under all circumstances.
fn check(case: &Case, play: &Play) -> Result<(), TestCaseError> {
    for (task, answer) in play.answers.iter().enumerate() {
        let times = play.results.iter().filter(|one| **one == task).count();
        match answer {
            Answer::Merged => {
                let is_in = case.is_in(task, &play.results);
                prop_assert!(is_in, "{task} is said to be merged, and is not: {play:?}");
                prop_assert!(times <= 1, "{task} is merged more than once: {play:?}");
            }
            // It may have come to an end after it was in, and before it was told.
            Answer::Stopped => {
                prop_assert!(case.stops.contains_key(&task), "{task}: {play:?}");
                prop_assert_eq!(times, 0, "{}: {:?}", task, play);
            }
            Answer::Refused | Answer::Conflicted => {
                prop_assert_eq!(times, 0, "{}: {:?}", task, play);
            }
        }
    }
    let order: Vec<_> = play.results.iter().filter(|one| **one < case.tasks).collect();
    for pair in order.windows(2) {
        let at = |task: usize| case.order().iter().position(|one| *one == task);
        prop_assert!(at(*pair[0]) < at(*pair[1]), "not in their order: {play:?}");
    }
    prop_assert_eq!(&play.mistakes, &Vec::<String>::new(), "{:?}", play);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_that_nobody_disturbs_does_what_the_model_does(case in quiet()) {
        let play = play(&case);
        check(&case, &play)?;
        prop_assert_eq!(&play.answers, &model(&case), "{:?}", play);
    }

    #[test]
    fn nothing_bad_gets_in_and_nothing_good_is_refused(case in noisy()) {
        let play = play(&case);
        check(&case, &play)?;
    }

    #[test]
    fn whenever_it_is_killed_each_task_comes_to_what_the_model_says(case in mortal()) {
        let play = play(&case);
        check(&case, &play)?;
        prop_assert_eq!(play.answers.len(), case.tasks, "{:?}", play);
        if case.pushes.is_empty() {
            prop_assert_eq!(&play.answers, &model(&case), "{:?}", play);
        }
    }

    #[test]
    fn one_bad_task_of_a_batch_is_found_by_halving(tasks in 1usize..40, bad in 0usize..40) {
        let bad = bad % tasks;
        let case = Case {
            tasks,
            batch: tasks,
            bad: [bad].into(),
            delays: vec![0; tasks],
            ..Case::default()
        };
        let play = play(&case);
        check(&case, &play)?;
        prop_assert_eq!(&play.answers, &model(&case), "{:?}", play);
        let log2 = tasks.next_power_of_two().trailing_zeros() as usize;
        prop_assert!(play.verifications <= log2 + 3, "{} of {}: {:?}", bad, tasks, play.verifications);
    }
}
