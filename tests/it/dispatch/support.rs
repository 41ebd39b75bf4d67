//! A server with a small site whose agents have queues.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use serde_json::{Value, json};
use sluice::dispatch::AgentQueue;
use sluice::domain::ids::{OfferingId, UserId, slug_uuid};
use uuid::Uuid;

use super::client::Client;
use crate::support::server::{TestServer, Who, id, resource_path};

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

/// What an agent ran that reset raw usage.
pub const RESET: [&str; 1] = ["sacctmgr modify account x set RawUsage=0"];

/// A server whose agent listens, with a policy; the messages of the take-over are read, and the classes of service confirmed.
pub struct Site {
    pub server: TestServer,
    pub queue: AgentQueue,
    pub policy: String,
    pub agent: Client,
}

impl Site {
    pub async fn new() -> Self {
        // Nothing is swept but by the test itself.
        let server = TestServer::customized(|options| options.dispatch.sweeps = false).await;
        let queue = queue_of("hpc1", 1);
        server.app.agent_queues.put(queue.clone());
        let (policy, _) = server.policy(|_| ()).await;
        let mut agent = connect(&server, &queue).await;
        agent.subscribe(&queue.queue, "auto").await;
        for _ in 0..2 {
            assert_eq!(agent.message().await.1["object_type"], "resource_periodic_limits");
            assert_eq!(agent.message().await.1["object_type"], "resource");
        }
        server.app.settle().await.unwrap();
        let site = Self { server, queue, policy, agent };
        // Both accounts have the class of service that they are to have.
        site.say_qos("climate-hpc1", "normal").await;
        site.say_qos("bio-hpc1", "normal").await;
        site.server.app.settle().await.unwrap();
        site
    }

    /// Lets minutes pass, with everything that is due.
    pub async fn pass(&self, minutes: i64) {
        let to = self.server.app.clock.now() + TimeDelta::minutes(minutes);
        self.server.app.advance_clock(to).await.unwrap();
    }

    /// The settings sync's look at what was not answered.
    pub async fn sweep(&self) -> (u64, u64) {
        let swept = self.server.app.publisher.sweep().await.unwrap();
        self.server.app.settle().await.unwrap();
        (swept.marked, swept.again)
    }

    pub async fn status(&self, resource: &str) -> Value {
        newest(&self.server, &self.policy, resource).await["status"].clone()
    }

    /// A resource in the policy's status.
    pub async fn shown(&self, resource: &str) -> Value {
        let path = format!("{}status/?resource_uuid={}", self.policy, id("resource", resource));
        self.server.get(Who::Staff, &path).await.expect(200)["resources"][0].clone()
    }

    pub async fn reset_unconfirmed(&self) -> bool {
        self.shown("climate-hpc1").await["reset_unconfirmed"].as_bool().unwrap()
    }

    /// The agent says which class of service an account has.
    pub async fn say_qos(&self, resource: &str, qos: &str) {
        let path = format!("{}set_backend_metadata/", resource_path(resource));
        self.server.post(Who::Agent, &path, &json!({"backend_metadata": {"qos": qos}})).await.expect(200);
    }

    pub async fn answer(&self, resource: &str, success: bool, commands: &[&str]) {
        let path = format!("{}report-command-result/", self.policy);
        self.server.post(Who::Agent, &path, &report(resource, success, commands)).await.expect(200);
    }

    pub async fn limit(&self, resource: &str, hours: u32) {
        let change = json!({"limits": {"node_hours": hours}});
        self.server.patch(Who::Staff, &resource_path(resource), &change).await.expect(200);
        self.server.app.settle().await.unwrap();
    }
}
