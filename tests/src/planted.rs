//! Known mistakes, each of which can be planted where it would be made, and what catches it.
//!
//! A layer of tests proves itself by what it catches: a bug that only one lucky seed finds means that a kind of
//! fault is missing. `cargo run -p orch-tests --bin planted-bugs` tries all of them and prints the table.

mod layers;
mod record;

pub use layers::{Layer, Programs, Verdict};
pub use record::Tried;

/// A known mistake.
#[derive(Debug, Clone, Copy)]
pub struct Bug {
    /// As `ORCH_PLANTED_BUG` names it.
    pub name: &'static str,
    /// What is done wrong.
    pub mistake: &'static str,
    /// The layers that catch it.
    pub layers: &'static [Layer],
}

/// In the order of the way of an event and of a task.
pub const BUGS: &[Bug] = &[
    Bug {
        name: "no-file-sync",
        mistake: "a file takes its place before its content was synced",
        layers: &[Layer::FailPoints("")],
    },
    Bug {
        name: "no-folder-sync",
        mistake: "the folder is not synced after a rename",
        layers: &[Layer::FailPoints("")],
    },
    Bug {
        name: "goes-on-after-failed-sync",
        mistake: "the journal takes events after a sync that failed",
        layers: &[Layer::Suite("orch-state")],
    },
    Bug {
        name: "state-before-journal",
        mistake: "the state file tells what the journal does not hold yet",
        layers: &[Layer::Suite("orch-state")],
    },
    Bug {
        name: "torn-tail-kept",
        mistake: "events are appended to a torn record",
        layers: &[Layer::Suite("orch-state"), Layer::FailPoints("journal::append.before")],
    },
    Bug {
        name: "checksum-ignored",
        mistake: "a record is taken whatever its checksum says",
        layers: &[Layer::Suite("orch-state")],
    },
    Bug {
        name: "second-writer-unnoticed",
        mistake: "an orchestrator writes on after another one took the run over",
        layers: &[Layer::Suite("orch-state"), Layer::Interleavings("orch-state")],
    },
    Bug {
        name: "check-then-write",
        mistake: "another one can write between the look at the journal's end and the writing",
        layers: &[Layer::Interleavings("orch-state")],
    },
    Bug {
        name: "older-state-last",
        mistake: "of two states that are published at once the older one may stay",
        layers: &[Layer::Interleavings("orch-state")],
    },
    Bug {
        name: "half-of-two-tails",
        mistake: "a torn tail that is replaced while it is read is taken for damage",
        layers: &[Layer::Interleavings("orch-state")],
    },
    Bug {
        name: "note-emptied-first",
        mistake: "a kill in the middle of an owner's note takes the count of epochs away",
        layers: &[Layer::Interleavings("orch-state")],
    },
    Bug {
        name: "lock-file-deleted",
        mistake: "a lock file is deleted when its lock is given back",
        layers: &[Layer::Suite("orch-state"), Layer::Interleavings("orch-state")],
    },
    Bug {
        name: "stale-by-age",
        mistake: "a lock counts as left behind when its file is old",
        layers: &[Layer::Suite("orch-state")],
    },
    Bug {
        name: "bare-pid",
        mistake: "a process is told by its pid alone",
        layers: &[Layer::Suite("orch-state")],
    },
    Bug {
        name: "fence-stands-still",
        mistake: "two leases get the same fencing token",
        layers: &[Layer::Suite("orch-state"), Layer::Interleavings("orch-state")],
    },
    Bug {
        name: "one-lock-is-enough",
        mistake: "of several locks only the first is looked at",
        layers: &[Layer::Suite("orch-state"), Layer::Interleavings("orch-state")],
    },
    Bug {
        name: "read-before-gate",
        mistake: "the table of leases is read before the gate is passed",
        layers: &[Layer::Interleavings("orch-state")],
    },
    Bug {
        name: "looks-before-it-listens",
        mistake: "who waits for a lock looks at it first and listens then",
        layers: &[Layer::Interleavings("orch-state")],
    },
    Bug {
        name: "unlock-by-close",
        mistake: "a lock is given back by closing its file only",
        layers: &[Layer::Suite("orch-worktree")],
    },
    Bug {
        name: "live-lock-broken",
        mistake: "git's lock files are removed while git is at work",
        layers: &[Layer::Suite("orch-worktree")],
    },
    Bug {
        name: "git-dir-leaks",
        mistake: "git gets the variables that lead it to another repository",
        layers: &[Layer::Suite("orch-worktree")],
    },
    Bug {
        name: "objects-not-synced",
        mistake: "work is merged whose objects a power cut can take",
        layers: &[Layer::FailPoints("")],
    },
    Bug {
        name: "removed-before-kept",
        mistake: "the worktree of a failed attempt goes before its work is kept",
        layers: &[Layer::FailPoints(""), Layer::Suite("orch-worktree")],
    },
    Bug {
        name: "merged-twice",
        mistake: "a merge that is repeated is made again",
        layers: &[Layer::Suite("orch-worktree"), Layer::Interleavings("orch-worktree")],
    },
    Bug {
        name: "moves-whatever-is-there",
        mistake: "the results are moved though somebody else moved them",
        layers: &[Layer::Interleavings("orch-worktree")],
    },
    Bug {
        name: "torn-work-taken",
        mistake: "after a power cut the work of an agent that had ended is taken as it is found",
        layers: &[Layer::Simulation],
    },
    Bug {
        name: "record-of-earlier-boot",
        mistake: "after a power cut an agent's record is taken for that of the repeated attempt",
        layers: &[Layer::Suite("orch-exec")],
    },
    Bug {
        name: "act-before-intent",
        mistake: "what was decided is done before it is written down",
        layers: &[Layer::Simulation],
    },
    Bug {
        name: "told-before-sync",
        mistake: "observers are told of what a power cut can take",
        layers: &[Layer::Simulation],
    },
    Bug {
        name: "merge-before-sync",
        mistake: "a merge is made whose intent a power cut can take",
        layers: &[Layer::Simulation],
    },
    Bug {
        name: "resumes-on-unsynced",
        mistake: "a run is taken up on events that a power cut can take",
        layers: &[Layer::Simulation],
    },
    Bug {
        name: "no-adoption",
        mistake: "after a crash nobody asks for the agents that still run",
        layers: &[Layer::Simulation],
    },
    Bug {
        name: "frozen-for-ever",
        mistake: "agents that were stopped are not let go on after a crash",
        layers: &[Layer::EndToEnd("survival"), Layer::Simulation],
    },
    Bug {
        name: "timer-forgotten",
        mistake: "after a crash nobody waits for the pause before a retry",
        layers: &[Layer::Simulation],
    },
    Bug {
        name: "retries-without-end",
        mistake: "failed attempts are repeated beyond what the plan allows",
        layers: &[Layer::Simulation],
    },
    Bug {
        name: "one-too-many",
        mistake: "one task more than allowed runs at a time",
        layers: &[Layer::Simulation],
    },
    Bug {
        name: "ended-is-merged",
        mistake: "a task that failed counts as done for those that need it",
        layers: &[Layer::Simulation],
    },
    Bug {
        name: "blind-to-purpose",
        mistake: "what is left of a verification is looked for, and the agent at work is ended with it",
        layers: &[Layer::EndToEnd("recovery"), Layer::Suite("orch-exec")],
    },
    Bug {
        name: "lease-left-behind",
        mistake: "an attempt that was cut off keeps its locks as long as its supervisor lives",
        layers: &[Layer::Simulation, Layer::FailPoints("entry::head.write.before=1*return(kill)")],
    },
    Bug {
        name: "lease-of-orchestrator",
        mistake: "locks of agents are freed when their orchestrator dies",
        layers: &[Layer::EndToEnd("leases")],
    },
    Bug {
        name: "single-killpg",
        mistake: "a group is killed once, and what forks meanwhile escapes",
        layers: &[Layer::Suite("orch-exec")],
    },
    Bug {
        name: "no-subreaper",
        mistake: "what an agent leaves behind becomes nobody's child",
        layers: &[Layer::FailPoints(""), Layer::EndToEnd("processes")],
    },
    Bug {
        name: "end-not-recorded",
        mistake: "how an agent ended is lost with its supervisor",
        layers: &[Layer::EndToEnd("supervised")],
    },
];
