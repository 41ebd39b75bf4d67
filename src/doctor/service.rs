//! The state of the service according to its database: the kind of clock, the progress of read models, waiting work and
//! its age.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;

use super::{DoctorOptions, Finding, chain};
use crate::app::{App, AppClock, reached};
use crate::clock::real_now;
use crate::config::Config;
use crate::directory::Role;
use crate::dispatch::{LeftBecause, LeftRestricted};
use crate::domain::ids::OfferingId;
use crate::events::envelope::Position;
use crate::projections::status_summary;
use crate::scheduler::RunState;
use crate::store::Distance;

/// How much newer than the clock the newest event may be.
const SKEW_MAX: TimeDelta = TimeDelta::seconds(5);

/// How long a running server gets to move a consumer that is behind.
const MOVES_WITHIN: Duration = Duration::from_secs(5);

/// A notice that waits longer than this is not on its way.
const OWED_MAX: TimeDelta = TimeDelta::hours(1);

/// A message that waits longer than this for a queue has none.
const QUEUED_MAX: TimeDelta = TimeDelta::minutes(30);

/// A job that is later than this does not run.
const OVERDUE_MAX: TimeDelta = TimeDelta::minutes(30);

/// Accounts left restricted that are named.
const LEFT_MAX: u32 = 20;

/// A token that ends within this time is worth a look.
const ENDS_SOON: TimeDelta = TimeDelta::days(14);

/// Looks at an opened database, without changing it.
pub(super) async fn examine(app: &Arc<App>, config: &Config, options: DoctorOptions) -> Vec<Finding> {
    let served = App::is_served(&app.options.database).await;
    let mut found = clock(app, config).await;
    found.extend(server(app, config, served, options.network).await);
    found.extend(consumers(app, served).await);
    found.extend(outbox(app).await);
    found.extend(schedule(app, served).await);
    found.extend(agents(app).await);
    found.extend(accounts(app).await);
    found.extend(notices(app).await);
    found.extend(tokens(app).await);
    found
}

fn unreadable(area: &'static str, error: &dyn std::error::Error) -> Vec<Finding> {
    vec![Finding::trouble(area, chain(error), "look at the other findings first; a restart of the server may help")]
}

async fn clock(app: &App, config: &Config) -> Vec<Finding> {
    let now = app.clock.now();
    let local = now.with_timezone(&config.time_zone).format("%Y-%m-%d %H:%M:%S %Z");
    let mut found = Vec::new();
    let newest = match app.store.newest().await {
        Ok(newest) => newest.map(|event| event.recorded_at),
        Err(error) => return unreadable("database", &error),
    };
    match (&app.clock_kind, newest) {
        (AppClock::Real, Some(newest)) if newest - now > SKEW_MAX => found.push(Finding::trouble(
            "clock",
            format!("the newest event was recorded at {newest}, and the machine's clock says {now}: it went back, or was ahead"),
            "set the clock by NTP (timedatectl set-ntp true) and look again",
        )),
        (AppClock::Real, _) => found.push(Finding::ok("clock", format!("the machine's, {local} at the site"))),
        (AppClock::Simulated(_), _) => found.push(Finding::warning(
            "clock",
            format!("simulated: it stands at {local} at the site and moves only when told"),
            "for training and tests; a database for real use is made without --simulated-clock",
        )),
    }
    found
}

