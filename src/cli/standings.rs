//! The allocations that `slurm_policy_status` lists, their order, and their forecast.

use clap::Args;
use serde_json::{Map, Value, json};

use super::output::{Out, amount, percent, time};
use super::session::{CliError, Session};
use crate::domain::decimal::{number, rounded};
use crate::domain::forecast::{Ahead, Reach};
use crate::domain::ids::{CustomerId, PolicyId, ResourceId};
use crate::domain::preview::ProjectionStatus;
use crate::domain::standing::Standing;
use crate::operations::standings::{AllocationStanding, Outlook, SortBy, Sorting, StandingQuery};
use crate::projections::status_summary::StandingFilter;
use crate::store::sql::SqlError;

/// How the allocations of a status are chosen and sorted.
#[derive(Debug, Args)]
pub(super) struct Chosen {
    /// Only allocations in this state: `on_hold`, `exempt`, `paused`, `slowed_down`, `warned` or `normal`; may be repeated
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Vec<Standing>,
    /// Only allocations of this organisation, by id or slug
    #[arg(long, value_name = "C")]
    organisation: Option<String>,
    /// Only allocations with this in a name, slug or account of theirs, their project, organisation or policy
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Sort by next, created, name, organisation, project, usage, used, state, `state_since`, reported or pace; with - in
    /// front the other way round
    #[arg(long, value_name = "KEY", value_parser = sorting, allow_hyphen_values = true, default_value = "created")]
    sort: Sorting,
    /// Show the forecast instead of decisions: amounts, the next rung and when usage reaches it
    #[arg(long)]
    pub(super) outlook: bool,
}

fn state(word: &str) -> Result<Standing, String> {
    let allowed = || Standing::ALL.map(Standing::as_str).join(", ");
    Standing::parse(word).ok_or_else(|| format!("one of {} is expected", allowed()))
}

fn sorting(word: &str) -> Result<Sorting, String> {
    Sorting::parse(word).ok_or_else(|| format!("one of {} is expected", SortBy::ALLOWED))
}

/// The allocations that are asked for under policies, in order.
pub(super) async fn chosen(
    session: &Session,
    (policy, resource): (Option<PolicyId>, Option<ResourceId>),
    chosen: &Chosen,
    customer: Option<CustomerId>,
) -> Result<Vec<AllocationStanding>, SqlError> {
    let query = StandingQuery {
        of: StandingFilter { resource, policy, customer, ..StandingFilter::default() },
        standings: chosen.state.clone(),
        text: chosen.search.clone(),
        sorting: chosen.sort,
        ..StandingQuery::default()
    };
    let mut found = session.app.operations.standings(&session.app.read, &query).await?;
    found.retain(|of| of.row.line.is_some());
    Ok(found)
}

/// The organisation that is asked for.
pub(super) fn organisation(session: &Session, chosen: &Chosen) -> Result<Option<CustomerId>, CliError> {
    let Some(name) = &chosen.organisation else { return Ok(None) };
    let id = name.parse::<uuid::Uuid>().ok().map(CustomerId::from);
    let state = session.app.registry.read();
    let found = state.customers().find(|c| Some(c.facts.customer) == id || c.facts.slug == *name);
    let found = found.ok_or_else(|| CliError::Failed(format!("there is no organisation {name:?} (by id or slug)")))?;
    Ok(Some(found.facts.customer))
}

/// The forecast, for the document.
pub(super) fn document(session: &Session, of: &AllocationStanding) -> Map<String, Value> {
    let state = session.app.registry.read();
    let customer = state.customer(of.row.customer).map(|c| c.facts.name.clone());
    let project = state.project(of.row.project).map(|p| p.facts.name.clone());
    let outlook = of.outlook();
    let pace = outlook.as_ref().map(|outlook| {
        let shown = |value| number(rounded(value, 6));
        json!({
            "average": shown(outlook.paces.average), "last_7_days": shown(outlook.paces.recent),
            "ideal": outlook.paces.ideal.map(shown), "multiple_of_ideal": outlook.multiple_of_ideal().map(shown),
        })
    });
    let reach = |reach: &Reach| json!({ "date": reach.projection.date, "in_period": reach.in_period });
    let rung = |ahead: &Ahead<'_>| {
        json!({
            "percent": number(ahead.rung.percent), "effect": ahead.rung.effect.verb(), "amount": number(ahead.amount),
            "at_average": reach(&ahead.average), "at_last_7_days": reach(&ahead.recent),
        })
    };
    let ahead: Vec<Value> = outlook.iter().flat_map(|outlook| outlook.ahead.iter().map(rung)).collect();
    let of_line = of.row.line.as_ref();
    let shown = json!({
        "resource_slug": of.row.slug, "organisation": customer, "project": project, "state": of.row.standing.as_str(),
        "state_since": of.row.since.map(time), "reported_at": of.row.reported_at.map(time),
        "used": of_line.and_then(|line| line.used).map(number), "may_use": of_line.and_then(|line| line.may_use).map(number),
        "ahead": ahead, "pace": pace,
    });
    if let Value::Object(shown) = shown { shown } else { Map::new() }
}

/// A day, or why there is none.
fn day(reach: &Reach) -> String {
    match (reach.projection.status, reach.projection.date) {
        (ProjectionStatus::Never, _) | (_, None) => "never".to_owned(),
        (_, Some(date)) if reach.in_period => date.to_string(),
        _ => "not in this period".to_owned(),
    }
}

/// A table of the forecast.
pub(super) fn table(session: &Session, found: &[AllocationStanding], out: &Out) {
    let state = session.app.registry.read();
    let row = |of: &AllocationStanding| {
        let outlook = of.outlook();
        let next = outlook.as_ref().and_then(|outlook| outlook.ahead.first());
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        [
            of.row.name.clone(),
            or_dash(state.customer(of.row.customer).map(|c| c.facts.name.clone())),
            of.row.standing.as_str().to_owned(),
            or_dash(of.row.since.map(time)),
            or_dash(outlook.as_ref().map(|o| format!("{} of {}", amount(o.usage.used), amount(o.usage.may_use)))),
            or_dash(outlook.as_ref().map(|o| percent(o.percentage))),
            or_dash(next.map(|next| format!("{} at {} %", next.rung.effect.verb(), next.rung.percent.normalize()))),
            or_dash(next.map(|next| day(&next.average))),
            or_dash(next.map(|next| day(&next.recent))),
            or_dash(
                outlook.as_ref().and_then(Outlook::multiple_of_ideal).map(|times| format!("{}x", rounded(times, 1))),
            ),
            or_dash(of.row.reported_at.map(time)),
        ]
    };
    let header = [
        "resource",
        "organisation",
        "state",
        "since",
        "used",
        "usage",
        "next",
        "at average",
        "at last week",
        "pace",
        "reported",
    ];
    out.table(header, found.iter().map(row).collect());
}
