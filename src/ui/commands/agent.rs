//! Site agents: the list, and one with what it runs, how its commands go, and its log.

use askama::Template;
use axum::extract::Path;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::ui::allocation::encoded;
use crate::ui::frame::{Frame, Section};
use crate::ui::problem::Problem;
use crate::ui::read::Named;
use crate::ui::sheet::{self, ROWS, Sheet};
use crate::ui::standing::{self, Tone};
use crate::ui::visit::{Shown, Visit, page};
use crate::ui::words::{self, Moment};

/// The API's collection.
pub const COLLECTION: &str = "/api/marketplace-site-agent-identities/";

#[derive(Deserialize)]
struct ServiceRead {
    name: String,
    mode: String,
    modified: DateTime<Utc>,
}

#[derive(Deserialize)]
struct Compatibility {
    status: String,
    message: String,
}

#[derive(Deserialize)]
struct Package {
    package: String,
    version: String,
}

#[derive(Deserialize)]
struct AgentRead {
    uuid: String,
    offering: String,
    name: String,
    version: String,
    last_restarted: Option<DateTime<Utc>>,
    dependencies: Vec<Package>,
    created: DateTime<Utc>,
    modified: DateTime<Utc>,
    services: Vec<ServiceRead>,
    compatibility: Compatibility,
}

impl AgentRead {
    fn tested(&self) -> Tone {
        if self.compatibility.status == "compatible" {
            Tone { class: "normal", icon: "circle-check", word: "Tested" }
        } else {
            Tone { class: "plain", icon: "info", word: "Not tested" }
        }
    }
}

/// An agent of the list.
pub struct AgentRow {
    /// Its page.
    pub href: String,
    /// Its name.
    pub name: String,
    /// The offering.
    pub offering: String,
    /// Its version.
    pub version: String,
    /// Whether the version is one that was tested.
    pub tested: Tone,
    /// What it runs.
    pub services: String,
    /// When it registered last.
    pub modified: Moment,
}

async fn offering_name(visit: &Visit, id: &str) -> Result<String, Problem> {
    let path = format!("/api/marketplace-provider-offerings/{}/", encoded(id));
    Ok(visit.api.find::<Named>(&path).await?.map_or_else(|| id.to_owned(), |offering| offering.name))
}

/// The list of agents.
pub async fn list(visit: &Visit) -> Result<(Sheet, Vec<AgentRow>), Problem> {
    let found = visit.api.list::<AgentRead>(&format!("{COLLECTION}?page={}&page_size={ROWS}", visit.page()?)).await?;
    let mut rows = Vec::new();
    for agent in &found.rows {
        rows.push(AgentRow {
            href: format!("/agents/{}", agent.uuid),
            name: agent.name.clone(),
            offering: offering_name(visit, &agent.offering).await?,
            version: agent.version.clone(),
            tested: agent.tested(),
            services: agent.services.iter().map(|service| service.name.as_str()).collect::<Vec<_>>().join(", "),
            modified: Moment::of(agent.modified),
        });
    }
    Ok((Sheet::plain(visit, found.rows.len(), found.total)?, rows))
}

#[derive(Deserialize)]
struct LogRead {
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    timestamp: Decimal,
    level: String,
    message: String,
    module: String,
}

/// A line of an agent's log.
struct LogLine {
    at: Moment,
    level: String,
    class: &'static str,
    icon: &'static str,
    message: String,
    module: String,
}

impl LogLine {
    fn of(read: &LogRead) -> Self {
        let micros = read.timestamp.checked_mul(Decimal::from(1_000_000)).and_then(|micros| micros.to_i64());
        let (class, icon) = match read.level.as_str() {
            "ERROR" | "CRITICAL" => ("pause", "circle-x"),
            "WARNING" => ("warn", "triangle-alert"),
            _ => ("plain", "info"),
        };
        Self {
            at: Moment::of(micros.and_then(DateTime::from_timestamp_micros).unwrap_or_default()),
            level: read.level.to_lowercase(),
            class,
            icon,
            message: read.message.clone(),
            module: read.module.clone(),
        }
    }
}

