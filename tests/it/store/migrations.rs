//! The migrations of the two engines say the same: the same files, tables and columns, each in its own types.
//!
//! Read from the texts, so that it needs no server, and tells whoever adds a table what is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What only `PostgreSQL` needs: `table` or `table.column`.
const POSTGRES_ONLY: [&str; 4] = ["leases", "log_head", "segment_files", "streams.version"];

type Tables = BTreeMap<String, BTreeMap<String, String>>;

fn files(engine: &str, part: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(engine).join(part);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn names(engine: &str, part: &str) -> Vec<String> {
    files(engine, part).iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

/// Tables with their columns and types, as the migrations leave them.
fn tables(engine: &str, part: &str) -> Tables {
    let mut tables = Tables::new();
    for file in files(engine, part) {
        let text = std::fs::read_to_string(&file).unwrap();
        let without_comments = |line: &str| line.split("--").next().unwrap_or_default().trim_end().to_owned();
        let text: String = text.lines().map(without_comments).collect::<Vec<_>>().join("\n");
        for statement in text.split(";\n") {
            read(&mut tables, statement.trim().trim_end_matches(';'));
        }
    }
    tables
}

fn read(tables: &mut Tables, statement: &str) {
    let words: Vec<&str> = statement.split_whitespace().collect();
    match words.as_slice() {
        ["CREATE", "TABLE", name, ..] => {
            let (_, rest) = statement.split_once('(').unwrap();
            let (columns, _) = rest.rsplit_once(')').unwrap();
            tables.insert(name.trim_end_matches('(').to_owned(), columns_of(columns));
        }
        ["ALTER", "TABLE", table, "ADD", "COLUMN", column, kind, ..] => {
            let known = tables.get_mut(*table).unwrap_or_else(|| panic!("there is no table {table}"));
            known.insert((*column).to_owned(), (*kind).to_owned());
        }
        ["ALTER", "TABLE", table, "DROP", "COLUMN", column] => {
            tables.get_mut(*table).unwrap().remove(*column).unwrap();
        }
        ["ALTER", "TABLE", _, "ALTER", "COLUMN", _, "SET", "STORAGE", _]
        | ["ALTER", "TABLE", _, "ADD" | "DROP", "CONSTRAINT", ..] => {}
        ["ALTER", "TABLE", from, "RENAME", "TO", to] => {
            let columns = tables.remove(*from).unwrap_or_else(|| panic!("there is no table {from}"));
            tables.insert((*to).to_owned(), columns);
        }
        ["ALTER", ..] => panic!("this test cannot read {statement:?}"),
        ["DROP", "TABLE", table] => drop(tables.remove(*table).unwrap()),
        _ => {}
    }
}

fn columns_of(text: &str) -> BTreeMap<String, String> {
    let mut depth = 0;
    let split = |c: char| {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        depth == 0 && c == ','
    };
    let constraint = |word: &str| ["PRIMARY", "UNIQUE", "CHECK", "FOREIGN", "CONSTRAINT"].contains(&word);
    text.split(split)
        .filter_map(|column| {
            let mut words = column.split_whitespace();
            let name = words.next().filter(|name| !constraint(name))?;
            Some((name.to_owned(), words.next().expect(name).to_owned()))
        })
        .collect()
}

#[test]
fn both_engines_have_the_same_migrations() {
    for part in ["log", "read"] {
        assert_eq!(names("sqlite", part), names("postgres", part), "{part}: each file has its counterpart");
    }
}

#[test]
fn both_engines_have_the_same_tables_and_columns() {
    for part in ["log", "read"] {
        let (sqlite, mut postgres) = (tables("sqlite", part), tables("postgres", part));
        assert!(sqlite.len() > 3, "{sqlite:?}");
        for only in POSTGRES_ONLY {
            match only.split_once('.') {
                Some((table, column)) => drop(postgres.get_mut(table).and_then(|columns| columns.remove(column))),
                None => drop(postgres.remove(only)),
            }
        }
        let named = |tables: &Tables| tables.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(named(&sqlite), named(&postgres), "{part}");
        for (table, columns) in &sqlite {
            let list = |columns: &BTreeMap<String, String>| columns.keys().cloned().collect::<Vec<_>>();
            assert_eq!(list(columns), list(&postgres[table]), "{table}");
            for (column, kind) in columns {
                let theirs = postgres[table][column].as_str();
                let fits = match kind.as_str() {
                    "INTEGER" => ["bigint", "smallint", "timestamptz"].contains(&theirs),
                    "BLOB" => ["uuid", "bytea"].contains(&theirs),
                    "TEXT" => theirs == "text",
                    _ => false,
                };
                assert!(fits, "{table}.{column} is {kind} in SQLite and {theirs} in PostgreSQL");
            }
        }
    }
}

#[test]
fn text_is_compared_the_same_in_both_engines() {
    for file in files("postgres", "read") {
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
        let with = code.matches("text COLLATE \"C\"").count();
        assert_eq!(code.matches(" text").count(), with, "{}: a text column without COLLATE \"C\"", file.display());
    }
}
