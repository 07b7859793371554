//! A plan for programs.

use orch_model::{
    AgentName, EpicId, TaskId, TaskIndex, ValidPlan, plan::AgentChoice, tiers::Tiers,
};
use serde::Serialize;

use super::{
    RenderOptions,
    overview::{Overview, lock_clashes},
};
use crate::{
    conflict::Conflicts,
    graph::{BoundBy, Graph},
};

/// The version of [`PlanDocument`]. It rises when a field changes its meaning or goes away; new
/// fields may come without that.
pub const VERSION: u32 = 1;

/// The most conflicts that a document lists; overlapping claims can be as many as pairs of tasks.
const MAX_CONFLICTS: usize = 10_000;

/// A plan as `orch plan --format json` prints it. Durations are in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PlanDocument {
    /// [`VERSION`].
    pub version: u32,
    /// The branch that results are merged into, where it is known.
    pub target: Option<String>,
    /// How many tasks run at the same time, at most.
    pub concurrency: usize,
    /// Epics, in plan order.
    pub epics: Vec<EpicDocument>,
    /// Tasks, in plan order.
    pub tasks: Vec<TaskDocument>,
    /// The tasks of each wave, in the order in which they would be started.
    pub waves: Vec<Vec<TaskId>>,
    /// The longest chain of tasks that wait for one another.
    pub critical_path: CriticalPathDocument,
    /// What a run can't be faster than; `null` where no task has an estimate.
    pub bounds: Option<BoundsDocument>,
    /// What keeps tasks apart that don't wait for one another.
    pub conflicts: Vec<ConflictDocument>,
    /// Whether `conflicts` lists only the first of them.
    pub conflicts_truncated: bool,
}

/// An epic in a [`PlanDocument`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct EpicDocument {
    /// Its id.
    pub id: EpicId,
    /// What it is about.
    pub title: Option<String>,
    /// Epics that it waits for.
    pub needs: Vec<EpicId>,
    /// Its tasks, in plan order.
    pub tasks: Vec<TaskId>,
}

/// A task in a [`PlanDocument`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TaskDocument {
    /// Its id.
    pub id: TaskId,
    /// What it is about.
    pub title: Option<String>,
    /// The epic it belongs to.
    pub epic: Option<EpicId>,
    /// Its wave, from 1.
    pub wave: usize,
    /// Tasks it names that must succeed first. What its epic needs stands with the epic.
    pub needs: Vec<TaskId>,
    /// Tasks it names that must end first.
    pub after: Vec<TaskId>,
    /// How many tasks wait for it directly, be it through their epic.
    pub dependents: usize,
    /// From 0, the highest, to 4.
    pub priority: u8,
    /// Whether it is part of the critical path.
    pub on_critical_path: bool,
    /// How long it is expected to take.
    pub estimate_seconds: Option<f64>,
    /// Who is given it first, and why; absent for a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<AgentChoice>,
    /// Who stands in for that agent, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fallback_agents: Vec<AgentName>,
}

/// The critical path in a [`PlanDocument`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CriticalPathDocument {
    /// Its tasks, first to last.
    pub tasks: Vec<TaskId>,
    /// The time along it; `null` where no task has an estimate. Tasks without one are taken to last
    /// the mean of the others.
    pub seconds: Option<f64>,
}

/// Lower bounds in a [`PlanDocument`]; see [`Bounds`](crate::Bounds).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BoundsDocument {
    /// The time along the critical path.
    pub critical_path_seconds: f64,
    /// The time of all tasks together.
    pub work_seconds: f64,
    /// The least time that a run takes.
    pub lower_seconds: f64,
    /// What it comes from: `critical_path` or `work`.
    pub by: &'static str,
    /// How many tasks have no estimate and are taken to last the mean of the others.
    pub tasks_without_estimate: usize,
}

/// Something that keeps tasks apart, in a [`PlanDocument`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ConflictDocument {
    /// Overlapping claims of files.
    Files {
        /// A glob.
        glob: String,
        /// Tasks that claim it.
        tasks: Vec<TaskId>,
        /// Another glob that overlaps it; absent where `tasks` are at odds with one another.
        #[serde(skip_serializing_if = "Option::is_none")]
        other_glob: Option<String>,
        /// Tasks that claim the other glob.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        other_tasks: Vec<TaskId>,
    },
    /// A lock.
    Lock {
        /// Its name.
        name: String,
        /// Tasks that can't all hold it at the same time.
        tasks: Vec<TaskId>,
    },
}

