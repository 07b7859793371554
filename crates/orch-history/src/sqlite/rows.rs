//! From rows to values and back.

use std::{fmt::Display, str::FromStr, time::Duration};

use orch_model::{DomainName, RunStatus, Span, Timestamp, usage::Usage};
use rusqlite::{Connection, Row, named_params, types::Type};

use crate::{history::RunEntry, session::Session};

/// A number as SQLite keeps it; one that is too large is its largest.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.try_into().unwrap_or(0))
}

/// A value that is stored as text.
pub(super) fn parsed<T: FromStr<Err: Display>>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    row.get::<_, String>(column)?.parse().map_err(|error: T::Err| wrong(error))
}

fn wrong(error: impl Display) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error.to_string().into())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    unsigned(row, column).map(Timestamp::from_millis)
}

fn maybe<T>(row: &Row<'_>, column: &str, value: impl Fn(u64) -> T) -> rusqlite::Result<Option<T>> {
    let found: Option<i64> = row.get(column)?;
    Ok(found.map(|found| value(found.try_into().unwrap_or(0))))
}

fn span(millis: u64) -> Span {
    Span(Duration::from_millis(millis))
}

fn usage(row: &Row<'_>) -> rusqlite::Result<Usage> {
    Ok(Usage {
        input_tokens: unsigned(row, "input_tokens")?,
        cached_input_tokens: unsigned(row, "cached_input_tokens")?,
        output_tokens: unsigned(row, "output_tokens")?,
        reasoning_tokens: unsigned(row, "reasoning_tokens")?,
        cost_micro_usd: unsigned(row, "cost_micro_usd")?,
        unpriced_tokens: unsigned(row, "unpriced_tokens")?,
    })
}

/// The name of a status, as its JSON has it.
fn status_name(status: RunStatus) -> String {
    match serde_json::to_value(status) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

pub(super) fn run(row: &Row<'_>) -> rusqlite::Result<RunEntry> {
    let status = serde_json::Value::String(row.get("status")?);
    Ok(RunEntry {
        run: parsed(row, "run")?,
        status: serde_json::from_value(status).map_err(wrong)?,
        undone: row.get("undone")?,
        started_at: time(row, "started_at")?,
        updated_at: time(row, "updated_at")?,
        tasks: unsigned(row, "tasks")?,
        merged: unsigned(row, "merged")?,
        unsuccessful: unsigned(row, "unsuccessful")?,
        agent_time: span(unsigned(row, "agent_ms")?),
        usage: usage(row)?,
        journal_bytes: unsigned(row, "journal_bytes")?,
    })
}

pub(super) fn session(row: &Row<'_>) -> rusqlite::Result<(u64, Session)> {
    let used: Option<i64> = row.get("input_tokens")?;
    let session = Session {
        run: parsed(row, "run")?,
        task: parsed(row, "task")?,
        attempt: row.get("attempt")?,
        part: parsed(row, "part")?,
        agent: row.get("agent")?,
        kind: row.get("kind")?,
        model: row.get("model")?,
        domain: DomainName::new(row.get::<_, String>("domain")?).map_err(wrong)?,
        status: parsed(row, "status")?,
        class: row.get("class")?,
        charged: row.get("charged")?,
        began_at: time(row, "began_at")?,
        started_at: maybe(row, "started_at", Timestamp::from_millis)?,
        ended_at: maybe(row, "ended_at", Timestamp::from_millis)?,
        agent_time: maybe(row, "agent_ms", span)?,
        messages: unsigned(row, "messages")?,
        tool_calls: unsigned(row, "tool_calls")?,
        session: row.get("session")?,
        usage: used.is_some().then(|| usage(row)).transpose()?,
    };
    Ok((unsigned(row, "number")?, session))
}

pub(super) fn put_run(connection: &Connection, run: &RunEntry) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT INTO runs VALUES (:run, :status, :undone, :started_at, :updated_at, :tasks, :merged,
            :unsuccessful, :agent_ms, :input, :cached, :output, :reasoning, :cost, :unpriced, :bytes)
         ON CONFLICT (run) DO UPDATE SET status = excluded.status, undone = excluded.undone,
            started_at = excluded.started_at, updated_at = excluded.updated_at,
            tasks = excluded.tasks, merged = excluded.merged, unsuccessful = excluded.unsuccessful,
            agent_ms = excluded.agent_ms, input_tokens = excluded.input_tokens,
            cached_input_tokens = excluded.cached_input_tokens,
            output_tokens = excluded.output_tokens, reasoning_tokens = excluded.reasoning_tokens,
            cost_micro_usd = excluded.cost_micro_usd, unpriced_tokens = excluded.unpriced_tokens,
            journal_bytes = excluded.journal_bytes",
    )?;
    put.execute(named_params! {
        ":run": run.run.as_str(),
        ":status": status_name(run.status),
        ":undone": run.undone,
        ":started_at": number(run.started_at.as_millis()),
        ":updated_at": number(run.updated_at.as_millis()),
        ":tasks": number(run.tasks),
        ":merged": number(run.merged),
        ":unsuccessful": number(run.unsuccessful),
        ":agent_ms": millis(run.agent_time.0),
        ":input": number(run.usage.input_tokens),
        ":cached": number(run.usage.cached_input_tokens),
        ":output": number(run.usage.output_tokens),
        ":reasoning": number(run.usage.reasoning_tokens),
        ":cost": number(run.usage.cost_micro_usd),
        ":unpriced": number(run.usage.unpriced_tokens),
        ":bytes": number(run.journal_bytes),
    })?;
    Ok(())
}

