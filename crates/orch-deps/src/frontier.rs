//! What may start now: the graph's state while a run goes on.

use std::{collections::VecDeque, sync::Arc};

use orch_model::TaskIndex;
use petgraph::{
    Direction::{Incoming, Outgoing},
    graph::NodeIndex,
};

use crate::graph::{EdgeKind, Graph, Node, node_of};

/// How a task ended, as far as those that wait for it care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its work is merged.
    Succeeded,
    /// Anything else: it failed, conflicted, was cancelled or skipped.
    Failed,
}

/// What follows from the end of a task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolved {
    /// Tasks that wait for nothing any more, in plan order.
    pub ready: Vec<TaskIndex>,
    /// Tasks that can never run, in plan order, each with the reason: the unsuccessful task that
    /// it waits for *directly* (hard, by itself or through its epic). That task may itself have
    /// been skipped; following the reasons leads to the task that began it.
    pub skipped: Vec<(TaskIndex, TaskIndex)>,
}

/// Which tasks are ready, kept up to date as tasks end.
///
/// Every task is reported exactly once, as ready (at the start or in a [`Resolved`]) or as skipped,
/// unless the caller resolves it before that. Over a whole run all calls together take
/// O(tasks + dependencies) and the sorting of what they return. Methods that take a [`TaskIndex`]
/// panic where it comes from another plan.
#[derive(Debug, Clone)]
pub struct Frontier {
    graph: Arc<Graph>,
    /// By node: how many of the nodes that it waits for have not ended.
    pending: Vec<u32>,
    /// By node: whether it has ended.
    ended: Vec<bool>,
    unresolved: usize,
    /// Nodes whose end has not been told to those that wait for them; empty between calls. With
    /// the unsuccessful task where they did not succeed.
    queue: VecDeque<(NodeIndex, Option<TaskIndex>)>,
}

impl Frontier {
    /// The state in which no task has ended.
    #[must_use]
    pub fn new(graph: Arc<Graph>) -> Self {
        let nodes = graph.node_count();
        Self {
            pending: (0..nodes).map(|n| graph.in_degree(NodeIndex::new(n)) as u32).collect(),
            ended: vec![false; nodes],
            unresolved: graph.len(),
            queue: VecDeque::new(),
            graph,
        }
    }

    /// The graph that it follows.
    #[must_use]
    pub const fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// The tasks that wait for nothing, in plan order; the same whatever has ended since.
    #[must_use]
    pub fn initially_ready(&self) -> Vec<TaskIndex> {
        self.graph.roots().collect()
    }

    /// The tasks that wait for nothing any more and have not ended, in plan order. O(tasks): meant
    /// for a run that is resumed, after what had ended was resolved.
    #[must_use]
    pub fn ready(&self) -> Vec<TaskIndex> {
        (0..self.graph.len()).map(TaskIndex::from).filter(|task| self.is_ready(*task)).collect()
    }

    /// Whether a task waits for nothing any more and has not ended.
    #[must_use]
    pub fn is_ready(&self, task: TaskIndex) -> bool {
        !self.ended[task.get()] && self.pending[task.get()] == 0
    }

    /// Whether a task has ended: it was resolved, or skipped in consequence.
    #[must_use]
    pub fn is_resolved(&self, task: TaskIndex) -> bool {
        self.ended[task.get()]
    }

    /// How many tasks have not ended.
    #[must_use]
    pub const fn unresolved(&self) -> usize {
        self.unresolved
    }

    /// Takes note that a task has ended and says what follows.
    ///
    /// A task that did not succeed takes with it all that need it, directly, through others or
    /// through epics. Tasks that only come `after` it, or after one that was skipped, are released.
    /// A task that never became ready may be resolved as well, for instance because it was
    /// cancelled while it was blocked; it won't be reported any more. Resolving a task that has
    /// ended already changes nothing.
    pub fn resolve(&mut self, task: TaskIndex, ended: Ended) -> Resolved {
        let Self { graph, pending, ended: has_ended, unresolved, queue } = self;
        let mut resolved = Resolved::default();
        let node = node_of(task);
        if std::mem::replace(&mut has_ended[node.index()], true) {
            return resolved;
        }
        *unresolved -= 1;
        queue.push_back((node, (ended == Ended::Failed).then_some(task)));
        while let Some((node, failed)) = queue.pop_front() {
            for (next, kind) in graph.neighbours(node, Outgoing) {
                pending[next.index()] -= 1;
                if has_ended[next.index()] {
                    continue;
                }
                let because = failed.filter(|_| kind == EdgeKind::Hard);
                match (graph.node(next), because) {
                    (Node::Task(task), Some(because)) => {
                        has_ended[next.index()] = true;
                        *unresolved -= 1;
                        resolved.skipped.push((task, because));
                        queue.push_back((next, Some(task)));
                    }
                    (Node::Task(task), None) if pending[next.index()] == 0 => {
                        resolved.ready.push(task);
                    }
                    (Node::Open(_) | Node::Closed(_), because)
                        if because.is_some() || pending[next.index()] == 0 =>
                    {
                        has_ended[next.index()] = true;
                        queue.push_back((next, because));
                    }
                    _ => {}
                }
            }
        }
        resolved.ready.sort_unstable();
        resolved.skipped.sort_unstable();
        resolved
    }

    /// At most `limit` of the tasks that this one still waits for directly: those it names itself
    /// in plan order, then those that its epic brings.
    #[must_use]
    pub fn unresolved_dependencies(&self, task: TaskIndex, limit: usize) -> Vec<TaskIndex> {
        let mut found = Vec::new();
        let mut open = VecDeque::from([node_of(task)]);
        while let Some(node) = open.pop_front() {
            for (next, _) in self.graph.neighbours(node, Incoming) {
                if found.len() >= limit {
                    return found;
                }
                match self.graph.node(next) {
                    _ if self.ended[next.index()] => {}
                    Node::Task(task) if !found.contains(&task) => found.push(task),
                    Node::Task(_) => {}
                    Node::Open(_) | Node::Closed(_) => open.push_back(next),
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
