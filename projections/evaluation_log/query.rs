//! Lists of evaluations: pages, newest first, and maintained totals.

use std::collections::HashMap;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::COUNTS;
use super::class::{ActionFilter, EvaluationOutcome, trigger_of, verb_bits, verbs};
use crate::domain::evaluate::{Flags, Trigger, Verb};
use crate::domain::ids::{CustomerId, DispatchId, EventId, OfferingId, PolicyId, ResourceId};
use crate::domain::period::{Month, Period};
use crate::events::allocation::{CommandReport, ExecutionMode};
use crate::events::envelope::Position;
use crate::projections::kit::{
    self, Page, Reported, Reports, Span, flags_of, id_list, in_list, month_of, on_page, period_code, period_in,
    read_in, reported,
};
use crate::store::sql::{ReadDb, SqlError, SqlRow, SqlValue};

/// Which evaluations to list. What is left out does not matter.
#[derive(Debug, Clone, Default)]
pub struct EvaluationFilter {
    /// Of this policy.
    pub policy: Option<PolicyId>,
    /// Of this resource.
    pub resource: Option<ResourceId>,
    /// Counted in this period.
    pub period: Option<Period>,
    /// That called for this.
    pub action: Option<ActionFilter>,
    /// That ended so.
    pub outcome: Option<EvaluationOutcome>,
    /// In this time.
    pub span: Span,
    /// Of resources of these customers only: what somebody may see.
    pub customers: Option<Vec<CustomerId>>,
}

/// One evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationRow {
    /// The row's id: that of the event.
    pub uuid: EventId,
    /// The policy.
    pub policy: PolicyId,
    /// Its version.
    pub policy_version: u64,
    /// The resource.
    pub resource: ResourceId,
    /// Its present name; empty if the registry does not know it.
    pub resource_name: String,
    /// Its offering.
    pub offering: Option<OfferingId>,
    /// Its customer.
    pub customer: Option<CustomerId>,
    /// Counted in.
    pub period: Period,
    /// Percent; none if the evaluation failed.
    pub percentage: Option<Decimal>,
    /// Percent at which the policy pauses, whether it has that action or not.
    pub grace_limit_percentage: Option<Decimal>,
    /// What it called for: pause, downscale, notify.
    pub verbs: Vec<Verb>,
    /// What became of it.
    pub outcome: EvaluationOutcome,
    /// When.
    pub evaluated_at: DateTime<Utc>,
    /// Restrictions before.
    pub before: Flags,
    /// Restrictions after.
    pub after: Flags,
    /// Why it ran.
    pub trigger: Trigger,
    /// The sentence; empty if it failed.
    pub explanation: String,
    /// What went wrong.
    pub error: Option<String>,
    /// Where the event stands in the log.
    pub position: Position,
    /// The book it is in.
    pub book: Month,
    /// Its version there.
    pub stream_version: u64,
    /// The commands that it sent to the agent.
    pub dispatch: Option<DispatchId>,
    /// A queue has taken that message.
    pub stomp_message_sent: bool,
    /// What the agent said: none until it reported.
    pub site_agent_confirmed: Option<bool>,
    /// Its report.
    pub site_agent_response: Option<CommandReport>,
}

static SELECT: LazyLock<String> = LazyLock::new(|| {
    in_list(
        concat!(
            "SELECT e.event, p.id, e.policy_version, r.id, x.name, x.offering, x.customer, e.class, e.percentage, e.grace, \
             e.at, e.flags, e.cause, e.explanation, e.error, e.position_hi, e.position_lo, e.book, e.version, e.dispatch, \
             h.sent_at, h.success, h.mode, h.error, ",
            reported!("h"),
            " FROM evaluation_log e JOIN evaluation_log_resources r ON r.no = e.resource \
             JOIN evaluation_log_policies p ON p.no = (e.class >> 28) \
             LEFT JOIN registry_resources x ON x.id = r.id LEFT JOIN command_history h ON h.dispatch = e.dispatch \
             WHERE e.no IN"
        ),
        "ORDER BY e.at DESC, e.no DESC",
    )
});

/// The newest evaluation of each policy of these resources, by the time that the status summary has of it.
static NEWEST: LazyLock<String> = LazyLock::new(|| {
    in_list(
        "SELECT p.id, r.id, e.explanation, e.error \
         FROM status_resources r JOIN status_rows s ON s.resource = r.no \
         JOIN evaluation_log_resources n ON n.id = r.id JOIN evaluation_log_policies p ON p.id = s.policy \
         JOIN evaluation_log e ON e.resource = n.no AND e.at = s.evaluated_at AND (e.class >> 28) = p.no \
         WHERE r.id IN",
        "ORDER BY e.no",
    )
});

