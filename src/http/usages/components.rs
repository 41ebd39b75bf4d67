//! Month-to-date totals as last reported.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{COLLECTION, TAG, UsageParams, filter, first_day};
use crate::events::allocation::MissingUsage;
use crate::http::context::{Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail};
use crate::http::number::Num;
use crate::http::paging::{Page, PageParams, listed};
use crate::projections::usage::{self, UsageRow};

/// The total of a component in a month.
#[derive(Debug, Serialize, ToSchema)]
pub struct ComponentUsage {
    uuid: String,
    url: String,
    /// Component type.
    #[serde(rename = "type")]
    component_type: String,
    name: String,
    measured_unit: String,
    usage: Num,
    /// First day of the month.
    billing_period: String,
    date: DateTime<Utc>,
    created: DateTime<Utc>,
    modified: DateTime<Utc>,
    resource_uuid: String,
    resource_name: String,
    offering_uuid: String,
    offering_name: String,
    customer_uuid: String,
    customer_name: String,
    project_uuid: String,
    project_name: String,
    /// What happens to later months without a report: `none`, `reuse` or `zero`.
    missing_usage_policy: &'static str,
    /// The same as `missing_usage_policy` `reuse`.
    recurring: bool,
}

/// Shows a total with the names of what it belongs to.
pub fn show(ctx: &Context, row: &UsageRow) -> ComponentUsage {
    let state = ctx.app.registry.read();
    let offering = row.offering.and_then(|id| state.offering(id)).map(|o| &o.facts.facts);
    let component = offering.and_then(|o| o.components.iter().find(|c| c.component_type == row.component));
    let customer = row.customer.and_then(|id| state.customer(id)).map(|c| c.facts.name.clone());
    let project = row.project.and_then(|id| state.project(id)).map(|p| p.facts.name.clone());
    let id = row.uuid.as_simple();
    ComponentUsage {
        uuid: id.to_string(),
        url: ctx.url(COLLECTION, id),
        component_type: row.component.clone(),
        name: component.map_or_else(|| row.component.clone(), |c| c.name.clone()),
        measured_unit: component.map(|c| c.measured_unit.clone()).unwrap_or_default(),
        usage: Num(row.amount),
        billing_period: first_day(row.month),
        date: row.modified,
        created: row.created,
        modified: row.modified,
        resource_uuid: row.resource.to_string(),
        resource_name: row.resource_name.clone(),
        offering_uuid: row.offering.map(|id| id.to_string()).unwrap_or_default(),
        offering_name: offering.map(|o| o.name.clone()).unwrap_or_default(),
        customer_uuid: row.customer.map(|id| id.to_string()).unwrap_or_default(),
        customer_name: customer.unwrap_or_default(),
        project_uuid: row.project.map(|id| id.to_string()).unwrap_or_default(),
        project_name: project.unwrap_or_default(),
        missing_usage_policy: row.missing.as_str(),
        recurring: row.missing == MissingUsage::Reuse,
    }
}

/// A total that the caller may see.
pub async fn visible(ctx: &Context, id: Uuid) -> Result<UsageRow, ApiError> {
    let row = usage::get(&ctx.app.read, id).await?.ok_or(ApiError::NotFound)?;
    let state = ctx.app.registry.read();
    let seen = state.resource(row.resource).is_some_and(|entry| ctx.visibility_in(&state).resource(entry, &state));
    if seen { Ok(row) } else { Err(ApiError::NotFound) }
}

/// Month-to-date totals, newest month first.
#[utoipa::path(get, path = "/api/marketplace-component-usages/", tag = TAG, params(PageParams, UsageParams),
    responses((status = 200, body = [ComponentUsage], headers(("X-Result-Count" = u64, description = "Number of rows")))))]
pub async fn list(ctx: Context) -> ApiResult {
    let page = Page::of(&ctx.query)?;
    let (rows, total) = usage::list(&ctx.app.read, &filter(&ctx, &["billing_period"])?, page.of_rows()?).await?;
    let page = page.within(total.unsigned_abs())?;
    listed(&ctx, page, total.unsigned_abs(), &rows.iter().map(|row| show(&ctx, row)).collect::<Vec<_>>())
}

/// One total.
#[utoipa::path(get, path = "/api/marketplace-component-usages/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    responses((status = 200, body = ComponentUsage), (status = 404, body = ErrorDetail)))]
pub async fn retrieve(ctx: Context, Id(id): Id<Uuid>) -> ApiResult {
    let row = visible(&ctx, id).await?;
    ctx.one(StatusCode::OK, &show(&ctx, &row))
}
