//! Access rules: every route is registered together with its rule, and there is no other way to register one.
//!
//! Rules that depend only on the role are checked here, before a handler runs or looks anything up. Rules that depend
//! on the object (owned by the caller, or only visible) are checked in the handler with
//! [`super::visibility::Visibility`].

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use secrecy::SecretString;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Content, RefOr, Response as Answer, Schema};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter, UtoipaMethodRouterExt};

use super::declared::{Declared, Shapes};
use super::described;
use super::error::ApiError;
use super::query::{self, Query};
use super::sieve;
use super::state::ApiState;
use crate::admission::Peer;
use crate::directory::{Principal, Role};

/// A rule of access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody, without a token.
    Public,
    /// Anybody with a token; what is seen depends on who it is, and so does what may be changed.
    SignedIn,
    /// Staff only; anybody else is refused before the object is looked up.
    Staff,
    /// Staff and support.
    Support,
    /// Staff, and the agent of the offering that the call is about.
    Reporting,
}

impl Access {
    /// The word in the API's description.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::SignedIn => "signed_in",
            Self::Staff => "staff",
            Self::Support => "staff_or_support",
            Self::Reporting => "staff_or_agent",
        }
    }

    /// Whether a role may call at all.
    pub fn admits(self, role: Role) -> bool {
        match self {
            Self::Public | Self::SignedIn => true,
            Self::Staff => role == Role::Staff,
            Self::Support => matches!(role, Role::Staff | Role::Support),
            Self::Reporting => matches!(role, Role::Staff | Role::Agent),
        }
    }
}

/// A method and path with its rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `GET` and so on.
    pub method: String,
    /// The path with its placeholders.
    pub path: String,
    /// The rule.
    pub access: Access,
}

/// Routes under construction.
pub struct Routes {
    state: ApiState,
    router: OpenApiRouter<ApiState>,
    rules: Vec<Rule>,
}

impl Routes {
    /// No routes yet.
    pub fn new(state: ApiState, description: utoipa::openapi::OpenApi) -> Self {
        Self { state, router: OpenApiRouter::with_openapi(description), rules: Vec::new() }
    }

    /// What the handlers will work with.
    pub fn state(&self) -> &ApiState {
        &self.state
    }

    /// Adds the handlers of one path under a rule.
    #[must_use]
    pub fn add(mut self, access: Access, (schemas, mut paths, methods): UtoipaMethodRouter<ApiState>) -> Self {
        let shapes = Shapes::of(&schemas);
        let mut taken = Taken::new();
        for (path, item) in &mut paths.paths {
            let operations = [
                ("GET", &mut item.get),
                ("POST", &mut item.post),
                ("PUT", &mut item.put),
                ("PATCH", &mut item.patch),
                ("DELETE", &mut item.delete),
            ];
            for (method, operation) in operations {
                let Some(operation) = operation else { continue };
                describe(method, operation, access);
                operation.operation_id = Some(name_of(method, path, operation));
                taken.insert(method, Arc::new(Declared::complete(method, operation, &shapes, access)));
                self.rules.push(Rule { method: method.to_owned(), path: path.clone(), access });
            }
        }
        let guarded =
            (schemas, paths, methods).layer(from_fn_with_state((self.state.clone(), access, Arc::new(taken)), guard));
        self.router = self.router.routes(guarded);
        self
    }

    /// The router, the API's description, and the rules of all routes.
    pub fn finish(self) -> (axum::Router<ApiState>, serde_json::Value, Vec<Rule>) {
        let (router, description) = self.router.split_for_parts();
        (router, described::complete(&description), self.rules)
    }
}

/// Adds what holds for every operation under a rule: who may call, and how the others are answered.
fn describe(method: &str, operation: &mut Operation, access: Access) {
    let mut refused = |status: &str, why: &str| {
        let answers = &mut operation.responses.responses;
        answers.entry(status.to_owned()).or_insert_with(|| RefOr::T(Answer::new(why)));
    };
    refused(
        "429",
        "The caller has asked for too much in the last minute; `Retry-After` says how many seconds to wait.",
    );
    if access != Access::Public {
        refused("401", "No token, or one that is unknown, revoked or expired.");
    }
    match access {
        Access::Public => {}
        Access::SignedIn if method == "GET" => {}
        Access::SignedIn => refused("403", "The caller sees the object and may not change it."),
        Access::Staff | Access::Support | Access::Reporting => refused("403", "The caller has another role."),
    }
    let extension = ExtensionsBuilder::new().add("x-access", access.as_str()).build();
    operation.extensions.get_or_insert_default().merge(extension);
    if access == Access::Public {
        operation.security = Some(Vec::new());
    } else {
        operation.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    }
}

