//! Skills, templates and the texts that they name.

use super::{Checker, names};
use crate::plan::{
    Briefing, EpicIndex, Template, nearest::nearest, path::Path, problem::Finding, spec::TaskSpec,
};

impl Checker<'_> {
    /// What the agent of a task is told besides its prompt.
    pub(super) fn briefing(
        &mut self,
        task: &TaskSpec,
        epic: Option<EpicIndex>,
        path: &Path,
    ) -> Briefing {
        self.template_exists(task.template.as_deref(), path);
        for (at, skill) in task.skills.iter().enumerate() {
            let here = || path.then("skills").then(at);
            if task.skills[..at].contains(skill) {
                let finding = Finding::new(here(), format!("the skill `{skill}` is named twice"));
                self.report(finding.help("keep one of the two"));
            } else {
                self.text_exists("skill", skill, here());
            }
        }
        let of_epic = epic.and_then(|epic| self.spec.epics[epic.get()].template.as_deref());
        let template = task.template.as_deref().or(of_epic);
        let template = template.or(self.spec.defaults.template.as_deref());
        Briefing {
            template: Template::of(template),
            skills: task.skills.clone(),
            domain: task.domain.clone(),
        }
    }

    /// Checks the template of the table at `parent`.
    pub(super) fn template_exists(&mut self, template: Option<&str>, parent: &Path) {
        if let Template::Text(name) = Template::of(template) {
            self.text_exists("template", &name, parent.then("template"));
        }
    }

    fn text_exists(&mut self, what: &str, name: &str, path: Path) {
        if self.spec.texts.contains_key(name) {
            return;
        }
        if let Err((message, help)) = names::file(name) {
            self.report(Finding::new(path, message).help(help));
            return;
        }
        let near = nearest(name, self.spec.texts.keys().map(String::as_str));
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => "give it in `[texts]`; a program reads it from the repository by \
                     `plan::parse_with`"
                .into(),
        };
        let message = format!("there is no text for the {what} `{name}`");
        self.report(Finding::new(path, message).help(help));
    }

    /// Checks the names of the texts.
    pub(super) fn texts(&mut self) {
        for name in [Template::DEFAULT, Template::NONE] {
            if self.spec.texts.contains_key(name) {
                let path = Path::from("texts").then(name.to_owned());
                let finding = Finding::new(path, format!("`{name}` is the name of a template"));
                self.report(finding.on_key().help("choose another name"));
            }
        }
    }
}
