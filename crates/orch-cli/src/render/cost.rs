//! `orch cost`: what was used, as a table and for programs.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use orch_model::{Money, RunId, budget::grouped, costs::Expense, usage::Usage};
use serde_json::{Value, json};

use super::{STRONG, clean};
use crate::app::CostBy;

/// Expenses, summed up.
#[derive(Debug)]
pub(crate) struct Bill {
    by: CostBy,
    rows: Vec<Row>,
    total: Row,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Row {
    /// What it is about; `None`: what has no name, such as tasks of no epic.
    name: Option<String>,
    attempts: u64,
    usage: Usage,
}

impl Row {
    fn add(&mut self, expense: &Expense) {
        self.attempts += u64::from(expense.is_attempt);
        self.usage += expense.usage;
    }

    fn json(&self) -> Value {
        let usage = &self.usage;
        let dollars = Money(usage.cost_micro_usd);
        json!({
            "attempts": self.attempts,
            "input_tokens": usage.input_tokens,
            "cached_input_tokens": usage.cached_input_tokens,
            "output_tokens": usage.output_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
            "cost_usd": dollars,
            "unpriced_tokens": usage.unpriced_tokens,
        })
    }
}

impl Bill {
    /// The sums of what agents used; commands use nothing.
    pub(crate) fn new(expenses: &[Expense], by: CostBy) -> Self {
        let (mut rows, mut total) = (Vec::<Row>::new(), Row::default());
        let mut known: BTreeMap<Option<String>, usize> = BTreeMap::new();
        let is_counted = |e: &&Expense| e.worker.agent.is_some() || e.usage != Usage::default();
        for expense in expenses.iter().filter(is_counted) {
            let name = match by {
                CostBy::Task => Some(expense.task.to_string()),
                CostBy::Epic => expense.epic.as_ref().map(ToString::to_string),
                CostBy::Agent => expense.worker.agent.as_ref().map(ToString::to_string),
                CostBy::Model => expense.model.clone(),
                CostBy::Day => Some(expense.at.to_string().chars().take(10).collect()),
            };
            let at = *known.entry(name.clone()).or_insert_with(|| {
                rows.push(Row { name, ..Row::default() });
                rows.len() - 1
            });
            rows[at].add(expense);
            total.add(expense);
        }
        if matches!(by, CostBy::Day) {
            rows.sort_by(|one, other| one.name.cmp(&other.name));
        } else {
            // What cost most first; those that cost the same in the order in which they began.
            let rank = |row: &Row| {
                let tokens = row.usage.input_tokens.saturating_add(row.usage.output_tokens);
                std::cmp::Reverse((row.usage.cost_micro_usd, tokens))
            };
            rows.sort_by_key(rank);
        }
        Self { by, rows, total }
    }

    pub(crate) fn text(&self, runs: &[RunId], all: bool) -> String {
        let of = match runs {
            [run] if !all => format!("run {run}"),
            runs => super::count(runs.len(), "run"),
        };
        if self.rows.is_empty() {
            return format!("{of}: no agent has worked");
        }
        let name = match self.by {
            CostBy::Task => "TASK",
            CostBy::Epic => "EPIC",
            CostBy::Agent => "AGENT",
            CostBy::Model => "MODEL",
            CostBy::Day => "DAY",
        };
        let heading = [name, "ATTEMPTS", "INPUT", "CACHED", "OUTPUT", "REASONING", "COST"];
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(heading);
        // Amounts have as many decimals as the most exact one needs, so that they add up.
        let amounts = self.rows.iter().chain([&self.total]);
        let decimals = amounts.map(|row| Money(row.usage.cost_micro_usd).decimals()).max();
        for row in self.rows.iter().chain([&self.total]) {
            let is_total = std::ptr::eq(row, &raw const self.total);
            table.add_row(self.cells(row, is_total, decimals.unwrap_or(2)));
        }
        for (at, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if at > 0 {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        if let Some(total) = lines.last_mut() {
            *total = format!("{STRONG}{total}{STRONG:#}");
        }
        let unpriced = self.total.usage.unpriced_tokens;
        if unpriced > 0 {
            lines.push(format!(
                "\nNobody knows the price of {} tokens: name it in the file of the setting `prices`.",
                grouped(unpriced)
            ));
        }
        format!("{of}\n\n{}", lines.join("\n"))
    }

    fn cells(&self, row: &Row, is_total: bool, decimals: usize) -> [String; 7] {
        let usage = &row.usage;
        let nameless = match self.by {
            _ if is_total => "total",
            CostBy::Epic => "(none)",
            CostBy::Model => "(the agent's own)",
            _ => "(unknown)",
        };
        let numbers = [
            row.attempts,
            usage.input_tokens,
            usage.cached_input_tokens,
            usage.output_tokens,
            usage.reasoning_tokens,
        ];
        let [attempts, input, cached, output, reasoning] = numbers.map(grouped);
        let name = clean(row.name.as_deref().unwrap_or(nameless));
        [name, attempts, input, cached, output, reasoning, cost(usage, decimals)]
    }

    pub(crate) fn json(&self, runs: &[RunId]) -> Value {
        let by = match self.by {
            CostBy::Task => "task",
            CostBy::Epic => "epic",
            CostBy::Agent => "agent",
            CostBy::Model => "model",
            CostBy::Day => "day",
        };
        let row = |row: &Row| {
            let mut value = row.json();
            value[by] = json!(row.name);
            value
        };
        let rows: Vec<Value> = self.rows.iter().map(row).collect();
        json!({ "version": 1, "runs": runs, "by": by, "rows": rows, "total": self.total.json() })
    }
}

/// What is not known is not passed off as free.
fn cost(usage: &Usage, decimals: usize) -> String {
    let dollars = format!("{:.decimals$}", Money(usage.cost_micro_usd));
    match (usage.unpriced_tokens, usage.cost_micro_usd) {
        (0, _) if *usage == Usage::default() => "not told".into(),
        (0, _) => dollars,
        (_, 0) => "unknown".into(),
        (unpriced, _) => format!("{dollars} + {} tokens of unknown price", grouped(unpriced)),
    }
}

#[cfg(test)]
mod tests;
