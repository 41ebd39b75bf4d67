//! SQL texts that are made, not written: INSERTs of many rows, and the two generations of a read-model table.
//!
//! Each is put together once from static parts and kept for the life of the process, so there are only as many as the
//! program has statements, and none ever holds a value.

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
static SQLITE: LazyLock<Texts<(&'static str, Target)>> = LazyLock::new(|| Texts(RwLock::default()));
static GENERATIONS: LazyLock<Texts<(&'static str, Target)>> = LazyLock::new(|| Texts(RwLock::default()));

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
