//! A plan as a Mermaid flowchart.

use std::fmt::Write as _;

use orch_model::{TaskIndex, ValidPlan};

use super::{overview::Overview, words::plain};
use crate::graph::Graph;

/// Draws a plan as a [Mermaid](https://mermaid.js.org) flowchart: epics are boxes around their
/// tasks, `needs` is a line, `after` a dotted one, an epic's `needs` a thick one between boxes. The
/// tasks of the critical path have a thick border.
#[must_use]
pub fn mermaid(plan: &ValidPlan, graph: &Graph) -> String {
    let overview = Overview::new(plan, graph, 1);
    let mut out = String::from("flowchart LR\n");
    for (index, epic) in plan.epics().iter().enumerate().filter(|(_, e)| !e.tasks.is_empty()) {
        let label = label(epic.id.as_str(), epic.title.as_deref());
        let _ = writeln!(out, "    subgraph e{index}[\"{label}\"]");
        for task in &epic.tasks {
            let _ = writeln!(out, "        {}", node(plan, *task));
        }
        out.push_str("    end\n");
    }
    for task in plan.indices().filter(|task| plan.task(*task).epic.is_none()) {
        let _ = writeln!(out, "    {}", node(plan, task));
    }
    for task in plan.indices() {
        for needed in &plan.task(task).needs {
            let _ = writeln!(out, "    t{} --> t{}", needed.0, task.0);
        }
        let soft = plan.task(task).after.iter();
        for other in soft.filter(|other| !plan.task(task).needs.contains(other)) {
            let _ = writeln!(out, "    t{} -.-> t{}", other.0, task.0);
        }
    }
    for (index, epic) in plan.epics().iter().enumerate().filter(|(_, e)| !e.tasks.is_empty()) {
        for needed in epic.needs.iter().filter(|e| !plan.epics()[e.get()].tasks.is_empty()) {
            let _ = writeln!(out, "    e{} ==> e{index}", needed.0);
        }
    }
    if overview.critical_path.len() > 1 {
        let path: Vec<_> = overview.critical_path.iter().map(|t| format!("t{}", t.0)).collect();
        out.push_str("    classDef critical stroke-width:3px\n");
        let _ = writeln!(out, "    class {} critical", path.join(","));
    }
    out
}

fn node(plan: &ValidPlan, index: TaskIndex) -> String {
    let task = plan.task(index);
    format!("t{}[\"{}\"]", index.0, label(task.id.as_str(), task.title.as_deref()))
}

fn label(id: &str, title: Option<&str>) -> String {
    title.map_or_else(|| id.into(), |title| format!("{id}<br/>{}", escape(&plain(title))))
}

/// Replaces what means something inside a quoted label with entity codes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' | '#' | '&' | '<' | '>' | '`' | '\\' | ';' => {
                let _ = write!(escaped, "#{};", u32::from(letter));
            }
            _ => escaped.push(letter),
        }
    }
    escaped
}
