//! The one integration-test binary; its tree mirrors the source it tests.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what it should do")]

mod import;
#[path = "../properties/mod.rs"]
mod properties;
mod store;
