//! A server with a small site whose agents have queues.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sluice::dispatch::AgentQueue;
use sluice::domain::ids::{OfferingId, UserId, slug_uuid};
use uuid::Uuid;

use super::client::Client;
use crate::support::server::{TestServer, Who, id};

/// A registered queue of the agent of `hpc1`, or of another one.
pub fn queue_of(offering: &str, number: u128) -> AgentQueue {
    let owner = slug_uuid("user", &format!("agent-{offering}"));
    let consumer = Uuid::from_u128(0x7e50_0000_0000_4000_8000_0000_0000_0000 + number);
    AgentQueue {
        consumer,
        queue: format!("consumer_{}", consumer.as_simple()),
        vhost: owner.as_simple().to_string(),
        login: Uuid::from_u128(number).as_simple().to_string(),
        offering: OfferingId::from(slug_uuid("offering", offering)),
        owner: UserId::from(owner),
        object_types: None,
    }
}

/// The same for certain kinds of messages only.
pub fn queue_for(offering: &str, number: u128, types: &[&str]) -> AgentQueue {
    let types: BTreeSet<String> = types.iter().map(|kind| (*kind).to_owned()).collect();
    AgentQueue { object_types: Some(types), ..queue_of(offering, number) }
}

/// Connects as the agent that owns a queue.
pub async fn connect(server: &TestServer, queue: &AgentQueue) -> Client {
    let key = Who::Agent.key().unwrap();
    Client::connect(server.address, &queue.vhost, &queue.login, key).await
}

/// The body of an agent's report.
pub fn report(resource: &str, success: bool, commands: &[&str]) -> Value {
    json!({
        "resource_uuid": id("resource", resource),
        "success": success,
        "error_message": if success { "" } else { "sacctmgr: error: it did not work" },
        "mode": "production",
        "commands_executed": commands,
    })
}

/// The commands of the newest dispatch of a resource, by the history of a policy.
pub async fn newest(server: &TestServer, policy: &str, resource: &str) -> Value {
    let path = format!("{policy}command-history/?resource_uuid={}", id("resource", resource));
    let rows = server.get(Who::Staff, &path).await.expect(200);
    rows.as_array().unwrap().first().cloned().unwrap_or_default()
}
