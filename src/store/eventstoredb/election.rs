//! Finds the leader of a cluster by asking the nodes: the one that most of them name.
//!
//! The client chooses a node when it is created and keeps it, dead or alive (ADR 24). Sluice therefore chooses here,
//! and creates each client for one node. Asking needs a client too: one with a single node as its seed connects to the
//! leader that this node names. Such a client never ends by itself, so all of them live on a runtime that is shut down
//! afterwards.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use eventstore::operations::Client;
use eventstore::{ClientSettings, Endpoint};

use super::address::EventStoreAddress;

/// How long a node has to say whom it takes for the leader, and that one to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// A node as the cluster calls it: host and port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Node {
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An IPv6 address has colons of its own.
        let (host, port) = (&self.host, self.port);
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl From<Endpoint> for Node {
    fn from(endpoint: Endpoint) -> Self {
        // A port is 16 bits wide; what is wider is no address, and nobody answers there.
        Self { host: endpoint.host, port: u16::try_from(endpoint.port).unwrap_or_default() }
    }
}

/// Asks every node of the address at once, and says whom most of them name. Of two who are named as often, it is the one
/// that was not `used` last. None: nobody answers, or nobody who is named does.
pub(super) async fn leader(address: &EventStoreAddress, used: Option<&Node>) -> Option<Node> {
    let settings: Vec<ClientSettings> =
        address.nodes().iter().filter_map(|node| address.settings_to_ask(node).ok()).collect();
    let asked = tokio::task::spawn_blocking(move || ask(settings));
    count(asked.await.unwrap_or_default(), used)
}

/// The answers of those who answer in time.
fn ask(settings: Vec<ClientSettings>) -> Vec<Node> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let answers = runtime.block_on(futures::future::join_all(settings.into_iter().map(named_by)));
    // Whatever the clients still do ends with it.
    runtime.shutdown_background();
    answers.into_iter().flatten().collect()
}

async fn named_by(settings: ClientSettings) -> Option<Node> {
    let client = Client::new(settings).ok()?;
    let named = tokio::time::timeout(ANSWERS_WITHIN, client.current_selected_node()).await;
    named.ok()?.ok().map(Node::from)
}

fn count(named: Vec<Node>, used: Option<&Node>) -> Option<Node> {
    let mut votes: BTreeMap<Node, usize> = BTreeMap::new();
    for node in named {
        *votes.entry(node).or_default() += 1;
    }
    votes.into_iter().max_by_key(|(node, votes)| (*votes, Some(node) != used)).map(|(node, _)| node)
}

#[cfg(test)]
mod tests {
    use super::{Node, count};

    fn node(port: u16) -> Node {
        Node { host: "10.0.0.1".to_owned(), port }
    }

    #[test]
    fn most_votes_win_and_a_tie_leaves_who_was_used_last() {
        assert_eq!(count(vec![], None), None);
        assert_eq!(count(vec![node(1), node(2), node(2)], Some(&node(2))), Some(node(2)));
        assert_eq!(count(vec![node(1), node(2)], Some(&node(1))), Some(node(2)));
        assert_eq!(count(vec![node(1), node(2)], Some(&node(2))), Some(node(1)));
        assert_eq!(count(vec![node(1)], Some(&node(1))), Some(node(1)), "nobody else is named");
    }
}
