//! Errors on the wire: one error type, in the formats of Django REST framework.
//!
//! `{"detail": …}` for 401, 403, 404 and the like, `{"field": ["…"]}` for 400. An internal failure is logged here,
//! once, and answered without details.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::query::QUERY_BYTES_MAX;
use crate::admission::{Exhausted, Taken};
use crate::commands::allocation::Refusal;
use crate::commands::execute::CommandError;
use crate::commands::registry::RegistryError;
use crate::domain::validation::FieldErrors;
use crate::events::envelope::DecodeError;
use crate::registry::FollowError;
use crate::store::{StoreError, is_outage};

/// The body of an error that concerns no single field.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// What is wrong, in words.
    pub detail: String,
}

/// The body of a refused request: messages by field; `non_field_errors` for those that concern several, and `detail` of a
/// body that cannot be read at all.
#[derive(Debug, Serialize)]
pub struct ErrorFields(pub FieldErrors);

impl PartialSchema for ErrorFields {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String).build();
        let messages = || ArrayBuilder::new().items(text()).build();
        let detail = OneOfBuilder::new().item(text()).item(messages()).build();
        let object = ObjectBuilder::new()
            .schema_type(Type::Object)
            .property("detail", Schema::from(detail))
            .additional_properties(Some(Schema::from(messages())))
            .description(Some("Messages by field; `detail` if the body cannot be read at all."));
        RefOr::T(object.build().into())
    }
}

impl ToSchema for ErrorFields {}

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
    /// Known, but not allowed, for a reason that helps.
    #[error("not allowed: {0}")]
    ForbiddenTo(String),
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
    /// The query of the address is too long.
    #[error("the query of the address is too long")]
    QueryTooLong,
    /// The caller has asked for too much lately.
    #[error("too many requests: {what} is {}", .exhausted.per_minute)]
    TooMany {
        /// The setting that bounds it.
        what: &'static str,
        /// What is used up, and until when.
        exhausted: Exhausted,
    },
    /// The caller holds as much as it may at a time.
    #[error("{} are held already: {}", .0.each, .0.setting)]
    TooManyHeld(Taken),
    /// The method is none of the address.
    #[error("method {0} is not allowed")]
    MethodNotAllowed(String),
    /// Others kept writing first; nothing was done.
    #[error("others kept changing the same object")]
    Contended,
    /// The service cannot answer now; nothing was done, or the same request may be sent again.
    #[error("the service is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is recorded of an object cannot be read; nothing was done.
    #[error("an event cannot be relied on")]
    Unsound(#[source] Box<DecodeError>),
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
            Self::Forbidden | Self::ForbiddenTo(_) => StatusCode::FORBIDDEN,
            Self::NotFound | Self::InvalidPage => StatusCode::NOT_FOUND,
            Self::Invalid(_) | Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::QueryTooLong => StatusCode::URI_TOO_LONG,
            Self::TooMany { .. } | Self::TooManyHeld(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Contended => StatusCode::CONFLICT,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) | Self::Unsound(_) => StatusCode::INTERNAL_SERVER_ERROR,
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
            Self::Malformed(why) | Self::ForbiddenTo(why) => why.clone(),
            Self::UnsupportedMediaType(media) => format!("Unsupported media type \"{media}\" in request."),
            Self::TooLarge => "The request body is too large.".to_owned(),
            Self::QueryTooLong => {
                format!(
                    "The query of the address is too long: at most {QUERY_BYTES_MAX} bytes are allowed, as encoded."
                )
            }
            Self::TooMany { what, exhausted } => format!(
                "Request was throttled. Expected available in {} seconds. What is used up: {what}.",
                exhausted.seconds()
            ),
            Self::TooManyHeld(Taken { setting, each }) => {
                format!("Request was throttled. This token holds as many as it may at a time ({setting} is {each}).")
            }
            Self::MethodNotAllowed(method) => format!("Method \"{method}\" not allowed."),
            Self::Contended => "Somebody else is changing the same object; try again.".to_owned(),
            Self::Unavailable(_) => "The service is not available at the moment; try again.".to_owned(),
            Self::Unsound(unsound) => format!(
                "Nothing was done: event {} of what is recorded here cannot be read. An operator finds out why with `sluice doctor`.",
                unsound.version
            ),
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
        let wait = match &self {
            Self::TooMany { exhausted, .. } => Some(exhausted.seconds()),
            Self::TooManyHeld(_) => Some(1),
            _ => (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
        };
        let mut response = match self {
            Self::Invalid(fields) => (status, Json(fields)).into_response(),
            other => (status, Json(json!({ "detail": other.detail() }))).into_response(),
        };
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Token"));
        }
        if let Some(seconds) = wait {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
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
            // What was sent holds something that cannot be kept: to send it again would not help.
            StoreError::NotReadBack(_) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a request holds what cannot be recorded");
                Self::field("non_field_errors", sentence(&format!("this cannot be recorded: {error}")))
            }
            StoreError::Unsound(unsound) => Self::Unsound(unsound),
            // Only a caller who goes on after a page can have named it.
            StoreError::NoEventThere => Self::field("after", sentence(&error.to_string())),
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
            RegistryError::Unsound(unsound) => Self::Unsound(unsound),
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
            CommandError::Unsound(unsound) => Self::Unsound(unsound),
            CommandError::Registry(FollowError::Event(unsound)) => Self::Unsound(Box::new(unsound)),
            CommandError::Book(_) | CommandError::Registry(_) | CommandError::Crashed(_) => Self::internal(error),
        }
    }
}

impl From<Refusal> for ApiError {
    /// A refusal names the field of the request that it is about.
    fn from(refusal: Refusal) -> Self {
        let field = match &refusal {
            Refusal::FutureMonth { .. } | Refusal::MonthTooEarly { .. } => "date",
            // Month and resource do not go together; which of them is wrong, only the caller knows.
            Refusal::MonthAfterEnd { .. } => {
                let message = sentence(&refusal.to_string());
                let mut errors = FieldErrors::one("date", message.clone());
                errors.add("resource", message);
                return Self::Invalid(errors);
            }
            Refusal::MeasuredInFuture { .. } | Refusal::MeasuredBeforeMonth { .. } => "measured_at",
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
