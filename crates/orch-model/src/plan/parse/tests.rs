//! Plans as text: what comes out of good ones, and what is said of bad ones.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::plan::Position;

const TOML: &str = include_str!("testdata/example.toml");
const YAML: &str = include_str!("testdata/example.yaml");
const JSON: &str = include_str!("testdata/example.json");

/// Every problem as `line:column message [path]`, with its label, help and related places.
fn report(text: &str, format: Format) -> String {
    let Err(problems) = parse(text, format) else { return "no problem\n".into() };
    let mut report = String::new();
    for problem in &problems {
        let at = |span: &Range<usize>| Position::of(text, span.start);
        if let Some(span) = &problem.span {
            let _ = write!(report, "{} ", at(span));
        }
        let _ = writeln!(report, "{} [{}]", problem.message, problem.path);
        for (name, line) in [("label", &problem.label), ("help", &problem.help)] {
            if let Some(line) = line {
                let _ = writeln!(report, "    {name}: {line}");
            }
        }
        for (span, why) in &problem.related {
            let _ = writeln!(report, "    note: {} {why}", at(span));
        }
    }
    report
}

#[track_caller]
fn check(format: Format, text: &str, expected: &str) {
    let trim = |text: &str| {
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .fold(String::new(), |text, line| text + line + "\n")
    };
    assert_eq!(trim(&report(text, format)), trim(expected), "{text}");
}

#[test]
fn the_three_formats_say_the_same() {
    let plans =
        [(TOML, Format::Toml), (YAML, Format::Yaml), (JSON, Format::Json)].map(|(text, format)| {
            parse(text, format).unwrap_or_else(|problems| panic!("{format:?}:\n{problems}"))
        });
    let [toml, others @ ..] = &plans;
    for other in others {
        assert_eq!(toml.spec(), other.spec());
        assert_eq!(toml.tasks(), other.tasks());
        assert_eq!(toml.epics(), other.epics());
        assert_eq!(toml.agents(), other.agents());
        assert_eq!(toml.run(), other.run());
    }
    assert_eq!(toml.tasks().len(), 4);
    let plain = source::read_plain(TOML, Format::Toml).expect("no mistake");
    assert_eq!(plain, **parse_with_places(TOML, Format::Toml).unwrap().spec());
}

#[test]
fn a_spec_that_was_stored_reads_back_the_same() {
    let plan = parse(TOML, Format::Toml).unwrap();
    let stored = serde_json::to_string(&**plan.spec()).unwrap();
    let again = parse(&stored, Format::Json).unwrap();
    assert_eq!(plan.tasks(), again.tasks());
    assert_eq!(ValidPlan::new((**plan.spec()).clone()).unwrap().tasks(), plan.tasks());
}

#[test]
fn every_mistake_is_reported_at_once() {
    let text = include_str!("testdata/mistakes.toml");
    assert_eq!(report(text, Format::Toml), include_str!("testdata/mistakes.txt"));
}

