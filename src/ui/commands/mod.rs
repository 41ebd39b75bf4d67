//! What site agents were told, and how that went: the list over all policies, what nobody sends again by itself, the agents,
//! and accounts that were left restricted.

pub mod agent;
pub mod dispatch;
pub mod letters;

use askama::Template;
use axum::extract::Path;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::IgnoredAny;

use self::agent::AgentRow;
use self::letters::{AccountRow, LetterRow};
use super::allocation::encoded;
use super::frame::{Frame, Section};
use super::problem::Problem;
use super::sheet::{self, ROWS, Sheet};
use super::standing::{self, Tone};
use super::visit::{Shown, Visit, page};
use super::words::{self, Moment};

/// A command that was meant.
#[derive(Debug, Clone, Deserialize)]
pub struct CommandRead {
    command_type: String,
    shell_command: String,
    reported: Option<bool>,
}

/// A message to an agent, as far as pages read it.
#[derive(Debug, Clone, Deserialize)]
pub struct DispatchRead {
    uuid: String,
    policy_uuid: String,
    resource_uuid: String,
    resource_name: String,
    billing_period: String,
    status: String,
    queued_at: DateTime<Utc>,
    sent_at: Option<DateTime<Utc>>,
    confirmed_at: Option<DateTime<Utc>>,
    execution_mode: String,
    error_message: String,
    commands: Vec<CommandRead>,
    reported_commands: Option<Vec<String>>,
    differences: Vec<String>,
}

/// What a type of command sets.
pub fn kind(command_type: &str) -> &'static str {
    match command_type {
        "fairshare" => "fairshare",
        "limits" => "limits",
        "qos" => "class of service",
        "reset_usage" => "raw usage from 0",
        _ => "something else",
    }
}

/// A row of the list.
pub struct Row {
    /// Its page.
    pub href: String,
    /// When it was decided.
    pub at: Moment,
    /// The allocation.
    pub name: String,
    /// The allocation's page.
    pub allocation: String,
    /// What the commands set.
    pub sets: String,
    /// The period.
    pub period: String,
    /// When a queue took it.
    pub sent: Option<Moment>,
    /// It has not gone out, and is still to.
    pub waits: bool,
    /// How long after it was decided the agent answered.
    pub answered: String,
    /// How it stands.
    pub status: Tone,
    /// How long it has waited, where it waits.
    pub age: String,
    /// Whether what was run is what was meant.
    pub run: (&'static str, &'static str),
    /// What went wrong.
    pub error: String,
}

/// Whether what was run is what was meant, with the class of the words.
pub fn run_as_meant(of: &DispatchRead) -> (&'static str, &'static str) {
    match (&of.reported_commands, of.status.as_str()) {
        (None, _) => ("", "quiet"),
        (Some(_), "failed") => ("failed", "tone pause"),
        (Some(_), _) if !of.differences.is_empty() => ("differs", "tone warn"),
        (Some(_), _) => ("as intended", "quiet"),
    }
}

impl Row {
    fn of(of: &DispatchRead, now: DateTime<Utc>) -> Self {
        let sets: Vec<&str> = of.commands.iter().map(|command| kind(&command.command_type)).collect();
        let waits = matches!(of.status.as_str(), "queued" | "sent" | "no_answer");
        let since = of.sent_at.unwrap_or(of.queued_at);
        Self {
            href: format!("/commands/{}", of.uuid),
            at: Moment::of(of.queued_at),
            name: of.resource_name.clone(),
            allocation: format!("/allocations/{}", encoded(&of.resource_uuid)),
            sets: sets.join(", "),
            period: of.billing_period.clone(),
            sent: of.sent_at.map(Moment::of),
            waits: of.status == "queued",
            answered: of.confirmed_at.map(|at| words::lapse(at - of.queued_at)).unwrap_or_default(),
            status: standing::agent(&of.status),
            age: if waits { words::duration(now - since) } else { String::new() },
            run: run_as_meant(of),
            error: of.error_message.clone(),
        }
    }
}

/// A tab.
pub struct Tab {
    /// Its name.
    pub name: &'static str,
    /// Its address.
    pub href: String,
    /// How many rows it has.
    pub count: Option<String>,
    /// Whether it is shown.
    pub current: bool,
}

/// The page.
#[derive(Template)]
#[template(path = "commands.html")]
struct CommandsPage {
    frame: Frame,
    path: String,
    tabs: Vec<Tab>,
    current: &'static str,
    list: Sheet,
    rows: Vec<Row>,
    letters: Vec<LetterRow>,
    agents: Vec<AgentRow>,
    accounts: Vec<AccountRow>,
    may_resend: bool,
}

const STATUSES: [(&str, &str); 6] = [
    ("failed", "Failed"),
    ("no_answer", "No answer"),
    ("queued", "Queued"),
    ("sent", "Sent"),
    ("confirmed", "Confirmed"),
    ("superseded", "Superseded"),
];

