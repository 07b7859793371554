//! Who waits for whom.

mod path;
mod reach;

use orch_model::{
    TaskIndex, ValidPlan,
    plan::{Epic, EpicIndex},
};
use petgraph::{
    Direction::{self, Incoming, Outgoing},
    algo::toposort,
    graph::{DiGraph, NodeIndex},
    visit::EdgeRef,
};

pub use path::{BoundBy, Bounds};
pub(crate) use reach::BLOCK;

/// How one task waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum EdgeKind {
    /// `needs`, of the task or of its epic: the other must have succeeded.
    Hard,
    /// `after`: the other must have ended, whatever its outcome.
    Soft,
}

/// A node of the graph inside: a task, or one of the two gates of an epic.
///
/// "Every task of `auth` waits for every task of `infra`" is drawn as
/// `infra's tasks -> Closed(infra) -> Open(auth) -> auth's tasks`, so that the edges number the sum
/// of the two epics' sizes and not their product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    Task(TaskIndex),
    /// Passed before any task of the epic.
    Open(EpicIndex),
    /// Passed after every task of the epic.
    Closed(EpicIndex),
}

/// The dependencies between the tasks of one plan, epics included.
///
/// It owns what it needs, never changes, and is meant to be shared in an [`Arc`](std::sync::Arc).
/// Building it takes time and memory in O(tasks + dependencies), however large the epics that wait
/// for one another are. Methods that take a [`TaskIndex`] panic where it comes from another plan.
#[derive(Debug, Clone)]
pub struct Graph {
    /// Nodes `0..tasks` are the tasks, in plan order; the gates follow.
    graph: DiGraph<Node, EdgeKind>,
    /// All nodes, each after those that it waits for.
    order: Vec<NodeIndex>,
    tasks: usize,
    /// By task: how many tasks wait for it directly.
    dependents: Vec<u32>,
}

impl Graph {
    /// Builds the graph of a plan.
    #[must_use]
    pub fn new(plan: &ValidPlan) -> Self {
        let (tasks, epics) = (plan.tasks(), plan.epics());
        let dependencies: usize = tasks.iter().map(|t| t.needs.len() + t.after.len()).sum();
        let mut graph =
            DiGraph::with_capacity(tasks.len() + 2 * epics.len(), dependencies + 2 * tasks.len());
        for index in plan.indices() {
            graph.add_node(Node::Task(index));
        }
        for index in (0..epics.len()).map(EpicIndex::from) {
            graph.add_node(Node::Open(index));
            graph.add_node(Node::Closed(index));
        }
        // petgraph yields a node's edges last in, first out. Going backward makes neighbours come
        // in plan order, gates after tasks.
        let mut dependents = vec![0; tasks.len()];
        add_gates(&mut graph, tasks.len(), epics, &mut dependents);
        for (index, task) in tasks.iter().enumerate().rev() {
            let to = NodeIndex::new(index);
            let soft = task.after.iter().filter(|t| task.needs.binary_search(t).is_err());
            let mut from: Vec<_> = task.needs.iter().map(|t| (*t, EdgeKind::Hard)).collect();
            from.extend(soft.map(|t| (*t, EdgeKind::Soft)));
            from.sort_unstable();
            for (other, kind) in from.into_iter().rev() {
                graph.add_edge(node_of(other), to, kind);
                let by_epic = match (task.epic, tasks[other.get()].epic) {
                    (Some(mine), Some(theirs)) => epics[mine.get()].needs.contains(&theirs),
                    _ => false,
                };
                if !by_epic {
                    dependents[other.get()] += 1;
                }
            }
        }
        let order = toposort(&graph, None).expect("a valid plan has no cycle");
        Self { graph, order, tasks: tasks.len(), dependents }
    }

