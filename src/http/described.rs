//! Parts of the API's description that apply to every operation, or that depend on the whole.
//!
//! Handlers describe what is specific to them; this module adds what they share: how an operation refuses, which bodies
//! are optional, what a partial update accepts, and that a row has only the requested fields.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

const SCHEMAS: &str = "#/components/schemas/";

/// Updates that take some of the fields though their method says all.
const PARTIAL: [(&str, &str); 1] = [("put", "/api/marketplace-site-agent-identities/{uuid}/")];

/// The answer that every operation may give for a reason: its status, its shape, and why.
type Answer = (&'static str, &'static str, &'static str);

const REFUSED: Answer = ("400", "ErrorFields", "A parameter or field is not allowed; by name.");
const MISSING: Answer = ("404", "ErrorDetail", "There is no such object or page, or the caller may not see it.");
const CONTENDED: Answer = ("409", "ErrorDetail", "Others kept changing the same object first; nothing was done.");
const TOO_LARGE: Answer = ("413", "ErrorDetail", "The body is too large.");
const TOO_LONG: Answer = ("414", "ErrorDetail", "The query of the address is longer than 8,192 bytes, as encoded.");
const NO_JSON: Answer = ("415", "ErrorDetail", "The body is not JSON.");
const UNAVAILABLE: Answer =
    ("503", "ErrorDetail", "The service cannot answer now; the same request may be sent again.");

/// The whole description, completed.
pub fn complete(description: &utoipa::openapi::OpenApi) -> Value {
    let mut whole = serde_json::to_value(description).unwrap_or_default();
    let mut schemas = taken(&mut whole, "/components/schemas");
    merge_parts(&mut schemas);
    let mut paths = taken(&mut whole, "/paths");
    let mut bodies: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, item) in &mut paths {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            if operation.get("responses").is_none() {
                continue;
            }
            answers(path, method, operation);
            rows(operation, &mut schemas);
            let partial = method == "patch" || PARTIAL.contains(&(method.as_str(), path.as_str()));
            if let Some(name) = body(partial, operation, &mut schemas) {
                bodies.entry(name).or_default().insert(method.clone());
            }
        }
    }
    // What is sent is looked at field by field; an update may send back what it was shown beside it.
    for (name, methods) in bodies {
        if let Some(schema) = schemas.get_mut(&name).and_then(Value::as_object_mut)
            && methods.iter().all(|method| method == "post")
            && schema.contains_key("properties")
        {
            schema.entry("additionalProperties").or_insert(json!(false));
        }
    }
    shown_ids(&mut schemas);
    put_back(&mut whole, "/components/schemas", schemas);
    put_back(&mut whole, "/paths", paths);
    whole
}

fn taken(whole: &mut Value, pointer: &str) -> Map<String, Value> {
    match whole.pointer_mut(pointer).map(Value::take) {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

fn put_back(whole: &mut Value, pointer: &str, object: Map<String, Value>) {
    if let Some(place) = whole.pointer_mut(pointer) {
        *place = Value::Object(object);
    }
}

/// Ids in answers have one spelling; what has none of the kind is empty.
fn shown_ids(schemas: &mut Map<String, Value>) {
    let answers = schemas.iter_mut().filter(|(name, _)| !name.ends_with("Request"));
    for properties in answers.filter_map(|(_, schema)| schema.get_mut("properties")?.as_object_mut()) {
        for (_, schema) in properties.iter_mut().filter(|(name, _)| *name == "uuid" || name.ends_with("_uuid")) {
            let text = schema["type"] == "string" || schema["type"] == json!(["string", "null"]);
            if let Some(shape) = schema.as_object_mut().filter(|_| text) {
                shape.entry("pattern").or_insert(json!("^([0-9a-f]{32})?$"));
            }
        }
    }
}

/// The name of the shape that something refers to.
fn named(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix(SCHEMAS)
}

/// Objects that are made of several parts become one object each, which every reader of descriptions understands. A part that
/// may be absent has no required fields.
fn merge_parts(schemas: &mut Map<String, Value>) {
    let known = schemas.clone();
    for schema in schemas.values_mut() {
        let Some(parts) = schema.get("allOf").and_then(Value::as_array).cloned() else { continue };
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for part in &parts {
            gather(part, &known, true, &mut properties, &mut required);
        }
        let Some(object) = schema.as_object_mut() else { continue };
        object.remove("allOf");
        object.insert("type".to_owned(), json!("object"));
        object.insert("properties".to_owned(), Value::Object(properties));
        if !required.is_empty() {
            object.insert("required".to_owned(), Value::Array(required));
        }
    }
}

fn gather(
    part: &Value,
    known: &Map<String, Value>,
    present: bool,
    properties: &mut Map<String, Value>,
    required: &mut Vec<Value>,
) {
    if let Some(schema) = named(part).and_then(|name| known.get(name)) {
        gather(schema, known, present, properties, required);
    }
    for inner in part.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        gather(inner, known, present, properties, required);
    }
    for inner in part.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
        gather(inner, known, false, properties, required);
    }
    for (name, schema) in part.get("properties").and_then(Value::as_object).into_iter().flatten() {
        properties.insert(name.clone(), schema.clone());
    }
    if present {
        required.extend(part.get("required").and_then(Value::as_array).into_iter().flatten().cloned());
    }
}

