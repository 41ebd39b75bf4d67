//! Notices: who is told what, how often, and what becomes of a delivery that fails.

mod delivery;
mod isolation;
mod recipients;
mod rules;
mod server;
mod settings;
mod smtp;
mod support;
mod webhooks;
