//! `/api/marketplace-offering-users/`: the people of an offering, who are those of its resources.
//!
//! Their names at the site are their user names here. Nobody registers for an offering separately.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::{OFFERING_COLLECTION, TAG};
use crate::directory::UserRecord;
use crate::domain::ids::{CustomerId, OfferingId, ProjectId, UserId, slug_uuid};
use crate::http::access::{Access, Routes};
use crate::http::context::{Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail};
use crate::http::paging::{PageParams, paged};
use uuid::Uuid;

/// The segment of the address.
const COLLECTION: &str = "marketplace-offering-users";

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes.add(Access::SignedIn, routes!(list)).add(Access::SignedIn, routes!(retrieve))
}

/// Somebody with an account on an offering.
#[derive(Debug, Serialize, ToSchema)]
pub struct OfferingUser {
    uuid: String,
    url: String,
    /// The name at the site.
    username: String,
    /// Address of the user.
    user: String,
    user_uuid: String,
    user_username: String,
    user_full_name: String,
    /// Address of the offering.
    offering: String,
    offering_uuid: String,
    offering_name: String,
    state: &'static str,
    is_restricted: bool,
}

/// The id of a user on an offering.
pub fn offering_user_id(offering: OfferingId, user: UserId) -> Uuid {
    slug_uuid("offering_user", &format!("{offering}/{user}"))
}

/// The people of live resources by offering, of offerings that the caller sees from the side of the provider.
fn people(ctx: &Context, wanted: &[OfferingId]) -> BTreeMap<OfferingId, BTreeSet<UserId>> {
    let state = ctx.app.registry.read();
    let visibility = ctx.visibility_in(&state);
    let mut uses: BTreeMap<OfferingId, BTreeSet<(ProjectId, CustomerId)>> = BTreeMap::new();
    for (_, entry) in state.resources().filter(|(_, entry)| entry.state.is_live()) {
        if wanted.is_empty() || wanted.contains(&entry.offering) {
            uses.entry(entry.offering).or_default().insert((entry.project, entry.customer));
        }
    }
    uses.retain(|offering, _| visibility.offering_id(*offering, &state));
    let people_of = |(project, customer): (ProjectId, CustomerId)| {
        let members = state.project(project).map(|p| p.facts.members.clone()).unwrap_or_default();
        let owners = state.customer(customer).map(|c| c.facts.owners.clone()).unwrap_or_default();
        members.into_iter().chain(owners)
    };
    uses.into_iter().map(|(offering, uses)| (offering, uses.into_iter().flat_map(people_of).collect())).collect()
}

async fn seen(ctx: &Context, wanted: &[OfferingId]) -> Result<Vec<(OfferingId, UserRecord)>, ApiError> {
    let people = people(ctx, wanted);
    let ids: Vec<UserId> = people.values().flatten().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let users = ctx.app.directory.users(&ids).await.map_err(ApiError::internal)?;
    let mut found: Vec<(OfferingId, UserRecord)> = Vec::new();
    for (offering, ids) in people {
        found.extend(ids.iter().filter_map(|id| users.get(id)).map(|user| (offering, user.clone())));
    }
    found.sort_by(|(one, a), (other, b)| (one, &a.username).cmp(&(other, &b.username)));
    Ok(found)
}

fn show(ctx: &Context, offering: OfferingId, user: UserRecord) -> OfferingUser {
    let id = offering_user_id(offering, user.id).as_simple().to_string();
    let state = ctx.app.registry.read();
    OfferingUser {
        url: ctx.url(COLLECTION, &id),
        uuid: id,
        user: ctx.url("users", user.id),
        user_uuid: user.id.to_string(),
        user_username: user.username.clone(),
        username: user.username,
        user_full_name: user.full_name,
        offering: ctx.url(OFFERING_COLLECTION, offering),
        offering_uuid: offering.to_string(),
        offering_name: state.offering(offering).map(|o| o.facts.facts.name.clone()).unwrap_or_default(),
        state: "OK",
        is_restricted: false,
    }
}

/// List people of offerings.
#[utoipa::path(get, path = "/api/marketplace-offering-users/", tag = TAG,
    params(PageParams,
        ("offering_uuid" = Option<Vec<String>>, Query, description = "Of this offering; may be repeated"),
        ("user_uuid" = Option<String>, Query, description = "This user"),
        ("username" = Option<String>, Query), ("user_username" = Option<String>, Query),
        ("state" = Option<Vec<String>>, Query, description = "In this state; may be repeated: all are `OK`"),
        ("is_restricted" = Option<bool>, Query, description = "Nobody is")),
    responses((status = 200, body = [OfferingUser])))]
async fn list(ctx: Context) -> ApiResult {
    let wanted: Vec<OfferingId> = ctx.query.uuids("offering_uuid")?;
    let user: Option<UserId> = ctx.query.uuid("user_uuid")?;
    let names: Vec<&str> = ["username", "user_username"].into_iter().filter_map(|name| ctx.query.get(name)).collect();
    let states: Vec<&str> = ctx.query.all("state").collect();
    let none = ctx.query.boolean("is_restricted")? == Some(true) || !(states.is_empty() || states.contains(&"OK"));
    let mut found = if none { Vec::new() } else { seen(&ctx, &wanted).await? };
    found.retain(|(_, known)| user.is_none_or(|id| known.id == id) && names.iter().all(|name| known.username == *name));
    paged(&ctx, found, |(offering, user)| show(&ctx, offering, user))
}

/// Show somebody on an offering.
#[utoipa::path(get, path = "/api/marketplace-offering-users/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    responses((status = 200, body = OfferingUser), (status = 404, body = ErrorDetail)))]
async fn retrieve(ctx: Context, Id(id): Id<Uuid>) -> ApiResult {
    let found = seen(&ctx, &[]).await?.into_iter().find(|(offering, user)| offering_user_id(*offering, user.id) == id);
    let (offering, user) = found.ok_or(ApiError::NotFound)?;
    ctx.one(StatusCode::OK, &show(&ctx, offering, user))
}
