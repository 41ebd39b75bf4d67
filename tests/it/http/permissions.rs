//! Every operation of the API's description, called by everybody, against a table of what is expected.
//!
//! The table (`tests/golden/access.txt`) is written by hand: an operation without a line fails, and so does a line without an
//! operation. What was answered stands in the failure, in the form of a line.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::server::{TestServer, Who, id};

const EXPECTED: &str = include_str!("../../golden/access.txt");

/// In the order of the table's columns.
const CALLERS: [Who; 9] =
    [Who::Anonymous, Who::Staff, Who::Support, Who::Alice, Who::Bea, Who::Carl, Who::Bob, Who::Agent, Who::OtherAgent];

const NOBODY: &str = "7e500000000040008000000000000001";

/// An operation: method, path with placeholders, and the rule that the description names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Operation {
    method: String,
    path: String,
    rule: String,
}

impl Operation {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// What reads comes first, what deletes last: so no call takes away what another one is about.
    fn turn(&self) -> u8 {
        match self.method.as_str() {
            "GET" => 0,
            "DELETE" => 3,
            _ if self.path.ends_with("/terminate/") => 2,
            _ => 1,
        }
    }
}

async fn operations(server: &TestServer) -> Vec<Operation> {
    let schema = server.get(Who::Anonymous, "/api/schema/").await.expect(200);
    let mut found = Vec::new();
    for (path, item) in schema["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let rule = operation["x-access"].as_str().unwrap_or_else(|| panic!("{method} {path} has no rule"));
            found.push(Operation { method: method.to_uppercase(), path: path.clone(), rule: rule.to_owned() });
        }
    }
    found.sort_by_key(|operation| (operation.turn(), operation.name()));
    found
}

/// A site with something behind every placeholder.
pub async fn furnished() -> TestServer {
    let server = TestServer::start().await;
    server.policy(|_| ()).await;
    server.report("climate-hpc1", "10", "2026-03-01").await;
    let hold = json!({"kind": "pause", "reason": "an inspection"});
    let path = format!("/api/marketplace-provider-resources/{}/holds/", id("resource", "climate-hpc1"));
    server.post(Who::Staff, &path, &hold).await.expect(201);
    // Two strangers whom nobody here is, so that one is left for whoever declines when the other is confirmed.
    let path = format!("/api/projects/{}/", id("project", "climate"));
    server.patch(Who::Alice, &path, &json!({"members": ["bob", "nobody", "nobody-else"]})).await.expect(200);
    let later = json!({"now": "2026-03-15T12:10:00Z"});
    server.put(Who::Staff, "/api/simulation/clock/", &later).await.expect(200);
    agent(&server).await;
    // Nobody listens there; what is sent waits.
    let webhook = json!({"webhook_url": "http://127.0.0.1:9/"});
    server.post(Who::Staff, "/api/event-consumers/register_webhook/", &webhook).await.expect(201);
    server
}

/// An agent with something of each kind that agents register.
async fn agent(server: &TestServer) {
    let register = async |path: &str, body: Value| {
        let made = server.post(Who::Agent, path, &body).await.expect(201);
        made["uuid"].as_str().unwrap().to_owned()
    };
    let identities = "/api/marketplace-site-agent-identities/";
    let agent = register(identities, json!({"offering": id("offering", "hpc1"), "name": "agent"})).await;
    let service = register(&format!("{identities}{agent}/register_service/"), json!({"name": "report"})).await;
    let place = format!("/api/marketplace-site-agent-services/{service}/register_processor/");
    register(&place, json!({"name": "reporter", "backend_type": "slurm"})).await;
    let place = format!("{identities}{agent}/register_event_subscription/");
    register(&place, json!({"observable_object_type": "resource"})).await;
}

