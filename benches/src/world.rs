//! A world without processes and with a clock of its own: it does what the scheduler says and lets
//! every task end well after the time that it is given.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc, time::Duration};

use orch_exec::{
    internal::{Command, Input, UnitEnd, UnitReport},
    scheduler::Scheduler,
};
use orch_model::{
    Event, EventKind, RunId, RunState, RunStatus, TaskIndex, Timestamp, ValidPlan,
    event::{EVENT_VERSION, RunHeader, RunSettings},
    outcome::ExitStatus,
    state::Merged,
};

/// How a run went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The time from its beginning to its end, on the world's clock.
    pub makespan: Duration,
    /// How often the scheduler was asked.
    pub steps: usize,
    /// How many changes it recorded.
    pub events: usize,
}

/// Drives a plan to its end. `lasts` says how long each task runs; it is cut to milliseconds.
///
/// # Panics
/// Where the run does not succeed: tasks here always do, so that would be a mistake of the
/// scheduler.
#[must_use]
pub fn drive(
    plan: &Arc<ValidPlan>,
    settings: RunSettings,
    lasts: impl Fn(TaskIndex) -> Duration,
) -> Outcome {
    let mut world = World::new(plan, settings);
    world.tell(Input::Begin);
    loop {
        while let Some(task) = world.starting.pop() {
            world.begin_work(task, lasts(task));
        }
        if let Some(Reverse((now, moment))) = world.future.pop() {
            world.now = now;
            match moment {
                Moment::Ends(task) => world.end_work(task),
                Moment::Tick => world.tell(Input::Tick),
            }
        } else {
            break;
        }
    }
    let state = world.scheduler.state();
    assert_eq!(state.status, RunStatus::Succeeded, "every task ends well");
    Outcome {
        makespan: state.updated_at.since(state.started_at),
        steps: world.steps,
        events: world.events,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Ends(TaskIndex),
    Tick,
}

struct World {
    plan: Arc<ValidPlan>,
    scheduler: Scheduler,
    now: Timestamp,
    starting: Vec<TaskIndex>,
    future: BinaryHeap<Reverse<(Timestamp, Moment)>>,
    steps: usize,
    events: usize,
}

impl World {
    fn new(plan: &Arc<ValidPlan>, settings: RunSettings) -> Self {
        let header = RunHeader {
            run: RunId::new("bench").expect("an id"),
            version: EVENT_VERSION,
            plan: Arc::clone(plan.spec()),
            settings,
            repository: "/nowhere".into(),
            base: None,
            pid: 1,
        };
        let now = Timestamp::from_millis(1);
        let started =
            Event { seq: 1, at: now, kind: EventKind::RunStarted { header: Box::new(header) } };
        let state = RunState::begin(&started).expect("a first event");
        Self {
            scheduler: Scheduler::new(Arc::clone(plan), state, |_| None),
            plan: Arc::clone(plan),
            now,
            starting: Vec::new(),
            future: BinaryHeap::new(),
            steps: 0,
            events: 0,
        }
    }

    fn tell(&mut self, input: Input) {
        self.steps += 1;
        let decision = self.scheduler.step(input, self.now);
        self.events += decision.events.len();
        for command in decision.commands {
            match command {
                Command::Start { task, .. } => self.starting.push(task),
                Command::WakeAt(at) => self.future.push(Reverse((at, Moment::Tick))),
                Command::End => {}
                other => panic!("nothing that ends well and outside git asks for {other:?}"),
            }
        }
    }

    fn report(&mut self, task: TaskIndex, report: UnitReport) {
        self.tell(Input::Unit { task, report });
    }

    fn begin_work(&mut self, task: TaskIndex, lasts: Duration) {
        if !self.plan.task(task).locks.is_empty() {
            self.report(task, UnitReport::Leased);
        }
        self.report(task, UnitReport::Started(None));
        self.future.push(Reverse((self.now + lasts, Moment::Ends(task))));
    }

    fn end_work(&mut self, task: TaskIndex) {
        let exit = ExitStatus::Code(0);
        self.report(task, UnitReport::AgentEnded { exit, usage: None, model: None });
        self.report(task, UnitReport::Verified { commit: None });
        self.report(task, UnitReport::Ended(UnitEnd::Merged(Merged::Nothing)));
    }
}

#[cfg(test)]
mod tests {
    use orch_model::{PlanSpec, plan::spec::Schedule};

    use super::*;
    use crate::shapes;

    fn seconds(spec: PlanSpec, slots: u32, schedule: Schedule) -> u64 {
        let plan = Arc::new(spec.validate().expect("a valid plan"));
        let settings = RunSettings { max_concurrency: slots, schedule, ..RunSettings::default() };
        // Tasks with an odd number take twice as long.
        let lasts = |task: TaskIndex| Duration::from_secs(1 + task.get() as u64 % 2);
        drive(&plan, settings, lasts).makespan.as_secs()
    }

    #[test]
    fn the_clock_follows_the_shape_and_the_slots() {
        let cases = [
            (shapes::chain(10), 4, 15),
            (shapes::wide(10), 1, 15),
            (shapes::wide(10), 10, 2),
            (shapes::sharing_a_lock(shapes::wide(10)), 10, 2),
            (shapes::fighting_for_a_lock(shapes::wide(10)), 10, 15),
        ];
        for (spec, slots, expected) in cases {
            assert_eq!(seconds(spec, slots, Schedule::Ready), expected);
        }
    }

    #[test]
    fn a_wave_waits_for_the_slowest_of_the_wave_before() {
        let two_chains = |spec: &mut PlanSpec| {
            for index in 2..spec.tasks.len() {
                let before = spec.tasks[index - 2].id.clone();
                spec.tasks[index].needs.push(before);
            }
        };
        // Even tasks: 1 s then 2 s would interleave; shift the second chain by one.
        let mut spec = shapes::wide(5);
        two_chains(&mut spec);
        spec.tasks[3].needs.clear();
        let ready = seconds(spec.clone(), 5, Schedule::Ready);
        let waves = seconds(spec, 5, Schedule::Waves);
        assert_eq!((ready, waves), (3, 4));
    }

    #[test]
    fn every_task_is_recorded_from_its_beginning_to_its_end() {
        let plan = Arc::new(shapes::wide(3).validate().expect("a valid plan"));
        let outcome = drive(&plan, RunSettings::default(), |_| Duration::ZERO);
        // Ready, queued, leased, preparing, running, verifying, merging, merged; and the end.
        assert_eq!((outcome.steps, outcome.events), (1 + 3 * 4, 3 * 8 + 1));
        assert_eq!(outcome.makespan, Duration::ZERO);
    }
}
