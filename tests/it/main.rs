//! The one integration-test binary; its tree mirrors the source it tests.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by failing")]

mod architecture;
mod cli;
mod commands;
mod config;
mod crash;
mod directory;
mod dispatch;
mod docs;
mod domain;
mod events;
pub mod execute;
mod http;
mod import;
mod instances;
mod notary;
mod notify;
mod projections;
#[path = "../properties/mod.rs"]
mod properties;
mod replay;
mod report;
mod site;
mod store;
mod support;
mod ui;
