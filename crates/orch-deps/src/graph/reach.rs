//! Who waits for whom in the end.

use orch_model::TaskIndex;
use petgraph::{
    Direction::{self, Incoming, Outgoing},
    graph::NodeIndex,
};

use super::{Graph, node_of};

/// How many tasks [`Graph::ordered_with`] looks at in one sweep.
pub(crate) const BLOCK: usize = u64::BITS as usize;

impl Graph {
    /// Every task that must have ended before this one starts, directly or through others, hard or
    /// soft. In plan order.
    #[must_use]
    pub fn blocking(&self, task: TaskIndex) -> Vec<TaskIndex> {
        self.reachable(task, Incoming)
    }

    /// Every task that waits for this one, directly or through others, hard or soft. In plan order.
    #[must_use]
    pub fn all_dependents(&self, task: TaskIndex) -> Vec<TaskIndex> {
        self.reachable(task, Outgoing)
    }

    fn reachable(&self, task: TaskIndex, direction: Direction) -> Vec<TaskIndex> {
        let mut seen = vec![false; self.node_count()];
        let mut open = vec![node_of(task)];
        while let Some(node) = open.pop() {
            for (next, _) in self.neighbours(node, direction) {
                if !std::mem::replace(&mut seen[next.index()], true) {
                    open.push(next);
                }
            }
        }
        (0..self.len()).filter(|index| seen[*index]).map(TaskIndex::from).collect()
    }

    /// For at most [`BLOCK`] tasks at once: by task of the plan, a mask of those of the block that
    /// wait for it, or that it waits for, directly or through others; a task's own bit is set too.
    /// O(tasks + dependencies) for the whole block.
    pub(crate) fn ordered_with(&self, block: &[TaskIndex]) -> Vec<u64> {
        debug_assert!(block.len() <= BLOCK);
        let mut before = vec![0_u64; self.node_count()];
        for (bit, task) in block.iter().enumerate() {
            before[task.get()] |= 1 << bit;
        }
        let mut after = before.clone();
        self.sweep(self.order.iter().copied(), Incoming, &mut before);
        self.sweep(self.order.iter().rev().copied(), Outgoing, &mut after);
        before.truncate(self.len());
        before.iter_mut().zip(after).for_each(|(mask, other)| *mask |= other);
        before
    }

    fn sweep(&self, order: impl Iterator<Item = NodeIndex>, from: Direction, masks: &mut [u64]) {
        for node in order {
            let mask = self.neighbours(node, from).fold(0, |mask, (n, _)| mask | masks[n.index()]);
            masks[node.index()] |= mask;
        }
    }
}
