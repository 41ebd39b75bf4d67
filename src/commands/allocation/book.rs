//! A folded allocation book: everything on which a decision about one resource depends, and the effect of each event on
//! it.
//!
//! There is one book per resource and calendar month. A sealed book names its successor; the successor's initial state
//! is [`Book::carried`], a function of the sealed book alone, so that every process writes the same opening event.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::page::PolicyPage;
use super::results::ran_reset;
use crate::domain::evaluate::{Flags, MonthUsage, UsageByMonth, UsageTerm};
use crate::domain::ids::{DispatchId, EventId, PolicyId, ResourceId};
use crate::domain::limit_history::LimitHistory;
use crate::domain::period::Month;
use crate::domain::small_map::SmallMap;
use crate::domain::tres::Amounts;
use crate::events::allocation::{
    AllocationEvent, BooksOpened, Carried, CarriedPolicy, Commanded, CounterReset, DispatchState, HoldKind, HoldPlaced,
    LateTotal, LateUsageReported, MeasuredAt, MissingTerm, MissingUsage, MissingUsageFilled, OpenDispatch,
    PolicyEvaluated, PolicyWithdrawn, Recorded, ResourceFacts, ResourceState, SettingsCommanded, UsageReported,
    WithdrawReason,
};
use crate::events::chain::Chains;
use crate::events::dispatch::StompMessageSent;
use crate::events::envelope::{Link, StreamName};
use crate::events::site_answer::SiteAnswers;

/// Unanswered dispatches that a book remembers; the oldest are forgotten first.
const OPEN_DISPATCHES_MAX: usize = 64;

/// Late totals that a book remembers, so that one that comes again is not recorded again.
const LATE_TOTALS_MAX: usize = 32;

/// The folded book.
#[derive(Debug, Clone, PartialEq)]
pub struct Book {
    /// The calendar month of the stream.
    pub month: Month,
    /// The month of the book that this one continues.
    pub continues: Option<Month>,
    /// Events folded so far.
    pub version: u64,
    /// Month of the successor, once sealed.
    pub sealed: Option<Month>,
    /// What the resource is.
    pub facts: ResourceFacts,
    /// What its limits were before.
    pub limit_history: LimitHistory,
    /// Usage by month and component.
    pub usage: UsageByMonth,
    /// When the totals of a month and component were measured, where that is known.
    pub measured: MeasuredAt,
    /// Late totals, the newest ones, oldest first.
    pub late: Vec<LateTotal>,
    /// What becomes of months without a report, by component, where anything does.
    pub missing_usage: SmallMap<String, MissingTerm>,
    /// The month in which the resource ended, if it has.
    pub ended: Option<Month>,
    /// What each policy decided.
    pub policies: SmallMap<PolicyId, PolicyPage>,
    /// Manual holds in force.
    pub holds: Vec<HoldPlaced>,
    /// Restrictions in force.
    pub flags: Flags,
    /// The last settings sent to the agent.
    pub commanded: Option<Arc<Commanded>>,
    /// The last reset of raw usage: newly decided, or carried on while it waited.
    pub reset: Option<Arc<CounterReset>>,
    /// The last one that a queue took: from there on SLURM is taken to count.
    pub handed_reset: Option<Arc<CounterReset>>,
    /// Dispatches that may still be answered, oldest first.
    pub dispatches: Vec<OpenDispatch>,
    /// What the site said last of class of service and limits.
    pub answers: SiteAnswers,
    /// Events that cause later ones.
    pub chains: Chains,
    /// The event that sealed it, once it is.
    pub sealed_by: Option<Link>,
}

/// A stream that does not read as a book.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stream {stream} does not read as an allocation book: {problem} at version {version}")]
pub struct BookError {
    /// The stream.
    pub stream: String,
    /// What is wrong.
    pub problem: &'static str,
    /// Where.
    pub version: u64,
}

/// The stream of a resource's book for a month.
///
/// # Panics
/// Never: hex digits and a month make a valid stream name.
pub fn stream_of(resource: ResourceId, month: Month) -> StreamName {
    StreamName::new(format!("allocation-{resource}-{month}")).expect("hex digits and a month make a stream name")
}