/// Operations whose name would be another one's: what is done to all is done to one as well.
const NAMED: [(&str, &str, &str); 1] = [("POST", "/api/notices/resend/", "notices_resend_all")];

/// The name of an operation, as Waldur's description makes it: the words of the path, and what is done there. No other
/// operation has it: a generated client makes a function of it.
fn name_of(method: &str, path: &str, operation: &Operation) -> String {
    if let Some((.., name)) = NAMED.iter().find(|(of, at, _)| *of == method && *at == path) {
        return (*name).to_owned();
    }
    let segments = || path.split('/').filter(|segment| !segment.is_empty() && *segment != "api");
    let words: Vec<String> =
        segments().filter(|segment| !segment.starts_with('{')).map(|segment| segment.replace('-', "_")).collect();
    let verb = match method {
        "GET" if answers_with_list(operation) => "list",
        "GET" => "retrieve",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "partial_update",
        _ => "destroy",
    };
    if words.is_empty() {
        format!("{}_{verb}", if path == "/" { "root" } else { "api" })
    } else {
        format!("{}_{verb}", words.join("_"))
    }
}

fn answers_with_list(operation: &Operation) -> bool {
    let Some(RefOr::T(answer)) = operation.responses.responses.get("200") else { return false };
    let is_list = |content: &RefOr<Content>| match content {
        RefOr::T(content) => matches!(content.schema, Some(RefOr::T(Schema::Array(_)))),
        RefOr::Ref(_) => false,
    };
    answer.content.values().any(is_list)
}

/// An operation that is never refused because the caller asks for too much: an agent says once what became of its commands.
const NEVER_THROTTLED: &str = "/api/marketplace-slurm-periodic-usage-policies/{uuid}/report-command-result/";

/// What the operations of one path take, by method.
type Taken = HashMap<&'static str, Arc<Declared>>;

/// The caller that this process's pages have authenticated. Nothing from outside can put it into a request.
#[derive(Debug, Clone)]
pub struct Admitted(pub Principal);

/// How long the directory may take to say who calls for what is for everybody.
const DIRECTORY_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

async fn guard(
    State((state, access, taken)): State<(ApiState, Access, Arc<Taken>)>,
    mut request: Request,
    next: Next,
) -> Response {
    let public = access == Access::Public;
    if let Some(Admitted(principal)) = request.extensions_mut().remove::<Admitted>() {
        // A page of this process asks: its own request was counted when it came in.
        return match access {
            Access::Public => next.run(request).await,
            access if access.admits(principal.role) => let_in(&state, principal, &taken, request, next).await,
            _ => ApiError::Forbidden.into_response(),
        };
    }
    let asked = authenticate(&state, request.headers());
    let found = if public {
        // A directory that says nothing keeps nobody from what needs none, readiness above all.
        let found = tokio::time::timeout(DIRECTORY_WITHIN, asked).await;
        found.unwrap_or_else(|elapsed| Err(ApiError::Unavailable(Box::new(elapsed))))
    } else {
        asked.await
    };
    let admitted = match found {
        Ok(principal) => {
            let exempt = request.extensions().get::<MatchedPath>().is_some_and(|path| NEVER_THROTTLED == path.as_str());
            let placed = state.allowances.place(request.extensions().get::<Peer>(), principal.token);
            let placed = if exempt { Ok(()) } else { placed };
            placed.and_then(|()| state.allowances.known(principal.token, exempt)).map(|()| principal)
        }
        // Without a token it was counted before the route was looked up.
        Err(ApiError::NotAuthenticated) if public => return next.run(request).await,
        Err(ApiError::NotAuthenticated) => Err(ApiError::NotAuthenticated),
        Err(error) if error.status().is_server_error() => {
            // What is for everybody needs no directory.
            if public {
                return next.run(request).await;
            }
            Err(error)
        }
        Err(error) => {
            request.extensions().get::<Peer>().into_iter().for_each(Peer::unknown);
            match state.allowances.stranger(&request) {
                Ok(()) if public => return next.run(request).await,
                Ok(()) => Err(error),
                Err(refused) => Err(refused),
            }
        }
    };
    match admitted {
        Err(error) => error.into_response(),
        Ok(_) if public => next.run(request).await,
        Ok(principal) if access.admits(principal.role) => let_in(&state, principal, &taken, request, next).await,
        Ok(_) => ApiError::Forbidden.into_response(),
    }
}

