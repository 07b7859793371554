//! Which of several ready tasks comes first.

use std::{cmp::Reverse, time::Duration};

use orch_model::{TaskIndex, ValidPlan};

use crate::graph::Graph;

/// The place of a task in the order in which ready tasks are started: the smaller, the sooner. No
/// two tasks of a plan have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank(u32);

impl Rank {
    /// The place, from 0.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

/// The ranks of all tasks of a plan.
///
/// A task comes before another if, in this order,
///
/// 1. its `priority` is a smaller number;
/// 2. the longest chain of tasks that begins with it takes longer: what holds up most goes first
///    (the critical path rule of list scheduling; T. C. Hu, *Parallel sequencing and assembly line
///    problems*, 1961);
/// 3. that chain has more tasks;
/// 4. the plan names it earlier.
///
/// So the order depends on nothing but the plan and the recorded durations.
///
/// # How long a task takes
///
/// The duration that was recorded, else the plan's `estimate`. A task for which neither is known is
/// taken to last the *mean of the known ones*: a chain of unknown tasks weighs as much as a typical
/// chain of its length, so adding one estimate to a plan does not push everything without an
/// estimate to the end. Where nothing is known each task counts as one second, so that chains are
/// compared by their number of tasks.
#[derive(Debug, Clone)]
pub struct Ranks {
    ranks: Vec<Rank>,
    order: Vec<TaskIndex>,
    durations: Durations,
}

impl Ranks {
    /// Ranks the tasks of a plan. `recorded` gives durations that were measured in earlier runs.
    #[must_use]
    pub fn new(
        graph: &Graph,
        plan: &ValidPlan,
        recorded: impl Fn(TaskIndex) -> Option<Duration>,
    ) -> Self {
        let durations = Durations::new(plan, recorded);
        let remaining = graph.remaining(|task| durations.of(task));
        let mut order: Vec<_> = plan.indices().collect();
        order.sort_by_cached_key(|task| {
            let chain = &remaining[task.get()];
            (plan.task(*task).priority, Reverse((chain.duration, chain.hops)), *task)
        });
        let mut ranks = vec![Rank(0); order.len()];
        for (place, task) in order.iter().enumerate() {
            ranks[task.get()] = Rank(place as u32);
        }
        Self { ranks, order, durations }
    }

    /// The rank of a task.
    ///
    /// # Panics
    /// Where the index comes from another plan.
    #[must_use]
    pub fn rank(&self, task: TaskIndex) -> Rank {
        self.ranks[task.get()]
    }

    /// The task that has a rank.
    ///
    /// # Panics
    /// Where the rank comes from another plan.
    #[must_use]
    pub fn task(&self, rank: Rank) -> TaskIndex {
        self.order[rank.get()]
    }

    /// How long the tasks are taken to last.
    #[must_use]
    pub const fn durations(&self) -> &Durations {
        &self.durations
    }
}

/// How long each task of a plan is taken to last; see [`Ranks`].
#[derive(Debug, Clone)]
pub struct Durations {
    known: Vec<Option<Duration>>,
    count: usize,
    assumed: Duration,
}

impl Durations {
    /// Takes the recorded duration of each task, else its estimate.
    #[must_use]
    pub fn new(plan: &ValidPlan, recorded: impl Fn(TaskIndex) -> Option<Duration>) -> Self {
        let known: Vec<_> = plan
            .indices()
            .map(|task| recorded(task).or_else(|| plan.task(task).estimate))
            .collect();
        let count = known.iter().flatten().count();
        let sum = known.iter().flatten().fold(Duration::ZERO, |sum, d| sum.saturating_add(*d));
        let assumed = match u32::try_from(count) {
            Ok(0) | Err(_) => Duration::from_secs(1),
            Ok(count) => sum / count,
        };
        Self { known, count, assumed }
    }

    /// How long a task is taken to last.
    ///
    /// # Panics
    /// Where the index comes from another plan.
    #[must_use]
    pub fn of(&self, task: TaskIndex) -> Duration {
        self.known(task).unwrap_or(self.assumed)
    }

    /// How long a task lasts, where that is recorded or estimated.
    ///
    /// # Panics
    /// Where the index comes from another plan.
    #[must_use]
    pub fn known(&self, task: TaskIndex) -> Option<Duration> {
        self.known[task.get()]
    }

    /// For how many tasks it is known.
    #[must_use]
    pub const fn known_count(&self) -> usize {
        self.count
    }

    /// What every other task is taken to last.
    #[must_use]
    pub const fn assumed(&self) -> Duration {
        self.assumed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{any_plan, at, names, plan};

    fn order(text: &str, recorded: &[(&str, u64)]) -> String {
        let plan = plan(text);
        let graph = Graph::new(&plan);
        let ranks = Ranks::new(&graph, &plan, |task| {
            let id = plan.task(task).id.as_str();
            recorded.iter().find(|(name, _)| *name == id).map(|(_, s)| Duration::from_secs(*s))
        });
        names(&plan, &ranks.order)
    }

    #[test]
    fn the_criteria_apply_in_order() {
        let cases: &[(&str, &str)] = &[
            ("a p4 =9h\nb p0", "b a"),
            ("a =1s\nb =5s", "b a"),
            ("a =1s\nb =1s\nc =9s <b", "b c a"),
            ("a\nb\nc <b", "b a c"),
            ("a =0s\nb =0s\nc <b =0s", "b a c"),
            ("b\na", "b a"),
        ];
        for (text, expected) in cases {
            assert_eq!(order(text, &[]), *expected, "{text}");
        }
    }

    #[test]
    fn a_record_beats_an_estimate_and_the_mean_stands_for_what_is_unknown() {
        assert_eq!(order("a =9s\nb =5s", &[("a", 1)]), "b a");
        assert_eq!(order("low =1s\nhigh =9s\nunknown", &[]), "high unknown low");
        let plan = plan("a =1s\nb =9s\nc");
        let durations = Durations::new(&plan, |_| None);
        assert_eq!(durations.of(at(&plan, "c")), Duration::from_secs(5));
        assert_eq!(durations.known(at(&plan, "c")), None);
        assert_eq!((durations.known_count(), durations.assumed().as_secs()), (2, 5));
    }

    proptest! {
        #[test]
        fn ranks_are_a_total_order_that_puts_chains_in_front(plan in any_plan(1..24)) {
            let graph = Graph::new(&plan);
            let ranks = Ranks::new(&graph, &plan, |_| None);
            for task in plan.indices() {
                prop_assert_eq!(ranks.task(ranks.rank(task)), task);
                for (before, _) in graph.waits_for(task) {
                    let higher = plan.task(before).priority <= plan.task(task).priority;
                    prop_assert!(!higher || ranks.rank(before) < ranks.rank(task));
                }
            }
        }
    }
}
