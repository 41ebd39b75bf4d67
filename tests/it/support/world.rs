//! One resource: given facts, when a command is decided, then these events. No store, no async.
//!
//! Every decision is checked on the way: its events fold to the book it says, from their stored text too, and every
//! evaluation and every message to the agent, resolved from its stream, comes out the same when made again.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sluice::clock::IdSource;
use sluice::commands::allocation::{
    AllocationCommand, Book, DecideContext, Decision, DispatchRecord, OfferingInForce, PolicyInForce, Refusal,
    SiteRules, UsageReport, decide, register,
};
use sluice::domain::evaluate::{EvaluationTerms, Trigger};
use sluice::domain::ids::{CustomerId, OfferingId, PolicyId, ProjectId, ResourceId, slug_uuid};
use sluice::domain::period::Month;
use sluice::domain::policy::{Action, PolicyTerms};
use sluice::domain::qos::QosNames;
use sluice::domain::tres::Amounts;
use sluice::events::allocation::{
    AllocationEvent, BooksOpened, CommandReport, ExecutionMode, OpenDispatch, PolicyEvaluated, ResourceFacts,
    ResourceState, SettingsCommanded, WithdrawReason,
};
use sluice::events::dispatch::{AgentMessage, StompMessageSent};
use sluice::events::envelope::{Cause, Link};
use sluice::events::registry::{BillingType, Component, LimitPeriod, OfferingFacts, PolicyFacts, Scope};
use sluice::events::resolve::Resolver;
use sluice::registry::{offering_period, superseded};

/// The request that every command of a test belongs to.
pub const ORIGIN: Cause = Cause { event: None, correlation: uuid::Uuid::from_u128(0xC0) };

/// What a decision added.
pub type Events = Vec<AllocationEvent>;

pub fn dec(text: &str) -> Decimal {
    text.parse().unwrap()
}

pub fn amounts(entries: &[(&str, &str)]) -> Amounts {
    entries.iter().map(|(component, amount)| ((*component).to_owned(), dec(amount))).collect()
}

/// Terms with these actions, raw (not billing) units, no carryover, monthly: what a case does not say stays simple.
pub fn terms(actions: &str) -> PolicyTerms {
    PolicyTerms {
        actions: Action::parse_list(actions).unwrap(),
        tres_billing_enabled: false,
        carryover_enabled: false,
        period: sluice::domain::period::PeriodKind::Month,
        ..PolicyTerms::default()
    }
}

/// Notify, slow down and pause.
pub const ALL_THREE: &str = "notify_organization_owners,request_downscaling,request_pausing";

pub fn policy_id(name: &str) -> PolicyId {
    PolicyId::from(slug_uuid("policy", name))
}

pub fn resource_id(name: &str) -> ResourceId {
    ResourceId::from(slug_uuid("resource", name))
}

pub fn component(name: &str) -> Component {
    Component {
        component_type: name.to_owned(),
        name: name.to_owned(),
        measured_unit: "hours".into(),
        billing_type: BillingType::Limit,
        limit_period: None,
        slurm_tres: None,
        minutes_per_unit: Decimal::from(60),
        limit_decimal_places: None,
    }
}

pub fn offering_facts(components: &[&str]) -> OfferingFacts {
    OfferingFacts {
        offering: OfferingId::from(slug_uuid("offering", "hpc1")),
        slug: "hpc1".into(),
        name: "HPC 1".into(),
        customer: CustomerId::from(slug_uuid("customer", "site")),
        components: components.iter().map(|c| component(c)).collect(),
        qos: QosNames::default(),
        slurm_clusters: Vec::new(),
        retired: false,
    }
}

pub fn policy_facts(name: &str, terms: PolicyTerms) -> PolicyFacts {
    PolicyFacts {
        policy: policy_id(name),
        slug: name.into(),
        offering: OfferingId::from(slug_uuid("offering", "hpc1")),
        scope: Scope::All,
        terms,
        external_recipients: [].into(),
        options: [].into(),
    }
}

pub fn resource_facts(name: &str, limits: Amounts, created: DateTime<Utc>) -> ResourceFacts {
    ResourceFacts {
        resource: resource_id(name),
        slug: name.into(),
        name: format!("{name} on hpc1"),
        offering: OfferingId::from(slug_uuid("offering", "hpc1")),
        project: ProjectId::from(slug_uuid("project", "climate")),
        customer: CustomerId::from(slug_uuid("customer", "uni-a")),
        backend_id: format!("hpc_{name}"),
        limits,
        state: ResourceState::Ok,
        created,
    }
}

