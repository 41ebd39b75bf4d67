//! `/api/accounts-left-restricted/`: accounts that SLURM may still restrict although their resource ended or uses
//! another account, with the command that frees each; and a way to report that it was run.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::access::{Access, Routes};
use super::context::{Body, Context, reason};
use super::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use super::fields;
use super::paging::{Page, PageParams, listed};
use super::resolve;
use super::taken::ReferenceInput;
use crate::app::App;
use crate::dispatch::{Freed, LeftRestricted};
use crate::domain::ids::OfferingId;

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes.add(Access::Support, routes!(list)).add(Access::Staff, routes!(freed))
}

/// An account that SLURM may still restrict, though the resource it was restricted for has it no more.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LeftRestricted)]
pub struct Shown {
    /// The SLURM account.
    account: String,
    offering_uuid: String,
    /// The resource that left it.
    resource_uuid: String,
    resource_name: String,
    /// `ended`, or `renamed`: the resource has another account.
    because: &'static str,
    since: DateTime<Utc>,
    /// The restrictions that were sent for it.
    paused: bool,
    downscaled: bool,
    /// The live resource that has the account now. Sending its own restrictions to the agent settles the case.
    taken_by: Option<String>,
    /// What frees the account, to be run at the cluster.
    command: String,
}

impl Shown {
    /// The newest of an offering, or of all, and how many there are.
    pub async fn of(app: &App, offering: Option<OfferingId>, page: (u32, u64)) -> Result<(Vec<Self>, u64), ApiError> {
        let (found, total) = app.publisher.left_restricted(offering, page.0, page.1).await?;
        let books = app.allocations.books_of(&found.iter().map(|left| left.resource).collect::<Vec<_>>()).await?;
        let names = books.into_iter().map(|book| book.map(|book| book.facts.name.clone()).unwrap_or_default());
        Ok((found.into_iter().zip(names).map(|(left, name)| Self::one(left, name)).collect(), total))
    }

    fn one(left: LeftRestricted, resource_name: String) -> Self {
        Self {
            account: left.account,
            offering_uuid: left.offering.to_string(),
            resource_uuid: left.resource.to_string(),
            resource_name,
            because: left.because.as_str(),
            since: left.since,
            paused: left.flags.paused,
            downscaled: left.flags.downscaled,
            taken_by: left.taken_by.map(|resource| resource.to_string()),
            command: left.command,
        }
    }
}

/// Accounts that were left restricted, the newest first.
#[utoipa::path(get, path = "/api/accounts-left-restricted/", tag = "Agents",
    params(PageParams, ("offering_uuid" = Option<String>, Query, description = "Only this offering's")),
    responses((status = 200, body = [Shown]), (status = 403, body = ErrorDetail)))]
async fn list(ctx: Context) -> ApiResult {
    let page = Page::of(&ctx.query)?;
    let rows = page.of_rows()?;
    let offering = ctx.query.uuid("offering_uuid")?;
    let (found, total) = Shown::of(&ctx.app, offering, (rows.size, rows.offset().unsigned_abs())).await?;
    let page = page.within(total)?;
    listed(&ctx, page, total, &found)
}

/// Which account was freed.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct FreedRequest {
    /// The offering that has the account.
    offering_uuid: ReferenceInput,
    /// The SLURM account.
    #[schema(min_length = 1, max_length = 255)]
    account: String,
    /// Reason, recorded with the change.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
}

/// Say that the command was run at the cluster, and the account is free: it is listed no more.
#[utoipa::path(post, path = "/api/accounts-left-restricted/freed/", tag = "Agents",
    request_body = FreedRequest,
    responses((status = 200, body = ErrorDetail), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
async fn freed(ctx: Context, Body(mut fields): Body) -> ApiResult {
    let offering = fields.required("offering_uuid", |value| resolve::offering(value, &ctx.app.registry.read()));
    let account = fields.required("account", fields::words(255));
    let why = reason(&mut fields);
    fields.check()?;
    let (Some(offering), Some(account)) = (offering, account) else { return Err(ApiError::NotFound) };
    match ctx.app.publisher.account_freed(offering, &account, &ctx.meta(why)).await? {
        Freed::Recorded(position) => {
            ctx.visible(position).await;
            ctx.one(StatusCode::OK, &json!({ "detail": "It is listed no more." }))
        }
        Freed::NotLeft => Err(ApiError::NotFound),
        Freed::Taken(resource) => {
            let message = format!(
                "The resource {resource} has the account now; its restrictions are its own, and its agent is told of them."
            );
            Err(ApiError::field("account", message))
        }
    }
}
