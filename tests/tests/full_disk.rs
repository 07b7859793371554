//! The disk fills up in the middle of a run, at one point or another; then there is room again, and the run goes on.
//!
//! Repository, worktrees and the state of orch are on a small file system in memory. By the seed it is
//! full from the beginning but for some bytes, or from a random moment on; agents write files and output, orch its journal, git its objects.
//! After a while, or when `orch` has given up, there is room again.
//!
//! This needs root; elsewhere it is skipped, and says so. In its short form it is part of the tests. The long form:
//!
//! ```text
//! ORCH_FULL_DISKS=200 cargo test --release -p orch-tests --test full_disk -- --nocapture
//! ```
//!
//! `ORCH_FULL_DISK_SEED=N` repeats what an earlier call did, whose seed it prints first.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use orch_tests::{
    Campaign, Checkout, Outcome, Plan, RunningOrch, SmallDisk, TestRepo, Witness, binary,
    in_own_namespace, random, setting,
};

const TASKS: usize = 10;
const COMMAND: &str =
    "ORCH_FULL_DISKS=200 cargo test --release -p orch-tests --test full_disk -- --nocapture";
/// How large the disk is.
const DISK: u64 = 48 << 20;
/// How much each agent writes, in KiB.
const WORK: usize = 96;
/// How much room there is at most when the disk is filled, which is less than the run takes.
const ROOM: u64 = 2 << 20;
/// How long it is full at most.
const FULL: Duration = Duration::from_millis(2500);
/// How long a run has room at most before the disk is filled.
const EARLIER: Duration = Duration::from_millis(900);
const TICK: Duration = Duration::from_millis(2);

#[test]
#[expect(clippy::print_stderr, reason = "what a campaign did is its result")]
fn a_run_whose_disk_was_full_loses_nothing() {
    let disks: u32 = setting("ORCH_FULL_DISKS", 3);
    let name = "a_run_whose_disk_was_full_loses_nothing";
    let programs = ["unshare", "mount", "umount"];
    if !in_own_namespace(name, &programs, &format!("{disks} full disks")) {
        return;
    }
    let mut random = random("ORCH_FULL_DISK_SEED");
    let mut campaign = Campaign::begin("full-disks", COMMAND);
    for number in 0..disks {
        if !campaign.has_time() {
            break;
        }
        let mut world = World::new(&mut random);
        eprintln!("disk {number}: {:?}", world.filled);
        world.run_to_the_end(&mut random);
        eprintln!("disk {number}: {:?}", world.seen);
        world.seen.tell(&mut campaign);
        campaign.did("runs", 1_u32);
    }
    campaign.finish();
}

/// When the disk is filled.
#[derive(Debug, Clone, Copy)]
struct Filled {
    /// How much room is left then, in bytes.
    room: u64,
    /// So long after the run began; `None`: before it.
    after: Option<Duration>,
    /// Whether nothing is started while the disk is nearly full.
    has_floor: bool,
}

/// How the full disk was met.
#[derive(Debug, Default)]
struct Seen {
    /// Orchestrators that gave up, and said so.
    gave_up: u32,
    /// Starts were held.
    held: u32,
    /// Attempts that were to be repeated for it.
    shortages: u32,
    /// Attempts that failed in another way.
    failures: u32,
    /// Nobody noticed anything.
    unnoticed: u32,
}

impl Seen {
    fn tell(&self, campaign: &mut Campaign) {
        for (what, count) in [
            ("full disk that ended the orchestrator", self.gave_up),
            ("full disk for which starts were held", self.held),
            ("attempt repeated for want of room", self.shortages),
            ("attempt that failed on a full disk", self.failures),
            ("full disk that nobody noticed", self.unnoticed),
        ] {
            campaign.caused(what, count);
        }
    }
}

/// A run whose disk is full for a while.
struct World {
    /// Dropped before the disk that it is on.
    repo: TestRepo,
    disk: SmallDisk,
    filled: Filled,
    plan: Plan,
    witness: Witness,
    checkout: Checkout,
    seen: Seen,
}

impl World {
    fn new(random: &mut fastrand::Rng) -> Self {
        let filled = Filled {
            // As many small rooms as large ones, and sometimes none.
            room: random.u64(0..=ROOM) >> random.u32(0..12),
            after: random.bool().then(|| share(EARLIER, random)),
            has_floor: random.u8(0..3) == 0,
        };
        let disk = SmallDisk::new(DISK);
        let repo = TestRepo::builder().on(disk.path()).build();
        let floor = if filled.has_floor { "512KiB" } else { "0B" };
        repo.configure(&format!(
            "grace = \"300ms\"\nbackoff = \"20ms\"\nmin_free_disk = \"{floor}\"\n"
        ));
        repo.git(["checkout", "--quiet", "-b", "mine"]);
        repo.make_dirty();
        let checkout = repo.checkout();
        let record = repo.signal("record");
        let mut plan = Plan::new().set("max_concurrency", 3).set("target", "main");
        // An agent that finds no room has failed, and is charged for that.
        plan = plan.default_value("retries", 40);
        let fake = binary::fake_agent().display();
        for number in 0..TASKS {
            let id = name(number);
            let fill = format!(
                "mkdir -p work && yes {id} | head -c {WORK}k > work/{id}.txt && test $(wc -c < work/{id}.txt) = {}",
                WORK << 10
            );
            let begin = format!("'{fake}' 'record {record}; flood 20000'");
            let line = match number % 2 {
                // What is not committed is committed by the engine.
                0 => format!("{begin} && {fill}"),
                _ => format!("{begin} && {fill} && git add work && git commit -q -m {id}"),
            };
            plan = plan.task(&id, |task| {
                let task = task.shell(&line);
                if number % 3 == 2 { task.needs([&*name(number - 1)]) } else { task }
            });
        }
        let (witness, seen) = (Witness::new(record), Seen::default());
        Self { repo, disk, filled, plan, witness, checkout, seen }
    }