/// The resource, what surrounds it, and the streams its events made, newest last.
pub struct World {
    pub now: DateTime<Utc>,
    pub offering: OfferingFacts,
    pub policies: Vec<Arc<PolicyInForce>>,
    pub rules: SiteRules,
    pub withdrawn: WithdrawReason,
    pub book: Option<Book>,
    pub streams: Vec<Vec<AllocationEvent>>,
    /// There is a queue that takes every message at once.
    pub listens: bool,
    /// Every event so far with the one that it comes of, by name; what an earlier decision said is `earlier`.
    pub causes: Vec<(&'static str, Option<&'static str>)>,
    resolver: Resolver,
}

impl World {
    /// Components `node` and `cpu`, no policy, on this day at noon UTC.
    pub fn on(day: &str) -> Self {
        let mut world = Self {
            now: DateTime::UNIX_EPOCH,
            offering: offering_facts(&["node", "cpu"]),
            policies: Vec::new(),
            rules: SiteRules::default(),
            withdrawn: WithdrawReason::OutOfScope,
            book: None,
            streams: Vec::new(),
            listens: false,
            causes: Vec::new(),
            resolver: Resolver::default(),
        };
        world.day(day);
        world
    }

    /// A resource with 1000 node hours that has existed for long, under one policy with these terms.
    pub fn governed(day: &str, terms: PolicyTerms) -> Self {
        let mut world = Self::on(day);
        world.put_policy("main", terms);
        world.register(&[("node", "1000")]);
        world
    }

    pub fn day(&mut self, day: &str) {
        self.at(&format!("{day}T12:00:00Z"));
    }

    pub fn at(&mut self, instant: &str) {
        self.now = instant.parse().unwrap();
    }

    /// Creates the policy, or makes its next version; policies are listed oldest first.
    pub fn put_policy(&mut self, name: &str, terms: PolicyTerms) {
        let known = self.policies.iter().position(|p| p.id() == policy_id(name));
        let (version, created) =
            known.map_or((1, self.now), |i| (self.policies[i].version + 1, self.policies[i].created));
        let period = offering_period(&self.offering).unwrap_or(terms.period);
        let evaluation = Arc::new(EvaluationTerms::of(&terms, period));
        let facts = policy_facts(name, terms);
        let mut earlier_limits = known.map(|i| self.policies[i].earlier_limits.clone()).unwrap_or_default();
        if let Some(known) = known {
            superseded(&mut earlier_limits, &self.policies[known].facts, &facts, self.now);
        }
        let policy = Arc::new(PolicyInForce { facts, version, created, evaluation, period, earlier_limits });
        match known {
            Some(index) => self.policies[index] = policy,
            None => self.policies.push(policy),
        }
    }

    /// The policy applies no more, for this reason.
    pub fn drop_policy(&mut self, name: &str, reason: WithdrawReason) -> Arc<PolicyInForce> {
        self.withdrawn = reason;
        let index = self.policies.iter().position(|p| p.id() == policy_id(name)).unwrap();
        self.policies.remove(index)
    }

    pub fn limit_period(&mut self, period: LimitPeriod) {
        for component in &mut self.offering.components {
            component.limit_period = Some(period);
        }
        for policy in self.policies.clone() {
            self.put_policy(&policy.facts.slug, policy.facts.terms.clone());
        }
    }

    pub fn register(&mut self, limits: &[(&str, &str)]) -> Events {
        self.register_since(limits, "2020-01-01T00:00:00Z")
    }

    pub fn register_since(&mut self, limits: &[(&str, &str)], created: &str) -> Events {
        let facts = resource_facts("climate", amounts(limits), created.parse().unwrap());
        let decision = self.with_context(|ctx| register(&facts, ctx.month(), ctx)).unwrap();
        let events = decision.events.iter().map(|(_, e)| e.clone()).collect();
        self.streams.push(Vec::new());
        self.take(None, decision);
        if self.listens {
            self.hand_over();
        }
        events
    }

