//! Which tasks must not run together because they claim the same files.

mod clash;
mod glob;

use std::collections::HashMap;

use orch_model::{TaskIndex, ValidPlan};

use self::glob::Glob;
use crate::graph::Graph;

pub use clash::Clash;
pub(crate) use clash::unordered;

/// Tasks with the same list of claims; see [`Conflicts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupIndex(pub u32);

impl GroupIndex {
    /// As an index into a slice.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

/// The overlaps between the `files` that the tasks of a plan claim.
///
/// Two claims overlap if some path is matched by both globs, whether or not such a file exists.
/// `*`, `?` and `[...]` stay within a name and `**` stands for any number of folders. A glob that
/// ends in a plain name and has no `**`, such as `src/auth`, also claims everything below, in case
/// it is a folder. Where the answer is in doubt, they overlap.
///
/// Tasks with the same claims form a *group*; groups are numbered in plan order of their first
/// task. What is stored is which distinct *globs* overlap: ten thousand tasks that all claim
/// `Cargo.lock` beside a folder of their own cost no more than the lists themselves.
#[derive(Debug, Clone)]
pub struct Conflicts {
    /// Distinct globs, as first written.
    globs: Vec<Box<str>>,
    /// By glob: the globs that overlap it, itself included; sorted.
    overlaps: Vec<Vec<u32>>,
    /// By glob: the groups that claim it; sorted.
    claimed_by: Vec<Vec<GroupIndex>>,
    /// By group: the globs that it claims; sorted.
    claims: Vec<Vec<u32>>,
    /// By group: its tasks, in plan order.
    members: Vec<Vec<TaskIndex>>,
    /// By task.
    group_of: Vec<Option<GroupIndex>>,
}

impl Conflicts {
    /// Compares the claims of all tasks.
    #[must_use]
    pub fn new(plan: &ValidPlan) -> Self {
        let mut globs: Vec<Box<str>> = Vec::new();
        let mut glob_ids: HashMap<&str, u32> = HashMap::new();
        let mut group_ids: HashMap<Vec<u32>, GroupIndex> = HashMap::new();
        let (mut claims, mut members) = (Vec::new(), Vec::<Vec<_>>::new());
        let mut group_of = Vec::with_capacity(plan.tasks().len());
        for (index, task) in plan.tasks().iter().enumerate() {
            if task.files.is_empty() {
                group_of.push(None);
                continue;
            }
            let mut claim: Vec<u32> = task
                .files
                .iter()
                .map(|glob| {
                    *glob_ids.entry(glob).or_insert_with(|| {
                        globs.push(glob.as_str().into());
                        (globs.len() - 1) as u32
                    })
                })
                .collect();
            claim.sort_unstable();
            claim.dedup();
            let group = *group_ids.entry(claim).or_insert_with_key(|claim| {
                claims.push(claim.clone());
                members.push(Vec::new());
                GroupIndex((claims.len() - 1) as u32)
            });
            members[group.get()].push(TaskIndex::from(index));
            group_of.push(Some(group));
        }
        let mut claimed_by = vec![Vec::new(); globs.len()];
        for (group, claim) in claims.iter().enumerate() {
            for glob in claim {
                claimed_by[*glob as usize].push(GroupIndex(group as u32));
            }
        }
        let overlaps = overlaps(&globs);
        Self { globs, overlaps, claimed_by, claims, members, group_of }
    }

    /// How many groups there are.
    #[must_use]
    pub const fn group_count(&self) -> usize {
        self.claims.len()
    }

    /// The group of a task; `None` where it claims no files.
    ///
    /// # Panics
    /// Where the index comes from another plan.
    #[must_use]
    pub fn group_of(&self, task: TaskIndex) -> Option<GroupIndex> {
        self.group_of[task.get()]
    }

    /// The tasks of a group, in plan order.
    ///
    /// # Panics
    /// Where the index comes from another plan.
    #[must_use]
    pub fn tasks_of(&self, group: GroupIndex) -> &[TaskIndex] {
        &self.members[group.get()]
    }

