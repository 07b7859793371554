//! The table of leases: can it be read, and who of its holders is dead.

use orch_model::ports::{LeaseInfo, LockError, LockHolder};
use orch_state::{FileLocks, FileStore};

use super::{Finding, Invariant, Known, Remedy, Runs};

pub(super) async fn check(
    locks: &FileLocks,
    store: &FileStore,
    runs: &Runs,
    findings: &mut Vec<Finding>,
) -> Result<(), LockError> {
    let found = locks.inspect().await?;
    let finding = |place: &std::path::Path, what: String| {
        Finding::new(Invariant::LocksAreFree, place.display(), what)
    };
    if let Some(reason) = found.unreadable {
        // The living may hold leases in it that nobody else knows of.
        findings.push(finding(&found.table, reason).cure(format!(
            "when no run is going on and nobody uses `orch lock`: rm {}",
            found.table.display()
        )));
    }
    // Other repositories may share the folder; of their runs nothing is known here.
    let is_shared = !locks.dir().starts_with(store.dir());
    for lease in &found.dead {
        let LockHolder::Attempt { run, task, .. } = &lease.holder else {
            findings.push(finding(&found.table, dead(lease)).repairable(Remedy::SweepLeases));
            continue;
        };
        // Whoever takes a run up frees what it held before.
        if !runs.get(run).map_or(is_shared, Known::may_go_on) {
            let finding = finding(&found.table, dead(lease)).of(run, Some(task));
            findings.push(finding.repairable(Remedy::SweepLeases));
        }
    }
    for table in &found.outdated {
        let what = "it tells of locks before the machine was started anew".to_owned();
        findings.push(finding(table, what).repairable(Remedy::SweepLeases));
    }
    Ok(())
}

fn dead(lease: &LeaseInfo) -> String {
    let names: Vec<&str> = lease.locks.iter().map(|held| held.claim.name.as_str()).collect();
    format!("{} holds {} and none of its processes lives", lease.holder, names.join(", "))
}
