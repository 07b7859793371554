//! Random plans in a random world.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use orch_model::{
    Span, ValidPlan,
    event::RunSettings,
    plan::spec::{OnFailure, Schedule},
};
use proptest::prelude::*;

use super::{
    oracle, plan, run_started, slots,
    world::{Chance, World},
};

/// More than the longest of these runs takes.
const STEPS: usize = 3_000;

fn any_plan() -> impl Strategy<Value = Arc<ValidPlan>> {
    let task = (
        prop::option::of((0_usize..3, any::<bool>())),
        prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..3),
        0_u8..5,
        0_u32..3,
        prop::sample::subsequence(
            vec!["l:db", "l:net:shared", "l:net", "l:ports:1/3", "l:ports:2/3"],
            0..2,
        ),
        prop::sample::subsequence(oracle::GLOBS.to_vec(), 0..2),
        prop::sample::select(vec!["fail", "manual", "retry"]),
        prop::option::of(
            prop::sample::subsequence(vec!["one", "two", "gone"], 1..=3).prop_shuffle(),
        ),
    );
    let epics = prop::collection::vec(prop::collection::vec(any::<bool>(), 3), 3);
    (prop::collection::vec(task, 1..12), epics, any::<prop::sample::Index>()).prop_map(
        |(mut tasks, epics, turn)| {
            // Epics in rising order, dependencies backward only: no cycle. Then the plan is
            // turned, so that its order is not the order of the dependencies.
            let mut sorted: Vec<_> = tasks.iter().filter_map(|task| task.0).collect();
            sorted.sort_unstable();
            let mut sorted = sorted.into_iter();
            for task in tasks.iter_mut().filter(|task| task.0.is_some()) {
                task.0 = sorted.next();
            }
            let mut lines = Vec::new();
            for (index, (epic, edges, priority, retries, locks, files, policy, agents)) in
                tasks.iter().enumerate()
            {
                let mut line = format!("t{index} p{priority} r{retries} !{policy}");
                if let Some((epic, shared)) = epic {
                    write!(line, " @{}e{epic}", if *shared { "@" } else { "" }).expect("memory");
                }
                if let Some(agents) = agents {
                    write!(line, " ?{}", agents.join(",")).expect("memory");
                }
                for word in locks {
                    write!(line, " {word}").expect("memory");
                }
                for glob in files {
                    write!(line, " f:{glob}").expect("memory");
                }
                let mut before: Vec<_> = edges
                    .iter()
                    .filter(|_| index > 0)
                    .map(|(other, hard)| (other.index(index), *hard))
                    .collect();
                before.sort_unstable();
                before.dedup_by_key(|(other, _)| *other);
                for (other, hard) in before {
                    write!(line, " {}t{other}", if hard { '<' } else { '~' }).expect("memory");
                }
                lines.push(line);
            }
            let turn = turn.index(lines.len());
            lines.rotate_left(turn);
            for (index, row) in epics.iter().enumerate() {
                let needs = (0..index).filter(|other| row[*other]);
                let needs: String = needs.map(|other| format!(" e{other}")).collect();
                lines.push(format!("epic e{index}{needs}"));
            }
            plan(&lines.join("\n"))
        },
    )
}

fn any_settings() -> impl Strategy<Value = RunSettings> {
    (1_u32..5, any::<bool>(), prop::option::of(1_u32..3), 0_u64..200, prop::bool::weighted(0.2))
        .prop_map(|(max, waves, max_per_wave, delay, stop)| RunSettings {
            schedule: if waves { Schedule::Waves } else { Schedule::Ready },
            max_per_wave,
            wave_delay: Span(Duration::from_millis(delay)),
            on_failure: if stop { OnFailure::Stop } else { OnFailure::Continue },
            ..slots(max)
        })
}

/// How many runs are simulated; `PROPTEST_CASES` says otherwise.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    asked.unwrap_or(512)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_schedule_keeps_the_rules(
        plan in any_plan(),
        settings in any_settings(),
        in_git in any::<bool>(),
        chance in prop::collection::vec(any::<u16>(), 0..400),
    ) {
        let started = run_started(&plan, settings, in_git);
        let mut world = World::new(Arc::clone(&plan), started, Chance::new(chance));
        let mut steps = 0;
        loop {
            while !world.ended {
                steps += 1;
                prop_assert!(steps < STEPS, "no end: {:#?}", world.scheduler.state());
                world.happen();
            }
            world.check_end();
            if !world.scheduler.state().status.may_go_on() {
                break;
            }
            world.resume();
        }
    }
}
