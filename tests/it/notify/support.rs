//! A site with people who own things, on a simulated clock, and what reached them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sluice::app::{App, AppOptions};
use sluice::commands::allocation::{AllocationCommand, UsageReport};
use sluice::commands::execute::{CommandMeta, Executed};
use sluice::directory::UserDetails;
use sluice::domain::ids::{CustomerId, NoticeId, ProjectId, ResourceId, UserId, slug_uuid};
use sluice::domain::period::Month;
use sluice::domain::policy::PolicyTerms;
use sluice::events::allocation::{AllocationEvent, ResourceFacts};
use sluice::events::envelope::Position;
use sluice::events::notice::{NoticeFailed, NoticeSent};
use sluice::events::registry::{CustomerFacts, PolicyFacts, ProjectFacts};
use sluice::notify::{NotifyOptions, RetryOptions};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::world::{amounts, offering_facts, policy_facts, policy_id, resource_facts, resource_id};

/// When every story begins.
pub const START: &str = "2026-03-02T09:00:00Z";

pub fn meta() -> CommandMeta {
    CommandMeta::system(Uuid::from_u128(1))
}

pub fn user(name: &str) -> UserId {
    slug_uuid("user", name).into()
}

fn customer(name: &str) -> CustomerId {
    slug_uuid("customer", name).into()
}

/// The site, open.
pub struct Site {
    pub app: Arc<App>,
    pub options: AppOptions,
    folder: TempDir,
}

/// Options that try again at once, as often as a test says.
pub fn impatient() -> NotifyOptions {
    let retry = RetryOptions { first: Duration::ZERO, longest: Duration::ZERO, attempts_max: 3 };
    NotifyOptions { retry, ..NotifyOptions::default() }
}

impl Site {
    /// `uni-a`, owned by alice, has the resources `climate` and `ocean` with 1000 node hours each on `hpc1`, which belongs
    /// to `site`, owned by root; one policy with these terms.
    pub async fn new(terms: PolicyTerms, notify: NotifyOptions) -> Self {
        let folder = TempDir::new().unwrap();
        let options = AppOptions {
            simulated_clock: Some(START.parse().unwrap()),
            notify: crate::support::database::with_mail(notify, folder.path()),
            ..crate::support::database::options(folder.path())
        };
        let app = App::open(options.clone()).await.unwrap();
        let site = Self { app, options, folder };
        for name in ["alice", "root", "bob"] {
            site.put_user(name).await;
        }
        site.put_customer("site", &["root"]).await;
        site.put_customer("uni-a", &["alice"]).await;
        let project: ProjectId = slug_uuid("project", "climate").into();
        let work = ProjectFacts {
            project,
            slug: "climate".into(),
            name: "Climate".into(),
            customer: customer("uni-a"),
            members: BTreeSet::from([user("bob")]),
            pending: BTreeSet::new(),
            retired: false,
        };
        let registry = &site.app.registry_commands;
        registry.put_project(project, &meta(), |_| Ok(work.clone())).await.unwrap();
        let cluster = offering_facts(&["node"]);
        registry.put_offering(cluster.offering, &meta(), |_| Ok(cluster.clone())).await.unwrap();
        site.put_policy(policy_facts("main", terms)).await;
        for name in ["climate", "ocean"] {
            let facts: ResourceFacts =
                resource_facts(name, amounts(&[("node", "1000")]), "2025-01-01T00:00:00Z".parse().unwrap());
            site.execute(name, AllocationCommand::Register(Box::new(facts))).await;
        }
        site.app.settle().await.unwrap();
        site
    }

    pub async fn put_user(&self, name: &str) {
        let details = UserDetails {
            id: user(name),
            username: name.to_owned(),
            email: Some(format!("{name}@uni-a.example")),
            full_name: format!("{name} the First"),
        };
        self.app.directory.put_user(&details, self.now()).await.unwrap();
    }

    pub async fn put_customer(&self, name: &str, owners: &[&str]) {
        let facts = CustomerFacts {
            customer: customer(name),
            slug: name.into(),
            name: format!("Organisation {name}"),
            groups: BTreeSet::new(),
            owners: owners.iter().map(|owner| user(owner)).collect(),
            pending: BTreeSet::new(),
            retired: false,
        };
        self.app.registry_commands.put_customer(facts.customer, &meta(), |_| Ok(facts.clone())).await.unwrap();
    }

