//! Statements on `PostgreSQL`: each value is sent as the type that the server expects in its place.
//!
//! The server reports the types of a statement's placeholders once, so that one SQL text serves both engines: a truth
//! value may meet a `bigint`, an id a `uuid`, and the program need not distinguish.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArguments, PgConnection, PgPool, PgRow, PgStatement, PgTypeInfo, Postgres};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Either, Executor, SqlSafeStr, Statement, TypeInfo};
use uuid::Uuid;

use super::texts::{postgres_insert, postgres_row, postgres_text};
use super::{SqlError, SqlValue, Target};

/// Rows that one INSERT takes.
const INSERT_ROWS_MAX: usize = 2_000;

/// The type `text`, by the number that it has in every database.
const TEXT_OID: Oid = Oid(25);

/// What a placeholder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    I16,
    I32,
    I64,
    Bool,
    Text,
    Json,
    Uuid,
    Bytes,
}

impl Kind {
    fn of(info: &PgTypeInfo) -> Result<Self, SqlError> {
        Ok(match info.name() {
            "INT2" => Self::I16,
            "INT4" => Self::I32,
            "INT8" => Self::I64,
            "BOOL" => Self::Bool,
            "TEXT" | "VARCHAR" | "NAME" => Self::Text,
            "JSON" => Self::Json,
            "UUID" => Self::Uuid,
            "BYTEA" => Self::Bytes,
            other => return Err(SqlError::Schema(format!("a placeholder is {other}, which has no value here"))),
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::I16 => "INT2",
            Self::I32 => "INT4",
            Self::I64 => "INT8",
            Self::Bool => "BOOL",
            Self::Text => "TEXT",
            Self::Json => "JSON",
            Self::Uuid => "UUID",
            Self::Bytes => "BYTEA",
        }
    }
}

type Bound = Query<'static, Postgres, PgArguments>;
type Described = HashMap<&'static str, Arc<[Kind]>>;

/// What is known of the statements on one database.
#[derive(Clone, Debug, Default)]
pub(super) struct Statements(Arc<RwLock<Described>>);

impl Statements {
    async fn kinds(&self, connection: &mut PgConnection, sql: &'static str) -> Result<Arc<[Kind]>, SqlError> {
        if let Some(kinds) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(sql) {
            return Ok(Arc::clone(kinds));
        }
        let statement = describe(connection, sql).await?;
        let kinds: Arc<[Kind]> = match statement.parameters() {
            Some(Either::Left(infos)) => infos.iter().map(Kind::of).collect::<Result<_, _>>()?,
            Some(Either::Right(_)) | None => Arc::from([]),
        };
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(sql, Arc::clone(&kinds));
        Ok(kinds)
    }

    async fn bound(
        &self,
        connection: &mut PgConnection,
        sql: &'static str,
        values: &[SqlValue],
    ) -> Result<Bound, SqlError> {
        let kinds = self.kinds(connection, sql).await?;
        if kinds.len() > values.len() {
            return Err(SqlError::Schema(format!(
                "a statement has {} places for {} values",
                kinds.len(),
                values.len()
            )));
        }
        let mut query = sqlx::query(sql);
        // A value that the text does not use has no place: SQLite passes over it, and so does this.
        for (index, (value, kind)) in values.iter().zip(kinds.iter()).enumerate() {
            query = bind(query, value, *kind, index)?;
        }
        Ok(query)
    }

