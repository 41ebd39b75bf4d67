//! The query of a request: filters, page and fields.
//!
//! A parameter that cannot be read is refused by name; [`super::declared`] knows which parameters exist.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use uuid::Uuid;

use super::error::ApiError;
use super::fields::parse_instant;
use super::reference::uuid_in;
use crate::domain::text::{NAME, REASON, TextProblem, on_one_line};
use crate::domain::validation::FieldErrors;

/// The longest query of an address, in bytes, as encoded: what nginx and Apache httpd let through by default. The `Link`
/// header of a list repeats the query four times, and HTTP clients read at most 64 KiB of one header.
pub const QUERY_BYTES_MAX: usize = 8_192;

/// Whether a query is no longer than allowed, both as it was sent and as it is sent back.
pub fn fits(text: &str) -> bool {
    // Encoding makes three bytes of one at most.
    text.len() <= QUERY_BYTES_MAX / 3
        || text.len() <= QUERY_BYTES_MAX && Query::parse(text).encoded().len() <= QUERY_BYTES_MAX
}

/// The parameters in the order in which they were sent.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads the text behind the `?`.
    pub fn parse(text: &str) -> Self {
        let pairs = form_urlencoded::parse(text.as_bytes()).map(|(k, v)| (k.into_owned(), v.into_owned()));
        Self { pairs: pairs.collect() }
    }

    /// Refuses a value that holds what cannot be seen, or is longer than anything that is looked for.
    pub fn check(&self) -> Result<(), ApiError> {
        let mut errors = FieldErrors::default();
        for (name, value) in &self.pairs {
            let name = on_one_line(name, NAME.max);
            // Blanks count too: the description says how long a value may be, and nothing of what is cut off it.
            let given = value.chars().count();
            let long = (given > REASON.max).then_some(TextProblem::TooLong { max: REASON.max, given });
            if let Some(problem) = long.or_else(|| REASON.read_or_empty(value).err()) {
                errors.add(&name, problem.to_string());
            }
        }
        errors.into_result().map_err(ApiError::Invalid)
    }

    /// The names of all parameters that were sent.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(name, _)| name.as_str())
    }

    /// The same with some of the parameters.
    #[must_use]
    pub fn only(&self, wanted: impl Fn(&str) -> bool) -> Self {
        Self { pairs: self.pairs.iter().filter(|(name, _)| wanted(name)).cloned().collect() }
    }

    /// The last value of a parameter; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.last(name).filter(|value| !value.is_empty())
    }

    /// The last value of a parameter, as it was sent.
    pub fn last(&self, name: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter was sent with nothing in it.
    pub fn has_empty(&self, name: &str) -> bool {
        self.pairs.iter().any(|(key, value)| key == name && value.is_empty())
    }

    /// Every value of a repeatable parameter; empty ones count as absent.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// A parameter read by `read`; `allowed` says in words what it may be. An empty value is a value, and is refused like any
    /// other that cannot be read.
    pub fn read<T>(
        &self,
        name: &str,
        allowed: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.last(name) else { return Ok(None) };
        read(text).map(Some).ok_or_else(|| complaint(name, text, allowed))
    }

    /// A UUID in either spelling, or an address that ends in one.
    pub fn uuid<T: From<Uuid>>(&self, name: &str) -> Result<Option<T>, ApiError> {
        self.read(name, "a UUID, with or without dashes", |text| uuid_in(text).map(T::from))
    }

    /// Every value of a repeatable parameter, each read by `read`, the empty ones too.
    pub fn every<T>(&self, name: &str, allowed: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, ApiError> {
        let values = self.pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        values.map(|text| read(text).ok_or_else(|| complaint(name, text, allowed))).collect()
    }

    /// Every UUID of a repeatable parameter.
    pub fn uuids<T: From<Uuid>>(&self, name: &str) -> Result<Vec<T>, ApiError> {
        self.every(name, "a UUID, with or without dashes", |text| uuid_in(text).map(T::from))
    }

    /// `true` or `false`, in the spellings that Django reads.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.read(name, "true or false", flag)
    }

    /// A calendar date.
    pub fn date(&self, name: &str) -> Result<Option<NaiveDate>, ApiError> {
        self.read(name, "a date YYYY-MM-DD", |text| parse_instant(text).map(|at| at.date_naive()))
    }

    /// The fields asked for; none means all.
    pub fn fields(&self) -> Option<BTreeSet<&str>> {
        let fields: BTreeSet<&str> = self.all("field").collect();
        (!fields.is_empty()).then_some(fields)
    }

    /// The query with another page, encoded; commas too, on which readers of `Link` headers would stumble.
    pub fn with_page(&self, page: u64) -> String {
        self.with("page", &page.to_string())
    }

    /// The query, encoded.
    pub fn encoded(&self) -> String {
        let mut text = form_urlencoded::Serializer::new(String::new());
        text.extend_pairs(&self.pairs);
        text.finish()
    }

    /// The query with another value of a parameter, encoded.
    pub fn with(&self, changed: &str, value: &str) -> String {
        let mut text = form_urlencoded::Serializer::new(String::new());
        for (name, value) in self.pairs.iter().filter(|(name, _)| name != changed) {
            text.append_pair(name, value);
        }
        text.append_pair(changed, value);
        text.finish()
    }
}

