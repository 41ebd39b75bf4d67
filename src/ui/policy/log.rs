//! The execution log of a policy, in two tabs: evaluations, and commands to the agent.

use askama::Template;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{COLLECTION, Policy};
use crate::ui::allocation::{encoded, state_change};
use crate::ui::assets;
use crate::ui::listing::{self, Filter};
use crate::ui::problem::Problem;
use crate::ui::sheet::filter;
use crate::ui::standing::{self, Tone};
use crate::ui::visit::Visit;
use crate::ui::words::{self, Moment};

/// Rows of a page.
const ROWS: u64 = 25;

#[derive(Deserialize)]
struct EvaluationRead {
    resource_uuid: String,
    resource_name: String,
    billing_period: String,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    usage_percentage: Decimal,
    actions_taken: Vec<String>,
    previous_state: crate::ui::allocation::Flags,
    new_state: crate::ui::allocation::Flags,
    evaluated_at: DateTime<Utc>,
    outcome: String,
    trigger: String,
    #[serde(default)]
    dispatch_uuid: Option<String>,
    stomp_message_sent: bool,
    site_agent_confirmed: Option<bool>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
struct CommandRead {
    resource_uuid: String,
    resource_name: String,
    command_type: String,
    shell_command: String,
    queued_at: DateTime<Utc>,
    sent_at: Option<DateTime<Utc>>,
    confirmed_at: Option<DateTime<Utc>>,
    status: String,
    execution_mode: String,
    error_message: String,
    reported: Option<bool>,
}

/// An evaluation.
pub struct EvaluationRow {
    /// When.
    pub at: Moment,
    /// Its allocation's page.
    pub href: String,
    /// Its allocation.
    pub name: String,
    /// The period.
    pub period: String,
    /// What led to it.
    pub led_by: String,
    /// The percentage; none where it failed.
    pub percent: String,
    /// The class of the percentage.
    pub class: &'static str,
    /// What was done.
    pub actions: Vec<(Tone, &'static str)>,
    /// What changed, in words.
    pub change: String,
    /// Whether something changed.
    pub changed: bool,
    /// What the agent made of it.
    pub agent: Tone,
    /// Why it failed.
    pub error: String,
}

/// A command.
pub struct CommandRow {
    /// When it was decided.
    pub at: Moment,
    /// When it was sent.
    pub sent: String,
    /// When it was answered.
    pub confirmed: String,
    /// Its allocation's page.
    pub href: String,
    /// Its allocation.
    pub name: String,
    /// What it sets.
    pub kind: String,
    /// The command as it was meant.
    pub command: String,
    /// What became of it.
    pub run: &'static str,
    /// `production` or `emulator`.
    pub mode: String,
    /// How it stands.
    pub status: Tone,
    /// What went wrong.
    pub error: String,
}

/// A tab.
pub struct Tab {
    /// Its name.
    pub name: &'static str,
    /// Its address.
    pub href: String,
    /// How many rows it has.
    pub count: String,
    /// Whether it is shown.
    pub current: bool,
}

/// The log.
#[derive(Template)]
#[template(path = "policy_log.html")]
pub struct Log {
    /// Both tabs.
    pub tabs: Vec<Tab>,
    /// Filters.
    pub filters: Vec<Filter>,
    /// Evaluations.
    pub evaluations: Vec<EvaluationRow>,
    /// Commands.
    pub commands: Vec<CommandRow>,
    /// Which rows are shown.
    pub line: String,
    /// Where the page before is.
    pub previous: Option<String>,
    /// Where the next page is.
    pub next: Option<String>,
    /// Where to see all.
    pub clear: Option<String>,
    /// Address of the icons.
    pub icons: &'static str,
}

fn effects(actions: &[String]) -> Vec<(Tone, &'static str)> {
    let one = |action: &String| match action.as_str() {
        "pause" => (standing::effect("pause"), "pause"),
        "downscale" => (standing::effect("downscale"), "slow down"),
        _ => (standing::effect("notify"), "warn"),
    };
    actions.iter().map(one).collect()
}

fn evaluation(row: &EvaluationRead) -> EvaluationRow {
    let actions = effects(&row.actions_taken);
    let changed = state_change(row.previous_state, row.new_state);
    let agent = match (&row.dispatch_uuid, row.stomp_message_sent, row.site_agent_confirmed) {
        (None, ..) => "not_needed",
        (_, _, Some(true)) => "confirmed",
        (_, _, Some(false)) => "failed",
        (_, true, None) => "sent",
        (_, false, None) => "queued",
    };
    EvaluationRow {
        at: Moment::of(row.evaluated_at),
        href: format!("/allocations/{}?tab=evaluations", encoded(&row.resource_uuid)),
        name: row.resource_name.clone(),
        period: row.billing_period.clone(),
        led_by: row.trigger.replace('_', " "),
        percent: if row.outcome == "failed" { String::new() } else { words::percent(row.usage_percentage) },
        class: actions.first().map_or("plain", |(tone, _)| tone.class),
        changed: changed != "No change",
        change: if row.outcome == "failed" { "Failed".to_owned() } else { changed },
        actions,
        agent: standing::agent(agent),
        error: row.error.clone().unwrap_or_default(),
    }
}

fn command(row: &CommandRead) -> CommandRow {
    let time = |at: Option<DateTime<Utc>>| at.map(|at| Moment::of(at).short).unwrap_or_default();
    CommandRow {
        at: Moment::of(row.queued_at),
        sent: time(row.sent_at),
        confirmed: time(row.confirmed_at),
        href: format!("/allocations/{}?tab=commands", encoded(&row.resource_uuid)),
        name: row.resource_name.clone(),
        kind: row.command_type.replace('_', " "),
        command: row.shell_command.clone(),
        run: match row.reported {
            Some(true) => "run as meant",
            Some(false) => "not among those that were run",
            None => "",
        },
        mode: row.execution_mode.clone(),
        status: standing::agent(&row.status),
        error: row.error_message.clone(),
    }
}

const ACTIONS: [(&str, &str); 4] =
    [("pause", "Pause"), ("downscale", "Slow down"), ("notify", "Warn"), ("none", "None")];
const OUTCOMES: [(&str, &str); 3] = [("changed", "Changed"), ("unchanged", "No change"), ("failed", "Failed")];
const TYPES: [(&str, &str); 4] = [
    ("fairshare", "Fairshare"),
    ("limits", "Limits"),
    ("qos", "Class of service"),
    ("reset_usage", "Reset of raw usage"),
];
const STATUSES: [(&str, &str); 6] = [
    ("queued", "Queued"),
    ("sent", "Sent"),
    ("no_answer", "No answer"),
    ("confirmed", "Confirmed"),
    ("failed", "Failed"),
    ("superseded", "Superseded"),
];

/// The log of a policy, with the tab and the filters that are asked for.
pub async fn of(visit: &Visit, policy: &Policy) -> Result<Log, Problem> {
    let is_commands = visit.query.get("tab") == Some("commands");
    let page = visit.page()?;
    let asked = ["action", "outcome", "billing_period", "resource_uuid"];
    // A form sends what was left empty too.
    let query = visit.query.only(|name| asked.contains(&name) && !visit.query.has_empty(name)).encoded();
    let base = format!("{COLLECTION}/{}", policy.uuid);
    let path = |list: &str| format!("{base}/{list}/?{query}&page={page}&page_size={ROWS}");
    let (mut evaluations, mut commands) = (Vec::new(), Vec::new());
    let shown;
    if is_commands {
        let found = visit.api.list::<CommandRead>(&path("command-history")).await?;
        (commands, shown) = (found.rows.iter().map(command).collect(), found.total);
    } else {
        let found = visit.api.list::<EvaluationRead>(&path("evaluation-logs")).await?;
        (evaluations, shown) = (found.rows.iter().map(evaluation).collect(), found.total);
    }
    let all = async |list: &str| -> Result<u64, Problem> {
        Ok(visit.api.list::<IgnoredAny>(&format!("{base}/{list}/?page_size=1&field=uuid")).await?.total)
    };
    let counts = [all("evaluation-logs").await?, all("command-history").await?];
    let tab = |name, word: &str, n: u64, current| Tab {
        name,
        href: if word.is_empty() { visit.path.clone() } else { format!("{}?tab={word}", visit.path) },
        count: words::whole(n),
        current,
    };
    let filters = if is_commands {
        vec![filter(visit, "Type", "action", &TYPES), filter(visit, "Status", "outcome", &STATUSES)]
    } else {
        vec![filter(visit, "Action", "action", &ACTIONS), filter(visit, "Outcome", "outcome", &OUTCOMES)]
    };
    let rows = (evaluations.len() + commands.len()) as u64;
    Ok(Log {
        tabs: vec![
            tab("Evaluation history", "", counts[0], !is_commands),
            tab("Command history", "commands", counts[1], is_commands),
        ],
        clear: (!query.is_empty())
            .then(|| if is_commands { format!("{}?tab=commands", visit.path) } else { visit.path.clone() }),
        filters,
        evaluations,
        commands,
        line: listing::line(page, ROWS, rows, shown),
        previous: (page > 1).then(|| visit.at_page(page - 1)),
        next: (page * ROWS < shown).then(|| visit.at_page(page + 1)),
        icons: assets::address("icons.svg"),
    })
}