/// How the commands of its offering stand.
struct Count {
    tone: Tone,
    count: String,
    href: String,
}

#[derive(Deserialize)]
struct Queue {
    rmq_username: String,
    object_types: Vec<String>,
    queue_created: bool,
    delivery: String,
    scopes: Vec<Scope>,
}

#[derive(Deserialize)]
struct Scope {
    uuid: String,
}

/// The page of an agent.
#[derive(Template)]
#[template(path = "agent.html")]
struct AgentPage {
    frame: Frame,
    path: String,
    version: String,
    tested: Tone,
    tested_says: String,
    offering: String,
    restarted: Option<Moment>,
    created: Moment,
    modified: Moment,
    services: Vec<(String, String, Moment)>,
    queues: Vec<(String, String, bool)>,
    packages: Vec<(String, String)>,
    counts: Vec<Count>,
    commands: String,
    list: Sheet,
    lines: Vec<LogLine>,
}

const LEVELS: [(&str, &str); 5] =
    [("CRITICAL", "Critical"), ("ERROR", "Error"), ("WARNING", "Warning"), ("INFO", "Info"), ("DEBUG", "Debug")];

async fn counts(visit: &Visit, offering: &str) -> Result<Vec<Count>, Problem> {
    let mut counts = Vec::new();
    for status in ["failed", "no_answer", "queued", "sent", "confirmed"] {
        let path = format!("/api/dispatches/?scope_uuid={offering}&outcome={status}&page_size=1&field=uuid");
        let found = visit.api.list_if_allowed::<IgnoredAny>(&path).await?;
        if found.total > 0 {
            counts.push(Count {
                tone: standing::agent(status),
                count: words::whole(found.total),
                href: format!("/commands?offering={offering}&status={status}"),
            });
        }
    }
    Ok(counts)
}

/// The page of an agent.
pub async fn show(visit: Visit, Path(id): Path<String>) -> Shown {
    let path = format!("{COLLECTION}{}/", encoded(&id));
    let agent = visit.api.find::<AgentRead>(&path).await?.ok_or_else(Problem::not_found)?;
    let asked = sheet::asked(&visit, &[("level", "level")]);
    let logs = format!(
        "/api/marketplace-site-agent-logs/?agent_identity_uuid={}&{asked}&page={}&page_size={ROWS}",
        agent.uuid,
        visit.page()?
    );
    let found = visit.api.list::<LogRead>(&logs).await?;
    let list = Sheet::plain(&visit, found.rows.len(), found.total)?;
    let list = list.filtered(&visit, vec![sheet::filter(&visit, "Level", "level", &LEVELS)], None, &[]);
    let queues = visit.api.list_if_allowed::<Queue>("/api/event-consumers/?delivery=rmq&page_size=100").await?;
    let queues = queues
        .rows
        .into_iter()
        .filter(|queue| queue.delivery == "rmq" && queue.scopes.iter().any(|scope| scope.uuid == agent.offering));
    let kinds = |queue: &Queue| {
        if queue.object_types.is_empty() { "all kinds".to_owned() } else { queue.object_types.join(", ") }
    };
    let frame = Frame::of(&visit, agent.name.clone(), Section::Commands).await;
    let frame = frame.under("/commands", "Commands").under("/commands?tab=agents", "Agents");
    page(&AgentPage {
        frame,
        path: visit.path.clone(),
        tested: agent.tested(),
        tested_says: agent.compatibility.message.clone(),
        offering: offering_name(&visit, &agent.offering).await?,
        restarted: agent.last_restarted.map(Moment::of),
        created: Moment::of(agent.created),
        modified: Moment::of(agent.modified),
        services: agent.services.iter().map(|s| (s.name.clone(), s.mode.clone(), Moment::of(s.modified))).collect(),
        queues: queues.map(|queue| (kinds(&queue), queue.rmq_username, queue.queue_created)).collect(),
        packages: agent.dependencies.into_iter().map(|known| (known.package, known.version)).collect(),
        counts: counts(&visit, &agent.offering).await?,
        commands: format!("/commands?offering={}", agent.offering),
        version: agent.version,
        list,
        lines: found.rows.iter().map(LogLine::of).collect(),
    })
}
