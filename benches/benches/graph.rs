//! Reading a plan of ten thousand tasks and everything that is worked out from it before it runs.

use std::{hint::black_box, time::Duration};

use criterion::Criterion;
use orch_benches::shapes;
use orch_deps::{Conflicts, Graph, Ranks};
use orch_model::plan::{self, Format};

const TASKS: usize = 10_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    graph(&mut criterion);
    criterion.final_summary();
}

fn graph(criterion: &mut Criterion) {
    let spec = shapes::layered(TASKS, 100, 7);
    let text = shapes::to_toml(&spec);
    let valid = spec.clone().validate().expect("a valid plan");
    let graph = Graph::new(&valid);
    let claiming = shapes::with_distinct_globs(spec.clone()).validate().expect("a valid plan");

    let mut group = criterion.benchmark_group("graph/10k");
    group.sample_size(10).warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(2));
    group.bench_function("parse and validate TOML", |bencher| {
        bencher.iter(|| plan::parse(black_box(&text), Format::Toml).expect("a valid plan"));
    });
    group.bench_function("validate", |bencher| {
        bencher.iter_with_setup(|| spec.clone(), |spec| spec.validate().expect("a valid plan"));
    });
    group.bench_function("Graph::new", |bencher| bencher.iter(|| Graph::new(black_box(&valid))));
    group.bench_function("waves", |bencher| bencher.iter(|| black_box(&graph).waves()));
    group.bench_function("ranks", |bencher| {
        bencher.iter(|| Ranks::new(black_box(&graph), &valid, |_| None));
    });
    group.bench_function("critical path", |bencher| {
        bencher.iter(|| black_box(&graph).critical_path(|_| Duration::from_secs(1)));
    });
    group.bench_function("conflicts of 10k distinct globs", |bencher| {
        bencher.iter(|| Conflicts::new(black_box(&claiming)));
    });
    group.finish();
}
