//! What a supervisor writes down of how agents ended.
//!
//! What the last line about an attempt says is read; after any damage what is read is what one of the lines said,
//! or nothing.

use orch_exec::shim::fuzz::{last, line};
use orch_model::{
    TaskId,
    outcome::{AgentExit, ExitStatus},
};

use crate::{damage::damage, input::Input};

/// Runs the target.
///
/// # Panics
/// Where something does not hold.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let tasks = ["a", "b"].map(|id| TaskId::new(id).expect("an id"));
    if input.below(4) == 0 {
        let text = input.rest();
        for task in &tasks {
            let found = last(text, task, 1);
            // Whatever follows on a line of its own that can't be read is passed over.
            let torn = [text, b"\n{\"v\":1,\"at\""].concat();
            assert_eq!(last(&torn, task, 1), found);
        }
        return;
    }
    let mut lines = Vec::new();
    let mut said: Vec<(usize, u32, Option<AgentExit>)> = Vec::new();
    for _ in 0..input.below(6) {
        let (task, attempt) = (input.below(2), 1 + input.below(2) as u32);
        let exit = (input.below(4) > 0).then(|| exit(&mut input));
        lines.extend(line(&tasks[task], attempt, exit.clone()).expect("a line is written"));
        said.push((task, attempt, exit));
    }
    let of = |task: usize, attempt: u32| {
        said.iter().filter(move |(t, a, _)| (*t, *a) == (task, attempt)).map(|(_, _, exit)| exit)
    };
    let keys = [(0, 1), (0, 2), (1, 1), (1, 2)];
    for (task, attempt) in keys {
        assert_eq!(last(&lines, &tasks[task], attempt).as_ref(), of(task, attempt).next_back());
    }
    damage(&mut lines, &mut input);
    for (task, attempt) in keys {
        if let Some(found) = last(&lines, &tasks[task], attempt) {
            assert!(of(task, attempt).any(|exit| *exit == found), "{found:?} was never written");
        }
    }
}

fn exit(input: &mut Input<'_>) -> AgentExit {
    let status = match input.byte() {
        code @ 0..128 => ExitStatus::Code(i32::from(code)),
        signal => ExitStatus::Signal(i32::from(signal) - 127),
    };
    let mut exit = AgentExit::new(status);
    exit.output_tail = input.text(40);
    exit.is_done = input.flag();
    exit
}
