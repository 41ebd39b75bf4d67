//! Retention: deletes rows of the evaluation log and the command history that are strictly older than the horizon.
//!
//! The horizon is an event; the consumers keep it with their marks and write nothing older. This module prunes existing
//! rows in small transactions, each complete in itself: after an interruption it continues later, and it prunes a newly
//! rebuilt table in the same way. The result is a fold of the log, whenever pruning ran.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};

use super::evaluation_log::{self, Delta, EvaluationFilter, add_totals};
use super::kit::{CountSql, Counts, Mark, MarkSql, Span, execute_in, in_list};
use super::{command_history, kit};
use crate::store::sql::{ReadDb, ReadTx, SqlError, SqlRow, SqlValue};

/// Rows that one transaction prunes.
const BATCH: i64 = 2_000;

/// How many rows were, or would be, pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Of the evaluation log.
    pub evaluations: i64,
    /// Of the command history, in dispatches.
    pub dispatches: i64,
}

static DROP_EVALUATIONS: LazyLock<String> = LazyLock::new(|| in_list("DELETE FROM evaluation_log{g} WHERE no IN", ""));
static DROP_DISPATCHES: LazyLock<String> = LazyLock::new(|| in_list("DELETE FROM command_history{g} WHERE no IN", ""));

/// The newest horizon that the log holds, as far as it was applied.
pub async fn horizon(db: &ReadDb) -> Result<Option<DateTime<Utc>>, SqlError> {
    let select = "SELECT max(horizon) FROM (SELECT horizon FROM evaluation_log_mark UNION ALL \
                  SELECT horizon FROM command_history_mark) AS marks";
    db.query_one(select, &[]).await?.map_or(Ok(None), |row| row.opt_time(0))
}

/// How many rows a horizon would prune; nothing is changed.
pub async fn dry_run(db: &ReadDb, horizon: DateTime<Utc>) -> Result<Pruned, SqlError> {
    let span = Span { from: None, to: Some(horizon) };
    let evaluations = evaluation_log::count(db, &EvaluationFilter { span, ..EvaluationFilter::default() }).await?;
    let mut dispatches = 0;
    for head in kit::heads(db, &command_history::COUNTS, None, span, |_| true).await? {
        dispatches += kit::count(db, &command_history::COUNTS, head, span).await?;
    }
    Ok(Pruned { evaluations, dispatches })
}

/// Prunes what is older than the horizons that the tables know, in small transactions; `progress` hears of each.
pub async fn prune(db: &ReadDb, progress: impl FnMut(Pruned) + Send) -> Result<Pruned, SqlError> {
    prune_in_batches(db, BATCH, progress).await
}

/// The same with so many rows in a transaction at most. A writer waits for one of them, not for the whole.
pub async fn prune_in_batches(
    db: &ReadDb,
    batch: i64,
    mut progress: impl FnMut(Pruned) + Send,
) -> Result<Pruned, SqlError> {
    let mut pruned = Pruned::default();
    loop {
        let evaluations = prune_evaluations(db, batch).await?;
        let dispatches = prune_dispatches(db, batch).await?;
        if evaluations + dispatches == 0 {
            return Ok(pruned);
        }
        pruned.evaluations += evaluations;
        pruned.dispatches += dispatches;
        progress(pruned);
    }
}

/// The oldest rows before the horizon, class by class, `batch` at most.
async fn oldest(
    tx: &mut ReadTx,
    mark: &MarkSql,
    classes: &'static str,
    select: &'static str,
    batch: i64,
) -> Result<Vec<SqlRow>, SqlError> {
    let mut found = Vec::new();
    let Some(horizon) = Mark::load(tx, mark).await?.horizon else { return Ok(found) };
    for class in tx.query(classes, &[]).await? {
        let left = batch - i64::try_from(found.len()).unwrap_or(batch);
        if left <= 0 {
            break;
        }
        found.extend(tx.query(select, &[class.i64(0)?.into(), horizon.into(), left.into()]).await?);
    }
    Ok(found)
}

/// Takes rows (no, class, at, …) out of the counts and the table.
async fn drop_rows(
    tx: &mut ReadTx,
    rows: &[SqlRow],
    counts: &CountSql,
    drop: &'static LazyLock<String>,
) -> Result<(), SqlError> {
    let mut less = Counts::default();
    let mut keys: Vec<SqlValue> = Vec::with_capacity(rows.len());
    for row in rows {
        less.add(row.i64(1)?, row.i64(2)?, -1);
        keys.push(row.i64(0)?.into());
    }
    less.save(tx, counts).await?;
    execute_in(tx, drop, &keys).await
}

async fn prune_evaluations(db: &ReadDb, batch: i64) -> Result<i64, SqlError> {
    let mut tx = db.begin().await?;
    let classes = "SELECT class FROM evaluation_log_counts{g} WHERE kind = 0 ORDER BY class";
    let select = "SELECT no, class, at, book, resource, percentage FROM evaluation_log{g} \
                  WHERE class = $1 AND at < $2 ORDER BY at, no LIMIT $3";
    let rows = oldest(&mut tx, &evaluation_log::MARK, classes, select, batch).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let mut totals: BTreeMap<i64, Delta> = BTreeMap::new();
    for row in &rows {
        let delta = Delta::of(row.i64(1)?, row.opt_decimal(5)?);
        totals.entry(evaluation_log::totals_key(row.i64(3)?, row.i64(4)?)).or_default().add(&delta);
    }
    add_totals(&mut tx, totals).await?;
    drop_rows(&mut tx, &rows, &evaluation_log::COUNTS, &DROP_EVALUATIONS).await?;
    tx.commit().await?;
    Ok(i64::try_from(rows.len()).unwrap_or(i64::MAX))
}

async fn prune_dispatches(db: &ReadDb, batch: i64) -> Result<i64, SqlError> {
    let mut tx = db.begin().await?;
    let classes = "SELECT class FROM command_history_counts{g} WHERE kind = 0 ORDER BY class";
    let select = "SELECT no, class, at FROM command_history{g} WHERE class = $1 AND at < $2 ORDER BY at, no LIMIT $3";
    let rows = oldest(&mut tx, &command_history::MARK, classes, select, batch).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    drop_rows(&mut tx, &rows, &command_history::COUNTS, &DROP_DISPATCHES).await?;
    tx.commit().await?;
    Ok(i64::try_from(rows.len()).unwrap_or(i64::MAX))
}
