//! JSON as it was sent: numbers stay text, so that a decimal is read exactly and never through a float.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde_json::value::RawValue;

/// How deep a body may be nested; reading is quadratic in the depth.
const DEPTH_MAX: usize = 16;

/// A JSON value whose numbers are still text.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it was written.
    Number(String),
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// An object; of a key that was given twice the last one counts.
    Object(BTreeMap<String, Json>),
}

/// A text that is no JSON, or nested too deeply.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// No JSON.
    #[error(transparent)]
    Syntax(#[from] serde_json::Error),
    /// Nested too deeply.
    #[error("nested more than {DEPTH_MAX} levels deep")]
    TooDeep,
}

impl Json {
    /// Reads a text.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        Self::of(serde_json::from_str(text)?, DEPTH_MAX)
    }

    fn of(raw: &RawValue, depth: usize) -> Result<Self, JsonError> {
        let text = raw.get();
        let inner = || depth.checked_sub(1).ok_or(JsonError::TooDeep);
        Ok(match text.as_bytes().first() {
            Some(b'{') => {
                let depth = inner()?;
                let object: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
                Self::Object(
                    object.into_iter().map(|(k, v)| Ok((k, Self::of(v, depth)?))).collect::<Result<_, JsonError>>()?,
                )
            }
            Some(b'[') => {
                let depth = inner()?;
                let list: Vec<&RawValue> = serde_json::from_str(text)?;
                Self::List(list.into_iter().map(|v| Self::of(v, depth)).collect::<Result<_, _>>()?)
            }
            Some(b'"') => Self::Text(serde_json::from_str(text)?),
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'n') => Self::Null,
            _ => Self::Number(text.to_owned()),
        })
    }

    /// What kind of value it is, in the words of an error message.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// The value in a message, shortened.
    pub fn shown(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(text) => text.chars().take(60).collect(),
            Self::Text(text) => format!("{:?}", text.chars().take(60).collect::<String>()),
            Self::List(_) => "a list".to_owned(),
            Self::Object(_) => "an object".to_owned(),
        }
    }

    /// The value as `serde_json` has it, for what is kept as it came.
    pub fn to_value(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Number(text) => serde_json::from_str(text).unwrap_or_else(|_| text.clone().into()),
            Self::Text(text) => text.clone().into(),
            Self::List(list) => list.iter().map(Self::to_value).collect(),
            Self::Object(object) => object.iter().map(|(k, v)| (k.clone(), v.to_value())).collect(),
        }
    }
}

/// Reads a decimal: plain or with an exponent, exactly; more digits than a decimal holds are refused.
pub fn decimal(text: &str) -> Option<Decimal> {
    if text.len() > 64 {
        return None;
    }
    let text = text.trim();
    if !text.bytes().any(|b| b.is_ascii_digit()) || text.contains('_') {
        return None;
    }
    if text.contains(['e', 'E']) { Decimal::from_scientific(text).ok() } else { Decimal::from_str_exact(text).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_every_digit() {
        let Json::Object(object) =
            Json::parse(r#"{"a": 0.1000000000000000055511151231, "b": [1e2, "x", null, true]}"#).unwrap()
        else {
            panic!("an object");
        };
        assert_eq!(object["a"], Json::Number("0.1000000000000000055511151231".into()));
        assert_eq!(
            object["b"],
            Json::List(vec![Json::Number("1e2".into()), Json::Text("x".into()), Json::Null, Json::Bool(true)])
        );
        assert_eq!(object["b"].to_value(), serde_json::json!([100.0, "x", null, true]));
    }

    #[test]
    fn nesting_is_bounded_and_garbage_refused() {
        assert!(matches!(Json::parse(&("[".repeat(17) + &"]".repeat(17))), Err(JsonError::TooDeep)));
        assert!(Json::parse(&("[".repeat(16) + &"]".repeat(16))).is_ok());
        for text in ["", "{", "{\"a\": }", "nul", "{} x", "NaN"] {
            assert!(matches!(Json::parse(text), Err(JsonError::Syntax(_))), "{text:?}");
        }
    }

    #[test]
    fn decimals_are_read_exactly_or_not_at_all() {
        for (text, expected) in [
            ("120.00", Some("120.00")),
            ("1e2", Some("100")),
            ("-0.5", Some("-0.5")),
            (" 7 ", Some("7")),
            ("1_000", None),
            ("abc", None),
            ("", None),
            ("NaN", None),
            ("1e400", None),
            ("123456789012345678901234567890123", None),
        ] {
            assert_eq!(decimal(text), expected.map(|e| e.parse().unwrap()), "{text:?}");
        }
    }
}
