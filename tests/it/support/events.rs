//! Events for tests of what reads them: a log in memory, a clock that is moved by hand, and a builder for each event.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use sluice::domain::evaluate::{
    BaseSource, BaseTerm, Basis, EvaluationInputs, EvaluationTerms, Flags, MonthUsage, NoticeTerms, Trigger,
    UsageByMonth, UsageTerm, evaluate,
};
use sluice::domain::ids::{CustomerId, DispatchId, OfferingId, PolicyId, ProjectId, ResourceId, UserId};
use sluice::domain::period::{Month, Period, PeriodKind};
use sluice::domain::policy::{Action, LimitType, PolicyTerms};
use sluice::domain::qos::QosClass;
use sluice::domain::sacctmgr::commands;
use sluice::domain::settings::AgentSettings;
use sluice::domain::small_map::SmallMap;
use sluice::domain::tres::Amounts;
use sluice::events::Event;
use sluice::events::allocation::{
    AllocationEvent, BooksClosed, BooksOpened, Carried, CommandReport, CommandResultReported, CommandResultUnmatched,
    EvaluationFailed, ExecutionMode, LimitsChanged, MeasuredAt, PolicyEvaluated, PolicyWithdrawn, Recorded,
    RecordedBasis, ReportedAmount, ResourceFacts, ResourceRegistered, ResourceState, ResourceStateChanged,
    RestrictionChanged, SettingsCommanded, UsageReported, UserUsageReported, WithdrawReason,
};
use sluice::events::envelope::{Actor, Metadata, NewEvent, Payload, Position, StreamName};
use sluice::events::registry::{CustomerFacts, PolicyDeleted, PolicyFacts, RegistryEvent, Scope};
use sluice::events::site::{RetentionApplied, SITE_STREAM, SiteEvent};
use sluice::events::site_answer::SiteAnswers;
use sluice::store::consumer::Decoded;
use sluice::store::memory::MemoryStore;
use sluice::store::{EventStore, ExpectedVersion};
use uuid::Uuid;

/// The report that evaluations name.
const REPORT: Uuid = Uuid::from_u128(7 << 64 | 1);

/// An id that tells kind and number apart.
pub fn id<T: From<Uuid>>(kind: u128, number: u128) -> T {
    Uuid::from_u128(kind << 64 | number).into()
}

pub fn resource(number: u128) -> ResourceId {
    id(1, number)
}

pub fn policy(number: u128) -> PolicyId {
    id(2, number)
}

pub fn offering() -> OfferingId {
    id(3, 1)
}

/// Resources with an odd number are of customer 1, the others of customer 0.
pub fn customer_of(number: u128) -> CustomerId {
    id(4, number % 2)
}

pub fn dispatch(number: u128) -> DispatchId {
    id(5, number)
}

