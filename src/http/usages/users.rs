//! The shares of users in month-to-date totals. Their names are in the directory; events carry ids only.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::report::{amount, refused};
use super::{COLLECTION, TAG, USER_COLLECTION, UsageParams, components, either, filter, first_day};
use crate::commands::allocation::AllocationCommand;
use crate::directory::{Role, UserDetails, UserRecord};
use crate::domain::ids::{UserId, slug_uuid};
use crate::domain::period::Month;
use crate::domain::text::USERNAME;
use crate::http::context::{Body, Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::fields::{self, Fields};
use crate::http::json::Json;
use crate::http::number::Num;
use crate::http::paging::{Page, PageParams, listed};
use crate::http::registry::offering_user_id;
use crate::http::taken::{AmountInput, IdInput, InstantInput};
use crate::http::visibility::Visibility;
use crate::projections::usage::{UsageRow, UserUsageFilter, UserUsageRow, list_users};

/// A user's share of a total.
#[derive(Debug, Serialize, ToSchema)]
pub struct ComponentUserUsage {
    uuid: String,
    url: String,
    /// Address of the total.
    component_usage: String,
    /// For those who may see the user; else empty.
    username: String,
    usage: Num,
    component_type: String,
    measured_unit: String,
    /// First day of the month.
    billing_period: String,
    date: DateTime<Utc>,
    created: DateTime<Utc>,
    modified: DateTime<Utc>,
    resource_uuid: String,
    resource_name: String,
    offering_uuid: String,
    customer_uuid: String,
    project_uuid: String,
}

/// One user of a report.
#[derive(Debug, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct UserUsageItem {
    /// User name at the site.
    #[schema(min_length = 1, max_length = 150, pattern = r"^\s*\S+\s*$")]
    username: String,
    /// Month-to-date share, as a number or a string.
    usage: AmountInput,
    /// Address of the user, here or on the offering; must be the one that `username` names.
    user: Option<IdInput>,
    /// A day in the month of the total, in the reporter's own zone.
    date: Option<InstantInput>,
}

/// A report of shares.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct SetUserUsagesRequest {
    /// Shares by user.
    #[schema(max_items = 10_000)]
    usages: Vec<UserUsageItem>,
}

fn show(
    ctx: &Context,
    row: &UserUsageRow,
    visibility: &Visibility,
    users: &std::collections::HashMap<UserId, UserRecord>,
) -> ComponentUserUsage {
    let total = &row.usage;
    let state = ctx.app.registry.read();
    let seen = row.user == ctx.caller.user
        || visibility.all
        || state.resource(total.resource).is_some_and(|entry| visibility.team(entry, &state));
    let offering = total.offering.and_then(|id| state.offering(id)).map(|o| &o.facts.facts);
    let component = offering.and_then(|o| o.components.iter().find(|c| c.component_type == total.component));
    ComponentUserUsage {
        uuid: row.uuid.as_simple().to_string(),
        url: ctx.url(USER_COLLECTION, row.uuid.as_simple()),
        // Dashed: the agent compares the last segment with the dashed spelling.
        component_usage: ctx.url(COLLECTION, total.uuid.as_hyphenated()),
        username: users.get(&row.user).filter(|_| seen).map(|u| u.username.clone()).unwrap_or_default(),
        usage: Num(total.amount),
        component_type: total.component.clone(),
        measured_unit: component.map(|c| c.measured_unit.clone()).unwrap_or_default(),
        billing_period: first_day(total.month),
        date: total.modified,
        created: total.created,
        modified: total.modified,
        resource_uuid: total.resource.to_string(),
        resource_name: total.resource_name.clone(),
        offering_uuid: total.offering.map(|id| id.to_string()).unwrap_or_default(),
        customer_uuid: total.customer.map(|id| id.to_string()).unwrap_or_default(),
        project_uuid: total.project.map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// Shares of users, newest month first.
#[utoipa::path(get, path = "/api/marketplace-component-user-usages/", tag = TAG,
    params(PageParams, UsageParams,
        ("component_usage__billing_period" = Option<String>, Query, description = "Of this month, as `billing_period`"),
        ("component_usage_uuid" = Option<String>, Query, description = "In this total"),
        ("component_usage" = Option<String>, Query, description = "The same, by address"),
        ("username" = Option<String>, Query, description = "Of this user")),
    responses((status = 200, body = [ComponentUserUsage], headers(("X-Result-Count" = u64, description = "Number of rows")))))]
pub async fn list(ctx: Context) -> ApiResult {
    let page = Page::of(&ctx.query)?;
    let empty = |page: Page| listed::<ComponentUserUsage>(&ctx, page.within(0)?, 0, &[]);
    let usage = filter(&ctx, &["component_usage__billing_period", "billing_period"])?;
    let user = match ctx.query.get("username") {
        None => None,
        Some(name) => match ctx.app.directory.user_by_username(name).await.map_err(ApiError::internal)? {
            // Members see themselves and nobody else, by a filter neither.
            Some(user) if ctx.caller.role != Role::Member || user.id == ctx.caller.user => Some(user.id),
            _ => return empty(page),
        },
    };
    let usage_uuid = either(&ctx.query, ["component_usage_uuid", "component_usage"])?;
    let filter = UserUsageFilter { usage, usage_uuid, user };
    let (rows, total) = list_users(&ctx.app.read, &filter, page.of_rows()?).await?;
    let page = page.within(total.unsigned_abs())?;
    let ids: Vec<UserId> = rows.iter().map(|row| row.user).collect();
    let users = ctx.app.directory.users(&ids).await.map_err(ApiError::internal)?;
    let visibility = ctx.visibility();
    listed(
        &ctx,
        page,
        total.unsigned_abs(),
        &rows.iter().map(|row| show(&ctx, row, &visibility, &users)).collect::<Vec<_>>(),
    )
}

