//! The one integration-test binary; its tree mirrors the source it tests.

mod domain;
mod import;
#[path = "../properties/mod.rs"]
mod properties;
mod store;
mod support;
