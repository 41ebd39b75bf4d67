//! Reads the fields of a request body one by one and collects all errors, so that one answer names all of them.
//!
//! A message names the given value and what is allowed. Unknown fields are refused where the body is read, see
//! [`super::declared`].

use std::collections::BTreeMap;

use chrono::{DateTime, FixedOffset, NaiveDate, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::declared::unknown;
use super::error::ApiError;
use super::json::{Json, decimal};
use crate::domain::period::instant_complaint;
use crate::domain::text::{Address, NAME, TextRule};
use crate::domain::validation::FieldErrors;

/// The message for a required field that is absent.
pub const REQUIRED: &str = "This field is required.";
/// The message for `null` where a value belongs.
pub const NOT_NULL: &str = "This field may not be null.";

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

    /// Refuses where something is wrong with one item of several; every message begins with which it is.
    pub fn check_as(&mut self, which: &str) -> Result<(), ApiError> {
        for message in self.errors.0.values_mut().flatten() {
            message.insert_str(0, which);
        }
        self.check()
    }

    /// Refuses where something is wrong.
    pub fn check(&mut self) -> Result<(), ApiError> {
        std::mem::take(&mut self.errors).into_result().map_err(ApiError::Invalid)
    }
}

/// A string as it was sent, for what is compared only, or cleaned rather than refused.
pub fn raw_text(value: &Json) -> Result<String, String> {
    match value {
        Json::Text(text) => Ok(text.clone()),
        other => Err(format!("Not a valid string: {} was given.", other.kind())),
    }
}

/// A string that follows a rule of texts.
pub fn text(rule: TextRule) -> impl Fn(&Json) -> Result<String, String> {
    move |value| rule.read(&raw_text(value)?).map_err(|problem| problem.to_string())
}

/// A string with something in it, of at most `max` characters.
pub fn words(max: usize) -> impl Fn(&Json) -> Result<String, String> {
    text(TextRule::of(max))
}

/// A mail address.
pub fn address(value: &Json) -> Result<String, String> {
    let address = Address::parse(&raw_text(value)?).map_err(|problem| problem.to_string())?;
    Ok(address.as_written().to_owned())
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

/// A list of at most so many items, each read on its own; the message of a bad item says which it is.
pub fn list<T>(max: usize, read: impl Fn(&Json) -> Result<T, String>) -> impl Fn(&Json) -> Result<Vec<T>, String> {
    move |value| match value {
        Json::List(items) if items.len() > max => Err(too_many(items.len(), max)),
        Json::List(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| read(item).map_err(|message| format!("Item {}: {message}", index + 1)))
            .collect(),
        other => Err(format!("Expected a list of items but got {}.", other.kind())),
    }
}

/// What is wrong with a list, or an object, that holds more than it may.
pub fn too_many(given: usize, max: usize) -> String {
    format!("{given} items are given: at most {max} are allowed.")
}

/// Types of components, and what else has a number, in one object at most.
pub const NAMES_MAX: usize = 100;

/// An object with a number under each key, the name of a component.
pub fn numbers_by_name(value: &Json) -> Result<BTreeMap<String, Decimal>, String> {
    match value {
        Json::Object(object) if object.len() > NAMES_MAX => Err(too_many(object.len(), NAMES_MAX)),
        Json::Object(object) => object
            .iter()
            .map(|(name, value)| {
                let shown = || name.chars().take(60).collect::<String>();
                NAME.read(name).map_err(|problem| format!("{:?}: {problem}", shown()))?;
                Ok((name.clone(), number(value).map_err(|message| format!("{name}: {message}"))?))
            })
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

/// Refuses names in an object that stands in a body which are not among the known ones.
pub fn only(object: &BTreeMap<String, Json>, known: &[&str]) -> Result<(), String> {
    match object.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(format!("{name}: {}", unknown("field", name, known.iter().copied()))),
        None => Ok(()),
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
    let instant = spelled(text.trim()).ok_or_else(wrong)?;
    instant_complaint(&instant).map_or(Ok(instant), Err)
}

/// Reads an instant that Sluice counts; see [`offset_instant`].
pub fn parse_instant(text: &str) -> Option<DateTime<FixedOffset>> {
    spelled(text).filter(|instant| instant_complaint(instant).is_none())
}

fn spelled(text: &str) -> Option<DateTime<FixedOffset>> {
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
        assert_eq!(fields.required("missing", raw_text), None);
        assert_eq!(fields.optional("a", raw_text), None);
        assert_eq!(fields.nullable("a", raw_text), Some(None));
        assert_eq!(fields.optional("b", boolean), None);
        assert_eq!(fields.optional("d", list(2, number)), None);
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
    fn lists_and_objects_have_an_end() {
        let read = |text: &str| Json::parse(text).unwrap();
        let refused = list(2, raw_text)(&read("[1, 2, 3]")).unwrap_err();
        assert_eq!(refused, "3 items are given: at most 2 are allowed.");
        let many: Vec<String> = (0..=NAMES_MAX).map(|n| format!("\"c{n}\": 1")).collect();
        let refused = numbers_by_name(&read(&format!("{{{}}}", many.join(",")))).unwrap_err();
        assert_eq!(refused, "101 items are given: at most 100 are allowed.");
        let refused = numbers_by_name(&read(&format!("{{\"{}\": 1}}", "k".repeat(9_400)))).unwrap_err();
        assert!(refused.ends_with("no more than 255 characters: 9400 were given."), "{refused}");
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
