//! A YAML text as a tree with line numbers, and readers that collect errors instead of stopping at the first.
//!
//! Scalars keep their text: `0.1` does not pass through a binary fraction on its way to a decimal, and a key of digits
//! stays a key.

use std::cell::RefCell;
use std::fmt;

use rust_decimal::Decimal;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::{SiteErrors, SiteProblem};
use crate::domain::text::{TextRule, on_one_line, unseen_in};

/// Complaints kept; beyond them a file is wrong in some general way.
const PROBLEMS_MAX: usize = 50;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) line: u64,
    pub(super) path: String,
}

/// A key that a file may leave out (what is stays) or give as null (back to the default).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Given<T> {
    #[default]
    Absent,
    Null,
    Value(T),
}

impl<T> Given<T> {
    pub(super) fn map<U>(self, into: impl FnOnce(T) -> U) -> Given<U> {
        match self {
            Self::Absent => Given::Absent,
            Self::Null => Given::Null,
            Self::Value(value) => Given::Value(into(value)),
        }
    }

    pub(super) fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }
}

impl<T: Clone> Given<T> {
    /// What is given, over what is, over the default.
    pub(super) fn over(&self, current: Option<&T>, default: impl FnOnce() -> T) -> T {
        match (self, current) {
            (Self::Value(value), _) => value.clone(),
            (Self::Absent, Some(current)) => current.clone(),
            (Self::Absent, None) | (Self::Null, _) => default(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: u64,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Null,
    Scalar { text: String, is_bool: bool },
    List(Vec<Node>),
    Map(Vec<(String, u64, Node)>),
}

impl Value {
    fn shown(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Scalar { text, .. } => format!("{:?}", shorten(text)),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a mapping".to_owned(),
        }
    }
}

fn shorten(text: &str) -> String {
    on_one_line(text, 80)
}

/// Reads a text into a tree.
pub(super) fn parse(source: &str) -> Result<Node, SiteErrors> {
    let options = serde_saphyr::options! {
        // Room for a hundred thousand resources.
        budget: serde_saphyr::budget! { max_events: 50_000_000, max_nodes: 20_000_000 },
        with_snippet: false,
        strict_booleans: true,
        // Hex digits such as 7e50… look like enormous numbers; their text is what counts.
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(source, options) {
        Ok(raw) => Ok(Node::of(raw, source)),
        Err(error) => {
            let line = error.location().map_or(0, |at| at.line());
            let problem = format!("not valid YAML: {error}");
            Err(SiteErrors::one(SiteProblem { line, path: String::new(), problem }))
        }
    }
}

enum Raw {
    Null,
    Text(String),
    // Its text is taken from the source, since a float would not keep it.
    Plain { is_bool: bool },
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl Node {
    fn of(raw: Spanned<Raw>, source: &str) -> Self {
        let line = raw.referenced.line();
        let value = match raw.value {
            Raw::Null => Value::Null,
            Raw::Text(text) => Value::Scalar { text, is_bool: false },
            Raw::Plain { is_bool } => Value::Scalar { text: slice(source, raw.defined).to_owned(), is_bool },
            Raw::List(items) => Value::List(items.into_iter().map(|item| Self::of(item, source)).collect()),
            Raw::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| (key.value, key.referenced.line(), Self::of(value, source)))
                    .collect(),
            ),
        };
        Self { line, value }
    }
}

fn slice(source: &str, at: Location) -> &str {
    let span = at.span();
    let range = || {
        let start = usize::try_from(span.byte_offset()?).ok()?;
        let len = usize::try_from(span.byte_len()?).ok()?;
        source.get(start..start.checked_add(len)?)
    };
    range().unwrap_or_default().trim()
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Plain { is_bool: true })
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Plain { is_bool: false })
    }

    fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
        Ok(Raw::Plain { is_bool: false })
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Plain { is_bool: false })
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Plain { is_bool: false })
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Plain { is_bool: false })
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

