//! Error pages: a sentence, the entered data, and the id of the request.

use std::collections::BTreeMap;
use std::error::Error;

use askama::Template;
use axum::http::StatusCode;
use serde_json::Value;

/// Why a page cannot be shown, or something was not done.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The status of the answer.
    pub status: StatusCode,
    /// Sentences for people; those of the API where it gave one.
    pub sentences: Vec<String>,
    /// The same by the name of the field that they are about, where they are about one.
    pub fields: BTreeMap<String, Vec<String>>,
    /// Those that are about no field.
    pub apart: Vec<String>,
}

impl Problem {
    /// A problem of this status with one sentence.
    pub fn new(status: StatusCode, sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        Self { status, sentences: vec![sentence.clone()], fields: BTreeMap::new(), apart: vec![sentence] }
    }

    /// There is nothing here, or nothing that the caller may see.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Nothing is at this address, or you may not see it.")
    }

    /// A defect of the service, logged with what lies behind it.
    pub fn defect(error: &(dyn Error + 'static)) -> Self {
        tracing::error!(error, "a page could not be made");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "The service failed to make this page. Nothing was changed.")
    }

    /// An answer of the API that the page does not understand: a defect.
    pub fn unread(path: &str, error: &serde_json::Error) -> Self {
        tracing::error!(path, error = error as &(dyn Error + 'static), "a page cannot read an answer of the API");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "The service failed to make this page. Nothing was changed.")
    }

    /// What the API answered instead.
    pub fn answered(status: StatusCode, body: &Value) -> Self {
        let (mut sentences, mut by_field, mut apart) = (Vec::new(), BTreeMap::new(), Vec::new());
        if let Value::Object(fields) = body {
            for (name, what) in fields {
                let said: Vec<&str> = match what {
                    Value::String(text) => vec![text],
                    Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect(),
                    _ => Vec::new(),
                };
                let named = !matches!(name.as_str(), "detail" | "non_field_errors");
                let owned = said.iter().map(|text| (*text).to_owned());
                if named {
                    by_field.insert(name.clone(), owned.collect());
                } else {
                    apart.extend(owned);
                }
                sentences
                    .extend(said.iter().map(|text| if named { format!("{name}: {text}") } else { (*text).into() }));
            }
        }
        match status {
            StatusCode::NOT_FOUND => Self::not_found(),
            StatusCode::FORBIDDEN if sentences.is_empty() => Self::new(status, "Your role may not do this."),
            _ if sentences.is_empty() => Self::new(status, "The service did not do this."),
            _ => Self { status, sentences, fields: by_field, apart },
        }
    }

    /// A short title.
    pub fn title(&self) -> &'static str {
        match self.status {
            StatusCode::NOT_FOUND => "Not found",
            StatusCode::FORBIDDEN => "Not allowed",
            StatusCode::BAD_REQUEST => "Not understood",
            StatusCode::TOO_MANY_REQUESTS => "Too many attempts",
            StatusCode::CONFLICT => "Changed by somebody else",
            StatusCode::SERVICE_UNAVAILABLE => "Not available",
            _ => "Something went wrong",
        }
    }
}

impl From<askama::Error> for Problem {
    fn from(error: askama::Error) -> Self {
        Self::defect(&error)
    }
}

/// The page of a problem.
#[derive(Template)]
#[template(path = "problem.html")]
pub struct ProblemPage<'a> {
    /// What surrounds it.
    pub frame: super::frame::Frame,
    /// What went wrong.
    pub problem: &'a Problem,
    /// By which the service's log is searched.
    pub request_id: String,
}
