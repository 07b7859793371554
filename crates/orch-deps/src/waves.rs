//! The plan in batches: each wave waits only for waves before it.

use orch_model::TaskIndex;

use crate::{graph::Graph, priority::Ranks};

/// The tasks of a plan, dealt into waves.
///
/// These are the levels of Kahn's algorithm (A. B. Kahn, *Topological sorting of large networks*,
/// 1962): a task stands in the first wave after all those that it waits for, hard or soft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waves {
    /// All tasks, wave after wave.
    tasks: Vec<TaskIndex>,
    /// Where each wave ends in `tasks`.
    ends: Vec<usize>,
    /// By task.
    wave_of: Vec<u32>,
}

impl Graph {
    /// The waves of the plan; inside a wave, tasks are in plan order.
    #[must_use]
    pub fn waves(&self) -> Waves {
        let wave_of = self.levels();
        let count = wave_of.iter().max().map_or(0, |last| *last as usize + 1);
        let mut ends = vec![0; count];
        for wave in &wave_of {
            ends[*wave as usize] += 1;
        }
        let mut total = 0;
        for end in &mut ends {
            total += *end;
            *end = total;
        }
        let mut tasks: Vec<_> = (0..self.len()).map(TaskIndex::from).collect();
        tasks.sort_by_key(|task| wave_of[task.get()]);
        Waves { tasks, ends, wave_of }
    }
}

impl Waves {
    /// Puts the tasks of each wave in the order of their ranks and breaks waves of more than
    /// `max_per_wave` tasks (at least 1) into several, the tasks of better rank first.
    #[must_use]
    pub fn split(mut self, max_per_wave: Option<usize>, ranks: &Ranks) -> Self {
        let max = max_per_wave.unwrap_or(usize::MAX).max(1);
        let mut ends = Vec::with_capacity(self.ends.len());
        let mut start = 0;
        for end in std::mem::take(&mut self.ends) {
            self.tasks[start..end].sort_unstable_by_key(|task| ranks.rank(*task));
            for part in self.tasks[start..end].chunks(max) {
                for task in part {
                    self.wave_of[task.get()] = ends.len() as u32;
                }
                start += part.len();
                ends.push(start);
            }
        }
        self.ends = ends;
        self
    }

    /// How many waves there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no wave, hence no task.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The tasks of a wave, counted from 0; empty where there is no such wave.
    #[must_use]
    pub fn get(&self, wave: usize) -> &[TaskIndex] {
        let start = wave.checked_sub(1).map_or(Some(&0), |previous| self.ends.get(previous));
        match (start, self.ends.get(wave)) {
            (Some(start), Some(end)) => &self.tasks[*start..*end],
            _ => &[],
        }
    }

    /// The waves from first to last.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[TaskIndex]> {
        (0..self.len()).map(|wave| self.get(wave))
    }

    /// The wave in which a task stands, counted from 0.
    ///
    /// # Panics
    /// Where the index comes from another plan.
    #[must_use]
    pub fn wave_of(&self, task: TaskIndex) -> usize {
        self.wave_of[task.get()] as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Oracle, any_plan, at, names, plan};

    #[test]
    fn a_wave_waits_only_for_waves_before_it() {
        let plan = plan("deploy <test ~docs\ntest <build\nbuild\ndocs\nlint");
        let graph = Graph::new(&plan);
        let waves = graph.waves();
        let found: Vec<_> = waves.iter().map(|wave| names(&plan, wave)).collect();
        assert_eq!(found, ["build docs lint", "test", "deploy"]);
        assert_eq!(waves.wave_of(at(&plan, "deploy")), 2);
        assert_eq!((waves.len(), waves.is_empty()), (3, false));
        assert!(waves.get(3).is_empty() && waves.get(9).is_empty());
    }

    #[test]
    fn large_waves_are_split_best_rank_first() {
        let plan = plan("a p3\nb p1\nc p1 =5s\nd p0\ne <a");
        let graph = Graph::new(&plan);
        let ranks = Ranks::new(&graph, &plan, |_| None);
        let split = |max| {
            let waves = graph.waves().split(max, &ranks);
            let text: Vec<_> = waves.iter().map(|wave| names(&plan, wave)).collect();
            (waves, text.join(" | "))
        };
        assert_eq!(split(None).1, "d b c a | e");
        let (waves, text) = split(Some(3));
        assert_eq!(text, "d b c | a | e");
        assert_eq!(waves.wave_of(at(&plan, "a")), 1);
        assert_eq!(waves.wave_of(at(&plan, "e")), 2);
        assert_eq!(split(Some(0)).1, split(Some(1)).1, "a wave has one task at least");
    }

    proptest! {
        #[test]
        fn a_wave_is_the_length_of_the_longest_chain(plan in any_plan(1..24), max in 1_usize..4) {
            let (graph, oracle) = (Graph::new(&plan), Oracle::new(&plan));
            fn level(oracle: &Oracle, task: usize) -> usize {
                oracle.before(task).iter().map(|t| level(oracle, *t) + 1).max().unwrap_or(0)
            }
            let waves = graph.waves();
            for task in plan.indices() {
                prop_assert_eq!(waves.wave_of(task), level(&oracle, task.get()));
                prop_assert!(waves.get(waves.wave_of(task)).contains(&task));
            }
            prop_assert_eq!(waves.iter().map(<[_]>::len).sum::<usize>(), plan.tasks().len());
            let split = waves.split(Some(max), &Ranks::new(&graph, &plan, |_| None));
            for task in plan.indices() {
                prop_assert!(split.get(split.wave_of(task)).contains(&task));
                for before in graph.waits_for(task) {
                    prop_assert!(split.wave_of(before.0) < split.wave_of(task));
                }
            }
            prop_assert!(split.iter().all(|wave| !wave.is_empty() && wave.len() <= max));
        }
    }
}
