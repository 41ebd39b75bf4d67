//! How long the values of parameters may be, and which of them may be empty: said in the description, and held to.
//!
//! What a parameter means is known by its name, which is the same on every operation.

use std::collections::BTreeSet;

use utoipa::openapi::RefOr;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{ArrayItems, Object, Schema, SchemaType, Type};

use crate::domain::text::REASON;

/// What the description says of parameters that have no effect.
pub const IDLE: &str = "without effect on this list";

/// How the description of a parameter of a list that is always empty begins.
pub const OF_CLIENT: &str = "Of the client";

/// An id in a path: 32 hex digits, with or without dashes.
const ID: &str = "^([0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$";

/// The length of an id without dashes and with them.
const ID_CHARS: (usize, usize) = (32, 36);

/// Parameters that take any text: an empty one chooses by nothing.
const TEXTS: [&str; 20] = [
    "backend_id",
    "backend_type",
    "backend_version",
    "customer_name",
    "event_type",
    "field",
    "full_name",
    "name",
    "name_exact",
    "offering_slug",
    "project_name",
    "q",
    "query",
    "reason",
    "resource_name",
    "slug",
    "type",
    "user_username",
    "username",
    "version",
];

/// Parameters that name an object by its id or its address, beside those that end in `uuid`.
const REFERENCES: [&str; 7] =
    ["component_usage", "correlation_id", "customer", "offering", "project", "resource", "scope"];

/// Says of parameters how long their values may be. Answers with those of the query for which an empty text is no value.
pub fn describe(parameters: &mut [RefOr<Parameter>]) -> BTreeSet<String> {
    let mut valued = BTreeSet::new();
    for parameter in parameters {
        let RefOr::T(parameter) = parameter else { continue };
        let Some(value) = parameter.schema.as_mut().and_then(value_of) else { continue };
        let is_text = matches!(&value.schema_type, SchemaType::Type(Type::String));
        if matches!(parameter.parameter_in, ParameterIn::Path) && is_text {
            (value.min_length, value.max_length) = (Some(ID_CHARS.0), Some(ID_CHARS.1));
            value.pattern = Some(ID.to_owned());
            continue;
        }
        if !matches!(parameter.parameter_in, ParameterIn::Query) {
            continue;
        }
        let words = parameter.description.as_deref().unwrap_or_default();
        let name = parameter.name.as_str();
        let is_free = words.contains(IDLE) || words.starts_with(OF_CLIENT) || TEXTS.contains(&name);
        if is_text {
            value.max_length = Some(REASON.max);
            let is_id = name.ends_with("uuid") || REFERENCES.contains(&name);
            value.min_length = (!is_free).then_some(if is_id { ID_CHARS.0 } else { 1 });
        }
        if !is_free || !is_text {
            valued.insert(name.to_owned());
        }
    }
    valued
}

/// The shape of one value of a parameter, which may be repeated.
fn value_of(schema: &mut RefOr<Schema>) -> Option<&mut Object> {
    match schema {
        RefOr::T(Schema::Object(value)) => Some(value),
        RefOr::T(Schema::Array(many)) => match &mut many.items {
            ArrayItems::RefOrSchema(items) => match items.as_mut() {
                RefOr::T(Schema::Object(value)) => Some(value),
                _ => None,
            },
            ArrayItems::False => None,
        },
        _ => None,
    }
}
