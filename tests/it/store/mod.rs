//! The event store: one contract for every engine, what is particular to `SQLite`, and the consumer loop.

mod archive;
mod consumers;
mod contract;
mod copy;
pub mod esdb;
mod leases;
mod migrations;
pub mod old_log;
mod rebuild;
mod sqlite;
mod support;
mod tables;
