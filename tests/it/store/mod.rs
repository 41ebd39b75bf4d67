//! The event store: one contract for every engine, what is particular to `SQLite`, and the consumer loop.

mod archive;
mod consumers;
mod contract;
mod copy;
pub mod esdb;
mod leases;
mod migrations;
pub mod old_log;
mod positions;
mod rebuild;
mod sqlite;
pub mod support;
mod tables;
mod waiting;
