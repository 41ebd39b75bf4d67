//! A batch of events on the status summary: the resources it touches are read, changed in memory and written once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::model::{AgentStatus, Contribution, Counter, PolicyLine, ResourceState, percents_of, percents_text};
use super::{Deltas, StatusSummary};
use crate::domain::evaluate::Flags;
use crate::domain::ids::ResourceId;
use crate::domain::threshold::Effect;
use crate::events::Event;
use crate::events::allocation::{AllocationEvent, PolicyEvaluated, Recorded, ResourceRegistered};
use crate::events::registry::{PolicyFacts, RegistryEvent};
use crate::projections::kit::{book_of, flag_bits, flags_of, in_list, query_in};
use crate::store::consumer::Decoded;
use crate::store::sql::{ReadTx, SqlError, SqlRow, SqlValue};

static RESOURCES: LazyLock<String> = LazyLock::new(|| {
    in_list("SELECT no, id, offering, customer, live, flags, dispatch, agent FROM status_resources{g} WHERE id IN", "")
});
static LINES: LazyLock<String> = LazyLock::new(|| {
    in_list(
        "SELECT resource, policy, version, percentage, period, fired, is_full, held, reached, evaluated_at, failed_at, \
         dispatch FROM status_rows{g} WHERE resource IN",
        "",
    )
});
static POLICIES: LazyLock<String> = LazyLock::new(|| {
    in_list(
        "SELECT p.policy, p.offering, p.fired_at, p.last_evaluated_at, p.deleted, \
         coalesce((SELECT c.n FROM status_counters{g} c WHERE c.owner = p.policy AND c.counter = 'fired'), 0) \
         FROM status_policies{g} p WHERE p.policy IN",
        "",
    )
});

/// A policy, as far as events change it.
struct PolicyState {
    offering: Uuid,
    fired_at: Option<DateTime<Utc>>,
    last_evaluated_at: Option<DateTime<Utc>>,
    deleted: bool,
    /// Resources at or above a threshold now.
    fired: i64,
    changed: bool,
}

/// One batch.
pub(super) struct Fold {
    resources: BTreeMap<ResourceId, ResourceState>,
    policies: BTreeMap<Uuid, PolicyState>,
    counters: Deltas<Counter>,
    at_limit: Deltas<Uuid>,
    thresholds: BTreeMap<(Uuid, i64), String>,
}

impl Fold {
    /// Reads the resources and policies that these events touch.
    pub(super) async fn load(tx: &mut ReadTx, events: &[&Decoded<Event>]) -> Result<Self, SqlError> {
        let ids: BTreeSet<Uuid> =
            events.iter().filter_map(|e| book_of(&e.recorded.stream)).map(|(id, _)| id.as_uuid()).collect();
        let keys: Vec<SqlValue> = ids.into_iter().map(SqlValue::Uuid).collect();
        let mut by_number = BTreeMap::new();
        for row in query_in(tx, &RESOURCES, &keys).await? {
            let resource = resource(&row)?;
            by_number.insert(resource.no, resource);
        }
        let keys: Vec<SqlValue> = by_number.keys().map(|no| SqlValue::I64(*no)).collect();
        let mut policies: BTreeSet<Uuid> = events.iter().filter_map(|e| policy_of(&e.event)).collect();
        for row in query_in(tx, &LINES, &keys).await? {
            if let Some(resource) = by_number.get_mut(&row.i64(0)?) {
                policies.insert(row.uuid(1)?);
                resource.lines.insert(row.uuid(1)?, line(&row)?);
            }
        }
        let mut fold = Self {
            resources: by_number.into_values().map(|resource| (resource.id, resource)).collect(),
            policies: BTreeMap::new(),
            counters: Deltas::new(),
            at_limit: Deltas::new(),
            thresholds: BTreeMap::new(),
        };
        let keys: Vec<SqlValue> = policies.into_iter().map(SqlValue::Uuid).collect();
        for row in query_in(tx, &POLICIES, &keys).await? {
            let state = PolicyState {
                offering: row.uuid(1)?,
                fired_at: row.opt_time(2)?,
                last_evaluated_at: row.opt_time(3)?,
                deleted: row.bool(4)?,
                fired: row.i64(5)?,
                changed: false,
            };
            fold.policies.insert(row.uuid(0)?, state);
        }
        Ok(fold)
    }

