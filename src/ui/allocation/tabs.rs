//! The tabs of an allocation: its timeline, evaluations, commands, holds and users.

use askama::Template;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::ui::problem::Problem;
use crate::ui::read::AllocationState;
use crate::ui::standing::{self, Tone};
use crate::ui::visit::Visit;
use crate::ui::words::{self, Moment};
use crate::ui::{assets, listing};

/// Rows of a tab.
const ROWS: u64 = 20;

/// A line of a list.
pub struct Line {
    /// By which a marker of the chart finds it.
    pub id: String,
    /// When.
    pub at: Moment,
    /// Its icon.
    pub icon: &'static str,
    /// The class of its icon.
    pub class: &'static str,
    /// What, in bold where it changed something.
    pub head: String,
    /// What, in full.
    pub text: String,
    /// At the end.
    pub end: String,
    /// Where it can be released.
    pub release: Option<String>,
}

/// A command, and what was run.
pub struct Command {
    /// The page of its message.
    pub href: String,
    /// When it was decided.
    pub at: Moment,
    /// When it was sent, and when it was answered.
    pub sent: String,
    /// What it sets.
    pub kind: String,
    /// The command as it was meant.
    pub command: String,
    /// Whether it was among those that the agent ran.
    pub run: &'static str,
    /// How it stands.
    pub status: Tone,
    /// What went wrong.
    pub error: String,
}

/// Somebody who used the allocation.
pub struct User {
    /// The name at the site.
    pub name: String,
    /// What was used.
    pub amount: String,
    /// Of all.
    pub share: String,
}

/// A tab.
pub struct Tab {
    /// Its word in the address.
    pub href: String,
    /// Its name.
    pub name: &'static str,
    /// How many it has.
    pub count: Option<String>,
    /// Whether it is shown.
    pub current: bool,
}

/// The tabs, with what the current one shows.
#[derive(Template)]
#[template(path = "allocation_tabs.html")]
pub struct Tabs {
    /// All tabs.
    pub tabs: Vec<Tab>,
    /// Lines of the timeline, of evaluations or of holds.
    pub lines: Vec<Line>,
    /// Commands.
    pub commands: Vec<Command>,
    /// Users.
    pub users: Vec<User>,
    /// The word of the current tab.
    pub current: &'static str,
    /// Which rows are shown.
    pub line: String,
    /// Where the page before is.
    pub previous: Option<String>,
    /// Where the next page is.
    pub next: Option<String>,
    /// What a form has to send.
    pub csrf: String,
    /// Address of the icons.
    pub icons: &'static str,
}

#[derive(Deserialize)]
struct Actor {
    kind: String,
}

#[derive(Deserialize)]
struct Entry {
    at: DateTime<Utc>,
    kind: String,
    summary: String,
    actor: Actor,
    reason: Option<String>,
    details: serde_json::Value,
}

/// Restrictions.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Flags {
    /// No new jobs start.
    pub paused: bool,
    /// Jobs run at low priority.
    pub downscaled: bool,
}

#[derive(Deserialize)]
struct Evaluation {
    evaluated_at: DateTime<Utc>,
    outcome: String,
    trigger: String,
    explanation: String,
    #[serde(default)]
    error: Option<String>,
    previous_state: Flags,
    new_state: Flags,
    actions_taken: Vec<String>,
}

#[derive(Deserialize)]
struct CommandEntry {
    dispatch_uuid: String,
    command_type: String,
    shell_command: String,
    queued_at: DateTime<Utc>,
    sent_at: Option<DateTime<Utc>>,
    confirmed_at: Option<DateTime<Utc>>,
    status: String,
    error_message: String,
    reported: Option<bool>,
}

#[derive(Deserialize)]
struct HoldEntry {
    uuid: String,
    kind: String,
    reason: Option<String>,
    placed_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    #[serde(default)]
    ticket: Option<String>,
}

#[derive(Deserialize)]
struct UserUsage {
    username: String,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    usage: Decimal,
}

/// Who caused something.
fn by(kind: &str) -> &'static str {
    match kind {
        "staff" => "by staff",
        "support" => "by support",
        "owner" => "by an owner",
        "member" => "by a member",
        "agent" => "by the site agent",
        "cli" => "by an operator",
        _ => "automatic",
    }
}

/// The state after a change in words: `Paused`, `Unpaused`, `Downscaled`, `Un-downscaled` or `No change`.
pub fn state_change(before: Flags, after: Flags) -> String {
    let mut words = Vec::new();
    match (before.paused, after.paused) {
        (false, true) => words.push("Paused"),
        (true, false) => words.push("Unpaused"),
        _ => {}
    }
    match (before.downscaled, after.downscaled) {
        (false, true) => words.push("Downscaled"),
        (true, false) => words.push("Un-downscaled"),
        _ => {}
    }
    if words.is_empty() { "No change".to_owned() } else { words.join(", ") }
}

