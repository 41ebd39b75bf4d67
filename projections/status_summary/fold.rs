//! Applies a batch of events to the status summary: reads the affected resources, changes them in memory and writes
//! each once.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::model::{AgentStatus, Contribution, Counter, Placed, PolicyLine, ResourceState, percents_text};
use super::rows::{LINES, POLICIES, RESOURCES, add, empty_line, line, resource, save_policies, save_resources};
use super::{Deltas, StatusSummary};
use crate::domain::dispatch::{Stage, next};
use crate::domain::evaluate::Flags;
use crate::domain::forecast::Trail;
use crate::domain::ids::ResourceId;
use crate::domain::threshold::Effect;
use crate::events::Event;
use crate::events::allocation::{AllocationEvent, PolicyEvaluated, Recorded, ResourceRegistered};
use crate::events::registry::{PolicyFacts, RegistryEvent};
use crate::projections::kit::{book_of, query_in};
use crate::store::consumer::Decoded;
use crate::store::sql::{ReadTx, SqlError, SqlValue};

/// A policy, as far as events change it.
pub(super) struct PolicyState {
    pub(super) offering: Uuid,
    pub(super) fired_at: Option<DateTime<Utc>>,
    pub(super) last_evaluated_at: Option<DateTime<Utc>>,
    pub(super) deleted: bool,
    /// Resources at or above a threshold now.
    fired: i64,
    pub(super) changed: bool,
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
                resource.stands(event.recorded.occurred_at);
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
            by_hand: Placed::default(),
            reported_at: None,
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
            AllocationEvent::HoldPlaced(hold) => {
                resource.by_hand.place(hold.hold, hold.kind);
                resource.changed = true;
            }
            AllocationEvent::HoldReleased(released) => {
                resource.by_hand.release(released.hold);
                resource.changed = true;
            }
            AllocationEvent::UsageReported(_) => {
                resource.reported_at = Some(at);
                resource.changed = true;
            }
            AllocationEvent::PolicyEvaluated(evaluated) => self.evaluated(status, resource, evaluated, at),
            AllocationEvent::EvaluationFailed(failed) => {
                self.note_evaluation(failed.policy.as_uuid(), at);
                let line = resource.lines.entry(failed.policy.as_uuid()).or_insert_with(|| empty_line(at));
                line.version = failed.policy_version.cast_signed();
                let period = failed.period.to_string();
                if line.period != period {
                    // What was used in another period is no beginning of a pace in this one.
                    line.trail.clear();
                    line.period = period;
                }
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
                resource.agent = Stage::Queued.into();
                resource.changed = true;
                for named in std::iter::once(&commanded.policy).chain(&commanded.others) {
                    if let Some(line) = resource.lines.get_mut(&named.as_uuid()) {
                        line.dispatch = Some(dispatch);
                        line.changed = true;
                    }
                }
            }
            other => {
                if let Some((dispatch, step)) = other.dispatch_step()
                    && resource.dispatch == Some(dispatch.as_uuid())
                    && let Some(stage) = resource.agent.stage()
                {
                    resource.agent = next(stage, step).into();
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
        let before = resource.lines.remove(&policy);
        let period = evaluated.period.to_string();
        // What an earlier period came to says nothing of this one.
        let mut trail =
            before.as_ref().filter(|line| line.period == period).map_or_else(Trail::default, PolicyLine::trail);
        trail.note(at.date_naive(), outcome.weighted_usage);
        let (dispatch, standing, stood) =
            before.map_or((None, None, None), |line| (line.dispatch, line.standing, line.stood));
        let line = PolicyLine {
            used: Some(outcome.weighted_usage),
            may_use: Some(outcome.weighted_allocation),
            trail: trail.text(),
            standing,
            stood,
            version,
            percentage: Some(outcome.percentage),
            period,
            fired: outcome.fired,
            full: outcome.full,
            held: outcome.holds,
            reached: thresholds.iter().copied().filter(|percent| outcome.percentage >= *percent).collect(),
            evaluated_at: at,
            failed_at: None,
            dispatch,
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