/// Puts ids in the place of placeholders: those of the provider's side where there are several, else the first of the list.
pub async fn filled(server: &TestServer, path: &str) -> String {
    let known: BTreeMap<&str, String> = [
        ("/api/customers/", id("customer", "uni-a")),
        ("/api/marketplace-provider-offerings/", id("offering", "hpc1")),
        ("/api/marketplace-provider-resources/", id("resource", "climate-hpc1")),
        ("/api/marketplace-resources/", id("resource", "climate-hpc1")),
        ("/api/projects/", id("project", "climate")),
        ("/api/users/", id("user", "bob")),
    ]
    .into();
    let mut whole = String::new();
    for part in path.split_inclusive('/') {
        if !part.starts_with('{') {
            whole.push_str(part);
            continue;
        }
        let id = match known.get(whole.as_str()) {
            Some(id) => id.clone(),
            None => first_of(&server.get(Who::Staff, &whole).await.text, part.trim_matches(['{', '}', '/'])),
        };
        whole.push_str(&id);
        whole.push_str(part.split_once('}').unwrap().1);
    }
    whole
}

fn first_of(list: &str, named: &str) -> String {
    let rows: Value = serde_json::from_str(list).unwrap_or_default();
    let name = if named == "position" { "position" } else { "uuid" };
    rows[0][name].as_str().unwrap_or(NOBODY).to_owned()
}

/// The status alone: a live tail has no end to wait for.
async fn status(client: &reqwest::Client, who: Who, method: &str, url: &str) -> u16 {
    let mut request = client.request(method.parse::<Method>().unwrap(), url);
    if let Some(key) = who.key() {
        request = request.header("authorization", format!("Token {key}"));
    }
    if method != "GET" {
        request = request.json(&json!({}));
    }
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn every_operation_answers_everybody_as_the_table_says() {
    let client = reqwest::Client::new();
    let mut answered: BTreeMap<Operation, Vec<String>> = BTreeMap::new();
    for who in CALLERS {
        // Each on a site of their own: what one may change, the next one finds as it was.
        let server = furnished().await;
        for operation in operations(&server).await {
            let path = filled(&server, &operation.path).await;
            let status = status(&client, who, &operation.method, &server.url(&path)).await;
            answered.entry(operation).or_default().push(status.to_string());
        }
        server.app.settle().await.unwrap();
        server.stop().await;
    }
    let line = |o: &Operation, statuses: &[String]| format!("{} {} {}", o.name(), o.rule, statuses.join(" "));
    let answered: Vec<String> = answered.iter().map(|(operation, statuses)| line(operation, statuses)).collect();
    let lines = EXPECTED.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let expected: Vec<String> = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let wrong: Vec<&String> = answered.iter().filter(|line| !expected.contains(line)).collect();
    let gone: Vec<&String> = expected.iter().filter(|line| !answered.contains(line)).collect();
    assert!(
        wrong.is_empty() && gone.is_empty(),
        "tests/golden/access.txt does not say what the API does.\nAnswered, and not expected:\n{wrong:#?}\nExpected, and not answered:\n{gone:#?}"
    );
}

#[test]
fn the_table_itself_keeps_to_the_rules() {
    for line in EXPECTED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, path, rule, anonymous, staff, support, owners @ .., agent, other] = &words[..] else {
            panic!("{line}: a method, a path, a rule and nine statuses are expected")
        };
        assert_eq!(owners.len(), 4, "{line}: nine statuses are expected");
        assert_eq!(
            *anonymous != "401",
            *rule == "public",
            "{line}: who gives no token is refused, unless it is public"
        );
        assert!(!["401", "403"].contains(staff), "{line}: staff may do everything");
        let refused = |statuses: &[&str]| statuses.iter().all(|status| *status == "403");
        match *rule {
            "staff" => assert!(refused(&[support, agent, other]) && refused(owners), "{line}: staff only"),
            "staff_or_support" => {
                assert!(refused(&[agent, other]) && refused(owners), "{line}: staff and support only");
            }
            "staff_or_agent" => assert!(refused(&[support]) && refused(owners), "{line}: staff and agents only"),
            "public" | "signed_in" => {}
            other => panic!("{path}: there is no rule {other}"),
        }
    }
}
