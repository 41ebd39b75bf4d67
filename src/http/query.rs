//! The query of a request: what is filtered by, which page, which fields.
//!
//! An unknown parameter is ignored, as Waldur does; one that is known but cannot be read is refused with its name.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use uuid::Uuid;

use super::error::ApiError;
use super::fields::parse_instant;
use super::reference::uuid_in;
use crate::domain::validation::FieldErrors;

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

    /// The last value of a parameter; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|v| !v.is_empty())
    }

    /// Every value of a repeatable parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// A parameter read by `read`; `allowed` says in words what it may be.
    pub fn read<T>(
        &self,
        name: &str,
        allowed: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match read(text) {
            Some(value) => Ok(Some(value)),
            None => Err(complaint(name, text, allowed)),
        }
    }

    /// A UUID in either spelling, or an address that ends in one.
    pub fn uuid<T: From<Uuid>>(&self, name: &str) -> Result<Option<T>, ApiError> {
        self.read(name, "a UUID, with or without dashes", |text| uuid_in(text).map(T::from))
    }

    /// Every UUID of a repeatable parameter.
    pub fn uuids<T: From<Uuid>>(&self, name: &str) -> Result<Vec<T>, ApiError> {
        let read = |text: &str| {
            uuid_in(text).map(T::from).ok_or_else(|| complaint(name, text, "a UUID, with or without dashes"))
        };
        self.all(name).map(read).collect()
    }

    /// `true` or `false`, in the spellings that Django reads.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.read(name, "true or false", |text| match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        })
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
    fn another_page_keeps_the_rest_and_has_no_commas() {
        let query = Query::parse("page=3&name=a%2Cb&page_size=5");
        assert_eq!(query.with_page(4), "name=a%2Cb&page_size=5&page=4");
    }
}
