//! Terms of an evaluation that are recorded in full once and referred to afterwards.
//!
//! They are read more often than anything else, so the decoder is written by hand: what serde derives for an untagged
//! or flattened form first reads every value into a generic one, which costs as much as the rest of the event.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::domain::evaluate::{Allocation, BaseTerm, Basis, EvaluationTerms, UsageByMonth};
use crate::domain::period::Period;
use crate::domain::small_map::SmallMap;

/// A term that stands in full, or as a reference to the event of the same stream that has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Recorded<T> {
    /// The same as in the event with this version of the stream.
    Same {
        /// Version in this stream.
        same_as: u64,
    },
    /// In full.
    Full(T),
}

/// A reference, and nothing else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Same {
    same_as: u64,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Recorded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        // A component may be called `same_as` too; what belongs to it is no number.
        if json.get().trim_start_matches(['{', ' ', '\n', '\t', '\r']).starts_with("\"same_as\"")
            && let Ok(Same { same_as }) = serde_json::from_str(json.get())
        {
            return Ok(Self::Same { same_as });
        }
        serde_json::from_str(json.get()).map(Self::Full).map_err(D::Error::custom)
    }
}

/// The basis of an evaluation with what follows from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Flat")]
pub struct RecordedBasis {
    /// The terms.
    #[serde(flatten)]
    pub basis: Basis,
    /// What follows from them.
    pub allocation: Allocation,
}

/// The same, field by field.
#[derive(Deserialize)]
struct Flat {
    policy_version: u64,
    #[serde(deserialize_with = "terms")]
    terms: Arc<EvaluationTerms>,
    period: Period,
    base: SmallMap<String, BaseTerm>,
    #[serde(default)]
    previous: UsageByMonth,
    #[serde(default)]
    existed: bool,
    #[serde(default)]
    previous_base: SmallMap<String, BaseTerm>,
    #[serde(default)]
    first_known: bool,
    #[serde(default)]
    earlier: UsageByMonth,
    allocation: Allocation,
}

/// Texts of terms that a thread remembers, and the longest that it does.
const TERMS_MAX: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
const TERMS_BYTES_MAX: usize = 4096;

thread_local! {
    /// All resources under a version of a policy record the same terms: whoever reads their books one after the other
    /// reads these once, and keeps them once.
    static TERMS: RefCell<LruCache<Box<str>, Arc<EvaluationTerms>>> = RefCell::new(LruCache::new(TERMS_MAX));
}

fn terms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<EvaluationTerms>, D::Error> {
    let json = Box::<RawValue>::deserialize(deserializer)?;
    if let Some(known) = TERMS.with_borrow_mut(|known| known.get(json.get()).cloned()) {
        return Ok(known);
    }
    let terms = serde_json::from_str(json.get()).map(Arc::new).map_err(D::Error::custom)?;
    if json.get().len() <= TERMS_BYTES_MAX {
        TERMS.with_borrow_mut(|known| known.put(json.get().into(), Arc::clone(&terms)));
    }
    Ok(terms)
}

impl From<Flat> for RecordedBasis {
    fn from(flat: Flat) -> Self {
        let Flat {
            policy_version,
            terms,
            period,
            base,
            previous,
            existed,
            previous_base,
            first_known,
            earlier,
            allocation,
        } = flat;
        let basis =
            Basis { policy_version, terms, period, base, previous, existed, previous_base, first_known, earlier };
        Self { basis, allocation }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Recorded;

    type Map = Recorded<BTreeMap<String, serde_json::Value>>;

    fn read(json: &str) -> Map {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_reference_is_told_from_a_component_of_the_same_name() {
        assert_eq!(read(r#"{"same_as":7}"#), Map::Same { same_as: 7 });
        assert_eq!(read(" { \n \"same_as\" : 7 } "), Map::Same { same_as: 7 });
        assert!(matches!(read(r#"{"same_as":{"amount":"7"}}"#), Map::Full(_)));
        assert!(matches!(read(r#"{"same_as":7,"node_hours":8}"#), Map::Full(_)));
        assert!(matches!(read("{}"), Map::Full(map) if map.is_empty()));
    }

    #[test]
    fn what_was_written_reads_back() {
        for one in [Map::Same { same_as: 3 }, Map::Full(BTreeMap::from([("a".into(), 1.into())]))] {
            assert_eq!(read(&serde_json::to_string(&one).unwrap()), one);
        }
    }
}