pub(super) fn put_session(connection: &Connection, session: &Session) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT INTO sessions (run, task, attempt, part, agent, kind, model, domain, status, class,
            charged, began_at, started_at, ended_at, agent_ms, messages, tool_calls, session,
            input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_micro_usd,
            unpriced_tokens)
         VALUES (:run, :task, :attempt, :part, :agent, :kind, :model, :domain, :status, :class,
            :charged, :began_at, :started_at, :ended_at, :agent_ms, :messages, :tool_calls, :session,
            :input, :cached, :output, :reasoning, :cost, :unpriced)
         ON CONFLICT (run, task, attempt, part) DO UPDATE SET agent = excluded.agent,
            kind = excluded.kind, model = excluded.model, domain = excluded.domain,
            status = excluded.status, class = excluded.class, charged = excluded.charged,
            began_at = excluded.began_at, started_at = excluded.started_at,
            ended_at = excluded.ended_at, agent_ms = excluded.agent_ms,
            messages = excluded.messages, tool_calls = excluded.tool_calls,
            session = excluded.session, input_tokens = excluded.input_tokens,
            cached_input_tokens = excluded.cached_input_tokens,
            output_tokens = excluded.output_tokens, reasoning_tokens = excluded.reasoning_tokens,
            cost_micro_usd = excluded.cost_micro_usd, unpriced_tokens = excluded.unpriced_tokens,
            seen = 1",
    )?;
    let used = |of: fn(&Usage) -> u64| session.usage.as_ref().map(|usage| number(of(usage)));
    put.execute(named_params! {
        ":run": session.run.as_str(),
        ":task": session.task.as_str(),
        ":attempt": session.attempt,
        ":part": session.part.to_string(),
        ":agent": session.agent,
        ":kind": session.kind,
        ":model": session.model,
        ":domain": session.domain.as_str(),
        ":status": session.status.name(),
        ":class": session.class,
        ":charged": session.charged,
        ":began_at": number(session.began_at.as_millis()),
        ":started_at": session.started_at.map(|at| number(at.as_millis())),
        ":ended_at": session.ended_at.map(|at| number(at.as_millis())),
        ":agent_ms": session.agent_time.map(|time| millis(time.0)),
        ":messages": number(session.messages),
        ":tool_calls": number(session.tool_calls),
        ":session": session.session,
        ":input": used(|usage| usage.input_tokens),
        ":cached": used(|usage| usage.cached_input_tokens),
        ":output": used(|usage| usage.output_tokens),
        ":reasoning": used(|usage| usage.reasoning_tokens),
        ":cost": used(|usage| usage.cost_micro_usd),
        ":unpriced": used(|usage| usage.unpriced_tokens),
    })?;
    Ok(())
}
