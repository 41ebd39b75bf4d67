//! Agents' reports on a page of a list: short reports come with their rows, long ones as long as the page has space.
//!
//! A report may be a hundred thousand times longer than usual. A page of one row has space for any report.

use crate::store::sql::{ReadDb, SqlError, SqlRow, SqlValue};

/// Bytes of long reports on one page.
const ROOM: usize = 4 << 20;

/// The two columns of a table under this name that [`Reports::of`] reads: the report if it is short, and its length.
macro_rules! reported {
    ($table:literal) => {
        concat!(
            "CASE WHEN octet_length(",
            $table,
            ".reported) <= 65536 THEN ",
            $table,
            ".reported END, CAST(octet_length(",
            $table,
            ".reported) AS BIGINT)"
        )
    };
}

pub(in crate::projections) use reported;

/// The reports of one page.
pub(in crate::projections) struct Reports {
    room: usize,
}

/// The commands of one report, or what stands for them where the page has no room.
#[derive(Debug, Default)]
pub(in crate::projections) struct Reported {
    pub(in crate::projections) commands: Vec<String>,
    /// They are all here.
    pub(in crate::projections) whole: bool,
}

impl Reports {
    pub(in crate::projections) const fn new() -> Self {
        Self { room: ROOM }
    }

    /// The report of a row; none if there is none. `select` reads a long one by its key.
    pub(in crate::projections) async fn of(
        &mut self,
        db: &ReadDb,
        row: &SqlRow,
        index: usize,
        (select, key): (&'static str, Option<SqlValue>),
    ) -> Result<Option<Reported>, SqlError> {
        let wrong = |_| SqlError::Column { index, expected: "a JSON list of commands" };
        let read = |text: &str| {
            let commands = serde_json::from_str(text).map_err(wrong)?;
            Ok(Some(Reported { commands, whole: true }))
        };
        if let Some(text) = row.opt_text(index)? {
            return read(text);
        }
        let Some(bytes) = row.opt_i64(index + 1)? else { return Ok(None) };
        let room = usize::try_from(bytes).ok().and_then(|bytes| self.room.checked_sub(bytes));
        let (Some(room), Some(key)) = (room, key) else {
            let mark = format!("… [cut] {bytes} bytes of commands: a smaller page has room for them");
            return Ok(Some(Reported { commands: vec![mark], whole: false }));
        };
        self.room = room;
        match db.query_one(select, &[key]).await? {
            Some(row) => row.opt_text(0)?.map_or(Ok(None), read),
            None => Ok(None),
        }
    }
}
