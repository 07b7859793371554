//! Plans, as text in each of their formats.
//!
//! A refusal names at least one problem, in the order of the text, each with a place in it and in one line.
//! A plan that is taken is taken the same by the way that keeps the place of every value, is the same once it was written
//! and read again, and its tasks can be dealt into waves, so nobody waits for himself.

use orch_deps::{Conflicts, Graph};
use orch_model::{
    ValidPlan,
    plan::{self, Format, PlanSpec, Problems},
};

use crate::input::Input;

/// How many problems are told of, and one that says that there are more.
const MOST: usize = 201;

/// Runs the target.
///
/// # Panics
/// Where something does not hold.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let format = [Format::Toml, Format::Yaml, Format::Json][input.below(3)];
    let text = String::from_utf8_lossy(input.rest());
    match plan::parse(&text, format) {
        Ok(plan) => {
            let placed = plan::parse_placed(&text, format).expect("it was taken without places");
            assert_eq!(placed.spec(), plan.spec());
            accepted(&plan);
        }
        Err(problems) => refused(&text, &problems),
    }
}

/// What holds of a plan that was taken.
pub(crate) fn accepted(plan: &ValidPlan) {
    let json = serde_json::to_string(plan.spec()).expect("a plan is written");
    let spec: PlanSpec = serde_json::from_str(&json).expect("what was written is read");
    assert_eq!(&spec, &**plan.spec(), "written and read");
    let again = spec.validate().expect("it was valid");
    assert_eq!((again.tasks(), again.epics()), (plan.tasks(), plan.epics()));
    let parsed = plan::parse(&json, Format::Json).expect("it is a plan as JSON");
    assert_eq!(parsed.spec(), plan.spec(), "written and parsed");

    let graph = Graph::new(plan);
    let waves = graph.waves();
    let mut wave_of = vec![None; graph.len()];
    for (number, task) in (0..waves.len())
        .flat_map(|number| waves.get(number).iter().map(move |task| (number, *task)))
    {
        assert_eq!(wave_of[task.get()].replace(number), None, "a task has one wave");
    }
    for task in plan.indices() {
        let own = wave_of[task.get()].expect("a task has a wave");
        for (other, _) in graph.waits_for(task) {
            assert!(wave_of[other.get()] < Some(own), "nobody waits for himself");
        }
    }
    if plan.tasks().len() <= 50 {
        for (a, b) in Conflicts::new(plan).pairs() {
            assert!(a < b && !plan.task(a).files.is_empty() && !plan.task(b).files.is_empty());
        }
    }
}

/// What holds of a refusal.
fn refused(text: &str, problems: &Problems) {
    assert!(!problems.is_empty() && problems.len() <= MOST, "{} problems", problems.len());
    let mut last = 0;
    for (number, problem) in problems.iter().enumerate() {
        assert!(!problem.message.is_empty() && !problem.message.contains('\n'), "{problem:?}");
        let Some(span) = problem.span.clone() else {
            assert_eq!(number, MOST - 1, "it has no place: {problem:?}");
            continue;
        };
        assert!(span.start >= last, "out of order: {problem:?}");
        last = span.start;
        for span in problem.related.iter().map(|(span, _)| span.clone()).chain([span]) {
            let part = text
                .get(span.clone())
                .unwrap_or_else(|| panic!("{span:?} is no place: {problem:?}"));
            assert!(!part.contains('\n'), "more than a line: {problem:?}");
        }
    }
}
