//! Builds a read model's tables beside the ones in use, and swaps them in.
//!
//! The new tables copy the schema of the ones in use, as the migrations left it. `SQLite` cannot rename an index, so
//! its name changes with every rebuild: `x` and `x_next` alternate. In `PostgreSQL` names stay.

use sqlx::{AssertSqlSafe, Row};

use super::db::EngineConnection;
use super::row::EngineRow;
use super::sqlite::SqliteTx;
use super::{ReadTx, SqlError, SqlRow, Target};

/// A table or index as the database describes it.
struct Object {
    kind: String,
    name: String,
    table: String,
    sql: String,
}

impl ReadTx {
    /// Makes empty tables, with indexes, beside these; what an earlier attempt left there goes first.
    pub(in crate::store) async fn clone_schema_for_building(&mut self, tables: &[&str]) -> Result<(), SqlError> {
        self.drop_building(tables).await?;
        for table in tables {
            match self.connection() {
                EngineConnection::Sqlite(transaction) => clone_sqlite(transaction, table)?,
                EngineConnection::Postgres(_) => {
                    self.run(format!("CREATE TABLE \"{}\" (LIKE \"{table}\" INCLUDING ALL)", building(table))).await?;
                }
            }
        }
        Ok(())
    }

    /// Removes tables under construction.
    pub(in crate::store) async fn drop_building(&mut self, tables: &[&str]) -> Result<(), SqlError> {
        for table in tables {
            self.run(format!("DROP TABLE IF EXISTS \"{}\"", building(table))).await?;
        }
        Ok(())
    }

    /// Puts the tables under construction in the place of the ones in use, which go.
    pub(in crate::store) async fn swap_built(&mut self, tables: &[&str]) -> Result<(), SqlError> {
        for table in tables {
            let indexes = self.indexes(table).await?;
            self.run(format!("DROP TABLE \"{table}\"")).await?;
            self.run(format!("ALTER TABLE \"{}\" RENAME TO \"{table}\"", building(table))).await?;
            for (name, definition) in self.indexes(table).await? {
                let before = indexes.iter().find(|(_, same)| *same == definition);
                if let Some((wanted, _)) = before.filter(|(wanted, _)| *wanted != name) {
                    self.run(format!("ALTER INDEX \"{name}\" RENAME TO \"{wanted}\"")).await?;
                }
            }
        }
        Ok(())
    }

    /// The indexes of a table in `PostgreSQL`, by name, with what each is but for its name; none in `SQLite`.
    async fn indexes(&mut self, table: &str) -> Result<Vec<(String, String)>, SqlError> {
        let EngineConnection::Postgres(connection) = self.connection() else { return Ok(Vec::new()) };
        let sql =
            "SELECT indexname::text, indexdef FROM pg_indexes WHERE schemaname = current_schema() AND tablename = $1";
        let rows = sqlx::query(sql).bind(table).fetch_all(connection).await?;
        let index = |row: sqlx::postgres::PgRow| -> Result<(String, String), sqlx::Error> {
            let (name, definition): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let definition = rename(&definition, &[(&name, "")]);
            Ok((name, definition))
        };
        Ok(rows.into_iter().map(index).collect::<Result<_, _>>()?)
    }

    /// The only texts that come here are made from names in the program and in the database's own schema.
    async fn run(&mut self, sql: String) -> Result<(), SqlError> {
        match self.connection() {
            EngineConnection::Sqlite(transaction) => transaction.run(&sql),
            EngineConnection::Postgres(connection) => {
                sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(connection).await?;
                Ok(())
            }
        }
    }
}

fn clone_sqlite(transaction: &mut SqliteTx, table: &str) -> Result<(), SqlError> {
    let objects = objects_of(transaction, table)?;
    if !objects.iter().any(|object| object.kind == "table") {
        return Err(SqlError::Schema(format!("there is no table {table}")));
    }
    for object in objects {
        let sql = match object.kind.as_str() {
            "table" => rename(&object.sql, &[(&object.name, &building(&object.name))]),
            "index" => {
                rename(&object.sql, &[(&object.name, &other(&object.name)), (&object.table, &building(&object.table))])
            }
            kind => {
                let message = format!("{kind} {} on {table} cannot be carried over", object.name);
                return Err(SqlError::Schema(message));
            }
        };
        transaction.run(&sql)?;
    }
    Ok(())
}

/// The table and what hangs on it, but for the indexes that `SQLite` makes itself; the table first.
fn objects_of(transaction: &mut SqliteTx, table: &str) -> Result<Vec<Object>, SqlError> {
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE tbl_name = $1 AND sql IS NOT NULL \
               ORDER BY type <> 'table', name";
    let object = |values| {
        let row = SqlRow(EngineRow::Writer(values));
        let text = |index| row.text(index).map(str::to_owned);
        Ok(Object { kind: text(0)?, name: text(1)?, table: text(2)?, sql: text(3)? })
    };
    transaction.query(sql, Target::Live, &[table.into()])?.into_iter().map(object).collect()
}

fn building(table: &str) -> String {
    format!("{table}{}", Target::Building.suffix())
}

/// The other of the two names that an index goes by.
fn other(index: &str) -> String {
    index.strip_suffix(Target::Building.suffix()).map_or_else(|| building(index), str::to_owned)
}

/// Replaces each name once, as a whole word, in the order given. A `CREATE` statement starts with the names of what it
/// makes and of the table it is for, so a column of the same name stays as it is.
fn rename(sql: &str, names: &[(&str, &str)]) -> String {
    let mut done = String::with_capacity(sql.len() + 16);
    let mut rest = sql;
    for (from, to) in names {
        let Some(at) = find_word(rest, from) else { continue };
        done.push_str(&rest[..at]);
        done.push_str(to);
        rest = &rest[at + from.len()..];
    }
    done.push_str(rest);
    done
}

fn find_word(text: &str, word: &str) -> Option<usize> {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .map(|(at, _)| at)
        .find(|at| !text[..*at].ends_with(part_of_word) && !text[at + word.len()..].starts_with(part_of_word))
}

#[cfg(test)]
mod tests {
    use super::{other, rename};

    #[test]
    fn a_statement_keeps_everything_but_the_names_of_what_it_makes() {
        let table = "CREATE TABLE \"log\" (log INTEGER, log_id TEXT)";
        assert_eq!(rename(table, &[("log", "log_next")]), "CREATE TABLE \"log_next\" (log INTEGER, log_id TEXT)");
        let index = "CREATE UNIQUE INDEX log_by_log ON log (log, log_id)";
        assert_eq!(
            rename(index, &[("log_by_log", "log_by_log_next"), ("log", "log_next")]),
            "CREATE UNIQUE INDEX log_by_log_next ON log_next (log, log_id)"
        );
    }

    #[test]
    fn the_two_names_of_an_index_take_turns() {
        assert_eq!(other("by_time"), "by_time_next");
        assert_eq!(other("by_time_next"), "by_time");
    }
}