/// Describes a plan for programs: the value to serialise. Of the options only `concurrency` and
/// `target` matter.
#[must_use]
pub fn json(plan: &ValidPlan, graph: &Graph, options: &RenderOptions) -> PlanDocument {
    let overview = Overview::new(plan, graph, options.concurrency);
    let known = overview.durations.known_count();
    let (conflicts, conflicts_truncated) = conflicts(plan, graph);
    PlanDocument {
        version: VERSION,
        target: options.target.clone(),
        concurrency: options.concurrency.max(1),
        epics: epics(plan),
        tasks: plan.indices().map(|task| task_document(plan, graph, &overview, task)).collect(),
        waves: overview.waves.iter().map(|wave| ids(plan, wave)).collect(),
        critical_path: CriticalPathDocument {
            tasks: ids(plan, &overview.critical_path),
            seconds: (known > 0).then_some(overview.critical_time.as_secs_f64()),
        },
        bounds: (known > 0).then(|| BoundsDocument {
            critical_path_seconds: overview.bounds.critical_path.as_secs_f64(),
            work_seconds: overview.bounds.work.as_secs_f64(),
            lower_seconds: overview.bounds.lower.as_secs_f64(),
            by: match overview.bounds.by {
                BoundBy::CriticalPath => "critical_path",
                BoundBy::Work => "work",
            },
            tasks_without_estimate: graph.len() - known,
        }),
        conflicts,
        conflicts_truncated,
    }
}

fn ids(plan: &ValidPlan, tasks: &[TaskIndex]) -> Vec<TaskId> {
    tasks.iter().map(|task| plan.task(*task).id.clone()).collect()
}

fn epics(plan: &ValidPlan) -> Vec<EpicDocument> {
    let epics = plan.epics();
    epics
        .iter()
        .map(|epic| EpicDocument {
            id: epic.id.clone(),
            title: epic.title.clone(),
            needs: epic.needs.iter().map(|needed| epics[needed.get()].id.clone()).collect(),
            tasks: ids(plan, &epic.tasks),
        })
        .collect()
}

fn task_document(
    plan: &ValidPlan,
    graph: &Graph,
    overview: &Overview,
    index: TaskIndex,
) -> TaskDocument {
    let task = plan.task(index);
    TaskDocument {
        id: task.id.clone(),
        title: task.title.clone(),
        epic: task.epic.map(|epic| plan.epics()[epic.get()].id.clone()),
        wave: overview.waves.wave_of(index) + 1,
        needs: ids(plan, &task.needs),
        after: ids(plan, &task.after),
        dependents: graph.dependent_count(index),
        priority: task.priority,
        on_critical_path: overview.is_critical[index.get()],
        estimate_seconds: task.estimate.map(|estimate| estimate.as_secs_f64()),
        by: task.first_choice(plan.agents(), &Tiers),
        fallback_agents: task.candidates().skip(1).map(|one| one.agent).collect(),
    }
}

/// With whether there are more.
fn conflicts(plan: &ValidPlan, graph: &Graph) -> (Vec<ConflictDocument>, bool) {
    let conflicts = Conflicts::new(plan);
    let mut clashes = conflicts.clashes(graph);
    let mut documents: Vec<_> = clashes
        .by_ref()
        .take(MAX_CONFLICTS)
        .map(|clash| {
            let (other_glob, other_tasks) = clash.other.unzip();
            ConflictDocument::Files {
                glob: clash.glob,
                tasks: ids(plan, &clash.tasks),
                other_glob,
                other_tasks: ids(plan, &other_tasks.unwrap_or_default()),
            }
        })
        .collect();
    let truncated = clashes.next().is_some();
    documents.extend(lock_clashes(plan, graph).into_iter().map(|clash| ConflictDocument::Lock {
        name: clash.name.to_string(),
        tasks: ids(plan, &clash.tasks),
    }));
    (documents, truncated)
}
