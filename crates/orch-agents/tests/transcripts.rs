//! Recorded streams of the real agents: what each one says, and what came of it.
//!
//! `ORCH_UPDATE=1` writes the events anew; the difference is for review.

use std::{fs, path::PathBuf};

use orch_agents::{AgentEvent, Dialect, Parser, Record, Summary, Totals, Verdict, judge};
use orch_model::{
    Timestamp,
    outcome::{AgentExit, ExitStatus, Failure},
};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_millis(1_795_200_000_000);

const AGENTS: [(&str, Dialect); 4] = [
    ("claude", Dialect::Claude),
    ("codex", Dialect::Codex),
    ("gemini", Dialect::Gemini),
    ("opencode", Dialect::Opencode),
];

fn folder(agent: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/transcripts", agent].iter().collect()
}

/// The names of the recorded streams of an agent.
fn cases(agent: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder(agent))
        .unwrap()
        .filter_map(|entry| {
            Some(entry.unwrap().file_name().to_str()?.strip_suffix(".jsonl")?.to_owned())
        })
        .filter(|name| !name.ends_with(".events"))
        .collect();
    names.sort();
    names
}

fn stream(agent: &str, case: &str) -> Vec<u8> {
    fs::read(folder(agent).join(format!("{case}.jsonl"))).unwrap()
}

fn dialect(agent: &str) -> Dialect {
    AGENTS.iter().find(|(name, _)| *name == agent).unwrap().1.clone()
}

fn records<'c>(dialect: &Dialect, chunks: impl IntoIterator<Item = &'c [u8]>) -> Vec<Record> {
    let (mut parser, mut records) = (Parser::new(dialect), Vec::new());
    for chunk in chunks {
        parser.push(chunk, NOW, |record| records.push(record));
    }
    parser.finish(NOW, |record| records.push(record));
    records
}

fn summary(records: &[Record]) -> Summary {
    let mut summary = Summary::default();
    records.iter().for_each(|record| summary.take(record));
    summary
}

fn judged(agent: &str, case: &str) -> (Summary, Verdict) {
    let code = fs::read_to_string(folder(agent).join(format!("{case}.exit"))).unwrap();
    let status = match code.trim().parse().unwrap() {
        signal @ ..0 => ExitStatus::Signal(-signal),
        code => ExitStatus::Code(code),
    };
    let summary = summary(&records(&dialect(agent), [&*stream(agent, case)]));
    let exit = AgentExit::new(status);
    let verdict = judge(&dialect(agent), &summary, &exit, &Totals::default(), NOW);
    (summary, verdict)
}

#[test]
fn the_events_are_as_they_were_reviewed() {
    for (agent, dialect) in AGENTS {
        for case in cases(agent) {
            let lines: Vec<String> = records(&dialect, [&*stream(agent, &case)])
                .iter()
                .map(|record| serde_json::to_string(record).unwrap() + "\n")
                .collect();
            let path = folder(agent).join(format!("{case}.events.jsonl"));
            if std::env::var_os("ORCH_UPDATE").is_some() {
                fs::write(&path, lines.concat()).unwrap();
            }
            let expected = fs::read_to_string(&path).unwrap();
            assert_eq!(lines.concat(), expected, "{agent}/{case}");
            for line in expected.lines() {
                let record: Record = serde_json::from_str(line).unwrap();
                assert_eq!(serde_json::to_string(&record).unwrap(), line);
            }
        }
    }
}