pub fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub fn percent(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn allocation(event: &AllocationEvent) -> (&'static str, String) {
    (event.event_type(), event.payload())
}

/// A log with the time at which the next event happens.
pub struct Log {
    pub store: Arc<MemoryStore>,
    pub now: DateTime<Utc>,
    events: u128,
    /// Versions of policies.
    versions: BTreeMap<PolicyId, u64>,
    /// Bases that a book has in full, by stream and policy and version.
    bases: BTreeMap<(String, PolicyId, u64), u64>,
}

impl Log {
    pub fn new(now: &str) -> Self {
        let now = instant(now);
        let clock = Arc::new(move || now);
        Self {
            store: Arc::new(MemoryStore::new(clock)),
            now,
            events: 0,
            versions: BTreeMap::new(),
            bases: BTreeMap::new(),
        }
    }

    pub fn advance(&mut self, by: TimeDelta) {
        self.now += by;
    }

    fn month(&self) -> Month {
        Month::of(self.now.date_naive())
    }

    fn book(&self, number: u128) -> String {
        format!("allocation-{}-{}", resource(number), self.month())
    }

    /// Appends events of one request to a stream, all at once.
    pub async fn append(&mut self, stream: &str, events: Vec<(&'static str, String)>) -> u64 {
        self.events += 1;
        let metadata = Metadata {
            actor: Actor { id: Some(id(9, 1)), ..Actor::SYSTEM },
            correlation_id: id(8, self.events),
            causation_id: None,
            reason: None,
        };
        let mut new = Vec::new();
        for (event_type, payload) in events {
            self.events += 1;
            let event_id = id(7, self.events);
            let payload = Payload::of_no_family(payload);
            new.push(NewEvent { event_id, event_type, occurred_at: self.now, metadata: metadata.clone(), payload });
        }
        let stream = StreamName::new(stream).unwrap();
        self.store.append(&stream, ExpectedVersion::Any, new).await.unwrap().version
    }

    pub async fn on(&mut self, number: u128, events: Vec<AllocationEvent>) -> u64 {
        let events = events.iter().map(allocation).collect();
        self.append(&self.book(number).clone(), events).await
    }

    pub async fn all(&self) -> Vec<Decoded<Event>> {
        let recorded = self.store.read_all(Position::START, 1_000_000).await.unwrap();
        recorded.into_iter().map(|r| Decoded { event: Event::decode(&r).unwrap(), recorded: r }).collect()
    }

    pub async fn customers(&mut self) {
        for number in 0..2 {
            let customer: CustomerId = customer_of(number);
            let facts = CustomerFacts {
                customer,
                slug: format!("uni-{number}"),
                name: format!("University {number}"),
                groups: [].into(),
                owners: [id(6, number)].into(),
                pending: [].into(),
                retired: false,
            };
            let event = RegistryEvent::CustomerRegistered(facts);
            self.append(&format!("customer-{customer}"), vec![(event.event_type(), event.payload())]).await;
        }
    }

    /// Creates or changes a policy that warns at `notify`, slows down at 100 and pauses at 120.
    pub async fn policy(&mut self, number: u128, notify: &[&str]) {
        let id = policy(number);
        let facts = Box::new(PolicyFacts {
            policy: id,
            slug: format!("policy-{number}"),
            offering: offering(),
            scope: Scope::All,
            terms: terms(notify),
            external_recipients: [].into(),
            options: BTreeMap::new(),
        });
        let event = match self.versions.get(&id) {
            None => RegistryEvent::PolicyCreated(facts),
            Some(_) => RegistryEvent::PolicyChanged(facts),
        };
        let version = self.append(&format!("policy-{id}"), vec![(event.event_type(), event.payload())]).await;
        self.versions.insert(id, version);
    }

    pub async fn delete_policy(&mut self, number: u128) {
        let event = RegistryEvent::PolicyDeleted(PolicyDeleted { policy: policy(number), offering: offering() });
        self.append(&format!("policy-{}", policy(number)), vec![(event.event_type(), event.payload())]).await;
    }

    pub async fn register(&mut self, number: u128) {
        let facts = ResourceFacts {
            resource: resource(number),
            slug: format!("resource-{number}"),
            name: format!("Resource {number}"),
            offering: offering(),
            project: id::<ProjectId>(10, number % 3),
            customer: customer_of(number),
            backend_id: format!("hpc_{number}"),
            limits: Amounts::from([("node_hours".to_owned(), Decimal::ONE_HUNDRED)]),
            state: ResourceState::Ok,
            created: self.now,
        };
        self.on(number, vec![AllocationEvent::ResourceRegistered(Box::new(ResourceRegistered { facts }))]).await;
    }

    /// The evaluation of `used` of 100 node hours; the terms are a reference where the book has them already.
    pub fn evaluation(
        &mut self,
        number: u128,
        policy_number: u128,
        used: u32,
        before: Flags,
        notify: &[&str],
    ) -> AllocationEvent {
        let id = policy(policy_number);
        let version = self.versions.get(&id).copied().unwrap_or(1);
        let period = Period::containing(PeriodKind::Quarter, self.now.date_naive());
        let base = BaseTerm { amount: Decimal::ONE_HUNDRED, source: BaseSource::Resource };
        let basis = Basis {
            policy_version: version,
            terms: Arc::new(EvaluationTerms::of(&terms(notify), PeriodKind::Quarter)),
            period,
            base: SmallMap::from([("node_hours".to_owned(), base)]),
            previous: UsageByMonth::new(),
            existed: false,
            previous_base: SmallMap::new(),
            first_known: false,
            earlier: UsageByMonth::new(),
        };
        let allocation = basis.allocate().unwrap();
        let usage: MonthUsage =
            MonthUsage::from([("node_hours".to_owned(), UsageTerm { amount: used.into(), report: REPORT.into() })]);
        let notices = NoticeTerms::default();
        let inputs =
            EvaluationInputs { basis: &basis, allocation: &allocation, usage: &usage, notices: &notices, held: before };
        let outcome = evaluate(&inputs).unwrap();
        let key = (self.book(number), id, version);
        let recorded = if let Some(same_as) = self.bases.get(&key) {
            Recorded::Same { same_as: *same_as }
        } else {
            self.bases.insert(key, 1);
            Recorded::Full(Arc::new(RecordedBasis { basis, allocation }))
        };
        AllocationEvent::PolicyEvaluated(Box::new(PolicyEvaluated {
            policy: id,
            policy_version: version,
            trigger: Trigger::UsageReported,
            period,
            month: self.month(),
            basis: recorded,
            usage: Recorded::Full(usage),
            notices,
            held: before,
            before,
            after: outcome.holds,
            outcome,
        }))
    }

    pub fn failure(&self, policy_number: u128, flags: Flags) -> AllocationEvent {
        AllocationEvent::EvaluationFailed(EvaluationFailed {
            policy: policy(policy_number),
            policy_version: self.versions.get(&policy(policy_number)).copied().unwrap_or(1),
            trigger: Trigger::Scheduled,
            period: Period::containing(PeriodKind::Quarter, self.now.date_naive()),
            error: "the weighted usage is out of the range of decimal arithmetic".to_owned(),
            flags,
        })
    }

    pub fn settings(&self, number: u128, dispatch: DispatchId, policies: &[u128], flags: Flags) -> AllocationEvent {
        let settings = AgentSettings {
            fairshare: 33,
            limit_type: LimitType::GrpTresMins,
            limits: SmallMap::from([("node".to_owned(), 7200)]),
            reset_raw_usage: false,
            qos_threshold: SmallMap::new(),
            grace_limit: SmallMap::new(),
            carryover_details: None,
        };
        let commands = commands(&format!("hpc_{number}"), &settings, flags.any().then_some(("slowdown", "downscaled")));
        AllocationEvent::SettingsCommanded(Box::new(SettingsCommanded {
            dispatch,
            policy: policy(policies[0]),
            others: policies[1..].iter().map(|p| policy(*p)).collect(),
            period: Period::containing(PeriodKind::Quarter, self.now.date_naive()),
            settings,
            qos: QosClass::of(flags.paused, flags.downscaled),
            qos_name: None,
            flags,
            commands,
            inherits_reset: None,
            at: self.now,
            reset: None,
            rebased: None,
            inputs: None,
        }))
    }

    pub fn opened(&self, number: u128, flags: Flags) -> AllocationEvent {
        let facts = ResourceFacts {
            resource: resource(number),
            slug: format!("resource-{number}"),
            name: format!("Resource {number}"),
            offering: offering(),
            project: id::<ProjectId>(10, number % 3),
            customer: customer_of(number),
            backend_id: format!("hpc_{number}"),
            limits: Amounts::new(),
            state: ResourceState::Ok,
            created: self.now,
        };
        AllocationEvent::BooksOpened(Box::new(BooksOpened {
            previous: self.month().previous(),
            carried: Carried {
                facts,
                limit_history: None,
                usage: UsageByMonth::new(),
                measured: MeasuredAt::new(),
                late: Vec::new(),
                missing_usage: SmallMap::new(),
                ended: None,
                policies: SmallMap::new(),
                holds: Vec::new(),
                flags,
                commanded: None,
                reset: None,
                handed_reset: None,
                dispatches: Vec::new(),
                answers: SiteAnswers::default(),
                chains: sluice::events::chain::Chains::default(),
            },
        }))
    }

    pub async fn retain_from(&mut self, horizon: DateTime<Utc>) {
        let event = SiteEvent::RetentionApplied(RetentionApplied { horizon, retention_days: 90 });
        self.append(SITE_STREAM, vec![(event.event_type(), event.payload())]).await;
    }
}

pub fn terms(notify: &[&str]) -> PolicyTerms {
    PolicyTerms {
        actions: Action::parse_list("notify_organization_owners,request_downscaling,request_pausing").unwrap(),
        notification_thresholds: notify.iter().map(|text| percent(text)).collect(),
        tres_billing_enabled: false,
        carryover_enabled: false,
        ..PolicyTerms::default()
    }
}

pub const FREE: Flags = Flags { paused: false, downscaled: false };
pub const SLOW: Flags = Flags { paused: false, downscaled: true };
pub const BLOCKED: Flags = Flags { paused: true, downscaled: true };

/// What evaluating `used` of 100 node hours holds.
pub fn holds_at(used: u32) -> Flags {
    Flags { paused: used >= 120, downscaled: used >= 100 }
}

pub fn restricted(from: Flags, to: Flags) -> AllocationEvent {
    AllocationEvent::RestrictionChanged(RestrictionChanged { from, to, policies: vec![policy(1)] })
}

pub fn withdrawn(policy_number: u128) -> AllocationEvent {
    let (policy, reason) = (policy(policy_number), WithdrawReason::Disabled);
    AllocationEvent::PolicyWithdrawn(PolicyWithdrawn { policy, reason, released: FREE })
}

pub fn state(from: ResourceState, to: ResourceState) -> AllocationEvent {
    AllocationEvent::ResourceStateChanged(ResourceStateChanged { from, to })
}

pub fn usage(month: &str, amount: u32) -> AllocationEvent {
    let amounts = SmallMap::from([("node_hours".to_owned(), ReportedAmount { amount: amount.into(), previous: None })]);
    AllocationEvent::UsageReported(UsageReported {
        month: month.parse().unwrap(),
        amounts,
        restated: false,
        measured_at: None,
        missing_usage: SmallMap::new(),
    })
}

pub fn user_usage(month: &str, user: u128, amount: u32) -> AllocationEvent {
    AllocationEvent::UserUsageReported(UserUsageReported {
        month: month.parse().unwrap(),
        component: "node_hours".to_owned(),
        amounts: BTreeMap::from([(id::<UserId>(6, user), amount.into())]),
    })
}

pub fn limits(amount: u32) -> AllocationEvent {
    let limits = Amounts::from([("node_hours".to_owned(), amount.into())]);
    AllocationEvent::LimitsChanged(LimitsChanged { limits, previous: Amounts::new() })
}

pub fn closed(successor: Month) -> AllocationEvent {
    AllocationEvent::BooksClosed(BooksClosed { successor })
}

pub fn report(success: bool, error: &str) -> CommandReport {
    CommandReport {
        success,
        error_message: error.to_owned(),
        mode: ExecutionMode::Production,
        commands_executed: vec!["sacctmgr modify account hpc_1 set fairshare=33".to_owned()],
    }
}

pub fn reported(dispatch: DispatchId, policy_number: u128, success: bool, error: &str) -> AllocationEvent {
    let (policy, report) = (policy(policy_number), report(success, error));
    AllocationEvent::CommandResultReported(CommandResultReported { dispatch, policy, report, differences: Vec::new() })
}

pub fn unmatched(policy_number: u128) -> AllocationEvent {
    let (policy, report) = (policy(policy_number), report(true, ""));
    AllocationEvent::CommandResultUnmatched(CommandResultUnmatched { policy, report })
}