    fn run_to_the_end(&mut self, random: &mut fastrand::Rng) {
        if self.filled.after.is_none() {
            self.disk.leave(self.filled.room);
        }
        let outcome = self.meet_the_full_disk(random);
        self.take_in(&outcome);
        if !self.repo.has_run() {
            // It gave up between the making of its folder and the first record.
            let _ = self.repo.orch(["doctor", "--repair"]).run();
            self.repo.orch(["gc"]).run().assert_code(0);
        }
        let mut is_done = outcome.code == Some(0);
        // Once more than is needed would be a run that never ends.
        for _ in 0..3 {
            if is_done {
                break;
            }
            let outcome = self.begin().wait();
            self.take_in(&outcome);
            is_done = outcome.code == Some(0);
        }
        assert!(is_done, "it is not taken up: {:?}\n{outcome}", self.filled);
        self.check_the_end();
    }

    /// Begins the run or takes it up.
    fn begin(&self) -> RunningOrch<'_> {
        if self.repo.has_run() {
            return self.repo.orch(["resume", "--json"]).spawn();
        }
        let plan = self.repo.plan_file(&self.plan.to_string());
        self.repo.orch(["run", "--json"]).arg(plan).spawn()
    }

    fn meet_the_full_disk(&self, random: &mut fastrand::Rng) -> Outcome {
        let plan = self.repo.plan_file(&self.plan.to_string());
        let mut run = self.repo.orch(["run", "--json"]).arg(plan).spawn();
        if let Some(after) = self.filled.after {
            lives_for(&mut run, after);
            self.disk.leave(self.filled.room.min(self.disk.free()));
        }
        lives_for(&mut run, share(FULL, random));
        self.ask_while_full();
        self.disk.relieve();
        run.wait()
    }

    /// Whoever looks at the run while the disk is full is told of it, or of what is wrong.
    fn ask_while_full(&self) {
        for arguments in [&["runs", "--json"][..], &["status", "--json"], &["doctor", "--json"]] {
            let outcome = self.repo.orch(arguments).run();
            assert!(!outcome.text().contains("panicked"), "{outcome}");
            if outcome.code == Some(3) {
                self.assert_names_the_disk(&outcome);
            }
        }
    }

    /// One line names the place and the cure.
    #[track_caller]
    fn assert_names_the_disk(&self, outcome: &Outcome) {
        let place = self.disk.path().to_string_lossy();
        let tells = |line: &&str| line.contains(&*place) && line.contains("free some space");
        assert_eq!(outcome.stderr.lines().filter(tells).count(), 1, "{outcome}");
    }

    fn take_in(&mut self, outcome: &Outcome) {
        assert!(!outcome.text().contains("panicked"), "{outcome}");
        match outcome.code {
            Some(0 | 1) => {}
            Some(3) => {
                self.seen.gave_up += 1;
                self.assert_names_the_disk(outcome);
            }
            _ => panic!("an unknown end\n{outcome}"),
        }
        let count = |is_meant: &dyn Fn(&serde_json::Value) -> bool| {
            u32::try_from(outcome.events.iter().filter(|event| is_meant(event)).count())
                .unwrap_or(u32::MAX)
        };
        let is_shortage =
            |event: &serde_json::Value| event.to_string().contains("resource_shortage");
        let shortages = count(&|event| event["change"] == "retry" && is_shortage(event));
        let failures = count(&|event| event["change"] == "retry") - shortages;
        let held = u32::from(count(&|event| event["event"] == "starts_held") > 0);
        self.seen.shortages += shortages;
        self.seen.failures += failures;
        self.seen.held += held;
        let is_unnoticed = outcome.code == Some(0) && shortages + failures + held == 0;
        self.seen.unnoticed += u32::from(is_unnoticed && self.seen.gave_up == 0);
        self.repo.wait_until_quiet();
        self.witness.see(outcome);
    }

    /// Every task was merged exactly once, with all that it wrote, and nothing is left.
    #[track_caller]
    fn check_the_end(&self) {
        let repo = &self.repo;
        let filled = self.filled;
        assert_eq!(repo.doctor(), Vec::<serde_json::Value>::new(), "{filled:?}");
        assert_eq!(repo.checkout(), self.checkout, "{filled:?}");
        repo.assert_tidy(&["main", "mine"]);
        let tasks: BTreeSet<String> = (0..TASKS).map(name).collect();
        let trailer = "--format=%(trailers:key=Orch-Task,valueonly,separator=%x20)";
        let merges = repo.git(["log", "--merges", trailer, "main"]);
        let mut merged: Vec<&str> = merges.lines().collect();
        merged.sort_unstable();
        assert_eq!(merged, Vec::from_iter(&tasks), "each task was merged once: {filled:?}");
        for task in &tasks {
            let size = repo.git(["cat-file", "-s", &format!("main:work/{task}.txt")]);
            assert_eq!(size, (WORK << 10).to_string(), "{task}: {filled:?}");
        }
        repo.git(["fsck", "--full"]);
    }
}

/// Lets it live so long, if it does.
fn lives_for(orch: &mut RunningOrch<'_>, life: Duration) {
    let end = Instant::now() + life;
    while !orch.has_ended() && Instant::now() < end {
        // The moment is what is random here, not something that is waited for.
        thread::sleep(TICK);
    }
}

fn share(most: Duration, random: &mut fastrand::Rng) -> Duration {
    most.mul_f64(random.f64())
}

fn name(number: usize) -> String {
    format!("t{number:02}")
}