/// Usage as a start of SLURM's counter records it: by month in the running calendar year, and all of it before.
pub(super) fn counted_so_far(usage: &UsageByMonth, running: Month) -> (SmallMap<Month, Amounts>, Amounts) {
    let (mut by_month, mut before) = (SmallMap::new(), Amounts::new());
    for (of, components) in usage {
        if of.year() == running.year() {
            by_month.insert(*of, components.iter().map(|(c, term)| (c.clone(), term.amount)).collect());
        } else {
            for (component, term) in components {
                let sum = before.entry(component.clone()).or_insert(Decimal::ZERO);
                *sum = sum.saturating_add(term.amount);
            }
        }
    }
    (by_month, before)
}

impl Book {
    /// The book that its first event begins: a registration or an opening.
    pub fn begin(month: Month, event: &AllocationEvent) -> Result<Self, BookError> {
        let mut book = match event {
            AllocationEvent::ResourceRegistered(registered) => Self::empty(month, registered.facts.clone()),
            AllocationEvent::BooksOpened(opened) => Self::continuing(month, opened),
            _ => {
                return Err(BookError {
                    stream: month.to_string(),
                    problem: "the first event is neither a registration nor an opening",
                    version: 1,
                });
            }
        };
        book.version = 1;
        Ok(book)
    }

    fn empty(month: Month, facts: ResourceFacts) -> Self {
        Self {
            month,
            continues: None,
            version: 0,
            sealed: None,
            limit_history: LimitHistory::beginning(month),
            usage: UsageByMonth::new(),
            measured: MeasuredAt::new(),
            late: Vec::new(),
            missing_usage: SmallMap::new(),
            ended: (facts.state == ResourceState::Terminated).then_some(month),
            facts,
            policies: SmallMap::new(),
            holds: Vec::new(),
            flags: Flags::default(),
            commanded: None,
            reset: None,
            handed_reset: None,
            dispatches: Vec::new(),
            answers: SiteAnswers::default(),
            chains: Chains::default(),
            sealed_by: None,
        }
    }

    fn continuing(month: Month, opened: &BooksOpened) -> Self {
        let carried = opened.carried.clone();
        let reset = carried.reset.map(Arc::new);
        let page = |p: CarriedPolicy| PolicyPage {
            version: p.version,
            period: p.period,
            basis: None,
            usage: None,
            base: p.base,
            notices: p.notices,
            held: p.held,
            qos: p.qos,
            withdrawn: p.withdrawn,
        };
        Self {
            continues: Some(opened.previous),
            limit_history: carried.limit_history.unwrap_or_else(|| LimitHistory::unknown_before(opened.previous)),
            usage: carried.usage,
            measured: carried.measured,
            late: carried.late,
            missing_usage: carried.missing_usage,
            // Books from before the end was handed on: it was then, or earlier.
            ended: carried
                .ended
                .or_else(|| (carried.facts.state == ResourceState::Terminated).then_some(opened.previous)),
            policies: carried.policies.into_iter().map(|(id, p)| (id, page(p))).collect(),
            holds: carried.holds,
            flags: carried.flags,
            commanded: carried.commanded.map(Arc::new),
            // A book from before resets were told from hand-overs has none of its own: what was decided counts as done.
            handed_reset: carried.handed_reset.map(Arc::new).or_else(|| reset.clone()),
            reset,
            dispatches: carried.dispatches,
            answers: carried.answers,
            chains: carried.chains,
            ..Self::empty(month, carried.facts)
        }
    }

    /// What this book hands to its successor.
    pub fn carried(&self) -> Carried {
        let page = |p: &PolicyPage| CarriedPolicy {
            version: p.version,
            period: p.period,
            base: p.base.clone(),
            notices: p.notices.clone(),
            held: p.held,
            qos: p.qos.clone(),
            withdrawn: p.withdrawn,
        };
        Carried {
            facts: self.facts.clone(),
            limit_history: Some(self.limit_history.carried_on(self.month)),
            usage: self.usage.clone(),
            measured: self.measured.clone(),
            late: self.late.clone(),
            missing_usage: self.missing_usage.clone(),
            ended: self.ended,
            policies: self.policies.iter().map(|(id, p)| (*id, page(p))).collect(),
            holds: self.holds.clone(),
            flags: self.flags,
            commanded: self.commanded.as_deref().cloned(),
            reset: self.reset.as_deref().cloned(),
            handed_reset: self.handed_reset.as_deref().filter(|handed| Some(*handed) != self.reset.as_deref()).cloned(),
            dispatches: self.dispatches.clone(),
            answers: self.answers.clone(),
            chains: self.chains.carried(&self.dispatches),
        }
    }

