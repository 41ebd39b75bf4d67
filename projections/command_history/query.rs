//! Lists of commands: one row per intended command, newest dispatch first, with its commands in order.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::COUNTS;
use super::class::{DispatchStatus, bit, commands};
use crate::domain::agreement::was_run;
use crate::domain::ids::{CustomerId, DispatchId, EventId, OfferingId, PolicyId, ProjectId, ResourceId};
use crate::domain::period::Period;
use crate::domain::sacctmgr::{Command, CommandType};
use crate::events::allocation::{CommandReport, ExecutionMode};
use crate::projections::kit::{
    self, Page, Reported, Reports, Span, id_list, in_list, period_code, period_in, read_in, reported,
};
use crate::projections::registry::VisibilityFilter;
use crate::store::sql::{ReadDb, SqlError, SqlRow, SqlValue};

/// Which commands to list. What is left out does not matter.
#[derive(Debug, Clone, Default)]
pub struct CommandFilter {
    /// Caused by this policy.
    pub policy: Option<PolicyId>,
    /// On this resource.
    pub resource: Option<ResourceId>,
    /// In this period of the causing policy.
    pub period: Option<Period>,
    /// Of this type.
    pub command_type: Option<CommandType>,
    /// Whose dispatch stands so.
    pub status: Option<DispatchStatus>,
    /// Decided in this time.
    pub span: Span,
    /// On resources of these customers only.
    pub customers: Option<Vec<CustomerId>>,
    /// On resources of this offering.
    pub offering: Option<OfferingId>,
    /// On resources that the asker may see; none: all.
    pub visible: Option<VisibilityFilter>,
}

impl CommandFilter {
    /// Only some resources are asked for, which have few dispatches each: no count by class knows them.
    pub(super) fn names_resources(&self) -> bool {
        self.resource.is_some() || self.customers.is_some() || self.offering.is_some() || self.visible.is_some()
    }
}

/// One intended command.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandRow {
    /// Derived from the dispatch and the command's place in it.
    pub uuid: Uuid,
    /// The dispatch it belongs to.
    pub dispatch: DispatchId,
    /// The policy that caused it.
    pub policy: PolicyId,
    /// The resource.
    pub resource: ResourceId,
    /// Its present name.
    pub resource_name: String,
    /// Period of the causing policy.
    pub period: Period,
    /// What it is about, in words, as text, with its values.
    pub command: Command,
    /// When it was decided.
    pub queued_at: DateTime<Utc>,
    /// When a queue took it.
    pub sent_at: Option<DateTime<Utc>>,
    /// When the agent reported.
    pub answered_at: Option<DateTime<Utc>>,
    /// How the dispatch stands.
    pub status: DispatchStatus,
    /// Where the agent ran it.
    pub execution_mode: Option<ExecutionMode>,
    /// None until reported.
    pub success: Option<bool>,
    /// What went wrong.
    pub error_message: Option<String>,
    /// Whether it is among the commands that were reported, where that can be said.
    pub ran: Option<bool>,
    /// What the agent says that it ran for the whole dispatch.
    pub reported: Option<Vec<String>>,
}

/// The id of a dispatch's command: `UUIDv5` of its place (from 0) in the namespace of the dispatch.
fn command_uuid(dispatch: Uuid, place: usize) -> Uuid {
    Uuid::new_v5(&dispatch, place.to_string().as_bytes())
}

/// The report on one dispatch, however long.
const REPORT: &str = "SELECT reported FROM command_history WHERE dispatch = $1";

/// What was reported on the dispatch of a row.
pub(super) async fn report_of(db: &ReadDb, reports: &mut Reports, row: &SqlRow) -> Result<Option<Reported>, SqlError> {
    reports.of(db, row, 11, (REPORT, Some(row.uuid(0)?.into()))).await
}

