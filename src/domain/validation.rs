//! Complaints about input, collected per field: the shape in which Django REST reports a refused request.

use std::collections::BTreeMap;

use serde::Serialize;

/// What is wrong with which field; every message names the value and what would be allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
#[error("not valid: {}", .0.iter().map(|(field, messages)| format!("{field}: {}", messages.join(" "))).collect::<Vec<_>>().join("; "))]
pub struct FieldErrors(pub BTreeMap<String, Vec<String>>);

impl FieldErrors {
    /// One complaint about one field.
    pub fn one(field: &str, message: impl Into<String>) -> Self {
        let mut errors = Self::default();
        errors.add(field, message);
        errors
    }

    /// Adds a complaint about a field.
    pub fn add(&mut self, field: &str, message: impl Into<String>) {
        self.0.entry(field.to_owned()).or_default().push(message.into());
    }

    /// Takes over the complaints of another check.
    pub fn extend(&mut self, other: Self) {
        for (field, messages) in other.0 {
            self.0.entry(field).or_default().extend(messages);
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses where something is wrong.
    pub fn into_result(self) -> Result<(), Self> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_gather_per_field_and_print_as_an_object_of_lists() {
        let mut errors = FieldErrors::default();
        assert_eq!(errors.clone().into_result(), Ok(()));
        errors.add("grace_ratio", "2 is too much.");
        errors.extend(FieldErrors::one("grace_ratio", "Really."));
        errors.extend(FieldErrors::one("actions", "None."));
        assert_eq!(
            serde_json::to_value(&errors).unwrap(),
            serde_json::json!({"actions": ["None."], "grace_ratio": ["2 is too much.", "Really."]})
        );
        assert_eq!(errors.to_string(), "not valid: actions: None.; grace_ratio: 2 is too much. Really.");
        assert!(errors.into_result().is_err());
    }
}
