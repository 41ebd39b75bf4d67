//! The event store: one contract for every engine, what is particular to `SQLite`, and the consumer loop.

mod consumers;
mod contract;
mod migrations;
mod rebuild;
mod sqlite;
mod support;
mod tables;
