//! Budgets: what is spent, what is set aside for what is at work, and what happens at a limit.
//!
//! **Before a start.** What is spent, what agents at work are expected to take yet, and what one more
//! attempt is expected to take must fit into every budget that the task is under. An attempt is expected to
//! take as much as the largest one of the same agent and model did in this run; before there is one, as in
//! earlier runs; and never more than the task's own budget leaves. Where nothing is known, one attempt of
//! that agent and model runs first and the others wait for what it tells.
//!
//! **At the limit.** What agents use is counted while they work. When it brings a budget to its limit, the agents
//! under it are ended, so that it is exceeded by no more than the answers that were under way. Where no task
//! that could start has room, and nothing at work could leave any, the budget is reached as well.
//!
//! **Unknown is not zero.** An agent that uses tokens of unknown price, or ends well without telling what it
//! used, makes a budget that can't be kept: it is treated as reached, and said, but what is at work goes on. Who resumes the run
//! after that has the agent's work not counted.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use orch_model::{
    AgentName, BudgetChange, BudgetScope, BudgetStop, EventKind, Money, RunStatus, TaskChange,
    TaskState, Timestamp,
    budget::{Amount, Budget, Totals},
    outcome::StopReason,
    plan::{Task, TaskIndex, ValidPlan, spec::OnBudget},
    ports::BudgetLeft,
    progress::WaitReason,
    spending::{Estimate, Spending, Worker},
    state::SkipReason,
};

use super::Scheduler;
use crate::internal::Command;

/// Which budgets and which workers concern which task.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    /// Those that there are.
    scopes: Vec<(BudgetScope, Budget)>,
    /// By task: the budgets that it is under whoever does it.
    of_task: Vec<Vec<usize>>,
    /// Those of agents.
    of_agent: BTreeMap<AgentName, usize>,
    /// By budget: its task, where it is that of a task.
    tasks: Vec<Option<TaskIndex>>,
    /// Who may work on some task; the first is no agent but a command.
    workers: Vec<Worker>,
    known: BTreeMap<Worker, usize>,
    /// What attempts took in earlier runs, by worker.
    recorded: Vec<Estimate>,
}

/// What a budget has and has not any more.
#[derive(Debug)]
struct Account {
    budget: Budget,
    /// What was used, what agents at work used so far included.
    spent: Totals,
    /// What they are expected to take yet.
    promised: Totals,
}

impl Account {
    fn taken(&self, limit: Amount) -> Amount {
        let promised = self.promised.like(limit).number();
        limit.with(self.spent.like(limit).number().saturating_add(promised))
    }
}

/// All accounts at a moment.
#[derive(Debug)]
pub(super) struct Books {
    accounts: Vec<Account>,
    /// By worker.
    expected: Vec<Estimate>,
    /// Workers an attempt of which is at work and will show what one takes.
    probing: BTreeSet<usize>,
}

/// Why there is no room for a task.
enum Lack {
    Room {
        account: usize,
        limit: Amount,
        taken: Amount,
        expected: Option<Amount>,
    },
    Estimate,
    /// A budget can't be kept; the stop that says so.
    Unknown(BudgetStop),
}

impl Scheduler {
    /// With what attempts took in earlier runs.
    #[must_use]
    pub fn with_estimates(mut self, recorded: impl Fn(&Worker) -> Option<Estimate>) -> Self {
        let estimate = |worker: &Worker| recorded(worker).unwrap_or_default();
        self.budgets.recorded = self.budgets.workers.iter().map(estimate).collect();
        self
    }

    /// Whether the budget of an agent leaves it nothing: its tasks wait or go to another one.
    #[must_use]
    pub fn budget_is_gone(&self, agent: &AgentName) -> bool {
        let is_its =
            |scope: &BudgetScope| matches!(scope, BudgetScope::Agent(name) if name == agent);
        self.state.budget_stops.iter().any(|stop| is_its(&stop.scope))
    }

