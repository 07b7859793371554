//! `gemini --output-format stream-json`: messages in parts, tools, and a result. Remarks that it
//! prints between them are no JSON.

use std::collections::VecDeque;

use serde_json::Value;

use super::{
    Read, SessionSeen, Sink,
    value::{bool_at, count_at, opt_str_at, str_at},
};
use crate::{
    event::{AgentEvent, Change, LONGEST_DETAIL, Scope, clip},
    tokens::Tokens,
};

/// How many changes of files may be under way; more than run at a time.
const PENDING: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Gemini {
    session: SessionSeen,
    /// Calls that change a file, and the file: only their results tell whether they did.
    pending: VecDeque<(String, String)>,
}

impl Read for Gemini {
    fn read(&mut self, line: &Value, to: &mut Sink<'_>) -> bool {
        match str_at(line, "/type") {
            "init" => {
                let model = opt_str_at(line, "/model");
                self.session.see(opt_str_at(line, "/session_id"), model, None, to);
            }
            "message" if str_at(line, "/role") == "assistant" => {
                let delta = bool_at(line, "/delta") == Some(true);
                to.message(str_at(line, "/content"), false, delta);
            }
            // The prompt, once more.
            "message" => {}
            "tool_use" => {
                let (id, name) = (str_at(line, "/tool_id"), str_at(line, "/tool_name"));
                to.tool_call(id, name, &line["parameters"]);
                if matches!(name, "write_file" | "replace")
                    && let Some(path) = opt_str_at(line, "/parameters/file_path")
                {
                    self.pending.truncate(PENDING - 1);
                    self.pending.push_front((super::short(id), clip(path, LONGEST_DETAIL)));
                }
            }
            "tool_result" => self.tool_result(line, to),
            "error" => {
                let message = str_at(line, "/message");
                to.retried(message, message);
            }
            "result" => {
                usage(&line["stats"], to);
                let success = str_at(line, "/status") == "success";
                if !success {
                    to.failed(line, str_at(line, "/error/message"), None);
                }
                to.end(success, str_at(line, "/status"));
            }
            _ => return false,
        }
        true
    }

    fn text(&mut self, text: &str, to: &mut Sink<'_>) -> bool {
        let number = text.strip_prefix(AGAIN.0).and_then(|rest| Some(rest.split_once(AGAIN.1)?.0));
        let is_known = number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()));
        if is_known {
            to.rate_limit(text, None);
        }
        is_known
    }
}

/// How it begins to tell, by a line of text, that it tries again.
const AGAIN: (&str, &str) = ("Attempt ", " failed with status 429. Retrying");

impl Gemini {
    fn tool_result(&mut self, line: &Value, to: &mut Sink<'_>) {
        let id = str_at(line, "/tool_id");
        // It says so of a command too that exited with an error.
        let ok = str_at(line, "/status") == "success";
        let output = opt_str_at(line, "/output").unwrap_or_else(|| str_at(line, "/error/message"));
        to.tool_result(id, ok, None, output);
        let found = self.pending.iter().position(|(pending, _)| *pending == super::short(id));
        if let Some((_, path)) = found.and_then(|at| self.pending.remove(at))
            && ok
        {
            to.tell(AgentEvent::FileChange { path, change: Change::Update });
        }
    }
}

fn usage(stats: &Value, to: &mut Sink<'_>) {
    if stats.is_object() {
        let tokens = Tokens {
            input: count_at(stats, "/input_tokens"),
            cached: count_at(stats, "/cached"),
            cache_write: 0,
            output: count_at(stats, "/output_tokens"),
            reasoning: count_at(stats, "/thoughts"),
        };
        to.tell(AgentEvent::Usage { scope: Scope::Run, tokens: Some(tokens), cost: None });
    }
}