/// Both sides of conversations: a prompt that is carried out, and one that is cancelled.
#[test]
fn conversations_by_the_agent_client_protocol() {
    for case in cases("acp") {
        let records = records(&Dialect::Acp, [&*stream("acp", &case)]);
        let lines: Vec<String> =
            records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect();
        let path = folder("acp").join(format!("{case}.events.jsonl"));
        if std::env::var_os("ORCH_UPDATE").is_some() {
            fs::write(&path, lines.concat()).unwrap();
        }
        assert_eq!(lines.concat(), fs::read_to_string(&path).unwrap(), "{case}");
        let is_end = |record: &Record| matches!(record.event, AgentEvent::End { .. });
        let first = records.iter().position(is_end).unwrap();
        let (done, cancelled) = records.split_at(first + 1);
        let summary = summary(done);
        let ok = AgentExit::new(ExitStatus::Code(0));
        let verdict = judge(&Dialect::Acp, &summary, &ok, &Totals::default(), NOW);
        assert_eq!(verdict.failure, None, "{case}");
        assert!(summary.text.ends_with("all done"), "{case}: {}", summary.text);
        assert_eq!(
            (summary.tool_calls, summary.unknown),
            (2 - u64::from(case == "codex-acp"), 0),
            "{case}"
        );
        assert_eq!(summary.file_changes, u64::from(case != "opencode"), "{case}");
        assert!(summary.session.is_some(), "{case}");
        let last = &cancelled.last().unwrap().event;
        let expected = AgentEvent::End { success: false, reason: "cancelled".into() };
        assert_eq!(*last, expected, "{case}");
    }
}

/// What came of each recorded attempt. A word in front of a colon is the class of the failure.
const VERDICTS: &[(&str, &str, &str)] = &[
    ("claude", "background", "ok: ok"),
    ("claude", "cut", "agent"),
    ("claude", "max_turns", "agent"),
    ("claude", "mcp_http", "ok: ok"),
    ("claude", "mcp_stdio", "ok: ok"),
    ("claude", "permission", "needs_input"),
    ("claude", "rate_limit", "rate_limit"),
    ("claude", "rate_limit_once", "ok: recovered"),
    ("claude", "rate_limit_retry_after", "ok: recovered"),
    ("claude", "server_error", "infrastructure"),
    ("claude", "session", "ok: second"),
    ("claude", "sigint_run", "agent"),
    ("claude", "sigterm_run", "agent"),
    ("claude", "success", "ok: all done"),
    ("claude", "tool_failure", "ok: noticed"),
    ("claude", "unauthorized", "authentication"),
    ("codex", "background", "ok: ok"),
    ("codex", "cut", "infrastructure"),
    ("codex", "mcp_http", "ok: ok"),
    ("codex", "mcp_stdio", "ok: ok"),
    ("codex", "patch", "ok: ok"),
    ("codex", "permission", "ok: ended"),
    ("codex", "rate_limit", "rate_limit"),
    ("codex", "rate_limit_once", "rate_limit"),
    ("codex", "rate_limit_retry_after", "ok: recovered"),
    ("codex", "refused", "needs_input"),
    ("codex", "server_error", "infrastructure"),
    ("codex", "session", "ok: second"),
    ("codex", "sigint_run", "agent"),
    ("codex", "sigterm_run", "agent"),
    ("codex", "success", "ok: all done"),
    ("codex", "tool_failure", "ok: noticed"),
    ("codex", "unauthorized", "authentication"),
    ("gemini", "background", "ok: ok"),
    ("gemini", "cut", "infrastructure"),
    ("gemini", "mcp_stdio", "ok: ok"),
    ("gemini", "permission", "ok: No shell tool among"),
    ("gemini", "rate_limit", "rate_limit"),
    ("gemini", "rate_limit_once", "ok: recovered"),
    ("gemini", "rate_limit_retry_after", "ok: recovered"),
    ("gemini", "server_error", "infrastructure"),
    ("gemini", "session", "ok: second"),
    ("gemini", "sigint_run", "agent"),
    ("gemini", "sigterm_run", "agent"),
    ("gemini", "success", "ok: all done"),
    ("gemini", "tool_failure", "ok: noticed"),
    ("gemini", "unauthorized", "authentication"),
    ("opencode", "background", "ok: ok"),
    ("opencode", "cut", "infrastructure"),
    ("opencode", "mcp_stdio", "ok: ok"),
    ("opencode", "permission", "needs_input"),
    ("opencode", "rate_limit", "rate_limit"),
    ("opencode", "rate_limit_once", "ok: recovered"),
    ("opencode", "rate_limit_retry_after", "ok: recovered"),
    ("opencode", "server_error", "infrastructure"),
    ("opencode", "session", "ok: second"),
    ("opencode", "sigint_run", "agent"),
    ("opencode", "sigterm_run", "agent"),
    ("opencode", "success", "ok: all done"),
    ("opencode", "tool_failure", "ok: noticed"),
    ("opencode", "unauthorized", "authentication"),
];

