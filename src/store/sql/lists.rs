//! Statements with a list of keys, with one text for any number of keys.

use std::sync::LazyLock;

use super::{ReadDb, ReadTx, SqlError, SqlRow, SqlValue};

/// Keys that one `IN` list holds; shorter lists repeat their last key.
pub const IN_LIST: usize = 128;

/// `before ($1, …, $128) after`.
pub fn in_list(before: &str, after: &str) -> String {
    let places: Vec<String> = (1..=IN_LIST).map(|n| format!("${n}")).collect();
    format!("{before} ({}) {after}", places.join(","))
}

fn padded(keys: &[SqlValue]) -> Vec<SqlValue> {
    let mut values = keys.to_vec();
    if let Some(last) = keys.last() {
        values.resize(IN_LIST, last.clone());
    }
    values
}

/// Rows for keys, by a text made with [`in_list`], as the transaction sees them.
pub async fn query_in(
    tx: &mut ReadTx,
    text: &'static LazyLock<String>,
    keys: &[SqlValue],
) -> Result<Vec<SqlRow>, SqlError> {
    let mut rows = Vec::new();
    for some in keys.chunks(IN_LIST) {
        rows.extend(tx.query(text.as_str(), &padded(some)).await?);
    }
    Ok(rows)
}

/// The same, as of the last commit.
pub async fn read_in(db: &ReadDb, text: &'static LazyLock<String>, keys: &[SqlValue]) -> Result<Vec<SqlRow>, SqlError> {
    let mut rows = Vec::new();
    for some in keys.chunks(IN_LIST) {
        rows.extend(db.query(text.as_str(), &padded(some)).await?);
    }
    Ok(rows)
}

/// Runs a statement made with [`in_list`] for all keys.
pub async fn execute_in(tx: &mut ReadTx, text: &'static LazyLock<String>, keys: &[SqlValue]) -> Result<(), SqlError> {
    for some in keys.chunks(IN_LIST) {
        tx.execute(text.as_str(), &padded(some)).await?;
    }
    Ok(())
}