async fn server(app: &App, config: &Config, served: bool, network: bool) -> Vec<Finding> {
    const AREA: &str = "server";
    if !served {
        let fix = "start it: sluice serve; until then nothing is scheduled, sent or answered";
        return vec![Finding::warning(AREA, "no server runs on this database", fix)];
    }
    // Where it says that it listens; a server of another machine, or of an older version, is where the configuration says.
    let address = match app.listened_at().await {
        Ok(kept) => kept.unwrap_or_else(|| reached(config.listen)),
        Err(error) => return unreadable(AREA, &error),
    };
    if !network || address.port() == 0 {
        return vec![Finding::ok(AREA, "a server runs on this database")];
    }
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build();
    let answer = match client {
        Ok(client) => client.get(format!("http://{address}/health/ready")).send().await,
        Err(error) => Err(error),
    };
    vec![match answer {
        Err(error) => Finding::warning(
            AREA,
            format!("one runs on this database and does not answer at {address}: {}", chain(&error.without_url())),
            "its log says where it listens and what it is doing; a restart makes up for what was missed",
        ),
        Ok(answer) => {
            let said: serde_json::Value = answer.json().await.unwrap_or_default();
            let word = match said["status"].as_str() {
                Some("ready") => return vec![Finding::ok(AREA, format!("runs and is ready at {address}"))],
                Some("degraded") => "degraded",
                _ => "not ready",
            };
            let what = format!("runs at {address} and is {word}{}", stalled(&said));
            Finding::trouble(AREA, what, "its log says why; it tries again by itself")
        }
    }]
}

/// The stalled consumers and workers, according to the server.
fn stalled(said: &serde_json::Value) -> String {
    let all = ["consumers", "workers"].into_iter().filter_map(|kind| said[kind].as_array()).flatten();
    let still = all.filter(|part| part["stalled"] == true);
    let names: Vec<&str> = still.filter_map(|part| part["name"].as_str()).collect();
    if names.is_empty() { String::new() } else { format!(": {} cannot go on", names.join(", ")) }
}

async fn consumers(app: &App, served: bool) -> Vec<Finding> {
    const AREA: &str = "consumers";
    let behind = match behind(app).await {
        Ok(behind) => behind,
        Err(found) => return found,
    };
    if behind.is_empty() {
        return vec![Finding::ok(AREA, "all read models are at the head of the log")];
    }
    let describe = |behind: &[Behind]| {
        let one = |behind: &Behind| match behind.lag {
            Distance::Unknown => format!("{} (nobody knows how far)", behind.name),
            lag => format!("{} by {lag}", behind.name),
        };
        behind.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    if !served {
        let what = format!("read models are behind the log: {}", describe(&behind));
        return vec![Finding::warning(
            AREA,
            what,
            "the next start of the server, or any command, brings them up to date",
        )];
    }
    let until = tokio::time::Instant::now() + MOVES_WITHIN;
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let now = match self::behind(app).await {
            Ok(now) => now,
            Err(found) => return found,
        };
        if now.is_empty() {
            return vec![Finding::ok(AREA, "all read models are at the head of the log, or moments behind")];
        }
        let moves = now.iter().any(|now| behind.iter().any(|was| was.name == now.name && was.at < now.at));
        if moves {
            let what = format!("read models catch up: {} to go", describe(&now));
            return vec![Finding::warning(AREA, what, "wait; a start on a large log and a rebuild take minutes")];
        }
        if tokio::time::Instant::now() >= until {
            let fix = "the server's log says why; `sluice projections rebuild NAME` makes one again from the log";
            return vec![Finding::trouble(AREA, format!("read models stand still: {}", describe(&now)), fix)];
        }
    }
}

/// A consumer that is not at the head of the log.
struct Behind {
    name: String,
    at: Position,
    lag: Distance,
}

async fn behind(app: &App) -> Result<Vec<Behind>, Vec<Finding>> {
    let head = app.store.head().await.map_err(|error| unreadable("database", &error))?;
    let places = app.consumers.checkpoints().await.map_err(|error| unreadable("consumers", &error))?;
    let mut behind = Vec::new();
    for (name, at) in places.into_iter().filter(|(_, at)| *at < head) {
        behind.push(Behind { lag: app.store.distance(at, head).await, name, at });
    }
    Ok(behind)
}

async fn outbox(app: &App) -> Vec<Finding> {
    const AREA: &str = "outbox";
    let depth = match app.publisher.depth().await {
        Ok(depth) => depth,
        Err(error) => return unreadable(AREA, &error),
    };
    let mut found = Vec::new();
    if let Some(oldest) = depth.oldest_queued_at.filter(|oldest| app.clock.now() - *oldest > QUEUED_MAX) {
        found.push(Finding::warning(
            AREA,
            format!("{} messages to site agents have not left, the oldest since {oldest}", depth.queued),
            "is a server running, and has the offering's agent registered its queue? The warnings of the policy say so",
        ));
    }
    if depth.given_up > 0 {
        found.push(Finding::warning(
            AREA,
            format!("{} messages are not sent again by themselves", depth.given_up),
            "`sluice agent dead-letters` lists them and why; `sluice agent resend` has them sent again when the cause is gone",
        ));
    }
    if found.is_empty() {
        let what = format!("{} to be sent, {} unanswered, none given up", depth.queued, depth.unanswered);
        found.push(Finding::ok(AREA, what));
    }
    found
}

