//! Servers of tools that agents are given.

use super::Checker;
use crate::plan::{
    path::Path,
    problem::Finding,
    spec::{AgentKind, AgentSpec},
};

impl Checker<'_> {
    pub(super) fn mcp(&mut self, spec: &AgentSpec, agent: &Path) {
        if spec.kind == AgentKind::Command && !spec.mcp.is_empty() {
            let message = "an agent of kind `command` can't be told of servers";
            let help = "name them in its `command`, or give the `kind` of the agent";
            self.report(Finding::new(agent.then("mcp"), message).help(help));
        }
        for (name, server) in &spec.mcp {
            let path = agent.then("mcp").then(name.clone());
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            if name.is_empty() || !name.chars().all(is_plain) {
                let message = format!("`{name}` is no name of a server");
                let help = "use letters, digits, `-` and `_`: agents make names of tools of it";
                self.report(Finding::new(path.clone(), message).help(help));
            }
            let is_program = server.command.first().is_some_and(|program| !program.is_empty());
            let is_damaged =
                ["command", "url"].iter().any(|field| self.origin.is_damaged(&path.then(*field)));
            if is_program == server.url.is_some() && !is_damaged {
                let message = format!(
                    "server `{name}` is {}",
                    if is_program { "a program and at a URL" } else { "nowhere" }
                );
                let help = "give either `command`, program and arguments, or `url`";
                self.report(Finding::new(path.clone(), message).help(help));
            }
            if let Some(url) = &server.url {
                if !(url.starts_with("http://") || url.starts_with("https://")) {
                    let message = format!("`{url}` is no URL of a server");
                    let help = "it begins with `http://` or `https://`";
                    self.report(Finding::new(path.then("url"), message).help(help));
                }
                if !server.env.is_empty() {
                    let finding =
                        Finding::new(path.then("env"), "nothing is started that could have this");
                    self.report(finding.help("remove it, or give `command` in place of `url`"));
                }
            }
            self.env(&server.env, &path);
        }
    }
}