    /// Finds out which budgets concern which task; again when they were changed.
    pub(super) fn assign_budgets(&mut self) {
        if self.state.budgets.is_empty() {
            return;
        }
        let budgets = &mut self.budgets;
        budgets.scopes = self.state.budgets.iter().map(|(s, b)| (s.clone(), *b)).collect();
        let spec = &self.state.header.plan;
        if budgets.workers.is_empty() {
            budgets.workers = workers(&self.plan);
            let known = budgets.workers.iter().cloned().zip(0..);
            budgets.known = known.collect();
            budgets.recorded = vec![Estimate::default(); budgets.workers.len()];
        }
        let at: BTreeMap<&BudgetScope, usize> =
            budgets.scopes.iter().enumerate().map(|(at, (scope, _))| (scope, at)).collect();
        let of_task = |task: TaskIndex| {
            let written = &spec.tasks[task.get()];
            [
                Some(BudgetScope::Run),
                written.epic.clone().map(BudgetScope::Epic),
                Some(BudgetScope::Task(written.id.clone())),
            ]
            .into_iter()
            .flatten()
            .filter_map(|scope| at.get(&scope).copied())
            .collect()
        };
        let of_task: Vec<Vec<usize>> = self.plan.indices().map(of_task).collect();
        let its_task = |scope: &BudgetScope| match scope {
            BudgetScope::Task(id) => self.plan.index_of(id),
            _ => None,
        };
        let tasks = budgets.scopes.iter().map(|(scope, _)| its_task(scope)).collect();
        let of_agent = at.iter().filter_map(|(scope, at)| match scope {
            BudgetScope::Agent(agent) => Some((agent.clone(), *at)),
            _ => None,
        });
        let of_agent = of_agent.collect();
        (budgets.of_task, budgets.of_agent, budgets.tasks) = (of_task, of_agent, tasks);
    }

    /// An agent with a model. Of a model that the plan does not name nothing is known but what it was chosen
    /// for.
    fn worker(&self, agent: &AgentName, model: Option<&str>) -> usize {
        let worker = |model: Option<&str>| Worker {
            agent: Some(agent.clone()),
            model: model.map(str::to_owned),
        };
        let known = &self.budgets.known;
        let found = known.get(&worker(model)).or_else(|| known.get(&worker(None)));
        found.copied().unwrap_or_default()
    }

    /// Who works on a task if it is given to the agent at this place of its list.
    fn worker_at(&self, task: TaskIndex, at: usize) -> usize {
        match (self.candidate(task, at), self.model(task, at).0) {
            (Some((agent, _)), model) => self.worker(agent, model.as_deref()),
            (None, _) => 0,
        }
    }

    /// Who works on a task, or did so last.
    fn worker_of(&self, task: TaskIndex) -> usize {
        match self.chosen(task) {
            Some(by) => self.worker(&by.agent, by.model.as_deref()),
            None => self.worker_at(task, 0),
        }
    }

