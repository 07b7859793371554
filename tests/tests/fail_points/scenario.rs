//! What is run while things go wrong.

use orch_tests::{Plan, TestRepo, binary};

/// A run whose fail points are of interest.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// The setting `worktree_kind`.
    kind: &'static str,
    /// Whether merged results are verified.
    is_queued: bool,
    /// Whether the user has the target checked out.
    pub(crate) is_checked_out: bool,
    /// What is there before the life that is of interest.
    pub(crate) before: Before,
    /// The tasks that its plan has, in the order of their names.
    pub(crate) tasks: &'static [&'static str],
}

/// What is there before the life that is of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nothing.
    Nothing,
    /// A run that is broken off in every way: it is taken up again.
    BrokenRun,
    /// A run whose last record is half written.
    TornRun,
    /// A run that has ended, whose records are removed afterwards.
    EarlierRun,
}

/// All of them. Together they pass every fail point.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "worktrees",
        kind: "worktree",
        is_queued: true,
        is_checked_out: false,
        before: Before::Nothing,
        tasks: ALL,
    },
    Scenario {
        name: "pool",
        kind: "pool",
        is_queued: false,
        is_checked_out: true,
        before: Before::Nothing,
        tasks: ALL,
    },
    Scenario {
        name: "overlay",
        kind: "overlay",
        is_queued: false,
        is_checked_out: false,
        before: Before::Nothing,
        tasks: ALL,
    },
    Scenario {
        name: "recovery",
        kind: "worktree",
        is_queued: true,
        is_checked_out: true,
        before: Before::BrokenRun,
        tasks: ALL,
    },
    Scenario {
        name: "records",
        kind: "worktree",
        is_queued: false,
        is_checked_out: false,
        before: Before::EarlierRun,
        tasks: ALL,
    },
];

/// A small run, and its recovery: for sweeps over all that they do.
pub(crate) const SMALL: [Scenario; 2] = [
    Scenario {
        name: "small run",
        kind: "worktree",
        is_queued: false,
        is_checked_out: true,
        before: Before::Nothing,
        tasks: FEW,
    },
    Scenario {
        name: "small recovery",
        kind: "worktree",
        is_queued: false,
        is_checked_out: true,
        before: Before::TornRun,
        tasks: FEW,
    },
];

/// All tasks but `bare`, which leaves nothing. Each one writes a file of its name.
const ALL: &[&str] = &["again", "alone", "coded", "hangs", "late", "left", "right"];
const FEW: &[&str] = &["alone", "late"];

impl Scenario {
    /// Whether it can be lived through here.
    pub(crate) fn works(&self) -> bool {
        if self.kind == "worktree" {
            return true;
        }
        let repo = TestRepo::new();
        repo.configure(&format!("worktree_kind = \"{}\"\n", self.kind));
        let found = repo.orch(["doctor", "--json"]).run().json();
        found["worktrees"]["kind"] == self.kind
    }

    /// The repository that it happens in.
    pub(crate) fn repo(&self) -> TestRepo {
        let repo = TestRepo::new();
        repo.configure(&format!(
            "grace = \"300ms\"\nbackoff = \"20ms\"\nworktree_kind = \"{}\"\n",
            self.kind
        ));
        std::fs::write(repo.beside("home/.gitconfig"), "").expect("a file can be written");
        if !self.is_checked_out {
            repo.git(["checkout", "--quiet", "-b", "mine"]);
            repo.make_dirty();
        }
        repo
    }

    /// The plan, whose tasks write down their starts in the file `record`.
    pub(crate) fn plan(&self, repo: &TestRepo, record: &str) -> Plan {
        let begin = format!("record {record}");
        let fake = binary::fake_agent().display();
        // Its first attempt has to be killed, or ends by itself once nobody is there to do that.
        let hangs = |then: &str| {
            format!(
                "'{fake}' '{begin}' && if [ \"$ORCH_ATTEMPT\" = 1 ]; then sleep 3; fi && '{fake}' '{then}'"
            )
        };
        let plan =
            Plan::new().set("max_concurrency", 4).set("target", "main").default_value("retries", 6);
        let plan = if self.tasks == FEW {
            plan
        } else {
            plan
                // It has no folder and no control group of its own, and leaves somebody behind.
                .task("bare", |t| {
                    let leaves = hangs("setsid-grandchild 100");
                    t.shell(&leaves).set("timeout", "1s").set("isolation", "none")
                })
                // These two conflict where they work at the same time.
                .task("left", |t| conflicting(t, &begin, "left"))
                .task("right", |t| conflicting(t, &begin, "right"))
        };
        let plan = plan
            .task("alone", |t| {
                t.script(format!("{begin}; write work/alone.txt alone; commit alone"))
                    .verify(["true"])
                    .lock("narrow")
            })
            // This one leaves somebody behind too, and works.
            .task("late", |t| {
                let work = "cat work/alone.txt; setsid-grandchild 100; write work/late.txt late";
                t.script(format!("{begin}; {work}")).needs(["alone"]).lock("narrow")
            });
        if self.tasks == FEW {
            return plan;
        }
        let plan = plan
            // What its first attempt did is kept.
            .task("again", |t| {
                let half = "write work/again.txt half; commit half; write rest.txt 1";
                t.script(format!("{begin}; {half}; fail-times 1; write work/again.txt again"))
            })
            .task("hangs", |t| t.shell(&hangs("write work/hangs.txt hangs")).set("timeout", "1s"));
        let plan = coded(plan, repo, &format!("'{fake}' '{begin}'"));
        if self.is_queued { plan.verify_merged("true").merge_value("batch", 2) } else { plan }
    }
}

fn conflicting(task: orch_tests::Task, begin: &str, side: &str) -> orch_tests::Task {
    task.script(format!(
        "{begin}; append work/both.txt {side}; write work/{side}.txt {side}; commit {side}"
    ))
    .set("on_conflict", "rebase-retry")
}

/// A task of a coding agent: what is like gemini.
fn coded(plan: Plan, repo: &TestRepo, begin: &str) -> Plan {
    let script = format!(
        r#"case "$*" in *--version*) echo 0.61.0; exit;; esac
{begin} || exit 1
mkdir -p work && echo coded > work/coded.txt
echo '{{"type":"init","session_id":"s-1","model":"m"}}'
echo '{{"type":"message","role":"assistant","content":"done"}}'
echo '{{"type":"result","status":"success","stats":{{"input_tokens":12,"output_tokens":3,"cached":2,"input":10}}}}'"#
    );
    let agent = repo.program("gemini", &script);
    plan.coding_agent("coder", "gemini", &agent).task("coded", |t| t.prompt("coder", "do it"))
}