/// `true` or `false`, in the spellings that Django reads.
pub fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// A complaint about a parameter.
pub fn complaint(name: &str, value: &str, allowed: &str) -> ApiError {
    let value: String = value.chars().take(60).collect();
    ApiError::Invalid(FieldErrors::one(name, format!("{value:?} is not valid. Allowed: {allowed}.")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::ResourceId;

    #[test]
    fn parameters_are_read_in_all_their_spellings() {
        let query = Query::parse(
            "state=OK&state=Erred&name=a%2Cb&x=&resource_uuid=7e500000-0000-4000-8000-000000000001&on=True",
        );
        assert_eq!(query.all("state").collect::<Vec<_>>(), ["OK", "Erred"]);
        assert_eq!((query.get("state"), query.get("x"), query.get("y")), (Some("Erred"), None, None));
        let id: Option<ResourceId> = query.uuid("resource_uuid").unwrap();
        assert_eq!(id.unwrap().to_string(), "7e500000000040008000000000000001");
        assert_eq!(query.boolean("on").unwrap(), Some(true));
        assert!(matches!(query.uuid::<ResourceId>("name"), Err(ApiError::Invalid(e)) if e.0.contains_key("name")));
    }

    #[test]
    fn an_empty_value_is_none_of_what_is_read() {
        let query = Query::parse("paused=&steps=&offering_uuid=&day=&state=");
        let named = |of: Result<(), ApiError>, name| matches!(of, Err(ApiError::Invalid(e)) if e.0.contains_key(name));
        assert!(named(query.boolean("paused").map(drop), "paused"));
        assert!(named(query.read("steps", "a number", |text| text.parse::<u32>().ok()).map(drop), "steps"));
        assert!(named(query.uuid::<ResourceId>("offering_uuid").map(drop), "offering_uuid"));
        assert!(named(query.uuids::<ResourceId>("offering_uuid").map(drop), "offering_uuid"));
        assert!(named(query.date("day").map(drop), "day"));
        assert!(named(query.every("state", "OK", |text| (text == "OK").then_some(())).map(drop), "state"));
    }

    #[test]
    fn a_value_is_as_long_as_the_description_says() {
        let of = |length: usize| Query::parse(&format!("name={}", "+".repeat(length))).check();
        assert!(of(REASON.max).is_ok());
        assert!(matches!(of(REASON.max + 1), Err(ApiError::Invalid(e)) if e.0.contains_key("name")));
    }

    #[test]
    fn a_query_is_bounded_as_it_is_sent_and_as_it_is_sent_back() {
        let (start, commas) = ("name=", |count| format!("name={}", ",".repeat(count)));
        assert!(fits("") && fits(&format!("{start}{}", "a".repeat(QUERY_BYTES_MAX - start.len()))));
        assert!(!fits(&format!("{start}{}", "a".repeat(QUERY_BYTES_MAX - start.len() + 1))));
        assert!(fits(&commas((QUERY_BYTES_MAX - start.len()) / 3)));
        assert!(!fits(&commas((QUERY_BYTES_MAX - start.len()) / 3 + 1)));
    }

    #[test]
    fn another_page_keeps_the_rest_and_has_no_commas() {
        let query = Query::parse("page=3&name=a%2Cb&page_size=5");
        assert_eq!(query.with_page(4), "name=a%2Cb&page_size=5&page=4");
    }
}
