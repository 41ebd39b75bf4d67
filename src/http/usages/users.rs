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
use super::{COLLECTION, TAG, USER_COLLECTION, components, filter, first_day};
use crate::commands::allocation::AllocationCommand;
use crate::directory::{UserDetails, UserRecord};
use crate::domain::ids::{UserId, slug_uuid};
use crate::http::context::{Body, Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::fields::{self, Fields};
use crate::http::number::Num;
use crate::http::paging::{Page, PageParams, listed};
use crate::projections::usage::{UserUsageFilter, UserUsageRow, list_users};

/// A user's share of a total.
#[derive(Debug, Serialize, ToSchema)]
pub struct ComponentUserUsage {
    uuid: String,
    url: String,
    /// Address of the total.
    component_usage: String,
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
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct UserUsageItem {
    /// User name at the site.
    username: String,
    /// Month-to-date share, as a number or a string.
    usage: String,
}

/// A report of shares.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct SetUserUsagesRequest {
    /// Shares by user.
    usages: Vec<UserUsageItem>,
}

fn show(
    ctx: &Context,
    row: &UserUsageRow,
    users: &std::collections::HashMap<UserId, UserRecord>,
) -> ComponentUserUsage {
    let total = &row.usage;
    let state = ctx.app.registry.read();
    let offering = total.offering.and_then(|id| state.offering(id)).map(|o| &o.facts.facts);
    let component = offering.and_then(|o| o.components.iter().find(|c| c.component_type == total.component));
    ComponentUserUsage {
        uuid: row.uuid.as_simple().to_string(),
        url: ctx.url(USER_COLLECTION, row.uuid.as_simple()),
        // Dashed: the agent compares the last segment with the dashed spelling.
        component_usage: ctx.url(COLLECTION, total.uuid.as_hyphenated()),
        username: users.get(&row.user).map(|u| u.username.clone()).unwrap_or_default(),
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
    params(PageParams,
        ("resource_uuid" = Option<String>, Query), ("offering_uuid" = Option<String>, Query),
        ("customer_uuid" = Option<String>, Query), ("project_uuid" = Option<String>, Query),
        ("component_usage__billing_period" = Option<String>, Query, description = "First day of a month"),
        ("component_usage_uuid" = Option<String>, Query, description = "In this total"),
        ("type" = Option<String>, Query, description = "Component type"),
        ("username" = Option<String>, Query, description = "Of this user")),
    responses((status = 200, body = [ComponentUserUsage], headers(("X-Result-Count" = u64, description = "Number of rows")))))]
pub async fn list(ctx: Context) -> ApiResult {
    let page = Page::of(&ctx.query)?;
    let empty = |page: Page| listed::<ComponentUserUsage>(&ctx, page.within(0)?, 0, &[]);
    let period = ["component_usage__billing_period", "billing_period"];
    let period = period.into_iter().find(|name| ctx.query.get(name).is_some()).unwrap_or(period[0]);
    let Some(usage) = filter(&ctx, period)? else { return empty(page) };
    let user = match ctx.query.get("username") {
        None => None,
        Some(name) => match ctx.app.directory.user_by_username(name).await.map_err(ApiError::internal)? {
            Some(user) => Some(user.id),
            None => return empty(page),
        },
    };
    let usage_uuid = match ctx.query.uuid("component_usage_uuid")? {
        Some(id) => Some(id),
        None => ctx.query.uuid("component_usage")?,
    };
    let filter = UserUsageFilter { usage, usage_uuid, user };
    let (rows, total) = list_users(&ctx.app.read, &filter, page.of_rows()?).await?;
    let page = page.within(total.unsigned_abs())?;
    let ids: Vec<UserId> = rows.iter().map(|row| row.user).collect();
    let users = ctx.app.directory.users(&ids).await.map_err(ApiError::internal)?;
    listed(&ctx, page, total.unsigned_abs(), &rows.iter().map(|row| show(&ctx, row, &users)).collect::<Vec<_>>())
}

fn shares(fields: &mut Fields, most: usize) -> Result<BTreeMap<String, Decimal>, ApiError> {
    let items = fields.required("usages", fields::list(fields::object)).unwrap_or_default();
    if items.len() > most {
        fields.errors.add("usages", format!("{} items are given: at most {most} are allowed.", items.len()));
    }
    let mut shares = BTreeMap::new();
    for (index, item) in items.iter().enumerate().take(most) {
        let read = || {
            let required = |name: &str| item.get(name).ok_or_else(|| format!("{name}: {}", fields::REQUIRED));
            let username = fields::words(255)(required("username")?).map_err(|m| format!("username: {m}"))?;
            let usage = amount(required("usage")?).map_err(|m| format!("usage: {m}"))?;
            Ok::<_, String>((username, usage))
        };
        let taken = match read() {
            Ok((username, usage)) => shares
                .insert(username.clone(), usage)
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
    let total = components::visible(&ctx, id).await?;
    let shares = shares(&mut fields, ctx.limits.report_items_max)?;
    let mut amounts = BTreeMap::new();
    for (username, share) in shares {
        amounts.insert(user_id(&ctx, &username).await?, share);
    }
    let command = AllocationCommand::ReportUserUsage { month: total.month, component: total.component, amounts };
    let executed = ctx.app.allocations.execute(total.resource, &command, &ctx.meta(None)).await;
    let executed = executed.map_err(|error| refused(error, "usages"))?;
    ctx.visible(executed.position).await;
    Ok(StatusCode::CREATED.into_response())
}
