//! Collects what a batch of events adds to the evaluation log in memory, and writes it with few statements.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::class::{EvaluationOutcome, pack, trigger_code};
use super::totals::{self, Delta, Restriction};
use super::{COUNTS, EvaluationLog};
use crate::domain::evaluate::{Flags, Trigger};
use crate::domain::ids::PolicyId;
use crate::domain::period::{Month, Period};
use crate::events::Event;
use crate::events::allocation::{AllocationEvent, PolicyEvaluated, Recorded, SettingsCommanded};
use crate::events::registry::RegistryEvent;
use crate::events::site::SiteEvent;
use crate::projections::kit::{Counts, book_of, flag_bits, month_code};
use crate::store::consumer::Decoded;
use crate::store::sql::{ReadTx, SqlError, SqlValue};

const COLUMNS: usize = 17;
const INSERT: &str = "INSERT INTO evaluation_log{g} (no, event, resource, class, at, position_hi, position_lo, version, \
                      book, policy_version, cause, flags, percentage, grace, explanation, error, dispatch)";

/// Versions of one stream that one append may span between an evaluation and the settings it led to.
const APPEND_VERSIONS_MAX: i64 = 1_000;

/// An evaluation that settings of the same append may refer to.
struct Pending {
    policy: PolicyId,
    /// Where its row begins in the list of values; none if it is not written.
    row: Option<usize>,
    at: DateTime<Utc>,
    correlation: Uuid,
}

/// Settings whose evaluation came with an earlier batch.
struct LateLink {
    dispatch: Uuid,
    resource: i64,
    at: DateTime<Utc>,
    version: i64,
    policy: i64,
}

/// One batch.
#[derive(Default)]
pub(super) struct Fold {
    rows: Vec<SqlValue>,
    counts: Counts,
    pending: HashMap<i64, Vec<Pending>>,
    late: Vec<LateLink>,
    grace: BTreeMap<(i64, u64), String>,
    totals: BTreeMap<i64, Delta>,
    restrictions: Vec<Restriction>,
}

/// What of an evaluation goes into a row.
struct Facts<'e> {
    policy: PolicyId,
    policy_version: u64,
    trigger: Trigger,
    period: Period,
    before: Flags,
    after: Flags,
    evaluated: Option<&'e PolicyEvaluated>,
    error: Option<&'e str>,
}

impl Fold {
    pub(super) fn take(&mut self, log: &mut EvaluationLog, event: &Decoded<Event>) {
        match &event.event {
            Event::Registry(RegistryEvent::PolicyCreated(facts) | RegistryEvent::PolicyChanged(facts)) => {
                let percent = facts.terms.grace_limit_percent().to_string();
                self.learn_grace(log, facts.policy, 0, percent);
            }
            Event::Site(SiteEvent::RetentionApplied(applied)) => log.mark.prune_before(applied.horizon),
            Event::Allocation(allocation) => self.take_allocation(log, event, allocation),
            _ => {}
        }
    }

    fn take_allocation(&mut self, log: &mut EvaluationLog, event: &Decoded<Event>, allocation: &AllocationEvent) {
        let Some((resource, month)) = book_of(&event.recorded.stream) else { return };
        let Some(resource) = log.resources.get(resource.as_uuid()) else { return };
        let at = event.recorded.occurred_at;
        match allocation {
            AllocationEvent::PolicyEvaluated(evaluated) => {
                if let Recorded::Full(basis) = &evaluated.basis {
                    let percent = basis.basis.terms.pause_percent.normalize().to_string();
                    self.learn_grace(log, evaluated.policy, evaluated.policy_version, percent);
                }
                let facts = Facts {
                    policy: evaluated.policy,
                    policy_version: evaluated.policy_version,
                    trigger: evaluated.trigger,
                    period: evaluated.period,
                    before: evaluated.before,
                    after: evaluated.after,
                    evaluated: Some(evaluated),
                    error: None,
                };
                self.evaluation(log, event, (resource, month), &facts);
            }
            AllocationEvent::EvaluationFailed(failed) => {
                let facts = Facts {
                    policy: failed.policy,
                    policy_version: failed.policy_version,
                    trigger: failed.trigger,
                    period: failed.period,
                    before: failed.flags,
                    after: failed.flags,
                    evaluated: None,
                    error: Some(&failed.error),
                };
                self.evaluation(log, event, (resource, month), &facts);
            }
            AllocationEvent::SettingsCommanded(commanded) => self.link(log, event, resource, commanded),
            AllocationEvent::RestrictionChanged(changed) => {
                let restriction =
                    Restriction { resource, at, month, ended: changed.from.any(), goes_on: changed.to.any() };
                self.restrictions.push(restriction);
            }
            AllocationEvent::BooksOpened(opened) if opened.carried.flags.any() => {
                // What was restricted up to the boundary belongs to the month that ended.
                self.restrictions.push(Restriction {
                    resource,
                    at,
                    month: opened.previous,
                    ended: true,
                    goes_on: true,
                });
            }
            _ => {}
        }
    }

