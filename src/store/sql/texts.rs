//! Generated SQL texts: INSERTs of many rows, the two generations of a read-model table, and the few words that differ
//! in `PostgreSQL`.
//!
//! Each text is assembled once from static parts and kept for the life of the process, so there are only as many as the
//! program has statements, and none ever contains a value.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{LazyLock, PoisonError, RwLock};

use super::Target;

/// What stands for the generation of a table in a SQL text.
const GENERATION: &str = "{g}";

struct Texts<K>(RwLock<HashMap<K, &'static str>>);

impl<K: Eq + Hash> Texts<K> {
    fn get(&self, key: K, make: impl FnOnce() -> String) -> &'static str {
        if let Some(text) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return text;
        }
        let mut texts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        texts.entry(key).or_insert_with(|| Box::leak(make().into_boxed_str()))
    }
}

type InsertKey = (&'static str, &'static str, usize, usize);
static INSERTS: LazyLock<Texts<InsertKey>> = LazyLock::new(|| Texts(RwLock::default()));
static GENERATIONS: LazyLock<Texts<(&'static str, Target)>> = LazyLock::new(|| Texts(RwLock::default()));
static SQLITE: LazyLock<Texts<(&'static str, Target)>> = LazyLock::new(|| Texts(RwLock::default()));
static POSTGRES: LazyLock<Texts<(&'static str, Target)>> = LazyLock::new(|| Texts(RwLock::default()));
static POSTGRES_INSERTS: LazyLock<Texts<(&'static str, &'static str, Vec<&'static str>)>> =
    LazyLock::new(|| Texts(RwLock::default()));
static POSTGRES_ROWS: LazyLock<Texts<(&'static str, usize)>> = LazyLock::new(|| Texts(RwLock::default()));

/// `prefix VALUES (?, …), (?, …) … suffix` for that many rows.
pub(in crate::store) fn insert_text(
    prefix: &'static str,
    columns: usize,
    rows: usize,
    suffix: &'static str,
) -> &'static str {
    INSERTS.get((prefix, suffix, columns, rows), || {
        let row = format!("({})", vec!["?"; columns].join(","));
        format!("{prefix} VALUES {} {suffix}", vec![row; rows].join(","))
    })
}

/// The text for one generation of tables: `{g}` becomes nothing for the tables in use and `_next` for those being built.
pub fn sql_for(text: &'static str, target: Target) -> &'static str {
    if !text.contains(GENERATION) {
        return text;
    }
    GENERATIONS.get((text, target), || text.replace(GENERATION, target.suffix()))
}

/// The same for a statement of `SQLite` whose values are bound by number: a `$1` would be a name to it, and be numbered in
/// the order of appearance.
pub(super) fn sqlite_text(text: &'static str, target: Target) -> &'static str {
    SQLITE.get((text, target), || text.replace(GENERATION, target.suffix()).replace('$', "?"))
}

/// The same for `PostgreSQL`, in its words.
pub(super) fn postgres_text(text: &'static str, target: Target) -> &'static str {
    POSTGRES.get((text, target), || in_postgres(&text.replace(GENERATION, target.suffix())))
}

/// `prefix VALUES ($1, …)`: describes the types of a row's columns.
pub(super) fn postgres_row(prefix: &'static str, columns: usize) -> &'static str {
    POSTGRES_ROWS.get((prefix, columns), || {
        let places: Vec<String> = (1..=columns).map(|place| format!("${place}")).collect();
        format!("{prefix} VALUES ({})", places.join(", "))
    })
}

/// `prefix SELECT * FROM unnest($1::type[], …) suffix`: one text for any number of rows, a list for each column.
pub(super) fn postgres_insert(prefix: &'static str, types: &[&'static str], suffix: &'static str) -> &'static str {
    POSTGRES_INSERTS.get((prefix, suffix, types.to_vec()), || {
        let lists: Vec<String> = types.iter().zip(1..).map(|(name, place)| format!("${place}::{name}[]")).collect();
        format!("{prefix} SELECT * FROM unnest({}) {suffix}", lists.join(", "))
    })
}

/// Rewrites what the statements of the program use and `PostgreSQL` calls otherwise. Nothing else is touched, and a text
/// that needs more than this is written so that both engines take it.
fn in_postgres(text: &str) -> String {
    let text = replace_call(text, "unhex(value) FROM json_each(", |list| {
        format!("hexes.id::uuid FROM json_array_elements_text(CAST({list} AS json)) AS hexes (id)")
    });
    let text = text.replace("instr(", "strpos(");
    replace_word(&text, "rowid", "ctid")
}

/// Replaces `start ARGUMENT )` by what `make` says of the argument, which holds no parentheses.
fn replace_call(text: &str, start: &str, make: impl Fn(&str) -> String) -> String {
    let mut done = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(start) {
        let Some((argument, after)) = after.split_once(')') else { break };
        done.push_str(before);
        done.push_str(&make(argument));
        rest = after;
    }
    done.push_str(rest);
    done
}

fn replace_word(text: &str, word: &str, by: &str) -> String {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(word) {
        done.push_str(before);
        let whole = !before.ends_with(part_of_word) && !after.starts_with(part_of_word);
        done.push_str(if whole { by } else { word });
        rest = after;
    }
    done.push_str(rest);
    done
}

#[cfg(test)]
mod tests {
    use super::{in_postgres, postgres_insert, postgres_row};

    #[test]
    fn what_postgres_calls_otherwise_is_rewritten_and_nothing_else() {
        assert_eq!(
            in_postgres(
                "x IN (SELECT unhex(value) FROM json_each($5)) OR y IN (SELECT unhex(value) FROM json_each($6))"
            ),
            "x IN (SELECT hexes.id::uuid FROM json_array_elements_text(CAST($5 AS json)) AS hexes (id)) \
             OR y IN (SELECT hexes.id::uuid FROM json_array_elements_text(CAST($6 AS json)) AS hexes (id))"
        );
        assert_eq!(in_postgres("instr(lower(name), $1) > 0"), "strpos(lower(name), $1) > 0");
        assert_eq!(in_postgres("rowid IN (SELECT rowid FROM arrowid)"), "ctid IN (SELECT ctid FROM arrowid)");
        let plain = "SELECT a, 'value' FROM t WHERE b = $1";
        assert_eq!(in_postgres(plain), plain);
    }

    #[test]
    fn one_text_inserts_any_number_of_rows() {
        assert_eq!(postgres_row("INSERT INTO t (a, b)", 2), "INSERT INTO t (a, b) VALUES ($1, $2)");
        assert_eq!(
            postgres_insert("INSERT INTO t (a, b)", &["INT8", "TEXT"], "ON CONFLICT DO NOTHING"),
            "INSERT INTO t (a, b) SELECT * FROM unnest($1::INT8[], $2::TEXT[]) ON CONFLICT DO NOTHING"
        );
    }
}