pub(super) static SELECT: LazyLock<String> = LazyLock::new(|| {
    in_list(
        concat!(
            "SELECT h.dispatch, p.id, r.id, x.name, h.class, h.at, h.sent_at, h.answered_at, h.mode, h.success, h.error, ",
            reported!("h"),
            ", h.commands FROM command_history h JOIN command_history_resources r ON r.no = h.resource \
             JOIN command_history_policies p ON p.no = (h.class >> 28) LEFT JOIN registry_resources x ON x.id = r.id \
             WHERE h.no IN"
        ),
        "ORDER BY h.at DESC, h.no DESC",
    )
});

/// What restricts dispatches but resource and customers, as numbers; -1 = any.
pub(super) struct Numbers {
    pub(super) policy: Option<i64>,
    period: i64,
    status: Option<DispatchStatus>,
    types: i64,
}

impl Numbers {
    pub(super) async fn of(db: &ReadDb, filter: &CommandFilter) -> Result<Option<Self>, SqlError> {
        let policy = match filter.policy {
            None => None,
            Some(policy) => match policy_number(db, policy).await? {
                None => return Ok(None),
                number => number,
            },
        };
        let period = filter.period.map_or(-1, period_code);
        Ok(Some(Self { policy, period, status: filter.status, types: filter.command_type.map_or(15, bit) }))
    }

    pub(super) fn accept(&self, class: i64) -> bool {
        commands(class, self.types) > 0
            && self.policy.is_none_or(|policy| kit::policy_in(class) == policy)
            && (self.period < 0 || period_code(period_in(class)) == self.period)
            && self.status.is_none_or(|status| DispatchStatus::of_class(class) == status)
    }
}

async fn policy_number(db: &ReadDb, policy: PolicyId) -> Result<Option<i64>, SqlError> {
    let select = "SELECT no FROM command_history_policies WHERE id = $1";
    db.query_one(select, &[SqlValue::Uuid(policy.as_uuid())]).await?.map(|row| row.i64(0)).transpose()
}

/// The dispatches of resources that are chosen in one of two ways.
macro_rules! of_resources {
    ($of:literal, $chosen:literal) => {
        concat!(
            "SELECT h.no, h.class FROM command_history h WHERE h.resource ",
            $of,
            " FROM command_history_resources r LEFT JOIN registry_resources x ON x.id = r.id WHERE ",
            $chosen,
            " AND ($2 IS NULL OR x.customer IN (SELECT unhex(value) FROM json_each($2))) \
             AND ($5 IS NULL OR x.customer IN (SELECT unhex(value) FROM json_each($5)) \
             OR x.project IN (SELECT unhex(value) FROM json_each($6)) \
             OR x.offering IN (SELECT unhex(value) FROM json_each($7))) \
             AND ($8 IS NULL OR x.offering = $8)) \
             AND h.at >= $3 AND h.at < $4 ORDER BY h.at DESC, h.no DESC"
        )
    };
}

/// Number and class of the dispatches of chosen resources, newest first. A resource has few: no page is needed.
pub(super) async fn of_resources(
    db: &ReadDb,
    filter: &CommandFilter,
    numbers: &Numbers,
) -> Result<Vec<(i64, i64)>, SqlError> {
    let (from, to) = filter.span.micros();
    let visible = filter.visible.as_ref();
    let values = [
        SqlValue::from(filter.resource.map(|r| r.as_uuid())),
        filter.customers.as_ref().map(|c| id_list(c.iter().map(CustomerId::as_uuid))).into(),
        from.into(),
        to.into(),
        visible.map(|v| id_list(v.customers.iter().map(CustomerId::as_uuid))).into(),
        visible.map(|v| id_list(v.projects.iter().map(ProjectId::as_uuid))).into(),
        visible.map(|v| id_list(v.offerings.iter().map(OfferingId::as_uuid))).into(),
        filter.offering.map(|o| o.as_uuid()).into(),
    ];
    let one = of_resources!("= (SELECT r.no", "r.id = $1");
    let some = of_resources!("IN (SELECT r.no", "($1 IS NULL OR r.id = $1)");
    let rows = db.query(if filter.resource.is_some() { one } else { some }, &values).await?;
    let mut found = rows.iter().map(|row| Ok((row.i64(0)?, row.i64(1)?))).collect::<Result<Vec<_>, SqlError>>()?;
    found.retain(|(_, class)| numbers.accept(*class));
    Ok(found)
}