fn icon_of(entry: &Entry) -> (&'static str, &'static str) {
    let to = |name: &str| entry.details.pointer(name).and_then(serde_json::Value::as_bool) == Some(true);
    match entry.kind.as_str() {
        "restriction" if to("/to/paused") => ("pause", "pause"),
        "restriction" if to("/to/downscaled") => ("chevrons-down", "slow"),
        "evaluation" => ("activity", "plain"),
        "limits" => ("arrow-up", "plain"),
        "hold" => ("lock", "hold"),
        "usage" => ("undo-2", "plain"),
        "command" => ("terminal", "plain"),
        "reset" => ("refresh-cw", "plain"),
        "result" if entry.details.get("success") == Some(&false.into()) => ("circle-x", "pause"),
        "restriction" | "result" => ("circle-check", "normal"),
        "notice" => ("mail", "plain"),
        _ => ("info", "plain"),
    }
}

/// What the agent was told, without the text of the commands: that stands with the commands.
fn told(entry: &Entry) -> Option<String> {
    let commands = entry.details.get("commands")?.as_array()?.len() as u64;
    let qos = entry.details.get("qos").and_then(serde_json::Value::as_str);
    let qos = match qos {
        Some("qos_default") => ", among them the usual class of service",
        Some("qos_downscaled") => ", among them the class of service of a slowed-down account",
        Some("qos_paused") => ", among them the class of service of a paused account",
        _ => "",
    };
    let reset = if entry.kind == "reset" { ", raw usage starts at 0 again" } else { "" };
    Some(format!("The site agent was told {}{qos}{reset}", words::count(commands, "command")))
}

/// What the state became, in a word.
fn became(details: &serde_json::Value) -> Option<&'static str> {
    let flag = |name: &str| details.pointer(name).and_then(serde_json::Value::as_bool);
    let now = (flag("/to/paused")?, flag("/to/downscaled")?);
    Some(match (now, flag("/from/paused")?) {
        ((true, _), _) => "Paused",
        ((false, true), true) => "No longer paused, still slowed down",
        ((false, true), false) => "Slowed down",
        ((false, false), _) => "Restrictions ended",
    })
}

