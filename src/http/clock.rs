//! `/api/simulation/clock/`: the simulated clock, which moves only on request.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::access::{Access, Routes};
use super::context::{Body, Context};
use super::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use super::fields;
use super::taken::InstantInput;
use crate::app::{AppClock, AppError};

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes.add(Access::Staff, routes!(show, set))
}

/// The time of the clock.
#[derive(Debug, Serialize, ToSchema)]
pub struct SimulationClock {
    /// Now.
    now: DateTime<Utc>,
}

/// Where to move it.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct SimulationClockRequest {
    /// The new time; not earlier than the current one.
    now: InstantInput,
}

fn simulated(ctx: &Context) -> Result<(), ApiError> {
    match ctx.app.clock_kind {
        AppClock::Simulated(_) => Ok(()),
        AppClock::Real => Err(ApiError::NotFound),
    }
}

/// The time of the simulated clock.
#[utoipa::path(get, path = "/api/simulation/clock/", tag = "Service",
    responses((status = 200, body = SimulationClock), (status = 404, body = ErrorDetail)))]
async fn show(ctx: Context) -> ApiResult {
    simulated(&ctx)?;
    ctx.one(StatusCode::OK, &SimulationClock { now: ctx.app.clock.now() })
}

/// Move the simulated clock forward, with everything that is due on the way.
#[utoipa::path(put, path = "/api/simulation/clock/", tag = "Service", request_body = SimulationClockRequest,
    responses((status = 200, body = SimulationClock), (status = 400, body = ErrorFields), (status = 404, body = ErrorDetail)))]
async fn set(ctx: Context, Body(mut body): Body) -> ApiResult {
    simulated(&ctx)?;
    let now = body.required("now", fields::instant);
    body.check()?;
    if let Some(now) = now {
        match ctx.app.advance_clock(now).await {
            Ok(_) => {}
            Err(error @ AppError::Backwards { .. }) => {
                return Err(ApiError::field("now", super::error::sentence(&error.to_string())));
            }
            Err(error) => return Err(ApiError::internal(error)),
        }
    }
    ctx.one(StatusCode::OK, &SimulationClock { now: ctx.app.clock.now() })
}
