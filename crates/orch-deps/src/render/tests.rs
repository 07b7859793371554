use super::*;
use crate::{
    graph::Graph,
    testing::{plan, spec},
};

const PLAN: &str = "
    epic infra # Ground
    epic auth infra
    schema @infra =10m f:db/schema.sql # Database schema
    network @infra
    login @auth p1 =5m <schema f:src/auth/** l:db # Login endpoint
    signup @auth =5m f:src/auth/** l:db # Sign-up \"endpoint\"
    audit @auth f:src/auth/log.rs
    docs =2m # The manual
    release =1m <login <signup ~docs ~audit";

fn draw(text: &str, change: impl FnOnce(&mut RenderOptions)) -> String {
    let plan = plan(text);
    let mut options = RenderOptions::of(&plan);
    change(&mut options);
    super::text(&plan, &Graph::new(&plan), &options)
}

#[track_caller]
fn check(found: &str, expected: &str) {
    let expected = expected.strip_prefix('\n').unwrap_or(expected);
    assert!(found == expected, "found:\n{found}\nexpected:\n{expected}");
}

#[test]
fn a_plan_as_text() {
    let found = draw(PLAN, |options| {
        options.target = Some("main".into());
        options.concurrency = 4;
    });
    check(
        &found,
        "
7 tasks in 2 epics, 3 waves; into main; at most 4 at a time

wave 1: 3 tasks
├─ * schema   10m  Database schema  [infra]
├─   network       [infra]
└─   docs      2m  The manual

wave 2: 3 tasks
├─ * login     5m  Login endpoint  [auth]  needs all of infra and schema
├─   signup    5m  Sign-up \"endpoint\"  [auth]  needs all of infra
└─   audit         [auth]  needs all of infra

wave 3: 1 task
└─ * release   1m  needs login and signup; after audit and docs

* critical path: schema -> login -> release (about 16m)
  2 tasks without an estimate: taken to last 4m 36s, the mean of the others

by these estimates a run takes at least 16m: the critical path

conflicts:
├─ login and signup both claim src/auth/**: they won't run together
├─ login and signup claim src/auth/** and audit claims src/auth/log.rs: they won't run together
└─ login and signup hold the lock db: one at a time
",
    );
}

#[test]
fn without_estimates_and_without_unicode() {
    let found = draw("a\nb <a # The second\nc ~a", |options| options.unicode = false);
    check(
        &found,
        "
3 tasks, 2 waves; at most 3 at a time

wave 1: 1 task
`- * a

wave 2: 2 tasks
|- * b  The second  needs a
`-   c  after a

* critical path: a -> b (2 tasks)
",
    );
}

#[test]
fn a_single_task_has_no_path_and_work_bounds_many() {
    check(&draw("a", |_| {}), "1 task, 1 wave; at most 3 at a time\n\nwave 1: 1 task\n└─ * a\n");
    let found = draw("a =4s\nb =4s\nc =500ms <a", |options| options.concurrency = 0);
    let expected = "\n* critical path: a -> c (4s 500ms)\n\n\
                    by these estimates a run takes at least 8s 500ms: 8s 500ms of work, 1 at a time\n";
    assert!(found.ends_with(expected), "{found}");
}

#[test]
fn what_is_long_is_folded() {
    let mut text = String::new();
    for index in 0..1200 {
        text += &format!("wide-{index}\n");
    }
    text += "many ";
    text += &(0..9).map(|index| format!("<wide-{index} ")).collect::<String>();
    text += " # A title that goes on for so long that nobody would like to read it to its end, \u{1b}[31mever\n";
    text += "c0\n";
    for index in 1..60 {
        text += &format!("c{index} <c{}\n", index - 1);
    }
    let found = draw(&text, |options| {
        options.max_tasks_per_wave = 2;
        options.max_waves = 2;
        options.columns = 80;
    });
    let lines: Vec<_> = found.lines().collect();
    check(
        &lines[..9].join("\n"),
        "
1,261 tasks, 60 waves; at most 3 at a time

wave 1: 1,201 tasks
├─ * c0
├─   wide-0
└─ … and 1,199 more

wave 2: 2 tasks
├─ * c1  needs c0",
    );
    check(
        &lines[9..11].join("\n"),
        "
└─   many    A title that goes on for so long that nobody would like to read it…
       needs wide-0, wide-1, wide-2, wide-3, wide-4, wide-5 and 3 more",
    );
    check(
        &lines[lines.len() - 5..].join("\n"),
        "
… and 58 waves more

* critical path: c0 -> c1 -> c2 -> c3 -> c4 -> c5 -> c6 -> c7 -> c8 -> c9 -> c10
    -> c11 -> c12 -> c13 -> c14 -> c15 -> … 36 more -> c52 -> c53 -> c54 -> c55
    -> c56 -> c57 -> c58 -> c59 (60 tasks)",
    );
    assert!(found.lines().all(|line| words::width(line) <= 80), "{found}");
    assert!(!found.contains('\u{1b}'), "nothing that a terminal obeys");
}

#[test]
fn locks_and_claims_of_many() {
    let found = draw(
        "a l:db f:x f:y l:gpu:2/3\nb l:db:shared f:x l:gpu:1/3\nc l:db:shared f:x/1 l:gpu:1/3\n\
         d f:x l:only l:read:shared l:one\ne f:z l:read:shared l:one\ng <d f:z/2 l:pair:1/2\n\
         h l:pair:1/2\ni <h l:one",
        |options| options.max_conflicts = 2,
    );
    let conflicts = found.split_once("conflicts:\n").expect("conflicts").1;
    check(
        conflicts,
        "
├─ a, b and d all claim x: they won't run together
├─ a, b and d claim x and c claims x/1: they won't run together
├─ a, b and c hold the lock db, which a wants alone
├─ a, b and c take 4 units of the lock gpu, which has 3
└─ … and more
",
    );
}

#[test]
fn a_schedule_by_waves_is_shown_as_it_runs() {
    let mut spec = spec("a\nb p0\nc");
    spec.run.schedule = Some(orch_model::plan::spec::Schedule::Waves);
    spec.run.max_per_wave = Some(2);
    spec.run.target = Some("next".into());
    spec.run.max_concurrency = Some(2);
    let plan = ValidPlan::new(spec).expect("a valid plan");
    let found = super::text(&plan, &Graph::new(&plan), &RenderOptions::of(&plan));
    check(
        &found,
        "
3 tasks, 2 waves; into next; at most 2 at a time, wave by wave

wave 1: 2 tasks
├─   b
└─ * a

wave 2: 1 task
└─   c
",
    );
}

const SMALL: &str = "
    epic infra # \"Ground\" & co; #1 \\
    epic auth infra
    epic empty
    schema @infra # Data <base>
    network @infra
    login @auth <schema
    release <login ~schema ~login";

#[test]
fn a_plan_as_mermaid() {
    let plan = plan(SMALL);
    check(
        &mermaid(&plan, &Graph::new(&plan)),
        "
flowchart LR
    subgraph e0[\"infra<br/>#34;Ground#34; #38; co#59; #35;1 #92;\"]
        t0[\"schema<br/>Data #60;base#62;\"]
        t1[\"network\"]
    end
    subgraph e1[\"auth\"]
        t2[\"login\"]
    end
    t3[\"release\"]
    t0 --> t2
    t2 --> t3
    t0 -.-> t3
    e0 ==> e1
    classDef critical stroke-width:3px
    class t0,t2,t3 critical
",
    );
}

#[test]
fn a_plan_as_dot() {
    let plan = plan(SMALL);
    check(
        &dot(&plan, &Graph::new(&plan)),
        r#"
digraph plan {
    rankdir=LR;
    compound=true;
    node [shape=box, style=rounded];
    subgraph cluster_0 {
        label="infra\n\"Ground\" & co; #1 \\";
        t0 [label="schema\nData <base>", penwidth=3];
        t1 [label="network"];
    }
    subgraph cluster_1 {
        label="auth";
        t2 [label="login", penwidth=3];
    }
    t3 [label="release", penwidth=3];
    t0 -> t2;
    t2 -> t3;
    t0 -> t3 [style=dashed];
    t1 -> t2 [style=bold, ltail=cluster_0, lhead=cluster_1];
}
"#,
    );
}

#[test]
fn a_plan_as_json() {
    let plan = plan(
        "epic x\nepic y x\na @x =90s f:src # First\nb @y <a p0 f:src\nc f:src/c l:db\nd l:db =30s",
    );
    let options = RenderOptions { target: Some("main".into()), ..RenderOptions::of(&plan) };
    let document = json(&plan, &Graph::new(&plan), &options);
    let found = serde_json::to_value(&document).expect("a document");
    let task = |id,
                title: Option<&str>,
                epic: Option<&str>,
                wave,
                needs: &[&str],
                after: &[&str]| {
        serde_json::json!({
            "id": id, "title": title, "epic": epic, "wave": wave, "needs": needs, "after": after,
            "dependents": u32::from(id == "a"),
            "priority": if id == "b" { 0 } else { 2 },
            "on_critical_path": matches!(id, "a" | "b"),
            "estimate_seconds": match id { "a" => Some(90.0), "d" => Some(30.0), _ => None },
        })
    };
    let expected = serde_json::json!({
        "version": 1,
        "target": "main",
        "concurrency": 3,
        "epics": [
            { "id": "x", "title": null, "needs": [], "tasks": ["a"] },
            { "id": "y", "title": null, "needs": ["x"], "tasks": ["b"] },
        ],
        "tasks": [
            task("a", Some("First"), Some("x"), 1, &[], &[]),
            task("b", None, Some("y"), 2, &["a"], &[]),
            task("c", None, None, 1, &[], &[]),
            task("d", None, None, 1, &[], &[]),
        ],
        "waves": [["a", "c", "d"], ["b"]],
        "critical_path": { "tasks": ["a", "b"], "seconds": 150.0 },
        "bounds": {
            "critical_path_seconds": 150.0,
            "work_seconds": 240.0,
            "lower_seconds": 150.0,
            "by": "critical_path",
            "tasks_without_estimate": 2,
        },
        "conflicts": [
            {
                "kind": "files",
                "glob": "src", "tasks": ["a", "b"],
                "other_glob": "src/c", "other_tasks": ["c"],
            },
            { "kind": "lock", "name": "db", "tasks": ["c", "d"] },
        ],
        "conflicts_truncated": false,
    });
    assert_eq!(found, expected);
}

#[test]
fn json_knows_no_time_without_estimates_and_names_the_bound() {
    let plan = plan("a\nb");
    let document = json(&plan, &Graph::new(&plan), &RenderOptions::default());
    assert_eq!((document.bounds, document.critical_path.seconds), (None, None));
    let plan = crate::testing::plan("a =1s\nb =1s");
    let options = RenderOptions { concurrency: 1, ..RenderOptions::default() };
    let document = json(&plan, &Graph::new(&plan), &options);
    assert_eq!(document.bounds.expect("bounds").by, "work");
}