#[test]
fn each_recorded_attempt_is_judged() {
    let recorded: Vec<(&str, String)> = AGENTS
        .iter()
        .flat_map(|(agent, _)| cases(agent).into_iter().map(|c| (*agent, c)))
        .collect();
    let listed: Vec<_> =
        VERDICTS.iter().map(|(agent, case, _)| (*agent, (*case).to_owned())).collect();
    assert_eq!(listed, recorded, "a stream that nobody judges");
    let mut wrong = Vec::new();
    for (agent, case, expected) in VERDICTS {
        let (summary, verdict) = judged(agent, case);
        let found = match &verdict.failure {
            None => format!("ok: {}", summary.text),
            Some(failure) => failure.class().to_owned(),
        };
        if !found.starts_with(expected) {
            wrong.push(format!("{agent}/{case}: {expected}, found {found}: {:?}", verdict.failure));
        }
        assert!(summary.session.is_some(), "{agent}/{case}");
        assert_eq!(summary.unknown, 0, "{agent}/{case}");
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn usage_is_counted_alike() {
    for (agent, tokens, cost) in [
        ("claude", (3600, 600, 102), Some("0.01071")),
        ("codex", (3600, 600, 102), None),
        ("gemini", (3600, 600, 102), None),
        ("opencode", (3600, 600, 102), None),
    ] {
        let (summary, verdict) = judged(agent, "success");
        let found = verdict.tokens.unwrap();
        assert_eq!((found.input, found.cached, found.output), tokens, "{agent}");
        assert_eq!(verdict.cost, cost.map(|cost| cost.parse().unwrap()), "{agent}");
        assert_eq!(summary.tool_calls + u64::from(agent == "codex"), 2, "{agent}");
        assert_eq!(summary.file_changes, 1, "{agent}");
    }
}

/// The second attempts of sessions whose first ones used 1,200 tokens and 34.
#[test]
fn what_an_earlier_attempt_of_the_session_used_is_taken_off() {
    for (agent, cost) in [
        ("claude", Some("0.0035700000000000005")),
        ("codex", None),
        ("gemini", None),
        ("opencode", None),
    ] {
        let before =
            orch_agents::Tokens { input: 1200, cached: 200, output: 34, ..Default::default() };
        let earlier = Totals { tokens: Some(before), cost: Some("0.00357".parse().unwrap()) };
        let records = records(&dialect(agent), [&*stream(agent, "session")]);
        let exit = AgentExit::new(ExitStatus::Code(0));
        let verdict = judge(&dialect(agent), &summary(&records), &exit, &earlier, NOW);
        let found = verdict.tokens.unwrap();
        assert_eq!((found.input, found.cached, found.output), (1200, 200, 34), "{agent}");
        assert_eq!(verdict.cost, cost.map(|cost| cost.parse().unwrap()), "{agent}");
    }
}

/// What the programs print beside their stream comes through the same pipe.
#[test]
fn remarks_between_the_lines_are_kept_and_change_nothing() {
    for case in cases("gemini") {
        let remarks = fs::read(folder("gemini").join(format!("{case}.stderr"))).unwrap();
        let mut mixed = remarks.clone();
        for line in stream("gemini", &case).split_inclusive(|byte| *byte == b'\n') {
            mixed.extend_from_slice(line);
            mixed.extend_from_slice(b"a remark\n");
        }
        let (mixed, mut plain) = (
            summary(&records(&Dialect::Gemini, [&*mixed])),
            summary(&records(&Dialect::Gemini, [&*stream("gemini", &case)])),
        );
        assert!(mixed.unknown > plain.unknown, "{case}");
        plain.unknown = mixed.unknown;
        // But for one: it is by this that it tells of limits while it works.
        assert_eq!(mixed.rate_limits > 0, case.starts_with("rate_limit"), "{case}");
        plain.rate_limits = mixed.rate_limits;
        assert_eq!(mixed, plain, "{case}");
    }
}

#[test]
fn a_stream_that_is_cut_off_is_no_success() {
    for (agent, dialect) in AGENTS {
        let whole = stream(agent, "success");
        let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
        // Up to the line that ends the turn, and into it.
        for end in [last, last + 1, last + 30, 0, 1] {
            let summary = summary(&records(&dialect, [&whole[..end]]));
            let exit = AgentExit::new(ExitStatus::Code(0));
            let verdict = judge(&dialect, &summary, &exit, &Totals::default(), NOW);
            let Some(Failure::Agent { output_tail, .. }) = verdict.failure else {
                panic!("{agent}, {end} bytes: {verdict:?}");
            };
            assert!(output_tail.contains("cut off"), "{agent}: {output_tail}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chunks_make_no_difference(
        agent in 0usize..4, which in any::<prop::sample::Index>(), sizes in prop::collection::vec(1usize..700, 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let (agent, dialect) = &AGENTS[agent];
        let cases = cases(agent);
        let whole = stream(agent, &cases[which.index(cases.len())]);
        let whole = &whole[..=cut.index(whole.len())];
        let mut chunks = Vec::new();
        let mut rest = whole;
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, after) = rest.split_at(rest.len().min(*size));
            chunks.push(chunk);
            rest = after;
        }
        prop_assert_eq!(records(dialect, chunks), records(dialect, [whole]));
    }

    #[test]
    fn damaged_streams_are_read_to_their_end(
        agent in 0usize..4, which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..60),
    ) {
        let (agent, dialect) = &AGENTS[agent];
        let cases = cases(agent);
        let mut bytes = stream(agent, &cases[which.index(cases.len())]);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let records = records(dialect, [&*bytes]);
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
        prop_assert!(records.len() <= 4 * lines + 4, "{} of {lines}", records.len());
        for (at, record) in records.iter().enumerate() {
            prop_assert_eq!(record.seq, at as u64 + 1);
            serde_json::to_string(record).unwrap();
        }
    }

    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..2000), agent in 0usize..4) {
        let records = records(&AGENTS[agent].1, [&*bytes]);
        let kept: u64 = records
            .iter()
            .map(|record| match &record.event {
                AgentEvent::Unknown { bytes, .. } => *bytes,
                _ => 0,
            })
            .sum();
        prop_assert!(kept <= bytes.len() as u64);
        let summary = summary(&records);
        prop_assert!(summary.end.is_none(), "nobody said that");
    }
}

