//! Lists of dispatches: the intended commands beside those that the agent reports it ran.

use std::collections::HashMap;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};

use super::COUNTS;
use super::class::DispatchStatus;
use super::query::{CommandFilter, Numbers, SELECT, intended, mode, of_resources, report_of};
use crate::domain::agreement::{differences_of, was_run};
use crate::domain::ids::{DispatchId, PolicyId, ResourceId};
use crate::domain::period::Period;
use crate::domain::sacctmgr::Command;
use crate::events::allocation::ExecutionMode;
use crate::projections::kit::{self, Page, Reported, Reports, in_list, period_in, read_in};
use crate::store::sql::{ReadDb, SqlError, SqlRow, SqlValue};

/// One dispatch.
#[derive(Debug, Clone, PartialEq)]
pub struct DispatchRow {
    /// Its id.
    pub dispatch: DispatchId,
    /// The policy that caused it.
    pub policy: PolicyId,
    /// The resource.
    pub resource: ResourceId,
    /// Its present name.
    pub resource_name: String,
    /// Period of the causing policy.
    pub period: Period,
    /// When it was decided.
    pub queued_at: DateTime<Utc>,
    /// When a queue took it.
    pub sent_at: Option<DateTime<Utc>>,
    /// When the agent reported.
    pub answered_at: Option<DateTime<Utc>>,
    /// How it stands.
    pub status: DispatchStatus,
    /// Where the agent ran it.
    pub execution_mode: Option<ExecutionMode>,
    /// None until reported.
    pub success: Option<bool>,
    /// What went wrong.
    pub error_message: Option<String>,
    /// What was meant.
    pub intended: Vec<Command>,
    /// What the agent says that it ran; none until reported.
    pub reported: Option<Vec<String>>,
    /// Whether each of what was meant is among what was run, where that can be said.
    pub ran: Vec<Option<bool>>,
    /// Where both are not the same, in sentences.
    pub differences: Vec<String>,
}

/// A page of dispatches, newest first, and how many there are. The filter's type of command asks for dispatches that have
/// such a command.
pub async fn dispatches(db: &ReadDb, filter: &CommandFilter, page: Page) -> Result<(Vec<DispatchRow>, i64), SqlError> {
    let Some(numbers) = Numbers::of(db, filter).await? else { return Ok((Vec::new(), 0)) };
    let (found, total): (Vec<i64>, i64) = if filter.names_resources() {
        let found = of_resources(db, filter, &numbers).await?;
        let total = i64::try_from(found.len()).unwrap_or(i64::MAX);
        (found.into_iter().map(|(no, _)| no).collect(), total)
    } else {
        let heads = kit::heads(db, &COUNTS, numbers.policy, filter.span, |class| numbers.accept(class)).await?;
        let mut total = 0;
        for head in &heads {
            total += kit::count(db, &COUNTS, *head, filter.span).await?;
        }
        let found = kit::newest(db, &COUNTS, heads, filter.span, page.end()).await?;
        (found.into_iter().map(|(_, no)| no).collect(), total)
    };
    let (skip, size) = (usize::try_from(page.offset()), usize::try_from(page.size));
    let on_page = found.into_iter().skip(skip.unwrap_or(usize::MAX)).take(size.unwrap_or(usize::MAX));
    let keys: Vec<SqlValue> = on_page.map(SqlValue::I64).collect();
    let (mut list, mut reports) = (Vec::with_capacity(keys.len()), Reports::new());
    for some in keys.chunks(128) {
        for row in read_in(db, &SELECT, some).await? {
            let report = report_of(db, &mut reports, &row).await?;
            list.push(dispatch_row(&row, report)?);
        }
    }
    Ok((list, total))
}

/// One dispatch; none where there never was one of this id, or its row is older than the retention.
pub async fn dispatch(db: &ReadDb, id: DispatchId) -> Result<Option<DispatchRow>, SqlError> {
    let find = "SELECT no FROM command_history WHERE dispatch = $1";
    let Some(found) = db.query_one(find, &[SqlValue::Uuid(id.as_uuid())]).await? else { return Ok(None) };
    let rows = read_in(db, &SELECT, &[found.i64(0)?.into()]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let report = report_of(db, &mut Reports::new(), row).await?;
    dispatch_row(row, report).map(Some)
}

/// How far a dispatch has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Travelled {
    /// When it was decided.
    pub queued_at: DateTime<Utc>,
    /// When a queue took it.
    pub sent_at: Option<DateTime<Utc>>,
    /// When the agent reported.
    pub answered_at: Option<DateTime<Utc>>,
    /// What went wrong.
    pub error: Option<String>,
}

static TRAVELLED: LazyLock<String> = LazyLock::new(|| {
    in_list("SELECT dispatch, at, sent_at, answered_at, error FROM command_history WHERE dispatch IN", "")
});

/// How far these dispatches have come; what is older than the retention is not there.
pub async fn travelled(
    db: &ReadDb,
    dispatches: impl Iterator<Item = DispatchId>,
) -> Result<HashMap<DispatchId, Travelled>, SqlError> {
    let keys: Vec<SqlValue> = dispatches.map(|id| SqlValue::Uuid(id.as_uuid())).collect();
    let mut found = HashMap::with_capacity(keys.len());
    for some in keys.chunks(128) {
        for row in read_in(db, &TRAVELLED, some).await? {
            let travelled = Travelled {
                queued_at: row.time(1)?,
                sent_at: row.opt_time(2)?,
                answered_at: row.opt_time(3)?,
                error: row.opt_text(4)?.map(str::to_owned),
            };
            found.insert(row.uuid(0)?.into(), travelled);
        }
    }
    Ok(found)
}

fn dispatch_row(row: &SqlRow, report: Option<Reported>) -> Result<DispatchRow, SqlError> {
    let class = row.i64(4)?;
    let (intended, success) = (intended(row)?, row.opt_bool(9)?);
    let differences = match (&report, success) {
        (Some(report), Some(success)) if report.whole => differences_of(&intended, &report.commands, success),
        _ => Vec::new(),
    };
    let whole = report.as_ref().filter(|report| report.whole).map(|report| report.commands.as_slice());
    let ran = intended.iter().map(|command| was_run(command, whole)).collect();
    Ok(DispatchRow {
        dispatch: row.uuid(0)?.into(),
        policy: row.uuid(1)?.into(),
        resource: row.uuid(2)?.into(),
        resource_name: row.opt_text(3)?.unwrap_or_default().to_owned(),
        period: period_in(class),
        queued_at: row.time(5)?,
        sent_at: row.opt_time(6)?,
        answered_at: row.opt_time(7)?,
        status: DispatchStatus::of_class(class),
        execution_mode: row.opt_i64(8)?.map(mode),
        success,
        error_message: row.opt_text(10)?.map(str::to_owned),
        ran,
        intended,
        reported: report.map(|report| report.commands),
        differences,
    })
}
