//! List parameters that are answered from the rows themselves, in the same way for every list.
//!
//! If a list's own query cannot apply a filter, it is applied here to every row of the list, so that no known client's
//! filter is ignored. That costs a scan of the whole list, so it is bounded, and happens only on request.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, FixedOffset};
use serde_json::Value;
use utoipa::openapi::schema::Type;

use super::context;
use super::error::ApiError;
use super::fields::parse_instant;
use super::paging::{Page, RESULT_COUNT, links};
use super::query::{Query, complaint, flag};
use super::reference::uuid_in;

/// Parameters that known clients and agents send to lists of every kind.
pub const CLIENTS_SEND: [&str; 14] = [
    "backend_id",
    "field",
    "has_consent",
    "modified_before",
    "o",
    "offering_uuid",
    "page",
    "page_size",
    "project_uuid",
    "query",
    "resource_uuid",
    "slug",
    "state",
    "user_uuid",
];

/// Rows that are looked at, at most.
const ROWS_MAX: u64 = 10_000;
/// Rows fetched at a time: the largest page.
const PAGE_SIZE: u64 = 100;

/// How a parameter chooses among rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// One of the values given.
    Equal,
    /// Contains the text, in any case.
    Contains,
    /// The id, in either spelling or at the end of an address.
    Id,
    /// At this instant or later.
    From,
    /// At this instant or earlier.
    Until,
    /// Some text of the row contains it.
    Search,
    /// The order of the rows.
    Order,
}

/// Parameters by the property of a row that they look at.
const BY_PROPERTY: &[(&str, &str, Choice)] = &[
    ("name", "name", Choice::Contains),
    ("name_exact", "name", Choice::Equal),
    ("slug", "slug", Choice::Equal),
    ("state", "state", Choice::Equal),
    ("type", "type", Choice::Equal),
    ("mode", "mode", Choice::Equal),
    ("version", "version", Choice::Equal),
    ("backend_id", "backend_id", Choice::Equal),
    ("backend_type", "backend_type", Choice::Equal),
    ("backend_version", "backend_version", Choice::Equal),
    ("username", "username", Choice::Equal),
    ("user_username", "user_username", Choice::Equal),
    ("full_name", "full_name", Choice::Contains),
    ("is_active", "is_active", Choice::Equal),
    ("is_staff", "is_staff", Choice::Equal),
    ("is_support", "is_support", Choice::Equal),
    ("paused", "paused", Choice::Equal),
    ("downscaled", "downscaled", Choice::Equal),
    ("restrict_member_access", "restrict_member_access", Choice::Equal),
    ("resource_name", "resource_name", Choice::Contains),
    ("project_name", "project_name", Choice::Contains),
    ("customer_name", "customer_name", Choice::Contains),
    ("offering_slug", "offering_slug", Choice::Equal),
    ("missing_usage_policy", "missing_usage_policy", Choice::Equal),
    ("created", "created", Choice::From),
    ("created_before", "created", Choice::Until),
    ("modified", "modified", Choice::From),
    ("modified_before", "modified", Choice::Until),
    ("resource_uuid", "resource_uuid", Choice::Id),
    ("resource", "resource_uuid", Choice::Id),
    ("offering_uuid", "offering_uuid", Choice::Id),
    ("offering", "offering_uuid", Choice::Id),
    ("project_uuid", "project_uuid", Choice::Id),
    ("project", "project_uuid", Choice::Id),
    ("customer_uuid", "customer_uuid", Choice::Id),
    ("customer", "customer_uuid", Choice::Id),
    ("user_uuid", "user_uuid", Choice::Id),
    ("provider_uuid", "provider_uuid", Choice::Id),
    ("policy_uuid", "policy_uuid", Choice::Id),
];

/// Properties in which `query` looks for words.
const SEARCHED: [&str; 16] = [
    "backend_id",
    "customer_name",
    "description",
    "email",
    "error",
    "explanation",
    "full_name",
    "name",
    "offering_name",
    "project_name",
    "resource_name",
    "shell_command",
    "slug",
    "summary",
    "type",
    "username",
];

#[derive(Debug, Clone)]
struct Hole {
    name: &'static str,
    /// The property that it looks at is true or false.
    is_flag: bool,
    /// Properties of a row that it looks at.
    properties: Vec<String>,
    choice: Choice,
}

/// The parameters of one list that are answered from its rows.
#[derive(Debug, Default)]
pub struct Sieve {
    holes: Vec<Hole>,
}

