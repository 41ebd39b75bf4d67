//! Processes on one database: the built binary, started, killed, frozen and woken.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use sluice::store::address::Database;
use tempfile::TempDir;

use crate::support::database::postgres;

/// The keys of the site file below.
pub const STAFF: &str = "00000000000000000000000000000000000root0";
pub const AGENT: &str = "00000000000000000000000000000agent0hpc01";

/// Resources of the site.
pub const RESOURCES: usize = 24;

/// How long a lease holds, seconds.
pub const LEASE_SECONDS: u64 = 2;

fn site() -> String {
    let resource = |n: usize| {
        format!(
            "  - {{slug: r{n}, name: r{n}, project: climate, offering: hpc1, backend_id: acc{n}, \
             limits: {{node_hours: 1000}}, created: 2025-11-01}}"
        )
    };
    let resources = (0..RESOURCES).map(resource).collect::<Vec<_>>().join("\n");
    format!(
        r"
customers:
  - {{slug: uni-a, name: University A, owners: [{{username: alice, email: alice@uni-a.example, full_name: Alice A}}]}}
projects: [{{slug: climate, name: Climate modelling, customer: uni-a}}]
offerings:
  - slug: hpc1
    name: SLURM HPC cluster
    customer: uni-a
    components: [{{type: node_hours, name: Node-hours, measured_unit: hours, billing_type: limit, limit_period: month, slurm_tres: node}}]
policies:
  - {{slug: monthly, offering: hpc1, actions: [notify_organization_owners, request_slurm_resource_downscaling, request_slurm_resource_pausing], apply_to_all: true, grace_ratio: 0.2}}
resources:
{resources}
tokens:
  - {{user: root, role: staff, key: {STAFF}}}
  - {{user: agent-hpc1, role: agent, offering: hpc1, key: {AGENT}}}
"
    )
}

/// What a process is now.
struct Instance {
    child: Child,
    url: String,
}

/// A database with a site, and processes that serve it.
pub struct Cluster {
    folder: TempDir,
    pub database: Database,
    /// Where the processes find it.
    way: String,
    instances: Mutex<Vec<Option<Instance>>>,
    pub said: Arc<Mutex<String>>,
    client: Client,
}

impl Cluster {
    /// The site, and so many processes, which find the database on this way to it.
    pub fn start(count: usize, way: impl FnOnce(&str) -> String) -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let database = postgres(&folder.path().join("sluice.db"));
        let Database::Postgres(url) = &database else { unreachable!("it is on a server") };
        let way = way(url);
        let client = Client::builder().timeout(std::time::Duration::from_secs(20)).build().unwrap();
        let instances = Mutex::new((0..count).map(|_| None).collect());
        let cluster = Self { folder, database, way, instances, said: Arc::default(), client };
        let file = cluster.folder.path().join("site.yaml");
        std::fs::write(&file, site()).unwrap();
        let applied = cluster.command(0).args(["apply", "-f", file.to_str().unwrap()]).output().unwrap();
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        (0..count).for_each(|number| cluster.serve(number));
        Arc::new(cluster)
    }

    fn command(&self, number: usize) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("sluice"));
        let own = self.folder.path().join(number.to_string());
        command.env_clear().env("SLUICE_DATABASE", &self.way).env("SLUICE_DATA_DIR", &own).env("NO_COLOR", "1");
        command.env("SLUICE_MAIL__FOLDER", self.folder.path().join("mail")).env("SLUICE_LOG__LEVEL", "info");
        // Nobody answers what is handed over.
        command.env("SLUICE_DISPATCH_WINDOW", "10000");
        command.env("SLUICE_LIMITS__LEASE_SECONDS", LEASE_SECONDS.to_string());
        command.env("SLUICE_LIMITS__IDLE_TRANSACTION_SECONDS", LEASE_SECONDS.to_string());
        command
    }

    /// Starts a process, and waits until it accepts requests.
    pub fn serve(&self, number: usize) {
        let mut command = self.command(number);
        command.args(["serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (said, mut stderr) = (Arc::clone(&self.said), BufReader::new(child.stderr.take().unwrap()));
        std::thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                said.lock().unwrap().extend([number.to_string().as_str(), ": ", line.as_str()]);
                line.clear();
            }
        });
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap_or_default().to_owned();
        assert!(url.starts_with("http://"), "{number} did not start: {line:?}\n{}", self.said.lock().unwrap());
        // Whatever it prints besides must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut stdout.by_ref(), &mut std::io::sink()));
        self.instances.lock().unwrap()[number] = Some(Instance { child, url });
    }

    /// Kills a process at once.
    pub fn kill(&self, number: usize) {
        let mut instance = self.instances.lock().unwrap()[number].take().unwrap();
        instance.child.kill().unwrap();
        instance.child.wait().unwrap();
    }

    /// Sends a signal by its name to a process.
    pub fn signal(&self, number: usize, signal: &str) {
        let pid = self.instances.lock().unwrap()[number].as_ref().unwrap().child.id();
        assert!(Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().unwrap().success());
    }

    /// Asks every process to end, and waits until it has.
    pub fn stop(&self) {
        (0..self.count()).for_each(|number| self.signal(number, "TERM"));
        for instance in self.instances.lock().unwrap().iter_mut() {
            let status = instance.take().unwrap().child.wait().unwrap();
            assert!(status.success(), "{status}\n{}", self.said.lock().unwrap());
        }
    }

    /// Processes, those that are down too.
    pub fn count(&self) -> usize {
        self.instances.lock().unwrap().len()
    }

    /// The address of a process that is up.
    pub fn url(&self, number: usize) -> Option<String> {
        self.instances.lock().unwrap()[number].as_ref().map(|instance| instance.url.clone())
    }

    /// Sends a request to a process. None: it is down, or did not answer.
    pub async fn send(
        &self,
        number: usize,
        key: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Option<(StatusCode, String)> {
        let request = self.client.request(method, format!("{}{path}", self.url(number)?));
        let request = request.header("authorization", format!("Token {key}"));
        let request = if let Some(body) = body { request.json(body) } else { request };
        let response = request.send().await.ok()?;
        let status = response.status();
        Some((status, response.text().await.ok()?))
    }

    /// The process that leads, as the processes themselves say.
    pub async fn leader(&self) -> Option<usize> {
        for number in 0..self.count() {
            let answer = self.send(number, STAFF, Method::GET, "/metrics", None).await;
            if answer.is_some_and(|(_, text)| text.lines().any(|line| line == "sluice_leader 1")) {
                return Some(number);
            }
        }
        None
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for instance in self.instances.lock().unwrap().iter_mut().flatten() {
            let _ = instance.child.kill();
            let _ = instance.child.wait();
        }
    }
}