    pub(super) fn take(&mut self, status: &mut StatusSummary, event: &Decoded<Event>) {
        match &event.event {
            Event::Registry(RegistryEvent::PolicyCreated(facts) | RegistryEvent::PolicyChanged(facts)) => {
                self.policy_facts(facts);
            }
            Event::Registry(RegistryEvent::PolicyDeleted(deleted)) => {
                if let Some(policy) = self.policies.get_mut(&deleted.policy.as_uuid()) {
                    // Its lines go when the resources say that it was withdrawn.
                    policy.deleted = true;
                    policy.changed = true;
                }
            }
            Event::Allocation(AllocationEvent::ResourceRegistered(registered)) => self.register(status, registered),
            Event::Allocation(allocation) => {
                let Some((id, _)) = book_of(&event.recorded.stream) else { return };
                if let AllocationEvent::PolicyEvaluated(evaluated) = allocation {
                    self.learn_thresholds(status, evaluated);
                }
                let Some(mut resource) = self.resources.remove(&id) else { return };
                let before = resource.contribution();
                self.change(status, &mut resource, event, allocation);
                self.count(&before, &resource.contribution(), event.recorded.occurred_at);
                self.resources.insert(id, resource);
            }
            Event::Site(_) | Event::Registry(_) | Event::Agent(_) => {}
        }
    }

    fn policy_facts(&mut self, facts: &PolicyFacts) {
        let policy = self.policies.entry(facts.policy.as_uuid()).or_insert_with(|| PolicyState {
            offering: facts.offering.as_uuid(),
            fired_at: None,
            last_evaluated_at: None,
            deleted: false,
            fired: 0,
            changed: true,
        });
        policy.changed |= policy.offering != facts.offering.as_uuid();
        policy.offering = facts.offering.as_uuid();
    }

    fn register(&mut self, status: &mut StatusSummary, registered: &ResourceRegistered) {
        let facts = &registered.facts;
        if self.resources.contains_key(&facts.resource) {
            return;
        }
        let resource = ResourceState {
            no: status.mark.number(),
            id: facts.resource,
            offering: facts.offering.as_uuid(),
            customer: facts.customer.as_uuid(),
            live: facts.state.is_live(),
            flags: Flags::default(),
            dispatch: None,
            agent: AgentStatus::NotNeeded,
            lines: BTreeMap::new(),
            withdrawn: BTreeSet::new(),
            changed: true,
        };
        self.resources.insert(facts.resource, resource);
    }

    fn change(
        &mut self,
        status: &StatusSummary,
        resource: &mut ResourceState,
        event: &Decoded<Event>,
        allocation: &AllocationEvent,
    ) {
        let at = event.recorded.occurred_at;
        match allocation {
            AllocationEvent::ResourceStateChanged(changed) => {
                resource.live = changed.to.is_live();
                resource.changed = true;
            }
            AllocationEvent::RestrictionChanged(changed) => {
                resource.flags = changed.to;
                resource.changed = true;
            }
            AllocationEvent::PolicyEvaluated(evaluated) => self.evaluated(status, resource, evaluated, at),
            AllocationEvent::EvaluationFailed(failed) => {
                self.note_evaluation(failed.policy.as_uuid(), at);
                let line = resource.lines.entry(failed.policy.as_uuid()).or_insert_with(|| empty_line(at));
                line.version = failed.policy_version.cast_signed();
                line.period = failed.period.to_string();
                line.failed_at = Some(at);
                line.evaluated_at = at;
                line.changed = true;
                resource.withdrawn.remove(&failed.policy.as_uuid());
            }
            AllocationEvent::PolicyWithdrawn(withdrawn) => {
                resource.lines.remove(&withdrawn.policy.as_uuid());
                resource.withdrawn.insert(withdrawn.policy.as_uuid());
            }
            AllocationEvent::SettingsCommanded(commanded) => {
                let dispatch = commanded.dispatch.as_uuid();
                resource.dispatch = Some(dispatch);
                resource.agent = AgentStatus::Queued;
                resource.changed = true;
                for named in std::iter::once(&commanded.policy).chain(&commanded.others) {
                    if let Some(line) = resource.lines.get_mut(&named.as_uuid()) {
                        line.dispatch = Some(dispatch);
                        line.changed = true;
                    }
                }
            }
            AllocationEvent::CommandResultReported(result) if resource.dispatch == Some(result.dispatch.as_uuid()) => {
                resource.agent = if result.report.success { AgentStatus::Confirmed } else { AgentStatus::Failed };
                resource.changed = true;
            }
            travelled => {
                if let Some((dispatch, agent)) = travel(travelled, resource.agent)
                    && resource.dispatch == Some(dispatch)
                {
                    resource.agent = agent;
                    resource.changed = true;
                }
            }
        }
    }