    /// The budgets that a task is under if somebody does it.
    fn accounts(&self, task: TaskIndex, worker: usize) -> impl Iterator<Item = usize> + '_ {
        let agent = self.budgets.workers[worker].agent.as_ref();
        let of_agent = agent.and_then(|agent| self.budgets.of_agent.get(agent));
        self.budgets.of_task[task.get()].iter().chain(of_agent).copied()
    }

    /// What is left of the run's budget, for whoever chooses models.
    pub(super) fn budget_left(&self) -> Option<BudgetLeft> {
        let Money(limit) = self.state.budgets.get(&BudgetScope::Run)?.usd?;
        let mut spent = Totals::default();
        self.state.spending.iter().for_each(|entry| spent += entry.totals());
        let left = limit.saturating_sub(spent.usd.0);
        Some(BudgetLeft { limit_micro_usd: limit, left_micro_usd: left })
    }

    /// Somebody gives the run other budgets.
    pub(super) fn change_budgets(&mut self, changes: Vec<BudgetChange>, now: Timestamp) {
        if changes.is_empty() {
            return;
        }
        for change in changes {
            self.record(EventKind::BudgetChanged { change }, now);
        }
        self.assign_budgets();
    }

    /// The books at this moment; `None` where there is no budget. O(budgets + tasks at work), for as many
    /// epics, agents and models as people have.
    pub(super) fn books(&self) -> Option<Books> {
        let budgets = &self.budgets;
        if budgets.scopes.is_empty() {
            return None;
        }
        let account = |(scope, budget): &(BudgetScope, Budget)| {
            let spent = self.state.spent(scope);
            Account { budget: *budget, spent, promised: Totals::default() }
        };
        let mut books = Books {
            accounts: budgets.scopes.iter().map(account).collect(),
            expected: self.expectations(),
            probing: BTreeSet::new(),
        };
        for task in self.slots.keys().copied().filter(|task| self.is_yet_to_spend(*task)) {
            let (promise, is_probing) = self.promise(&books, task);
            let worker = self.worker_of(task);
            for at in self.accounts(task, worker) {
                books.accounts[at].promised += promise;
            }
            if is_probing {
                books.probing.insert(worker);
            }
        }
        Some(books)
    }

    /// What an attempt is expected to take, by worker.
    fn expectations(&self) -> Vec<Estimate> {
        let of = |(worker, recorded): (&Worker, &Estimate)| {
            if worker.agent.is_none() || self.state.uncounted.contains(worker) {
                return Estimate { usd: Some(Money::ZERO), tokens: Some(0) };
            }
            let own = self.state.spending.iter().filter(|entry| entry.worker == *worker);
            let most = own.fold(Estimate::default(), |most, entry| {
                most.max(Estimate { usd: entry.most_usd, tokens: entry.most_tokens })
            });
            most.or(*recorded)
        };
        self.budgets.workers.iter().zip(&self.budgets.recorded).map(of).collect()
    }

    /// What an attempt at a task by this worker is expected to take of what a limit is about; `None`: nobody
    /// knows.
    fn expected(
        &self,
        books: &Books,
        (task, worker): (TaskIndex, usize),
        limit: Amount,
    ) -> Option<Amount> {
        let estimate = books.expected[worker];
        let estimate = match limit {
            Amount::Usd(_) => estimate.usd.map(Amount::Usd),
            Amount::Tokens(_) => estimate.tokens.map(Amount::Tokens),
            Amount::Attempts(_) => return Some(Amount::Attempts(1)),
        };
        // It may not take more than its own budget leaves.
        let own = self.budgets.of_task[task.get()].iter().find_map(|at| {
            self.budgets.tasks[*at]?;
            let account = &books.accounts[*at];
            let own = account.budget.limits().find(|own| same_kind(*own, limit))?;
            Some(own.with(own.number().saturating_sub(account.spent.like(own).number())))
        });
        match (estimate, own) {
            (Some(estimate), Some(own)) => Some(estimate.min(own)),
            (estimate, own) => estimate.or(own),
        }
    }

    /// Whether an agent of a task that holds a slot is yet to be started, or is at work.
    fn is_yet_to_spend(&self, task: TaskIndex) -> bool {
        let run = self.state.task(task);
        match run.state {
            TaskState::Queued
            | TaskState::Leased { .. }
            | TaskState::Preparing { .. }
            | TaskState::Running { .. } => true,
            TaskState::Stopping { .. } => run.agent_since.is_some(),
            _ => false,
        }
    }

    /// What a task at work is expected to take yet, and whether nobody knows.
    fn promise(&self, books: &Books, task: TaskIndex) -> (Totals, bool) {
        let run = self.state.task(task);
        let used = Totals::of(&run.in_flight.as_deref().copied().unwrap_or_default(), 0);
        let worker = self.worker_of(task);
        let expected = |limit: Amount| self.expected(books, (task, worker), limit);
        let (usd, tokens) = (expected(Amount::Usd(Money::ZERO)), expected(Amount::Tokens(0)));
        let rest = |expected: Option<Amount>, used: u64| {
            expected.map_or(0, |expected| expected.number().saturating_sub(used))
        };
        let promise = Totals {
            usd: Money(rest(usd, used.usd.0)),
            tokens: rest(tokens, used.tokens),
            // Those that have begun are counted.
            attempts: u64::from(matches!(run.state, TaskState::Queued)),
        };
        let limits = |kind: Amount| {
            let mut own = self.accounts(task, worker);
            own.any(|at| books.accounts[at].budget.limits().any(|limit| same_kind(limit, kind)))
        };
        let is_probing = (usd.is_none() && limits(Amount::Usd(Money::ZERO)))
            || (tokens.is_none() && limits(Amount::Tokens(0)));
        (promise, is_probing)
    }

    /// Why a task has no room for an attempt by this worker; `None` where it has.
    fn lack(&self, books: &Books, task: TaskIndex, worker: usize) -> Option<Lack> {
        let is_command = self.budgets.workers[worker].agent.is_none();
        let mut estimate_lacks = false;
        let unknown = |at: usize| {
            let scope = &self.budgets.scopes[at].0;
            self.state
                .budget_stops
                .iter()
                .find(|stop| stop.scope == *scope && stop.unknown.is_some())
        };
        if let Some(stop) = self.accounts(task, worker).find_map(unknown).filter(|_| !is_command) {
            return Some(Lack::Unknown(stop.clone()));
        }
        for account in self.accounts(task, worker) {
            for limit in books.accounts[account].budget.limits() {
                let is_counted = matches!(limit, Amount::Attempts(_));
                if is_command && !is_counted {
                    continue;
                }
                let taken = books.accounts[account].taken(limit);
                let expected = self.expected(books, (task, worker), limit);
                let after = taken.number().saturating_add(expected.map_or(0, Amount::number));
                if taken >= limit || after > limit.number() {
                    return Some(Lack::Room { account, limit, taken, expected });
                }
                estimate_lacks |= expected.is_none() && books.probing.contains(&worker);
            }
        }
        estimate_lacks.then_some(Lack::Estimate)
    }

    /// Why a task waits for a budget's sake whoever does it; `None` where it need not.
    pub(super) fn no_room(&self, books: Option<&Books>, task: TaskIndex) -> Option<WaitReason> {
        let mut all = self.asked(task).map(|at| self.no_room_at(books, task, at));
        let first = all.next()??;
        all.all(|room| room.is_some()).then_some(first)
    }

    /// Why a task can't be given to the agent at this place of its list for a budget's sake.
    pub(super) fn no_room_at(
        &self,
        books: Option<&Books>,
        task: TaskIndex,
        at: usize,
    ) -> Option<WaitReason> {
        let books = books?;
        let worker = self.worker_at(task, at);
        Some(match self.lack(books, task, worker)? {
            Lack::Room { account, limit, taken, expected } => {
                let scope = self.budgets.scopes[account].0.clone();
                WaitReason::Budget { scope, limit, taken, expected }
            }
            Lack::Unknown(BudgetStop { scope, unknown, .. }) => {
                let worker = unknown.unwrap_or_default().to_string();
                WaitReason::UnknownCost { scope, worker }
            }
            Lack::Estimate => {
                let worker = &self.budgets.workers[worker];
                WaitReason::FirstCost { worker: worker.to_string() }
            }
        })
    }

    /// Whether a task is under a budget because of which nothing more is done for it.
    pub(super) fn is_cut_off(&self, task: TaskIndex) -> bool {
        self.settings().on_budget == OnBudget::Stop && self.stop_over(task).is_some()
    }

    /// The first stop at a budget that a task is under.
    fn stop_over(&self, task: TaskIndex) -> Option<&BudgetStop> {
        let stop_at = |at: usize| {
            let scope = &self.budgets.scopes[at].0;
            self.state.budget_stops.iter().find(|stop| stop.scope == *scope)
        };
        let mut own = self.budgets.of_task.get(task.get())?.iter();
        own.find_map(|at| stop_at(*at)).or_else(|| {
            // Somebody else may do it.
            let of_agent = |at: usize| {
                let (agent, _) = self.candidate(task, at)?;
                stop_at(*self.budgets.of_agent.get(agent)?)
            };
            let mut all = self.asked(task).map(of_agent);
            let first = all.next()??;
            all.all(|stop| stop.is_some()).then_some(first)
        })
    }

    fn may_work(&self) -> bool {
        matches!(self.state.status, RunStatus::Running | RunStatus::Paused | RunStatus::Frozen)
    }

    fn has_stopped(&self, scope: &BudgetScope) -> bool {
        self.state.budget_stops.iter().any(|stop| stop.scope == *scope)
    }

    /// Stops at budgets that are used up or can't be kept. Comes before anything is started.
    pub(super) fn keep_budgets(&mut self, now: Timestamp) {
        if !self.may_work() {
            return;
        }
        let Some(books) = self.books() else { return };
        self.find_unknown(&books, now);
        for at in 0..books.accounts.len() {
            let account = &books.accounts[at];
            let is_gone = |limit: &Amount| {
                !matches!(limit, Amount::Attempts(_)) && account.spent.like(*limit) >= *limit
            };
            let Some(limit) = account.budget.limits().find(is_gone) else { continue };
            let is_under = |task: &TaskIndex| {
                let worker = self.worker_of(*task);
                self.accounts(*task, worker).any(|of_task| of_task == at)
                    && self.budgets.workers[worker].agent.is_some()
                    && self.is_yet_to_spend(*task)
            };
            let at_work: Vec<_> = self.slots.keys().copied().filter(is_under).collect();
            if at_work.is_empty() {
                continue;
            }
            let scope = self.budgets.scopes[at].0.clone();
            if !self.has_stopped(&scope) {
                let (scope, spent) = (scope.clone(), account.spent.like(limit));
                self.reach(stop(scope, limit, spent, None), now);
            }
            for task in at_work {
                if let Entry::Vacant(told) = self.told.entry(task) {
                    let reason = StopReason::Budget { scope: scope.clone() };
                    told.insert(reason.clone());
                    self.out.commands.push(Command::Stop { task, reason });
                }
            }
        }
        self.skip_cut_off(now);
    }

    /// Finds workers whose work a budget can't count.
    fn find_unknown(&mut self, books: &Books, now: Timestamp) {
        let is_known = |entry: &&Spending| {
            let is_said = |stop: &BudgetStop| stop.unknown.as_ref() == Some(&entry.worker);
            self.state.uncounted.contains(&entry.worker)
                || self.state.budget_stops.iter().any(is_said)
        };
        let mut found: Vec<BudgetStop> = Vec::new();
        for entry in self.state.spending.iter().filter(|entry| !is_known(entry)) {
            if found.iter().any(|stop| stop.unknown.as_ref() == Some(&entry.worker)) {
                continue;
            }
            let unpriced = entry.usage.unpriced_tokens;
            let scopes = self.budgets.scopes.iter().zip(&books.accounts);
            let is_task = |scope: &BudgetScope| matches!(scope, BudgetScope::Task(_));
            let stopped = scopes
                .filter(|((scope, _), _)| is_task(scope) || covers(scope, entry))
                .find_map(|((scope, budget), account)| {
                    let limit = budget.limits().find(|limit| match limit {
                        Amount::Usd(_) => unpriced > 0 || entry.is_silent,
                        Amount::Tokens(_) => entry.is_silent,
                        Amount::Attempts(_) => false,
                    })?;
                    if is_task(scope) && !self.is_by(scope, &entry.worker) {
                        return None;
                    }
                    Some(stop(scope.clone(), limit, account.spent.like(limit), None))
                });
            found.extend(stopped.map(|stop| BudgetStop {
                unknown: Some(entry.worker.clone()),
                unpriced_tokens: unpriced,
                ..stop
            }));
        }
        for stop in found {
            self.reach(stop, now);
        }
    }

    /// Whether the task of a budget is the work of a worker and has begun.
    fn is_by(&self, scope: &BudgetScope, worker: &Worker) -> bool {
        let BudgetScope::Task(id) = scope else { return false };
        self.plan.index_of(id).is_some_and(|task| {
            self.budgets.workers[self.worker_of(task)] == *worker
                && self.state.task(task).attempts > 0
        })
    }

    /// Stops at budgets that have no room for anything that could start. Comes after the starts.
    pub(super) fn find_dead_ends(&mut self, now: Timestamp) {
        if self.state.status != RunStatus::Running || self.queue.is_empty() {
            return;
        }
        let Some(books) = self.books() else { return };
        let mut held: BTreeMap<usize, BudgetStop> = BTreeMap::new();
        let mut fits = BTreeSet::new();
        for rank in &self.queue {
            let task = self.ranks.task(*rank);
            if self.is_behind_wave(task, now) {
                continue;
            }
            for at in self.asked(task) {
                let worker = self.worker_at(task, at);
                match self.lack(&books, task, worker) {
                    // Nothing at work could leave any room.
                    Some(Lack::Room { account, limit, taken, expected })
                        if books.accounts[account].promised.like(limit).number() == 0 =>
                    {
                        let scope = self.budgets.scopes[account].0.clone();
                        held.entry(account).or_insert_with(|| stop(scope, limit, taken, expected));
                    }
                    Some(Lack::Unknown(_)) => {}
                    _ => fits.extend(self.accounts(task, worker)),
                }
            }
        }
        for (account, stop) in held {
            if !fits.contains(&account) && !self.has_stopped(&stop.scope) {
                self.reach(stop, now);
            }
        }
        self.skip_cut_off(now);
    }

    fn reach(&mut self, stop: BudgetStop, now: Timestamp) {
        let is_whole = stop.scope == BudgetScope::Run;
        self.record(EventKind::BudgetReached { stop }, now);
        match self.settings().on_budget {
            OnBudget::Stop => {
                for task in self.waiting() {
                    self.skip_if_cut_off(task, now);
                }
            }
            _ if is_whole && self.state.status == RunStatus::Running => {
                self.record(EventKind::RunPaused { frozen: false }, now);
            }
            _ => {}
        }
    }

    /// Skips what has come to wait again since.
    fn skip_cut_off(&mut self, now: Timestamp) {
        if self.settings().on_budget != OnBudget::Stop || self.state.budget_stops.is_empty() {
            return;
        }
        let queued = self.queue.iter().map(|rank| self.ranks.task(*rank));
        let waiting: Vec<_> = queued.chain(self.pauses.iter().map(|(_, task)| *task)).collect();
        for task in waiting {
            self.skip_if_cut_off(task, now);
        }
    }

    fn skip_if_cut_off(&mut self, task: TaskIndex, now: Timestamp) {
        let state = &self.state.task(task).state;
        if state.is_terminal() || state.is_active() {
            return;
        }
        if let Some(scope) = self.stop_over(task).map(|stop| stop.scope.clone()) {
            self.change(task, TaskChange::Skipped { because: SkipReason::Budget { scope } }, now);
        }
    }

    /// Whether all that is left to do waits for more of a budget.
    pub(super) fn is_out_of_budget(&self, now: Timestamp) -> bool {
        if self.state.budget_stops.is_empty() {
            return false;
        }
        if self.is_paused() {
            return self.has_stopped(&BudgetScope::Run);
        }
        let books = self.books();
        let waits = |task: TaskIndex| {
            (self.is_behind_wave(task, now) && now >= self.wave_opens)
                || self.no_room(books.as_ref(), task).is_some()
        };
        self.pauses.is_empty()
            && self.foreign.is_empty()
            && !self.queue.is_empty()
            && self.queue.iter().all(|rank| waits(self.ranks.task(*rank)))
    }
}

