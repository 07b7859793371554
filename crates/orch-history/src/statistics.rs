//! What sessions add up to: plain data, for whoever has to expect something.

use std::{collections::BTreeMap, time::Duration};

use orch_model::{
    DomainName, Span, TaskId,
    plan::PlanSpec,
    ports::{ModelRecord, ModelRecords},
};
use serde::Serialize;

use crate::{
    domain::domain_of,
    session::{Part, Session, SessionStatus},
};

/// How many sessions are enough to be believed before those of a wider kind.
const ENOUGH: u64 = 3;

/// How many of the newest durations of a task count: what it takes changes as the repository grows.
const NEWEST: usize = 5;

/// How many of the newest sessions of a kind count.
const WINDOW: usize = 500;

/// What recent sessions add up to.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct Statistics {
    /// By who worked, with what and on what. Every session counts under several keys, the wider ones
    /// included; see [`Key`].
    #[serde(with = "listed")]
    pub figures: BTreeMap<Key, Figures>,
    /// By the id of the task.
    pub tasks: BTreeMap<TaskId, TaskFigures>,
}

/// Whose figures: an agent's, or, narrower, with one model, on tasks of one domain, or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Key {
    /// The kind of a coding agent; the name of an agent that its plan describes; `command`. See
    /// [`Session::who`].
    pub agent: String,
    /// The model; `None`: any.
    pub model: Option<String>,
    /// What the tasks were about; `None`: anything.
    pub domain: Option<DomainName>,
}

/// What sessions took and cost, and how they ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Figures {
    /// How many sessions have ended.
    pub sessions: u64,
    /// How many of them had their work taken over.
    pub succeeded: u64,
    /// How many failed by their own fault. The rest says nothing of the agent: cancelled, interrupted,
    /// limited by the service, conflicts.
    pub failed: u64,
    /// How long the agent ran, in milliseconds; of those that succeeded.
    pub agent_ms: Spread,
    /// Tokens read and written; of those that tell.
    pub tokens: Spread,
    /// What they cost, in millionths of a US dollar; of those whose whole cost is known.
    pub cost_micro_usd: Spread,
}

/// How values are spread. All 0 where there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Spread {
    /// How many there are.
    pub count: u64,
    /// Their mean, rounded down.
    pub mean: u64,
    /// The one in the middle: of an even number, the larger of the two.
    pub median: u64,
    /// Nine of ten are no larger (nearest rank).
    pub p90: u64,
    /// The largest.
    pub largest: u64,
}

/// What a task took.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct TaskFigures {
    /// In how many sessions it was worked on.
    pub sessions: u64,
    /// How many had their work taken over.
    pub succeeded: u64,
    /// How many failed by their own fault.
    pub failed: u64,
    /// From the start of its agent to the merge: the median of the newest five; `None` where it was never
    /// merged.
    pub duration: Option<Span>,
}

impl Figures {
    /// How many of a hundred succeed, of those that say something of the agent; `None` where none does.
    #[must_use]
    pub const fn success_percent(&self) -> Option<u64> {
        match self.succeeded + self.failed {
            0 => None,
            sum => Some(self.succeeded * 100 / sum),
        }
    }
}

impl Spread {
    fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let Some(largest) = values.last() else { return Self::default() };
        let p90 = (values.len() * 9).div_ceil(10) - 1;
        Self {
            count: values.len() as u64,
            mean: values.iter().fold(0u64, |sum, value| sum.saturating_add(*value))
                / values.len() as u64,
            median: values[values.len() / 2],
            p90: values[p90],
            largest: *largest,
        }
    }
}

/// What a key has seen.
#[derive(Debug, Default)]
struct Seen {
    figures: Figures,
    agent_ms: Vec<u64>,
    tokens: Vec<u64>,
    cost: Vec<u64>,
}

impl Seen {
    fn see(&mut self, session: &Session) {
        if self.figures.sessions >= WINDOW as u64 {
            return;
        }
        self.figures.sessions += 1;
        match session.verdict() {
            Some(true) => {
                self.figures.succeeded += 1;
                self.agent_ms.extend(session.agent_time.map(|time| millis(time.0)));
            }
            Some(false) => self.figures.failed += 1,
            None => {}
        }
        if let Some(usage) = &session.usage {
            let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
            self.tokens.push(tokens);
            if usage.unpriced_tokens == 0 {
                self.cost.push(usage.cost_micro_usd);
            }
        }
    }

