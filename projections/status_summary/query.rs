//! Status of policies and offerings, and of the resources under them.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::model::{AgentStatus, percents_of};
use crate::domain::evaluate::Flags;
use crate::domain::ids::{CustomerId, DispatchId, OfferingId, PolicyId, ResourceId};
use crate::domain::period::Period;
use crate::projections::kit::{Page, flags_of, id_list};
use crate::store::sql::{ReadDb, SqlError, SqlRow, SqlValue};

/// Numbers over the resources of a policy or an offering, each resource counted once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OwnerStatus {
    /// Resources evaluated.
    pub resources_evaluated: i64,
    /// Paused now, for whatever reason.
    pub paused: i64,
    /// Slowed down now.
    pub downscaled: i64,
    /// Restricted by the policy (by some policy of the offering) now.
    pub affected_resources_count: i64,
    /// At or above a threshold of an action.
    pub fired_resources: i64,
    /// Whether any is.
    pub has_fired: bool,
    /// When that last became true; a policy's only.
    pub fired_at: Option<DateTime<Utc>>,
    /// At or above 100 %.
    pub full: i64,
    /// At or above each notification threshold (percent), lowest first; thresholds with none are left out.
    pub over_thresholds: Vec<(Decimal, i64)>,
    /// By the agent's status, in the order of [`AgentStatus::ALL`].
    pub agent: Vec<(AgentStatus, i64)>,
    /// The last evaluation.
    pub last_evaluated_at: Option<DateTime<Utc>>,
}

impl OwnerStatus {
    /// All resources in one word: the status, of those that occur, which needs somebody first.
    pub fn overall(&self) -> AgentStatus {
        const URGENT_FIRST: [AgentStatus; 5] = [
            AgentStatus::Failed,
            AgentStatus::NoAnswer,
            AgentStatus::Queued,
            AgentStatus::Sent,
            AgentStatus::Confirmed,
        ];
        let occurs = |status: &AgentStatus| self.agent.iter().any(|(known, n)| known == status && *n > 0);
        URGENT_FIRST.into_iter().find(occurs).unwrap_or(AgentStatus::NotNeeded)
    }
}

async fn counters(db: &ReadDb, owner: Uuid) -> Result<OwnerStatus, SqlError> {
    let mut status = OwnerStatus::default();
    let mut agent = AgentStatus::ALL.map(|known| (known, 0));
    let select = "SELECT counter, n FROM status_counters WHERE owner = $1";
    for row in db.query(select, &[SqlValue::Uuid(owner)]).await? {
        let n = row.i64(1)?;
        match row.text(0)? {
            "evaluated" => status.resources_evaluated = n,
            "paused" => status.paused = n,
            "downscaled" => status.downscaled = n,
            "affected" => status.affected_resources_count = n,
            "fired" => status.fired_resources = n,
            "full" => status.full = n,
            other => {
                if let Some(percent) = other.strip_prefix("over:").and_then(|percent| percent.parse().ok()) {
                    status.over_thresholds.push((percent, n));
                }
                let word = other.strip_prefix("agent:");
                if let Some(place) = agent.iter_mut().find(|(known, _)| word == Some(known.as_str())) {
                    place.1 = n;
                }
            }
        }
    }
    status.has_fired = status.fired_resources > 0;
    status.over_thresholds.sort();
    status.agent = agent.to_vec();
    Ok(status)
}

/// Status of a policy; none if there is no such policy, or no longer.
pub async fn policy_status(db: &ReadDb, policy: PolicyId) -> Result<Option<OwnerStatus>, SqlError> {
    let select = "SELECT fired_at, last_evaluated_at FROM status_policies WHERE policy = $1 AND deleted = 0";
    let Some(row) = db.query_one(select, &[SqlValue::Uuid(policy.as_uuid())]).await? else { return Ok(None) };
    let mut status = counters(db, policy.as_uuid()).await?;
    status.fired_at = row.opt_time(0)?;
    status.last_evaluated_at = row.opt_time(1)?;
    Ok(Some(status))
}

/// Status of an offering, over all its policies.
pub async fn offering_status(db: &ReadDb, offering: OfferingId) -> Result<OwnerStatus, SqlError> {
    let mut status = counters(db, offering.as_uuid()).await?;
    let select = "SELECT max(last_evaluated_at) FROM status_policies WHERE offering = $1 AND deleted = 0";
    let row = db.query_one(select, &[SqlValue::Uuid(offering.as_uuid())]).await?;
    status.last_evaluated_at = row.map_or(Ok(None), |row| row.opt_time(0))?;
    Ok(status)
}

