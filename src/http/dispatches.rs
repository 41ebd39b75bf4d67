//! `/api/dispatches/`: what agents were told, over all policies: each message with what was meant beside what was run, and the
//! life of one from its cause to its confirmation.
//!
//! Whoever provides an allocation or owns its organisation sees its messages; members of a project see none.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::access::{Access, Routes};
use super::context::{Context, Id};
use super::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use super::paging::{Page, PageParams, listed};
use super::policies::{Dispatch, LogParams, commands_asked};
use crate::domain::ids::DispatchId;
use crate::domain::period::Month;
use crate::operations::life::{LifeQuery, Step, life};
use crate::projections::command_history::{CommandFilter, dispatch, dispatches};
use crate::projections::registry::VisibilityFilter;

/// The group in the API's description.
const TAG: &str = "Agents";

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes.add(Access::SignedIn, routes!(list)).add(Access::SignedIn, routes!(show))
}

/// The allocations whose messages the caller sees; none: all.
fn visible(ctx: &Context) -> Option<VisibilityFilter> {
    // Who is a member of a project does not see what agents are told, as in a policy's own lists.
    ctx.visibility_filter().map(|seen| VisibilityFilter { projects: Vec::new(), ..seen })
}

/// What agents were told, newest first, under all policies of which the caller sees allocations.
#[utoipa::path(get, path = "/api/dispatches/", tag = TAG,
    params(PageParams, LogParams,
        ("policy_uuid" = Option<String>, Query, description = "Caused by this policy"),
        ("command_type" = Option<String>, Query, description = "The same as `action`")),
    responses((status = 200, body = [Dispatch], headers(("X-Result-Count" = u64, description = "Number of rows"))),
        (status = 400, body = ErrorFields)))]
async fn list(ctx: Context) -> ApiResult {
    let page = Page::of(&ctx.query)?;
    let scope = ctx.query.uuid("scope_uuid")?.or(ctx.query.uuid("scope")?);
    let asked = commands_asked(&ctx)?;
    let filter =
        CommandFilter { policy: ctx.query.uuid("policy_uuid")?, offering: scope, visible: visible(&ctx), ..asked };
    let (rows, total) = dispatches(&ctx.app.read, &filter, page.of_rows()?).await?;
    let page = page.within(total.unsigned_abs())?;
    listed(&ctx, page, total.unsigned_abs(), &rows.into_iter().map(Dispatch::from).collect::<Vec<_>>())
}

/// A step of the life of a message.
#[derive(Debug, Serialize, ToSchema)]
pub struct DispatchStep {
    /// Where the event stands in the log.
    position: String,
    at: DateTime<Utc>,
    /// The type of the event, without its version.
    #[serde(rename = "type")]
    kind: String,
    /// It in one sentence.
    message: String,
    /// In which role somebody caused it: staff, support, owner, member, agent, system or cli.
    actor: &'static str,
    /// Why, in the words of whoever caused it; for those who provide the allocation.
    reason: Option<String>,
}

impl From<Step> for DispatchStep {
    fn from(step: Step) -> Self {
        Self {
            position: step.position.to_string(),
            at: step.at,
            kind: step.kind,
            message: step.sentence,
            actor: step.actor.kind.as_str(),
            reason: step.reason,
        }
    }
}

/// A message to an agent, with its life.
#[derive(Debug, Serialize, ToSchema)]
pub struct DispatchLife {
    #[serde(flatten)]
    dispatch: Dispatch,
    /// What led to it, that it was handed over, and what came of it, in order; at most a hundred steps.
    life: Vec<DispatchStep>,
}

/// One message to an agent, with its life from its cause to its confirmation.
#[utoipa::path(get, path = "/api/dispatches/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    responses((status = 200, body = DispatchLife), (status = 404, body = ErrorDetail)))]
async fn show(ctx: Context, Id(id): Id<DispatchId>) -> ApiResult {
    let row = dispatch(&ctx.app.read, id).await?.ok_or(ApiError::NotFound)?;
    let (entry, inside) = {
        let state = ctx.app.registry.read();
        let seen = ctx.visibility_in(&state);
        let entry = state.resource(row.resource).filter(|entry| seen.team(entry, &state)).copied();
        let entry = entry.ok_or(ApiError::NotFound)?;
        (entry, seen.offering_id(entry.offering, &state))
    };
    let query = LifeQuery {
        dispatch: id,
        resource: row.resource,
        decided_in: Month::of_instant(row.queued_at, ctx.app.allocations.rules().zone),
        newest_book: entry.book,
        outside: !inside,
    };
    let steps = life(&*ctx.app.store, &query).await?;
    let life = steps.into_iter().map(DispatchStep::from).collect();
    ctx.one(StatusCode::OK, &DispatchLife { dispatch: row.into(), life })
}
