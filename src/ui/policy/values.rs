//! The parameters of a policy as a form has them: texts by name, from a policy, from a preset, or as somebody sent them.

use rust_decimal::Decimal;
use serde_json::{Map, Value, json};

use crate::domain::policy::{Action, PolicyTerms, QosStrategy};
use crate::domain::threshold::{Effect, Rung, ladder};
use crate::http::Query;

/// Before the name of a component: its limit, its weight.
pub const LIMIT: &str = "limit-";
/// See above.
pub const WEIGHT: &str = "weight-";

/// Parameters that are on or off.
pub const SWITCHES: [&str; 4] = ["tres_billing_enabled", "carryover_enabled", "raw_usage_reset", "enabled"];
/// Parameters that are a word or a number.
pub const PLAIN: [&str; 5] =
    ["limit_type", "fairshare_decay_half_life", "carryover_base", "grace_ratio", "qos_strategy"];

/// Texts by name; a name may stand several times.
#[derive(Debug, Clone, Default)]
pub struct Values(Vec<(String, String)>);

/// A number or a text of the API as a form shows it.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn list_of(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(all) => all.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    }
}

impl Values {
    /// Those of a preset.
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// Those that a form sent.
    pub fn sent(form: &Query) -> Self {
        let of_name = |name: &str| form.all(name).map(|value| (name.to_owned(), value.to_owned())).collect::<Vec<_>>();
        let mut names: Vec<&str> = form.names().collect();
        names.sort_unstable();
        names.dedup();
        Self(names.into_iter().flat_map(of_name).collect())
    }

    /// Those of a policy, as the API shows it.
    pub fn of_policy(policy: &Value) -> Self {
        let mut values = Self::default();
        for action in text_of(&policy["actions"]).split(',') {
            values.add("actions", action);
        }
        values.add("external", &text_of(&policy["options"]["notify_external_user"]));
        values.add("applies", if policy["apply_to_all"] == true { "all" } else { "groups" });
        for group in list_of(&policy["organization_groups"]) {
            values.add("organization_groups", super::rules::id_in(&text_of(&group)));
        }
        for limit in list_of(&policy["component_limits_set"]) {
            values.add(&format!("{LIMIT}{}", text_of(&limit["type"])), &text_of(&limit["limit"]));
        }
        for (component, weight) in policy["tres_billing_weights"].as_object().into_iter().flatten() {
            values.add(&format!("{WEIGHT}{component}"), &text_of(weight));
        }
        for name in PLAIN.into_iter().chain(["period", "carryover_factor"]) {
            values.add(name, &text_of(&policy[name]));
        }
        for name in SWITCHES.into_iter().filter(|name| policy[*name] == true) {
            values.add(name, "yes");
        }
        let told: Vec<String> = list_of(&policy["notification_threshold"]).iter().map(text_of).collect();
        values.add("notification_threshold", &told.join(", "));
        let rung = |rung: &Value| {
            format!("{} {} {}", text_of(&rung["percent"]), text_of(&rung["effect"]), text_of(&rung["qos"]))
        };
        let rungs: Vec<String> =
            list_of(&policy["progressive_thresholds"]).iter().map(|r| rung(r).trim_end().to_owned()).collect();
        values.add("progressive_thresholds", &rungs.join("\n"));
        values
    }