/// One user's share.
struct Share {
    usage: Decimal,
    /// The user that is named beside the user name.
    user: Option<Uuid>,
}

/// Reads one user's share and checks it against the total that it is a share of.
fn share(item: &BTreeMap<String, Json>, total: &UsageRow) -> Result<(String, Share), String> {
    const KNOWN: [&str; 4] = ["date", "usage", "user", "username"];
    fields::only(item, &KNOWN)?;
    let given = |name: &str| item.get(name).filter(|value| **value != Json::Null);
    let required = |name: &str| item.get(name).ok_or_else(|| format!("{name}: {}", fields::REQUIRED));
    let username = fields::text(USERNAME)(required("username")?).map_err(|m| format!("username: {m}"))?;
    let usage = amount(required("usage")?).map_err(|m| format!("usage: {m}"))?;
    if let Some(date) = given("date") {
        let month = Month::of(fields::offset_instant(date).map_err(|m| format!("date: {m}"))?.date_naive());
        if month != total.month {
            return Err(format!("date: it is in {month}, and the total is of {}.", total.month));
        }
    }
    let user = given("user").map(fields::uuid).transpose().map_err(|m| format!("user: {m}"))?;
    Ok((username, Share { usage, user }))
}

fn shares(fields: &mut Fields, most: usize, total: &UsageRow) -> Result<BTreeMap<String, Share>, ApiError> {
    let items = fields.required("usages", fields::list(most, fields::object)).unwrap_or_default();
    let mut shares = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        let taken = match share(item, total) {
            Ok((username, share)) => shares
                .insert(username.clone(), share)
                .map(|_| format!("username: {username:?} is given more than once.")),
            Err(message) => Some(message),
        };
        if let Some(message) = taken {
            fields.errors.add("usages", format!("Item {}: {message}", index + 1));
        }
    }
    fields.check()?;
    Ok(shares)
}

/// The directory's id of a user name that the site reports; a name that is new gets an entry.
async fn user_id(ctx: &Context, username: &str) -> Result<UserId, ApiError> {
    let directory = &ctx.app.directory;
    if let Some(user) = directory.user_by_username(username).await.map_err(ApiError::internal)? {
        return Ok(user.id);
    }
    let id = UserId::from(slug_uuid("user", username));
    let details = UserDetails { id, username: username.to_owned(), email: None, full_name: String::new() };
    directory.put_user(&details, ctx.app.clock.now()).await.map_err(ApiError::internal)?;
    Ok(id)
}

/// Report the shares of users in a total.
#[utoipa::path(post, path = "/api/marketplace-component-usages/{uuid}/set_user_usages/", tag = TAG,
    params(("uuid" = String, Path)), request_body = SetUserUsagesRequest,
    responses((status = 201), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
pub async fn set_user_usages(ctx: Context, Id(id): Id<Uuid>, Body(mut fields): Body) -> ApiResult {
    set(&ctx, id, &mut fields).await
}

/// Report the shares of users in a total; another name of `set_user_usages`.
#[utoipa::path(post, path = "/api/marketplace-component-usages/{uuid}/set_user_usage/", tag = TAG,
    params(("uuid" = String, Path)), request_body = SetUserUsagesRequest,
    responses((status = 201), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
pub async fn set_user_usage(ctx: Context, Id(id): Id<Uuid>, Body(mut fields): Body) -> ApiResult {
    set(&ctx, id, &mut fields).await
}

async fn set(ctx: &Context, id: Uuid, fields: &mut Fields) -> ApiResult {
    let total = components::visible(ctx, id).await?;
    let shares = shares(fields, ctx.limits.report_items_max, &total)?;
    let mut amounts = BTreeMap::new();
    for (username, share) in shares {
        let id = user_id(ctx, &username).await?;
        let on_offering = total.offering.map(|offering| offering_user_id(offering, id));
        if share.user.is_some_and(|user| user != id.as_uuid() && Some(user) != on_offering) {
            let message = format!("user: it is not the user {username:?} that \"username\" names.");
            return Err(ApiError::field("usages", message));
        }
        amounts.insert(id, share.usage);
    }
    let command = AllocationCommand::ReportUserUsage { month: total.month, component: total.component, amounts };
    let executed = ctx.app.allocations.execute(total.resource, &command, &ctx.meta(None)).await;
    let executed = executed.map_err(|error| refused(error, "usages"))?;
    ctx.visible(executed.position).await;
    Ok(StatusCode::CREATED.into_response())
}