/// Where complaints go.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Vec<SiteProblem>>);

impl Problems {
    pub(super) fn add(&self, line: u64, path: impl Into<String>, problem: impl Into<String>) {
        let mut list = self.0.borrow_mut();
        if list.len() < PROBLEMS_MAX {
            list.push(SiteProblem { line, path: path.into(), problem: problem.into() });
        }
    }

    pub(super) fn at<T>(&self, at: &At<T>, problem: impl Into<String>) {
        self.add(at.line, at.path.clone(), problem);
    }

    pub(super) fn into_result(self) -> Result<(), SiteErrors> {
        let mut list = self.0.into_inner();
        list.sort_by_key(|problem| problem.line);
        if list.is_empty() { Ok(()) } else { Err(SiteErrors(list)) }
    }
}

/// The keys of one mapping, each taken once; what nobody takes is unknown.
pub(super) struct Fields<'a> {
    entries: &'a [(String, u64, Node)],
    known: Vec<&'static str>,
    pub(super) line: u64,
    pub(super) path: String,
    pub(super) problems: &'a Problems,
}

impl<'a> Fields<'a> {
    /// The keys of a mapping; anything else is complained about.
    pub(super) fn of(node: &'a Node, path: impl Into<String>, problems: &'a Problems) -> Option<Self> {
        let path = path.into();
        match &node.value {
            Value::Map(entries) => Some(Self { entries, known: Vec::new(), line: node.line, path, problems }),
            other => {
                problems.add(node.line, path, format!("{} is given: a mapping of keys is expected", other.shown()));
                None
            }
        }
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of a key, null included.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'a Node> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.entries.iter().find(|(known, _, _)| known == key).map(|(_, _, node)| node)
    }

