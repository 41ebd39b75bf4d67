//! The rows of the status summary: read when the fold needs them, and written once per batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::fold::PolicyState;
use super::model::{AgentStatus, Placed, PolicyLine, ResourceState, percents_of, percents_text};
use crate::domain::evaluate::Flags;
use crate::domain::standing::Standing;
use crate::projections::kit::{flag_bits, flags_of, in_list};
use crate::store::sql::{ReadTx, SqlError, SqlRow, SqlValue};

pub(super) static RESOURCES: LazyLock<String> = LazyLock::new(|| {
    in_list(
        "SELECT no, id, offering, customer, live, flags, dispatch, agent, by_hand, reported_at FROM status_resources{g} WHERE id IN",
        "",
    )
});
pub(super) static LINES: LazyLock<String> = LazyLock::new(|| {
    in_list(
        "SELECT resource, policy, version, percentage, period, fired, is_full, held, reached, evaluated_at, failed_at, \
         dispatch, used, may_use, trail, standing, standing_since, standing_before FROM status_rows{g} WHERE resource IN",
        "",
    )
});
pub(super) static POLICIES: LazyLock<String> = LazyLock::new(|| {
    in_list(
        "SELECT p.policy, p.offering, p.fired_at, p.last_evaluated_at, p.deleted, \
         coalesce((SELECT c.n FROM status_counters{g} c WHERE c.owner = p.policy AND c.counter = 'fired'), 0) \
         FROM status_policies{g} p WHERE p.policy IN",
        "",
    )
});

pub(super) async fn add(
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

pub(super) async fn save_resources(tx: &mut ReadTx, resources: Vec<ResourceState>) -> Result<(), SqlError> {
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
                resource.by_hand.text().into(),
                resource.reported_at.into(),
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
        let insert = "INSERT INTO status_resources{g} (no, id, offering, customer, live, flags, dispatch, agent, \
                      by_hand, reported_at)";
        let update = "ON CONFLICT (no) DO UPDATE SET live = excluded.live, flags = excluded.flags, \
                      dispatch = excluded.dispatch, agent = excluded.agent, by_hand = excluded.by_hand, \
                      reported_at = excluded.reported_at";
        tx.insert_many(insert, 10, rows, update).await?;
    }
    if !lines.is_empty() {
        let insert = "INSERT INTO status_rows{g} (resource, policy, version, percentage, period, fired, is_full, held, \
                      reached, evaluated_at, failed_at, dispatch, used, may_use, trail, standing, standing_since, standing_before)";
        let update = "ON CONFLICT (resource, policy) DO UPDATE SET version = excluded.version, \
                      percentage = excluded.percentage, period = excluded.period, fired = excluded.fired, \
                      is_full = excluded.is_full, held = excluded.held, reached = excluded.reached, \
                      evaluated_at = excluded.evaluated_at, failed_at = excluded.failed_at, dispatch = excluded.dispatch, \
                      used = excluded.used, may_use = excluded.may_use, trail = excluded.trail, \
                      standing = excluded.standing, standing_since = excluded.standing_since, \
                      standing_before = excluded.standing_before";
        tx.insert_many(insert, 18, lines, update).await?;
    }
    Ok(())
}

pub(super) async fn save_policies(tx: &mut ReadTx, policies: BTreeMap<Uuid, PolicyState>) -> Result<(), SqlError> {
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

fn line_values(resource: i64, policy: Uuid, line: PolicyLine) -> [SqlValue; 18] {
    let (standing, since) = line.standing.unwrap_or((Standing::Normal, line.evaluated_at));
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
        line.used.into(),
        line.may_use.into(),
        line.trail.into(),
        standing.code().into(),
        since.into(),
        line.stood.map(Standing::code).into(),
    ]
}

pub(super) fn empty_line(at: DateTime<Utc>) -> PolicyLine {
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
        used: None,
        may_use: None,
        trail: String::new(),
        standing: None,
        stood: None,
        changed: true,
    }
}

pub(super) fn resource(row: &SqlRow) -> Result<ResourceState, SqlError> {
    Ok(ResourceState {
        no: row.i64(0)?,
        id: row.uuid(1)?.into(),
        offering: row.uuid(2)?,
        customer: row.uuid(3)?,
        live: row.bool(4)?,
        flags: flags_of(row.i64(5)?),
        dispatch: row.opt_uuid(6)?,
        agent: AgentStatus::of(row.i64(7)?),
        by_hand: Placed::read(row.text(8)?),
        reported_at: row.opt_time(9)?,
        lines: BTreeMap::new(),
        withdrawn: BTreeSet::new(),
        changed: false,
    })
}

pub(super) fn line(row: &SqlRow) -> Result<PolicyLine, SqlError> {
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
        used: row.opt_decimal(12)?,
        may_use: row.opt_decimal(13)?,
        trail: row.text(14)?.to_owned(),
        standing: Standing::of_code(row.i64(15)?).zip(row.opt_time(16)?),
        stood: row.opt_i64(17)?.and_then(Standing::of_code),
        changed: false,
    })
}
