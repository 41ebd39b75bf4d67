//! The context of a request for its handler: caller, query, and the address under which the caller reached the service.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::declared::Declared;
use super::error::ApiError;
use super::fields::{Fields, maybe_words};
use super::json::{Json, JsonError};
use super::layers::RequestId;
use super::query::Query;
use super::shorten::shortened;
use super::state::ApiState;
use super::visibility::Visibility;
use crate::app::App;
use crate::commands::execute::CommandMeta;
use crate::directory::{Principal, Role};
use crate::domain::validation::FieldErrors;
use crate::events::envelope::{Actor, ActorKind, Position};
use crate::projections::registry::VisibilityFilter;
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
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        query.check()?;
        Ok(Self {
            app: Arc::clone(&state.app),
            caller,
            base: base_of(parts),
            path: parts.uri.path().to_owned(),
            query,
            correlation_id: RequestId::of(parts).correlation_id,
            limits: Arc::clone(&state.limits),
        })
    }
}

/// The same of a request whose handler is not called yet.
pub fn base_of(parts: &Parts) -> String {
    base(&parts.headers, parts.uri.authority().map(axum::http::uri::Authority::as_str))
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
    pub fn visibility(&self) -> Visibility {
        Visibility::of(&self.caller, &self.app.registry.read())
    }

    /// The same, in a registry that is being read.
    pub fn visibility_in(&self, state: &RegistryState) -> Visibility {
        Visibility::of(&self.caller, state)
    }

    /// The resources that the caller may see; none: all.
    pub fn visibility_filter(&self) -> Option<VisibilityFilter> {
        let state = self.app.registry.read();
        self.visibility_in(&state).filter(&state)
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

/// The body of a request: an object, of which nothing is read yet but the names of its fields; those that the operation does
/// not have are complaints already. No body is an empty object.
pub struct Body(pub Fields);

impl FromRequest<ApiState> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Self::Rejection> {
        let declared = request.extensions().get::<Arc<Declared>>().cloned();
        object_of(json_body(request, state).await?, declared).map(Self)
    }
}

/// The fields of a body that is an object, those that the operation does not have complained about.
fn object_of(body: Option<Json>, declared: Option<Arc<Declared>>) -> Result<Fields, ApiError> {
    match body {
        None => Ok(Fields::default()),
        Some(Json::Object(object)) => {
            let mut fields = Fields::new(object);
            if let Some(declared) = declared {
                fields.errors = declared.unknown_fields(fields.names());
            }
            Ok(fields)
        }
        Some(other) => Err(unexpected("dictionary", &other)),
    }
}

/// The body of a request that is never refused for its length: what is too long in it is cut to about `BYTES` in all, and
/// `ITEMS` of each list; see [`super::shorten`].
pub struct AnyLength<const BYTES: usize, const ITEMS: usize>(pub Fields);

impl<const BYTES: usize, const ITEMS: usize> FromRequest<ApiState> for AnyLength<BYTES, ITEMS> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &ApiState) -> Result<Self, Self::Rejection> {
        let (parts, body) = request.into_parts();
        let kept = shortened(body, BYTES, ITEMS).await?;
        let declared = parts.extensions.get::<Arc<Declared>>().cloned();
        object_of(json_in(&parts.headers, &kept)?, declared).map(Self)
    }
}

/// The body of a request whose fields the handler looks at one by one itself, unknown ones too.
pub struct EveryField(pub Fields);

impl FromRequest<ApiState> for EveryField {
    type Rejection = ApiError;

    async fn from_request(mut request: Request, state: &ApiState) -> Result<Self, Self::Rejection> {
        request.extensions_mut().remove::<Arc<Declared>>();
        Body::from_request(request, state).await.map(|Body(fields)| Self(fields))
    }
}

/// The body of a request that is a list of objects, of which nothing is read yet.
pub struct Items(pub Vec<Fields>);

impl FromRequest<ApiState> for Items {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Self::Rejection> {
        let items = match json_body(request, state).await? {
            None => Vec::new(),
            Some(Json::List(items)) => items,
            Some(other) => return Err(unexpected("list of dictionaries", &other)),
        };
        let object = |item| match item {
            Json::Object(object) => Ok(Fields::new(object)),
            other => Err(unexpected("list of dictionaries", &other)),
        };
        items.into_iter().map(object).collect::<Result<_, _>>().map(Self)
    }
}

/// The body of a request, read as JSON; none if it is empty.
async fn json_body(request: Request, state: &ApiState) -> Result<Option<Json>, ApiError> {
    let headers = request.headers().clone();
    let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            ApiError::TooLarge
        } else {
            ApiError::Malformed("The request body could not be read.".to_owned())
        }
    })?;
    json_in(&headers, &bytes)
}

/// The JSON of a body that has come in; none if it is empty.
fn json_in(headers: &HeaderMap, bytes: &[u8]) -> Result<Option<Json>, ApiError> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|m| m.to_str().ok());
    if bytes.is_empty() {
        return Ok(None);
    }
    if let Some(media) = media.filter(|m| !is_json(m)) {
        return Err(ApiError::UnsupportedMediaType(media.to_owned()));
    }
    parse(bytes).map(Some)
}

fn is_json(media: &str) -> bool {
    let kind = media.split(';').next().unwrap_or(media).trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

fn unexpected(wanted: &str, given: &Json) -> ApiError {
    let message = format!("Invalid data. Expected a {wanted}, but got {}.", given.kind());
    ApiError::Invalid(FieldErrors::one("non_field_errors", message))
}

fn parse(bytes: &[u8]) -> Result<Json, ApiError> {
    let unreadable = |why: &dyn std::fmt::Display| ApiError::Malformed(format!("JSON parse error - {why}"));
    let text = std::str::from_utf8(bytes).map_err(|error| unreadable(&error))?;
    Json::parse(text).map_err(|error @ (JsonError::Syntax(_) | JsonError::TooDeep)| unreadable(&error))
}

/// A body that says why, and nothing else.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct ReasonRequest {
    /// Reason, recorded with the change.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
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
