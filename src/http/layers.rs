//! Layers around every request: its id, a trace without secrets, limits on time and size, headers, and JSON for errors
//! outside the handlers.

use std::any::Any;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;
use uuid::Uuid;

use super::error::ApiError;
use super::state::ApiState;
use crate::clock::IdSource;

/// The request's id, in and out.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest request id that is taken over from a caller.
const REQUEST_ID_CHARS_MAX: usize = 128;

/// The id of a request.
#[derive(Debug, Clone)]
pub struct RequestId {
    /// As the caller gave it, or ours.
    pub text: String,
    /// The same as a UUID: what binds the events that the request leads to.
    pub correlation_id: Uuid,
}

impl RequestId {
    fn given(text: &str) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/' | b'+' | b'=');
        if text.is_empty() || text.len() > REQUEST_ID_CHARS_MAX || !text.bytes().all(plain) {
            return None;
        }
        let id = super::reference::parse_uuid(text);
        // Another system's id that is no UUID always stands for the same one.
        let id = id.unwrap_or_else(|| Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("sluice/request/{text}").as_bytes()));
        Some(Self { text: text.to_owned(), correlation_id: id })
    }

    fn fresh() -> Self {
        let id = IdSource.fresh();
        Self { text: id.to_string(), correlation_id: id }
    }

    /// The id of this request.
    pub fn of(parts: &Parts) -> Self {
        parts.extensions.get().cloned().unwrap_or_else(Self::fresh)
    }
}

/// Gives the request an id, traces it, and bounds its time.
pub async fn envelop(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let given = request.headers().get(&X_REQUEST_ID).and_then(|id| id.to_str().ok()).and_then(RequestId::given);
    let id = given.unwrap_or_else(RequestId::fresh);
    // Neither query nor headers: tokens and addresses may stand in them. Of the highest level, or a site that logs warnings
    // only would not see which request they belong to.
    let span = tracing::error_span!(
        "request",
        request_id = %id.text,
        correlation_id = %id.correlation_id.simple(),
        method = %request.method(),
        path = %request.uri().path(),
        user = tracing::field::Empty,
        status = tracing::field::Empty,
    );
    request.extensions_mut().insert(id.clone());
    let page = request.uri().path().starts_with("/api/docs/");
    let method = method(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let begun = tokio::time::Instant::now();
    let answer = async {
        // A caller without a token is known only by address.
        if !request.headers().contains_key(header::AUTHORIZATION)
            && let Err(refused) = state.allowances.stranger(&request)
        {
            return refused.into_response();
        }
        let answered = tokio::time::timeout(state.limits.request_time_max, next.run(request)).await;
        answered.unwrap_or_else(|elapsed| ApiError::Unavailable(Box::new(elapsed)).into_response())
    };
    let mut response = answer.instrument(span.clone()).await;
    let status = response.status().as_u16();
    span.record("status", status);
    crate::telemetry::metrics::request(method, route, status, begun.elapsed());
    let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    span.in_scope(|| tracing::debug!(duration_ms, "answered"));
    if let Ok(value) = HeaderValue::from_str(&id.text) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    secure(&mut response, page);
    response
}

/// The methods that the API has, and one word for all others: anybody may make up more.
fn method(method: &Method) -> &'static str {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    known.into_iter().find(|known| method.as_str() == *known).unwrap_or("other")
}

/// What the page on the API may load: its own files, and pictures that stand in its style.
const DOCS_MAY_LOAD: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                             font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What anything else may load that a browser takes for a page: nothing.
const DATA_MAY_LOAD: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Headers for browsers. A handler's own come first.
fn secure(response: &mut Response, page: bool) {
    let headers = response.headers_mut();
    let may_load = if page { DOCS_MAY_LOAD } else { DATA_MAY_LOAD };
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(may_load));
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    // Answers depend on who asks.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(header::VARY).or_insert(HeaderValue::from_static("Accept, Authorization"));
}

/// Adds the slash at the end of an API address where it is missing, instead of redirecting to it.
pub async fn with_slash(mut request: Request) -> Request {
    let uri = request.uri();
    let path = uri.path();
    let wants = path.starts_with("/api/") && !path.ends_with('/') && !path.starts_with("/api/docs/");
    if wants {
        let query = uri.query().map(|q| format!("?{q}")).unwrap_or_default();
        if let Ok(with_slash) = format!("{path}/{query}").parse::<Uri>() {
            *request.uri_mut() = with_slash;
        }
    }
    request
}

/// Counts a request for which no token is checked: a caller who sends one along still counts as a stranger.
pub async fn unguarded(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    match unchecked(&state, &request) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

/// There is nothing at this address.
pub async fn not_found(State(state): State<ApiState>, request: Request) -> ApiError {
    unchecked(&state, &request).err().unwrap_or(ApiError::NotFound)
}

/// Without a token the request was counted before the route was looked up.
fn unchecked(state: &ApiState, request: &Request) -> Result<(), ApiError> {
    let sends_one = request.headers().contains_key(header::AUTHORIZATION);
    if sends_one { state.allowances.stranger(request) } else { Ok(()) }
}

/// The address has other methods.
pub async fn method_not_allowed(method: Method) -> ApiError {
    ApiError::MethodNotAllowed(method.to_string())
}

/// A handler panicked: a defect, logged with what it said, answered like any other failure.
#[expect(clippy::needless_pass_by_value, reason = "the signature that tower-http asks for")]
pub fn panicked(panic: Box<dyn Any + Send + 'static>) -> axum::http::Response<Body> {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    ApiError::internal(format!("a handler panicked: {}", text.unwrap_or("no message"))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_other_systems_are_taken_over_if_they_are_plain() {
        let hex = RequestId::given("7e500000000040008000000000000001").unwrap();
        assert_eq!(hex.correlation_id.simple().to_string(), hex.text);
        let named = RequestId::given("proxy-4711").unwrap();
        assert_eq!(named.correlation_id, RequestId::given("proxy-4711").unwrap().correlation_id);
        for bad in ["", "a b", "x\n", &"x".repeat(129)] {
            assert!(RequestId::given(bad).is_none(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_missing_slash_is_added_before_the_query() {
        for (given, expected) in [
            ("/api/customers?page=2", "/api/customers/?page=2"),
            ("/api/customers/", "/api/customers/"),
            ("/health/live", "/health/live"),
            ("/api/docs/swagger-ui.css", "/api/docs/swagger-ui.css"),
        ] {
            let request = Request::builder().uri(given).body(Body::empty()).unwrap();
            assert_eq!(with_slash(request).await.uri().to_string(), expected);
        }
    }
}