/// Amounts by component, in words: `1,500 node-hours`.
fn amounts(limits: &serde_json::Value) -> Option<String> {
    let amount = |(name, value): (&String, &serde_json::Value)| {
        let exact = value.to_string().trim_matches('"').parse::<Decimal>().ok()?;
        Some(format!("{}{}{}", words::amount(exact, 2), words::NBSP, words::unit(name)))
    };
    let all: Vec<String> = limits.as_object()?.iter().filter_map(amount).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// What a notice told people of, in a word.
fn noticed(template: &str) -> String {
    match template {
        "threshold_reached" => "warned".to_owned(),
        other => other.replace('_', " "),
    }
}

/// An entry in words, where its details say enough; otherwise the API's own sentence stands.
fn told_plainly(entry: &Entry) -> Option<String> {
    let details = &entry.details;
    match entry.kind.as_str() {
        "restriction" => became(details).map(str::to_owned),
        "limits" => {
            let (from, to) = (details.get("from").and_then(amounts), amounts(details.get("to")?)?);
            let Some(from) = from else { return Some(format!("Limit set to {to}")) };
            // One unit is said once.
            let from = match (from.split_once(words::NBSP), to.split_once(words::NBSP)) {
                (Some((number, unit)), Some((_, same))) if unit == same => number.to_owned(),
                _ => from,
            };
            Some(format!("Limit changed from {from} to {to}"))
        }
        "resource" if entry.summary.starts_with("registered") => {
            amounts(details.get("limits")?).map(|limits| format!("Created with {limits}"))
        }
        "result" if details.get("success") == Some(&true.into()) => Some("The site agent reports success".to_owned()),
        "notice" if details.get("sent") == Some(&true.into()) => {
            let by = entry.summary.rsplit_once(" by ").map_or("mail", |(_, channel)| channel);
            Some(format!("Told by {by}: {}", noticed(details.get("template")?.as_str()?)))
        }
        _ => None,
    }
}

/// A line of the timeline.
pub fn entry_line(entry: &TimelineEntry) -> Line {
    let entry = &entry.0;
    let (icon, class) = icon_of(entry);
    let reason = entry.reason.as_ref().map(|reason| format!(" · \u{201c}{reason}\u{201d}")).unwrap_or_default();
    let strong = matches!(entry.kind.as_str(), "restriction" | "limits" | "hold" | "resource");
    let summary = told(entry).or_else(|| told_plainly(entry));
    let summary = summary.unwrap_or_else(|| entry.summary.replace(" -> ", " \u{2192} "));
    let (head, text) = if strong { (summary, reason) } else { (String::new(), format!("{summary}{reason}")) };
    let id = format!("happened-{}", entry.at.timestamp_micros());
    Line { id, at: Moment::of(entry.at), icon, class, head, text, end: by(&entry.actor.kind).to_owned(), release: None }
}

/// An entry of the timeline, as the API has it.
#[derive(Deserialize)]
#[serde(transparent)]
pub struct TimelineEntry(Entry);

fn evaluation_line(entry: &Evaluation) -> Line {
    let (icon, class) = match (entry.outcome.as_str(), entry.actions_taken.first().map(String::as_str)) {
        ("failed", _) => ("triangle-alert", "pause"),
        (_, Some("pause")) => ("pause", "pause"),
        (_, Some("downscale")) => ("chevrons-down", "slow"),
        (_, Some("notify")) => ("bell", "warn"),
        _ => ("activity", "plain"),
    };
    let text = entry.error.as_ref().unwrap_or(&entry.explanation).replace("->", "\u{2192}");
    let trigger = entry.trigger.replace('_', " ");
    let changed = state_change(entry.previous_state, entry.new_state);
    let (head, end) =
        if entry.outcome == "changed" { (changed, trigger) } else { (String::new(), format!("{trigger}, no change")) };
    let text = if head.is_empty() { text } else { format!(" · {text}") };
    let id = format!("evaluated-{}", entry.evaluated_at.timestamp_micros());
    Line { id, at: Moment::of(entry.evaluated_at), icon, class, head, text, end, release: None }
}

fn command(entry: &CommandEntry) -> Command {
    let time = |at: Option<DateTime<Utc>>| at.map(|at| Moment::of(at).short);
    let sent = match (time(entry.sent_at), time(entry.confirmed_at)) {
        (None, None) => "not sent yet".to_owned(),
        (None, Some(answered)) => format!("answered {answered}"),
        (Some(sent), None) => format!("sent {sent}"),
        (Some(sent), Some(answered)) => format!("sent {sent}, answered {answered}"),
    };
    Command {
        href: format!("/commands/{}", entry.dispatch_uuid),
        at: Moment::of(entry.queued_at),
        sent,
        kind: entry.command_type.replace('_', " "),
        command: entry.shell_command.clone(),
        run: match entry.reported {
            Some(true) => "run as intended",
            Some(false) => "not run",
            None => "",
        },
        status: standing::agent(&entry.status),
        error: entry.error_message.clone(),
    }
}

fn hold_line(hold: &HoldEntry, page: Option<&str>) -> Line {
    let tone = match hold.kind.as_str() {
        "exemption" => standing::state("exempt"),
        _ => standing::state("on_hold"),
    };
    let what = match hold.kind.as_str() {
        "exemption" => "Exempt from every restriction",
        "pause" => "Held: paused",
        _ => "Held: slowed down",
    };
    let ends = hold
        .expires_at
        .map_or_else(|| "until it is released".to_owned(), |at| format!("until {}", Moment::of(at).short));
    let ticket = hold.ticket.as_ref().map(|ticket| format!(" ({ticket})")).unwrap_or_default();
    let reason = hold.reason.as_ref().map(|reason| format!(" · \u{201c}{reason}\u{201d}{ticket}")).unwrap_or_default();
    let id = format!("held-{}", hold.placed_at.timestamp_micros());
    let (head, release) = (what.to_owned(), page.map(|page| format!("{page}/hold/{}/release", hold.uuid)));
    Line {
        id,
        at: Moment::of(hold.placed_at),
        icon: tone.icon,
        class: tone.class,
        head,
        text: reason,
        end: ends,
        release,
    }
}

/// Takes the id away from lines that happened at the same instant as the one before: an id is there once.
pub fn told_apart(mut lines: Vec<Line>) -> Vec<Line> {
    for index in (1..lines.len()).rev() {
        if lines[index].id == lines[index - 1].id {
            lines[index].id.clear();
        }
    }
    lines
}

/// Who used an allocation in the period's months, by amount.
pub async fn users(visit: &Visit, of: &AllocationState) -> Result<(Vec<User>, u64), Problem> {
    let path = format!("/api/marketplace-component-user-usages/?resource_uuid={}&page_size=100", of.resource_uuid);
    let found = visit.api.list_if_allowed::<UserUsage>(&path).await?;
    let mut sums: std::collections::BTreeMap<String, Decimal> = std::collections::BTreeMap::new();
    for row in found.rows {
        *sums.entry(row.username).or_default() += row.usage;
    }
    let all: Decimal = sums.values().sum();
    let mut sums: Vec<(String, Decimal)> = sums.into_iter().collect();
    sums.sort_by_key(|(_, amount)| std::cmp::Reverse(*amount));
    let total = sums.len() as u64;
    let user = |(name, usage): (String, Decimal)| User {
        name,
        amount: words::amount(usage, 1),
        share: super::share(usage, all).map(words::percent).unwrap_or_default(),
    };
    Ok((sums.into_iter().map(user).collect(), total))
}

/// Which tab is asked for.
fn current(visit: &Visit) -> &'static str {
    let known = ["timeline", "evaluations", "commands", "holds", "users"];
    known.into_iter().find(|word| visit.query.get("tab") == Some(word)).unwrap_or("timeline")
}

