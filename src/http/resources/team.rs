//! The people of a resource: members of its project and owners of its organisation. Not paged, since the agent reads
//! the whole list.

use std::collections::BTreeSet;

use axum::Json;
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{TAG, visible};
use crate::domain::ids::{ResourceId, UserId};
use crate::http::context::{Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail};
use crate::http::paging::Page;
use crate::http::registry::people::address_for;

/// Somebody who works with a resource.
#[derive(Debug, Serialize, ToSchema)]
pub struct TeamMember {
    uuid: String,
    url: String,
    username: String,
    full_name: String,
    /// For staff and the person; else empty.
    email: String,
    /// `PROJECT.MEMBER` or `CUSTOMER.OWNER`.
    role: &'static str,
    expiration_time: Option<DateTime<Utc>>,
    offering_user_username: Option<String>,
    offering_user_state: Option<&'static str>,
}

/// The people of a resource.
#[utoipa::path(get, path = "/api/marketplace-provider-resources/{uuid}/team/", tag = TAG, params(("uuid" = String, Path),
        ("field" = Option<Vec<String>>, Query, description = "Only these fields; may be repeated"),
        ("page" = Option<u64>, Query, description = "Accepted; everybody is on the first page"),
        ("page_size" = Option<u64>, Query, description = "Accepted; everybody is on one page"),
        ("has_consent" = Option<bool>, Query, description = "Accepted, since known clients send it; without effect on this list")),
    responses((status = 200, body = [TeamMember]), (status = 404, body = ErrorDetail)))]
pub async fn team(ctx: Context, Id(resource): Id<ResourceId>) -> ApiResult {
    Page::of(&ctx.query)?;
    let entry = visible(&ctx, resource)?;
    let (members, owners): (BTreeSet<UserId>, BTreeSet<UserId>) = {
        let state = ctx.app.registry.read();
        let members = state.project(entry.project).map(|p| p.facts.members.clone()).unwrap_or_default();
        let owners = state.customer(entry.customer).map(|c| c.facts.owners.clone()).unwrap_or_default();
        (members, owners)
    };
    let all = ctx.visibility().team(&entry, &ctx.app.registry.read());
    let seen = |id: &UserId| all || *id == ctx.caller.user;
    let ids: Vec<UserId> = members.union(&owners).copied().filter(seen).collect();
    let users = ctx.app.directory.users(&ids).await.map_err(ApiError::internal)?;
    let mut team: Vec<TeamMember> = ids
        .iter()
        .filter_map(|id| users.get(id))
        .map(|user| TeamMember {
            uuid: user.id.to_string(),
            url: ctx.url("users", user.id),
            username: user.username.clone(),
            full_name: user.full_name.clone(),
            email: address_for(&ctx, user).unwrap_or_default(),
            role: if members.contains(&user.id) { "PROJECT.MEMBER" } else { "CUSTOMER.OWNER" },
            expiration_time: None,
            offering_user_username: Some(user.username.clone()),
            offering_user_state: Some("OK"),
        })
        .collect();
    team.sort_by(|one, other| one.username.cmp(&other.username));
    let rows = team.iter().map(|member| ctx.shown(member)).collect::<Result<Vec<_>, _>>()?;
    Ok(Json(rows).into_response())
}
