//! From a task's prompt to a call of its agent.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use orch_exec::logs;
use orch_model::{
    plan::{Agent, Prompt, Work, spec::AgentKind},
    ports::{AgentRequest, Purpose, RunnerError},
    state::Attempt,
};
use uuid::Uuid;

use super::AgentAdapters;
use crate::{
    acp,
    adapter::{self, Adapter, Ask, Session},
    session::{RunFolder, SESSIONS_VERSION, SessionRecord, name},
    verdict::Totals,
};

/// Sessions are named after the attempts that begin them.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f72_6368_0000_5000_8000_0000_0000_0001);

/// How much of the output of a verification is told, in bytes.
const TAIL: u64 = 4 << 10;

/// What the engine tells of the attempt before.
const FAILURE: &str = "ORCH_LAST_FAILURE";
const OUTPUT: &str = "ORCH_LAST_OUTPUT";
const REFERENCE: &str = "ORCH_LAST_REF";

impl AgentAdapters {
    /// Makes the private home, and what the other runner is to start.
    pub(super) fn prepare(
        &self,
        request: AgentRequest,
    ) -> Result<(AgentRequest, SessionRecord), RunnerError> {
        let Some(agent) = request.agent.clone() else {
            return Err(RunnerError::Unsupported("a prompt needs an agent".into()));
        };
        if agent.kind == AgentKind::Command {
            return self.prepare_command(request, &agent);
        }
        let Some(adapter) = adapter::of(agent.kind) else {
            let message = format!("no adapter for agents of kind `{}`", agent.kind);
            return Err(RunnerError::Unsupported(message));
        };
        if agent.kind == AgentKind::Acp && !acp::is_ready() {
            let message = "an agent of kind `acp` needs a program that calls \
                           `orch_agents::acp::run_if_requested` first";
            return Err(RunnerError::Unsupported(message.into()));
        }
        let folder = RunFolder::new(&self.state_dir, &request.run);
        let io = |doing: &'static str| {
            move |source: io::Error| RunnerError::Io { doing: doing.into(), source }
        };
        let (began, before) = self
            .continued(&folder, &request, adapter)
            .map_err(io("reading the agent's session"))?
            .map_or((request.attempt, None), |record| (record.began, Some(record)));
        let chosen = session_id(&request, began);
        let session = match &before {
            Some(record) => Session::Continued(record.session.as_deref().unwrap_or(&chosen)),
            None => Session::New(&chosen),
        };
        let Work::Prompt { model, .. } = &request.work else {
            return Err(RunnerError::Unsupported("an agent needs a prompt".into()));
        };
        let model = model.clone().or_else(|| agent.model.clone());
        let user = self.user.with(&request.env);
        let call = adapter.call(&Ask {
            model: model.as_deref(),
            permissions: agent.permissions,
            session,
            mcp: &agent.mcp,
            user: &user,
        });
        let name = name(&request.task, request.attempt, request.purpose);
        let home = match request.purpose {
            Purpose::Work => folder.home(&request.task, began, request.attempt),
            _ => folder.home_of(&name),
        };
        home.furnish(&user, &adapter.links(&user), &agent.link, &call)
            .map_err(io("making the agent's home"))?;

        let own_env: BTreeMap<String, String> =
            home.env(&call).into_iter().chain(call.env).chain(call.settled.clone()).collect();
        let program = if agent.command.is_empty() {
            vec![adapter.program().to_owned()]
        } else {
            agent.command.clone()
        };
        let record = SessionRecord {
            v: SESSIONS_VERSION,
            kind: agent.kind,
            program: program.clone(),
            events: Vec::new(),
            model,
            session: match &before {
                Some(record) => record.session.clone(),
                None => adapter.names_session().then(|| chosen.clone()),
            },
            began,
            directory: request.directory.clone(),
            // A person has a folder for what is temporary.
            env: own_env.clone().into_iter().filter(|(name, _)| name != "TMPDIR").collect(),
            earlier: before.as_ref().map_or_else(Totals::default, |record| record.totals),
            totals: before.as_ref().map_or_else(Totals::default, |record| record.totals),
            is_begun: before.is_some(),
        };
        // Whoever takes the agent up must know how to read its output.
        folder.write_of(&name, &record).map_err(io("keeping the agent's session"))?;

