//! The site file: reading it, what is refused, the plan, applying it, and the examples in docs/config.

mod apply;
mod examples;
mod refusals;

use std::sync::Arc;

use crate::support::positions::number;
use sluice::app::{App, AppOptions};
use sluice::clock::IdSource;
use sluice::commands::execute::CommandMeta;
use sluice::events::envelope::Actor;
use sluice::site::{Applied, ApplyError, ChangeKind, Plan, Site, SiteErrors, SiteFile};
use tempfile::TempDir;

/// A database on a clock that stands still.
pub(crate) struct Fixture {
    pub(crate) app: Arc<App>,
    _folder: TempDir,
}

pub(crate) const NOW: &str = "2026-02-15T12:00:00Z";

impl Fixture {
    pub(crate) async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let options = AppOptions {
            simulated_clock: Some(NOW.parse().unwrap()),
            ..crate::support::database::options(folder.path())
        };
        Self { app: App::open(options).await.unwrap(), _folder: folder }
    }

    pub(crate) fn site(&self) -> Site {
        Site {
            registry: Arc::clone(&self.app.registry),
            registry_commands: Arc::clone(&self.app.registry_commands),
            allocations: Arc::clone(&self.app.allocations),
            directory: self.app.directory.clone(),
            read: self.app.read.clone(),
        }
    }

    pub(crate) async fn try_apply(&self, text: &str, prune: bool) -> Result<Applied, ApplyError> {
        let file = read(text)?;
        self.site().apply(&file, prune, &meta(), self.app.clock.now(), &|_, _| {}).await
    }

    pub(crate) async fn apply(&self, text: &str) -> Applied {
        self.try_apply(text, false).await.unwrap()
    }

    pub(crate) async fn plan(&self, text: &str, prune: bool) -> Result<Plan, ApplyError> {
        self.site().plan(&read(text)?, prune, self.app.clock.now()).await
    }

    /// Events in the log.
    pub(crate) async fn events(&self) -> u64 {
        number(self.app.store.head().await.unwrap())
    }
}

pub(crate) fn meta() -> CommandMeta {
    let correlation_id = IdSource.fresh();
    CommandMeta { actor: Actor::CLI, correlation_id, causation_id: None, reason: None }
}

pub(crate) fn read(text: &str) -> Result<SiteFile, SiteErrors> {
    let variable = |name: &str| (name == "STAFF_TOKEN").then(|| "0123456789abcdef0123456789abcdef01234567".to_owned());
    SiteFile::read(text, chrono_tz::Tz::UTC, &variable)
}

/// Lines of a plan that change something: mark, kind, slug.
pub(crate) fn lines(plan: &Plan) -> Vec<String> {
    let changes = plan.changes.iter().filter(|change| change.action != ChangeKind::Unchanged);
    changes.map(|change| format!("{} {} {}", change.action.mark(), change.kind.word(), change.slug)).collect()
}

pub(crate) const SITE: &str = "
organization_groups: [{slug: research, name: Research}]
customers:
  - {slug: uni-a, name: University A, groups: [research], owners: [{username: alice, email: alice@uni-a.example, full_name: Alice A}]}
projects: [{slug: climate, name: Climate, customer: uni-a, members: [bob]}]
offerings:
  - slug: hpc1
    name: Cluster
    customer: uni-a
    components: [{type: node_hours, limit_period: quarterly, slurm_tres: node}, {type: mem}]
resources:
  - {slug: climate-hpc1, project: climate, offering: hpc1, backend_id: hpc_climate, limits: {node_hours: 0.1}, created: 2025-11-01}
policies:
  - slug: quarterly
    offering: hpc1
    actions: [notify_external_user, request_pausing]
    options: {notify_external_user: 'ops@hpc.example, Billing@hpc.example'}
    apply_to_all: true
    notification_threshold: 80
tokens:
  - {user: root, role: staff, key_env: STAFF_TOKEN}
  - {user: agent-hpc1, role: agent, offering: hpc1}
";