impl Sieve {
    /// What can be asked of rows with these properties, beside what the list answers `natively`.
    pub fn over(rows: &BTreeMap<String, Value>, natively: &BTreeSet<String>) -> Self {
        let free = |name: &str| !natively.contains(name);
        let by_property = BY_PROPERTY.iter().filter(|(name, property, _)| free(name) && rows.contains_key(*property));
        let flag = |property: &str| rows.get(property).is_some_and(|shape| shape["type"] == "boolean");
        let mut holes: Vec<Hole> = by_property
            .map(|(name, property, choice)| {
                let properties = vec![(*property).to_owned()];
                Hole { name, is_flag: flag(property), properties, choice: *choice }
            })
            .collect();
        let scalar = |shape: &Value| {
            let kind = shape.get("type");
            let is = |kind: &Value| kind.as_str().is_some_and(|k| k != "object" && k != "array");
            kind.is_some_and(|k| is(k) || k.as_array().is_some_and(|all| all.iter().any(|k| is(k) && k != "null")))
        };
        let searched: Vec<String> =
            SEARCHED.into_iter().filter(|name| rows.contains_key(*name)).map(str::to_owned).collect();
        if free("query") && !searched.is_empty() {
            holes.push(Hole { name: "query", is_flag: false, properties: searched, choice: Choice::Search });
        }
        let ordered: Vec<String> =
            rows.iter().filter(|(_, shape)| scalar(shape)).map(|(name, _)| name.clone()).collect();
        if free("o") && !ordered.is_empty() {
            holes.push(Hole { name: "o", is_flag: false, properties: ordered, choice: Choice::Order });
        }
        Self { holes }
    }

    /// Whether a parameter is one of them.
    pub fn has(&self, name: &str) -> bool {
        self.holes.iter().any(|hole| hole.name == name)
    }

    /// The parameters with what they do: name, whether it may be repeated, what a value is, in words.
    pub fn described(&self) -> impl Iterator<Item = (&'static str, bool, Type, String)> {
        self.holes.iter().map(|hole| {
            let of = hole.properties.join("`, `");
            let words = match hole.choice {
                Choice::Equal if hole.name == of => "Only rows with this value; may be repeated".to_owned(),
                Choice::Equal => format!("Only rows whose `{of}` is this; may be repeated"),
                Choice::Contains => format!("Only rows whose `{of}` contains this"),
                Choice::Id => format!("Only rows with this `{of}`: an id or an address; may be repeated"),
                Choice::From => format!("Only rows with `{of}` at this instant or later"),
                Choice::Until => format!("Only rows with `{of}` at this instant or earlier"),
                Choice::Search => format!("Only rows where one of `{of}` contains this"),
                Choice::Order => {
                    format!("Sorts by `{of}`; with a dash before it the other way round; several with commas")
                }
            };
            let kind = if hole.is_flag { Type::Boolean } else { Type::String };
            (hole.name, matches!(hole.choice, Choice::Equal | Choice::Id | Choice::Order), kind, words)
        })
    }

    /// Whether a query asks for any of them.
    pub fn is_asked(&self, query: &Query) -> bool {
        self.holes.iter().any(|hole| query.get(hole.name).is_some())
    }

    fn sift(&self, query: &Query, rows: &mut Vec<Value>) -> Result<(), ApiError> {
        for hole in &self.holes {
            let values: Vec<&str> = query.all(hole.name).collect();
            if values.is_empty() {
                continue;
            }
            if hole.choice == Choice::Order {
                sort(hole, &values, rows)?;
            } else {
                let asked = values.iter().map(|value| Asked::of(hole, value)).collect::<Result<Vec<_>, _>>()?;
                rows.retain(|row| asked.iter().any(|asked| hole.properties.iter().any(|p| asked.fits(row.get(p)))));
            }
        }
        Ok(())
    }
}

/// What is asked of one property.
enum Asked {
    Equal(String),
    Contains(String),
    From(DateTime<FixedOffset>),
    Until(DateTime<FixedOffset>),
}

impl Asked {
    fn of(hole: &Hole, value: &str) -> Result<Self, ApiError> {
        let instant = || {
            let read = parse_instant(value).or_else(|| parse_instant(&value.replace(' ', "+")));
            read.ok_or_else(|| complaint(hole.name, value, "an ISO 8601 instant, or a date YYYY-MM-DD"))
        };
        Ok(match hole.choice {
            Choice::Equal if hole.is_flag => match flag(value) {
                Some(flag) => Self::Equal(flag.to_string()),
                None => return Err(complaint(hole.name, value, "true or false")),
            },
            Choice::Equal => Self::Equal(value.to_lowercase()),
            Choice::Id => match uuid_in(value) {
                Some(id) => Self::Equal(id.as_simple().to_string()),
                None => return Err(complaint(hole.name, value, "a UUID, with or without dashes, or an address")),
            },
            Choice::From => Self::From(instant()?),
            Choice::Until => Self::Until(instant()?),
            Choice::Contains | Choice::Search | Choice::Order => Self::Contains(value.to_lowercase()),
        })
    }