    pub async fn put_policy(&self, facts: PolicyFacts) {
        self.app.registry_commands.put_policy(facts.policy, &meta(), &|_| Ok(facts.clone())).await.unwrap();
        self.app.settle().await.unwrap();
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.app.clock.now()
    }

    pub async fn execute(&self, name: &str, command: AllocationCommand) -> Executed {
        let resource: ResourceId = resource_id(name);
        self.app.allocations.execute(resource, &command, &meta()).await.unwrap()
    }

    /// Reports this month's node hours, and lets everything follow that is due now.
    pub async fn report(&self, name: &str, node_hours: &str) -> Executed {
        let month = Month::of(self.now().date_naive());
        let done = self
            .execute(name, AllocationCommand::ReportUsage(UsageReport::new(month, amounts(&[("node", node_hours)]))));
        let done = done.await;
        self.app.settle().await.unwrap();
        done
    }

    pub async fn limit(&self, name: &str, node_hours: &str) {
        self.execute(name, AllocationCommand::ChangeLimits(amounts(&[("node", node_hours)]))).await;
        self.app.settle().await.unwrap();
    }

    /// Lets time pass, with what is due on the way.
    pub async fn pass(&self, seconds: i64) {
        self.app.advance_clock(self.now() + chrono::Duration::seconds(seconds)).await.unwrap();
    }

    /// Has a notice sent again that was given up, or all of them; says how many rows.
    pub async fn resend(&self, notice: Option<NoticeId>) -> u64 {
        self.app.notifier.resend(notice, &CommandMeta::system(Uuid::nil())).await.unwrap().0
    }

    /// Goes to an instant.
    pub async fn go_to(&self, instant: &str) {
        self.app.advance_clock(instant.parse().unwrap()).await.unwrap();
    }

    /// The same files, opened again; what was in memory is gone.
    pub async fn restart(&mut self, notify: NotifyOptions) {
        self.options.notify = crate::support::database::with_mail(notify, self.folder.path());
        self.options.simulated_clock = Some(self.now());
        self.app = App::open(self.options.clone()).await.unwrap();
    }

    /// The Maildir beside the database.
    pub fn mail_folder(&self) -> PathBuf {
        self.folder.path().join("mail/new")
    }

    /// The mails in it, sorted by recipient and text.
    pub fn mails(&self) -> Vec<Letter> {
        let Ok(entries) = std::fs::read_dir(self.mail_folder()) else { return Vec::new() };
        let read = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let mut mails: Vec<Letter> = entries.map(|entry| Letter::read(&read(entry))).collect();
        mails.sort();
        mails
    }

    /// How deliveries ended, as the log has it.
    pub async fn outcomes(&self) -> Vec<Result<NoticeSent, NoticeFailed>> {
        let events = self.app.store.read_all(Position::START, 10_000).await.unwrap();
        let outcome = |event: &sluice::events::envelope::RecordedEvent| match AllocationEvent::decode(
            &event.event_type,
            &event.payload,
        )?
        .unwrap()
        {
            AllocationEvent::NoticeSent(sent) => Some(Ok(sent)),
            AllocationEvent::NoticeFailed(failed) => Some(Err(failed)),
            _ => None,
        };
        events.iter().filter_map(outcome).collect()
    }

    /// The policy of the site.
    pub fn policy() -> sluice::domain::ids::PolicyId {
        policy_id("main")
    }
}

/// A mail that arrived.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Letter {
    pub to: String,
    pub subject: String,
    pub message_id: String,
    pub raw: String,
}

impl Letter {
    pub fn read(raw: &str) -> Self {
        let unfolded = raw.replace("\r\n", "\n").replace("\n ", " ");
        let header = |name: &str| {
            let line = unfolded.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        Self {
            to: header("To:"),
            subject: header("Subject:"),
            message_id: header("Message-ID:"),
            raw: raw.replace("=\r\n", "").replace("=\n", ""),
        }
    }
}