/// How many commands there are.
pub async fn count(db: &ReadDb, filter: &CommandFilter) -> Result<i64, SqlError> {
    let Some(numbers) = Numbers::of(db, filter).await? else { return Ok(0) };
    if filter.names_resources() {
        let found = of_resources(db, filter, &numbers).await?;
        return Ok(found.iter().map(|(_, class)| commands(*class, numbers.types)).sum());
    }
    let heads = kit::heads(db, &COUNTS, numbers.policy, filter.span, |class| numbers.accept(class)).await?;
    sum(db, &heads, filter.span, numbers.types).await
}

async fn sum(db: &ReadDb, heads: &[kit::Head], span: Span, types: i64) -> Result<i64, SqlError> {
    let mut total = 0;
    for head in heads {
        total += kit::count(db, &COUNTS, *head, span).await? * commands(head.class, types);
    }
    Ok(total)
}

/// A page of commands, newest dispatch first, and how many there are.
pub async fn list(db: &ReadDb, filter: &CommandFilter, page: Page) -> Result<(Vec<CommandRow>, i64), SqlError> {
    let Some(numbers) = Numbers::of(db, filter).await? else { return Ok((Vec::new(), 0)) };
    let (dispatches, total): (Vec<i64>, i64) = if filter.names_resources() {
        let found = of_resources(db, filter, &numbers).await?;
        let total = found.iter().map(|(_, class)| commands(*class, numbers.types)).sum();
        (found.into_iter().map(|(no, _)| no).collect(), total)
    } else {
        let heads = kit::heads(db, &COUNTS, numbers.policy, filter.span, |class| numbers.accept(class)).await?;
        let total = sum(db, &heads, filter.span, numbers.types).await?;
        // Each dispatch here has at least one command that counts, so these reach the end of the page.
        let found = kit::newest(db, &COUNTS, heads, filter.span, page.end()).await?;
        (found.into_iter().map(|(_, no)| no).collect(), total)
    };
    Ok((on_page(db, &dispatches, filter.command_type, page).await?, total))
}

/// Reads dispatches until the page is full; those before it are read too, since their commands have to be counted.
async fn on_page(
    db: &ReadDb,
    dispatches: &[i64],
    command_type: Option<CommandType>,
    page: Page,
) -> Result<Vec<CommandRow>, SqlError> {
    let mut skip = usize::try_from(page.offset()).unwrap_or(usize::MAX);
    let size = usize::try_from(page.size).unwrap_or(usize::MAX);
    let (mut list, mut reports) = (Vec::new(), Reports::new());
    for some in dispatches.chunks(128) {
        let keys: Vec<SqlValue> = some.iter().map(|no| SqlValue::I64(*no)).collect();
        for row in read_in(db, &SELECT, &keys).await? {
            let commands = intended(&row)?;
            let mut report = None;
            for (place, command) in commands.into_iter().enumerate() {
                if command_type.is_some_and(|wanted| command.command_type != wanted) {
                    continue;
                }
                if skip > 0 {
                    skip -= 1;
                    continue;
                }
                if report.is_none() {
                    report = Some(report_of(db, &mut reports, &row).await?);
                }
                list.push(command_row(&row, place, command, report.as_ref().and_then(Option::as_ref))?);
                if list.len() == size {
                    return Ok(list);
                }
            }
        }
    }
    Ok(list)
}

/// The commands of a dispatch.
pub(super) fn intended(row: &SqlRow) -> Result<Vec<Command>, SqlError> {
    let wrong = |_| SqlError::Column { index: 13, expected: "a JSON list of commands" };
    serde_json::from_str(row.text(13)?).map_err(wrong)
}

