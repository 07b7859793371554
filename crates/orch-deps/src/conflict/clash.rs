//! Overlapping claims, told to people.

use std::collections::BTreeMap;

use orch_model::TaskIndex;

use super::Conflicts;
use crate::graph::{BLOCK, Graph};

/// Tasks that could run at the same time, were it not that their claims overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// A glob.
    pub glob: String,
    /// Tasks that claim it, in plan order.
    pub tasks: Vec<TaskIndex>,
    /// Another glob that overlaps it, with tasks that claim that one, in plan order; `None` where
    /// `tasks` are at odds with one another.
    pub other: Option<(String, Vec<TaskIndex>)>,
}

/// How many tasks, over all their claims, are compared in one go: bounds the memory.
const BATCH: usize = 1 << 18;

/// Tasks that claim a glob, each with whether it clashes with one of the other side.
type Side = Vec<(TaskIndex, bool)>;

/// Two overlapping globs, or one glob twice, under investigation.
struct Candidate {
    globs: (u32, u32),
    /// The side with fewer tasks.
    small: Side,
    large: Side,
    /// Whether `small` belongs to the second of `globs`.
    swapped: bool,
}

impl Conflicts {
    /// One entry per glob that several tasks claim and per pair of overlapping globs, with the tasks
    /// that it keeps apart, in plan order of the globs. Tasks that wait for one another anyway are
    /// left out, and so is a pair of globs for a task that claims both: each glob tells its own.
    ///
    /// There can be as many as there are pairs of globs; the work is done as the iterator goes.
    pub fn clashes<'a>(&'a self, graph: &'a Graph) -> impl Iterator<Item = Clash> + 'a {
        let claimants: Vec<Vec<TaskIndex>> =
            (0..self.globs.len()).map(|glob| self.claimants(glob)).collect();
        let mut pairs = self.overlaps.iter().enumerate().flat_map(|(glob, row)| {
            let glob = glob as u32;
            row.iter().filter(move |other| **other >= glob).map(move |other| (glob, *other))
        });
        std::iter::from_fn(move || {
            let mut batch = Vec::new();
            let mut size = 0;
            while size < BATCH {
                let Some(globs) = pairs.next() else { break };
                if let Some(candidate) = Candidate::new(globs, &claimants) {
                    size += candidate.small.len() + candidate.large.len();
                    batch.push(candidate);
                }
            }
            (!batch.is_empty()).then(|| {
                compare(&mut batch, graph);
                batch.into_iter().filter_map(|candidate| self.clash(candidate))
            })
        })
        .flatten()
    }

    fn claimants(&self, glob: usize) -> Vec<TaskIndex> {
        let groups = self.claimed_by[glob].iter();
        let mut tasks: Vec<_> = groups.flat_map(|group| self.tasks_of(*group)).copied().collect();
        tasks.sort_unstable();
        tasks
    }

    fn clash(&self, candidate: Candidate) -> Option<Clash> {
        let Candidate { globs: (glob, other), small, large, swapped } = candidate;
        let (tasks, others) = if swapped { (large, small) } else { (small, large) };
        let (tasks, others) = (marked(tasks), marked(others));
        let text = |glob: u32| self.globs[glob as usize].to_string();
        (!tasks.is_empty()).then(|| Clash {
            glob: text(glob),
            tasks,
            other: (glob != other).then(|| (text(other), others)),
        })
    }
}

impl Candidate {
    /// `None` where there are no two tasks to compare.
    fn new(globs: (u32, u32), claimants: &[Vec<TaskIndex>]) -> Option<Self> {
        let (first, second) = (&claimants[globs.0 as usize], &claimants[globs.1 as usize]);
        let (small, large): (Side, Side) = if globs.0 == globs.1 {
            let all: Side = first.iter().map(|task| (*task, false)).collect();
            (all.clone(), if all.len() > 1 { all } else { Side::new() })
        } else {
            let without = |tasks: &[TaskIndex], others: &[TaskIndex]| -> Side {
                let only = tasks.iter().filter(|task| others.binary_search(task).is_err());
                only.map(|task| (*task, false)).collect()
            };
            (without(first, second), without(second, first))
        };
        if small.is_empty() || large.is_empty() {
            return None;
        }
        let swapped = small.len() > large.len();
        let (small, large) = if swapped { (large, small) } else { (small, large) };
        Some(Self { globs, small, large, swapped })
    }
}

/// Of two lists of tasks, each in plan order: those for which the other list has a task, not itself,
/// that could run at the same time as far as the graph goes.
pub(crate) fn unordered(
    graph: &Graph,
    (first, second): (&[TaskIndex], &[TaskIndex]),
) -> (Vec<TaskIndex>, Vec<TaskIndex>) {
    let side = |tasks: &[TaskIndex]| tasks.iter().map(|task| (*task, false)).collect();
    let (small, large) = (side(first), side(second));
    let mut candidate = [Candidate { globs: (0, 0), small, large, swapped: false }];
    compare(&mut candidate, graph);
    let [Candidate { small, large, .. }] = candidate;
    (marked(small), marked(large))
}

fn marked(side: Side) -> Vec<TaskIndex> {
    side.into_iter().filter_map(|(task, clashes)| clashes.then_some(task)).collect()
}

/// Marks the tasks of each candidate with which some task of the other side could run at the same
/// time, as far as the graph goes.
fn compare(candidates: &mut [Candidate], graph: &Graph) {
    let mut appears_in: BTreeMap<TaskIndex, Vec<usize>> = BTreeMap::new();
    for (index, candidate) in candidates.iter().enumerate() {
        for (task, _) in &candidate.small {
            appears_in.entry(*task).or_default().push(index);
        }
    }
    let tasks: Vec<TaskIndex> = appears_in.keys().copied().collect();
    for block in tasks.chunks(BLOCK) {
        let ordered = graph.ordered_with(block);
        // By candidate: which tasks of the block are on its small side.
        let mut present = BTreeMap::<usize, u64>::new();
        for (bit, task) in block.iter().enumerate() {
            for candidate in &appears_in[task] {
                *present.entry(*candidate).or_default() |= 1 << bit;
            }
        }
        for (index, mask) in present {
            let Candidate { small, large, .. } = &mut candidates[index];
            let mut clashing = 0;
            for (task, clashes) in large {
                let unordered = mask & !ordered[task.get()];
                *clashes |= unordered != 0;
                clashing |= unordered;
            }
            for (bit, task) in block.iter().enumerate() {
                if clashing & (1 << bit) != 0
                    && let Ok(place) = small.binary_search_by_key(task, |(task, _)| *task)
                {
                    small[place].1 = true;
                }
            }
        }
    }
}
