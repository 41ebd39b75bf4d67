//! The page of one message to an agent: what was meant beside what was run, and its life from its cause to its confirmation.

use askama::Template;
use axum::extract::Path;
use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::{DispatchRead, kind};
use crate::ui::allocation::{Figure, encoded};
use crate::ui::events::kinds;
use crate::ui::frame::{Frame, Section};
use crate::ui::problem::Problem;
use crate::ui::standing::{self, Tone};
use crate::ui::visit::{Shown, Visit, page};
use crate::ui::words::{self, Moment};

#[derive(Deserialize)]
struct StepRead {
    position: String,
    at: DateTime<Utc>,
    #[serde(rename = "type")]
    kind: String,
    message: String,
    actor: String,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct LifeRead {
    #[serde(flatten)]
    dispatch: DispatchRead,
    life: Vec<StepRead>,
}

#[derive(Deserialize)]
struct PolicyRead {
    slug: String,
    uuid: String,
}

/// A step of its life.
struct StepView {
    /// The event's page, for those who may read the log.
    href: Option<String>,
    icon: &'static str,
    class: &'static str,
    name: String,
    text: String,
    /// Who, and why.
    by: String,
    at: Moment,
    /// How long after the first step.
    after: String,
}

/// A line of what was meant beside what was run.
pub struct DiffLine {
    /// What was meant.
    pub meant: String,
    /// What it sets.
    pub kind: &'static str,
    /// What was run.
    pub run: String,
    /// `same`, `missing`, `added` or `open`.
    pub class: &'static str,
    /// The same in a word.
    pub word: &'static str,
}

/// The page.
#[derive(Template)]
#[template(path = "dispatch.html")]
struct DispatchPage {
    frame: Frame,
    status: Tone,
    name: String,
    allocation: String,
    policy: Option<(String, String)>,
    period: String,
    mode: String,
    id: String,
    figures: Vec<Figure>,
    error: String,
    reported: bool,
    differences: Vec<String>,
    lines: Vec<DiffLine>,
    reads: Vec<String>,
    life: Vec<StepView>,
    resend: Option<String>,
}

/// What a command changes, whatever stands before it: agents put options in front.
fn change(command: &str) -> &str {
    command.find("modify account").map_or(command, |at| &command[at..]).trim()
}

/// What was meant beside what was run, and what was run and changes nothing.
pub fn beside(of: &DispatchRead) -> (Vec<DiffLine>, Vec<String>) {
    let mut run: Vec<&str> = of.reported_commands.iter().flatten().map(String::as_str).collect();
    let reads: Vec<String> =
        run.iter().filter(|command| !command.contains("modify account")).map(|command| (*command).to_owned()).collect();
    run.retain(|command| command.contains("modify account"));
    let mut lines = Vec::new();
    for command in &of.commands {
        for meant in command.shell_command.split("; ") {
            let found = run.iter().position(|run| change(run) == change(meant)).map(|at| run.remove(at));
            let (class, word) = match (found, command.reported, &of.reported_commands) {
                (Some(_), ..) => ("same", "run as intended"),
                (None, Some(false), _) => ("missing", "not run"),
                (None, None, Some(_)) => ("open", "set separately"),
                (None, ..) => ("open", "not reported yet"),
            };
            let run = found.unwrap_or_default().to_owned();
            lines.push(DiffLine { meant: meant.to_owned(), kind: kind(&command.command_type), run, class, word });
        }
    }
    let added = run.into_iter().map(|run| DiffLine {
        meant: String::new(),
        kind: "",
        run: run.to_owned(),
        class: "added",
        word: "run, but not intended",
    });
    lines.extend(added);
    (lines, reads)
}

fn figures(of: &DispatchRead, now: DateTime<Utc>) -> Vec<Figure> {
    let figure = |label: &str, value: String, below: String| Figure {
        label: label.to_owned(),
        value,
        beside: String::new(),
        below,
        stale: false,
    };
    let sent = match of.sent_at {
        Some(at) => {
            figure("Sent", Moment::of(at).short, format!("{} after it was decided", words::lapse(at - of.queued_at)))
        }
        // The queue never said that it took it, and yet the agent has answered.
        None if of.confirmed_at.is_some() => {
            figure("Sent", "not recorded".to_owned(), "answered without a receipt of the queue".to_owned())
        }
        None if of.status == "superseded" => {
            figure("Sent", "no".to_owned(), "something newer was decided before".to_owned())
        }
        None => figure("Sent", "not yet".to_owned(), format!("waits for {}", words::duration(now - of.queued_at))),
    };
    let answered = match (of.confirmed_at, of.status.as_str()) {
        (Some(at), _) => {
            let (since, did) = of.sent_at.map_or((of.queued_at, "decided"), |sent| (sent, "sent"));
            figure("Answered", Moment::of(at).short, format!("{} after it was {did}", words::lapse(at - since)))
        }
        (None, "superseded") => figure("Answered", "no".to_owned(), "something newer was decided before".to_owned()),
        (None, _) => {
            let since = words::duration(now - of.sent_at.unwrap_or(of.queued_at));
            figure("Answered", "not yet".to_owned(), format!("for {since}"))
        }
    };
    vec![
        figure("Decided", Moment::of(of.queued_at).short, format!("{} ago", words::duration(now - of.queued_at))),
        sent,
        answered,
        figure("Commands", words::whole(of.commands.len() as u64), format!("mode {}", of.execution_mode)),
    ]
}

fn steps(life: &[StepRead], visit: &Visit) -> Vec<StepView> {
    let first = life.first().map(|step| step.at);
    let reads_log = visit.reads_log();
    let view = |step: &StepRead| {
        let kind = kinds::of(&step.kind, &step.message);
        let reason = step.reason.as_ref().map(|reason| format!(" · \u{201c}{reason}\u{201d}")).unwrap_or_default();
        StepView {
            href: reads_log.then(|| format!("/events/{}", step.position)),
            icon: kind.icon,
            class: kind.class,
            name: step.kind.clone(),
            text: step.message.replace("->", "\u{2192}"),
            by: format!("{}{reason}", kinds::by(&step.actor)),
            at: Moment::of(step.at),
            after: first.map(|first| words::after(step.at - first)).unwrap_or_default(),
        }
    };
    life.iter().map(view).collect()
}

/// The page.
pub async fn show(visit: Visit, Path(id): Path<String>) -> Shown {
    let path = format!("/api/dispatches/{}/", encoded(&id));
    let found = visit.api.find::<LifeRead>(&path).await?.ok_or_else(Problem::not_found)?;
    let of = &found.dispatch;
    let policy = format!("/api/marketplace-slurm-periodic-usage-policies/{}/", of.policy_uuid);
    let policy = visit.api.find::<PolicyRead>(&policy).await?.map(|policy| {
        let name = if policy.slug.is_empty() { policy.uuid } else { policy.slug };
        (name.clone(), format!("/policies/{}", encoded(&name)))
    });
    let (lines, reads) = beside(of);
    let may_resend = visit.is_staff() && matches!(of.status.as_str(), "failed" | "no_answer");
    let frame = Frame::of(&visit, format!("Commands for {}", of.resource_name), Section::Commands).await;
    page(&DispatchPage {
        frame: frame.under("/commands", "Commands"),
        status: standing::agent(&of.status),
        name: of.resource_name.clone(),
        allocation: format!("/allocations/{}", encoded(&of.resource_uuid)),
        policy,
        period: of.billing_period.clone(),
        mode: of.execution_mode.clone(),
        id: of.uuid.clone(),
        figures: figures(of, visit.now),
        error: of.error_message.clone(),
        reported: of.reported_commands.is_some(),
        differences: of.differences.clone(),
        lines,
        reads,
        life: steps(&found.life, &visit),
        resend: may_resend.then(|| format!("/commands/{}/resend", of.uuid)),
    })
}