    /// Reads rows outside of any transaction: all, or no more than the first. A connection that died in the pool is
    /// replaced, a few times.
    pub(super) async fn read(
        &self,
        pool: &PgPool,
        sql: &'static str,
        values: &[SqlValue],
        all: bool,
    ) -> Result<Vec<PgRow>, SqlError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut connection = pool.acquire().await?;
            let read = if all {
                self.rows(&mut connection, sql, Target::Live, values).await
            } else {
                self.row(&mut connection, sql, Target::Live, values).await.map(Vec::from_iter)
            };
            match read {
                Err(SqlError::Database(error)) if is_connection_loss(&error) => {
                    // A dead connection must not go back into the pool.
                    drop(connection.detach());
                    if attempts > pool.options().get_max_connections() {
                        return Err(SqlError::Database(error));
                    }
                }
                read => return read,
            }
        }
    }

    pub(super) async fn rows(
        &self,
        connection: &mut PgConnection,
        sql: &'static str,
        target: Target,
        values: &[SqlValue],
    ) -> Result<Vec<PgRow>, SqlError> {
        let query = self.bound(connection, postgres_text(sql, target), values).await?;
        Ok(query.fetch_all(connection).await?)
    }

    pub(super) async fn row(
        &self,
        connection: &mut PgConnection,
        sql: &'static str,
        target: Target,
        values: &[SqlValue],
    ) -> Result<Option<PgRow>, SqlError> {
        let query = self.bound(connection, postgres_text(sql, target), values).await?;
        Ok(query.fetch_optional(connection).await?)
    }

    pub(super) async fn execute(
        &self,
        connection: &mut PgConnection,
        sql: &'static str,
        target: Target,
        values: &[SqlValue],
    ) -> Result<u64, SqlError> {
        let query = self.bound(connection, postgres_text(sql, target), values).await?;
        Ok(query.execute(connection).await?.rows_affected())
    }

    /// Inserts rows, given as one flat list, a list per column at a time.
    pub(super) async fn insert(
        &self,
        connection: &mut PgConnection,
        texts: (&'static str, &'static str),
        target: Target,
        columns: usize,
        rows: &[SqlValue],
    ) -> Result<u64, SqlError> {
        let (insert, suffix) = (postgres_text(texts.0, target), postgres_text(texts.1, target));
        let kinds = self.kinds(connection, postgres_row(insert, columns)).await?;
        let types: Vec<&'static str> = kinds.iter().map(|kind| kind.name()).collect();
        let sql = postgres_insert(insert, &types, suffix);
        let mut touched = 0;
        for some in rows.chunks(INSERT_ROWS_MAX * columns) {
            let mut query = sqlx::query(sql);
            for (column, kind) in kinds.iter().enumerate() {
                query = bind_list(query, some.iter().skip(column).step_by(columns), *kind, column)?;
            }
            touched += query.execute(&mut *connection).await?.rows_affected();
        }
        Ok(touched)
    }
}

/// Has the server say what the placeholders are. `$1 IS NULL` tells nothing of `$1` and keeps the server from finding out by
/// the rest of the statement, so it is asked without; what then stands nowhere could be anything, and is a text.
async fn describe(connection: &mut PgConnection, sql: &'static str) -> Result<PgStatement, SqlError> {
    let telling = without_null_tests(sql);
    let places = sql.split('$').skip(1).filter_map(leading_number).max().unwrap_or_default();
    let open = PgTypeInfo::with_oid(Oid(0));
    let mut declared = vec![open.clone(); places];
    loop {
        let text = AssertSqlSafe(telling.clone()).into_sql_str();
        let error = match connection.prepare_with(text, &declared).await {
            Ok(statement) => return Ok(statement),
            Err(error) => error,
        };
        let untold = indeterminate(&error).and_then(|place| declared.get_mut(place.checked_sub(1)?));
        match untold {
            Some(place) if *place == open => *place = PgTypeInfo::with_oid(TEXT_OID),
            _ => return Err(error.into()),
        }
    }
}

fn leading_number(text: &str) -> Option<usize> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// The statement with `$1 IS NULL` made a constant, which no type depends on.
fn without_null_tests(sql: &str) -> String {
    let mut done = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once('$') {
        done.push_str(before);
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (number, then) = after.split_at(digits);
        if let Some(then) = then.strip_prefix(" IS NULL") {
            done.push_str("false");
            rest = then;
        } else if let Some(then) = then.strip_prefix(" IS NOT NULL") {
            done.push_str("true");
            rest = then;
        } else {
            done.push('$');
            done.push_str(number);
            rest = then;
        }
    }
    done.push_str(rest);
    done
}

/// The placeholder whose type the server cannot tell, from 1.
fn indeterminate(error: &sqlx::Error) -> Option<usize> {
    let sqlx::Error::Database(error) = error else { return None };
    error.code().filter(|code| code == "42P18")?;
    error.message().rsplit_once('$')?.1.trim().parse().ok()
}

fn misfit(index: usize, kind: Kind) -> SqlError {
    SqlError::Value { index, expected: kind.name() }
}