/// Why resources stand as they do by each of their policies: the sentence of the newest evaluation, or its error. What is
/// older than the retention is not there.
pub async fn newest_reasons(
    db: &ReadDb,
    resources: impl Iterator<Item = ResourceId>,
) -> Result<HashMap<(PolicyId, ResourceId), String>, SqlError> {
    let mut keys: Vec<ResourceId> = resources.collect();
    keys.sort_unstable();
    keys.dedup();
    let keys: Vec<SqlValue> = keys.into_iter().map(|id| SqlValue::Uuid(id.as_uuid())).collect();
    let mut reasons = HashMap::new();
    // Of several at one instant the last stays.
    for row in read_in(db, &NEWEST, &keys).await? {
        let said = row.opt_text(3)?.or(row.opt_text(2)?).unwrap_or_default().to_owned();
        reasons.insert((row.uuid(0)?.into(), row.uuid(1)?.into()), said);
    }
    Ok(reasons)
}

/// What restricts rows but resource and customers, as numbers: policy, period, verbs (mask, value), outcome; -1 = any.
struct Numbers {
    policy: Option<i64>,
    period: i64,
    verbs: (i64, i64),
    outcome: i64,
}

impl Numbers {
    /// None if the policy has no evaluation.
    async fn of(db: &ReadDb, filter: &EvaluationFilter) -> Result<Option<Self>, SqlError> {
        let policy = match filter.policy {
            None => None,
            Some(policy) => {
                let select = "SELECT no FROM evaluation_log_policies WHERE id = $1";
                match db.query_one(select, &[SqlValue::Uuid(policy.as_uuid())]).await? {
                    None => return Ok(None),
                    Some(row) => Some(row.i64(0)?),
                }
            }
        };
        Ok(Some(Self {
            policy,
            period: filter.period.map_or(-1, period_code),
            verbs: filter.action.map_or((0, 0), ActionFilter::mask),
            outcome: filter.outcome.map_or(-1, EvaluationOutcome::code),
        }))
    }

    fn accept(&self, class: i64) -> bool {
        (self.period < 0 || period_code(period_in(class)) == self.period)
            && verb_bits(class) & self.verbs.0 == self.verbs.1
            && (self.outcome < 0 || EvaluationOutcome::of_class(class).code() == self.outcome)
    }

    /// $1 resource, $2 customers, $3 from, $4 to, $5 policy, $6 period, $7 and $8 verbs, $9 outcome.
    fn values(&self, filter: &EvaluationFilter) -> Vec<SqlValue> {
        let (from, to) = filter.span.micros();
        vec![
            filter.resource.map(|r| r.as_uuid()).into(),
            filter.customers.as_ref().map(|c| id_list(c.iter().map(CustomerId::as_uuid))).into(),
            from.into(),
            to.into(),
            self.policy.unwrap_or(-1).into(),
            self.period.into(),
            self.verbs.0.into(),
            self.verbs.1.into(),
            self.outcome.into(),
        ]
    }
}

/// The conditions on rows of chosen resources, over an index that has all it asks for.
macro_rules! of_resources {
    ($select:literal, $end:literal) => {
        concat!(
            $select,
            " FROM evaluation_log e WHERE e.resource IN (SELECT r.no FROM evaluation_log_resources r \
             LEFT JOIN registry_resources x ON x.id = r.id WHERE ($1 IS NULL OR r.id = $1) \
             AND ($2 IS NULL OR x.customer IN (SELECT unhex(value) FROM json_each($2)))) \
             AND e.at >= $3 AND e.at < $4 AND ($5 < 0 OR (e.class >> 28) = $5) \
             AND ($6 < 0 OR ((e.class >> 8) & 1048575) = $6) AND ((e.class >> 2) & $7) = $8 \
             AND ($9 < 0 OR (e.class & 3) = $9)",
            $end
        )
    };
}

/// The conditions on rows of one resource.
macro_rules! of_resource {
    ($select:literal, $end:literal) => {
        concat!(
            $select,
            " FROM evaluation_log e WHERE e.resource = (SELECT r.no FROM evaluation_log_resources r \
             LEFT JOIN registry_resources x ON x.id = r.id WHERE r.id = $1 \
             AND ($2 IS NULL OR x.customer IN (SELECT unhex(value) FROM json_each($2)))) \
             AND e.at >= $3 AND e.at < $4 AND ($5 < 0 OR (e.class >> 28) = $5) \
             AND ($6 < 0 OR ((e.class >> 8) & 1048575) = $6) AND ((e.class >> 2) & $7) = $8 \
             AND ($9 < 0 OR (e.class & 3) = $9)",
            $end
        )
    };
}

/// How many evaluations there are.
pub async fn count(db: &ReadDb, filter: &EvaluationFilter) -> Result<i64, SqlError> {
    let Some(numbers) = Numbers::of(db, filter).await? else { return Ok(0) };
    if filter.resource.is_some() || filter.customers.is_some() {
        return count_of_resources(db, filter, &numbers).await;
    }
    let heads = kit::heads(db, &COUNTS, numbers.policy, filter.span, |class| numbers.accept(class)).await?;
    sum(db, &heads, filter.span).await
}

