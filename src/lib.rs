//! Sluice decides, enforces and explains periodic usage policies on SLURM allocations.
//!
//! All state of the service is a fold of an immutable event log. `domain` holds the pure rules, `events` the
//! vocabulary, `store` the log, `commands` the decisions, `projections` the read models; `http`, `ui` and `cli` are the
//! edges.

pub mod admission;
pub mod agent_logs;
pub mod app;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod demo;
pub mod directory;
pub mod dispatch;
pub mod doctor;
pub mod domain;
pub mod egress;
pub mod events;
pub mod http;
pub mod import;
pub mod limits;
pub mod notary;
pub mod notify;
pub mod operations;
#[path = "../projections/mod.rs"]
pub mod projections;
pub mod reactions;
pub mod registry;
pub mod replay;
pub mod report;
pub mod retention;
pub mod scheduler;
pub mod serve;
pub mod site;
pub mod site_settings;
pub mod store;
pub mod supervise;
pub mod telemetry;
pub mod ui;
