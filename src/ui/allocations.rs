//! The list of allocations, as a page and as a file.

use askama::Template;
use axum::extract::Path;

use super::frame::{Frame, Section};
use super::listing::{Listing, Which, asked};
use super::problem::Problem;
use super::sheet;
use super::visit::{Shown, Visit, page};

/// The list of allocations.
#[derive(Template)]
#[template(path = "allocations.html")]
struct AllocationsPage {
    frame: Frame,
    list: Listing,
}

/// Only its table.
#[derive(Template)]
#[template(path = "allocation_table.html")]
struct TableOnly {
    frame: Frame,
    list: Listing,
}

/// The list.
pub async fn show(visit: Visit) -> Shown {
    let list = Listing::of(&visit, Which::All).await?;
    let frame = Frame::of(&visit, "Allocations", Section::Allocations).await;
    if visit.fragment { page(&TableOnly { frame, list }) } else { page(&AllocationsPage { frame, list }) }
}

/// Columns of the file: what is said of an allocation in one value.
static COLUMNS: [&str; 20] = [
    "resource_slug",
    "resource_name",
    "backend_id",
    "project_name",
    "customer_name",
    "offering_name",
    "policy_slug",
    "billing_period",
    "state",
    "state_since",
    "used",
    "may_use",
    "unit",
    "usage_percentage",
    "reported_at",
    "evaluated_at",
    "at_risk",
    "agent_status",
    "paused",
    "downscaled",
];

/// The list as a file, every row of it: `csv` or `ndjson`.
pub async fn export(visit: Visit, Path(file): Path<String>) -> Shown {
    if !matches!(file.as_str(), "allocations.csv" | "allocations.ndjson") {
        return Err(Problem::not_found());
    }
    let which = match visit.query.get("list") {
        Some("at-risk") => Which::of_tab(visit.query.get("tab")),
        _ => Which::of_tab(Some(visit.query.get("tab").unwrap_or("all"))),
    };
    let query = asked(&visit, which)?;
    sheet::file(&visit, &file, &COLUMNS, format!("/api/allocation-states/?{query}&"))
}