#[test]
fn a_flood_of_text_is_counted() {
    let flood = "all work and no play\n".repeat(5000);
    let records = records(&Dialect::Claude, [flood.as_bytes()]);
    assert_eq!(records.len(), 1001);
    assert_eq!(records[1000].seq, 1001);
    let more = AgentEvent::MoreUnknown { lines: 4000, bytes: 80_000 };
    assert_eq!(records[1000].event, more);
    assert_eq!(summary(&records).unknown, 5000);
}

/// As its schema has it: the event comes before the answer that names no time.
#[test]
fn claude_tells_of_the_reset_of_a_subscription_by_another_line() {
    let stream = br#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1795203600,"rateLimitType":"five_hour"},"session_id":"s"}
{"type":"result","is_error":true,"api_error_status":429,"result":"You've hit your limit","session_id":"s"}
"#;
    let summary = summary(&records(&Dialect::Claude, [&stream[..]]));
    let exit = AgentExit::new(ExitStatus::Code(1));
    let verdict = judge(&Dialect::Claude, &summary, &exit, &Totals::default(), NOW);
    let reset = Some(Timestamp::from_millis(1_795_203_600_000));
    let message = "You've hit your limit".to_owned();
    assert_eq!(verdict.failure, Some(Failure::Quota { reset, message }));
}
