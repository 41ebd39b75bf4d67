//! Who may call what: every route is registered together with its rule, and there is no other way to register one.
//!
//! A rule that depends on the role alone is checked here, before a handler runs and before anything is looked up. What
//! depends on the object (owned by the caller, or only visible) the handler checks with [`super::sight::Sight`].

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use secrecy::SecretString;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::security::SecurityRequirement;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter, UtoipaMethodRouterExt};

use super::error::ApiError;
use super::state::ApiState;
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
                describe(operation, access);
                self.rules.push(Rule { method: method.to_owned(), path: path.clone(), access });
            }
        }
        let guarded = (schemas, paths, methods).layer(from_fn_with_state((self.state.clone(), access), guard));
        self.router = self.router.routes(guarded);
        self
    }

    /// The router, the API's description, and the rules of all routes.
    pub fn finish(self) -> (axum::Router<ApiState>, utoipa::openapi::OpenApi, Vec<Rule>) {
        let (router, description) = self.router.split_for_parts();
        (router, description, self.rules)
    }
}

fn describe(operation: &mut utoipa::openapi::path::Operation, access: Access) {
    let extension = ExtensionsBuilder::new().add("x-access", access.as_str()).build();
    operation.extensions.get_or_insert_default().merge(extension);
    if access == Access::Public {
        operation.security = Some(Vec::new());
    } else {
        operation.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    }
}

async fn guard(State((state, access)): State<(ApiState, Access)>, mut request: Request, next: Next) -> Response {
    if access == Access::Public {
        return next.run(request).await;
    }
    match authenticate(&state, request.headers()).await {
        Ok(principal) if access.admits(principal.role) => {
            // What another process has just answered for is known here too.
            if let Err(error) = state.app.fresh().await {
                return ApiError::internal(error).into_response();
            }
            tracing::Span::current().record("user", tracing::field::display(principal.user));
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Ok(_) => ApiError::Forbidden.into_response(),
        Err(error) => error.into_response(),
    }
}

/// The key that the caller came with, for a broker that lets it in with the same one. Never shown or logged.
pub struct Token(pub SecretString);

impl FromRequestParts<ApiState> for Token {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, Self::Rejection> {
        key(&parts.headers).map(|key| Self(key.into()))
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
