//! An allocation book, folded: everything a decision about one resource rests on, and how each event changes it.
//!
//! One book per resource and calendar month. A sealed book names its successor; what the successor begins with is
//! [`Book::carried`], a function of the sealed book alone, so that whoever opens it writes the same event.

use std::sync::Arc;

use rust_decimal::Decimal;

use super::results::ran_reset;
use crate::domain::evaluate::{Flags, MonthUsage, NoticeTerms, UsageByMonth, UsageTerm};
use crate::domain::ids::{DispatchId, EventId, PolicyId, ResourceId};
use crate::domain::period::{Month, Period};
use crate::domain::small_map::SmallMap;
use crate::domain::tres::Amounts;
use crate::events::allocation::{
    AllocationEvent, BooksOpened, Carried, CarriedPolicy, Commanded, CounterReset, DispatchState, HoldKind, HoldPlaced,
    OpenDispatch, PolicyEvaluated, PolicyWithdrawn, Recorded, RecordedBasis, ResourceFacts, SettingsCommanded,
    WithdrawReason,
};
use crate::events::dispatch::StompMessageSent;
use crate::events::envelope::StreamName;
use crate::events::site_answer::SiteAnswers;

/// Unanswered dispatches that a book remembers; the oldest are forgotten first.
const OPEN_DISPATCHES_MAX: usize = 64;

/// What a policy has decided on the resource so far.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyPage {
    /// Highest version seen; a lower one is refused.
    pub version: u64,
    /// Period last evaluated.
    pub period: Period,
    /// Basis last recorded, with the stream version of the event that has it in full.
    pub basis: Option<(Arc<RecordedBasis>, u64)>,
    /// Stream version of the event that has the running month's usage in full, with that usage.
    pub usage: Option<(MonthUsage, u64)>,
    /// Base allocation last seen.
    pub base: Amounts,
    /// Notices given in the period.
    pub notices: NoticeTerms,
    /// Its holds.
    pub held: Flags,
    /// QoS name of the rung it stands on.
    pub qos: Option<String>,
    /// It applies no more. What it noticed stays known, so that its return within the period does not repeat a notice.
    pub withdrawn: bool,
}

