//! `/api/audit-…`: checkpoints of the log, the key that signs them, and proofs.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::access::{Access, Routes};
use super::context::Context;
use super::error::{ApiError, ApiResult, ErrorDetail, ErrorFields, sentence};
use super::paging::{Page, PageParams, listed};
use super::query::complaint;
use crate::events::checkpoint::CheckpointReason;
use crate::events::envelope::Position;
use crate::notary::NotaryError;
use crate::notary::proof::{ConsistencyProof, InclusionProof};
use crate::notary::tables::KeptCheckpoint;

/// The group in the API's description.
const TAG: &str = "Audit";

const SIZE: &str = "the number of events of a checkpoint";

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Access::Support, routes!(list))
        .add(Access::Staff, routes!(sign))
        .add(Access::Support, routes!(key))
        .add(Access::Support, routes!(inclusion))
        .add(Access::Support, routes!(consistency))
}

/// How the log stood, signed.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditCheckpoint {
    /// The event that recorded it.
    uuid: String,
    /// It is about the first so many events of the log.
    size: u64,
    created: DateTime<Utc>,
    /// `schedule`, `period_close`, `request`, `key_rotation` or `imported`.
    reason: String,
    /// The signed note, in the form of C2SP.
    note: String,
}

impl From<KeptCheckpoint> for AuditCheckpoint {
    fn from(kept: KeptCheckpoint) -> Self {
        let KeptCheckpoint { id, size, made_at, reason, note } = kept;
        Self { uuid: id.as_simple().to_string(), size, created: made_at, reason, note }
    }
}

/// The key that signs.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditKey {
    /// The public key, as a line of a signed note's verifier; none where nothing is signed.
    key: Option<String>,
}

fn refused(error: NotaryError) -> ApiError {
    match error {
        NotaryError::Store(error) => error.into(),
        NotaryError::Tables(error) => error.into(),
        NotaryError::Key(_) | NotaryError::Note(_) => ApiError::internal(error),
        error => ApiError::field("non_field_errors", sentence(&error.to_string())),
    }
}

/// Signed checkpoints of the log, the newest first.
#[utoipa::path(get, path = "/api/audit-checkpoints/", tag = TAG, params(PageParams),
    responses((status = 200, body = [AuditCheckpoint], headers(("X-Result-Count" = u64, description = "Number of rows"))),
        (status = 403, body = ErrorDetail)))]
async fn list(ctx: Context) -> ApiResult {
    let page = Page::of(&ctx.query)?;
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let (rows, total) = ctx.app.notary.tables().page(number(page.offset()), number(page.size)).await?;
    let page = page.within(total.unsigned_abs())?;
    listed(&ctx, page, total.unsigned_abs(), &rows.into_iter().map(AuditCheckpoint::from).collect::<Vec<_>>())
}

/// Sign how the log stands now.
#[utoipa::path(post, path = "/api/audit-checkpoints/", tag = TAG,
    responses((status = 201, body = AuditCheckpoint), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail)))]
async fn sign(ctx: Context) -> ApiResult {
    ctx.app.notary.checkpoint(CheckpointReason::Request, &ctx.meta(None)).await.map_err(refused)?;
    let newest = ctx.app.notary.tables().newest().await?.ok_or(ApiError::NotFound)?;
    ctx.one(StatusCode::CREATED, &AuditCheckpoint::from(newest))
}

/// The public key that checkpoints are signed with.
#[utoipa::path(get, path = "/api/audit-key/", tag = TAG,
    responses((status = 200, body = AuditKey), (status = 403, body = ErrorDetail)))]
async fn key(ctx: Context) -> ApiResult {
    let key = ctx.app.notary.public_key().map_err(ApiError::internal)?;
    ctx.one(StatusCode::OK, &AuditKey { key: key.map(|key| key.as_str().to_owned()) })
}

/// That the log of a checkpoint holds an event.
#[utoipa::path(get, path = "/api/audit-proofs/inclusion/", tag = TAG,
    params(("position" = String, Query, description = "The position of the event, as `/api/events/` gives it"),
        ("size" = Option<u64>, Query, description = "The size of the checkpoint; the newest if it is left out")),
    responses((status = 200, body = InclusionProof), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail)))]
async fn inclusion(ctx: Context) -> ApiResult {
    let allowed = "a position of the event log";
    let position = ctx.query.read("position", allowed, |text| Position::read_plain(text).ok())?;
    let position = position.ok_or_else(|| complaint("position", "", allowed))?;
    let size = ctx.query.read("size", SIZE, |text| text.parse().ok())?;
    let proof = ctx.app.notary.prove_event(position, size).await.map_err(refused)?;
    ctx.one(StatusCode::OK, &proof)
}

/// That the log of a checkpoint only grew since an earlier one.
#[utoipa::path(get, path = "/api/audit-proofs/consistency/", tag = TAG,
    params(("from" = u64, Query, description = "The size of the earlier checkpoint"),
        ("size" = Option<u64>, Query, description = "The size of the later one; the newest if it is left out")),
    responses((status = 200, body = ConsistencyProof), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail)))]
async fn consistency(ctx: Context) -> ApiResult {
    let from = ctx.query.read("from", SIZE, |text| text.parse().ok())?;
    let from = from.ok_or_else(|| complaint("from", "", SIZE))?;
    let size = ctx.query.read("size", SIZE, |text| text.parse().ok())?;
    let proof = ctx.app.notary.prove_growth(from, size).await.map_err(refused)?;
    ctx.one(StatusCode::OK, &proof)
}