    /// Reads a key; what does not read is complained about with what is allowed.
    fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str, bool) -> Result<T, String>,
        expected: &str,
    ) -> Given<At<T>> {
        let Some(node) = self.take(key) else { return Given::Absent };
        let path = self.path_of(key);
        match &node.value {
            Value::Null => Given::Null,
            Value::Scalar { text, is_bool } => match seen(text).and_then(|text| read(text, *is_bool)) {
                Ok(value) => Given::Value(At { value, line: node.line, path }),
                Err(problem) => {
                    self.problems.add(node.line, path, problem);
                    Given::Absent
                }
            },
            other => {
                self.problems.add(node.line, path, format!("{} is given: {expected} is expected", other.shown()));
                Given::Absent
            }
        }
    }

    pub(super) fn text(&mut self, key: &'static str) -> Given<At<String>> {
        self.read(key, |text, _| Ok(text.to_owned()), "a text")
    }

    /// A text that follows a rule, or is empty.
    pub(super) fn text_of(&mut self, rule: TextRule, key: &'static str) -> Given<At<String>> {
        self.read(key, |text, _| rule.read_or_empty(text).map_err(|problem| problem.to_string()), "a text")
    }

    /// A text that must be there and hold something.
    pub(super) fn required(&mut self, key: &'static str) -> Option<At<String>> {
        let missing = self.entries.iter().all(|(known, _, _)| known != key);
        let (line, path) = (self.line, self.path_of(key));
        match self.text(key) {
            Given::Value(text) if !text.value.trim().is_empty() => Some(text),
            Given::Absent if !missing => None, // complained about already
            _ => {
                self.problems.add(line, path, "is required");
                None
            }
        }
    }

    pub(super) fn decimal(&mut self, key: &'static str) -> Given<At<Decimal>> {
        self.read(key, |text, _| number(text), "a number")
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Given<bool> {
        let read = |text: &str, is_bool: bool| match text {
            _ if is_bool => Ok(text.eq_ignore_ascii_case("true")),
            _ => Err(format!("{:?} is neither true nor false", shorten(text))),
        };
        self.read(key, read, "true or false").map(|at| at.value)
    }

    /// A word out of a list.
    pub(super) fn word<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
        allowed: &str,
    ) -> Given<At<T>> {
        let read = |text: &str, _| parse(text).ok_or_else(|| format!("{:?} is given: {allowed}", shorten(text)));
        self.read(key, read, "a word")
    }

    /// A value that parses from its text.
    pub(super) fn parsed<T, E: fmt::Display>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Given<At<T>> {
        self.read(key, |text, _| parse(text).map_err(|error| error.to_string()), "a single value")
    }

    /// The items of a list, each with its path.
    pub(super) fn list(&mut self, key: &'static str) -> Given<Vec<(&'a Node, String)>> {
        let Some(node) = self.take(key) else { return Given::Absent };
        let path = self.path_of(key);
        match &node.value {
            Value::Null => Given::Null,
            Value::List(items) => {
                Given::Value(items.iter().enumerate().map(|(i, node)| (node, format!("{path}[{i}]"))).collect())
            }
            other => {
                self.problems.add(node.line, path, format!("{} is given: a list is expected", other.shown()));
                Given::Absent
            }
        }
    }

    /// The texts of a list.
    pub(super) fn texts(&mut self, key: &'static str) -> Given<Vec<At<String>>> {
        let problems = self.problems;
        self.list(key).map(|items| items.into_iter().filter_map(|(node, path)| text_of(node, path, problems)).collect())
    }

    /// The numbers of a mapping of names to numbers.
    pub(super) fn numbers(&mut self, key: &'static str) -> Given<Vec<(String, At<Decimal>)>> {
        let Some(node) = self.take(key) else { return Given::Absent };
        let path = self.path_of(key);
        if matches!(node.value, Value::Null) {
            return Given::Null;
        }
        let Some(fields) = Fields::of(node, path, self.problems) else { return Given::Absent };
        let entries = fields.entries.iter().filter_map(|(name, _, node)| {
            Some((name.clone(), number_of(node, fields.path_of(name), fields.problems)?))
        });
        Given::Value(entries.collect())
    }

    /// Complains about the keys that nobody took.
    pub(super) fn finish(self) {
        let unknown = self.entries.iter().filter(|(key, _, _)| !self.known.contains(&key.as_str()));
        for (nth, (key, line, _)) in unknown.enumerate() {
            // What is known here is said once, however many keys of an object are not.
            let known = if nth == 0 { format!("; known here: {}", self.known.join(", ")) } else { String::new() };
            self.problems.add(*line, self.path_of(key), format!("there is no such key{known}"));
        }
    }
}

/// A text without blanks around it, if each of its characters can be seen.
fn seen(text: &str) -> Result<&str, String> {
    let text = text.trim();
    unseen_in(text).map_or(Ok(text), |problem| Err(problem.to_string()))
}

pub(super) fn text_of(node: &Node, path: String, problems: &Problems) -> Option<At<String>> {
    match &node.value {
        Value::Scalar { text, .. } if !text.trim().is_empty() => match seen(text) {
            Ok(text) => Some(At { value: text.to_owned(), line: node.line, path }),
            Err(problem) => {
                problems.add(node.line, path, problem);
                None
            }
        },
        other => {
            problems.add(node.line, path, format!("{} is given: a text is expected", other.shown()));
            None
        }
    }
}

pub(super) fn number_of(node: &Node, path: String, problems: &Problems) -> Option<At<Decimal>> {
    let read = match &node.value {
        Value::Scalar { text, .. } => number(text),
        other => Err(format!("{} is given: a number is expected", other.shown())),
    };
    match read {
        Ok(value) => Some(At { value, line: node.line, path }),
        Err(problem) => {
            problems.add(node.line, path, problem);
            None
        }
    }
}

fn number(text: &str) -> Result<Decimal, String> {
    let parsed = text.parse().or_else(|_| Decimal::from_scientific(text));
    parsed.map_err(|_| format!("{:?} is given: a number is expected", shorten(text)))
}