impl PolicyPage {
    fn new(period: Period) -> Self {
        Self {
            version: 0,
            period,
            basis: None,
            usage: None,
            base: Amounts::new(),
            notices: NoticeTerms::default(),
            held: Flags::default(),
            qos: None,
            withdrawn: false,
        }
    }
}

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
    /// Usage by month and component.
    pub usage: UsageByMonth,
    /// What each policy decided.
    pub policies: SmallMap<PolicyId, PolicyPage>,
    /// Manual holds in force.
    pub holds: Vec<HoldPlaced>,
    /// Restrictions in force.
    pub flags: Flags,
    /// What the agent was told last.
    pub commanded: Option<Arc<Commanded>>,
    /// The last reset of raw usage.
    pub reset: Option<Arc<CounterReset>>,
    /// Dispatches that may still be answered, oldest first.
    pub dispatches: Vec<OpenDispatch>,
    /// What the site said last of class of service and limits.
    pub answers: SiteAnswers,
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
            facts,
            usage: UsageByMonth::new(),
            policies: SmallMap::new(),
            holds: Vec::new(),
            flags: Flags::default(),
            commanded: None,
            reset: None,
            dispatches: Vec::new(),
            answers: SiteAnswers::default(),
        }
    }

    fn continuing(month: Month, opened: &BooksOpened) -> Self {
        let carried = opened.carried.clone();
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
            usage: carried.usage,
            policies: carried.policies.into_iter().map(|(id, p)| (id, page(p))).collect(),
            holds: carried.holds,
            flags: carried.flags,
            commanded: carried.commanded.map(Arc::new),
            reset: carried.reset.map(Arc::new),
            dispatches: carried.dispatches,
            answers: carried.answers,
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
            usage: self.usage.clone(),
            policies: self.policies.iter().map(|(id, p)| (*id, page(p))).collect(),
            holds: self.holds.clone(),
            flags: self.flags,
            commanded: self.commanded.as_deref().cloned(),
            reset: self.reset.as_deref().cloned(),
            dispatches: self.dispatches.clone(),
            answers: self.answers.clone(),
        }
    }

    /// Adds one event; `id` is its event id.
    pub fn evolve(&mut self, id: EventId, event: &AllocationEvent) {
        self.version += 1;
        match event {
            AllocationEvent::BooksClosed(closed) => self.sealed = Some(closed.successor),
            AllocationEvent::LimitsChanged(changed) => self.facts.limits.clone_from(&changed.limits),
            AllocationEvent::ResourceDetailsChanged(changed) => {
                self.facts.name.clone_from(&changed.name);
                self.facts.backend_id.clone_from(&changed.backend_id);
            }
            AllocationEvent::ResourceStateChanged(changed) => self.facts.state = changed.to,
            AllocationEvent::UsageReported(reported) => {
                let month = self.usage.entry(reported.month).or_default();
                for (component, reported) in &reported.amounts {
                    month.insert(component.clone(), UsageTerm { amount: reported.amount, report: id });
                }
            }
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
                } else if let Some(open) = self.dispatches.iter_mut().find(|d| d.dispatch == result.dispatch) {
                    open.state = DispatchState::Failed;
                }
            }
            AllocationEvent::StompMessageSent(sent) => self.handed_over(sent),
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
            | AllocationEvent::DispatchResendRequested(_)
            | AllocationEvent::RestrictionResendRequested(_)
            | AllocationEvent::NoticeFailed(_)
            | AllocationEvent::NoticeResent(_) => {}
        }
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

    /// A queue took the settings of a dispatch, with its reset or without, or word of restrictions.
    fn handed_over(&mut self, sent: &StompMessageSent) {
        self.answers.asked |= sent.flags.is_some();
        let Some(open) = self.dispatches.iter_mut().find(|d| Some(d.dispatch) == sent.dispatch) else { return };
        if sent.reset {
            open.reset_since.get_or_insert(sent.at);
        } else {
            open.reset_dropped |= open.reset;
        }
    }

    /// A dispatch did what it was to do. If it reset raw usage, those that inherited the reset need not hand it on; what was
    /// sent without its reset in the end has reset it only if the commands say so.
    fn confirmed(&mut self, dispatch: DispatchId, ran_reset: bool) {
        let answered = self.dispatches.iter().find(|d| d.dispatch == dispatch);
        let done = answered.filter(|d| !d.reset_dropped || ran_reset).and_then(|d| d.reset_of);
        self.dispatches.retain(|d| d.dispatch != dispatch);
        for other in self.dispatches.iter_mut().filter(|d| done.is_some() && d.reset_of == done) {
            other.reset_of = None;
        }
    }

    fn commanded(&mut self, commanded: &SettingsCommanded) {
        self.commanded = Some(Arc::new(Commanded {
            dispatch: commanded.dispatch,
            policy: commanded.policy,
            settings: commanded.settings.clone(),
            qos: commanded.qos,
            qos_name: commanded.qos_name.clone(),
        }));
        if let Some(reset) = &commanded.reset {
            self.reset = Some(Arc::new(reset.clone()));
        }
        let (reset_of, reset_since) = match &commanded.inherits_reset {
            Some(from) => self
                .dispatches
                .iter()
                .find(|d| d.dispatch == *from)
                .map_or((None, None), |from| (from.reset_of, from.reset_since)),
            None => (commanded.settings.reset_raw_usage.then_some(commanded.dispatch), None),
        };
        if self.dispatches.len() >= OPEN_DISPATCHES_MAX {
            self.dispatches.remove(0);
        }
        self.dispatches.push(OpenDispatch {
            dispatch: commanded.dispatch,
            policy: commanded.policy,
            reset: commanded.settings.reset_raw_usage,
            reset_of,
            reset_since,
            reset_dropped: false,
            state: DispatchState::Open,
            at: commanded.at,
        });
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
}