    /// An event that was set aside changes nothing and keeps its place.
    pub fn pass_over(&mut self) {
        self.version += 1;
    }

    /// Adds one event; `link` names it as the cause of others.
    pub fn evolve(&mut self, link: Link, event: &AllocationEvent) {
        self.version += 1;
        self.chains.take(link, event);
        let id = EventId::from(link.event);
        match event {
            AllocationEvent::BooksClosed(closed) => {
                (self.sealed, self.sealed_by) = (Some(closed.successor), Some(link));
            }
            AllocationEvent::LimitsChanged(changed) => {
                self.limit_history.changed(self.month, &self.facts.limits);
                self.facts.limits.clone_from(&changed.limits);
            }
            AllocationEvent::ResourceDetailsChanged(changed) => {
                let before = self.facts.account().to_owned();
                self.facts.name.clone_from(&changed.name);
                self.facts.backend_id.clone_from(&changed.backend_id);
                if self.facts.account() != before {
                    self.another_account();
                }
            }
            AllocationEvent::ResourceStateChanged(changed) => {
                self.facts.state = changed.to;
                // A book is of the month in which its events happen.
                self.ended = (changed.to == ResourceState::Terminated).then_some(self.month);
                if !changed.to.is_live() {
                    // No more messages are sent; if it comes back, the account is taken over again.
                    self.commanded = None;
                }
            }
            AllocationEvent::UsageReported(reported) => self.reported(id, reported),
            AllocationEvent::LateUsageReported(late) => self.came_late(late),
            AllocationEvent::MissingUsageFilled(filled) => self.filled(id, filled),
            AllocationEvent::PolicyEvaluated(evaluated) => self.evaluated(evaluated),
            AllocationEvent::PolicyWithdrawn(withdrawn) => self.withdrawn(withdrawn),
            AllocationEvent::HoldPlaced(hold) => self.holds.push(hold.clone()),
            AllocationEvent::HoldReleased(released) => self.holds.retain(|h| h.hold != released.hold),
            AllocationEvent::RestrictionChanged(changed) => self.flags = changed.to,
            AllocationEvent::SettingsCommanded(commanded) => self.commanded(commanded),
            AllocationEvent::CommandResultReported(result) => {
                if result.report.success {
                    // What was read back before is out of date: the same limits, read back now, are news.
                    self.answers.limits = None;
                    self.confirmed(result.dispatch, ran_reset(&result.report));
                } else if let Some(open) = self.dispatch_after(event)
                    && !open.resent
                    && !ran_reset(&result.report)
                {
                    // It came no further than that: the reset is as good as never sent.
                    open.reset_since = None;
                }
            }
            AllocationEvent::StompMessageSent(sent) => self.handed_over(sent),
            AllocationEvent::DispatchResendRequested(_) => {
                self.dispatch_after(event);
            }
            AllocationEvent::QosConfirmed(confirmed) => {
                self.answers.qos = Some(confirmed.clone());
                self.answers.asked = false;
            }
            AllocationEvent::ResourceSynced(synced) => self.answers.synced_at = Some(synced.at),
            AllocationEvent::LimitsEchoed(echoed) => self.answers.limits = Some(echoed.clone()),
            // The first two begin a book; elsewhere in a stream they say nothing new.
            AllocationEvent::BooksOpened(_)
            | AllocationEvent::ResourceRegistered(_)
            | AllocationEvent::UserUsageReported(_)
            | AllocationEvent::EvaluationFailed(_)
            | AllocationEvent::CommandResultUnmatched(_)
            // What was noticed is marked by the evaluation; how the notice travelled bears on no decision.
            | AllocationEvent::NoticeSent(_)
            // Who waits for an answer, and how long, is the outbox's business: a late answer is still matched.
            | AllocationEvent::StompMessageFailed(_)
            | AllocationEvent::DispatchUnanswered(_)
            | AllocationEvent::RestrictionResendRequested(_)
            // An account that the resource has no more.
            | AllocationEvent::AccountFreed(_)
            | AllocationEvent::NoticeFailed(_)
            | AllocationEvent::NoticeResent(_) => {}
        }
    }