    fn learn_grace(&mut self, log: &mut EvaluationLog, policy: PolicyId, version: u64, percent: String) {
        let Some(policy) = log.policies.get(policy.as_uuid()) else { return };
        if log.grace.get(&(policy, version)) != Some(&percent) {
            log.grace.insert((policy, version), percent.clone());
            self.grace.insert((policy, version), percent);
        }
    }

    fn evaluation(
        &mut self,
        log: &mut EvaluationLog,
        event: &Decoded<Event>,
        (resource, book): (i64, Month),
        facts: &Facts<'_>,
    ) {
        let Some(policy) = log.policies.get(facts.policy.as_uuid()) else { return };
        let recorded = &event.recorded;
        let no = log.mark.number();
        let outcome = match facts.evaluated {
            None => EvaluationOutcome::Failed,
            Some(_) if facts.before == facts.after => EvaluationOutcome::Unchanged,
            Some(_) => EvaluationOutcome::Changed,
        };
        let decided = facts.evaluated.map(|e| &e.outcome);
        let class = pack(policy, facts.period, decided.map_or(&[], |o| &o.verbs), outcome);
        let pending = self.pending.entry(resource).or_default();
        let row = (!log.is_pruned(recorded.occurred_at)).then_some(self.rows.len());
        pending.push(Pending {
            policy: facts.policy,
            row,
            at: recorded.occurred_at,
            correlation: recorded.metadata.correlation_id,
        });
        if row.is_none() {
            let delta = Delta::of(class, decided.map(|o| o.percentage));
            self.totals.entry(totals::key(month_code(book), resource)).or_default().add(&delta);
            return;
        }
        self.counts.add(class, recorded.occurred_at.timestamp_micros(), 1);
        let grace = log.grace.get(&(policy, facts.policy_version)).or_else(|| log.grace.get(&(policy, 0)));
        let [hi, lo] = SqlValue::position(recorded.position);
        self.rows.extend([
            no.into(),
            SqlValue::Uuid(recorded.event_id),
            resource.into(),
            class.into(),
            recorded.occurred_at.into(),
            hi,
            lo,
            recorded.version.cast_signed().into(),
            month_code(book).into(),
            facts.policy_version.cast_signed().into(),
            trigger_code(facts.trigger).into(),
            (flag_bits(facts.before) | flag_bits(facts.after) << 2).into(),
            decided.map(|o| o.percentage).into(),
            grace.cloned().into(),
            decided.map(|o| o.explanation.as_str()).into(),
            facts.error.into(),
            SqlValue::Null,
        ]);
    }

    /// Notes the dispatch on the evaluations of the same append that it names.
    fn link(&mut self, log: &EvaluationLog, event: &Decoded<Event>, resource: i64, commanded: &SettingsCommanded) {
        let pending = self.pending.remove(&resource).unwrap_or_default();
        let recorded = &event.recorded;
        let dispatch = commanded.dispatch.as_uuid();
        for named in std::iter::once(&commanded.policy).chain(&commanded.others) {
            let same_append =
                |p: &&Pending| p.at == recorded.occurred_at && p.correlation == recorded.metadata.correlation_id;
            match pending.iter().rev().filter(same_append).find(|p| p.policy == *named) {
                Some(evaluation) => {
                    if let Some(row) = evaluation.row {
                        self.rows[row + COLUMNS - 1] = SqlValue::Uuid(dispatch);
                    }
                }
                None => self.late.extend(log.policies.get(named.as_uuid()).map(|policy| LateLink {
                    dispatch,
                    resource,
                    at: recorded.occurred_at,
                    version: recorded.version.cast_signed(),
                    policy,
                })),
            }
        }
    }

    pub(super) async fn save(self, tx: &mut ReadTx) -> Result<(), SqlError> {
        if !self.rows.is_empty() {
            tx.insert_many(INSERT, COLUMNS, self.rows, "").await?;
        }
        self.counts.save(tx, &COUNTS).await?;
        let update = "UPDATE evaluation_log{g} SET dispatch = $1 WHERE no = (SELECT no FROM evaluation_log{g} \
                      WHERE resource = $2 AND at = $3 AND version < $4 AND version >= $5 AND (class >> 28) = $6 \
                      AND dispatch IS NULL ORDER BY no DESC LIMIT 1)";
        for late in self.late {
            let oldest = late.version - APPEND_VERSIONS_MAX;
            let values = [
                SqlValue::Uuid(late.dispatch),
                late.resource.into(),
                late.at.into(),
                late.version.into(),
                oldest.into(),
                late.policy.into(),
            ];
            tx.execute(update, &values).await?;
        }
        if !self.grace.is_empty() {
            let rows = self.grace.into_iter();
            let rows = rows.flat_map(|((p, v), percent)| [p.into(), v.cast_signed().into(), percent.into()]).collect();
            let insert = "INSERT INTO evaluation_log_grace{g} (policy, version, percent)";
            tx.insert_many(insert, 3, rows, "ON CONFLICT (policy, version) DO UPDATE SET percent = excluded.percent")
                .await?;
        }
        let mut totals = self.totals;
        totals::restrictions(tx, self.restrictions, &mut totals).await?;
        totals::add(tx, totals).await
    }
}
