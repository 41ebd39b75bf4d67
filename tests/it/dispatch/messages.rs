//! The two messages as they leave, in golden files: a change of what agents read shows in review.

use std::path::Path;

use serde_json::Value;

use super::support::{connect, queue_of};
use crate::support::server::TestServer;

/// Compares with the golden file, or writes it with `UPDATE_GOLDEN=1`. Ids that differ from run to run are named.
fn golden(name: &str, message: &Value, named: &[(&Value, &str)]) {
    let mut text = format!("{}\n", serde_json::to_string_pretty(message).unwrap());
    for (id, word) in named {
        text = text.replace(id.as_str().unwrap(), word);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/messages").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "the message {name} changed:\n{text}\nIf that is meant: UPDATE_GOLDEN=1 cargo nextest run messages::"
    );
}

#[tokio::test]
async fn both_messages_are_those_in_the_golden_files() {
    let server = TestServer::start().await;
    let queue = queue_of("hpc1", 1);
    server.app.agent_queues.put(queue.clone());
    // What was left in December is carried over, and tells in the settings.
    server.report("climate-hpc1", "400", "2025-12-01").await;
    let (_, policy) = server.policy(|_| ()).await;
    let mut agent = connect(&server, &queue).await;
    agent.subscribe(&queue.queue, "auto").await;
    let mut messages = Vec::new();
    // Each resource is taken over: its settings, and word of its restrictions.
    while messages.len() < 4 {
        messages.push(agent.message().await.1);
    }
    let settings =
        messages.iter().find(|message| message["backend_id"] == "hpc_climate").expect("the settings of climate");
    let dispatch = settings["dispatch_uuid"].clone();
    golden("resource_periodic_limits.json", settings, &[(&dispatch, "DISPATCH"), (&policy["uuid"], "POLICY")]);

    server.report("climate-hpc1", "2500", "2026-03-01").await;
    let again = agent.message().await.1;
    assert_eq!(again["object_type"], "resource_periodic_limits");
    golden("resource.json", &agent.message().await.1, &[]);
    server.stop().await;
}
