//! The client's side of the protocol, for one prompt.

use std::{io, io::Read, pin::pin, time::Duration};

use agent_client_protocol::{
    Agent, Client, Lines,
    schema::ProtocolVersion,
    v1::{
        ConnectionTo,
        schema::{
            self, CancelNotification, ContentBlock, EnvVariable, InitializeRequest, McpServerHttp,
            McpServerStdio, NewSessionRequest, PermissionOption, PermissionOptionKind,
            PromptRequest, RequestPermissionOutcome, RequestPermissionRequest,
            RequestPermissionResponse, SelectedPermissionOutcome, StopReason, TextContent,
        },
    },
};
use futures_util::{sink, stream};
use orch_model::plan::spec::{McpServer, Permissions};
use serde_json::json;
use tokio::{
    io::AsyncWriteExt,
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use super::{
    Order,
    program::{self, Said, tell},
};

/// How long an agent has to say that its session is cancelled. Those that were measured took 0.2 s.
const AFTER_CANCEL: Duration = Duration::from_secs(3);

/// The program of a client; gives its exit code: that of success where the agent's turn ended by itself.
pub(super) fn main(order: &str, argv: Vec<String>) -> i32 {
    let run = || -> Result<bool, String> {
        let order: Order = serde_json::from_str(order).map_err(|error| error.to_string())?;
        let mut prompt = String::new();
        io::stdin().read_to_string(&mut prompt).map_err(|error| format!("the prompt: {error}"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let result = runtime.block_on(converse(order, &argv, prompt));
        runtime.shutdown_background();
        result
    };
    match run() {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(error) => {
            let line = json!({ "orch": { "failed": error } });
            let _ = io::Write::write_all(&mut io::stdout(), format!("{line}\n").as_bytes());
            1
        }
    }
}

/// Has an agent carry out a prompt. Gives whether its turn ended by itself.
async fn converse(order: Order, argv: &[String], prompt: String) -> Result<bool, String> {
    let name = argv.first().cloned().unwrap_or_default();
    let (program, stdin, stdout) =
        program::start(argv).map_err(|error| format!("can't start `{name}`: {error}"))?;
    let outgoing = sink::unfold(stdin, |mut stdin, line: String| async move {
        stdin.write_all(line.as_bytes()).await?;
        stdin.write_all(b"\n").await?;
        stdin.flush().await?;
        Ok::<_, io::Error>(stdin)
    });
    let incoming = stream::unfold(Said::new(stdout), |mut said| async move {
        said.next().await.transpose().map(|line| (line, said))
    });
    let permissions = order.permissions;
    let servers = order.mcp.iter().map(|(name, it)| server(name, it)).collect();
    let ended = Client
        .v1()
        .on_receive_request(
            async move |request: RequestPermissionRequest, responder, _| {
                let outcome = answer(permissions, &request.options);
                if permissions != Permissions::Allow {
                    let what = request.tool_call.fields.title.clone().unwrap_or_default();
                    tell(&json!({ "orch": { "denied": what } })).await;
                }
                responder.respond(RequestPermissionResponse::new(outcome))
            },
            agent_client_protocol::on_receive_request!(),
        )
        .connect_with(Lines::new(Box::pin(outgoing), Box::pin(incoming)), async |agent| {
            carry_out(agent, prompt, servers).await
        })
        .await;
    // The connection is gone, and the agent's input with it.
    program.end().await;
    ended.map(|reason| reason == StopReason::EndTurn).map_err(|error| error.to_string())
}

async fn carry_out(
    agent: ConnectionTo<Agent>,
    prompt: String,
    servers: Vec<schema::McpServer>,
) -> Result<StopReason, agent_client_protocol::Error> {
    let folder =
        std::env::current_dir().map_err(agent_client_protocol::Error::into_internal_error)?;
    agent.send_request(InitializeRequest::new(ProtocolVersion::V1)).block_task().await?;
    let session = NewSessionRequest::new(folder).mcp_servers(servers);
    let session = agent.send_request(session).block_task().await?.session_id;
    let prompt = vec![ContentBlock::Text(TextContent::new(prompt))];
    let request = PromptRequest::new(session.clone(), prompt);
    let mut turn = pin!(agent.send_request(request).block_task());
    let mut asked = signal(SignalKind::terminate())
        .map_err(agent_client_protocol::Error::into_internal_error)?;
    tokio::select! {
        ended = &mut turn => return Ok(ended?.stop_reason),
        _ = asked.recv() => {}
    }
    agent.send_notification(CancelNotification::new(session))?;
    match timeout(AFTER_CANCEL, turn).await {
        Ok(ended) => Ok(ended?.stop_reason),
        Err(_) => Ok(StopReason::Cancelled),
    }
}

/// A server of tools, as the protocol has it.
fn server(name: &str, server: &McpServer) -> schema::McpServer {
    if let Some(url) = &server.url {
        return schema::McpServer::Http(McpServerHttp::new(name, url));
    }
    let (program, args) = server.command.split_first().map_or(("", &[][..]), |(p, a)| (p, a));
    let env = server.env.iter().map(|(name, value)| EnvVariable::new(name, value)).collect();
    schema::McpServer::Stdio(McpServerStdio::new(name, program).args(args.to_vec()).env(env))
}

/// The answer to what an agent asks permission for: for this once, where that can be said.
fn answer(permissions: Permissions, options: &[PermissionOption]) -> RequestPermissionOutcome {
    let kinds = match permissions {
        Permissions::Allow => [PermissionOptionKind::AllowOnce, PermissionOptionKind::AllowAlways],
        _ => [PermissionOptionKind::RejectOnce, PermissionOptionKind::RejectAlways],
    };
    let found = kinds.iter().find_map(|kind| options.iter().find(|option| option.kind == *kind));
    match found {
        Some(option) => RequestPermissionOutcome::Selected(SelectedPermissionOutcome::new(
            option.option_id.clone(),
        )),
        None => RequestPermissionOutcome::Cancelled,
    }
}