#[test]
fn budgets_are_decimal_and_their_mistakes_are_placed() {
    let toml = "version = 1\n[run]\nbudget = { usd = \"1.10\", attempts = 20 }\non_budget = \"stop\"\n\
                [agents.a]\ncommand = [\"a\"]\nbudget = { tokens = 2000000 }\n\
                [[epic]]\nid = \"e\"\nbudget.usd = 1.1\n[[task]]\nid = \"t\"\nrun = \"x\"\nbudget.usd = 3\n";
    let yaml = "version: 1\nrun: { budget: { usd: \"$1.1\", attempts: 20 }, on_budget: stop }\n\
                agents: { a: { command: [a], budget: { tokens: 2000000 } } }\n\
                epic: [{ id: e, budget: { usd: 1.10 } }]\n\
                task: [{ id: t, run: x, budget: { usd: 3 } }]\n";
    let plan = parse(toml, Format::Toml).unwrap();
    assert_eq!(plan.spec(), parse(yaml, Format::Yaml).unwrap().spec());
    let budgets: Vec<_> =
        plan.run().budgets.iter().map(|(scope, budget)| format!("{scope} {budget}")).collect();
    let expected =
        ["run $1.10, 20 attempts", "epic:e $1.10", "task:t $3.00", "agent:a 2,000,000 tokens"];
    assert_eq!(budgets, expected);
    let stored = serde_json::to_string(&**plan.spec()).unwrap();
    assert_eq!(parse(&stored, Format::Json).unwrap().spec(), plan.spec());

    check(
        Format::Toml,
        "version = 1\n[run]\nbudget = { usd = \"1,5\", token = 3 }\non_budget = \"ask\"\n\
         [[epic]]\nid = \"e\"\nbudget = {}\n[[task]]\nid = \"t\"\nrun = \"x\"\n\
         budget = { usd = 0.0, tokens = 0 }\n[[task]]\nid = \"u\"\nrun = \"x\"\nbudget = \"1.00\"\n",
        "3:18 bad amount \"1,5\": it is no decimal number [run.budget.usd]
             help: write US dollars as a decimal, for example \"1.50\"
         3:25 unknown key `token` [run.budget.token]
             help: did you mean `tokens`?
         4:13 unknown value `ask` [run.on_budget]
             help: write `pause` or `stop`
         7:10 the budget limits nothing [epic[0].budget]
             help: write for example `{ usd = \"1.00\" }`, or remove it
         11:18 with a budget of 0 usd nothing could run [task[0].budget.usd]
             help: write more, or leave it out
         11:32 with a budget of 0 tokens nothing could run [task[0].budget.tokens]
             help: write more, or leave it out
         15:10 expected a table, found the text \"1.00\" [task[1].budget]",
    );
}

#[test]
fn broken_syntax_is_placed() {
    check(
        Format::Toml,
        "version = 1\n[run\ntarget = \"é\" x\n",
        "2:5 not valid TOML: unclosed table, expected `]` []
         3:14 not valid TOML: unexpected key or value, expected newline, `#` []",
    );
    check(
        Format::Toml,
        "schedule = ready\nverify = [a, b]\n",
        "1:12 not valid TOML: string values must be quoted, expected literal string []
             help: write text in quotes: \"...\"
         2:11 not valid TOML: string values must be quoted, expected literal string []
             help: write text in quotes: \"...\"",
    );
    check(
        Format::Yaml,
        "version: 1\ntask:\n  - id: \"é\n",
        "3:9 not valid YAML: while scanning a quoted scalar, found unexpected end of stream []",
    );
    check(
        Format::Json,
        "{\n  \"é\": 1,\n  version: 1\n}",
        "3:3 not valid JSON: key must be a string []",
    );
    check(Format::Json, "{\"version\": 1", "1:13 not valid JSON: EOF while parsing an object []");
    check(
        Format::Json,
        "{\"a\": \"\\ud800\"}",
        "1:14 not valid JSON: unexpected end of hex escape []",
    );
}

#[test]
fn a_key_given_twice_is_an_error_in_every_format() {
    let task = "[[task]]\nid = \"a\"\nrun = \"x\"\n";
    check(
        Format::Toml,
        &format!("version = 1\nversion = 1\n{task}run = \"y\"\nrum = 1\n"),
        "2:1 the key `version` is given twice []
             help: keep one of the two
         6:1 the key `run` is given twice []
             help: keep one of the two
         7:1 unknown key `rum` [task[0].rum]
             help: did you mean `run`?",
    );
    check(
        Format::Yaml,
        "version: 1\ntask:\n- id: a\n  run: x\n  run: y\n",
        "5:3 the key `run` is given twice []
             help: keep one of the two
             note: 4:3 first given here",
    );
    check(
        Format::Json,
        "{\"version\": 1, \"task\": [{\"id\": \"a\", \"run\": \"x\", \"id\": \"b\"}]}",
        "1:49 the key `id` is given twice []
             help: keep one of the two
             note: 1:26 first given here",
    );
}

#[test]
fn yaml_is_bounded() {
    check(
        Format::Yaml,
        "version: 1\n---\nversion: 2\n",
        "2:1 a second document begins here []\nhelp: put every plan into a file of its own",
    );
    check(
        Format::Yaml,
        "task: &a [*a]\n",
        "1:11 this alias contains itself []\nhelp: an anchor can't be used inside what it names",
    );
    check(
        Format::Yaml,
        "? [a]\n: b\n",
        "1:3 a list or a table can't be a key []\nhelp: use text as the key",
    );
    check(
        Format::Yaml,
        "a: &a [1]\n? *a\n: b\n",
        "2:3 a list or a table can't be a key []\nhelp: use text as the key",
    );
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        let _ = writeln!(bomb, "a{level}: &a{level} [{aliases}]");
    }
    let said = report(&bomb, Format::Yaml);
    assert!(said.contains("aliases repeat more than 100000 values"), "{said}");
}

