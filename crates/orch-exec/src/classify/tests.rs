use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_000);

fn failure(tail: &str, code: i32, is_agent: bool) -> Option<Failure> {
    let mut exit = AgentExit::new(ExitStatus::Code(code));
    exit.output_tail = tail.into();
    classify(&exit, is_agent, NOW)
}

fn class(tail: &str, is_agent: bool) -> Option<&'static str> {
    failure(tail, 1, is_agent).map(|failure| failure.class())
}

fn reset(tail: &str) -> Option<Timestamp> {
    failure(tail, 1, true)?.reset()
}

#[test]
fn a_marked_line_says_it() {
    let text = "working\n::orch failure class=rate_limit retry_after=30s slow down, please\nbye\n";
    let expected = Failure::RateLimit {
        reset: Some(Timestamp::from_millis(31_000)),
        message: "slow down, please".into(),
    };
    assert_eq!(failure(text, 1, false), Some(expected));
    let text = "::orch failure class=quota reset=1970-01-01T00:00:09Z limit=5 class=mine";
    let at = Some(Timestamp::from_millis(9_000));
    assert!(
        matches!(failure(text, 1, false), Some(Failure::Quota { reset, .. }) if reset == at),
        "the message begins at the first word that is no setting"
    );
    for name in ["authentication", "infrastructure", "lock_timeout", "resource_shortage"] {
        assert_eq!(class(&format!("::orch failure class={name} x"), false), Some(name));
    }
    assert_eq!(class("::orch failure class=nonsense", true), None);
    assert_eq!(class("::orch failure", true), None);
}

#[test]
fn only_the_last_marked_line_counts_and_only_as_a_line() {
    let lines = |first, second| {
        format!("::orch failure class={first} x\nmore\n::orch failure class={second} y\n")
    };
    assert_eq!(class(&lines("quota", "authentication"), false), Some("authentication"));
    assert_eq!(class(&lines("quota", "nonsense"), false), None);
    for quoted in [
        "  ::orch failure class=quota indented, as in a diff or a listing",
        "+::orch failure class=quota",
        "docs say: ::orch failure class=quota",
        "{\"text\":\"::orch failure class=quota\"}",
    ] {
        assert_eq!(class(quoted, false), None, "{quoted}");
    }
    let early = format!("::orch failure class=quota x\n{}", "more\n".repeat(LINES));
    assert_eq!(class(&early, false), None, "much was said since");
}

#[test]
fn well_known_messages_are_understood_of_agents_only() {
    for (line, expected) in [
        ("Error: 429 Too Many Requests", "rate_limit"),
        ("API Error: Request rejected (429) · scripted error 429", "rate_limit"),
        ("ERROR: exceeded retry limit, last status: 429 Too Many Requests", "rate_limit"),
        ("[API Error: 429 slow down]", "rate_limit"),
        ("litellm.RateLimitError: AnthropicException", "rate_limit"),
        ("Rate limit reached for gpt-5.5 in organization org-x", "rate_limit"),
        ("{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\"}}", "rate_limit"),
        ("Claude usage limit reached. Resets at 5pm", "quota"),
        ("You\u{2019}ve hit your usage limit. Upgrade, or try again in 2 hours", "quota"),
        ("Credit balance is too low", "quota"),
        ("Invalid API key · Please run /login", "authentication"),
        ("Failed to authenticate. API Error: 401 scripted error 401", "authentication"),
        ("unexpected status 401 Unauthorized: scripted error 401", "authentication"),
        ("API Error: Connection to the API was lost (ECONNRESET). Try again.", "infrastructure"),
        ("[API Error: terminated]", "infrastructure"),
    ] {
        assert_eq!(class(line, true), Some(expected), "{line}");
        assert_eq!(class(&format!("{line}\n\nbye\n"), true), Some(expected), "{line}");
        assert_eq!(class(line, false), None, "{line}");
    }
}

#[test]
fn talk_of_limits_is_no_limit() {
    for line in [
        "test rate_limit_is_kept ... FAILED",
        "rate limit",
        "I could not make the rate limit test pass.",
        "assertion failed: expected 200, got 429 Too Many Requests",
        "Error: expected status 200, found 429",
        "error: test `too many requests are refused` failed",
        "error[E0425]: cannot find function `authentication_error`",
        "thread 'not_logged_in' panicked: 401 unauthorized expected",
        "4290 tests passed, 1 failed",
        "rate_limit_error_is_mapped: FAILED",
        "status: 4291",
        "HTTP 404 Not Found",
    ] {
        assert_eq!(class(line, true), None, "{line}");
    }
    let long_ago = format!("Error: 429 Too Many Requests\n{}", "then it went on\n".repeat(5));
    assert_eq!(class(&long_ago, true), None);
}

#[test]
fn the_reset_is_read_off_the_message() {
    let after = |seconds: u64| Some(Timestamp::from_millis(1_000 + seconds * 1000));
    for (line, expected) in [
        (
            "Claude AI usage limit reached|1795235200",
            Some(Timestamp::from_millis(1_795_235_200_000)),
        ),
        ("Rate limit reached for gpt-5.5. Please try again in 20s.", after(20)),
        ("Error: 429, retry after 7", after(7)),
        ("You've hit your usage limit. Try again in 1 day 2 hours 5 minutes.", after(93_900)),
        ("Error: 429 Too Many Requests", None),
        ("Error: 429, try again in a while", None),
    ] {
        assert_eq!(reset(line), expected, "{line}");
    }
    let precise = reset("429: try again in 1.5s").map(|at| at.since(NOW).as_millis());
    assert_eq!(precise, Some(1_500));
}