    fn evaluated(
        &mut self,
        status: &StatusSummary,
        resource: &mut ResourceState,
        evaluated: &PolicyEvaluated,
        at: DateTime<Utc>,
    ) {
        let policy = evaluated.policy.as_uuid();
        self.note_evaluation(policy, at);
        let (outcome, version) = (&evaluated.outcome, evaluated.policy_version.cast_signed());
        let thresholds = status.thresholds.get(&(policy, version)).map(Vec::as_slice).unwrap_or_default();
        let line = PolicyLine {
            version,
            percentage: Some(outcome.percentage),
            period: evaluated.period.to_string(),
            fired: outcome.fired,
            full: outcome.full,
            held: outcome.holds,
            reached: thresholds.iter().copied().filter(|percent| outcome.percentage >= *percent).collect(),
            evaluated_at: at,
            failed_at: None,
            dispatch: resource.lines.get(&policy).and_then(|line| line.dispatch),
            changed: true,
        };
        resource.lines.insert(policy, line);
        resource.withdrawn.remove(&policy);
    }

    fn note_evaluation(&mut self, policy: Uuid, at: DateTime<Utc>) {
        if let Some(policy) = self.policies.get_mut(&policy) {
            policy.last_evaluated_at = policy.last_evaluated_at.max(Some(at));
            policy.changed = true;
        }
    }

    /// The thresholds of a version stand in the first evaluation under it.
    fn learn_thresholds(&mut self, status: &mut StatusSummary, evaluated: &PolicyEvaluated) {
        let Recorded::Full(basis) = &evaluated.basis else { return };
        let key = (evaluated.policy.as_uuid(), evaluated.policy_version.cast_signed());
        if status.thresholds.contains_key(&key) {
            return;
        }
        let rungs = basis.basis.terms.ladder.iter().filter(|rung| rung.effect == Effect::Notify);
        let percents: Vec<Decimal> = rungs.map(|rung| rung.percent.normalize()).collect();
        self.thresholds.insert(key, percents_text(&percents));
        status.thresholds.insert(key, percents);
    }

    /// Notes what a change of one resource adds to the counters, and whether a policy begins to fire.
    fn count(&mut self, before: &Contribution, after: &Contribution, at: DateTime<Utc>) {
        if before == after {
            return;
        }
        let gone = before.counters.difference(&after.counters).map(|key| (*key, -1));
        let come = after.counters.difference(&before.counters).map(|key| (*key, 1));
        for ((owner, counter), n) in gone.chain(come) {
            *self.counters.entry((owner, counter)).or_default() += n;
            if counter == Counter::Fired
                && let Some(policy) = self.policies.get_mut(&owner)
            {
                policy.fired += n;
                if n > 0 && policy.fired == 1 {
                    policy.fired_at = Some(at);
                    policy.changed = true;
                }
            }
        }
        let gone = before.at_limit.difference(&after.at_limit).map(|key| (*key, -1));
        let come = after.at_limit.difference(&before.at_limit).map(|key| (*key, 1));
        for (key, n) in gone.chain(come) {
            *self.at_limit.entry(key).or_default() += n;
        }
    }

    pub(super) async fn save(self, tx: &mut ReadTx) -> Result<(), SqlError> {
        save_resources(tx, self.resources.into_values().collect()).await?;
        save_policies(tx, self.policies).await?;
        let counters =
            self.counters.into_iter().map(|((owner, counter), n)| (owner, counter.name().into(), n)).collect();
        add(
            tx,
            "INSERT INTO status_counters{g} AS t (owner, counter, n)",
            "ON CONFLICT (owner, counter) DO UPDATE SET n = t.n + excluded.n",
            "DELETE FROM status_counters{g} WHERE n = 0",
            counters,
        )
        .await?;
        let at_limit =
            self.at_limit.into_iter().map(|((owner, customer), n)| (owner, SqlValue::Uuid(customer), n)).collect();
        add(
            tx,
            "INSERT INTO status_at_limit{g} AS t (owner, customer, n)",
            "ON CONFLICT (owner, customer) DO UPDATE SET n = t.n + excluded.n",
            "DELETE FROM status_at_limit{g} WHERE n = 0",
            at_limit,
        )
        .await?;
        let rows = self.thresholds.into_iter();
        let rows: Vec<SqlValue> =
            rows.flat_map(|((p, v), notify)| [SqlValue::Uuid(p), v.into(), notify.into()]).collect();
        if !rows.is_empty() {
            let insert = "INSERT INTO status_thresholds{g} (policy, version, notify)";
            tx.insert_many(insert, 3, rows, "ON CONFLICT (policy, version) DO NOTHING").await?;
        }
        Ok(())
    }
}

