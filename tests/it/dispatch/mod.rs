//! Messages to site agents: the outbox, the publisher, the built-in broker, `RabbitMQ`.

mod client;
mod delivery;
mod door;
mod support;