    fn end(self) -> Figures {
        Figures {
            agent_ms: Spread::of(self.agent_ms),
            tokens: Spread::of(self.tokens),
            cost_micro_usd: Spread::of(self.cost),
            ..self.figures
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Statistics {
    /// Adds sessions up, the newest first. Those that go on don't count.
    #[must_use]
    pub fn of<'s>(sessions: impl IntoIterator<Item = &'s Session>) -> Self {
        let mut figures: BTreeMap<Key, Seen> = BTreeMap::new();
        let mut tasks: BTreeMap<TaskId, (TaskFigures, Vec<u64>)> = BTreeMap::new();
        for session in sessions {
            if session.part != Part::Work || session.status == SessionStatus::Open {
                continue;
            }
            for key in Key::of(session) {
                figures.entry(key).or_default().see(session);
            }
            let (task, durations) = tasks.entry(session.task.clone()).or_default();
            task.sessions += 1;
            match session.verdict() {
                Some(true) => {
                    task.succeeded += 1;
                    let duration = session.duration().filter(|_| durations.len() < NEWEST);
                    durations.extend(duration.map(millis));
                }
                Some(false) => task.failed += 1,
                None => {}
            }
        }
        let tasks = tasks.into_iter().map(|(id, (mut task, durations))| {
            let spread = Spread::of(durations);
            task.duration = (spread.count > 0).then(|| Span(Duration::from_millis(spread.median)));
            (id, task)
        });
        Self {
            figures: figures.into_iter().map(|(key, seen)| (key, seen.end())).collect(),
            tasks: tasks.collect(),
        }
    }

    /// What is to be expected of an agent with a model on tasks of a domain (`None`: not known): the figures
    /// of exactly that, where there are three of them; else of all tasks with this model, of this domain with
    /// any model, of this agent at all; else whatever there is of these.
    #[must_use]
    pub fn expect(
        &self,
        agent: &str,
        model: Option<&str>,
        domain: Option<&DomainName>,
    ) -> Option<&Figures> {
        let key = |model: Option<&str>, domain: Option<&DomainName>| Key {
            agent: agent.to_owned(),
            model: model.map(str::to_owned),
            domain: domain.cloned(),
        };
        let models = [model, None].into_iter().skip(usize::from(model.is_none()));
        let domains = || [domain, None].into_iter().skip(usize::from(domain.is_none()));
        let keys: Vec<Key> = models
            .flat_map(|model| domains().map(move |domain| (model, domain)))
            .map(|(m, d)| key(m, d))
            .collect();
        let found: Vec<&Figures> = keys.iter().filter_map(|key| self.figures.get(key)).collect();
        let enough = found.iter().find(|figures| figures.sessions >= ENOUGH);
        enough.or(found.first()).copied()
    }

    /// What came of models, each with all agents and all tasks together: for the choice of one.
    #[must_use]
    pub fn model_records(&self) -> ModelRecords {
        let mut sums: BTreeMap<&String, (ModelRecord, u64, u64)> = BTreeMap::new();
        for (key, figures) in &self.figures {
            let (Some(model), None) = (&key.model, &key.domain) else { continue };
            let (record, cost, priced) = sums.entry(model).or_default();
            let few = |many: u64| u32::try_from(many).unwrap_or(u32::MAX);
            record.succeeded = record.succeeded.saturating_add(few(figures.succeeded));
            record.failed = record.failed.saturating_add(few(figures.failed));
            let known = figures.cost_micro_usd;
            *cost = cost.saturating_add(known.mean.saturating_mul(known.count));
            *priced = priced.saturating_add(known.count);
        }
        let mut records = ModelRecords::default();
        for (model, (record, cost, priced)) in sums {
            let mean_micro_usd = cost.checked_div(priced);
            records.insert_any(model, ModelRecord { mean_micro_usd, ..record });
        }
        records
    }

    /// How long the tasks of a plan are expected to take: what was measured of the task, else, where the
    /// plan gives no estimate, what is to be expected of its agent. Commands are only known by their task.
    #[must_use]
    pub fn durations(&self, plan: &PlanSpec) -> BTreeMap<TaskId, Duration> {
        let of = |task: &orch_model::plan::spec::TaskSpec| {
            let measured = self.tasks.get(&task.id).and_then(|task| task.duration);
            if let Some(measured) = measured {
                return Some(measured.0);
            }
            if task.estimate.is_some() || task.run.is_some() {
                return None;
            }
            let name = task.agent.as_ref().or(plan.defaults.agent.as_ref())?;
            let (agent, model) = plan.agents.get(name).map_or((name.as_str(), None), |agent| {
                let who = match agent.kind {
                    orch_model::plan::spec::AgentKind::Command => name.as_str(),
                    kind => kind.name(),
                };
                (who, agent.model.as_deref())
            });
            let model = task.model.as_deref().or(model).or(plan.defaults.model.as_deref());
            let figures = self.expect(agent, model, Some(&domain_of(task)))?;
            let known = figures.agent_ms.count > 0;
            known.then(|| Duration::from_millis(figures.agent_ms.median))
        };
        plan.tasks.iter().filter_map(|task| Some((task.id.clone(), of(task)?))).collect()
    }
}

impl Key {
    /// The keys that a session counts under, the widest first.
    fn of(session: &Session) -> Vec<Self> {
        let key = |model: Option<&String>, domain: Option<&DomainName>| Self {
            agent: session.who().to_owned(),
            model: model.cloned(),
            domain: domain.cloned(),
        };
        let mut keys = vec![key(None, None), key(None, Some(&session.domain))];
        if let Some(model) = &session.model {
            keys.extend([key(Some(model), None), key(Some(model), Some(&session.domain))]);
        }
        keys
    }
}

/// JSON has no keys of several parts: a list of objects in their place.
mod listed {
    use std::collections::BTreeMap;

    use serde::{Serialize, Serializer};

    use super::{Figures, Key};

    #[derive(Serialize)]
    struct Row<'a> {
        #[serde(flatten)]
        key: &'a Key,
        #[serde(flatten)]
        figures: &'a Figures,
        success_percent: Option<u64>,
    }

    pub(super) fn serialize<S: Serializer>(
        figures: &BTreeMap<Key, Figures>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(figures.iter().map(|(key, figures)| Row {
            key,
            figures,
            success_percent: figures.success_percent(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use orch_model::{
        plan::spec::{AgentKind, AgentSpec, TaskSpec},
        usage::Usage,
    };

    use super::*;
    use crate::contract::session;

    fn ended(task: &str, model: Option<&str>, domain: &str, ms: u64, ok: bool) -> Session {
        let mut session = session("r", task, 1);
        session.model = model.map(str::to_owned);
        session.domain = DomainName::new(domain).unwrap();
        session.agent_time = Some(Span(Duration::from_millis(ms)));
        session.ended_at = session.started_at.map(|at| at + Duration::from_millis(ms));
        session.status = if ok { SessionStatus::Succeeded } else { SessionStatus::Failed };
        session.charged = !ok;
        session
    }

    #[test]
    fn the_narrowest_figures_that_are_enough_are_taken() {
        let mut sessions = vec![ended("a", Some("m1"), "api", 10, true)];
        sessions.extend((0..3).map(|_| ended("b", Some("m1"), "database", 30, true)));
        sessions.push(ended("c", Some("m2"), "api", 1000, false));
        let statistics = Statistics::of(&sessions);
        let expect = |model, domain: &str| {
            let found = statistics.expect("codex", model, DomainName::new(domain).ok().as_ref());
            found.map(|figures| (figures.sessions, figures.agent_ms.median))
        };
        assert_eq!(expect(Some("m1"), "database"), Some((3, 30)));
        assert_eq!(expect(Some("m1"), "api"), Some((4, 30)), "one session is not enough");
        assert_eq!(expect(Some("m3"), "api"), Some((5, 30)), "two of this domain are not either");
        assert_eq!(expect(None, "frontend"), Some((5, 30)));
        assert_eq!(statistics.expect("claude", None, None), None);
        let all = statistics.expect("codex", None, None).unwrap();
        assert_eq!(all.success_percent(), Some(80));
    }

    #[test]
    fn what_says_nothing_of_the_agent_is_no_failure() {
        let mut limited = ended("a", None, "api", 10, false);
        limited.charged = false;
        let mut open = ended("a", None, "api", 10, true);
        open.status = SessionStatus::Open;
        let statistics = Statistics::of(&[limited, open]);
        let figures = statistics.expect("codex", None, None).unwrap();
        assert_eq!((figures.sessions, figures.success_percent()), (1, None));
        assert_eq!(statistics.tasks[&TaskId::new("a").unwrap()].duration, None);
    }

    #[test]
    fn a_cost_that_is_not_known_is_not_nothing() {
        let usage = |cost_micro_usd, unpriced_tokens| {
            let usage =
                Usage { input_tokens: 5, cost_micro_usd, unpriced_tokens, ..Usage::default() };
            Session { usage: Some(usage), ..ended("a", None, "api", 10, true) }
        };
        let statistics = Statistics::of(&[usage(300, 0), usage(0, 5), usage(100, 0)]);
        let figures = statistics.expect("codex", None, None).unwrap();
        assert_eq!((figures.tokens.count, figures.cost_micro_usd.count), (3, 2));
        assert_eq!((figures.cost_micro_usd.median, figures.cost_micro_usd.largest), (300, 300));
    }

    #[test]
    fn ranks_are_those_of_the_textbook() {
        let spread = Spread::of((1..=10).collect());
        assert_eq!((spread.count, spread.mean, spread.median), (10, 5, 6));
        assert_eq!((spread.p90, spread.largest), (9, 10));
        assert_eq!(Spread::of(vec![u64::MAX, u64::MAX]).mean, u64::MAX / 2, "the sum is cut off");
        assert_eq!(Spread::of(vec![7]).p90, 7);
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }

    #[test]
    fn a_plan_is_told_what_its_tasks_took() {
        let mut sessions: Vec<Session> = [50, 10, 20, 40, 30, 9_000]
            .map(|ms| ended("a", Some("m1"), "general", ms, true))
            .into();
        sessions.push(ended("failed", None, "general", 1, false));
        let statistics = Statistics::of(&sessions);
        let id = |id: &str| TaskId::new(id).unwrap();
        let mut plan = PlanSpec::new();
        let agent = "fast".parse().unwrap();
        plan.agents.insert("fast".parse().unwrap(), AgentSpec::new(AgentKind::Codex));
        plan.tasks =
            ["a", "new", "estimated", "command"].map(|name| TaskSpec::new(id(name))).into();
        plan.tasks[1].agent = Some(agent);
        plan.tasks[2].agent = Some("fast".parse().unwrap());
        plan.tasks[2].estimate = Some(Span::from_secs(1));
        let durations = statistics.durations(&plan);
        assert_eq!(durations[&id("a")], Duration::from_millis(30), "the newest five count");
        assert_eq!(durations[&id("new")], Duration::from_millis(40));
        assert_eq!(durations.len(), 2, "{durations:?}");
    }

    #[test]
    fn models_are_summed_over_agents_and_not_twice_over_domains() {
        let key = |agent: &str, domain: Option<&str>| Key {
            agent: agent.into(),
            model: Some("m".into()),
            domain: domain.map(|name| name.parse().unwrap()),
        };
        let figures = |succeeded, failed, mean, count| Figures {
            succeeded,
            failed,
            cost_micro_usd: Spread { mean, count, ..Spread::default() },
            ..Figures::default()
        };
        let statistics = Statistics {
            figures: BTreeMap::from([
                (key("codex", None), figures(3, 1, 100, 4)),
                (key("codex", Some("api")), figures(3, 1, 100, 4)),
                (key("claude", None), figures(1, 0, 600, 1)),
            ]),
            ..Statistics::default()
        };
        let record = statistics.model_records().of("m", "whatever");
        assert_eq!((record.succeeded, record.failed, record.mean_micro_usd), (4, 1, Some(200)));
        assert_eq!(statistics.model_records().of("other", "x"), ModelRecord::default());
    }
}
