//! Cycles among tasks and epics: one finding per knot, with a shortest way around it.
//!
//! An epic is two nodes: `Enter`, for which its tasks wait, and `Done`, which waits for its tasks.
//! So "every task here waits for every task there" takes as many edges as there are tasks, not
//! their product.

use std::collections::{HashMap, VecDeque, hash_map::Entry};

use petgraph::{
    algo::kosaraju_scc,
    graph::{DiGraph, NodeIndex},
    visit::EdgeRef,
};

use crate::plan::{Epic, EpicIndex, PlanSpec, Task, TaskIndex, path::Path, problem::Finding};

/// From how many nodes of a knot a shortest cycle is looked for.
const MAX_STARTS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Task(TaskIndex),
    /// Not shown: the epic's own tasks wait for it.
    Enter(EpicIndex),
    Done(EpicIndex),
}

pub(super) fn cycles(spec: &PlanSpec, tasks: &[Task], epics: &[Epic]) -> Vec<Finding> {
    let graph = graph(tasks, epics);
    let mut knots: Vec<Vec<NodeIndex>> =
        // Not Tarjan's algorithm: petgraph's recurses, and a long chain would exhaust the stack.
        kosaraju_scc(&graph).into_iter().filter(|knot| knot.len() > 1).collect();
    for knot in &mut knots {
        knot.sort_unstable();
    }
    knots.sort_unstable();
    knots
        .iter()
        .filter_map(|knot| shortest(&graph, knot))
        .map(|cycle| describe(spec, &cycle))
        .collect()
}

/// An edge leads from what waits to what it waits for.
fn graph(tasks: &[Task], epics: &[Epic]) -> DiGraph<Stop, ()> {
    let mut graph = DiGraph::with_capacity(tasks.len() + 2 * epics.len(), 2 * tasks.len());
    let of_task: Vec<_> =
        (0..tasks.len()).map(|index| graph.add_node(Stop::Task(index.into()))).collect();
    let of_epic: Vec<_> = (0..epics.len())
        .map(EpicIndex::from)
        .map(|epic| (graph.add_node(Stop::Enter(epic)), graph.add_node(Stop::Done(epic))))
        .collect();
    for (task, node) in tasks.iter().zip(&of_task) {
        for other in task.needs.iter().chain(&task.after) {
            graph.add_edge(*node, of_task[other.get()], ());
        }
        if let Some(epic) = task.epic {
            let (enter, done) = of_epic[epic.get()];
            graph.add_edge(*node, enter, ());
            graph.add_edge(done, *node, ());
        }
    }
    for (epic, (enter, done)) in epics.iter().zip(&of_epic) {
        // Also an epic without tasks waits.
        graph.add_edge(*done, *enter, ());
        for other in &epic.needs {
            graph.add_edge(*enter, of_epic[other.get()].1, ());
        }
    }
    graph
}

/// A shortest cycle through a knot, by breadth-first search from its first nodes; its first node
/// is the first in the plan.
fn shortest(graph: &DiGraph<Stop, ()>, knot: &[NodeIndex]) -> Option<Vec<Stop>> {
    let mut best: Option<Vec<NodeIndex>> = None;
    for start in knot.iter().take(MAX_STARTS) {
        if let Some(cycle) = from(graph, *start)
            && best.as_ref().is_none_or(|best| cycle.len() < best.len())
        {
            best = Some(cycle);
        }
    }
    let mut cycle = best?;
    let is_shown = |node: NodeIndex| !matches!(graph[node], Stop::Enter(_));
    let shown = cycle.iter().enumerate().filter(|(_, node)| is_shown(**node));
    let first = shown.min_by_key(|(_, node)| **node).map_or(0, |(at, _)| at);
    cycle.rotate_left(first);
    Some(cycle.into_iter().map(|node| graph[node]).collect())
}

/// A shortest way from a node back to itself.
fn from(graph: &DiGraph<Stop, ()>, start: NodeIndex) -> Option<Vec<NodeIndex>> {
    let mut before: HashMap<NodeIndex, NodeIndex> = HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for edge in graph.edges(node) {
            let next = edge.target();
            if next == start {
                let mut way = vec![node];
                let mut at = node;
                while at != start {
                    at = before[&at];
                    way.push(at);
                }
                way.reverse();
                return Some(way);
            }
            if let Entry::Vacant(place) = before.entry(next) {
                place.insert(node);
                queue.push_back(next);
            }
        }
    }
    None
}

fn name(spec: &PlanSpec, stop: Stop) -> Option<String> {
    match stop {
        Stop::Task(task) => Some(spec.tasks[task.get()].id.to_string()),
        Stop::Done(epic) => Some(format!("epic {}", spec.epics[epic.get()].id)),
        Stop::Enter(_) => None,
    }
}

/// Where the plan says that one waits for the other; `None` where that goes without saying.
fn place(spec: &PlanSpec, from: Stop, to: Stop) -> Option<(Path, String)> {
    match (from, to) {
        (Stop::Task(from), Stop::Task(to)) => {
            let (task, other) = (&spec.tasks[from.get()], &spec.tasks[to.get()].id);
            let path = Path::element("task", from.get());
            let find = |ids: &[crate::id::TaskId]| ids.iter().position(|id| id == other);
            let path = match find(&task.needs) {
                Some(at) => path.then("needs").then(at),
                None => path.then("after").then(find(&task.after)?),
            };
            Some((path, format!("`{}` waits for `{other}`", task.id)))
        }
        (Stop::Task(task), Stop::Enter(epic)) => {
            let (task_id, epic) = (&spec.tasks[task.get()].id, &spec.epics[epic.get()].id);
            let path = Path::element("task", task.get()).then("epic");
            Some((path, format!("`{task_id}` is a task of epic `{epic}`")))
        }
        (Stop::Enter(from), Stop::Done(to)) => {
            let (epic, other) = (&spec.epics[from.get()], &spec.epics[to.get()].id);
            let at = epic.needs.iter().position(|id| id == other)?;
            let path = Path::element("epic", from.get()).then("needs").then(at);
            Some((path, format!("epic `{}` waits for epic `{other}`", epic.id)))
        }
        (Stop::Done(epic), Stop::Task(task)) => {
            let (task_id, epic) = (&spec.tasks[task.get()].id, &spec.epics[epic.get()].id);
            let path = Path::element("task", task.get()).then("epic");
            Some((path, format!("`{task_id}` is a task of epic `{epic}`")))
        }
        _ => None,
    }
}

fn describe(spec: &PlanSpec, cycle: &[Stop]) -> Finding {
    let mut names: Vec<String> = cycle.iter().filter_map(|stop| name(spec, *stop)).collect();
    names.extend(names.first().cloned());
    let around = cycle.iter().zip(cycle.iter().cycle().skip(1));
    let mut places = around.filter_map(|(from, to)| place(spec, *from, *to));
    let (path, label) = places.next().unwrap_or_default();
    let finding = Finding::new(path, format!("cycle of dependencies: {}", names.join(" -> ")))
        .label(label)
        .help("none of them could ever start: remove one of these dependencies");
    places.fold(finding, |finding, (path, why)| finding.related(path, why))
}