async fn schedule(app: &App, served: bool) -> Vec<Finding> {
    const AREA: &str = "schedule";
    let upcoming = match app.scheduler.upcoming().await {
        Ok(upcoming) => upcoming,
        Err(error) => return unreadable(AREA, &error),
    };
    let now = app.clock.now();
    let mut found = Vec::new();
    for job in &upcoming {
        let name = job.job.name();
        if let Some(run) = job.last_run.as_ref().filter(|run| run.state == RunState::Failed) {
            let why = run.error.clone().unwrap_or_default();
            let fix = "it is tried again by itself; `sluice scheduler runs` has every run";
            found.push(Finding::warning(AREA, format!("{name} failed at {}: {why}", run.started_at), fix));
        } else if let Some(due) = job.next_due.filter(|due| served && now - *due > OVERDUE_MAX) {
            let fix = "the server's log says what it is doing; a restart makes up for what was missed";
            found.push(Finding::trouble(AREA, format!("{name} was due at {due} and has not run"), fix));
        }
    }
    if found.is_empty() {
        let next = upcoming.iter().filter_map(|job| Some((job.next_due?, job.job.name()))).min();
        let next = next.map_or_else(|| "nothing is due".to_owned(), |(due, name)| format!("next is {name} at {due}"));
        found.push(Finding::ok(AREA, format!("no job failed or is late; {next}")));
    }
    found
}

async fn agents(app: &App) -> Vec<Finding> {
    const AREA: &str = "agents";
    let totals = match status_summary::site_totals(&app.read).await {
        Ok(totals) => totals,
        Err(error) => return unreadable(AREA, &error),
    };
    let count = |name: &str| totals.iter().find(|(known, _)| *known == name).map_or(0, |(_, n)| *n);
    let (failed, silent) = (count("agent:failed"), count("agent:no_answer"));
    let mut found = Vec::new();
    if failed > 0 {
        found.push(Finding::warning(
            AREA,
            format!("the newest commands failed on {failed} resources"),
            "`sluice slurm_policy_status --commands` shows the agent's words",
        ));
    }
    if silent > 0 {
        found.push(Finding::warning(
            AREA,
            format!("the agent did not answer for {silent} resources"),
            "is the site agent running, and is its queue registered? See docs/TROUBLESHOOTING.md",
        ));
    }
    found.extend(unseen(app));
    if found.is_empty() {
        let waiting = count("agent:queued") + count("agent:sent");
        found.push(Finding::ok(
            AREA,
            format!("no failed or unanswered commands; {waiting} resources wait for an answer"),
        ));
    }
    found
}

/// Offerings with resources that no agent has registered for: nobody carries out what is decided there.
fn unseen(app: &App) -> Option<Finding> {
    const NAMED_MAX: usize = 5;
    let state = app.registry.read();
    let seen: HashSet<OfferingId> = state.agents().identities().map(|agent| agent.facts.offering).collect();
    let live = state.resources().filter(|(_, entry)| entry.state.is_live()).map(|(_, entry)| entry.offering);
    let waiting: BTreeSet<OfferingId> = live.filter(|offering| !seen.contains(offering)).collect();
    let name = |id: &OfferingId| state.offering(*id).map(|o| o.facts.facts.slug.clone());
    let mut names: Vec<String> = waiting.iter().filter_map(name).collect();
    names.sort_unstable();
    let first = names.first().cloned();
    let fix = |offering: &str| {
        format!("`sluice agent-config --offering {offering}` prints a configuration; docs/AGENT.md says how to go on")
    };
    match first {
        Some(first) => {
            let more = names.len().saturating_sub(NAMED_MAX);
            names.truncate(NAMED_MAX);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let what =
                format!("no agent has been seen of {}{more}: nobody carries out what is decided", names.join(", "));
            Some(Finding::warning("agents", what, fix(&first)))
        }
        None if seen.is_empty() => {
            Some(Finding::warning("agents", "no agent has been seen, and no resource waits for one", fix("SLUG")))
        }
        None => None,
    }
}

