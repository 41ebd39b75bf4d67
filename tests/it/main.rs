//! The one integration-test binary; its tree mirrors the source it tests.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by failing")]

mod cli;
mod commands;
mod config;
mod crash;
mod directory;
mod domain;
mod import;
mod notify;
mod projections;
#[path = "../properties/mod.rs"]
mod properties;
mod site;
mod store;
mod support;
