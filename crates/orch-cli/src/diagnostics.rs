//! Problems of a file as a compiler shows them: an excerpt, a label, a cure.

use std::path::Path;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use orch_model::plan::{Problem, Problems};

/// All problems of a file in one report.
pub(crate) fn report(path: &Path, text: &str, problems: &Problems, is_colored: bool) -> String {
    let name = path.display().to_string();
    let renderer = if is_colored { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for problem in problems.iter() {
        out.push_str(&renderer.render(&groups(&name, text, problem)));
        out.push_str("\n\n");
    }
    let count = problems.len();
    let noun = if count == 1 { "problem" } else { "problems" };
    out.push_str(&format!("{count} {noun} in {name}; nothing was started"));
    out
}

fn groups<'a>(name: &'a str, text: &'a str, problem: &'a Problem) -> Vec<Group<'a>> {
    let title = Level::ERROR.primary_title(&problem.message);
    let mut group = match &problem.span {
        None => title.element(annotate_snippets::Origin::path(name)),
        Some(span) => {
            let mut primary = AnnotationKind::Primary.span(span.clone());
            if let Some(label) = &problem.label {
                primary = primary.label(label);
            }
            let related = problem
                .related
                .iter()
                .map(|(span, label)| AnnotationKind::Context.span(span.clone()).label(label));
            title.element(Snippet::source(text).path(name).annotation(primary).annotations(related))
        }
    };
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(help));
    }
    vec![group]
}

#[cfg(test)]
mod tests {
    use orch_model::plan::{Format, parse};

    use super::*;

    #[test]
    fn the_report_shows_place_and_cure() {
        let text = "version = 1\n[[task]]\nid = \"a\"\nrum = \"true\"\nneeds = [\"b\"]\n";
        let problems = parse(text, Format::Toml).unwrap_err();
        let report = report(Path::new("plan.toml"), text, &problems, false);
        for part in [
            "plan.toml:4:1",
            "4 | rum = \"true\"",
            "plan.toml:5:10",
            "help: ",
            "did you mean `run`?",
            "2 problems in plan.toml; nothing was started",
        ] {
            assert!(report.contains(part), "{part} is missing in\n{report}");
        }
    }
}
