//! The scheduler alone: ten thousand tasks driven to their end by a world in which nothing takes
//! any time.

use std::{sync::Arc, time::Duration};

use criterion::{Criterion, Throughput};
use orch_benches::{shapes, world};
use orch_model::{PlanSpec, event::RunSettings, plan::spec::Schedule};

const TASKS: usize = 10_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    scheduler(&mut criterion);
    criterion.final_summary();
}

fn scheduler(criterion: &mut Criterion) {
    let layered = || shapes::layered(TASKS, 100, 7);
    let fighting = shapes::fighting_for_a_lock(shapes::wide(TASKS / 5));
    let cases: [(&str, PlanSpec, Schedule); 6] = [
        ("chain", shapes::chain(TASKS), Schedule::Ready),
        ("wide", shapes::wide(TASKS), Schedule::Ready),
        ("layered", layered(), Schedule::Ready),
        ("layered, waves", layered(), Schedule::Waves),
        ("wide, one lock shared", shapes::sharing_a_lock(shapes::wide(TASKS)), Schedule::Ready),
        ("wide, one lock exclusive, 2k tasks", fighting, Schedule::Ready),
    ];
    let mut group = criterion.benchmark_group("scheduler/10k");
    group.sample_size(10).warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(2));
    for (name, spec, schedule) in cases {
        group.throughput(Throughput::Elements(spec.tasks.len() as u64));
        let plan = Arc::new(spec.validate().expect("a valid plan"));
        let settings = RunSettings { max_concurrency: 8, schedule, ..RunSettings::default() };
        group.bench_function(name, |bencher| {
            bencher.iter(|| world::drive(&plan, settings.clone(), |_| Duration::ZERO));
        });
    }
    group.finish();
}