/// The dispatch whose message travelled, and how the agent stands after that; what was answered stays so.
fn travel(event: &AllocationEvent, agent: AgentStatus) -> Option<(Uuid, AgentStatus)> {
    use AgentStatus::{Failed, NoAnswer, Queued, Sent};
    let waits = matches!(agent, Queued | Sent | NoAnswer);
    let (dispatch, agent) = match event {
        AllocationEvent::StompMessageSent(sent) if waits => (sent.dispatch?, Sent),
        AllocationEvent::StompMessageFailed(failed) if waits => (failed.dispatch, Failed),
        AllocationEvent::DispatchUnanswered(unanswered) if waits => (unanswered.dispatch, NoAnswer),
        AllocationEvent::DispatchResendRequested(requested) if matches!(agent, NoAnswer | Failed) => {
            (requested.dispatch, Queued)
        }
        _ => return None,
    };
    Some((dispatch.as_uuid(), agent))
}

async fn add(
    tx: &mut ReadTx,
    insert: &'static str,
    update: &'static str,
    drop_empty: &'static str,
    deltas: Vec<(Uuid, SqlValue, i64)>,
) -> Result<(), SqlError> {
    let less = deltas.iter().any(|(_, _, n)| *n < 0);
    let changed = deltas.into_iter().filter(|(_, _, n)| *n != 0);
    let rows: Vec<SqlValue> = changed.flat_map(|(owner, key, n)| [SqlValue::Uuid(owner), key, n.into()]).collect();
    if !rows.is_empty() {
        tx.insert_many(insert, 3, rows, update).await?;
    }
    if less {
        tx.execute(drop_empty, &[]).await?;
    }
    Ok(())
}

static WITHDRAWN: LazyLock<String> =
    LazyLock::new(|| in_list("DELETE FROM status_rows{g} WHERE policy = $129 AND resource IN", ""));

async fn save_resources(tx: &mut ReadTx, resources: Vec<ResourceState>) -> Result<(), SqlError> {
    let (mut rows, mut lines) = (Vec::new(), Vec::new());
    let mut withdrawn: BTreeMap<Uuid, Vec<SqlValue>> = BTreeMap::new();
    for resource in resources {
        for policy in resource.withdrawn {
            withdrawn.entry(policy).or_default().push(resource.no.into());
        }
        for (policy, line) in resource.lines.into_iter().filter(|(_, line)| line.changed) {
            lines.extend(line_values(resource.no, policy, line));
        }
        if resource.changed {
            rows.extend([
                resource.no.into(),
                SqlValue::Uuid(resource.id.as_uuid()),
                SqlValue::Uuid(resource.offering),
                SqlValue::Uuid(resource.customer),
                resource.live.into(),
                flag_bits(resource.flags).into(),
                resource.dispatch.into(),
                resource.agent.code().into(),
            ]);
        }
    }
    for (policy, resources) in withdrawn {
        for some in resources.chunks(128) {
            let mut values = some.to_vec();
            values.resize(128, some[some.len() - 1].clone());
            values.push(SqlValue::Uuid(policy));
            tx.execute(WITHDRAWN.as_str(), &values).await?;
        }
    }
    if !rows.is_empty() {
        let insert = "INSERT INTO status_resources{g} (no, id, offering, customer, live, flags, dispatch, agent)";
        let update = "ON CONFLICT (no) DO UPDATE SET live = excluded.live, flags = excluded.flags, \
                      dispatch = excluded.dispatch, agent = excluded.agent";
        tx.insert_many(insert, 8, rows, update).await?;
    }
    if !lines.is_empty() {
        let insert = "INSERT INTO status_rows{g} (resource, policy, version, percentage, period, fired, is_full, held, \
                      reached, evaluated_at, failed_at, dispatch)";
        let update = "ON CONFLICT (resource, policy) DO UPDATE SET version = excluded.version, \
                      percentage = excluded.percentage, period = excluded.period, fired = excluded.fired, \
                      is_full = excluded.is_full, held = excluded.held, reached = excluded.reached, \
                      evaluated_at = excluded.evaluated_at, failed_at = excluded.failed_at, dispatch = excluded.dispatch";
        tx.insert_many(insert, 12, lines, update).await?;
    }
    Ok(())
}

