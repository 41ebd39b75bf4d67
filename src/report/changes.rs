//! Changes of rules: policies, offerings and settings, field by field, by whom and why.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value as Json;

use super::exceptions::who;
use super::known::Known;
use super::pass::{Collector, Seen};
use super::table::Value;
use super::{Asked, Cell, Refs, Table};
use crate::events::Event;
use crate::events::envelope::RecordedEvent;
use crate::events::registry::RegistryEvent;
use crate::events::site::SiteEvent;

const COLUMNS: [&str; 10] = ["at", "what", "name", "version", "change", "field", "from", "to", "by", "reason"];

/// Makes the list.
pub(super) struct Changes {
    asked: Asked,
    table: Table,
    policies: Refs,
    offerings: Refs,
    settings: Refs,
}

/// What changed.
struct Change {
    what: &'static str,
    name: String,
    version: Option<u64>,
    how: &'static str,
    fields: Vec<(String, String, String)>,
}

impl Changes {
    pub(super) fn new(asked: &Asked) -> Self {
        Self {
            asked: asked.clone(),
            table: Table::new("changes", &COLUMNS),
            policies: Refs::default(),
            offerings: Refs::default(),
            settings: Refs::default(),
        }
    }

    fn rows(&mut self, seen: &Seen<'_>, change: Change) {
        let refs = match change.what {
            "policy" => &mut self.policies,
            "offering" => &mut self.offerings,
            _ => &mut self.settings,
        };
        refs.add(seen.here);
        let mut fields = change.fields;
        if fields.is_empty() {
            fields.push((String::new(), String::new(), String::new()));
        }
        let metadata = &seen.recorded.metadata;
        for (field, from, to) in fields {
            let row = vec![
                Cell { value: Value::Instant(seen.recorded.occurred_at), events: seen.here.into() },
                Cell::text(change.what),
                Cell::text(change.name.clone()),
                change.version.map_or(Cell::NOTHING, |version| Cell::count(version).of(seen.here)),
                Cell::text(change.how),
                Cell::text(field),
                Cell::text(from),
                Cell::text(to),
                Cell::text(who(metadata.actor)),
                Cell::text(metadata.reason.as_deref().unwrap_or_default()),
            ];
            self.table.push(row, self.asked.rows_max);
        }
    }
}

/// Every leaf of a document by its path; lists count as leaves.
fn leaves(value: &Json, path: &str, found: &mut BTreeMap<String, String>) {
    match value {
        Json::Object(object) => {
            for (name, value) in object {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(value, &path, found);
            }
        }
        Json::String(text) => {
            found.insert(path.to_owned(), text.clone());
        }
        Json::Null => {}
        other => {
            found.insert(path.to_owned(), other.to_string());
        }
    }
}

/// Fields that differ, with both values; of nothing, every field.
fn differing<T: Serialize>(before: Option<&T>, after: &T) -> Vec<(String, String, String)> {
    let of = |facts: Option<&T>| {
        let mut found = BTreeMap::new();
        let value = facts.and_then(|facts| serde_json::to_value(facts).ok());
        if let Some(value) = &value {
            leaves(value, "", &mut found);
        }
        found
    };
    let (before, after) = (of(before), of(Some(after)));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let value = |of: &BTreeMap<String, String>, name: &String| of.get(name).cloned().unwrap_or_default();
    let all = names.into_iter().map(|name| (name.clone(), value(&before, name), value(&after, name)));
    all.filter(|(_, from, to)| from != to).collect()
}

impl Collector for Changes {
    fn wants(&self, name: &str, recorded: &RecordedEvent) -> bool {
        let of_rules = name.starts_with("policy_created") || matches!(name, "policy_changed" | "policy_deleted");
        (of_rules || name.starts_with("offering_") || name == "setting_changed")
            && self.asked.span.holds(recorded.occurred_at)
    }

    fn take(&mut self, seen: &Seen<'_>, known: &Known) {
        let version = Some(seen.recorded.version);
        let (policy, change) = match seen.event {
            Event::Registry(RegistryEvent::PolicyCreated(facts) | RegistryEvent::PolicyChanged(facts)) => {
                let before = known.policies.get(&facts.policy).map(|known| &known.facts);
                let change = if before.is_none() { "created" } else { "changed" };
                let name = if facts.slug.is_empty() { facts.policy.to_string() } else { facts.slug.clone() };
                let fields = differing(before, &**facts);
                (Some(facts.policy), Change { what: "policy", name, version, how: change, fields })
            }
            Event::Registry(RegistryEvent::PolicyDeleted(deleted)) => {
                let name = known.policy(deleted.policy);
                let change = Change { what: "policy", name, version, how: "deleted", fields: Vec::new() };
                (Some(deleted.policy), change)
            }
            Event::Registry(RegistryEvent::OfferingRegistered(facts) | RegistryEvent::OfferingChanged(facts)) => {
                let before = known.offerings.get(&facts.offering);
                let change = if before.is_none() { "created" } else { "changed" };
                let fields = differing(before, facts);
                (None, Change { what: "offering", name: facts.slug.clone(), version, how: change, fields })
            }
            Event::Site(SiteEvent::SettingChanged(changed)) => {
                let said = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let fields = vec![("value".to_owned(), said(&changed.from), said(&changed.to))];
                let name = changed.name.clone();
                (None, Change { what: "setting", name, version: None, how: "changed", fields })
            }
            _ => return,
        };
        if self.asked.policy.is_none() || self.asked.policy == policy {
            self.rows(seen, change);
        }
    }

    fn finish(mut self: Box<Self>, _: &Known) -> Vec<Table> {
        self.table.totals = vec![
            ("policies", self.policies.counted()),
            ("offerings", self.offerings.counted()),
            ("settings", self.settings.counted()),
        ];
        self.table.notes.push("a row for each field that changed; the totals count changes".to_owned());
        vec![self.table]
    }
}