/// The whole number of a value; none for NULL.
fn number(value: &SqlValue) -> Result<Option<i64>, ()> {
    match value {
        SqlValue::Null => Ok(None),
        SqlValue::Bool(value) => Ok(Some(i64::from(*value))),
        SqlValue::I64(value) => Ok(Some(*value)),
        SqlValue::Time(value) => Ok(Some(value.timestamp_micros())),
        _ => Err(()),
    }
}

/// The text of a value. `PostgreSQL` has no place for the character 0, which JSON may smuggle in.
fn text(value: &SqlValue) -> Result<Option<String>, ()> {
    let text = match value {
        SqlValue::Null => return Ok(None),
        SqlValue::Text(text) => text.as_str(),
        SqlValue::Static(text) => text,
        SqlValue::Shared(text) => text,
        _ => return Err(()),
    };
    Ok(Some(if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.to_owned() }))
}

fn id(value: &SqlValue) -> Result<Option<Uuid>, ()> {
    match value {
        SqlValue::Null => Ok(None),
        SqlValue::Uuid(id) => Ok(Some(*id)),
        SqlValue::Bytes(bytes) => Uuid::from_slice(bytes).map(Some).map_err(|_| ()),
        _ => Err(()),
    }
}

fn bytes(value: &SqlValue) -> Result<Option<Vec<u8>>, ()> {
    match value {
        SqlValue::Null => Ok(None),
        SqlValue::Uuid(id) => Ok(Some(id.as_bytes().to_vec())),
        SqlValue::Bytes(bytes) => Ok(Some(bytes.clone())),
        _ => Err(()),
    }
}

fn narrow<T: TryFrom<i64>>(value: &SqlValue) -> Result<Option<T>, ()> {
    number(value)?.map(T::try_from).transpose().map_err(|_| ())
}

fn truth(value: &SqlValue) -> Result<Option<bool>, ()> {
    Ok(number(value)?.map(|number| number != 0))
}

fn bind(query: Bound, value: &SqlValue, kind: Kind, index: usize) -> Result<Bound, SqlError> {
    let bound = match kind {
        Kind::I16 => narrow::<i16>(value).map(|value| query.bind(value)),
        Kind::I32 => narrow::<i32>(value).map(|value| query.bind(value)),
        Kind::I64 => number(value).map(|value| query.bind(value)),
        Kind::Bool => truth(value).map(|value| query.bind(value)),
        Kind::Text | Kind::Json => text(value).map(|value| query.bind(value)),
        Kind::Uuid => id(value).map(|value| query.bind(value)),
        Kind::Bytes => bytes(value).map(|value| query.bind(value)),
    };
    bound.map_err(|()| misfit(index, kind))
}

fn bind_list<'v>(
    query: Bound,
    values: impl Iterator<Item = &'v SqlValue>,
    kind: Kind,
    index: usize,
) -> Result<Bound, SqlError> {
    fn list<'v, T>(
        values: impl Iterator<Item = &'v SqlValue>,
        of: impl Fn(&SqlValue) -> Result<Option<T>, ()>,
    ) -> Result<Vec<Option<T>>, ()> {
        values.map(of).collect()
    }
    let bound = match kind {
        Kind::I16 => list(values, narrow::<i16>).map(|list| query.bind(list)),
        Kind::I32 => list(values, narrow::<i32>).map(|list| query.bind(list)),
        Kind::I64 => list(values, number).map(|list| query.bind(list)),
        Kind::Bool => list(values, truth).map(|list| query.bind(list)),
        Kind::Text | Kind::Json => list(values, text).map(|list| query.bind(list)),
        Kind::Uuid => list(values, id).map(|list| query.bind(list)),
        Kind::Bytes => list(values, bytes).map(|list| query.bind(list)),
    };
    bound.map_err(|()| misfit(index, kind))
}

/// Whether a connection turned out to be dead, so that the same statement may find a living one.
pub(in crate::store) fn is_connection_loss(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        // Shutting down, crash of another backend, starting up, terminated while idle, connection exceptions.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            matches!(&*code, "57P01" | "57P02" | "57P03" | "57P05" | "25P03") || code.starts_with("08")
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::without_null_tests;

    #[test]
    fn null_tests_of_placeholders_go_and_those_of_columns_stay() {
        assert_eq!(
            without_null_tests("($1 IS NULL OR a = $1) AND b IS NULL AND ($12 IS NOT NULL OR c < $2)"),
            "(false OR a = $1) AND b IS NULL AND (true OR c < $2)"
        );
    }
}