    fn with_context<T>(&self, decide: impl FnOnce(&DecideContext<'_>) -> T) -> T {
        let offering = OfferingInForce::of(self.offering.clone());
        let withdrawn = |_| self.withdrawn;
        decide(&DecideContext {
            now: self.now,
            offering: &offering,
            policies: &self.policies,
            withdrawn: &withdrawn,
            rules: &self.rules,
            ids: IdSource,
            origin: ORIGIN,
        })
    }

    /// The book of the running month, with its opening if it has to be opened first.
    fn base(&self) -> (Option<AllocationEvent>, Book) {
        let book = self.book.clone().unwrap();
        let month = Month::of_instant(self.now, self.rules.zone);
        if book.month >= month {
            return (None, book);
        }
        let opened = BooksOpened { previous: book.month, carried: book.carried() };
        let opened = AllocationEvent::BooksOpened(Box::new(opened));
        let next = Book::begin(month, &opened).unwrap();
        (Some(opened), next)
    }

    /// Decides, as the executor does: a month's first events open its book.
    pub fn when(&mut self, command: &AllocationCommand) -> Result<Events, Refusal> {
        let (opened, base) = self.base();
        let decision = self.with_context(|ctx| decide(base.clone(), command, ctx))?;
        let events: Events = decision.events.iter().map(|(_, e)| e.clone()).collect();
        if events.is_empty() {
            return Ok(events);
        }
        if let Some(opened) = opened {
            self.streams.push(vec![opened]);
            self.resolver = Resolver::default();
        }
        self.take(Some(base), decision);
        if self.listens && self.book().newest_dispatch().is_some_and(|newest| newest.waits) {
            self.record_sent();
        }
        Ok(events)
    }

    fn take(&mut self, base: Option<Book>, decision: Decision) {
        let stream = self.streams.last_mut().unwrap();
        let mut folded = base;
        let mut causes = decision.causes.iter();
        let known: Vec<_> = decision.events.iter().map(|(id, event)| (id.as_uuid(), name(event))).collect();
        for ((_, event), cause) in decision.events.iter().zip(&decision.causes) {
            let of = |cause| known.iter().find(|(id, _)| *id == cause).map_or("earlier", |(_, name)| *name);
            self.causes.push((name(event), cause.event.map(of)));
        }
        for (id, event) in decision.events {
            let stored = reread(&event);
            assert_eq!(stored, event, "stored text says the same");
            let link = Link { event: id.as_uuid(), correlation: causes.next().unwrap().correlation };
            folded = Some(fold(folded, decision.book.month, link, &stored));
            stream.push(event.clone());
            if let AllocationEvent::PolicyEvaluated(evaluated) = &event {
                let resolved = self.resolver.resolve(stream.len() as u64, evaluated).unwrap();
                let (allocation, outcome) = resolved.replay().unwrap();
                assert_eq!(allocation, resolved.basis.allocation, "the allocation comes out the same");
                assert_eq!(outcome, evaluated.outcome, "the decision comes out the same");
            }
            if let AllocationEvent::SettingsCommanded(commanded) = &event {
                let resolved = self.resolver.resolve_settings(stream.len() as u64, commanded).unwrap();
                let again = resolved.expect("it records what it rests on").replay().unwrap();
                assert!(commanded.agrees_with(&again), "it comes out the same: {commanded:?} {again:?}");
            }
        }
        assert_eq!(folded.as_ref(), Some(&decision.book), "events fold to the decided book");
        assert_eq!(decision.book.version, stream.len() as u64);
        self.book = Some(decision.book);
    }

    pub fn book(&self) -> &Book {
        self.book.as_ref().unwrap()
    }

    pub fn report(&mut self, month: &str, entries: &[(&str, &str)]) -> Events {
        let amounts = amounts(entries);
        self.when(&AllocationCommand::ReportUsage(UsageReport::new(month.parse().unwrap(), amounts))).unwrap()
    }

    /// Node hours of the running month so far.
    pub fn used(&mut self, node_hours: &str) -> Events {
        let month = Month::of_instant(self.now, self.rules.zone).to_string();
        self.report(&month, &[("node", node_hours)])
    }

    pub fn limits(&mut self, limits: &[(&str, &str)]) -> Events {
        self.when(&AllocationCommand::ChangeLimits(amounts(limits))).unwrap()
    }

    /// A queue takes the newest message as it is then; says what was handed over.
    pub fn hand_over(&mut self) -> SettingsCommanded {
        self.when(&AllocationCommand::RenewSettings).unwrap();
        let newest = self.book().newest_dispatch().expect("something is to be handed over").dispatch;
        let commanded = self.streams.iter().flatten().filter_map(|event| match event {
            AllocationEvent::SettingsCommanded(commanded) => Some(commanded),
            _ => None,
        });
        let mut handed = SettingsCommanded::clone(commanded.into_iter().find(|e| e.dispatch == newest).unwrap());
        handed.settings.reset_raw_usage = self.record_sent();
        handed
    }

    /// Says whether the reset went with it.
    fn record_sent(&mut self) -> bool {
        let open = self.book().newest_dispatch().unwrap();
        let in_time = open.reset_since.is_none_or(|since| self.now - since < self.rules.reset_resend);
        let reset = open.reset && in_time;
        let sent = StompMessageSent {
            dispatch: Some(open.dispatch),
            messages: vec![AgentMessage::Settings],
            flags: None,
            reset,
            resend: u32::from(!open.waits),
            consumers: Vec::new(),
            at: self.now,
        };
        self.when(&AllocationCommand::RecordDispatch(DispatchRecord::Sent(sent))).unwrap();
        reset
    }

    /// The agent says that everything it was told worked.
    pub fn answer(&mut self) {
        let newest = self.book().newest_dispatch().map(|newest| newest.dispatch);
        // What was superseded before any queue took it, no agent answers.
        let told = |d: &OpenDispatch| !d.waits || Some(d.dispatch) == newest;
        let open: Vec<_> = self.book().dispatches.iter().filter(|d| told(d)).cloned().collect();
        for open in open {
            let report = CommandReport {
                success: true,
                error_message: String::new(),
                mode: ExecutionMode::Production,
                commands_executed: Vec::new(),
            };
            let (policy, dispatch) = (open.policy, Some(open.dispatch));
            self.when(&AllocationCommand::ReportCommandResult { policy, dispatch, report }).unwrap();
        }
        assert!(self.book().dispatches.iter().all(|d| !told(d)));
    }

    pub fn evaluate(&mut self, trigger: Trigger) -> Events {
        self.when(&AllocationCommand::Evaluate { policy: None, trigger }).unwrap()
    }

    pub fn evaluate_one(&mut self, policy: &str, trigger: Trigger) -> Events {
        self.when(&AllocationCommand::Evaluate { policy: Some(policy_id(policy)), trigger }).unwrap()
    }
}

fn fold(book: Option<Book>, month: Month, link: Link, event: &AllocationEvent) -> Book {
    match book {
        None => Book::begin(month, event).unwrap(),
        Some(mut book) => {
            book.evolve(link, event);
            book
        }
    }
}

/// The event as the store gives it back.
pub fn reread(event: &AllocationEvent) -> AllocationEvent {
    AllocationEvent::decode(event.event_type(), &event.payload()).unwrap().unwrap()
}

/// Stored type names without their version, in order.
pub fn names(events: &[AllocationEvent]) -> Vec<&'static str> {
    events.iter().map(name).collect()
}