/// Numbers over all offerings, each resource counted once: `paused`, `downscaled`, `affected`, `fired`, `full`, and by the
/// state of the agent. The cost grows with offerings and policies, not with resources.
pub async fn site_totals(db: &ReadDb) -> Result<Vec<(&'static str, u64)>, SqlError> {
    const KNOWN: [&str; 11] = [
        "paused",
        "downscaled",
        "affected",
        "fired",
        "full",
        "agent:not_needed",
        "agent:queued",
        "agent:sent",
        "agent:confirmed",
        "agent:failed",
        "agent:no_answer",
    ];
    let select = "SELECT counter, CAST(SUM(n) AS BIGINT) FROM status_counters \
                  WHERE owner NOT IN (SELECT policy FROM status_policies) GROUP BY counter";
    let mut totals = KNOWN.map(|name| (name, 0));
    for row in db.query(select, &[]).await? {
        let counter = row.text(0)?;
        if let Some(total) = totals.iter_mut().find(|(name, _)| *name == counter) {
            total.1 = row.i64(1)?.max(0).unsigned_abs();
        }
    }
    Ok(totals.to_vec())
}

/// Policies of an offering (or of all) that are not deleted.
pub async fn policies_of(db: &ReadDb, offering: Option<OfferingId>) -> Result<Vec<PolicyId>, SqlError> {
    let select =
        "SELECT policy FROM status_policies WHERE deleted = 0 AND ($1 IS NULL OR offering = $1) ORDER BY policy";
    let rows = db.query(select, &[offering.map(|o| o.as_uuid()).into()]).await?;
    rows.iter().map(|row| Ok(row.uuid(0)?.into())).collect()
}

/// How many resources of a customer (of any customer if none is named) are at or above 100 % by a policy, or by some policy
/// of an offering: `owner` is the id of either.
pub async fn at_limit(db: &ReadDb, owner: Uuid, customer: Option<CustomerId>) -> Result<i64, SqlError> {
    let select = "SELECT coalesce(sum(n), 0) FROM status_at_limit WHERE owner = $1 AND ($2 IS NULL OR customer = $2)";
    let values = [SqlValue::Uuid(owner), customer.map(|c| c.as_uuid()).into()];
    db.query_one(select, &values).await?.map_or(Ok(0), |row| row.i64(0))
}

/// Which lines to list.
#[derive(Debug, Clone, Default)]
pub struct StatusFilter {
    /// Of this policy.
    pub policy: Option<PolicyId>,
    /// Of this resource.
    pub resource: Option<ResourceId>,
    /// Of resources of these customers only.
    pub customers: Option<Vec<CustomerId>>,
    /// Restricted by the policy now.
    pub restricted: Option<bool>,
}

/// What a policy says of a resource now.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusRow {
    /// The policy.
    pub policy: PolicyId,
    /// Version last evaluated.
    pub policy_version: u64,
    /// The resource.
    pub resource: ResourceId,
    /// Its present name.
    pub resource_name: String,
    /// Its customer.
    pub customer: CustomerId,
    /// Counted in.
    pub period: Option<Period>,
    /// Percent; none before the first evaluation that worked.
    pub percentage: Option<Decimal>,
    /// At or above a threshold of an action.
    pub fired: bool,
    /// At or above 100 %.
    pub full: bool,
    /// The policy's own holds.
    pub held: Flags,
    /// The resource's restrictions, from all policies and holds.
    pub flags: Flags,
    /// Notification thresholds (percent) at or below the percentage.
    pub thresholds_reached: Vec<Decimal>,
    /// The last evaluation.
    pub evaluated_at: DateTime<Utc>,
    /// The same if it failed.
    pub failed_at: Option<DateTime<Utc>>,
    /// The last dispatch that the policy took part in.
    pub dispatch: Option<DispatchId>,
    /// How the resource's newest dispatch stands.
    pub agent: AgentStatus,
}

const SELECT_BY_POLICY: &str = "SELECT s.policy, s.version, r.id, x.name, r.customer, s.period, s.percentage, s.fired, s.is_full, \
    s.held, r.flags, s.reached, s.evaluated_at, s.failed_at, s.dispatch, r.agent \
    FROM status_rows s JOIN status_resources r ON r.no = s.resource LEFT JOIN registry_resources x ON x.id = r.id \
    WHERE s.policy = $1 AND ($2 IS NULL OR r.id = $2) AND r.live = 1 \
    AND ($3 IS NULL OR r.customer IN (SELECT unhex(value) FROM json_each($3))) \
    AND ($4 IS NULL OR (s.held > 0) = $4) ORDER BY s.resource, s.policy LIMIT $5 OFFSET $6";