#[test]
fn nesting_is_bounded() {
    for (format, text) in [
        (Format::Yaml, format!("a: {}{}", "[".repeat(100), "]".repeat(100))),
        (Format::Json, format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))),
    ] {
        let said = report(&text, format);
        assert!(said.contains("nested deeper than 64 levels"), "{format:?}: {said}");
    }
    let toml = format!("a = {}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(report(&toml, Format::Toml).contains("not valid TOML"));
}

#[test]
fn places_are_right_behind_marks_and_wide_characters() {
    let expected = "4:5 unknown key `rum` [task[0].rum]\nhelp: did you mean `run`?\n4:17 expected text, found the number 3 [task[0].title]\nhelp: write it in quotes: \"3\"";
    check(
        Format::Yaml,
        "\u{feff}# é\r\nversion: 1\r\ntask:\r\n  - {rum: 'é''', title: 3, id: ä}\r\n",
        "4:6 unknown key `rum` [task[0].rum]\nhelp: did you mean `run`?\n4:25 expected text, found the number 3 [task[0].title]\nhelp: write it in quotes: \"3\"\n4:32 `ä` contains 'ä' [task[0].id]\nhelp: ids use a-z, 0-9, `.`, `_` and `-`",
    );
    check(
        Format::Toml,
        "\u{feff}version = 1\ntask = [\n\n  { rum = \"é\", title = 3, id = \"a\" }]",
        &expected.replace("4:17", "4:24"),
    );
    check(
        Format::Json,
        "\u{feff}{\"version\": 1, \"task\": [\n\n\n  { \"rum\": \"é\", \"title\": 3, \"id\": \"a\" }]}",
        &expected.replace("4:17", "4:26"),
    );
}

#[test]
fn values_of_every_wrong_kind_are_named() {
    check(Format::Yaml, include_str!("testdata/kinds.yaml"), include_str!("testdata/kinds.txt"));
}

