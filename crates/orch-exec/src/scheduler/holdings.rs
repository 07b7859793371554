//! Which tasks of a run exclude one another: locks, claimed files, shared worktrees.

use std::{collections::HashMap, sync::Arc};

use orch_deps::{Conflicts, GroupIndex};
use orch_model::{
    LockName, ValidPlan,
    plan::{LockMode, TaskIndex, spec::Isolation},
    progress::WaitReason,
};

/// What the tasks under way hold.
#[derive(Debug)]
pub(super) struct Holdings {
    plan: Arc<ValidPlan>,
    conflicts: Conflicts,
    /// By task: its locks, as indices into `held`.
    locks: Vec<Box<[(usize, LockMode)]>>,
    names: Vec<LockName>,
    held: Vec<Held>,
    /// Who writes where: one task at most for each group of overlapping claims.
    writers: Vec<(GroupIndex, TaskIndex)>,
    /// By epic: who uses its worktree; several where merges that conflicted go on after a resume.
    in_epic: Vec<Vec<TaskIndex>>,
}

#[derive(Debug, Default)]
struct Held {
    by: Vec<TaskIndex>,
    /// How many hold it for themselves; several, too, only after a resume.
    exclusive: usize,
    units: u32,
}

impl Holdings {
    pub(super) fn new(plan: Arc<ValidPlan>) -> Self {
        let conflicts = Conflicts::new(&plan);
        let mut index: HashMap<LockName, usize> = HashMap::new();
        let mut names = Vec::new();
        let locks = plan
            .tasks()
            .iter()
            .map(|task| {
                task.locks
                    .iter()
                    .map(|claim| {
                        let lock = *index.entry(claim.name.clone()).or_insert_with(|| {
                            names.push(claim.name.clone());
                            names.len() - 1
                        });
                        (lock, claim.mode)
                    })
                    .collect()
            })
            .collect();
        Self {
            locks,
            held: names.iter().map(|_| Held::default()).collect(),
            names,
            writers: Vec::new(),
            in_epic: vec![Vec::new(); plan.epics().len()],
            conflicts,
            plan,
        }
    }

    /// What keeps a task from being started beside those under way.
    pub(super) fn obstacle(&self, task: TaskIndex) -> Option<WaitReason> {
        let name = |task: TaskIndex| self.plan.task(task).id.clone();
        for (lock, mode) in &self.locks[task.get()] {
            let held = &self.held[*lock];
            let free = match mode {
                LockMode::Exclusive => held.by.is_empty(),
                LockMode::Counted { count, of } => held.exclusive == 0 && held.units + count <= *of,
                _ => held.exclusive == 0,
            };
            if !free {
                let holder = held.by.first().map_or_else(|| name(task), |by| name(*by));
                return Some(WaitReason::Lock { lock: self.names[*lock].clone(), holder });
            }
        }
        if let Some(group) = self.conflicts.group_of(task) {
            let mut writers = self.writers.iter();
            if let Some((_, by)) =
                writers.find(|(other, _)| self.conflicts.groups_overlap(group, *other))
            {
                return Some(WaitReason::Files { task: name(*by) });
            }
        }
        let user = self.shared_epic(task).and_then(|epic| self.in_epic[epic].first())?;
        Some(WaitReason::Epic { task: name(*user) })
    }

    pub(super) fn take(&mut self, task: TaskIndex) {
        for (lock, mode) in &self.locks[task.get()] {
            let held = &mut self.held[*lock];
            held.by.push(task);
            match mode {
                LockMode::Exclusive => held.exclusive += 1,
                LockMode::Counted { count, .. } => held.units += count,
                _ => {}
            }
        }
        if let Some(group) = self.conflicts.group_of(task) {
            self.writers.push((group, task));
        }
        if let Some(epic) = self.shared_epic(task) {
            self.in_epic[epic].push(task);
        }
    }

    pub(super) fn release(&mut self, task: TaskIndex) {
        for (lock, mode) in &self.locks[task.get()] {
            let held = &mut self.held[*lock];
            held.by.retain(|by| *by != task);
            match mode {
                LockMode::Exclusive => held.exclusive -= 1,
                LockMode::Counted { count, .. } => held.units -= count,
                _ => {}
            }
        }
        self.writers.retain(|(_, by)| *by != task);
        if let Some(epic) = self.shared_epic(task) {
            self.in_epic[epic].retain(|user| *user != task);
        }
    }

    fn shared_epic(&self, task: TaskIndex) -> Option<usize> {
        let task = self.plan.task(task);
        if task.isolation == Isolation::Epic { task.epic.map(|epic| epic.get()) } else { None }
    }
}