const SELECT_BY_RESOURCE: &str = "SELECT s.policy, s.version, r.id, x.name, r.customer, s.period, s.percentage, s.fired, s.is_full, \
    s.held, r.flags, s.reached, s.evaluated_at, s.failed_at, s.dispatch, r.agent \
    FROM status_rows s JOIN status_resources r ON r.no = s.resource LEFT JOIN registry_resources x ON x.id = r.id \
    WHERE ($1 IS NULL OR s.policy = $1) AND s.resource = (SELECT no FROM status_resources WHERE id = $2) AND r.live = 1 \
    AND ($3 IS NULL OR r.customer IN (SELECT unhex(value) FROM json_each($3))) \
    AND ($4 IS NULL OR (s.held > 0) = $4) ORDER BY s.resource, s.policy LIMIT $5 OFFSET $6";
const SELECT_ANY: &str = "SELECT s.policy, s.version, r.id, x.name, r.customer, s.period, s.percentage, s.fired, s.is_full, \
    s.held, r.flags, s.reached, s.evaluated_at, s.failed_at, s.dispatch, r.agent \
    FROM status_rows s JOIN status_resources r ON r.no = s.resource LEFT JOIN registry_resources x ON x.id = r.id \
    WHERE ($1 IS NULL OR s.policy = $1) AND ($2 IS NULL OR r.id = $2) AND r.live = 1 \
    AND ($3 IS NULL OR r.customer IN (SELECT unhex(value) FROM json_each($3))) \
    AND ($4 IS NULL OR (s.held > 0) = $4) ORDER BY s.resource, s.policy LIMIT $5 OFFSET $6";
const COUNT: &str = "SELECT count(*) FROM status_rows s JOIN status_resources r ON r.no = s.resource \
    WHERE ($1 IS NULL OR s.policy = $1) AND ($2 IS NULL OR s.resource = (SELECT no FROM status_resources WHERE id = $2)) \
    AND r.live = 1 AND ($3 IS NULL OR r.customer IN (SELECT unhex(value) FROM json_each($3))) \
    AND ($4 IS NULL OR (s.held > 0) = $4)";

/// Lines in the order in which resources came into being, and how many there are.
pub async fn list(db: &ReadDb, filter: &StatusFilter, page: Page) -> Result<(Vec<StatusRow>, i64), SqlError> {
    let mut values = vec![
        SqlValue::from(filter.policy.map(|p| p.as_uuid())),
        filter.resource.map(|r| r.as_uuid()).into(),
        filter.customers.as_ref().map(|c| id_list(c.iter().map(CustomerId::as_uuid))).into(),
        filter.restricted.into(),
    ];
    let total = match (filter.policy, filter.resource, &filter.customers, filter.restricted) {
        (Some(policy), None, None, None) => counters(db, policy.as_uuid()).await?.resources_evaluated,
        (Some(policy), None, None, Some(true)) => counters(db, policy.as_uuid()).await?.affected_resources_count,
        _ => db.query_one(COUNT, &values).await?.map_or(Ok(0), |row| row.i64(0))?,
    };
    let select = match (filter.policy, filter.resource) {
        (_, Some(_)) => SELECT_BY_RESOURCE,
        (Some(_), None) => SELECT_BY_POLICY,
        (None, None) => SELECT_ANY,
    };
    values.extend([page.size.into(), page.offset().into()]);
    let rows = db.query(select, &values).await?;
    Ok((rows.iter().map(status_row).collect::<Result<_, SqlError>>()?, total))
}

fn status_row(row: &SqlRow) -> Result<StatusRow, SqlError> {
    Ok(StatusRow {
        policy: row.uuid(0)?.into(),
        policy_version: row.i64(1)?.cast_unsigned(),
        resource: row.uuid(2)?.into(),
        resource_name: row.opt_text(3)?.unwrap_or_default().to_owned(),
        customer: row.uuid(4)?.into(),
        period: row.text(5)?.parse().ok(),
        percentage: row.opt_decimal(6)?,
        fired: row.bool(7)?,
        full: row.bool(8)?,
        held: flags_of(row.i64(9)?),
        flags: flags_of(row.i64(10)?),
        thresholds_reached: percents_of(row.text(11)?),
        evaluated_at: row.time(12)?,
        failed_at: row.opt_time(13)?,
        dispatch: row.opt_uuid(14)?.map(Into::into),
        agent: AgentStatus::of(row.i64(15)?),
    })
}