/// Accounts that SLURM may still restrict although nobody should be restricted there.
async fn accounts(app: &App) -> Vec<Finding> {
    const AREA: &str = "accounts";
    let (left, total) = match app.publisher.left_restricted(None, LEFT_MAX, 0).await {
        Ok(left) => left,
        Err(error) => return unreadable(AREA, &error),
    };
    if left.is_empty() {
        return vec![Finding::ok(AREA, "none was left restricted by a resource that ended or was renamed")];
    }
    let mut found: Vec<Finding> = left.iter().map(left_restricted).collect();
    let more = total.saturating_sub(left.len() as u64);
    if more > 0 {
        found.push(Finding::warning(
            AREA,
            format!("{more} more were left restricted"),
            "`sluice agent left-restricted` lists them",
        ));
    }
    found
}

fn left_restricted(left: &LeftRestricted) -> Finding {
    let because = match left.because {
        LeftBecause::Ended => "its resource ended at",
        LeftBecause::Renamed => "its resource has another account since",
    };
    let what = format!("SLURM may still restrict {}: {because} {}", left.account, left.since);
    let fix = match left.taken_by {
        None => format!("run `{}`, then `sluice agent freed {}`", left.command, left.account),
        Some(_) => "nothing: a live resource has the account, and its agent is told how it is to be".to_owned(),
    };
    Finding::warning("accounts", what, fix)
}

async fn notices(app: &App) -> Vec<Finding> {
    const AREA: &str = "notices";
    let backlog = match app.notifier.backlog().await {
        Ok(backlog) => backlog,
        Err(error) => return unreadable(AREA, &error),
    };
    let mut found = Vec::new();
    if let Some(oldest) = backlog.oldest_owed.filter(|oldest| app.clock.now() - *oldest > OWED_MAX) {
        found.push(Finding::warning(
            AREA,
            format!("{} wait to be delivered, the oldest since {oldest}", backlog.owed),
            "`sluice notices list --state owed` says what goes wrong; the server has to run",
        ));
    }
    if backlog.failed > 0 {
        found.push(Finding::warning(
            AREA,
            format!("{} were given up in the last 90 days", backlog.failed),
            "`sluice notices list --state failed` says why, `sluice notices resend --all` sends them again",
        ));
    }
    if found.is_empty() {
        found.push(Finding::ok(AREA, format!("{} on their way, none given up", backlog.owed)));
    }
    found
}

async fn tokens(app: &App) -> Vec<Finding> {
    const AREA: &str = "tokens";
    let tokens = match app.directory.tokens().await {
        Ok(tokens) => tokens,
        Err(error) => return unreadable(AREA, &error),
    };
    let now = if matches!(app.clock_kind, AppClock::Real) { real_now() } else { app.clock.now() };
    let active: Vec<_> = tokens.iter().filter(|token| token.is_active(now)).collect();
    let mut found = Vec::new();
    if !active.iter().any(|token| token.role == Role::Staff) {
        let fix = "sluice token create --user root --role staff";
        found.push(Finding::warning(AREA, "no token of staff is in force: nobody can do everything over the API", fix));
    }
    for token in active.iter().filter(|token| token.expires_at.is_some_and(|end| end - now < ENDS_SOON)) {
        let end = token.expires_at.unwrap_or(now);
        found.push(Finding::warning(
            AREA,
            format!("token {} of {} ({}) ends at {end}", token.id, token.username, token.role),
            "make another (sluice token create), give it to whoever uses this one, and let this one end",
        ));
    }
    if found.is_empty() {
        found.push(Finding::ok(AREA, format!("{} in force", active.len())));
    }
    found
}
