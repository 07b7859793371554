//! What simulated processes hear of each other: at once, and on the thread that all of them share.

use std::{
    cell::RefCell,
    collections::HashSet,
    mem::ManuallyDrop,
    path::{Path, PathBuf},
};

use orch_model::event::AgentIdentity;
use tokio::sync::broadcast;

use super::{BACKLOG, DEADLOCK, FREED, News, Sign};

thread_local! {
    /// Never dropped with the thread: that would wake those whom a failed schedule left behind.
    static EARS: ManuallyDrop<RefCell<Vec<Ear>>> = const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

/// One process that listens.
struct Ear {
    pid: Option<u32>,
    dir: PathBuf,
    signs: broadcast::Sender<Sign>,
    follows: HashSet<u32>,
}

/// Forgets who listened, and begins to tell of the ends of simulated processes.
pub(crate) fn begin() {
    EARS.with(|ears| ears.take());
    orch_faults::interleave::at_death(|pid| {
        EARS.with(|ears| {
            let ears = ears.borrow();
            ears.iter()
                .filter(|ear| ear.follows.contains(&pid))
                .for_each(|ear| ear.say(Sign::Freed));
        });
    });
}

/// Listens to a folder from now on.
pub(in crate::locks) fn listen(dir: &Path) -> News {
    let (signs, heard) = broadcast::channel(BACKLOG);
    let ear = Ear { pid: orch_faults::own_pid(), dir: dir.into(), signs, follows: HashSet::new() };
    EARS.with(|ears| {
        let mut ears = ears.borrow_mut();
        ears.retain(|ear| ear.signs.receiver_count() > 0);
        ears.push(ear);
    });
    News::of_simulated(heard)
}

/// Has this process hear of the ends of these.
pub(in crate::locks) fn follow(processes: &[AgentIdentity]) {
    let own = orch_faults::own_pid();
    EARS.with(|ears| {
        let mut ears = ears.borrow_mut();
        for ear in ears.iter_mut().filter(|ear| own.is_some() && ear.pid == own) {
            for process in processes.iter().filter(|process| Some(process.pid) != own) {
                ear.follows.insert(process.pid);
                if orch_faults::is_dead(process.pid) == Some(true) {
                    ear.say(Sign::Freed);
                }
            }
        }
    });
}

/// Tells those who listen to a folder that a file of it was closed.
pub(in crate::locks) fn tell(dir: &Path, name: &str) {
    let sign = match name {
        FREED => Sign::Freed,
        DEADLOCK => Sign::Deadlock,
        _ => return,
    };
    EARS.with(|ears| {
        let ears = ears.borrow();
        ears.iter().filter(|ear| ear.dir == dir).for_each(|ear| ear.say(sign));
    });
}

impl Ear {
    fn say(&self, sign: Sign) {
        // It has gone meanwhile.
        let _ = self.signs.send(sign);
    }
}