    /// How many tasks there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.tasks
    }

    /// Whether there is no task at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.tasks == 0
    }

    /// The tasks that must have succeeded before this one starts: those it names itself and those
    /// that its epic brings. In plan order.
    #[must_use]
    pub fn needs(&self, task: TaskIndex) -> Vec<TaskIndex> {
        let mut found = self.expand(task, Incoming);
        found.retain(|(_, kind)| *kind == EdgeKind::Hard);
        found.into_iter().map(|(task, _)| task).collect()
    }

    /// The tasks that this one waits for directly, hard or soft. In plan order; a task that is
    /// waited for in both ways is listed once, as hard.
    #[must_use]
    pub fn waits_for(&self, task: TaskIndex) -> Vec<(TaskIndex, EdgeKind)> {
        self.expand(task, Incoming)
    }

    /// The tasks that wait for this one directly, hard or soft. In plan order.
    #[must_use]
    pub fn dependents(&self, task: TaskIndex) -> Vec<TaskIndex> {
        self.expand(task, Outgoing).into_iter().map(|(task, _)| task).collect()
    }

    /// How many tasks [`dependents`](Self::dependents) lists, in O(1).
    #[must_use]
    pub fn dependent_count(&self, task: TaskIndex) -> usize {
        self.dependents[task.get()] as usize
    }

    /// Tasks that wait for nothing, in plan order.
    pub(crate) fn roots(&self) -> impl Iterator<Item = TaskIndex> + '_ {
        (0..self.tasks)
            .filter(|index| self.neighbours(NodeIndex::new(*index), Incoming).next().is_none())
            .map(TaskIndex::from)
    }

    pub(crate) fn node_count(&self) -> usize {
        self.graph.node_count()
    }

    pub(crate) fn node(&self, index: NodeIndex) -> Node {
        self.graph[index]
    }

    pub(crate) fn in_degree(&self, index: NodeIndex) -> usize {
        self.neighbours(index, Incoming).count()
    }

    /// Neighbours one edge away: tasks in plan order, then gates.
    pub(crate) fn neighbours(
        &self,
        of: NodeIndex,
        direction: Direction,
    ) -> impl Iterator<Item = (NodeIndex, EdgeKind)> + '_ {
        self.graph.edges_directed(of, direction).map(move |edge| {
            let other = if direction == Incoming { edge.source() } else { edge.target() };
            (other, *edge.weight())
        })
    }

    /// Neighbouring tasks, seen through the gates.
    fn expand(&self, task: TaskIndex, direction: Direction) -> Vec<(TaskIndex, EdgeKind)> {
        let mut found = Vec::new();
        let mut open = vec![node_of(task)];
        while let Some(node) = open.pop() {
            for (next, kind) in self.neighbours(node, direction) {
                match self.node(next) {
                    Node::Task(task) => found.push((task, kind)),
                    Node::Open(_) | Node::Closed(_) => open.push(next),
                }
            }
        }
        found.sort_unstable();
        found.dedup_by_key(|(task, _)| *task);
        found
    }
}

pub(crate) fn node_of(task: TaskIndex) -> NodeIndex {
    NodeIndex::new(task.get())
}

/// Adds the edges through epics. Epics without tasks let everything pass, so they get none.
fn add_gates(
    graph: &mut DiGraph<Node, EdgeKind>,
    tasks: usize,
    epics: &[Epic],
    dependents: &mut [u32],
) {
    let open = |epic: usize| NodeIndex::new(tasks + 2 * epic);
    let closed = |epic: usize| NodeIndex::new(tasks + 2 * epic + 1);
    // By epic: how many tasks wait for it as a whole.
    let mut waiting = vec![0; epics.len()];
    for (index, epic) in epics.iter().enumerate().rev().filter(|(_, e)| !e.tasks.is_empty()) {
        let mut needs = epic.needs.clone();
        needs.sort_unstable();
        needs.dedup();
        needs.retain(|needed| !epics[needed.get()].tasks.is_empty());
        for needed in needs.iter().rev() {
            graph.add_edge(closed(needed.get()), open(index), EdgeKind::Hard);
            waiting[needed.get()] += epic.tasks.len() as u32;
        }
        if !needs.is_empty() {
            for task in epic.tasks.iter().rev() {
                graph.add_edge(open(index), node_of(*task), EdgeKind::Hard);
            }
        }
    }
    for (index, epic) in epics.iter().enumerate().rev().filter(|(i, _)| waiting[*i] > 0) {
        for task in epic.tasks.iter().rev() {
            graph.add_edge(node_of(*task), closed(index), EdgeKind::Hard);
            dependents[task.get()] += waiting[index];
        }
    }
}

#[cfg(test)]
mod tests;