    /// The groups no task of which may run beside a task of this one: sorted, the group itself
    /// included. Computed on demand, in time proportional to the overlapping claims.
    ///
    /// # Panics
    /// Where the index comes from another plan.
    #[must_use]
    pub fn conflicting_groups(&self, group: GroupIndex) -> Vec<GroupIndex> {
        let mut groups: Vec<_> = self.claims[group.get()]
            .iter()
            .flat_map(|glob| &self.overlaps[*glob as usize])
            .flat_map(|glob| &self.claimed_by[*glob as usize])
            .copied()
            .collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// Whether two groups claim some path in common; a group does so with itself.
    ///
    /// # Panics
    /// Where an index comes from another plan.
    #[must_use]
    pub fn groups_overlap(&self, a: GroupIndex, b: GroupIndex) -> bool {
        a == b
            || self.claims[a.get()].iter().any(|glob| {
                let row = &self.overlaps[*glob as usize];
                self.claims[b.get()].iter().any(|other| row.binary_search(other).is_ok())
            })
    }

    /// Whether two tasks claim some path in common; a task that claims anything does so with itself.
    ///
    /// # Panics
    /// Where an index comes from another plan.
    #[must_use]
    pub fn overlap(&self, a: TaskIndex, b: TaskIndex) -> bool {
        match (self.group_of(a), self.group_of(b)) {
            (Some(a), Some(b)) => self.groups_overlap(a, b),
            _ => false,
        }
    }

    /// Every pair of tasks that claim some path in common, each once, the smaller index first.
    pub fn pairs(&self) -> impl Iterator<Item = (TaskIndex, TaskIndex)> + '_ {
        self.group_of.iter().enumerate().flat_map(move |(index, group)| {
            let task = TaskIndex::from(index);
            let mut others: Vec<_> = group
                .map(|group| self.conflicting_groups(group))
                .into_iter()
                .flatten()
                .flat_map(|group| self.tasks_of(group))
                .copied()
                .filter(|other| *other > task)
                .collect();
            others.sort_unstable();
            others.into_iter().map(move |other| (task, other))
        })
    }

    /// The pairs of [`pairs`](Self::pairs) that the graph does not keep apart anyway, by letting
    /// one wait for the other.
    ///
    /// Takes O((tasks + dependencies) * tasks with claims / 64) in all, spent as the iterator goes.
    pub fn pairs_unordered<'a>(
        &'a self,
        graph: &'a Graph,
    ) -> impl Iterator<Item = (TaskIndex, TaskIndex)> + 'a {
        // Pairs come sorted by their first task: one sweep over the graph does for 64 of those.
        let claiming: Vec<_> = self.claiming().collect();
        let mut block = 0..0;
        let mut ordered = Vec::new();
        let mut place = 0;
        self.pairs().filter(move |(a, b)| {
            while claiming[place] != *a {
                place += 1;
            }
            if !block.contains(&place) {
                block = place..claiming.len().min(place + crate::graph::BLOCK);
                ordered = graph.ordered_with(&claiming[block.clone()]);
            }
            ordered[b.get()] & (1 << (place - block.start)) == 0
        })
    }

    /// Tasks that claim anything, in plan order.
    fn claiming(&self) -> impl Iterator<Item = TaskIndex> + '_ {
        (0..self.group_of.len()).map(TaskIndex::from).filter(|t| self.group_of(*t).is_some())
    }
}

/// Whether two globs of claimed files can match the same path, as [`Conflicts`] takes them. Where the
/// answer is in doubt, they overlap.
///
/// ```
/// use orch_deps::conflict::globs_overlap;
///
/// assert!(globs_overlap("src/**/login.rs", "src/auth"));
/// assert!(!globs_overlap("src/*.rs", "src/auth/login.rs"));
/// ```
#[must_use]
pub fn globs_overlap(a: &str, b: &str) -> bool {
    a == b || overlaps(&[a.into(), b.into()])[0].len() > 1
}

/// By glob: the globs that overlap it, itself included; sorted.
///
/// Only globs one of whose constant prefixes begins with the other can overlap. In the order of the
/// prefixes those that begin the current one form a stack.
fn overlaps(globs: &[Box<str>]) -> Vec<Vec<u32>> {
    let parsed: Vec<_> = globs.iter().map(|glob| Glob::parse(glob)).collect();
    let mut by_prefix: Vec<_> =
        parsed.iter().enumerate().map(|(index, glob)| (glob.prefix(), index)).collect();
    by_prefix.sort_unstable();
    let mut overlaps: Vec<Vec<u32>> = (0..globs.len() as u32).map(|index| vec![index]).collect();
    let mut open: Vec<&(String, usize)> = Vec::new();
    for current in &by_prefix {
        while open.pop_if(|(prefix, _)| !current.0.starts_with(prefix.as_str())).is_some() {}
        for (_, other) in &open {
            if parsed[current.1].overlaps(&parsed[*other]) {
                overlaps[current.1].push(*other as u32);
                overlaps[*other].push(current.1 as u32);
            }
        }
        open.push(current);
    }
    overlaps.iter_mut().for_each(|row| row.sort_unstable());
    overlaps
}

#[cfg(test)]
mod tests;
