//! What all drawings of a plan show.

use std::time::Duration;

use orch_model::{
    LockName, TaskIndex, ValidPlan,
    plan::{LockMode, spec::Schedule},
};

use crate::{
    conflict::unordered,
    graph::{Bounds, Graph},
    priority::{Durations, Ranks},
    waves::Waves,
};

/// A plan, looked at.
pub(super) struct Overview {
    pub(super) waves: Waves,
    pub(super) durations: Durations,
    pub(super) critical_path: Vec<TaskIndex>,
    /// Along the critical path.
    pub(super) critical_time: Duration,
    /// By task.
    pub(super) is_critical: Vec<bool>,
    pub(super) bounds: Bounds,
}

impl Overview {
    pub(super) fn new(plan: &ValidPlan, graph: &Graph, concurrency: usize) -> Self {
        let ranks = Ranks::new(graph, plan, |_| None);
        let max_per_wave = match plan.run().schedule {
            Some(Schedule::Waves) => plan.run().max_per_wave.map(|max| max as usize),
            _ => None,
        };
        let durations = ranks.durations().clone();
        let (critical_path, critical_time) = graph.critical_path(|task| durations.of(task));
        let mut is_critical = vec![false; graph.len()];
        for task in &critical_path {
            is_critical[task.get()] = true;
        }
        Self {
            waves: graph.waves().split(max_per_wave, &ranks),
            bounds: graph.bounds(|task| durations.of(task), concurrency),
            durations,
            critical_path,
            critical_time,
            is_critical,
        }
    }
}

/// A lock that keeps tasks apart which the graph does not.
pub(super) struct LockClash {
    pub(super) name: LockName,
    pub(super) tasks: Vec<TaskIndex>,
    pub(super) kind: LockKind,
}

/// How a lock keeps tasks apart.
pub(super) enum LockKind {
    /// One at a time.
    Exclusive,
    /// These want it alone; the others share it.
    Mixed(Vec<TaskIndex>),
    /// The tasks want so many units together, of so many.
    Counted(u64, u32),
}

/// The locks that keep tasks apart, by name.
pub(super) fn lock_clashes(plan: &ValidPlan, graph: &Graph) -> Vec<LockClash> {
    let mut holders = std::collections::BTreeMap::<&LockName, Vec<(TaskIndex, LockMode)>>::new();
    for task in plan.indices() {
        for claim in &plan.task(task).locks {
            holders.entry(&claim.name).or_default().push((task, claim.mode));
        }
    }
    holders.into_iter().filter_map(|(name, holders)| lock_clash(graph, name, &holders)).collect()
}

fn lock_clash(
    graph: &Graph,
    name: &LockName,
    holders: &[(TaskIndex, LockMode)],
) -> Option<LockClash> {
    if holders.len() < 2 {
        return None;
    }
    let all: Vec<_> = holders.iter().map(|(task, _)| *task).collect();
    let units = |of_tasks: &[TaskIndex]| {
        let holders = holders.iter().filter(|(task, _)| of_tasks.binary_search(task).is_ok());
        holders.fold((0, u32::MAX), |(sum, least), (_, mode)| match mode {
            LockMode::Counted { count, of } => (sum + u64::from(*count), least.min(*of)),
            _ => (sum, least),
        })
    };
    let alone: Vec<_> = holders
        .iter()
        .filter(|(_, mode)| matches!(mode, LockMode::Exclusive))
        .map(|(task, _)| *task)
        .collect();
    let (tasks, kind) = if alone.is_empty() {
        let (tasks, _) = unordered(graph, (&all, &all));
        let (wanted, of) = units(&tasks);
        if wanted <= u64::from(of) {
            return None;
        }
        (tasks, LockKind::Counted(wanted, of))
    } else {
        let (alone, tasks) = unordered(graph, (&alone, &all));
        let mut both = [&tasks[..], &alone[..]].concat();
        both.sort_unstable();
        both.dedup();
        let kind = if both == alone { LockKind::Exclusive } else { LockKind::Mixed(alone) };
        (both, kind)
    };
    (!tasks.is_empty()).then(|| LockClash { name: name.clone(), tasks, kind })
}