    fn reported(&mut self, id: EventId, reported: &UsageReported) {
        let month = self.usage.entry(reported.month).or_default();
        for (component, reported) in &reported.amounts {
            month.insert(component.clone(), UsageTerm { amount: reported.amount, report: id });
        }
        for component in reported.amounts.keys() {
            let policy = reported.missing_usage.get(component).copied().unwrap_or_default();
            self.told_of_missing(reported.month, component, policy);
        }
        let Some(at) = reported.measured_at else { return };
        for (component, reported_amount) in &reported.amounts {
            self.measured_before_reset(at, reported.month, component, |_| reported_amount.amount);
        }
        let measured = self.measured.entry(reported.month).or_default();
        for component in reported.amounts.keys() {
            // The clocks of two servers may differ: what was taken as the newest stays so.
            let newest = measured.get(component).map_or(at, |known| at.max(*known));
            measured.insert(component.clone(), newest);
        }
    }

    fn filled(&mut self, id: EventId, filled: &MissingUsageFilled) {
        let month = self.usage.entry(filled.month).or_default();
        for (component, total) in &filled.amounts {
            month.insert(component.clone(), UsageTerm { amount: total.amount, report: id });
        }
        for (component, total) in &filled.amounts {
            self.told_of_missing(filled.month, component, total.policy);
        }
    }

    /// The newest month of a component says what becomes of those after it.
    fn told_of_missing(&mut self, month: Month, component: &str, policy: MissingUsage) {
        if policy == MissingUsage::None && !self.missing_usage.contains_key(component) {
            return;
        }
        let is_newest = self.usage.iter().all(|(m, usage)| *m <= month || !usage.contains_key(component));
        match policy {
            _ if !is_newest => {}
            MissingUsage::None => {
                self.missing_usage.remove(component);
            }
            _ => {
                self.missing_usage.insert(component.to_owned(), MissingTerm { month, policy });
            }
        }
    }

    /// Usage measured before SLURM's counter began is not in the counter, however late it is reported.
    fn measured_before_reset(
        &mut self,
        at: DateTime<Utc>,
        month: Month,
        component: &str,
        total: impl FnOnce(Decimal) -> Decimal,
    ) {
        let Some(handed) = self.handed_reset.as_mut().filter(|handed| at < handed.at) else { return };
        let counted = Arc::make_mut(handed).usage.entry(month).or_default().entry(component.to_owned());
        let counted = counted.or_insert(Decimal::ZERO);
        *counted = total(*counted);
    }

    fn came_late(&mut self, late: &LateUsageReported) {
        for (component, total) in &late.amounts {
            self.measured_before_reset(late.measured_at, late.month, component, |known| known.max(total.amount));
        }
        self.late.extend(late.amounts.iter().map(|(component, total)| LateTotal {
            month: late.month,
            component: component.clone(),
            amount: total.amount,
            measured_at: late.measured_at,
        }));
        let surplus = self.late.len().saturating_sub(LATE_TOTALS_MAX);
        self.late.drain(..surplus);
    }

    fn evaluated(&mut self, evaluated: &PolicyEvaluated) {
        let version = self.version;
        let page = self.policies.entry(evaluated.policy).or_insert_with(|| PolicyPage::new(evaluated.period));
        page.withdrawn = false;
        if let Recorded::Full(basis) = &evaluated.basis {
            page.base = basis.basis.base.iter().map(|(c, t)| (c.clone(), t.amount)).collect();
            page.basis = Some((Arc::clone(basis), version));
        }
        if let Recorded::Full(usage) = &evaluated.usage {
            page.usage = Some((usage.clone(), version));
        }
        page.version = page.version.max(evaluated.policy_version);
        page.period = evaluated.period;
        page.notices = evaluated.notices.clone();
        for threshold in &evaluated.outcome.notified {
            page.notices.mark(*threshold);
        }
        page.held = evaluated.outcome.holds;
        page.qos.clone_from(&evaluated.outcome.qos);
    }