/// Lets a request of somebody who may call through, and takes what it costs.
async fn let_in(state: &ApiState, principal: Principal, taken: &Taken, mut request: Request, next: Next) -> Response {
    // What another process has just answered for is known here too.
    if let Err(error) = state.app.fresh().await {
        return ApiError::internal(error).into_response();
    }
    // Who owns what, and who is whose member, is what the registry says.
    if matches!(principal.role, Role::Owner | Role::Member)
        && let Some(unsound) = state.app.follower.stands_at()
    {
        return ApiError::Unsound(Box::new(unsound)).into_response();
    }
    tracing::Span::current().record("user", tracing::field::display(principal.user));
    let _room = state.room_for_body(request.headers()).await;
    let bill = state.allowances.bill(principal.token);
    request.extensions_mut().insert(principal);
    let answer = async { taken_up(taken, request, next).await.unwrap_or_else(ApiError::into_response) };
    bill.spent().counting(answer).await
}

/// Lets a request through to its handler if it asks for nothing that the operation does not have.
async fn taken_up(taken: &Taken, mut request: Request, next: Next) -> Result<Response, ApiError> {
    let method = if request.method() == Method::HEAD { "GET" } else { request.method().as_str() };
    let Some(declared) = taken.get(method) else { return Ok(next.run(request).await) };
    let text = request.uri().query().unwrap_or_default();
    if !query::fits(text) {
        return Err(ApiError::QueryTooLong);
    }
    let query = Query::parse(text);
    declared.check(&query)?;
    // What is answered from the rows of a list comes to no handler, which would look at the values.
    query.check()?;
    if declared.sieve.is_asked(&query) {
        return sieve::answer(&declared.sieve, &query, &request.into_parts().0, next).await;
    }
    request.extensions_mut().insert(Arc::clone(declared));
    Ok(next.run(request).await)
}

/// The key that the caller came with, for a broker that lets it in with the same one. Never shown or logged.
pub struct Token(pub SecretString);

impl FromRequestParts<ApiState> for Token {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, Self::Rejection> {
        key(&parts.headers).map(|key| Self(key.into()))
    }
}

/// The key that the caller came with; none where a page of this process asks, which knows by itself how long it may.
pub struct Caller(pub Option<SecretString>);

impl FromRequestParts<ApiState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, Self::Rejection> {
        // Whoever came this far was let in.
        Ok(Self(key(&parts.headers).ok().map(SecretString::from)))
    }
}

async fn authenticate(state: &ApiState, headers: &axum::http::HeaderMap) -> Result<Principal, ApiError> {
    let found = state.app.directory.authenticate(key(headers)?, state.app.clock.now()).await;
    found.map_err(ApiError::internal)?.ok_or(ApiError::InvalidToken)
}

/// The key in the request's head.
fn key(headers: &axum::http::HeaderMap) -> Result<&str, ApiError> {
    let given = headers.get(header::AUTHORIZATION).ok_or(ApiError::NotAuthenticated)?;
    let text = given
        .to_str()
        .map_err(|_| ApiError::InvalidTokenHeader("Token string should not contain invalid characters."))?;
    let mut words = text.split_ascii_whitespace();
    match words.next() {
        Some(scheme) if scheme.eq_ignore_ascii_case("token") || scheme.eq_ignore_ascii_case("bearer") => {}
        // Credentials of another kind are none for this API.
        _ => return Err(ApiError::NotAuthenticated),
    }
    let key = words.next().ok_or(ApiError::InvalidTokenHeader("No credentials provided."))?;
    if words.next().is_some() {
        return Err(ApiError::InvalidTokenHeader("Token string should not contain spaces."));
    }
    Ok(key)
}
