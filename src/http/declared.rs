//! The declared parameters of an operation: its query parameters and body fields, taken from its own description.
//!
//! The API describes itself with the same list. A parameter that is not on it is refused with its name and the closest
//! matches; nothing is silently ignored. This module also completes the description: lists get the parameters that can
//! be answered from their rows, and those that known clients send to any list.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{RefOr, Required};

use super::access::Access;
use super::bounds;
use super::error::ApiError;
use super::query::Query;
use super::sieve::{CLIENTS_SEND, Sieve};
use crate::domain::text::{NAME, on_one_line};
use crate::domain::validation::{FieldErrors, nearest};

/// The parameter that limits an answer to some keys.
const FIELD: &str = "field";

/// Shapes by name, as the description has them.
pub struct Shapes(BTreeMap<String, Value>);

impl Shapes {
    /// The shapes that belong to some handlers.
    pub fn of(schemas: &[(String, RefOr<Schema>)]) -> Self {
        let value = |schema| serde_json::to_value(schema).unwrap_or_default();
        Self(schemas.iter().map(|(name, schema)| (name.clone(), value(schema))).collect())
    }

    /// Properties with the shapes that they only name put in place.
    fn resolved(&self, properties: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
        let named = |shape: &Value| {
            let name = shape.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next())?;
            self.0.get(name).cloned()
        };
        properties.into_iter().map(|(name, shape)| (name, named(&shape).unwrap_or(shape))).collect()
    }

    /// The properties of an object, wherever they are declared.
    fn properties(&self, shape: &Value) -> BTreeMap<String, Value> {
        let mut found = BTreeMap::new();
        if let Some(name) = shape.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next())
            && let Some(named) = self.0.get(name)
        {
            found.extend(self.properties(named));
        }
        for word in ["allOf", "oneOf", "anyOf"] {
            for part in shape.get(word).and_then(Value::as_array).into_iter().flatten() {
                found.extend(self.properties(part));
            }
        }
        if let Some(own) = shape.get("properties").and_then(Value::as_object) {
            found.extend(own.iter().map(|(name, shape)| (name.clone(), shape.clone())));
        }
        found
    }
}

/// What one operation takes.
#[derive(Debug, Default)]
pub struct Declared {
    query: Vec<String>,
    /// Those of the parameters for which an empty text is no value.
    valued: BTreeSet<String>,
    body: BTreeSet<String>,
    /// The names of the body's fields are data, which the handler looks at.
    body_is_open: bool,
    /// Parameters of a list that are answered from its rows.
    pub sieve: Sieve,
}

impl Declared {
    /// Reads off what an operation takes, and completes its description.
    pub fn complete(method: &str, operation: &mut Operation, shapes: &Shapes, access: Access) -> Self {
        let described = serde_json::to_value(&*operation).unwrap_or_default();
        let json = |of: &str| described.pointer(&format!("{of}/content/application~1json/schema"));
        let answer = json("/responses/200").cloned().unwrap_or_default();
        let rows = answer.get("items").map(|row| shapes.resolved(shapes.properties(row)));
        let natively = query_names(&described);
        let mut query: Vec<String> = natively.iter().cloned().collect();
        let mut add = |name: &str, many: bool, kind: Type, words: String| {
            operation.parameters.get_or_insert_default().push(RefOr::T(parameter(name, many, kind, words)));
            query.push(name.to_owned());
        };
        let mut sieve = Sieve::default();
        if let Some(rows) = rows.filter(|_| method == "GET" && natively.contains("page") && !natively.contains("after"))
        {
            sieve = Sieve::over(&rows, &natively);
            for (name, many, kind, words) in sieve.described() {
                add(name, many, kind, words);
            }
            let idle = CLIENTS_SEND.iter().filter(|name| !natively.contains(**name) && !sieve.has(name));
            for name in idle.copied().collect::<Vec<_>>() {
                add(name, true, Type::String, format!("Accepted, since known clients send it; {}", bounds::IDLE));
            }
        } else if access != Access::Public
            && method == "GET"
            && !natively.contains(FIELD)
            && !shapes.properties(&answer).is_empty()
        {
            add(FIELD, true, Type::String, "Only these fields; may be repeated".to_owned());
        }
        let shape = json("/requestBody").cloned().unwrap_or_default();
        let body_is_open = shape.get("additionalProperties").is_some();
        let mut body: BTreeSet<String> = shapes.properties(&shape).into_keys().collect();
        if matches!(method, "PUT" | "PATCH") {
            // A client may send back an answer; read-only fields are ignored or compared.
            body.extend(shapes.properties(&answer).into_keys());
        }
        let valued = bounds::describe(operation.parameters.as_deref_mut().unwrap_or_default());
        Self { query, valued, body, body_is_open, sieve }
    }

    /// Refuses parameters that the operation does not have, and those without a value where an empty text is none.
    pub fn check(&self, query: &Query) -> Result<(), ApiError> {
        let mut errors = FieldErrors::default();
        for name in query.names().filter(|name| !self.query.iter().any(|known| known == name)) {
            let message = unknown("parameter", name, self.query.iter().map(String::as_str));
            errors.add(&on_one_line(name, NAME.max), message);
        }
        for name in self.valued.iter().filter(|name| query.has_empty(name)) {
            errors.add(name, "An empty value is not valid: give one, or leave the parameter out.");
        }
        errors.into_result().map_err(ApiError::Invalid)
    }

    /// Complaints about fields of a body that the operation does not have.
    pub fn unknown_fields<'a>(&self, names: impl Iterator<Item = &'a str>) -> FieldErrors {
        let mut errors = FieldErrors::default();
        for name in names.filter(|name| !self.body_is_open && !self.body.contains(*name)) {
            let message = unknown("field", name, self.body.iter().map(String::as_str));
            errors.add(&on_one_line(name, NAME.max), message);
        }
        errors
    }
}

/// The names of an operation's query parameters.
fn query_names(operation: &Value) -> BTreeSet<String> {
    let all = operation.get("parameters").and_then(Value::as_array).into_iter().flatten();
    let of_query = all.filter(|p| p.get("in").and_then(Value::as_str) == Some("query"));
    of_query.filter_map(|p| p.get("name")?.as_str().map(str::to_owned)).collect()
}

fn parameter(name: &str, many: bool, kind: Type, words: String) -> Parameter {
    let value = ObjectBuilder::new().schema_type(kind);
    let schema: RefOr<Schema> =
        if many { ArrayBuilder::new().items(value).build().into() } else { Schema::from(value.build()).into() };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(words))
        .schema(Some(schema))
        .build()
}

/// The complaint about something of which an operation knows nothing.
pub fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = nearest(name, known, 3);
    if near.is_empty() {
        return format!("Unknown {kind}: there are none here.");
    }
    format!("Unknown {kind}. The nearest that there are: {}.", near.join(", "))
}