/// How an operation refuses, with the shape of each answer.
fn answers(path: &str, method: &str, operation: &mut Value) {
    let parameters = operation.get("parameters").and_then(Value::as_array).cloned().unwrap_or_default();
    let of_query = parameters.iter().any(|p| p["in"] == "query");
    let pages = parameters.iter().any(|p| p["in"] == "query" && p["name"] == "page");
    let public = operation["x-access"] == "public";
    let body = operation.get("requestBody").is_some();
    let Some(known) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return };
    for (status, answer) in &mut *known {
        if answer.get("description").is_none() {
            answer["description"] = json!(said_by(status));
        }
        if status.starts_with('4') && answer.get("content").is_none() {
            let shape = if status == REFUSED.0 { REFUSED.1 } else { "ErrorDetail" };
            answer["content"] = content(shape);
        }
    }
    let wanted = [
        (REFUSED, !public || of_query || body),
        (MISSING, path.contains('{') || pages),
        (CONTENDED, method != "get" && !public),
        (TOO_LARGE, body),
        (TOO_LONG, of_query),
        (NO_JSON, body),
        (UNAVAILABLE, !public),
    ];
    for ((status, shape, why), _) in wanted.into_iter().filter(|(_, wanted)| *wanted) {
        // An address of more than 64 KiB is refused by the HTTP library, without a body.
        let answer = || match status {
            "414" => json!({"description": why}),
            _ => json!({"description": why, "content": content(shape)}),
        };
        known.entry(status).or_insert_with(answer);
    }
}

/// What an answer with a status means, where its operation says no more.
fn said_by(status: &str) -> &'static str {
    let refusals = [REFUSED, MISSING, CONTENDED, TOO_LARGE, TOO_LONG, NO_JSON, UNAVAILABLE];
    if let Some((.., why)) = refusals.into_iter().find(|(known, ..)| *known == status) {
        return why;
    }
    match status {
        "201" => "It is made.",
        "202" => "It will be done.",
        "204" => "It is done.",
        "401" => "No token, or one that is unknown, revoked or expired.",
        "403" => "The caller may not do this.",
        _ => "What was asked for.",
    }
}

fn content(shape: &str) -> Value {
    json!({"application/json": {"schema": {"$ref": format!("{SCHEMAS}{shape}")}}})
}

/// A row has the fields that `field` names: none is there whatever is asked for.
fn rows(operation: &Value, schemas: &mut Map<String, Value>) {
    let mut parameters = operation.get("parameters").and_then(Value::as_array).into_iter().flatten();
    if !parameters.any(|p| p["in"] == "query" && p["name"] == "field") {
        return;
    }
    let Some(schema) = operation.pointer("/responses/200/content/application~1json/schema") else { return };
    let row = named(schema).or_else(|| named(schema.get("items")?)).and_then(|name| schemas.get_mut(name));
    if let Some(row) = row.and_then(Value::as_object_mut) {
        row.remove("required");
    }
}

/// Says whether a body may be left out, and gives a partial update a shape of its own. Answers with the name of the shape.
fn body(partial: bool, operation: &mut Value, schemas: &mut Map<String, Value>) -> Option<String> {
    let body = operation.get_mut("requestBody")?;
    let schema = body.pointer_mut("/content/application~1json/schema")?;
    let mut name = named(schema).map(str::to_owned);
    if let Some(whole) = name.clone().filter(|name| partial && !name.starts_with("Patched")) {
        let of_some = format!("Patched{whole}");
        let mut changed = schemas.get(&whole)?.clone();
        changed.as_object_mut()?.remove("required");
        schemas.insert(of_some.clone(), changed);
        *schema = json!({"$ref": format!("{SCHEMAS}{of_some}")});
        name = Some(of_some);
    }
    let shape = name.as_ref().and_then(|name| schemas.get(name)).unwrap_or(schema);
    let required = shape.get("required").and_then(Value::as_array).is_some_and(|fields| !fields.is_empty());
    body["required"] = json!(required);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas(of: &Value) -> Map<String, Value> {
        of.as_object().unwrap().clone()
    }

    #[test]
    fn parts_become_one_object_and_a_part_that_may_be_absent_requires_nothing() {
        let mut known = schemas(&json!({
            "A": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
            "B": {"allOf": [
                {"$ref": "#/components/schemas/A"},
                {"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"]},
            ]},
            "C": {"allOf": [{"oneOf": [{"$ref": "#/components/schemas/A"}, {"type": "null"}]}]},
        }));
        merge_parts(&mut known);
        assert_eq!(known["B"]["required"], json!(["a", "b"]));
        assert_eq!(known["B"]["properties"].as_object().unwrap().len(), 2);
        assert_eq!((known["C"].get("required"), &known["C"]["properties"]["a"]["type"]), (None, &json!("string")));
    }

    #[test]
    fn a_partial_update_requires_no_field_and_may_be_empty() {
        let mut known = schemas(&json!({"X": {"properties": {"a": {}}, "required": ["a"]}}));
        let operation =
            json!({"requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/X"}}}}});
        let (mut whole, mut some) = (operation.clone(), operation);
        assert_eq!(body(false, &mut whole, &mut known).as_deref(), Some("X"));
        assert_eq!(body(true, &mut some, &mut known).as_deref(), Some("PatchedX"));
        assert_eq!(
            (&whole["requestBody"]["required"], &some["requestBody"]["required"]),
            (&json!(true), &json!(false))
        );
        assert!(known["X"].get("required").is_some() && known["PatchedX"].get("required").is_none());
    }
}
