//! From a task's prompt to a call of its agent.

use std::{collections::BTreeMap, io};

use orch_model::{
    plan::{Agent, Work, spec::AgentKind},
    ports::{AgentRequest, Purpose, RunnerError},
    state::Attempt,
};
use uuid::Uuid;

use super::AgentAdapters;
use crate::{
    acp,
    adapter::{self, Adapter, Ask, Session},
    session::{RunFolder, SESSIONS_VERSION, SessionRecord},
    verdict::Totals,
};

/// Sessions are named after the attempts that begin them.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f72_6368_0000_5000_8000_0000_0000_0001);

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
        let name = request.purpose.name(&request.task, request.attempt);
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
        let work = self.told(&request, before.is_some())?;
        env.extend(call.settled);
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
            .write_of(&request.purpose.name(&request.task, request.attempt), &record)
            .map_err(|source| RunnerError::Io {
                doing: "keeping the agent's session".into(),
                source,
            })?;
        let work = self.told(&request, false)?;
        Ok((AgentRequest { work, ..request }, record))
    }

    /// The session of the attempt before, and whether this attempt can continue it.
    pub(super) fn before(
        &self,
        request: &AgentRequest,
        adapter: &dyn Adapter,
    ) -> io::Result<Option<(SessionRecord, bool)>> {
        let before = request.attempt.checked_sub(1).filter(|before| *before > 0);
        let Some(before) = before.filter(|_| request.purpose == Purpose::Work) else {
            return Ok(None);
        };
        let folder = RunFolder::new(&self.state_dir, &request.run);
        let Some(record) = folder.read(&request.task, before)? else { return Ok(None) };
        let is_same = record.kind == adapter.kind()
            && record.is_begun
            && adapter.can_continue()
            && record.session.is_some()
            && (record.directory == request.directory || !adapter.binds_session_to_folder());
        Ok(Some((record, is_same)))
    }

    /// The session of the attempt before, where this attempt can continue it. Another one that it left is
    /// removed.
    fn continued(
        &self,
        folder: &RunFolder,
        request: &AgentRequest,
        adapter: &dyn Adapter,
    ) -> io::Result<Option<SessionRecord>> {
        let Some((record, is_same)) = self.before(request, adapter)? else { return Ok(None) };
        if !is_same {
            // Nobody will continue it any more.
            folder.home(&request.task, record.began, request.attempt - 1).remove()?;
        }
        Ok(is_same.then_some(record))
    }
}

/// The id of the session that an attempt begins: the same whenever it is asked for.
fn session_id(request: &AgentRequest, attempt: Attempt) -> String {
    let name = request.purpose.name(&request.task, attempt);
    let name = format!("{}/{name}", request.run);
    Uuid::new_v5(&NAMESPACE, name.as_bytes()).to_string()
}
