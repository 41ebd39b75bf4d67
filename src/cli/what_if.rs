//! `sluice replay --policy U --from D --to D --set KEY=VALUE`: recorded facts under other rules, as whole timelines.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde_json::{Value as Json, json};

use super::Globals;
use super::output::{Out, count, flags, percent, time};
use super::replay::{Options, instant_text, named};
use super::session::CliError;
use super::store_soundness::{open, options_of, unread};
use crate::commands::allocation::SiteRules;
use crate::domain::decimal::number;
use crate::domain::policy::PolicyTerms;
use crate::events::envelope::Position;
use crate::replay::what_if::{Allocation, Asked, Decided, Decision, Outcome, Rules, WhatIf, WhatIfError, what_if};
use crate::report::{Cell, Table, Value};
use crate::site;
use crate::store::EventStore;
use crate::store::guard::Guard;

/// Allocations shown in a table.
const SHOWN: usize = 50;

const COLUMNS: [&str; 13] = [
    "allocation",
    "allocation_uuid",
    "decisions",
    "differing",
    "first_divergence",
    "hours_slowed_down",
    "hours_slowed_down_then",
    "hours_paused",
    "hours_paused_then",
    "notices",
    "notices_then",
    "at_the_end_then",
    "fares",
];

pub(super) async fn run(
    globals: &Globals,
    options: &Options,
    (policy, from, to, zone): (&str, DateTime<Utc>, DateTime<Utc>, Tz),
    out: &Out,
) -> Result<(), CliError> {
    let rules = rules(&options.set, options.rules.as_deref())?;
    let (policy, resource) = named(globals, Some(policy), options.resource.as_deref()).await?;
    let policy =
        policy.ok_or_else(|| CliError::Usage("--policy names the policy whose rules are others".to_owned()))?;
    let app = options_of(globals)?;
    let log: Arc<dyn EventStore> = Arc::new(Guard::new(open(&app).await?, &app.limits, |_| ()));
    let head = log.head().await.map_err(unread)?;
    let bar = out.progress_over(log.distance(Position::START, head).await, "living it again");
    let workers = options.workers.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    let site = SiteRules { zone, ..SiteRules::default() };
    let unchanged = rules.is_none();
    let asked = Asked { policy, rules, from, to, resource, site, workers, decisions_max: options.decisions };
    let begun = Instant::now();
    let lived = what_if(&log, asked, |read| {
        bar.inc(read);
        true
    })
    .await;
    bar.finish_and_clear();
    let lived = lived.map_err(failed)?;
    if options.csv {
        out.raw(&table(&lived).csv());
        return Ok(());
    }
    let run = json!({"seconds": begun.elapsed().as_secs_f64(), "reading_seconds": lived.reading.as_secs_f64()});
    out.json(&document(&lived, (from, to), &run));
    show(&lived, unchanged, out);
    Ok(())
}

fn failed(error: WhatIfError) -> CliError {
    match error {
        WhatIfError::NoSuchPolicy(_) | WhatIfError::Rules(_) => CliError::Usage(error.to_string()),
        error => CliError::because("the span cannot be lived again", error),
    }
}

/// The other rules: those of the file, and over them those of the command line; none if neither is given.
fn rules(set: &[String], file: Option<&Path>) -> Result<Option<Rules>, CliError> {
    let read = |what: &str, text: &str| {
        site::Rules::read(text).map_err(|errors| CliError::Usage(format!("{what} is not valid\n{errors}")))
    };
    let of_file = file
        .map(|path| {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| CliError::because(format!("{} cannot be read", path.display()), error))?;
            read(&format!("--rules {}", path.display()), &text)
        })
        .transpose()?;
    let lines: Result<Vec<String>, CliError> = set
        .iter()
        .map(|one| {
            let pair = one.split_once('=').filter(|(key, _)| !key.trim().is_empty());
            let (key, value) = pair.ok_or_else(|| {
                CliError::Usage(format!("--set {one:?} is not valid: KEY=VALUE is expected, such as grace_ratio=0.3"))
            })?;
            Ok(format!("{}: {}\n", key.trim(), value.trim()))
        })
        .collect();
    let of_line = match lines?.concat() {
        lines if lines.is_empty() => None,
        lines => Some(read(&format!("--set {}", set.join(" --set ")), &lines)?),
    };
    if of_file.is_none() && of_line.is_none() {
        return Ok(None);
    }
    let rules: Vec<site::Rules> = of_file.into_iter().chain(of_line).collect();
    let over = move |terms: &PolicyTerms| rules.iter().fold(terms.clone(), |terms, rules| rules.over(&terms));
    Ok(Some(Arc::new(over)))
}

fn decided(decided: Option<&Decided>) -> Json {
    decided.map_or(Json::Null, |decided| {
        json!({
            "percentage": number(decided.percentage),
            "verbs": decided.verbs.iter().map(|verb| verb.as_str()).collect::<Vec<_>>(),
            "notified": decided.notified.iter().map(|percent| number(*percent)).collect::<Vec<_>>(),
        })
    })
}

fn decision(one: &Decision) -> Json {
    let [recorded, then] =
        [0, 1].map(|at| json!({"decided": decided(one.decided[at].as_ref()), "restricted": one.restricted[at]}));
    json!({
        "position": one.position.plain(), "at": instant_text(one.at), "resource_uuid": one.resource,
        "policy_uuid": one.policy, "recorded": recorded, "then": then,
    })
}

fn outcome(outcome: &Outcome) -> Json {
    json!({
        "hours_slowed_down": number(Value::hours(outcome.slowed)),
        "hours_paused": number(Value::hours(outcome.paused)),
        "notices": outcome.notices,
    })
}

