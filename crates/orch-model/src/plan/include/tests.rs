use std::io;

use super::*;
use crate::plan::{Problems, Prompt, Template, ValidPlan, Work, parse_with};

/// A plan in a repository with these files.
fn read(plan: &str, files: &[(&str, &str)]) -> Result<ValidPlan, Problems> {
    let plan = format!("version = 1\n[agents.coder]\ncommand = [\"coder\"]\n{plan}");
    parse_with(&plan, Format::Toml, &mut |path| {
        let found = files.iter().find(|(name, _)| *name == path);
        found.map(|(_, text)| (*text).to_owned()).ok_or(io::ErrorKind::NotFound.into())
    })
}

fn said(plan: &str, files: &[(&str, &str)]) -> String {
    read(plan, files).unwrap_err().to_string()
}

const LOGIN: &str = "---\ntitle: Log people in\nagent: coder\nretries: 2\nskills: [style]\n\
                     verify: [make test]\nneeds: [schema]\ndomain: api\n---\n\n# Login\n\nWrite it.\n";
const PLAN: &str = "[[task]]\nid = \"schema\"\nrun = \"true\"\n\
                    [[task]]\nid = \"login\"\nprompt_file = \"prompts/login.md\"\nretries = 1\n";
const STYLE: (&str, &str) =
    (".agents/skills/style/SKILL.md", "---\nname: style\nunknown: key\n---\nBe brief.\n");

#[test]
fn front_matter_gives_what_the_plan_does_not() {
    let plan = read(PLAN, &[("prompts/login.md", LOGIN), STYLE]).unwrap();
    let task = plan.task(plan.index_of(&"login".parse().unwrap()).unwrap());
    assert_eq!(task.title.as_deref(), Some("Log people in"));
    assert_eq!((task.retries, task.needs.len(), task.verify.len()), (1, 1, 1));
    assert_eq!(task.briefing.skills, ["style"]);
    assert_eq!(task.briefing.domain.as_ref().map(|domain| domain.as_str()), Some("api"));
    let Work::Prompt { agent, prompt, .. } = &task.work else { panic!("{:?}", task.work) };
    assert_eq!(agent.as_str(), "coder");
    assert_eq!(*prompt, Prompt::File("prompts/login.md".into()));
    assert_eq!(plan.text("prompts/login.md"), Some("# Login\n\nWrite it.\n"));
    assert_eq!(plan.text("style"), Some("Be brief.\n"));
    // What a journal keeps needs no file any more.
    let again = ValidPlan::new((**plan.spec()).clone()).unwrap();
    assert_eq!(again.tasks(), plan.tasks());
    assert_eq!(again.text("prompts/login.md"), plan.text("prompts/login.md"));
}

#[test]
fn a_prompt_without_front_matter_is_taken_as_it_is() {
    let plan = PLAN.replace("retries = 1", "agent = \"coder\"");
    for text in ["# Login\n---\nx: y\n---\n", "\n---\n", "--- a\nb\n"] {
        let plan = read(&plan, &[("prompts/login.md", text)]).unwrap();
        assert_eq!(plan.text("prompts/login.md"), Some(text));
    }
}

#[test]
fn mistakes_name_file_line_and_cure() {
    for (text, expected) in [
        ("", "prompts/login.md is empty (write a prompt in it)"),
        (" \n", "prompts/login.md is empty (write a prompt in it)"),
        (
            "Do\nit\0\n",
            "prompts/login.md:2: a NUL character (remove it: no program can be given one)",
        ),
        (
            "---\nagnet: coder\n---\nx",
            "prompts/login.md:2: unknown key `agnet` (did you mean `agent`?)",
        ),
        (
            "---\ntitle: a\nid: b\n---\nx",
            "prompts/login.md:3: front matter can't have the key `id`",
        ),
        ("---\nretries: many\n---\nx", "prompts/login.md:2: retries: "),
        ("---\n- a\n---\nx", "prompts/login.md:2: front matter is keys and values (write"),
        ("---\na: [\n---\nx", "prompts/login.md:"),
        ("---\nagent: coder\n", "prompts/login.md:1: front matter without an end (write a line"),
        ("---\nagent: coder\n---\n\n", "prompts/login.md has front matter and no prompt"),
        (
            "---\nagent: coder\nneeds: [shema]\n---\nx",
            "prompts/login.md: there is no task `shema` (did you mean `schema`?)",
        ),
        (
            "---\nagent: coder\nskills: [style]\n---\nx",
            "task[1].prompt_file: prompts/login.md: there is no file .agents/skills/style/SKILL.md",
        ),
    ] {
        let said = said(PLAN, &[("prompts/login.md", text)]);
        assert!(said.contains(expected), "{text:?}: {said}");
    }
}

