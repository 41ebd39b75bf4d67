//! A real server on a free port over a database of its own, on a simulated clock, with a small site and a client per role.
//!
//! The site: `uni-a` offers `hpc1` and has the resource `climate-hpc1`; `uni-b`, owned by somebody else, has `bio-hpc1` on
//! the same offering; `uni-c` offers `hpc2`.

use std::net::SocketAddr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sluice::app::{App, AppOptions};
use sluice::commands::execute::CommandMeta;
use sluice::domain::ids::slug_uuid;
use sluice::http::{ApiState, router};
use sluice::serve::Server;
use sluice::site::{Site, SiteFile};
use sluice::store::Distance;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::store::esdb::Fixture;

/// Where the clock stands at the start.
pub const START: &str = "2026-03-15T12:00:00Z";

/// Policies, as a path.
pub const POLICIES: &str = "/api/marketplace-slurm-periodic-usage-policies/";
/// Resources, as a path.
pub const RESOURCES: &str = "/api/marketplace-provider-resources/";
/// Usage, as a path.
pub const USAGES: &str = "/api/marketplace-component-usages/";

const SITE: &str = r"
organization_groups: [{slug: research, name: Research Universities}]
customers:
  - {slug: uni-a, name: University A, groups: [research], owners: [{username: alice, email: alice@uni-a.example, full_name: Alice A}]}
  - {slug: uni-b, name: University B, owners: [{username: bea, email: bea@uni-b.example, full_name: Bea B}]}
  - {slug: uni-c, name: University C, owners: [{username: carl, email: carl@uni-c.example, full_name: Carl C}]}
projects:
  - {slug: climate, name: Climate modelling, customer: uni-a, members: [{username: bob, email: bob@uni-a.example}]}
  - {slug: bio, name: Biology, customer: uni-b}
offerings:
  - slug: hpc1
    name: SLURM HPC cluster
    customer: uni-a
    components: [{type: node_hours, name: Node-hours, measured_unit: hours, billing_type: limit, limit_period: quarterly, slurm_tres: node}]
    qos: {default: normal, downscaled: slowdown, paused: blocked}
  - slug: hpc2
    name: Another cluster
    customer: uni-c
    components: [{type: cpu, name: CPU, measured_unit: hours, billing_type: usage}]
resources:
  - {slug: climate-hpc1, name: climate on hpc1, project: climate, offering: hpc1, backend_id: hpc_climate, limits: {node_hours: 1000}, created: 2025-11-01}
  - {slug: bio-hpc1, name: bio on hpc1, project: bio, offering: hpc1, backend_id: hpc_bio, limits: {node_hours: 500}, created: 2025-11-01}
tokens:
  - {user: root, role: staff, key: 00000000000000000000000000000000000root0}
  - {user: sam, role: support, key: 0000000000000000000000000000000support00}
  - {user: alice, role: owner, key: 00000000000000000000000000000000000alice}
  - {user: bea, role: owner, key: 0000000000000000000000000000000000000bea}
  - {user: carl, role: owner, key: 000000000000000000000000000000000000carl}
  - {user: bob, role: member, key: 0000000000000000000000000000000000000bob}
  - {user: agent-hpc1, role: agent, offering: hpc1, key: 00000000000000000000000000000agent0hpc01}
  - {user: agent-hpc2, role: agent, offering: hpc2, key: 00000000000000000000000000000agent0hpc02}
";

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Nobody that says who.
    Anonymous,
    /// Staff.
    Staff,
    /// Support.
    Support,
    /// Owns `uni-a`, which offers `hpc1`.
    Alice,
    /// Owns `uni-b`, which uses `hpc1`.
    Bea,
    /// Owns `uni-c`, which has nothing to do with `hpc1`.
    Carl,
    /// Member of the project `climate`.
    Bob,
    /// The agent of `hpc1`.
    Agent,
    /// The agent of `hpc2`.
    OtherAgent,
}

impl Who {
    /// Everybody with a token.
    pub const KNOWN: [Self; 8] =
        [Self::Staff, Self::Support, Self::Alice, Self::Bea, Self::Carl, Self::Bob, Self::Agent, Self::OtherAgent];

    /// The key of the token.
    pub fn key(self) -> Option<&'static str> {
        Some(match self {
            Self::Anonymous => return None,
            Self::Staff => "00000000000000000000000000000000000root0",
            Self::Support => "0000000000000000000000000000000support00",
            Self::Alice => "00000000000000000000000000000000000alice",
            Self::Bea => "0000000000000000000000000000000000000bea",
            Self::Carl => "000000000000000000000000000000000000carl",
            Self::Bob => "0000000000000000000000000000000000000bob",
            Self::Agent => "00000000000000000000000000000agent0hpc01",
            Self::OtherAgent => "00000000000000000000000000000agent0hpc02",
        })
    }
}

/// Where the log is when it is not in the database's file: `SLUICE_TEST_LOG=eventstoredb` puts it on the test fixture.
fn another_log() -> Option<Fixture> {
    let wanted = std::env::var("SLUICE_TEST_LOG").ok().filter(|wanted| !wanted.is_empty())?;
    assert_eq!(wanted, "eventstoredb", "SLUICE_TEST_LOG knows no other log");
    Some(Fixture::start())
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    /// The body as JSON; `null` if there is none.
    pub fn json(&self) -> Value {
        if self.text.is_empty() { Value::Null } else { serde_json::from_str(&self.text).unwrap() }
    }

    /// A header, empty if it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body, if the status is the one expected.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.json()
    }

    /// The messages on one field of a refusal.
    #[track_caller]
    pub fn refusal(&self, field: &str) -> String {
        let body = self.expect(400);
        body[field].as_array().unwrap_or_else(|| panic!("no {field} in {body}"))[0].as_str().unwrap().to_owned()
    }

    /// The `uuid` of every row of a list.
    #[track_caller]
    pub fn ids(&self) -> Vec<String> {
        self.expect(200).as_array().unwrap().iter().map(|row| row["uuid"].as_str().unwrap().to_owned()).collect()
    }
}