async fn save_policies(tx: &mut ReadTx, policies: BTreeMap<Uuid, PolicyState>) -> Result<(), SqlError> {
    let changed = policies.into_iter().filter(|(_, policy)| policy.changed);
    let values = |(id, policy): (Uuid, PolicyState)| -> [SqlValue; 5] {
        let PolicyState { offering, fired_at, last_evaluated_at, deleted, .. } = policy;
        [SqlValue::Uuid(id), SqlValue::Uuid(offering), fired_at.into(), last_evaluated_at.into(), deleted.into()]
    };
    let rows: Vec<SqlValue> = changed.flat_map(values).collect();
    if !rows.is_empty() {
        let insert = "INSERT INTO status_policies{g} (policy, offering, fired_at, last_evaluated_at, deleted)";
        let update = "ON CONFLICT (policy) DO UPDATE SET offering = excluded.offering, fired_at = excluded.fired_at, \
                      last_evaluated_at = excluded.last_evaluated_at, deleted = excluded.deleted";
        tx.insert_many(insert, 5, rows, update).await?;
    }
    Ok(())
}

fn line_values(resource: i64, policy: Uuid, line: PolicyLine) -> [SqlValue; 12] {
    [
        resource.into(),
        SqlValue::Uuid(policy),
        line.version.into(),
        line.percentage.into(),
        line.period.into(),
        line.fired.into(),
        line.full.into(),
        flag_bits(line.held).into(),
        percents_text(&line.reached).into(),
        line.evaluated_at.into(),
        line.failed_at.into(),
        line.dispatch.into(),
    ]
}

fn policy_of(event: &Event) -> Option<Uuid> {
    let policy = match event {
        Event::Registry(RegistryEvent::PolicyCreated(facts) | RegistryEvent::PolicyChanged(facts)) => facts.policy,
        Event::Registry(RegistryEvent::PolicyDeleted(deleted)) => deleted.policy,
        Event::Allocation(AllocationEvent::PolicyEvaluated(evaluated)) => evaluated.policy,
        Event::Allocation(AllocationEvent::EvaluationFailed(failed)) => failed.policy,
        Event::Allocation(AllocationEvent::PolicyWithdrawn(withdrawn)) => withdrawn.policy,
        _ => return None,
    };
    Some(policy.as_uuid())
}

fn empty_line(at: DateTime<Utc>) -> PolicyLine {
    PolicyLine {
        version: 0,
        percentage: None,
        period: String::new(),
        fired: false,
        full: false,
        held: Flags::default(),
        reached: Vec::new(),
        evaluated_at: at,
        failed_at: None,
        dispatch: None,
        changed: true,
    }
}

fn resource(row: &SqlRow) -> Result<ResourceState, SqlError> {
    Ok(ResourceState {
        no: row.i64(0)?,
        id: row.uuid(1)?.into(),
        offering: row.uuid(2)?,
        customer: row.uuid(3)?,
        live: row.bool(4)?,
        flags: flags_of(row.i64(5)?),
        dispatch: row.opt_uuid(6)?,
        agent: AgentStatus::of(row.i64(7)?),
        lines: BTreeMap::new(),
        withdrawn: BTreeSet::new(),
        changed: false,
    })
}

fn line(row: &SqlRow) -> Result<PolicyLine, SqlError> {
    Ok(PolicyLine {
        version: row.i64(2)?,
        percentage: row.opt_decimal(3)?,
        period: row.text(4)?.to_owned(),
        fired: row.bool(5)?,
        full: row.bool(6)?,
        held: flags_of(row.i64(7)?),
        reached: percents_of(row.text(8)?),
        evaluated_at: row.time(9)?,
        failed_at: row.opt_time(10)?,
        dispatch: row.opt_uuid(11)?,
        changed: false,
    })
}
