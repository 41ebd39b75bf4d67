//! Lists that agents request and that are always empty in Sluice: orders, keys, limits of single users, service
//! accounts.
//!
//! They exist so that an agent continues after an empty answer; any future implementation belongs elsewhere.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::TAG;
use crate::domain::ids::{OfferingId, slug_uuid};
use crate::http::context::{Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail};
use crate::http::paging::{PageParams, paged};

fn nothing(ctx: &Context) -> ApiResult {
    paged(ctx, Vec::<Value>::new(), |row| row)
}

/// What clients choose orders by, beside what they send to any list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes parameters of a list that is always empty, whatever it is chosen by")]
pub struct OrderParams {
    /// Of the client; the list is empty.
    can_approve_as_consumer: Option<Vec<String>>,
    /// Of the client; the list is empty.
    can_approve_as_provider: Option<Vec<String>>,
    /// Of the client; the list is empty.
    category_uuid: Option<Vec<String>>,
    /// Of the client; the list is empty.
    created: Option<Vec<String>>,
    /// Of the client; the list is empty.
    created_before: Option<Vec<String>>,
    /// Of the client; the list is empty.
    customer_uuid: Option<Vec<String>>,
    /// Of the client; the list is empty.
    modified: Option<Vec<String>>,
    /// Of the client; the list is empty.
    offering: Option<Vec<String>>,
    /// Of the client; the list is empty.
    offering_slug: Option<Vec<String>>,
    /// Of the client; the list is empty.
    offering_type: Option<Vec<String>>,
    /// Of the client; the list is empty.
    parent_offering_uuid: Option<Vec<String>>,
    /// Of the client; the list is empty.
    provider_uuid: Option<Vec<String>>,
    /// Of the client; the list is empty.
    resource: Option<Vec<String>>,
    /// Of the client; the list is empty.
    resource_name: Option<Vec<String>>,
    /// Of the client; the list is empty.
    service_manager_uuid: Option<Vec<String>>,
    /// Of the client; the list is empty.
    r#type: Option<Vec<String>>,
    /// Of the client; the list is empty.
    was_auto_approved: Option<Vec<String>>,
}

/// What clients choose limits of users by.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes parameters of a list that is always empty, whatever it is chosen by")]
pub struct UserLimitParams {
    /// Of the client; the list is empty.
    component_type: Option<Vec<String>>,
    /// Of the client; the list is empty.
    resource: Option<Vec<String>>,
    /// Of the client; the list is empty.
    username: Option<Vec<String>>,
}

/// What clients choose keys by.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes parameters of a list that is always empty, whatever it is chosen by")]
pub struct KeyParams {
    /// Of the client; the list is empty.
    has_pending_action: Option<Vec<String>>,
    /// Of the client; the list is empty.
    pending_action: Option<Vec<String>>,
}

/// Orders: Sluice has none.
#[utoipa::path(get, path = "/api/marketplace-orders/", tag = TAG, params(PageParams, OrderParams),
    responses((status = 200, body = [Value], description = "Always empty")))]
pub async fn orders(ctx: Context) -> ApiResult {
    nothing(&ctx)
}

/// Limits of single users: Sluice has none.
#[utoipa::path(get, path = "/api/component-user-usage-limits/", tag = TAG, params(PageParams, UserLimitParams),
    responses((status = 200, body = [Value], description = "Always empty")))]
pub async fn user_limits(ctx: Context) -> ApiResult {
    nothing(&ctx)
}

/// Keys of resources: Sluice has none.
#[utoipa::path(get, path = "/api/marketplace-resource-api-keys/", tag = TAG, params(PageParams, KeyParams),
    responses((status = 200, body = [Value], description = "Always empty")))]
pub async fn resource_keys(ctx: Context) -> ApiResult {
    nothing(&ctx)
}

/// An offering that the caller sees: its name and when it came to be known.
fn seen(ctx: &Context, offering: OfferingId) -> Result<String, ApiError> {
    let state = ctx.app.registry.read();
    let facts = state.offering(offering).map(|o| &o.facts.facts).filter(|facts| !facts.retired);
    let facts = facts.filter(|facts| ctx.visibility_in(&state).offering(facts)).ok_or(ApiError::NotFound)?;
    Ok(facts.name.clone())
}

/// Service accounts of projects: Sluice has none.
#[utoipa::path(get, path = "/api/marketplace-provider-offerings/{uuid}/list_project_service_accounts/", tag = TAG,
    params(("uuid" = String, Path), PageParams),
    responses((status = 200, body = [Value], description = "Always empty"), (status = 404, body = ErrorDetail)))]
pub async fn service_accounts(ctx: Context, Id(offering): Id<OfferingId>) -> ApiResult {
    seen(&ctx, offering)?;
    nothing(&ctx)
}

/// Accounts of courses: Sluice has none.
#[utoipa::path(get, path = "/api/marketplace-provider-offerings/{uuid}/list_course_accounts/", tag = TAG,
    params(("uuid" = String, Path), PageParams),
    responses((status = 200, body = [Value], description = "Always empty"), (status = 404, body = ErrorDetail)))]
pub async fn course_accounts(ctx: Context, Id(offering): Id<OfferingId>) -> ApiResult {
    seen(&ctx, offering)?;
    nothing(&ctx)
}

/// The attributes of people that an agent gets.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserAttributeConfig {
    uuid: String,
    offering_uuid: String,
    offering_name: String,
    /// Always `username`: an agent needs no more.
    exposed_fields: [&'static str; 1],
    is_default: bool,
    created: DateTime<Utc>,
    modified: DateTime<Utc>,
}

/// The attributes of people that the agent of an offering gets.
#[utoipa::path(get, path = "/api/marketplace-provider-offerings/{uuid}/user-attribute-config/", tag = TAG,
    params(("uuid" = String, Path)),
    responses((status = 200, body = UserAttributeConfig), (status = 404, body = ErrorDetail)))]
pub async fn user_attribute_config(ctx: Context, Id(offering): Id<OfferingId>) -> ApiResult {
    let offering_name = seen(&ctx, offering)?;
    let now = ctx.app.clock.now();
    let config = UserAttributeConfig {
        uuid: slug_uuid("user_attribute_config", &offering.to_string()).as_simple().to_string(),
        offering_uuid: offering.to_string(),
        offering_name,
        exposed_fields: ["username"],
        is_default: true,
        created: now,
        modified: now,
    };
    ctx.one(StatusCode::OK, &config)
}
