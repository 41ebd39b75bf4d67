//! Reads the fields of a request body one by one and gathers every complaint, so that one answer names all of them.
//!
//! Unknown fields are ignored, as Django REST framework does. A message says what was given and what is allowed.

use std::collections::BTreeMap;

use chrono::{DateTime, FixedOffset, NaiveDate, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::error::ApiError;
use super::json::{Json, decimal};
use crate::domain::validation::FieldErrors;

/// The message for a required field that is absent.
pub const REQUIRED: &str = "This field is required.";
/// The message for `null` where a value belongs.
pub const NOT_NULL: &str = "This field may not be null.";
/// The message for an empty string where words belong.
pub const NOT_BLANK: &str = "This field may not be blank.";

/// The fields of a body and what is wrong with them so far.
#[derive(Debug, Default)]
pub struct Fields {
    fields: BTreeMap<String, Json>,
    /// Complaints so far.
    pub errors: FieldErrors,
}

impl Fields {
    /// The fields of an object.
    pub fn new(fields: BTreeMap<String, Json>) -> Self {
        Self { fields, errors: FieldErrors::default() }
    }

    /// Whether the field was sent.
    pub fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// The names of all fields that were sent.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// The field as it was sent.
    pub fn raw(&self, name: &str) -> Option<&Json> {
        self.fields.get(name)
    }

    /// A field that must be there.
    pub fn required<T>(&mut self, name: &str, read: impl Fn(&Json) -> Result<T, String>) -> Option<T> {
        if !self.has(name) {
            self.errors.add(name, REQUIRED);
        }
        self.optional(name, read)
    }

    /// A field that may be absent but not `null`.
    pub fn optional<T>(&mut self, name: &str, read: impl Fn(&Json) -> Result<T, String>) -> Option<T> {
        match self.fields.get(name)? {
            Json::Null => {
                self.errors.add(name, NOT_NULL);
                None
            }
            value => match read(value) {
                Ok(value) => Some(value),
                Err(message) => {
                    self.errors.add(name, message);
                    None
                }
            },
        }
    }

    /// A field that may be absent (none) or `null` (some none).
    #[expect(clippy::option_option, reason = "left out, null and given are three things in a PATCH")]
    pub fn nullable<T>(&mut self, name: &str, read: impl Fn(&Json) -> Result<T, String>) -> Option<Option<T>> {
        match self.fields.get(name)? {
            Json::Null => Some(None),
            _ => self.optional(name, read).map(Some),
        }
    }

    /// Refuses where something is wrong.
    pub fn check(&mut self) -> Result<(), ApiError> {
        std::mem::take(&mut self.errors).into_result().map_err(ApiError::Invalid)
    }
}

/// A string of any length up to what a body may hold.
pub fn text(value: &Json) -> Result<String, String> {
    match value {
        Json::Text(text) | Json::Number(text) => Ok(text.clone()),
        other => Err(format!("Not a valid string: {} was given.", other.kind())),
    }
}

/// A string with something in it, of at most `max` characters.
pub fn words(max: usize) -> impl Fn(&Json) -> Result<String, String> {
    move |value| {
        let text = text(value)?.trim().to_owned();
        match text.chars().count() {
            0 => Err(NOT_BLANK.to_owned()),
            n if n > max => Err(format!("Ensure this field has no more than {max} characters: {n} were given.")),
            _ if text.chars().any(char::is_control) => Err("Control characters are not allowed.".to_owned()),
            _ => Ok(text),
        }
    }
}

/// A string of at most `max` characters, possibly empty.
pub fn maybe_words(max: usize) -> impl Fn(&Json) -> Result<String, String> {
    move |value| match value {
        Json::Text(text) if text.trim().is_empty() => Ok(String::new()),
        other => words(max)(other),
    }
}

/// `true` or `false`.
pub fn boolean(value: &Json) -> Result<bool, String> {
    match value {
        Json::Bool(value) => Ok(*value),
        Json::Text(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Json::Text(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        other => Err(format!("Must be a valid boolean: {} was given, true or false is allowed.", other.shown())),
    }
}

/// A number, also as a string.
pub fn number(value: &Json) -> Result<Decimal, String> {
    match value {
        Json::Number(text) | Json::Text(text) => decimal(text),
        _ => None,
    }
    .ok_or_else(|| format!("A valid number is required: {} was given.", value.shown()))
}

/// A UUID in either spelling, or the last segment of an address that ends in one.
pub fn uuid(value: &Json) -> Result<Uuid, String> {
    let Json::Text(text) = value else {
        return Err(format!("Must be a valid UUID: {} was given.", value.kind()));
    };
    super::reference::uuid_in(text).ok_or_else(|| format!("Must be a valid UUID: {} was given.", value.shown()))
}

/// A list, each item read on its own; the message of a bad item says which it is.
pub fn list<T>(read: impl Fn(&Json) -> Result<T, String>) -> impl Fn(&Json) -> Result<Vec<T>, String> {
    move |value| match value {
        Json::List(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| read(item).map_err(|message| format!("Item {}: {message}", index + 1)))
            .collect(),
        other => Err(format!("Expected a list of items but got {}.", other.kind())),
    }
}

/// An object with a number under each key.
pub fn numbers_by_name(value: &Json) -> Result<BTreeMap<String, Decimal>, String> {
    match value {
        Json::Object(object) => object
            .iter()
            .map(|(name, value)| Ok((name.clone(), number(value).map_err(|message| format!("{name}: {message}"))?)))
            .collect(),
        other => Err(format!("Expected an object of numbers but got {}.", other.kind())),
    }
}

/// An object.
pub fn object(value: &Json) -> Result<BTreeMap<String, Json>, String> {
    match value {
        Json::Object(object) => Ok(object.clone()),
        other => Err(format!("Expected a dictionary of items but got {}.", other.kind())),
    }
}

/// One of some words.
pub fn choice<T: Copy>(name: impl Fn(&str) -> Option<T>, allowed: &'static str) -> impl Fn(&Json) -> Result<T, String> {
    move |value| {
        let found = match value {
            Json::Text(text) | Json::Number(text) => name(text),
            _ => None,
        };
        found.ok_or_else(|| format!("{} is not a valid choice. Allowed: {allowed}.", value.shown()))
    }
}

/// An instant with a zone.
pub fn instant(value: &Json) -> Result<DateTime<Utc>, String> {
    offset_instant(value).map(|at| at.to_utc())
}

/// An instant in its own zone; without one it is UTC, and a date alone is its midnight.
pub fn offset_instant(value: &Json) -> Result<DateTime<FixedOffset>, String> {
    let wrong = || {
        format!(
            "Datetime has wrong format: {} was given. Use YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z].",
            value.shown()
        )
    };
    let Json::Text(text) = value else { return Err(wrong()) };
    parse_instant(text.trim()).ok_or_else(wrong)
}

/// Reads an instant; see [`offset_instant`].
pub fn parse_instant(text: &str) -> Option<DateTime<FixedOffset>> {
    const SPELLINGS: [&str; 4] =
        ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z"];
    const LOCAL: [&str; 4] = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"];
    let utc = |naive: chrono::NaiveDateTime| naive.and_utc().fixed_offset();
    DateTime::parse_from_rfc3339(text)
        .ok()
        .or_else(|| SPELLINGS.iter().find_map(|spelling| DateTime::parse_from_str(text, spelling).ok()))
        .or_else(|| LOCAL.iter().find_map(|s| chrono::NaiveDateTime::parse_from_str(text, s).ok()).map(utc))
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0).map(utc))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str) -> Fields {
        let Json::Object(object) = Json::parse(body).unwrap() else { panic!("an object") };
        Fields::new(object)
    }

    #[test]
    fn every_complaint_is_gathered_under_its_field() {
        let mut fields = fields(r#"{"a": null, "b": "x", "d": ["1", true]}"#);
        assert_eq!(fields.required("missing", text), None);
        assert_eq!(fields.optional("a", text), None);
        assert_eq!(fields.nullable("a", text), Some(None));
        assert_eq!(fields.optional("b", boolean), None);
        assert_eq!(fields.optional("d", list(number)), None);
        assert_eq!(
            fields.errors.0,
            BTreeMap::from([
                ("missing".into(), vec![REQUIRED.into()]),
                ("a".into(), vec![NOT_NULL.into()]),
                ("b".into(), vec!["Must be a valid boolean: \"x\" was given, true or false is allowed.".into()]),
                ("d".into(), vec!["Item 2: A valid number is required: true was given.".into()]),
            ])
        );
        assert!(fields.check().is_err());
    }

    #[test]
    fn instants_keep_their_own_offset() {
        for (text, expected) in [
            ("2026-11-01T00:00:00+00:00", Some("2026-11-01T00:00:00+00:00")),
            ("2026-11-01T00:00:00+02:00", Some("2026-11-01T00:00:00+02:00")),
            ("2026-11-01T00:00:00Z", Some("2026-11-01T00:00:00+00:00")),
            ("2026-11-01T00:00:00.123456+0200", Some("2026-11-01T00:00:00.123456+02:00")),
            ("2026-11-01T00:00", Some("2026-11-01T00:00:00+00:00")),
            ("2026-11-01", Some("2026-11-01T00:00:00+00:00")),
            ("11/01/2026", None),
            ("2026-13-01", None),
            ("", None),
        ] {
            assert_eq!(parse_instant(text).map(|at| at.to_rfc3339()), expected.map(str::to_owned), "{text}");
        }
    }
}
