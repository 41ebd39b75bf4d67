//! The standing of resources with the amounts, names and times that a list shows: read in bulk, never row by row.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::model::{AgentStatus, Placed};
use crate::domain::evaluate::Flags;
use crate::domain::forecast::Trail;
use crate::domain::ids::{CustomerId, DispatchId, OfferingId, PolicyId, ProjectId, ResourceId};
use crate::domain::period::Period;
use crate::domain::standing::Standing;
use crate::projections::kit::{flags_of, id_list};
use crate::projections::registry::VisibilityFilter;
use crate::store::sql::{ReadDb, SqlError, SqlRow, SqlValue};

/// Which resources, and under which policies.
#[derive(Debug, Clone, Default)]
pub struct StandingFilter {
    /// This resource.
    pub resource: Option<ResourceId>,
    /// Under this policy.
    pub policy: Option<PolicyId>,
    /// On this offering.
    pub offering: Option<OfferingId>,
    /// Of this customer.
    pub customer: Option<CustomerId>,
    /// Of this project.
    pub project: Option<ProjectId>,
    /// What the asker may see; none: everything.
    pub visible: Option<VisibilityFilter>,
}

/// What a policy says of a resource.
#[derive(Debug, Clone, PartialEq)]
pub struct StandingLine {
    /// The policy.
    pub policy: PolicyId,
    /// Its version that was evaluated last.
    pub version: u64,
    /// The period that was counted.
    pub period: Option<Period>,
    /// Percent; none before the first evaluation that worked.
    pub percentage: Option<Decimal>,
    /// Weighted usage in the period.
    pub used: Option<Decimal>,
    /// Weighted effective allocation.
    pub may_use: Option<Decimal>,
    /// What was used at the end of the last days.
    pub trail: Trail,
    /// The policy's own holds.
    pub held: Flags,
    /// The last evaluation.
    pub evaluated_at: DateTime<Utc>,
    /// The same if it failed.
    pub failed_at: Option<DateTime<Utc>>,
}

/// A live resource under one of its policies, or under none.
#[derive(Debug, Clone, PartialEq)]
pub struct StandingRow {
    /// The resource.
    pub resource: ResourceId,
    /// Its present name.
    pub name: String,
    /// Unique short name.
    pub slug: String,
    /// The SLURM account.
    pub backend_id: String,
    /// Its project.
    pub project: ProjectId,
    /// Its customer.
    pub customer: CustomerId,
    /// Its offering.
    pub offering: OfferingId,
    /// When it came into being.
    pub created: DateTime<Utc>,
    /// Its restrictions, from all policies and holds.
    pub flags: Flags,
    /// Its newest dispatch, if it ever had one.
    pub dispatch: Option<DispatchId>,
    /// How that stands.
    pub agent: AgentStatus,
    /// The last report of usage that said something new.
    pub reported_at: Option<DateTime<Utc>>,
    /// How it stands.
    pub standing: Standing,
    /// Since when; none where no policy applies.
    pub since: Option<DateTime<Utc>>,
    /// How it stood before that, if it did.
    pub stood: Option<Standing>,
    /// What the policy says of it; none where no policy applies.
    pub line: Option<StandingLine>,
}

const SELECT: &str = "SELECT r.id, x.name, x.slug, x.backend_id, x.project, r.customer, r.offering, x.born_at, r.flags, r.agent, \
    r.by_hand, r.reported_at, s.policy, s.version, s.period, s.percentage, s.used, s.may_use, s.trail, s.held, s.evaluated_at, \
    s.failed_at, s.standing, s.standing_since, s.standing_before, r.dispatch \
    FROM status_resources r JOIN registry_resources x ON x.id = r.id LEFT JOIN status_rows s ON s.resource = r.no \
    WHERE r.live = 1 AND ($1 IS NULL OR r.id = $1) AND ($2 IS NULL OR s.policy = $2) AND ($3 IS NULL OR r.offering = $3) \
    AND ($4 IS NULL OR r.customer = $4) AND ($5 IS NULL OR x.project = $5) \
    AND ($6 IS NULL OR r.customer IN (SELECT unhex(value) FROM json_each($6)) \
    OR x.project IN (SELECT unhex(value) FROM json_each($7)) \
    OR r.offering IN (SELECT unhex(value) FROM json_each($8))) \
    ORDER BY r.no, s.policy";

/// Live resources, each under each of its policies, in the order in which they came into being.
pub async fn standings(db: &ReadDb, filter: &StandingFilter) -> Result<Vec<StandingRow>, SqlError> {
    let visible = filter.visible.as_ref();
    let values = [
        SqlValue::from(filter.resource.map(|id| id.as_uuid())),
        filter.policy.map(|id| id.as_uuid()).into(),
        filter.offering.map(|id| id.as_uuid()).into(),
        filter.customer.map(|id| id.as_uuid()).into(),
        filter.project.map(|id| id.as_uuid()).into(),
        visible.map(|v| id_list(v.customers.iter().map(CustomerId::as_uuid))).into(),
        visible.map(|v| id_list(v.projects.iter().map(ProjectId::as_uuid))).into(),
        visible.map(|v| id_list(v.offerings.iter().map(OfferingId::as_uuid))).into(),
    ];
    db.query(SELECT, &values).await?.iter().map(standing).collect()
}

fn standing(row: &SqlRow) -> Result<StandingRow, SqlError> {
    let flags = flags_of(row.i64(8)?);
    let line = row.opt_uuid(12)?.map(|policy| line(row, policy.into())).transpose()?;
    let stands = match row.opt_i64(22)? {
        Some(code) => Standing::of_code(code).ok_or(SqlError::Column { index: 22, expected: "a standing" })?,
        None => Standing::of(flags, Placed::read(row.text(10)?).by_hand(), false),
    };
    Ok(StandingRow {
        resource: row.uuid(0)?.into(),
        name: row.text(1)?.to_owned(),
        slug: row.text(2)?.to_owned(),
        backend_id: row.text(3)?.to_owned(),
        project: row.uuid(4)?.into(),
        customer: row.uuid(5)?.into(),
        offering: row.uuid(6)?.into(),
        created: row.time(7)?,
        flags,
        dispatch: row.opt_uuid(25)?.map(Into::into),
        agent: AgentStatus::of(row.i64(9)?),
        reported_at: row.opt_time(11)?,
        standing: stands,
        since: row.opt_time(23)?,
        stood: row.opt_i64(24)?.and_then(Standing::of_code),
        line,
    })
}

fn line(row: &SqlRow, policy: PolicyId) -> Result<StandingLine, SqlError> {
    Ok(StandingLine {
        policy,
        version: row.i64(13)?.cast_unsigned(),
        period: row.text(14)?.parse().ok(),
        percentage: row.opt_decimal(15)?,
        used: row.opt_decimal(16)?,
        may_use: row.opt_decimal(17)?,
        trail: Trail::read(row.text(18)?),
        held: flags_of(row.i64(19)?),
        evaluated_at: row.time(20)?,
        failed_at: row.opt_time(21)?,
    })
}