/// Whoever may work on some task of a plan: its agents with each model that the plan names or offers.
fn workers(plan: &ValidPlan) -> Vec<Worker> {
    let mut workers = BTreeSet::new();
    for candidate in plan.tasks().iter().flat_map(Task::candidates) {
        let agent = &candidate.agent;
        let offers = plan.agents().get(agent).and_then(|agent| agent.models.as_ref());
        let offers = offers.map(|offers| offers.by_tier().map(|(_, model)| model.clone()));
        let models = offers.into_iter().flatten().chain([None, candidate.model.clone()]);
        workers.extend(models.map(|model| Worker { agent: Some(agent.clone()), model }));
    }
    std::iter::once(Worker::default()).chain(workers).collect()
}

fn stop(scope: BudgetScope, limit: Amount, spent: Amount, expected: Option<Amount>) -> BudgetStop {
    BudgetStop { scope, limit, spent, expected, unknown: None, unpriced_tokens: 0 }
}

fn same_kind(one: Amount, other: Amount) -> bool {
    std::mem::discriminant(&one) == std::mem::discriminant(&other)
}

/// Whether a budget, which is not that of a task, covers what somebody used.
fn covers(scope: &BudgetScope, entry: &Spending) -> bool {
    match scope {
        BudgetScope::Run => true,
        BudgetScope::Epic(epic) => entry.epic.as_ref() == Some(epic),
        BudgetScope::Agent(agent) => entry.worker.agent.as_ref() == Some(agent),
        _ => false,
    }
}
