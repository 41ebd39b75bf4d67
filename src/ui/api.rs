//! The interface does nothing that the API does not offer: a page calls the API's own routes, in process and as the
//! signed-in user. Permissions, limits and figures are therefore the API's, and there is no second way to any of them.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use axum::response::Response;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::ServiceExt;

use super::problem::Problem;
use crate::directory::Principal;
use crate::http::{Admitted, RequestId};

/// The largest answer that a page reads, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// The API, as one person may use it during one request.
#[derive(Clone)]
pub struct Api {
    router: Router,
    caller: Principal,
    request: RequestId,
    host: String,
}

/// A list as the API answers it: a page of rows, and how many there are.
pub struct Listed<T> {
    /// The rows of the page.
    pub rows: Vec<T>,
    /// All rows.
    pub total: u64,
    /// Where to go on, in a list that goes by position.
    pub next: Option<String>,
}

/// An answer of the API.
struct Answer {
    value: Value,
    total: u64,
    next: Option<String>,
}

impl Api {
    /// The API for `caller`, during a request.
    pub fn new(router: Router, caller: Principal, request: RequestId, host: String) -> Self {
        Self { router, caller, request, host }
    }

    /// What the API answers, as it comes.
    async fn response(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response, Problem> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.host);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let mut request = request.body(body).map_err(|error| Problem::defect(&error))?;
        request.extensions_mut().insert(Admitted(self.caller.clone()));
        request.extensions_mut().insert(self.request.clone());
        match self.router.clone().oneshot(request).await {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Problem> {
        let response = self.response(method, path, body).await?;
        let (parts, body) = response.into_parts();
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (total, next) = (header("x-result-count"), header("x-next-position"));
        let (status, total) = (parts.status, total.and_then(|n| n.parse().ok()).unwrap_or(0));
        let bytes = to_bytes(body, ANSWER_BYTES_MAX).await.map_err(|error| Problem::defect(&error))?;
        let value = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).map_err(|error| Problem::defect(&error))?
        };
        if status.is_success() { Ok(Answer { value, total, next }) } else { Err(Problem::answered(status, &value)) }
    }

    /// One object, whatever the status of the answer that it comes in.
    pub async fn said<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        let response = self.response(Method::GET, path, None).await?;
        let bytes = to_bytes(response.into_body(), ANSWER_BYTES_MAX).await.map_err(|error| Problem::defect(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| Problem::unread(path, &error))
    }

    /// An answer that goes on until the caller leaves.
    pub async fn stream(&self, path: &str) -> Result<Body, Problem> {
        let response = self.response(Method::GET, path, None).await?;
        match response.status() {
            status if status.is_success() => Ok(response.into_body()),
            StatusCode::FORBIDDEN => Err(Problem::not_found()),
            status => {
                let bytes =
                    to_bytes(response.into_body(), ANSWER_BYTES_MAX).await.map_err(|error| Problem::defect(&error))?;
                Err(Problem::answered(status, &serde_json::from_slice(&bytes).unwrap_or_default()))
            }
        }
    }

    /// One object.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        let Answer { value, .. } = self.ask(Method::GET, path, None).await?;
        serde_json::from_value(value).map_err(|error| Problem::unread(path, &error))
    }

    /// One object, or none where there is none, or none that the caller may see.
    pub async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Problem> {
        match self.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(problem) if matches!(problem.status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN) => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// A page of a list.
    pub async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Listed<T>, Problem> {
        let Answer { value, total, next } = self.ask(Method::GET, path, None).await?;
        let rows = serde_json::from_value(value).map_err(|error| Problem::unread(path, &error))?;
        Ok(Listed { rows, total, next })
    }

    /// A page of a list; an empty one where the caller may not read it.
    pub async fn list_if_allowed<T: DeserializeOwned>(&self, path: &str) -> Result<Listed<T>, Problem> {
        match self.list(path).await {
            Err(problem) if matches!(problem.status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN) => {
                Ok(Listed { rows: Vec::new(), total: 0, next: None })
            }
            other => other,
        }
    }

    /// Does something.
    pub async fn send<T: DeserializeOwned>(&self, method: Method, path: &str, body: &Value) -> Result<T, Problem> {
        let Answer { value, .. } = self.ask(method, path, Some(body)).await?;
        serde_json::from_value(value).map_err(|error| Problem::unread(path, &error))
    }
}