        let escaped = |args: &[String]| -> Vec<String> {
            args.iter().map(|arg| arg.replace('{', "{{").replace('}', "}}")).collect()
        };
        let command = [
            escaped(&call.through),
            program,
            escaped(&call.args),
            agent.args.clone(),
            escaped(&call.last),
        ]
        .concat();
        let mut env = own_env;
        env.extend(request.env.clone());
        env.extend(call.settled);
        let work = match (request.work.clone(), before.is_some()) {
            (Work::Prompt { agent, model, .. }, true) => {
                let prompt = Prompt::Text(go_on(&request.env, self.verified(&request).as_deref()));
                Work::Prompt { agent, model, prompt }
            }
            (work, _) => work,
        };
        let agent = Agent { model: agent.model, ..Agent::of_command(command) };
        Ok((AgentRequest { work, agent: Some(agent), env, ..request }, record))
    }

    /// A program that the plan describes: it is called as that says.
    fn prepare_command(
        &self,
        request: AgentRequest,
        agent: &Agent,
    ) -> Result<(AgentRequest, SessionRecord), RunnerError> {
        let model = match &request.work {
            Work::Prompt { model, .. } => model.clone().or_else(|| agent.model.clone()),
            _ => None,
        };
        let record = SessionRecord {
            v: SESSIONS_VERSION,
            kind: agent.kind,
            program: agent.command.first().cloned().into_iter().collect(),
            events: agent.events.clone(),
            model,
            session: None,
            began: request.attempt,
            directory: request.directory.clone(),
            env: BTreeMap::new(),
            earlier: Totals::default(),
            totals: Totals::default(),
            is_begun: false,
        };
        RunFolder::new(&self.state_dir, &request.run)
            .write_of(&name(&request.task, request.attempt, request.purpose), &record)
            .map_err(|source| RunnerError::Io {
                doing: "keeping the agent's session".into(),
                source,
            })?;
        Ok((request, record))
    }

    /// The end of what the verification of the attempt before printed.
    fn verified(&self, request: &AgentRequest) -> Option<String> {
        let files = logs::files(&self.state_dir, &request.run, &request.task).ok()?;
        let of_last = files.into_iter().rev().find(|file| {
            file.attempt + 1 == request.attempt
                && !matches!(file.purpose, Purpose::Work | Purpose::Resolve { .. })
        })?;
        end_of(&of_last.path).ok().filter(|text| !text.trim().is_empty())
    }

    /// The session of the attempt before, where this attempt can continue it.
    fn continued(
        &self,
        folder: &RunFolder,
        request: &AgentRequest,
        adapter: &dyn Adapter,
    ) -> io::Result<Option<SessionRecord>> {
        let before = request.attempt.checked_sub(1).filter(|before| *before > 0);
        let Some(before) = before.filter(|_| request.purpose == Purpose::Work) else {
            return Ok(None);
        };
        let Some(record) = folder.read(&request.task, before)? else { return Ok(None) };
        let is_same = record.kind == adapter.kind()
            && record.is_begun
            && adapter.can_continue()
            && record.session.is_some()
            && (record.directory == request.directory || !adapter.binds_session_to_folder());
        if !is_same {
            // Nobody will continue it any more.
            folder.home(&request.task, record.began, before).remove()?;
        }
        Ok(is_same.then_some(record))
    }
}

/// The id of the session that an attempt begins: the same whenever it is asked for.
fn session_id(request: &AgentRequest, attempt: Attempt) -> String {
    let name = name(&request.task, attempt, request.purpose);
    let name = format!("{}/{name}", request.run);
    Uuid::new_v5(&NAMESPACE, name.as_bytes()).to_string()
}

/// What an agent is told that goes on in its session: what failed, and the end of what a verification
/// printed.
fn go_on(env: &BTreeMap<String, String>, verification: Option<&str>) -> String {
    use std::fmt::Write;
    let mut text = "The last attempt at this task has failed".to_owned();
    if let Some(failure) = env.get(FAILURE) {
        let _ = write!(text, ": {failure}");
    }
    text.push_str(".\n");
    if let Some(output) = env.get(OUTPUT) {
        let _ = writeln!(text, "What you printed is in {output}.");
    }
    if let Some(printed) = verification {
        let _ = writeln!(text, "The verification ended with:\n\n{}\n", printed.trim_end());
    }
    if let Some(reference) = env.get(REFERENCE) {
        let _ = writeln!(
            text,
            "This folder is new: what was done in that attempt is kept as {reference}. Look at it by \
             `git diff HEAD {reference}`, and take over what is good."
        );
    }
    text.push_str("Find out what is wrong, then finish the task as it was given.\n");
    text
}

/// The end of a file as text.
fn end_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut end = Vec::new();
    file.take(TAIL).read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_the_new_prompt() {
        let env = [
            (FAILURE, "verification: `make test` ended with exit code 2"),
            (OUTPUT, "/logs/a.1.log"),
            (REFERENCE, "refs/orch/preserved/r/a/1"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(
            go_on(&env, Some("1 test failed\n")),
            "The last attempt at this task has failed: verification: `make test` ended with exit code 2.\n\
             What you printed is in /logs/a.1.log.\n\
             The verification ended with:\n\n1 test failed\n\n\
             This folder is new: what was done in that attempt is kept as refs/orch/preserved/r/a/1. Look \
             at it by `git diff HEAD refs/orch/preserved/r/a/1`, and take over what is good.\n\
             Find out what is wrong, then finish the task as it was given.\n"
        );
    }
}
