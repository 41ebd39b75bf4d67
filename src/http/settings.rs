//! `/api/settings/`: settings of the site that staff may change while the service runs.

use axum::http::StatusCode;
use serde_json::{Map, Value};
use utoipa_axum::routes;

use super::access::{Access, Routes};
use super::context::{Body, Context, reason};
use super::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::site_settings::SettingsError;

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes.add(Access::Support, routes!(show)).add(Access::Staff, routes!(change))
}

/// The settings in force.
#[utoipa::path(get, path = "/api/settings/", tag = "Service",
    responses((status = 200, body = std::collections::BTreeMap<String, serde_json::Value>), (status = 403, body = ErrorDetail)))]
async fn show(ctx: Context) -> ApiResult {
    ctx.one(StatusCode::OK, &ctx.app.settings.current().to_json())
}

/// Change settings, all or none.
#[utoipa::path(patch, path = "/api/settings/", tag = "Service",
    request_body = std::collections::BTreeMap<String, serde_json::Value>,
    responses((status = 200, body = std::collections::BTreeMap<String, serde_json::Value>), (status = 400, body = ErrorFields),
        (status = 403, body = ErrorDetail)))]
async fn change(ctx: Context, Body(mut fields): Body) -> ApiResult {
    let why = reason(&mut fields);
    fields.check()?;
    let named = fields.names().filter(|name| *name != "reason");
    let wanted: Map<String, Value> =
        named.filter_map(|name| Some((name.to_owned(), fields.raw(name)?.to_value()))).collect();
    let position = match ctx.app.settings.change(&wanted, &ctx.meta(why)).await {
        Ok(position) => position,
        Err(SettingsError::Invalid(errors)) => return Err(ApiError::Invalid(errors)),
        Err(SettingsError::Store(error)) => return Err(error.into()),
    };
    ctx.app.reload_settings().await.map_err(ApiError::internal)?;
    ctx.visible(position).await;
    ctx.one(StatusCode::OK, &ctx.app.settings.current().to_json())
}