#[test]
fn files_that_are_not_there_are_told_once_with_a_cure() {
    let cure = " (write it, or correct its path, which is relative to the repository)";
    assert_eq!(
        said(&PLAN.replace("retries = 1", "agent = \"coder\""), &[]),
        format!("task[1].prompt_file: there is no file prompts/login.md{cure}")
    );
    let task = "[[task]]\nid = \"a\"\nagent = \"coder\"\nprompt = \"x\"\n";
    assert_eq!(
        said(&format!("{task}skills = [\"style\"]\ntemplate = \"t.md\"\n"), &[]),
        format!(
            "task[0].template: there is no file t.md{cure}\n\
             task[0].skills[0]: there is no file .agents/skills/style/SKILL.md{cure}"
        )
        .lines()
        .rev()
        .collect::<Vec<_>>()
        .join("\n")
    );
    let outside = said(&format!("{task}skills = [\"../a.md\"]\n"), &[]);
    assert!(outside.contains("the path contains `..`"), "{outside}");
    let large = "x".repeat(MAX_TEXT + 1);
    let large = said(&format!("{task}skills = [\"a.md\"]\n"), &[("a.md", &large)]);
    assert!(large.contains("a.md is larger than 1024 KiB"), "{large}");
    let twice = said(&format!("{task}skills = [\"a.md\", \"a.md\"]\n"), &[("a.md", "")]);
    assert!(twice.contains("the skill `a.md` is named twice"), "{twice}");
}

#[test]
fn the_nearest_template_is_used() {
    let plan = "[defaults]\nagent = \"coder\"\ntemplate = \"none\"\n[texts]\nbrief = \"Hello\"\n\
                [[epic]]\nid = \"e\"\ntemplate = \"brief\"\n\
                [[task]]\nid = \"a\"\nprompt = \"x\"\n\
                [[task]]\nid = \"b\"\nepic = \"e\"\nprompt = \"x\"\n\
                [[task]]\nid = \"c\"\nepic = \"e\"\nprompt = \"x\"\ntemplate = \"t.md\"\n\
                [[task]]\nid = \"d\"\nepic = \"e\"\nprompt = \"x\"\ntemplate = \"default\"\n";
    let plan = read(plan, &[("t.md", "T")]).unwrap();
    let templates: Vec<_> = plan.tasks().iter().map(|task| &task.briefing.template).collect();
    let text = |name: &str| Template::Text(name.into());
    assert_eq!(templates, [&Template::None, &text("brief"), &text("t.md"), &Template::Default]);
    assert_eq!((plan.text("brief"), plan.text("t.md")), (Some("Hello"), Some("T")));
}

#[test]
fn without_a_reader_what_is_not_there_is_said() {
    let plan = "version = 1\n[agents.c]\ncommand = [\"c\"]\n[texts]\nbrief = \"x\"\nnone = \"x\"\n\
                [[task]]\nid = \"a\"\nagent = \"c\"\nprompt = \"x\"\nskills = [\"brif\"]\n\
                [[task]]\nid = \"b\"\nrun = \"x\"\ntemplate = \"none\"\n";
    let said = crate::plan::parse(plan, Format::Toml).unwrap_err().to_string();
    assert_eq!(
        said,
        "texts.none: `none` is the name of a template (choose another name)\n\
         task[0].skills[0]: there is no text for the skill `brif` (did you mean `brief`?)\n\
         task[1].template: `template` has no effect next to `run` (remove `template`, or give a \
         `prompt` in place of `run`)"
    );
}

proptest::proptest! {
    /// Whatever a file contains, it is taken or refused, and what is taken of it is its end.
    #[test]
    fn any_file_is_taken_or_refused(
        parts in proptest::collection::vec(
            proptest::prop_oneof![
                proptest::prelude::Just("---"), proptest::prelude::Just("\n"), proptest::prelude::Just("\r\n"),
                proptest::prelude::Just("title: é"), proptest::prelude::Just("needs: [a"), proptest::prelude::Just("\u{feff}"),
                proptest::prelude::Just("[{: &a *a"), proptest::prelude::Just("\t"), proptest::prelude::Just("x"),
            ],
            0..14,
        ),
    ) {
        let text = parts.concat();
        let plan = PLAN.replace("retries = 1", "agent = \"coder\"");
        match read(&plan, &[("prompts/login.md", &text)]) {
            Ok(plan) => proptest::prop_assert!(text.ends_with(plan.text("prompts/login.md").unwrap())),
            Err(problems) => proptest::prop_assert!(problems.to_string().contains("prompts/login.md")),
        }
    }
}
