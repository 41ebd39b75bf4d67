//! The one integration-test binary; its tree mirrors the source it tests.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by failing")]

mod commands;
mod domain;
mod import;
#[path = "../properties/mod.rs"]
mod properties;
mod store;
mod support;