/// Ends of streams as the agents printed them, without what is not looked at.
#[test]
fn the_ends_of_recorded_streams() {
    let claude = |error: &str| {
        format!(
            "{{\"type\":\"system\",\"subtype\":\"api_retry\",\"attempt\":10,\"error\":\"rate_limit\"}}\n\
             {{\"duration_api_ms\":0,\"total_cost_usd\":0,\"terminal_reason\":\"api_error\",\
             \"is_error\":true,\"num_turns\":1,\"subtype\":\"success\",{error},\"type\":\"result\"}}\n"
        )
    };
    let limit = claude(
        r#""api_error_status":429,"api_error_type":"rate_limit_error","result":"API Error: Request rejected (429) · scripted error 429""#,
    );
    let login = claude(
        r#""api_error_status":401,"api_error_type":"authentication_error","result":"Failed to authenticate. API Error: 401 scripted error 401""#,
    );
    let server = claude(
        r#""api_error_status":500,"api_error_type":"api_error","result":"API Error: 500 scripted error 500. This is a server-side issue""#,
    );
    let turns = r#"{"terminal_reason":"max_turns","is_error":true,"subtype":"error_max_turns","errors":["Reached maximum number of turns (1)"],"type":"result"}"#;
    let codex_limit = r#"{"type":"error","message":"exceeded retry limit, last status: 429 Too Many Requests"}
{"type":"turn.failed","error":{"message":"exceeded retry limit, last status: 429 Too Many Requests"}}"#;
    let codex_login = r#"{"type":"turn.failed","error":{"message":"unexpected status 401 Unauthorized: scripted error 401, url: http://127.0.0.1:38509/v1/responses"}}"#;
    let codex_demand = r#"{"type":"turn.failed","error":{"message":"We’re currently experiencing high demand, which may cause temporary errors."}}"#;
    let gemini = |message: &str| {
        format!(
            "  retryDelayMs: undefined,\n  status: 429\n}}\n{{\"type\":\"result\",\"status\":\"error\",\
             \"error\":{{\"type\":\"unknown\",\"message\":\"{message}\"}},\"stats\":{{\"total_tokens\":0}}}}\n"
        )
    };
    let gemini_limit = gemini(
        "[API Error: scripted error 429]\\nPlease wait and try again later. To increase your limits, request a quota increase",
    );
    let gemini_cut = gemini("[API Error: terminated]");
    let opencode = |code: u32, kind: &str, header: &str| {
        format!(
            "{{\"type\":\"error\",\"sessionID\":\"ses_1\",\"error\":{{\"name\":\"APIError\",\"data\":{{\
             \"message\":\"scripted error {code}\",\"statusCode\":{code},\"isRetryable\":true,\
             \"responseHeaders\":{{\"content-length\":\"121\"{header}}},\
             \"responseBody\":\"{{\\\"error\\\": {{\\\"type\\\": \\\"{kind}\\\"}}}}\"}}}}}}\n"
        )
    };
    let cut = r#"{"type":"error","error":{"name":"APIError","data":{"message":"Cannot connect to API: The socket connection was closed unexpectedly.","isRetryable":true}}}"#;
    for (name, tail, code, expected) in [
        ("claude 429", &*limit, 1, Some("rate_limit")),
        ("claude 401", &*login, 1, Some("authentication")),
        ("claude 500", &*server, 1, Some("infrastructure")),
        ("claude max turns", turns, 1, None),
        ("codex 429", codex_limit, 1, Some("rate_limit")),
        ("codex 401", codex_login, 1, Some("authentication")),
        ("codex 500", codex_demand, 1, Some("infrastructure")),
        ("gemini 429", &*gemini_limit, 173, Some("rate_limit")),
        ("gemini 401", &*gemini("[API Error: {}]"), 145, Some("authentication")),
        ("gemini 500", &*gemini("[API Error: {}]"), 244, Some("infrastructure")),
        ("gemini cut", &*gemini_cut, 1, Some("infrastructure")),
        ("opencode 429", &*opencode(429, "rate_limit_exceeded", ""), 1, Some("rate_limit")),
        ("opencode 401", &*opencode(401, "invalid_api_key", ""), 1, Some("authentication")),
        ("opencode quota", &*opencode(429, "insufficient_quota", ""), 1, Some("quota")),
        ("opencode cut", cut, 1, Some("infrastructure")),
    ] {
        let found = failure(tail, code, true);
        assert_eq!(found.as_ref().map(Failure::class), expected, "{name}: {found:?}");
    }
    let header = opencode(429, "rate_limit_exceeded", ",\"retry-after\":\"5\"");
    assert_eq!(reset(&header), Some(Timestamp::from_millis(6_000)));
}

#[test]
fn a_stream_that_ended_well_or_otherwise_is_not_searched_for_words() {
    let done = r#"{"type":"item.completed","item":{"type":"agent_message","text":"Error: 429 Too Many Requests"}}
Error: 429 Too Many Requests
{"type":"turn.completed","usage":{"input_tokens":2400}}"#;
    assert_eq!(class(done, true), None);
    let result = r#"{"type":"result","is_error":false,"result":"Error: 429 Too Many Requests"}"#;
    assert_eq!(class(result, true), None);
    let talk =
        r#"{"type":"assistant","message":{"content":[{"type":"text","text":"rate_limit_error"}]}}"#;
    assert_eq!(class(talk, true), None);
}

#[test]
fn an_agent_says_why_there_is_nothing_to_change() {
    for (text, expected) in [
        ("looked\n::orch no-change it is so already\n", Some("it is so already")),
        ("::orch no-change\n", None),
        ("::orch no-change   \n", None),
        ("say ::orch no-change because\n", None),
        ("::orch no-changes because\n", None),
    ] {
        assert_eq!(no_change(text).as_deref(), expected, "{text}");
    }
}