    fn add(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.0.push((name.to_owned(), value.to_owned()));
        }
    }

    /// The value of a name, or nothing.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }

    /// The same with a value in the place of the one before.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.retain(|(known, _)| known != name);
        self.add(name, value);
        self
    }

    /// Every value of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// What stands behind a beginning of names, with its value: the limits by component, say.
    pub fn beginning<'a>(&'a self, with: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(move |(name, value)| Some((name.strip_prefix(with)?, value.as_str())))
    }

    fn rung_lines(&self) -> impl Iterator<Item = Vec<&str>> {
        let lines = self.get("progressive_thresholds").lines();
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|words| !words.is_empty())
    }

    /// The same as the API takes it. Numbers stay as they were entered: the API says what is wrong with them.
    pub fn body(&self, other_options: &Map<String, Value>) -> Map<String, Value> {
        let mut body = Map::new();
        let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
        put("actions", self.all("actions").collect::<Vec<_>>().join(",").into());
        let mut options = other_options.clone();
        if !self.get("external").is_empty() {
            options.insert("notify_external_user".to_owned(), self.get("external").into());
        }
        put("options", options.into());
        let everybody = self.get("applies") != "groups";
        let groups: Vec<&str> = if everybody { Vec::new() } else { self.all("organization_groups").collect() };
        put("apply_to_all", everybody.into());
        put("organization_groups", groups.into());
        let limit = |(component, limit)| json!({ "type": component, "limit": limit });
        put("component_limits_set", self.beginning(LIMIT).map(limit).collect());
        let weights: Map<String, Value> = self.beginning(WEIGHT).map(|(c, w)| (c.to_owned(), w.into())).collect();
        put("tres_billing_weights", weights.into());
        for name in PLAIN {
            put(name, self.get(name).into());
        }
        for name in SWITCHES {
            put(name, (!self.get(name).is_empty()).into());
        }
        let factor = self.get("carryover_factor");
        put("carryover_factor", if factor.is_empty() { Value::Null } else { factor.into() });
        let told = self.get("notification_threshold").split(',').map(str::trim).filter(|text| !text.is_empty());
        put("notification_threshold", told.collect());
        let rung = |words: Vec<&str>| {
            let names = ["percent", "effect", "qos"];
            let known = names.into_iter().zip(words).map(|(name, word)| (name.to_owned(), Value::from(word)));
            Value::Object(known.collect())
        };
        put("progressive_thresholds", self.rung_lines().map(rung).collect());
        if !self.get("period").is_empty() {
            put("period", self.get("period").into());
        }
        body
    }

    /// The ladder that they come to, by the engine's own rules; what cannot be read is left out of the picture.
    pub fn ladder(&self) -> Vec<Rung> {
        let number = |text: &str| text.trim().parse::<Decimal>().ok();
        let rung = |words: Vec<&str>| {
            let effects = [Effect::Notify, Effect::Downscale, Effect::Pause];
            let effect = effects.into_iter().find(|effect| words.get(1) == Some(&effect.verb()))?;
            Some(Rung { percent: number(words.first()?)?, effect, qos: words.get(2).map(|qos| (*qos).to_owned()) })
        };
        ladder(&PolicyTerms {
            actions: self.all("actions").filter_map(Action::from_name).collect(),
            grace_ratio: number(self.get("grace_ratio")).unwrap_or_default().clamp(Decimal::ZERO, Decimal::ONE),
            notification_thresholds: self.get("notification_threshold").split(',').filter_map(number).collect(),
            qos_strategy: QosStrategy::from_name(self.get("qos_strategy")).unwrap_or_default(),
            progressive_thresholds: self.rung_lines().filter_map(rung).collect(),
            ..PolicyTerms::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_goes_through_the_form_unchanged() {
        let policy = json!({
            "actions": "notify_organization_owners,request_slurm_resource_pausing", "options": {"notify_external_user": "a@b.example"},
            "apply_to_all": false, "organization_groups": ["http://host/api/organization-groups/abc/"],
            "component_limits_set": [{"type": "node_hours", "limit": 1000.5}], "tres_billing_weights": {"cpu": 0.5},
            "period": 3, "limit_type": "GrpTRESMins", "tres_billing_enabled": true, "fairshare_decay_half_life": 15,
            "carryover_enabled": true, "carryover_factor": null, "carryover_base": "previous", "grace_ratio": 0.2,
            "notification_threshold": [50, 80], "raw_usage_reset": false, "qos_strategy": "progressive",
            "progressive_thresholds": [{"percent": 90, "effect": "pause", "qos": "slow"}], "enabled": true,
        });
        let body = Value::Object(Values::of_policy(&policy).body(&Map::new()));
        assert_eq!(body["notification_threshold"], json!(["50", "80"]));
        assert_eq!(body["component_limits_set"], json!([{"type": "node_hours", "limit": "1000.5"}]));
        assert_eq!(body["progressive_thresholds"], json!([{"percent": "90", "effect": "pause", "qos": "slow"}]));
        assert_eq!((&body["organization_groups"], &body["apply_to_all"]), (&json!(["abc"]), &json!(false)));
        assert_eq!((&body["carryover_factor"], &body["raw_usage_reset"]), (&Value::Null, &json!(false)));
        assert_eq!(body["options"], json!({"notify_external_user": "a@b.example"}));
    }

    #[test]
    fn the_ladder_is_the_engines_and_passes_over_what_cannot_be_read() {
        let values = Values::of(&[
            ("actions", "notify_organization_owners"),
            ("actions", "request_slurm_resource_pausing"),
            ("notification_threshold", "80, x, 95"),
            ("grace_ratio", "0.1"),
        ]);
        let rungs: Vec<String> = values.ladder().iter().map(|r| format!("{} {}", r.percent, r.effect.verb())).collect();
        assert_eq!(rungs, ["80 notify", "95 notify", "110 pause"]);
    }
}