    fn fits(&self, value: Option<&Value>) -> bool {
        let Some(text) = value.and_then(text_of) else { return false };
        match self {
            Self::Equal(wanted) => text.to_lowercase() == *wanted,
            Self::Contains(wanted) => text.to_lowercase().contains(wanted),
            Self::From(at) => parse_instant(&text).is_some_and(|of| of >= *at),
            Self::Until(at) => parse_instant(&text).is_some_and(|of| of <= *at),
        }
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Sorts by the properties named, the first one first; what is equal stays as it was.
fn sort(hole: &Hole, values: &[&str], rows: &mut [Value]) -> Result<(), ApiError> {
    let mut keys = Vec::new();
    for word in values.iter().flat_map(|value| value.split(',')).map(str::trim).filter(|word| !word.is_empty()) {
        let name = word.trim_start_matches('-');
        if !hole.properties.iter().any(|known| known == name) {
            return Err(complaint(
                hole.name,
                word,
                &format!("{}, each also with a dash before it", hole.properties.join(", ")),
            ));
        }
        keys.push((name, word.starts_with('-')));
    }
    rows.sort_by(|a, b| {
        let by = |(name, down): &(&str, bool)| {
            let order = compare(a.get(name), b.get(name));
            if *down { order.reverse() } else { order }
        };
        keys.iter().map(by).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
    Ok(())
}

/// Nothing comes before something, numbers are numbers, and text is in the order of its letters.
fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    let number = |value: Option<&Value>| value.and_then(Value::as_f64);
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => a.and_then(text_of).map(|t| t.to_lowercase()).cmp(&b.and_then(text_of).map(|t| t.to_lowercase())),
    }
}

/// Answers a list whose query asks for something that only its rows can say: fetches them, chooses, sorts, and cuts the page.
pub async fn answer(sieve: &Sieve, query: &Query, parts: &Parts, next: Next) -> Result<Response, ApiError> {
    let mut rows = Vec::new();
    for number in 1_u64.. {
        let inner = query.only(|name| !sieve.has(name) && !matches!(name, "page" | "page_size" | "field"));
        let inner = inner.with("page_size", &PAGE_SIZE.to_string());
        let inner = Query::parse(&inner).with_page(number);
        let response = next.clone().run(request(parts, &inner)?).await;
        if !response.status().is_success() {
            return Ok(response);
        }
        let total = response.headers().get(RESULT_COUNT).and_then(|n| n.to_str().ok()).and_then(|n| n.parse().ok());
        let total: u64 = total.unwrap_or_default();
        if total > ROWS_MAX {
            let asked = sieve.holes.iter().find(|hole| query.get(hole.name).is_some()).map_or("o", |hole| hole.name);
            let message = format!(
                "{total} rows are too many to choose from by this; name other filters that leave {ROWS_MAX} or fewer."
            );
            return Err(ApiError::field(asked, message));
        }
        let bytes = to_bytes(response.into_body(), usize::MAX).await.map_err(ApiError::internal)?;
        let some: Vec<Value> = serde_json::from_slice(&bytes).map_err(ApiError::internal)?;
        let done = some.is_empty() || number * PAGE_SIZE >= total;
        rows.extend(some);
        if done {
            break;
        }
    }
    sieve.sift(query, &mut rows)?;
    page(query, parts, rows)
}

fn request(parts: &Parts, query: &str) -> Result<Request, ApiError> {
    let address = format!("{}?{query}", parts.uri.path());
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = address.parse::<Uri>().map_err(ApiError::internal)?;
    request.headers_mut().clone_from(&parts.headers);
    request.extensions_mut().clone_from(&parts.extensions);
    Ok(request)
}

fn page(query: &Query, parts: &Parts, rows: Vec<Value>) -> Result<Response, ApiError> {
    let total = rows.len() as u64;
    let page = Page::of(query)?.within(total)?;
    let mut rows = page.cut(rows);
    if let Some(fields) = query.fields() {
        for row in rows.iter_mut().filter_map(Value::as_object_mut) {
            row.retain(|name, _| fields.contains(name.as_str()));
        }
    }
    let base = context::base_of(parts);
    let links = links(&base, parts.uri.path(), query, page, total);
    let mut response = Json(rows).into_response();
    response.headers_mut().insert(RESULT_COUNT, HeaderValue::from(total));
    if let Ok(value) = HeaderValue::from_str(&links) {
        response.headers_mut().insert(header::LINK, value);
    }
    Ok(response)
}
