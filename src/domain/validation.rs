//! Input errors, collected per field, in the format in which Django REST reports a refused request.

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

/// Letters to insert, remove or replace to get from one word to the other.
pub fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

/// Of some words those that are nearest to one, at most so many, the nearest first.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>, most: usize) -> Vec<&'a str> {
    // A word that contains the other is nearer than its length says; a letter or two are part of too many.
    let part = |of: &str, name: &str| {
        (name.len() > 2 && of.contains(name)) || of.split(['_', '-']).any(|piece| !name.is_empty() && piece == name)
    };
    let within = |other: &str| part(other, word) || part(word, other);
    let mut known: Vec<(usize, &str)> =
        known.map(|other| (if within(other) { 1 } else { distance(word, other) }, other)).collect();
    known.sort_unstable();
    known.dedup();
    known.into_iter().take(most).map(|(_, other)| other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_first_is_near_and_no_letter_that_the_word_happens_to_have() {
        let known = ["o", "to", "from", "page", "resource_uuid", "offering_slug", "offering_uuid"];
        let near = |word: &str| nearest(word, known.into_iter(), 2);
        assert_eq!(near("resorce_uuid")[0], "resource_uuid");
        assert_eq!(near("offering"), ["offering_slug", "offering_uuid"]);
        assert_eq!(near("created_to")[0], "to");
        assert_eq!(near("created_from")[0], "from");
        assert_eq!(near("0")[0], "o");
        assert_eq!(near("").len(), 2);
    }

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