async fn count_of_resources(db: &ReadDb, filter: &EvaluationFilter, numbers: &Numbers) -> Result<i64, SqlError> {
    let sql = if filter.resource.is_some() {
        of_resource!("SELECT count(*)", "")
    } else {
        of_resources!("SELECT count(*)", "")
    };
    db.query_one(sql, &numbers.values(filter)).await?.map_or(Ok(0), |row| row.i64(0))
}

async fn sum(db: &ReadDb, heads: &[kit::Head], span: Span) -> Result<i64, SqlError> {
    let mut total = 0;
    for head in heads {
        total += kit::count(db, &COUNTS, *head, span).await?;
    }
    Ok(total)
}

/// A page of evaluations, newest first, and how many there are.
pub async fn list(db: &ReadDb, filter: &EvaluationFilter, page: Page) -> Result<(Vec<EvaluationRow>, i64), SqlError> {
    let Some(numbers) = Numbers::of(db, filter).await? else { return Ok((Vec::new(), 0)) };
    let (keys, total) = if filter.resource.is_some() || filter.customers.is_some() {
        let total = count_of_resources(db, filter, &numbers).await?;
        let sql = if filter.resource.is_some() {
            of_resource!("SELECT e.no", " ORDER BY e.at DESC, e.no DESC LIMIT $10 OFFSET $11")
        } else {
            of_resources!("SELECT e.no", " ORDER BY e.at DESC, e.no DESC LIMIT $10 OFFSET $11")
        };
        let mut values = numbers.values(filter);
        values.extend([page.size.into(), page.offset().into()]);
        let rows = db.query(sql, &values).await?;
        (rows.iter().map(|row| row.i64(0).map(SqlValue::I64)).collect::<Result<Vec<_>, _>>()?, total)
    } else {
        let heads = kit::heads(db, &COUNTS, numbers.policy, filter.span, |class| numbers.accept(class)).await?;
        let total = sum(db, &heads, filter.span).await?;
        (on_page(kit::newest(db, &COUNTS, heads, filter.span, page.end()).await?, page), total)
    };
    let (mut list, mut reports) = (Vec::with_capacity(keys.len()), Reports::new());
    for row in read_in(db, &SELECT, &keys).await? {
        let report = reports.of(db, &row, 24, (REPORT, row.opt_uuid(19)?.map(SqlValue::Uuid))).await?;
        list.push(evaluation(&row, report)?);
    }
    Ok((list, total))
}

/// The report on one dispatch, however long.
const REPORT: &str = "SELECT reported FROM command_history WHERE dispatch = $1";

fn evaluation(row: &SqlRow, report: Option<Reported>) -> Result<EvaluationRow, SqlError> {
    let class = row.i64(7)?;
    let flags = row.i64(11)?;
    let success = row.opt_bool(21)?;
    Ok(EvaluationRow {
        uuid: row.uuid(0)?.into(),
        policy: row.uuid(1)?.into(),
        policy_version: row.i64(2)?.cast_unsigned(),
        resource: row.uuid(3)?.into(),
        resource_name: row.opt_text(4)?.unwrap_or_default().to_owned(),
        offering: row.opt_uuid(5)?.map(Into::into),
        customer: row.opt_uuid(6)?.map(Into::into),
        period: period_in(class),
        percentage: row.opt_decimal(8)?,
        grace_limit_percentage: row.opt_decimal(9)?,
        verbs: verbs(class),
        outcome: EvaluationOutcome::of_class(class),
        evaluated_at: row.time(10)?,
        before: flags_of(flags),
        after: flags_of(flags >> 2),
        trigger: trigger_of(row.i64(12)?).ok_or(SqlError::Column { index: 12, expected: "a trigger" })?,
        explanation: row.opt_text(13)?.unwrap_or_default().to_owned(),
        error: row.opt_text(14)?.map(str::to_owned),
        position: row.position(15)?,
        book: month_of(row.i64(17)?).ok_or(SqlError::Column { index: 17, expected: "a month" })?,
        stream_version: row.i64(18)?.cast_unsigned(),
        dispatch: row.opt_uuid(19)?.map(Into::into),
        stomp_message_sent: row.opt_time(20)?.is_some(),
        site_agent_confirmed: success,
        site_agent_response: success.map(|success| response(row, success, report)).transpose()?,
    })
}

fn response(row: &SqlRow, success: bool, report: Option<Reported>) -> Result<CommandReport, SqlError> {
    Ok(CommandReport {
        success,
        error_message: row.opt_text(23)?.unwrap_or_default().to_owned(),
        mode: if row.opt_i64(22)? == Some(2) { ExecutionMode::Emulator } else { ExecutionMode::Production },
        commands_executed: report.unwrap_or_default().commands,
    })
}
