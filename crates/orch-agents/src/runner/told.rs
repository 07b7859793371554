//! What the agent of a request is told.

use orch_model::{
    plan::{Prompt, Work, spec::AgentKind},
    ports::{AgentRequest, RunnerError},
    prompt::PromptContext,
};

use super::AgentAdapters;
use crate::{
    adapter,
    prompt::{self, Recall},
};

impl AgentAdapters {
    /// What the agent of a request is told, to the byte; nothing is started.
    ///
    /// # Errors
    /// Where the request has no prompt, or its template is wrong, or what is recorded of the attempt
    /// before can't be read.
    pub fn prompt(&self, request: &AgentRequest) -> Result<String, RunnerError> {
        let adapter = request.agent.as_ref().and_then(|agent| adapter::of(agent.kind));
        let before = match adapter {
            Some(adapter) => self.before(request, adapter),
            None => Ok(None),
        };
        let before = before.map_err(|source| RunnerError::Io {
            doing: "reading the agent's session".into(),
            source,
        })?;
        match self.told(request, before.is_some_and(|(_, is_same)| is_same))? {
            Work::Prompt { prompt: Prompt::Text(text), .. } => Ok(text),
            Work::Prompt { prompt: Prompt::File(name), .. } => {
                let file = request.repository.join(name);
                std::fs::read_to_string(&file).map_err(|source| RunnerError::Io {
                    doing: format!("reading the prompt from {}", file.display()),
                    source,
                })
            }
            _ => Err(RunnerError::Unsupported("a command has no prompt".into())),
        }
    }

    /// The work of a request, with what its agent is told as the prompt. `goes_on` where the agent goes on
    /// in its session.
    pub(super) fn told(&self, request: &AgentRequest, goes_on: bool) -> Result<Work, RunnerError> {
        let (Work::Prompt { agent, model, .. }, Some(known)) = (&request.work, &request.agent)
        else {
            return Ok(request.work.clone());
        };
        let text = match &request.context {
            Some(context) => self.composed(context, known.kind, goes_on),
            None if goes_on => {
                let (run, task) = (request.run.clone(), request.task.clone());
                prompt::again(&PromptContext::new(run, task, "")).map(Some)
            }
            None => Ok(None),
        };
        let text = text.map_err(|error| RunnerError::Unsupported(error.to_string()))?;
        Ok(match text {
            Some(text) => Work::Prompt {
                agent: agent.clone(),
                model: model.clone(),
                prompt: Prompt::Text(text),
            },
            None => request.work.clone(),
        })
    }

    fn composed(
        &self,
        context: &PromptContext,
        kind: AgentKind,
        goes_on: bool,
    ) -> Result<Option<String>, prompt::TemplateError> {
        let mut context = context.clone();
        Recall::new(&self.state_dir).fill(&mut context);
        if let Some(knowledge) = &self.knowledge {
            context.knowledge = knowledge.of(&context);
        }
        if goes_on { prompt::again(&context).map(Some) } else { prompt::compose(&context, kind) }
    }
}
