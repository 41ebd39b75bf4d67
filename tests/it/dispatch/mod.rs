//! Messages to site agents: the outbox, the publisher, the built-in broker, `RabbitMQ`.

mod answers;
mod chains;
pub mod client;
mod crash;
mod delivery;
mod door;
mod left;
mod lifecycle;
mod many;
mod messages;
mod queues;
mod rabbitmq;
mod restrictions;
mod stomp_client;
pub mod support;
mod triggers;