fn name(event: &AllocationEvent) -> &'static str {
    event.event_type().rsplit_once('.').unwrap().0
}

pub fn evaluations(events: &[AllocationEvent]) -> Vec<&PolicyEvaluated> {
    events.iter().filter_map(|e| if let AllocationEvent::PolicyEvaluated(e) = e { Some(&**e) } else { None }).collect()
}

/// The one evaluation among the events.
pub fn evaluated(events: &[AllocationEvent]) -> &PolicyEvaluated {
    let found = evaluations(events);
    assert_eq!(found.len(), 1, "{:?}", names(events));
    found[0]
}

/// The message among the events, if there is one; never two.
pub fn message(events: &[AllocationEvent]) -> Option<&SettingsCommanded> {
    let found: Vec<&SettingsCommanded> = events
        .iter()
        .filter_map(|e| if let AllocationEvent::SettingsCommanded(e) = e { Some(&**e) } else { None })
        .collect();
    assert!(found.len() <= 1, "one message per decision");
    found.first().copied()
}

/// The verbs of the one evaluation.
pub fn verbs(events: &[AllocationEvent]) -> Vec<&'static str> {
    evaluated(events).outcome.verbs.iter().map(|v| v.as_str()).collect()
}

/// Percentage and verbs of the one evaluation, as words.
pub fn said(events: &[AllocationEvent]) -> String {
    let evaluated = evaluated(events);
    format!("{} % {}", evaluated.outcome.percentage, verbs(events).join("+"))
}