    fn withdrawn(&mut self, withdrawn: &PolicyWithdrawn) {
        if withdrawn.reason == WithdrawReason::Deleted {
            self.policies.remove(&withdrawn.policy);
        } else if let Some(page) = self.policies.get_mut(&withdrawn.policy) {
            (page.basis, page.usage, page.qos) = (None, None, None);
            page.held = Flags::default();
            page.withdrawn = true;
        }
    }

    /// Another SLURM account has none of the former one's settings, and its counter has a different start.
    fn another_account(&mut self) {
        (self.commanded, self.reset, self.handed_reset) = (None, None, None);
        for open in &mut self.dispatches {
            (open.reset_of, open.counter) = (None, None);
        }
    }

    /// A queue accepted the settings of a dispatch, with or without its reset, or restrictions.
    fn handed_over(&mut self, sent: &StompMessageSent) {
        self.answers.asked |= sent.flags.is_some();
        let newest = self.commanded.as_ref().map(|commanded| commanded.dispatch);
        let Some(open) = self.dispatches.iter_mut().find(|d| Some(d.dispatch) == sent.dispatch) else { return };
        let failed_already = std::mem::take(&mut open.waits) && open.state == DispatchState::Failed;
        open.resent |= sent.resend > 0;
        if failed_already && open.reset_since.is_none() {
            // The agent was quicker than the record of the hand-over: it has said that it never came to the reset.
            return;
        }
        if !sent.reset {
            open.reset_dropped |= open.reset;
            return;
        }
        open.reset_since.get_or_insert(sent.at);
        if newest == sent.dispatch {
            let Some(reset) = self.reset.as_deref() else { return };
            // What is counted now, also where that changed nothing in the message.
            let (usage, before) = counted_so_far(&self.usage, self.month);
            let periods = reset.periods.clone();
            self.reset = Some(Arc::new(CounterReset { at: sent.at, periods, usage, before }));
            self.handed_reset.clone_from(&self.reset);
        } else if let Some(counter) = open.counter.take() {
            self.handed_reset = Some(Arc::new(CounterReset { at: sent.at, ..counter }));
        }
    }

    /// A dispatch did what it was to do. If it reset raw usage, nobody owes that reset any more: neither what inherited it and
    /// still waits, nor any dispatch before it. What was sent without its reset in the end has reset raw usage only if the
    /// commands say so.
    fn confirmed(&mut self, dispatch: DispatchId, ran_reset: bool) {
        let Some(place) = self.dispatches.iter().position(|d| d.dispatch == dispatch) else { return };
        let answered = self.dispatches.remove(place);
        let Some(done) = answered.reset_of.filter(|_| !answered.reset_dropped || ran_reset) else { return };
        if answered.waits && answered.reset {
            // The agent was quicker than the record of the hand-over, unless a newer one has been handed over since.
            let newest = self.commanded.as_ref().is_some_and(|commanded| commanded.dispatch == dispatch);
            if newest {
                self.handed_reset.clone_from(&self.reset);
            } else if self.newest_dispatch().is_some_and(|newest| newest.waits) {
                self.handed_reset = answered.counter.map(Arc::new);
            }
        }
        for (index, other) in self.dispatches.iter_mut().enumerate() {
            if index < place || (other.waits && other.reset_of == Some(done)) {
                other.reset_of = None;
            }
        }
    }

