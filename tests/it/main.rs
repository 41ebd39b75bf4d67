//! The one integration-test binary; its tree mirrors the source it tests.

#[path = "../properties/mod.rs"]
mod properties;

mod domain;
mod support;