pub(super) fn mode(code: i64) -> ExecutionMode {
    if code == 2 { ExecutionMode::Emulator } else { ExecutionMode::Production }
}

fn command_row(
    row: &SqlRow,
    place: usize,
    command: Command,
    report: Option<&Reported>,
) -> Result<CommandRow, SqlError> {
    let (dispatch, class) = (row.uuid(0)?, row.i64(4)?);
    Ok(CommandRow {
        uuid: command_uuid(dispatch, place),
        dispatch: dispatch.into(),
        policy: row.uuid(1)?.into(),
        resource: row.uuid(2)?.into(),
        resource_name: row.opt_text(3)?.unwrap_or_default().to_owned(),
        period: period_in(class),
        ran: report.filter(|report| report.whole).and_then(|report| was_run(&command, Some(&report.commands))),
        command,
        queued_at: row.time(5)?,
        sent_at: row.opt_time(6)?,
        answered_at: row.opt_time(7)?,
        status: DispatchStatus::of_class(class),
        execution_mode: row.opt_i64(8)?.map(mode),
        success: row.opt_bool(9)?,
        error_message: row.opt_text(10)?.map(str::to_owned),
        reported: report.map(|report| report.commands.clone()),
    })
}

/// Which unmatched results to list.
#[derive(Debug, Clone, Default)]
pub struct UnmatchedFilter {
    /// Reported under this policy.
    pub policy: Option<PolicyId>,
    /// On this resource.
    pub resource: Option<ResourceId>,
}

/// A report that answers nothing known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmatchedRow {
    /// The event.
    pub uuid: EventId,
    /// Reported under.
    pub policy: PolicyId,
    /// On.
    pub resource: ResourceId,
    /// When.
    pub at: DateTime<Utc>,
    /// What was said.
    pub report: CommandReport,
}

/// An unmatched report, however long.
const UNMATCHED: &str = "SELECT reported FROM unmatched_results WHERE event = $1";

/// Unmatched results, newest first, and how many there are.
pub async fn unmatched(
    db: &ReadDb,
    filter: &UnmatchedFilter,
    page: Page,
) -> Result<(Vec<UnmatchedRow>, i64), SqlError> {
    let mut values =
        vec![SqlValue::from(filter.policy.map(|p| p.as_uuid())), filter.resource.map(|r| r.as_uuid()).into()];
    let count = "SELECT count(*) FROM unmatched_results u JOIN command_history_resources r ON r.no = u.resource \
                 JOIN command_history_policies p ON p.no = u.policy \
                 WHERE ($1 IS NULL OR p.id = $1) AND ($2 IS NULL OR r.id = $2)";
    let total = db.query_one(count, &values).await?.map_or(Ok(0), |row| row.i64(0))?;
    values.extend([page.size.into(), page.offset().into()]);
    let select = concat!(
        "SELECT u.event, p.id, r.id, u.at, u.mode, u.success, u.error, ",
        reported!("u"),
        " FROM unmatched_results u \
                  JOIN command_history_resources r ON r.no = u.resource \
                  JOIN command_history_policies p ON p.no = u.policy \
                  WHERE ($1 IS NULL OR p.id = $1) AND ($2 IS NULL OR r.id = $2) \
                  ORDER BY u.no DESC LIMIT $3 OFFSET $4"
    );
    let (mut list, mut reports) = (Vec::new(), Reports::new());
    for row in db.query(select, &values).await? {
        let report = reports.of(db, &row, 7, (UNMATCHED, Some(row.uuid(0)?.into()))).await?.unwrap_or_default();
        list.push(UnmatchedRow {
            uuid: row.uuid(0)?.into(),
            policy: row.uuid(1)?.into(),
            resource: row.uuid(2)?.into(),
            at: row.time(3)?,
            report: CommandReport {
                success: row.bool(5)?,
                error_message: row.text(6)?.to_owned(),
                mode: mode(row.i64(4)?),
                commands_executed: report.commands,
            },
        });
    }
    Ok((list, total))
}
