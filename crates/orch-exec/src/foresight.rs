//! Foresees conflicts: what tasks at work have committed so far is merged pair by pair, on objects, and
//! where that conflicts people are told while there is still time.
//!
//! Nobody tells when an agent commits, so the branches are looked at now and then: one call of git
//! while two or more tasks are at work, and one for each pair of which a branch has moved. Only what is
//! committed is seen.

use std::{collections::HashMap, sync::Arc, time::Duration};

use orch_model::{CommitId, event::Place, plan::TaskIndex, ports::WorktreeProvider};
use tokio::sync::{mpsc, oneshot};

use crate::{dispatcher::Message, internal::Input};

/// How often branches are looked at. An agent works for minutes; a look takes milliseconds.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How many pairs are merged at one look; the others have their turn at the next.
const PAIRS: usize = 16;

/// A task at work, and where.
pub(crate) type AtWork = (TaskIndex, Place);

/// Two tasks, the first one first in the plan.
type Pair = (TaskIndex, TaskIndex);

/// Looks for conflicts between tasks at work until the run is over.
pub(crate) async fn watch(
    worktrees: Arc<dyn WorktreeProvider>,
    messages: mpsc::UnboundedSender<Message>,
) {
    let mut pairs = Pairs::default();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let (reply, answer) = oneshot::channel();
        if messages.send(Message::AtWork(reply)).is_err() {
            return;
        }
        let Ok(mut at_work) = answer.await else { return };
        at_work.sort_by_key(|(task, _)| *task);
        let sides = if at_work.len() > 1 { sides(worktrees.as_ref(), at_work).await } else { None };
        for (pair, tips) in pairs.due(&sides.unwrap_or_default()) {
            let files = match worktrees.clash(&tips.0, &tips.1).await {
                Ok(files) => files,
                Err(error) => {
                    // One of them was run again meanwhile, for example.
                    tracing::debug!(%error, "a conflict can't be foreseen");
                    continue;
                }
            };
            let input = Input::ConflictExpected { tasks: [pair.0, pair.1], files };
            if messages.send(Message::Input(input, None)).is_err() {
                return;
            }
        }
    }
}

/// The tasks that have committed something, and what.
async fn sides(
    worktrees: &dyn WorktreeProvider,
    at_work: Vec<AtWork>,
) -> Option<Vec<(TaskIndex, CommitId)>> {
    let branches: Vec<String> = at_work.iter().map(|(_, place)| place.branch.clone()).collect();
    let tips = match worktrees.tips(&branches).await {
        Ok(tips) => tips,
        Err(error) => {
            tracing::debug!(%error, "branches can't be looked at");
            return None;
        }
    };
    let found = at_work.into_iter().filter_map(|(task, place)| {
        let tip = tips.iter().find(|side| side.branch == place.branch)?.commit.clone();
        (tip != place.base).then_some((task, tip))
    });
    Some(found.collect())
}

/// The pairs that were looked at, and where their branches stood then.
#[derive(Debug, Default)]
struct Pairs(HashMap<Pair, (CommitId, CommitId)>);

impl Pairs {
    /// The pairs that are to be looked at now: those of which a branch has moved.
    fn due(&mut self, sides: &[(TaskIndex, CommitId)]) -> Vec<(Pair, (CommitId, CommitId))> {
        let is_there = |task| sides.iter().any(|(side, _)| *side == task);
        self.0.retain(|(one, other), _| is_there(*one) && is_there(*other));
        let mut due = Vec::new();
        for (at, (one, tip)) in sides.iter().enumerate() {
            for (other, other_tip) in &sides[at + 1..] {
                let (pair, tips) = ((*one, *other), (tip.clone(), other_tip.clone()));
                if due.len() < PAIRS && self.0.get(&pair) != Some(&tips) {
                    self.0.insert(pair, tips.clone());
                    due.push((pair, tips));
                }
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(task: u32, tip: u32) -> (TaskIndex, CommitId) {
        (TaskIndex(task), CommitId::new(format!("{tip:040}")))
    }

    #[test]
    fn a_pair_is_looked_at_when_one_of_its_branches_has_moved() {
        let mut pairs = Pairs::default();
        let names = |due: Vec<(Pair, _)>| -> Vec<_> {
            due.into_iter().map(|((one, other), _)| (one.0, other.0)).collect()
        };
        assert_eq!(names(pairs.due(&[side(1, 1)])), []);
        let all = [side(1, 1), side(2, 1), side(3, 1)];
        assert_eq!(names(pairs.due(&all)), [(1, 2), (1, 3), (2, 3)]);
        assert_eq!(names(pairs.due(&all)), []);
        let moved = [side(1, 1), side(2, 2), side(3, 1)];
        assert_eq!(names(pairs.due(&moved)), [(1, 2), (2, 3)]);
        // One that was not there for a while is looked at again.
        assert_eq!(names(pairs.due(&moved[..2])), []);
        assert_eq!(names(pairs.due(&moved)), [(1, 3), (2, 3)]);
    }

    #[test]
    fn a_look_has_a_limit_and_the_rest_has_its_turn() {
        let mut pairs = Pairs::default();
        let sides: Vec<_> = (0..10).map(|task| side(task, 7)).collect();
        let looks: Vec<_> = std::iter::repeat_with(|| pairs.due(&sides).len()).take(4).collect();
        assert_eq!(looks, [16, 16, 13, 0]);
    }
}
