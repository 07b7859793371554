//! The longest way through the graph, and what it says of the time that a run takes.

use std::{cmp::Reverse, time::Duration};

use orch_model::TaskIndex;
use petgraph::{Direction::Outgoing, graph::NodeIndex};

use super::{Graph, Node, node_of};

/// The longest way from a node to the end of the plan.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Remaining {
    /// Along it, with the node's own.
    pub(crate) duration: Duration,
    /// Tasks along it, with the node itself.
    pub(crate) hops: u32,
    next: Option<NodeIndex>,
}

impl Remaining {
    const fn key(&self) -> (Duration, u32) {
        (self.duration, self.hops)
    }
}

/// What a run can't be faster than.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The time along the longest chain of dependent tasks.
    pub critical_path: Duration,
    /// The time of all tasks together.
    pub work: Duration,
    /// The lower bound on the makespan: the larger of `critical_path` and `work` divided by the
    /// number of tasks that run at the same time.
    pub lower: Duration,
    /// Which of the two it is.
    pub by: BoundBy,
}

/// What keeps a run from being faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BoundBy {
    /// The longest chain: more concurrency would not help.
    CriticalPath,
    /// The amount of work: more concurrency would help.
    Work,
}

impl Graph {
    /// The longest chain of tasks each of which waits for the one before, hard or soft, and the
    /// time along it. Among chains of the same time the one with more tasks is chosen, and among
    /// those the one that comes first in plan order. Empty for an empty plan.
    #[must_use]
    pub fn critical_path(
        &self,
        durations: impl Fn(TaskIndex) -> Duration,
    ) -> (Vec<TaskIndex>, Duration) {
        let remaining = self.remaining(durations);
        let first = (0..self.len())
            .map(NodeIndex::new)
            .max_by_key(|node| (remaining[node.index()].key(), Reverse(node.index())));
        let total = first.map_or(Duration::ZERO, |node| remaining[node.index()].duration);
        let path = std::iter::successors(first, |node| remaining[node.index()].next)
            .filter_map(|node| match self.node(node) {
                Node::Task(task) => Some(task),
                Node::Open(_) | Node::Closed(_) => None,
            })
            .collect();
        (path, total)
    }

    /// Lower bounds on the time that a run takes with at most `width` tasks at the same time; 0
    /// counts as 1. These are the two classical bounds for list scheduling (R. L. Graham,
    /// *Bounds on multiprocessing timing anomalies*, 1969): any schedule that never leaves a slot
    /// idle while a task is ready takes at most the sum of the two, hence at most twice the optimum.
    #[must_use]
    pub fn bounds(&self, durations: impl Fn(TaskIndex) -> Duration, width: usize) -> Bounds {
        let (_, critical_path) = self.critical_path(&durations);
        let work = (0..self.len())
            .map(|index| durations(TaskIndex::from(index)))
            .fold(Duration::ZERO, Duration::saturating_add);
        let share = work / u32::try_from(width.max(1)).unwrap_or(u32::MAX);
        if share > critical_path {
            Bounds { critical_path, work, lower: share, by: BoundBy::Work }
        } else {
            Bounds { critical_path, work, lower: critical_path, by: BoundBy::CriticalPath }
        }
    }

    /// By node: the longest way to the end of the plan.
    pub(crate) fn remaining(&self, durations: impl Fn(TaskIndex) -> Duration) -> Vec<Remaining> {
        let mut remaining = vec![Remaining::default(); self.node_count()];
        for node in self.order.iter().rev() {
            let mut longest = Remaining::default();
            for (next, _) in self.neighbours(*node, Outgoing) {
                let Remaining { duration, hops, .. } = remaining[next.index()];
                if longest.next.is_none() || (duration, hops) > longest.key() {
                    longest = Remaining { duration, hops, next: Some(next) };
                }
            }
            if let Node::Task(task) = self.node(*node) {
                longest.duration = longest.duration.saturating_add(durations(task));
                longest.hops += 1;
            }
            remaining[node.index()] = longest;
        }
        remaining
    }

    /// By task: the number of tasks on the longest chain that ends before it.
    pub(crate) fn levels(&self) -> Vec<u32> {
        // By node: the number of tasks on the longest chain that ends with it.
        let mut depth = vec![0_u32; self.node_count()];
        for node in &self.order {
            let before = self
                .neighbours(*node, petgraph::Direction::Incoming)
                .map(|(previous, _)| depth[previous.index()])
                .max()
                .unwrap_or(0);
            depth[node.index()] = before + u32::from(matches!(self.node(*node), Node::Task(_)));
        }
        (0..self.len()).map(|index| depth[node_of(index.into()).index()] - 1).collect()
    }
}