/// The tabs of an allocation, with what the one that is asked for shows.
pub async fn of(visit: &Visit, of: &AllocationState, may_change: bool) -> Result<Tabs, Problem> {
    let changes = may_change.then_some(visit.path.as_str());
    let (current, page, id) = (current(visit), visit.page()?, &of.resource_uuid);
    let policy = of.policy_uuid.as_ref().map(|uuid| format!("/api/marketplace-slurm-periodic-usage-policies/{uuid}"));
    let paged = format!("page={page}&page_size={ROWS}");
    let evaluations = policy.as_ref().map(|base| format!("{base}/evaluation-logs/?resource_uuid={id}"));
    let commands = policy.as_ref().map(|base| format!("{base}/command-history/?resource_uuid={id}"));
    let count = async |path: &Option<String>| -> Result<Option<u64>, Problem> {
        let Some(path) = path else { return Ok(None) };
        Ok(Some(visit.api.list_if_allowed::<IgnoredAny>(&format!("{path}&page_size=1")).await?.total))
    };
    let counts = [None, count(&evaluations).await?, count(&commands).await?, Some(of.manual_holds.len() as u64), None];
    let (mut lines, mut shown, mut people, mut total) = (Vec::new(), Vec::new(), Vec::new(), 0);
    match (current, &evaluations, &commands) {
        ("evaluations", Some(path), _) => {
            let found = visit.api.list_if_allowed::<Evaluation>(&format!("{path}&{paged}")).await?;
            (lines, total) = (told_apart(found.rows.iter().map(evaluation_line).collect()), found.total);
        }
        ("commands", _, Some(path)) => {
            let found = visit.api.list_if_allowed::<CommandEntry>(&format!("{path}&{paged}")).await?;
            (shown, total) = (found.rows.iter().map(command).collect(), found.total);
        }
        ("holds", ..) => {
            let found = visit
                .api
                .list::<HoldEntry>(&format!("/api/marketplace-provider-resources/{id}/holds/?{paged}"))
                .await?;
            (lines, total) =
                (told_apart(found.rows.iter().map(|hold| hold_line(hold, changes)).collect()), found.total);
        }
        ("users", ..) => (people, total) = users(visit, of).await?,
        ("timeline", ..) => {
            let path = format!("/api/marketplace-provider-resources/{id}/timeline/?{paged}");
            let found = visit.api.list::<TimelineEntry>(&path).await?;
            (lines, total) = (told_apart(found.rows.iter().map(entry_line).collect()), found.total);
        }
        _ => {}
    }
    let names = ["Timeline", "Evaluations", "Commands", "Holds", "Users"];
    let words = ["timeline", "evaluations", "commands", "holds", "users"];
    let tab = |((name, word), count): ((&'static str, &'static str), Option<u64>)| Tab {
        href: visit.with("tab", if word == "timeline" { "" } else { word }),
        name,
        count: count.map(words::whole),
        current: current == word,
    };
    let rows = (lines.len() + shown.len() + people.len()) as u64;
    let turns = current != "users";
    Ok(Tabs {
        tabs: names.into_iter().zip(words).zip(counts).map(tab).collect(),
        line: listing::line(page, ROWS, rows, total),
        previous: (turns && page > 1).then(|| visit.at_page(page - 1)),
        next: (turns && page * ROWS < total).then(|| visit.at_page(page + 1)),
        lines,
        commands: shown,
        users: people,
        current,
        csrf: visit.csrf.clone(),
        icons: assets::address("icons.svg"),
    })
}