/// The server.
pub struct TestServer {
    pub app: Arc<App>,
    pub address: SocketAddr,
    pub metrics_address: Option<SocketAddr>,
    client: reqwest::Client,
    stop: CancellationToken,
    running: Option<JoinHandle<()>>,
    folder: tempfile::TempDir,
    _log: Option<Fixture>,
}

impl TestServer {
    /// A server with the small site, on a simulated clock.
    pub async fn start() -> Self {
        Self::customized(|_| ()).await
    }

    /// The same with other options.
    pub async fn customized(change: impl FnOnce(&mut AppOptions)) -> Self {
        Self::with(Some(START.parse().unwrap()), change).await
    }

    /// The same on the machine's clock.
    pub async fn on_real_time() -> Self {
        Self::with(None, |_| ()).await
    }

    async fn with(clock: Option<DateTime<Utc>>, change: impl FnOnce(&mut AppOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = crate::support::database::options(folder.path());
        options.simulated_clock = clock;
        let log = another_log();
        options.event_store = log.as_ref().map(|log| log.address().parse().unwrap());
        options.dispatch.publishes = true;
        change(&mut options);
        let app = App::open(options).await.unwrap();
        let file = SiteFile::read(SITE, chrono_tz::Tz::UTC, &|_| None).unwrap();
        let site = Site {
            registry: Arc::clone(&app.registry),
            registry_commands: Arc::clone(&app.registry_commands),
            allocations: Arc::clone(&app.allocations),
            directory: app.directory.clone(),
            read: app.read.clone(),
        };
        let meta = CommandMeta::system(Uuid::nil());
        site.apply(&file, false, &meta, app.clock.now(), &|_, _| ()).await.unwrap();
        let server = Server::start(Arc::clone(&app), "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (address, metrics_address) = (server.address(), server.metrics_address());
        let stop = CancellationToken::new();
        let (service, signal) = (router(ApiState::new(Arc::clone(&app))), stop.clone());
        let running = tokio::spawn(async move { server.run(service, signal).await.unwrap() });
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { app, address, metrics_address, client, stop, running: Some(running), folder, _log: log }
    }

    /// Ends the server; what it accepted must be shown by then.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.running.take().unwrap().await.unwrap();
        for consumer in self.app.consumers.status().await.unwrap() {
            assert_eq!(consumer.lag, Distance::NONE, "{} lags behind", consumer.name);
        }
        super::causes::every_event_has_its_cause(&self.app).await;
    }

    /// Where its files lie.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends anything.
    pub async fn send(
        &self,
        who: Who,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Answer {
        let mut request = self.client.request(method, self.url(path));
        if let Some(key) = who.key() {
            request = request.header("authorization", format!("Token {key}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    pub async fn get(&self, who: Who, path: &str) -> Answer {
        self.send(who, Method::GET, path, &[], None).await
    }

    pub async fn head(&self, who: Who, path: &str) -> Answer {
        self.send(who, Method::HEAD, path, &[], None).await
    }

    pub async fn post(&self, who: Who, path: &str, body: &Value) -> Answer {
        self.send(who, Method::POST, path, &[], Some(body.to_string())).await
    }

    pub async fn put(&self, who: Who, path: &str, body: &Value) -> Answer {
        self.send(who, Method::PUT, path, &[], Some(body.to_string())).await
    }

    pub async fn patch(&self, who: Who, path: &str, body: &Value) -> Answer {
        self.send(who, Method::PATCH, path, &[], Some(body.to_string())).await
    }

    pub async fn delete(&self, who: Who, path: &str) -> Answer {
        self.send(who, Method::DELETE, path, &[], None).await
    }

    /// The body of a policy on `hpc1` that does everything but mail strangers.
    pub fn policy_body(&self) -> Value {
        json!({
            "scope": self.url(&format!("/api/marketplace-provider-offerings/{}/", id("offering", "hpc1"))),
            "actions": "notify_organization_owners,request_slurm_resource_downscaling,request_slurm_resource_pausing",
            "apply_to_all": true,
            "component_limits_set": [],
            "grace_ratio": 0.2,
        })
    }

    /// Makes a policy; answers with its path.
    pub async fn policy(&self, change: impl FnOnce(&mut Value)) -> (String, Value) {
        let mut body = self.policy_body();
        change(&mut body);
        let policy = self.post(Who::Staff, POLICIES, &body).await.expect(201);
        (format!("{POLICIES}{}/", policy["uuid"].as_str().unwrap()), policy)
    }

    /// Reports a month-to-date total of `climate-hpc1` or another resource.
    pub async fn report(&self, resource: &str, amount: &str, date: &str) {
        let body = json!({"usages": [{"type": "node_hours", "amount": amount}], "resource": id("resource", resource), "date": date});
        self.post(Who::Agent, &format!("{USAGES}set_usage/"), &body).await.expect(201);
    }
}

/// The id that a slug of the site file has, 32 hex digits.
pub fn id(kind: &str, slug: &str) -> String {
    slug_uuid(kind, slug).simple().to_string()
}

/// The same with dashes.
pub fn dashed(kind: &str, slug: &str) -> String {
    slug_uuid(kind, slug).hyphenated().to_string()
}

/// The path of a resource.
pub fn resource_path(slug: &str) -> String {
    format!("{RESOURCES}{}/", id("resource", slug))
}