    fn commanded(&mut self, commanded: &SettingsCommanded) {
        let (reset_of, reset_since) = match &commanded.inherits_reset {
            Some(from) => self
                .dispatches
                .iter()
                .find(|d| d.dispatch == *from)
                .map_or((None, None), |from| (from.reset_of, from.reset_since)),
            None => (commanded.settings.reset_raw_usage.then_some(commanded.dispatch), None),
        };
        self.superseded();
        let inputs = commanded.inputs.as_deref();
        self.commanded = Some(Arc::new(Commanded {
            dispatch: commanded.dispatch,
            policy: commanded.policy,
            settings: commanded.settings.clone(),
            qos: commanded.qos,
            qos_name: commanded.qos_name.clone(),
            told: inputs.and_then(|inputs| inputs.told.clone()),
            takes_over: inputs.is_some_and(|inputs| inputs.takes_over),
        }));
        if let Some(reset) = commanded.reset.as_ref().or(commanded.rebased.as_ref()) {
            self.reset = Some(Arc::new(reset.clone()));
        }
        self.dispatches.push(OpenDispatch {
            dispatch: commanded.dispatch,
            policy: commanded.policy,
            reset: commanded.settings.reset_raw_usage,
            reset_of,
            reset_since,
            reset_dropped: false,
            waits: true,
            resent: false,
            counter: None,
            state: DispatchState::Open,
            at: commanded.at,
        });
    }

    /// A new dispatch. Messages that no queue has accepted will not be answered; only the last one may have been
    /// accepted a moment ago, without a record yet.
    fn superseded(&mut self) {
        let newest = self.commanded.as_ref().map(|commanded| commanded.dispatch);
        self.dispatches.retain(|d| !d.waits || Some(d.dispatch) == newest);
        if let Some(last) = self.dispatches.last_mut().filter(|d| d.waits && d.reset) {
            last.counter = self.reset.as_deref().cloned();
        }
        if self.dispatches.len() >= OPEN_DISPATCHES_MAX {
            self.dispatches.remove(0);
        }
    }

    /// The newest dispatch, while it may still be answered.
    pub fn newest_dispatch(&self) -> Option<&OpenDispatch> {
        let newest = self.commanded.as_ref()?.dispatch;
        self.dispatches.iter().find(|d| d.dispatch == newest)
    }

    /// The restrictions that policies' holds and manual holds amount to.
    pub fn restrictions(&self) -> Flags {
        self.restrictions_of(|_, page| page.held)
    }

    /// The same if `policy` held `holds`.
    pub fn restrictions_with(&self, policy: PolicyId, holds: Flags) -> Flags {
        let mut flags = self.restrictions_of(|id, page| if id == policy { holds } else { page.held });
        if !self.policies.contains_key(&policy) && !self.holds.iter().any(|h| h.kind == HoldKind::Exemption) {
            flags.paused |= holds.paused;
            flags.downscaled |= holds.downscaled;
        }
        flags
    }

    fn restrictions_of(&self, held: impl Fn(PolicyId, &PolicyPage) -> Flags) -> Flags {
        let manual = |kind| self.holds.iter().any(|h| h.kind == kind);
        if manual(HoldKind::Exemption) {
            return Flags::default();
        }
        Flags {
            paused: manual(HoldKind::Pause) || self.policies.iter().any(|(id, p)| held(*id, p).paused),
            downscaled: manual(HoldKind::Downscale) || self.policies.iter().any(|(id, p)| held(*id, p).downscaled),
        }
    }

    /// A component's total of a month.
    pub fn amount(&self, month: Month, component: &str) -> Option<Decimal> {
        self.usage.get(&month).and_then(|m| m.get(component)).map(|t| t.amount)
    }

    /// When a component's total of a month was measured.
    pub fn measured(&self, month: Month, component: &str) -> Option<DateTime<Utc>> {
        self.measured.get(&month).and_then(|m| m.get(component)).copied()
    }

    /// What the total of a month says of later months without a report; none if it is not the newest of the component.
    pub fn missing_usage_of(&self, month: Month, component: &str) -> Option<MissingUsage> {
        if let Some(term) = self.missing_usage.get(component) {
            return (term.month == month).then_some(term.policy);
        }
        let newer = |(m, usage): (&Month, &MonthUsage)| *m > month && usage.contains_key(component);
        (!self.usage.iter().any(newer)).then_some(MissingUsage::None)
    }

    /// A late total that has been recorded.
    pub fn is_known_late(&self, month: Month, component: &str, amount: Decimal, measured_at: DateTime<Utc>) -> bool {
        self.late.iter().any(|late| {
            late.month == month
                && late.component == component
                && late.amount == amount
                && late.measured_at == measured_at
        })
    }
}
