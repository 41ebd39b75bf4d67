//! `/api/evaluation-totals/`: what retention keeps of the evaluation log, one row per resource and month.

use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::access::{Access, Routes};
use super::context::Context;
use super::error::{ApiResult, ErrorFields};
use super::number::Num;
use super::paging::{Page, PageParams, listed};
use crate::projections::evaluation_log::{MonthlyTotal, TotalsFilter, monthly_totals};

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes.add(Access::SignedIn, routes!(list))
}

/// The totals of a month of a resource's evaluations.
#[derive(Debug, Serialize, ToSchema)]
pub struct EvaluationTotal {
    resource_uuid: String,
    resource_name: String,
    /// The month at the site, `2026-03`.
    month: String,
    /// Evaluations that were pruned; those that are still in the evaluation log are not counted.
    evaluations: i64,
    /// Those among them that failed.
    failures: i64,
    /// Those that called for a pause.
    pauses: i64,
    /// Those that called for a slowdown.
    downscales: i64,
    /// Those that called for a notice.
    notices: i64,
    /// The highest percentage among them.
    #[schema(value_type = Option<f64>)]
    peak_percentage: Option<Num>,
    /// Minutes of the month for which the resource was paused or slowed down, pruned or not, as far as these times have ended.
    minutes_restricted: i64,
}

impl From<MonthlyTotal> for EvaluationTotal {
    fn from(total: MonthlyTotal) -> Self {
        Self {
            resource_uuid: total.resource.to_string(),
            resource_name: total.resource_name,
            month: total.month.to_string(),
            evaluations: total.evaluations,
            failures: total.failures,
            pauses: total.pauses,
            downscales: total.downscales,
            notices: total.notices,
            peak_percentage: total.peak_percentage.map(Num),
            minutes_restricted: total.minutes_restricted,
        }
    }
}

/// Monthly totals of the resources that the caller sees, newest month first.
#[utoipa::path(get, path = "/api/evaluation-totals/", tag = "Policies",
    params(PageParams, ("resource_uuid" = Option<String>, Query), ("offering_uuid" = Option<String>, Query),
        ("customer_uuid" = Option<String>, Query), ("month" = Option<String>, Query, description = "Such as `2026-03`")),
    responses((status = 200, body = [EvaluationTotal], headers(("X-Result-Count" = u64, description = "Number of rows"))),
        (status = 400, body = ErrorFields)))]
async fn list(ctx: Context) -> ApiResult {
    let page = Page::of(&ctx.query)?;
    let filter = TotalsFilter {
        resource: ctx.query.uuid("resource_uuid")?,
        month: ctx.query.read("month", "a month such as 2026-03", |text| text.parse().ok())?,
        offering: ctx.query.uuid("offering_uuid")?,
        customer: ctx.query.uuid("customer_uuid")?,
        visible: ctx.visibility_filter(),
    };
    let (rows, total) = monthly_totals(&ctx.app.read, &filter, page.of_rows()?).await?;
    let total = total.max(0).unsigned_abs();
    let page = page.within(total)?;
    listed(&ctx, page, total, &rows.into_iter().map(EvaluationTotal::from).collect::<Vec<_>>())
}
