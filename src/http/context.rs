//! What a handler knows of the request: who calls, what the query says, under which address the service was reached.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use uuid::Uuid;

use super::error::ApiError;
use super::fields::{Fields, maybe_words};
use super::json::{Json, JsonError};
use super::layers::RequestId;
use super::query::Query;
use super::sight::Sight;
use super::state::ApiState;
use crate::app::App;
use crate::commands::execute::CommandMeta;
use crate::directory::{Principal, Role};
use crate::domain::validation::FieldErrors;
use crate::events::envelope::{Actor, ActorKind, Position};
use crate::registry::RegistryState;

/// The longest reason for a change, in characters.
const REASON_CHARS_MAX: usize = 2_000;

/// A request by somebody who is known.
pub struct Context {
    /// The application.
    pub app: Arc<App>,
    /// Who calls.
    pub caller: Principal,
    /// `http://host`, as the caller reached the service.
    pub base: String,
    /// The path that was asked for.
    pub path: String,
    /// Its query.
    pub query: Query,
    /// Binds everything that the request leads to.
    pub correlation_id: Uuid,
    /// Bounds.
    pub limits: Arc<super::state::HttpLimits>,
}

impl FromRequestParts<ApiState> for Context {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Self::Rejection> {
        let caller = parts.extensions.get::<Principal>().cloned().ok_or(ApiError::NotAuthenticated)?;
        Ok(Self {
            app: Arc::clone(&state.app),
            caller,
            base: base(&parts.headers, parts.uri.authority().map(axum::http::uri::Authority::as_str)),
            path: parts.uri.path().to_owned(),
            query: Query::parse(parts.uri.query().unwrap_or_default()),
            correlation_id: RequestId::of(parts).correlation_id,
            limits: Arc::clone(&state.limits),
        })
    }
}

/// The address under which the caller reached the service; behind a proxy the scheme is the one that it names.
fn base(headers: &HeaderMap, authority: Option<&str>) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).or(authority);
    let plain = |host: &&str| {
        !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']' | b'_'))
    };
    let scheme = match headers.get("x-forwarded-proto").map(axum::http::HeaderValue::as_bytes) {
        Some(b"https") => "https",
        _ => "http",
    };
    format!("{scheme}://{}", host.filter(plain).unwrap_or("localhost"))
}

impl Context {
    /// What the caller may see.
    pub fn sight(&self) -> Sight {
        Sight::of(&self.caller, &self.app.registry.read())
    }

    /// The same, in a registry that is being read.
    pub fn sight_in(&self, state: &RegistryState) -> Sight {
        Sight::of(&self.caller, state)
    }

    /// Whether the caller may do everything.
    pub fn is_staff(&self) -> bool {
        self.caller.role == Role::Staff
    }

    /// Who changes something, in which request, and why.
    pub fn meta(&self, reason: Option<String>) -> CommandMeta {
        let kind = match self.caller.role {
            Role::Staff => ActorKind::Staff,
            Role::Support => ActorKind::Support,
            Role::Owner => ActorKind::Owner,
            Role::Member => ActorKind::Member,
            Role::Agent => ActorKind::Agent,
        };
        CommandMeta {
            actor: Actor { kind, id: Some(self.caller.user.as_uuid()) },
            correlation_id: self.correlation_id,
            causation_id: None,
            reason: reason.filter(|r| !r.is_empty()).map(Into::into),
        }
    }

    /// The address of an object: `url("customers", id)`.
    pub fn url(&self, collection: &str, id: impl std::fmt::Display) -> String {
        format!("{}/api/{collection}/{id}/", self.base)
    }

    /// A row with the fields that were asked for.
    pub fn shown(&self, row: &impl Serialize) -> Result<serde_json::Value, ApiError> {
        let mut value = serde_json::to_value(row).map_err(ApiError::internal)?;
        if let (Some(fields), serde_json::Value::Object(object)) = (self.query.fields(), &mut value) {
            object.retain(|name, _| fields.contains(name.as_str()));
        }
        Ok(value)
    }

    /// Answers with one object.
    pub fn one(&self, status: StatusCode, row: &impl Serialize) -> Result<Response, ApiError> {
        Ok((status, JsonBody(self.shown(row)?)).into_response())
    }

    /// Waits, within a bound, until reads show what was appended up to a position, or stood in the log before.
    pub async fn visible(&self, position: Option<Position>) {
        if !self.app.visible(position).await {
            tracing::warn!(?position, "the read models are behind what was just written");
        }
    }

    /// The same, and until the re-evaluations that a change of the registry calls for are done.
    pub async fn settled(&self, position: Option<Position>) {
        if !self.app.consequences_visible(position).await {
            tracing::warn!(?position, "re-evaluations after a change are still under way");
        }
    }
}

/// The body of a request: an object, of which nothing is read yet. No body is an empty object.
pub struct Body(pub Fields);

impl FromRequest<ApiState> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Self::Rejection> {
        let media = request.headers().get(header::CONTENT_TYPE).and_then(|m| m.to_str().ok()).map(str::to_owned);
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                ApiError::TooLarge
            } else {
                ApiError::Malformed("The request body could not be read.".to_owned())
            }
        })?;
        if bytes.is_empty() {
            return Ok(Self(Fields::default()));
        }
        if let Some(media) = media.filter(|m| !is_json(m)) {
            return Err(ApiError::UnsupportedMediaType(media));
        }
        parse(&bytes).map(Self)
    }
}

fn is_json(media: &str) -> bool {
    let kind = media.split(';').next().unwrap_or(media).trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

fn parse(bytes: &[u8]) -> Result<Fields, ApiError> {
    let unreadable = |why: &dyn std::fmt::Display| ApiError::Malformed(format!("JSON parse error - {why}"));
    let text = std::str::from_utf8(bytes).map_err(|error| unreadable(&error))?;
    match Json::parse(text) {
        Ok(Json::Object(object)) => Ok(Fields::new(object)),
        Ok(other) => {
            let message = format!("Invalid data. Expected a dictionary, but got {}.", other.kind());
            Err(ApiError::Invalid(FieldErrors::one("non_field_errors", message)))
        }
        Err(error @ (JsonError::Syntax(_) | JsonError::TooDeep)) => Err(unreadable(&error)),
    }
}

/// The reason that a change may give.
pub fn reason(fields: &mut Fields) -> Option<String> {
    fields.nullable("reason", maybe_words(REASON_CHARS_MAX)).flatten().filter(|reason| !reason.is_empty())
}

/// A UUID in a path, in either spelling; what is none names nothing.
pub struct Id<T>(pub T);

impl<T: From<Uuid>> FromRequestParts<ApiState> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Self::Rejection> {
        let params = axum::extract::RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| ApiError::NotFound)?;
        let text = params.iter().find(|(name, _)| *name == "uuid").map(|(_, value)| value);
        text.and_then(super::reference::parse_uuid).map(|id| Self(T::from(id))).ok_or(ApiError::NotFound)
    }
}