fn document(lived: &WhatIf, (from, to): (DateTime<Utc>, DateTime<Utc>), run: &Json) -> Json {
    let allocation = |one: &Allocation| {
        json!({
            "resource_uuid": one.resource, "name": one.name, "decisions": one.decisions, "differing": one.differing,
            "in_other_words": one.in_words, "recorded": outcome(&one.outcomes[0]), "then": outcome(&one.outcomes[1]),
            "fares": one.verdict().as_str(), "first_divergence": one.first.as_ref().map(decision),
        })
    };
    let total = &lived.total;
    json!({
        "from": instant_text(from),
        "to": instant_text(to),
        "through": lived.through.plain(),
        "events": lived.events,
        "total": {
            "allocations": total.allocations, "decisions": total.decisions, "differing": total.differing,
            "in_other_words": total.in_words, "better": total.better, "worse": total.worse,
            "recorded": outcome(&total.outcomes[0]), "then": outcome(&total.outcomes[1]),
        },
        "allocations": lived.allocations.iter().map(allocation).collect::<Vec<_>>(),
        "decisions": lived.decisions.iter().map(decision).collect::<Vec<_>>(),
        "decisions_unlisted": lived.unlisted,
        "run": run,
    })
}

/// A line for each allocation.
fn table(lived: &WhatIf) -> Table {
    let mut table = Table::new("allocations", &COLUMNS);
    for one in &lived.allocations {
        let [recorded, then] = &one.outcomes;
        let row = vec![
            Cell::text(one.name.clone()),
            Cell::text(one.resource.to_string()),
            Cell::count(one.decisions),
            Cell::count(one.differing),
            one.first.as_ref().map_or(Cell::NOTHING, |first| {
                let value = Value::Instant(first.at);
                Cell { value, events: crate::report::Refs::at(first.position) }
            }),
            Cell::hours(recorded.slowed),
            Cell::hours(then.slowed),
            Cell::hours(recorded.paused),
            Cell::hours(then.paused),
            Cell::count(recorded.notices),
            Cell::count(then.notices),
            Cell::text(flags(then.at_the_end)),
            Cell::text(one.verdict().as_str()),
        ];
        table.push(row, usize::MAX);
    }
    table
}

fn hours([recorded, then]: [TimeDelta; 2]) -> String {
    let (recorded, then) = (Value::hours(recorded), Value::hours(then));
    if recorded == then { recorded.to_string() } else { format!("{recorded} -> {then}") }
}

fn counts([recorded, then]: [u64; 2]) -> String {
    if recorded == then { recorded.to_string() } else { format!("{recorded} -> {then}") }
}

fn said(decided: Option<&Decided>) -> String {
    decided.map_or_else(
        || "no evaluation".to_owned(),
        |decided| {
            let verbs = decided.verbs.iter().map(|verb| verb.as_str()).collect::<Vec<_>>().join(", ");
            format!("{} {verbs}", percent(decided.percentage)).trim_end().to_owned()
        },
    )
}

fn show(lived: &WhatIf, unchanged: bool, out: &Out) {
    let total = &lived.total;
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let decisions = count(number(total.decisions), "decision", "decisions");
    let allocations = count(number(total.allocations), "allocation", "allocations");
    out.text(format!("{decisions} on {allocations}, {} of them different", total.differing));
    if unchanged && total.differing == 0 {
        out.text("with the rules that were in force the timeline comes out as it was recorded");
    }
    let row = |name: String, of: [&Outcome; 2], differing: u64, first: String, fares: &str| {
        let [recorded, then] = of;
        [
            name,
            differing.to_string(),
            hours([recorded.slowed, then.slowed]),
            hours([recorded.paused, then.paused]),
            counts([recorded.notices, then.notices]),
            first,
            fares.to_owned(),
        ]
    };
    let changed = lived.allocations.iter().filter(|one| one.differing > 0);
    let mut rows: Vec<[String; 7]> = changed
        .clone()
        .take(SHOWN)
        .map(|one| {
            let first = one
                .first
                .as_ref()
                .map_or_else(String::new, |first| format!("{} position {}", time(first.at), first.position.plain()));
            row(one.name.clone(), [&one.outcomes[0], &one.outcomes[1]], one.differing, first, one.verdict().as_str())
        })
        .collect();
    let fares = format!("{} better, {} worse", total.better, total.worse);
    rows.push(row("all".to_owned(), [&total.outcomes[0], &total.outcomes[1]], total.differing, String::new(), &fares));
    let header =
        ["allocation", "differing", "hours slowed down", "hours paused", "notices", "first divergence", "fares"];
    out.table(header, rows);
    let more = changed.count().saturating_sub(SHOWN);
    if more > 0 {
        out.text(format!(
            "{} more that differ: --csv or --format json has them",
            count(more, "allocation", "allocations")
        ));
    }
    show_decisions(lived, out);
}

fn show_decisions(lived: &WhatIf, out: &Out) {
    if lived.decisions.is_empty() {
        return;
    }
    let name = |one: &Decision| {
        let found = lived.allocations.iter().find(|allocation| allocation.resource == one.resource);
        found.map_or_else(|| one.resource.to_string(), |allocation| allocation.name.clone())
    };
    let rows = lived.decisions.iter().map(|one| {
        let [was, then] = [0, 1].map(|at| format!("{}; {}", said(one.decided[at].as_ref()), flags(one.restricted[at])));
        [time(one.at), one.position.plain(), name(one), was, then]
    });
    out.text("");
    out.table(["when", "position", "allocation", "recorded", "then"], rows.collect());
    if lived.unlisted > 0 {
        out.text(format!("{} further decisions differ: --decisions N lists more", lived.unlisted));
    }
}