const TYPES: [(&str, &str); 4] = [
    ("fairshare", "Fairshare"),
    ("limits", "Limits"),
    ("qos", "Class of service"),
    ("reset_usage", "Raw usage from 0"),
];

/// Parameters of the address, and what the API calls them.
const ASKED: [(&str, &str); 8] = [
    ("status", "outcome"),
    ("type", "action"),
    ("policy", "policy_uuid"),
    ("offering", "scope_uuid"),
    ("allocation", "resource_uuid"),
    ("period", "billing_period"),
    ("from", "from"),
    ("to", "to"),
];

/// The API's list.
const COLLECTION: &str = "/api/dispatches/";

const POLICIES: &str = "/api/marketplace-slurm-periodic-usage-policies/?page_size=100&field=uuid&field=slug";

async fn commands(visit: &Visit) -> Result<(Sheet, Vec<Row>), Problem> {
    let query = sheet::asked(visit, &ASKED);
    let path = format!("{COLLECTION}?{query}&page={}&page_size={ROWS}", visit.page()?);
    let found = visit.api.list::<DispatchRead>(&path).await?;
    let mut filters =
        vec![sheet::filter(visit, "Status", "status", &STATUSES), sheet::filter(visit, "Sets", "type", &TYPES)];
    let policies = sheet::of_objects(visit, "Policy", "policy", POLICIES).await?;
    if policies.value.is_some() || policies.choices.len() > 1 {
        filters.push(policies);
    }
    for (name, key) in [("Allocation", "allocation"), ("Offering", "offering"), ("Period", "period")] {
        let Some(set) = visit.query.get(key) else { continue };
        let value = match key {
            "allocation" => found.rows.first().map_or_else(|| set.to_owned(), |row| row.resource_name.clone()),
            _ => set.to_owned(),
        };
        filters.push(sheet::fixed(visit, name, key, Some(value)));
    }
    let list = Sheet::plain(visit, found.rows.len(), found.total)?;
    let list = list.filtered(visit, filters, Some(sheet::range(visit)), &[]);
    Ok((
        list.with_files(visit, "/commands/export/commands"),
        found.rows.iter().map(|row| Row::of(row, visit.now)).collect(),
    ))
}

/// How many rows a list of the API has; none where the caller may not read it.
async fn count(visit: &Visit, path: &str) -> Option<String> {
    let listed = visit.api.list::<IgnoredAny>(&format!("{path}?page_size=1")).await.ok()?;
    Some(words::whole(listed.total))
}

async fn tabs(visit: &Visit, current: &str) -> Vec<Tab> {
    let known = [
        ("Commands", "", COLLECTION),
        ("Not sent again", "dead", "/api/dead-letters/"),
        ("Agents", "agents", agent::COLLECTION),
        ("Left restricted", "accounts", "/api/accounts-left-restricted/"),
    ];
    let mut tabs = Vec::new();
    for (name, word, path) in known {
        let count = count(visit, path).await;
        if count.is_some() {
            let href = if word.is_empty() { "/commands".to_owned() } else { format!("/commands?tab={word}") };
            tabs.push(Tab { name, href, count, current: current == word });
        }
    }
    tabs
}

/// The page of commands, with the tab that is asked for.
pub async fn show(visit: Visit) -> Shown {
    let current = ["dead", "agents", "accounts"].into_iter().find(|word| visit.query.get("tab") == Some(word));
    let (mut rows, mut letters, mut agents, mut accounts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let list;
    match current {
        Some("dead") => (list, letters) = letters::dead(&visit).await?,
        Some("agents") => (list, agents) = agent::list(&visit).await?,
        Some("accounts") => (list, accounts) = letters::accounts(&visit).await?,
        _ => (list, rows) = commands(&visit).await?,
    }
    let current = current.unwrap_or_default();
    let tabs = tabs(&visit, current).await;
    let may_resend = visit.is_staff();
    let path = visit.path.clone();
    let frame = Frame::of(&visit, "Commands", Section::Commands).await;
    page(&CommandsPage { frame, path, tabs, current, list, rows, letters, agents, accounts, may_resend })
}

/// Columns of the file.
static COLUMNS: [&str; 13] = [
    "uuid",
    "resource_name",
    "resource_uuid",
    "policy_uuid",
    "billing_period",
    "status",
    "queued_at",
    "sent_at",
    "confirmed_at",
    "execution_mode",
    "error_message",
    "intended_commands",
    "reported_commands",
];

/// The list of commands as a file.
pub async fn export(visit: Visit, Path(file): Path<String>) -> Shown {
    if !matches!(file.as_str(), "commands.csv" | "commands.ndjson") {
        return Err(Problem::not_found());
    }
    sheet::file(&visit, &file, &COLUMNS, format!("{COLLECTION}?{}&", sheet::asked(&visit, &ASKED)))
}