#[test]
fn what_follows_from_a_reported_mistake_is_not_reported() {
    // Everything that hangs on the unreadable values would be wrong, were they taken for absent.
    check(
        Format::Toml,
        r#"
        version = 1
        run.schedule = "wavs"
        run.max_per_wave = 4
        defaults.model = 5
        agents.gone = { comand = ["x"] }
        agents.model.command = ["x", "{model}"]
        epic = [{ id = "E" }, { idd = "f" }]
        [[task]]
        id = "A"
        run = "x"
        [[task]]
        idd = "b"
        run = "x"
        [[task]]
        id = "c"
        run = [1]
        needs = ["b"]
        epic = "f"
        isolation = "epc"
        files = ["x"]
        [[task]]
        id = "d"
        prompt = "x"
        agent = "gone"
        [[task]]
        id = "e"
        prompt = "x"
        agent = "model"
        "#,
        "3:24 unknown value `wavs` [run.schedule]
             help: did you mean `waves`?
         5:26 expected text, found the number 5 [defaults.model]
             help: write it in quotes: \"5\"
         6:25 unknown key `comand` [agents.gone.comand]
             help: did you mean `command`?
         8:24 `E` contains 'E' [epic[0].id]
             help: ids use a-z, 0-9, `.`, `_` and `-`
         8:33 unknown key `idd` [epic[1].idd]
             help: did you mean `id`?
         10:14 `A` contains 'A' [task[0].id]
             help: ids use a-z, 0-9, `.`, `_` and `-`
         13:9 unknown key `idd` [task[1].idd]
             help: did you mean `id`?
         17:16 expected text, found the number 1 [task[2].run[0]]
             help: write it in quotes: \"1\"
         20:21 unknown value `epc` [task[2].isolation]
             help: did you mean `epic`?",
    );
    check(
        Format::Toml,
        "version = 1\ntasks = [{ id = \"a\", run = \"x\" }]\n",
        "2:1 unknown key `tasks` [tasks]\nhelp: did you mean `task`?",
    );
    check(
        Format::Toml,
        "version = 1\ntask = 1\nepic = 2\nagents = 3\n",
        "2:8 expected a list, found the number 1 [task]
             help: write it as a list: [\"1\"]
         3:8 expected a list, found the number 2 [epic]
             help: write it as a list: [\"2\"]
         4:10 expected a table, found the number 3 [agents]",
    );
}

#[test]
fn indices_are_those_of_the_text() {
    check(
        Format::Toml,
        "version = 1\n[[task]]\nid = \"A\"\n[[task]]\nid = \"b\"\nrun = \"x\"\nneeds = [1, \"c\"]\nafter = [true, false, \"b\"]\n",
        "3:6 `A` contains 'A' [task[0].id]
             help: ids use a-z, 0-9, `.`, `_` and `-`
         7:10 expected text, found the number 1 [task[1].needs[0]]
             help: write it in quotes: \"1\"
         7:13 there is no task `c` [task[1].needs[1]]
             help: did you mean `b`?
         8:10 expected text, found `true` [task[1].after[0]]
             help: write it in quotes: \"true\"
         8:16 expected text, found `false` [task[1].after[1]]
             help: write it in quotes: \"false\"
         8:23 task `b` waits for itself [task[1].after[2]]
             help: remove it from the list",
    );
}

#[test]
fn the_version_comes_first() {
    let none = "1:1 the key `version` is missing []
             help: put `version = 1` at the top (in YAML `version: 1`)
         1:1 the plan has no task []
             help: add a `[[task]]` with an `id` and a `run`";
    check(Format::Toml, "", none);
    check(Format::Yaml, "", none);
    check(Format::Json, "{}", none);
    check(
        Format::Toml,
        "verzion = 1\n[[task]]\nid = \"a\"\n",
        "1:1 unknown key `verzion` [verzion]
             help: did you mean `version`?
         3:6 task `a` has nothing to do [task[0].id]
             help: add `run = \"...\"`, or `prompt` (or `prompt_file`) and `agent`",
    );
    check(
        Format::Toml,
        "new_key = 1\nversion = 2\n",
        "2:11 this is a plan of version 2; this orch reads version 1 [version]\nhelp: update orch",
    );
    check(
        Format::Toml,
        "version = 0\ntask = [{ id = \"a\", run = \"x\" }]",
        "1:11 this is a plan of version 0; this orch reads version 1 [version]\nhelp: write `version = 1`",
    );
    check(Format::Json, "[]", "1:1 expected a table, found a list []");
    check(Format::Yaml, "text", "1:1 expected a table, found the text \"text\" []");
}

#[test]
fn the_number_of_problems_is_bounded() {
    let mut text = "version = 1\n".to_owned();
    let mut missing = text.clone();
    for task in 0..300 {
        let _ = writeln!(text, "[[task]]\nid = \"t{task}\"\nrun = 5");
        let _ = writeln!(missing, "[[task]]\nid = \"t{task}\"\nrun = \"x\"\nneeds = [\"x{task}\"]");
    }
    for text in [text, missing] {
        let problems = parse(&text, Format::Toml).unwrap_err();
        assert_eq!(problems.len(), MAX_PROBLEMS + 1);
        let last = problems.0.last().unwrap();
        assert_eq!(last.message, "more than 200 problems; the rest is not shown");
        assert_eq!(last.span, None);
    }
}

#[test]
fn formats_are_told_by_extension() {
    for (name, format) in [
        ("plan.toml", Some(Format::Toml)),
        ("a.b/plan.YAML", Some(Format::Yaml)),
        ("plan.yml", Some(Format::Yaml)),
        ("plan.json", Some(Format::Json)),
        ("plan", None),
        ("plan.txt", None),
    ] {
        assert_eq!(Format::of_path(name), format, "{name}");
    }
}

/// Whatever the text, there is an answer, the same with and without places, and its spans can be
/// printed.
fn assert_sound(text: &str) -> Result<(), TestCaseError> {
    for format in [Format::Toml, Format::Yaml, Format::Json] {
        let with_places = parse_with_places(text, format);
        let specs = |plan: Result<ValidPlan, Problems>| plan.map(|plan| plan.spec().clone());
        prop_assert_eq!(specs(parse(text, format)), specs(with_places.clone()));
        let Err(problems) = with_places else { continue };
        prop_assert!(!problems.is_empty(), "{format:?} refuses without a reason");
        for problem in &problems {
            prop_assert!(!problem.message.is_empty());
            for span in problem.span.iter().chain(problem.related.iter().map(|(span, _)| span)) {
                let part = text.get(span.clone());
                prop_assert!(
                    part.is_some_and(|part| !part.contains('\n')),
                    "{format:?} {problem:?}"
                );
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*|[\\[\\]{}:,\"'&*#=\\-|>?! \\n\\ta-c1é]{0,60}") {
        assert_sound(&text)?;
    }

    #[test]
    fn no_change_to_a_plan_makes_it_panic(
        which in 0..3usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4usize, "\\PC|[\\[\\]{}:,\"'=\\n0-9]"), 1..8),
    ) {
        let mut chars: Vec<char> = [TOML, YAML, JSON][which].chars().collect();
        for (at, kind, put) in edits {
            let at = at.index(chars.len());
            let put = put.chars();
            match kind {
                0 => drop(chars.splice(at..=at, [])),
                1 => drop(chars.splice(at..at, put)),
                2 => drop(chars.splice(at..=at, put)),
                _ => {
                    let end = (at + 12).min(chars.len());
                    let moved: Vec<char> = chars.drain(at..end).collect();
                    chars.splice(at / 2..at / 2, moved);
                }
            }
        }
        assert_sound(&chars.into_iter().collect::<String>())?;
    }
}

#[test]
fn pools_are_read_in_every_format_or_refused() {
    let toml = "version = 1\n[[task]]\nid = \"a\"\nrun = \"x\"\nlocks = [\"db\", \
                { pool = \"ports\", range = \"3000-3099\", count = 2, env = \"PORT\" }, \
                { pool = \"users\", values = [\"ann\", \"bob\"] }]\n";
    let yaml = "version: 1\ntask:\n- id: a\n  run: x\n  locks:\n  - db\n  - {pool: ports, range: 3000-3099, \
                count: 2, env: PORT}\n  - pool: users\n    values: [ann, bob]\n";
    let plan = parse(toml, Format::Toml).unwrap();
    assert_eq!(plan.spec(), parse(yaml, Format::Yaml).unwrap().spec());
    let json = serde_json::to_string(&**plan.spec()).unwrap();
    assert_eq!(plan.spec(), parse(&json, Format::Json).unwrap().spec());
    let ports = plan.tasks()[0].locks[1].pool.as_ref().unwrap();
    assert_eq!((ports.values.len(), ports.env.as_deref()), (100, Some("PORT")));

    for (lock, expected) in [
        ("pool = \"p\"", "a pool needs its values"),
        ("pool = \"p\", name = \"n\", range = \"1-2\"", "either a `name` or a `pool`, not both"),
        ("pool = \"p\", range = \"1-2\", values = [\"a\"]", "either `range` or `values`, not both"),
        ("pool = \"p\", range = \"2-1\"", "ends before it begins"),
        ("pool = \"p\", range = \"12\"", "`12` is no range: write the first and the last number"),
        ("pool = \"p\", range = \"1-2\", of = 2", "neither `shared` nor `of`"),
        ("pool = \"p\", range = \"1-2\", shared = true", "neither `shared` nor `of`"),
        ("name = \"p\", range = \"1-2\"", "`range`, `values` and `env` belong to a pool"),
        ("shared = true", "`name` is missing"),
        ("pool = \"p\", rang = \"1-2\"", "unknown key `rang`"),
        ("pool = \"p\", range = \"1-2\", count = 3", "3 values of 2 can't be held"),
    ] {
        let text =
            format!("version = 1\n[[task]]\nid = \"a\"\nrun = \"x\"\nlocks = [{{ {lock} }}]\n");
        let problems = parse(&text, Format::Toml).unwrap_err().to_string();
        assert!(problems.contains(expected), "{lock}: {problems}");
        assert!(problems.contains("locks[0]"), "{lock}: {problems}");
    }
}
