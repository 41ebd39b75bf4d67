//! The names of event types by their numbers in the tables: one allocation each, shared by all events of the type.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The type of an event whose row names one that the tables do not have.
pub(super) const UNKNOWN: &str = "unknown";

#[derive(Clone, Default)]
pub(super) struct Kinds(Arc<RwLock<HashMap<i64, Arc<str>>>>);

impl Kinds {
    pub(super) fn get(&self, kind_id: i64) -> Option<Arc<str>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&kind_id).cloned()
    }

    pub(super) fn put(&self, kind_id: i64, name: Arc<str>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(kind_id, name);
    }
}
