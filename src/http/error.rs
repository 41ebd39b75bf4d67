//! What goes wrong on the wire: one error type, written in the shapes that Django REST framework uses.
//!
//! `{"detail": …}` for 401, 403, 404 and the like, `{"field": ["…"]}` for 400. A failure of the service itself is logged
//! here, once, and answered without its particulars.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::commands::allocation::Refusal;
use crate::commands::execute::CommandError;
use crate::commands::registry::RegistryError;
use crate::domain::validation::FieldErrors;
use crate::store::{StoreError, is_outage};

/// The body of an error that concerns no single field.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// What is wrong, in words.
    pub detail: String,
}

/// The body of a refused request: messages by field; `non_field_errors` for those that concern several.
#[derive(Debug, Serialize, ToSchema)]
#[schema(value_type = std::collections::BTreeMap<String, Vec<String>>)]
pub struct ErrorFields(pub FieldErrors);

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No credentials.
    #[error("no credentials were given")]
    NotAuthenticated,
    /// Credentials that are not, or no longer, good.
    #[error("the token is not valid")]
    InvalidToken,
    /// An `Authorization` header that cannot be read.
    #[error("the authorization header cannot be read: {0}")]
    InvalidTokenHeader(&'static str),
    /// Known, but not allowed.
    #[error("not allowed")]
    Forbidden,
    /// There is nothing of the kind, or the caller may not know of it.
    #[error("not found")]
    NotFound,
    /// There is no such page of a list.
    #[error("no such page")]
    InvalidPage,
    /// What was sent is not allowed, by field.
    #[error(transparent)]
    Invalid(#[from] FieldErrors),
    /// What was sent cannot be read.
    #[error("the request cannot be read: {0}")]
    Malformed(String),
    /// A body in something other than JSON.
    #[error("unsupported media type {0}")]
    UnsupportedMediaType(String),
    /// Too much was sent.
    #[error("the request is too large")]
    TooLarge,
    /// The method is none of the address.
    #[error("method {0} is not allowed")]
    MethodNotAllowed(String),
    /// Others kept writing first; nothing was done.
    #[error("others kept changing the same object")]
    Contended,
    /// The service cannot answer now; nothing was done, or the same request may be sent again.
    #[error("the service is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The service failed.
    #[error("the service failed")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a handler answers.
pub type ApiResult = Result<Response, ApiError>;

impl ApiError {
    /// A complaint about one field.
    pub fn field(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid(FieldErrors::one(field, message))
    }

    /// A failure of the service; one that passes when the database is back is no defect.
    pub fn internal(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let error = error.into();
        if is_outage(&*error) { Self::Unavailable(error) } else { Self::Internal(error) }
    }

    /// The status that goes with it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotAuthenticated | Self::InvalidToken | Self::InvalidTokenHeader(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound | Self::InvalidPage => StatusCode::NOT_FOUND,
            Self::Invalid(_) | Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Contended => StatusCode::CONFLICT,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::NotAuthenticated => "Authentication credentials were not provided.".to_owned(),
            Self::InvalidToken => "Invalid token.".to_owned(),
            Self::InvalidTokenHeader(why) => format!("Invalid token header. {why}"),
            Self::Forbidden => "You do not have permission to perform this action.".to_owned(),
            Self::NotFound => "Not found.".to_owned(),
            Self::InvalidPage => "Invalid page.".to_owned(),
            Self::Malformed(why) => why.clone(),
            Self::UnsupportedMediaType(media) => format!("Unsupported media type \"{media}\" in request."),
            Self::TooLarge => "The request body is too large.".to_owned(),
            Self::MethodNotAllowed(method) => format!("Method \"{method}\" not allowed."),
            Self::Contended => "Somebody else is changing the same object; try again.".to_owned(),
            Self::Unavailable(_) => "The service is not available at the moment; try again.".to_owned(),
            Self::Internal(_) | Self::Invalid(_) => "A server error occurred.".to_owned(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            tracing::error!(error = &self as &dyn std::error::Error, "a request failed");
        }
        let mut response = match self {
            Self::Invalid(fields) => (status, Json(fields)).into_response(),
            other => (status, Json(json!({ "detail": other.detail() }))).into_response(),
        };
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Token"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict { .. } => Self::Contended,
            StoreError::Unavailable(_) | StoreError::Unknown(_) | StoreError::LeaseLost(_) => {
                Self::Unavailable(Box::new(error))
            }
            StoreError::Rejected(_) | StoreError::Corrupt(_) => Self::internal(error),
        }
    }
}

impl From<crate::store::sql::SqlError> for ApiError {
    fn from(error: crate::store::sql::SqlError) -> Self {
        Self::internal(error)
    }
}

impl From<crate::app::AppError> for ApiError {
    fn from(error: crate::app::AppError) -> Self {
        Self::internal(error)
    }
}

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Invalid(fields) => Self::Invalid(fields),
            RegistryError::Missing(_) => Self::NotFound,
            RegistryError::Contended(_) => Self::Contended,
            RegistryError::Store(error) => error.into(),
            RegistryError::Unreadable { .. } => Self::internal(error),
        }
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Refused(refusal) => refusal.into(),
            CommandError::NoSuchResource(_) => Self::NotFound,
            CommandError::Contended(_) => Self::Contended,
            CommandError::Store(error) => error.into(),
            CommandError::Book(_) | CommandError::Registry(_) => Self::internal(error),
        }
    }
}

impl From<Refusal> for ApiError {
    /// A refusal names the field of the request that it is about.
    fn from(refusal: Refusal) -> Self {
        let field = match &refusal {
            Refusal::FutureMonth { .. } => "date",
            Refusal::UnknownComponent { .. } => "type",
            Refusal::AmountOutOfRange { .. } => "amount",
            Refusal::HoldInThePast { .. } => "expires_at",
            Refusal::NoSuchHold(_) | Refusal::Missing => return Self::NotFound,
            Refusal::StaleRegistry { .. } => return Self::Contended,
            Refusal::Exists | Refusal::NoPolicy | Refusal::NotLive(_) => "non_field_errors",
        };
        Self::field(field, sentence(&refusal.to_string()))
    }
}

/// A message as the wire has them: a capital at its start, a full stop at its end.
pub fn sentence(message: &str) -> String {
    let mut chars = message.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    let stop = if message.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{stop}", chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_begin_and_end_like_sentences() {
        assert_eq!(sentence("the hold would end"), "The hold would end.");
        assert_eq!(sentence("Done."), "Done.");
        assert_eq!(sentence(""), ".");
    }

    #[test]
    fn a_missing_token_says_how_to_authenticate() {
        let response = ApiError::NotAuthenticated.into_response();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Token");
    }
}
