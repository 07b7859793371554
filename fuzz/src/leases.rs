//! The file that says who holds which locks.
//!
//! What can't be read is refused with a cure; what is read is the same once it was written and read again.
//! Whatever it says, dead processes are forgotten and requests are answered, a request that was granted is there, and a lock that
//! was granted alone is granted to nobody else.

use orch_model::{
    LockName, RunId, TaskId,
    plan::{LockClaim, LockMode},
    ports::{LockHolder, LockRequest},
};
use orch_state::fuzz::Leases;

use crate::input::Input;

/// Runs the target.
///
/// # Panics
/// Where something does not hold.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (at, claims, mode) = (u64::from(input.byte()) << 8, 1 + input.below(3), input.byte());
    let mut leases = match Leases::read(input.rest()) {
        Ok(leases) => leases,
        Err(error) => {
            assert!(error.contains("delete it") || error.contains("use the orch"), "{error}");
            return;
        }
    };
    let text = leases.write().expect("a table is written");
    let again = Leases::read(&text).expect("what was written is read");
    assert_eq!(again.write().expect("a table is written"), text);

    let before = leases.count();
    leases.sweep(at);
    let swept = leases.count();
    assert!(swept.0 <= before.0 && swept.1 <= before.1);

    let names = ["a", "b", "db"].map(|name| LockName::new(name).expect("a name"));
    let claim = |(number, name): (usize, LockName)| {
        let mode = match (usize::from(mode) >> (2 * number)) % 4 {
            0 | 1 => LockMode::Exclusive,
            2 => LockMode::Shared,
            _ => LockMode::Counted { count: 1, of: 2 },
        };
        LockClaim::new(name, mode)
    };
    let claims: Vec<LockClaim> = names.into_iter().take(claims).enumerate().map(claim).collect();
    let request = |task: &str| {
        let (run, task) = (RunId::new("zz").expect("an id"), TaskId::new(task).expect("an id"));
        LockRequest::new(LockHolder::Attempt { run, task, attempt: 77 }, claims.clone())
    };
    if leases.ask(&request("one"), at) {
        let granted = leases.count();
        assert!(granted.0 == swept.0 + 1, "what was granted is there");
        if claims.iter().any(|claim| claim.mode == LockMode::Exclusive) {
            assert!(
                !leases.ask(&request("two"), at),
                "a lock that is held alone was granted twice"
            );
        }
    }
}
