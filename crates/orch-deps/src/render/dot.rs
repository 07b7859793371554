//! A plan in the language of Graphviz.
//!
//! Written out here rather than with `petgraph::dot`, which knows no clusters: epics would be
//! nothing but gates in the middle of the picture.

use std::fmt::Write as _;

use orch_model::{TaskIndex, ValidPlan};

use super::{overview::Overview, words::plain};
use crate::graph::Graph;

/// Draws a plan for [Graphviz](https://graphviz.org): epics are clusters, `needs` is a line, `after`
/// a dashed one, an epic's `needs` a bold one between clusters. The tasks of the critical path have a
/// thick border.
#[must_use]
pub fn dot(plan: &ValidPlan, graph: &Graph) -> String {
    let overview = Overview::new(plan, graph, 1);
    let mut out = String::from(
        "digraph plan {\n    rankdir=LR;\n    compound=true;\n    node [shape=box, style=rounded];\n",
    );
    let node = |task| node(plan, &overview, task);
    for (index, epic) in plan.epics().iter().enumerate().filter(|(_, e)| !e.tasks.is_empty()) {
        let label = label(epic.id.as_str(), epic.title.as_deref());
        let _ = writeln!(out, "    subgraph cluster_{index} {{\n        label={label};");
        for task in &epic.tasks {
            let _ = writeln!(out, "        {}", node(*task));
        }
        out.push_str("    }\n");
    }
    for task in plan.indices().filter(|task| plan.task(*task).epic.is_none()) {
        let _ = writeln!(out, "    {}", node(task));
    }
    for task in plan.indices() {
        for needed in &plan.task(task).needs {
            let _ = writeln!(out, "    t{} -> t{};", needed.0, task.0);
        }
        let soft = plan.task(task).after.iter();
        for other in soft.filter(|other| !plan.task(task).needs.contains(other)) {
            let _ = writeln!(out, "    t{} -> t{} [style=dashed];", other.0, task.0);
        }
    }
    for (index, epic) in plan.epics().iter().enumerate() {
        for needed in &epic.needs {
            // An edge between clusters is one between some tasks of theirs, cut at the borders.
            let tasks = (plan.epics()[needed.get()].tasks.last(), epic.tasks.first());
            if let (Some(from), Some(to)) = tasks {
                let _ = writeln!(
                    out,
                    "    t{} -> t{} [style=bold, ltail=cluster_{}, lhead=cluster_{index}];",
                    from.0, to.0, needed.0
                );
            }
        }
    }
    out.push_str("}\n");
    out
}

fn node(plan: &ValidPlan, overview: &Overview, index: TaskIndex) -> String {
    let task = plan.task(index);
    let label = label(task.id.as_str(), task.title.as_deref());
    let thick = if overview.is_critical[index.get()] { ", penwidth=3" } else { "" };
    format!("t{} [label={label}{thick}];", index.0)
}

/// A quoted string. Inside one, only quotes and backslashes mean anything.
fn label(id: &str, title: Option<&str>) -> String {
    let escaped = |text: &str| plain(text).replace('\\', "\\\\").replace('"', "\\\"");
    title.map_or_else(|| format!("\"{id}\""), |title| format!("\"{id}\\n{}\"", escaped(title)))
}
