//! The options of a policy's actions. Mail addresses in them go to the directory; the policy keeps their ids.

use std::collections::BTreeMap;

use crate::domain::policy::Action;
use crate::domain::text::{Address, unseen_in};
use crate::http::fields;
use crate::http::json::Json;

/// Addresses of one policy at most.
const ADDRESSES_MAX: usize = 50;

/// Characters of what is kept for an action that has no options of its own, as JSON.
const OPTION_CHARS_MAX: usize = 10_000;

/// Options as they were sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Addresses of `notify_external_user`.
    pub addresses: Vec<String>,
    /// The options of other actions.
    pub others: BTreeMap<String, serde_json::Value>,
}

/// Reads the options: an object whose keys are actions.
pub fn read(value: &Json) -> Result<Options, String> {
    let Json::Object(object) = value else {
        return Err(format!("Expected an object with actions as keys but got {}.", value.kind()));
    };
    let mut options = Options::default();
    for (name, value) in object {
        match Action::from_name(name) {
            Some(Action::NotifyExternalUser) => {
                options.addresses = addresses(value).map_err(|message| format!("{name}: {message}"))?;
            }
            Some(action) => {
                seen(value).map_err(|message| format!("{name}: {message}"))?;
                let value = value.to_value();
                let size = value.to_string().chars().count();
                if size > OPTION_CHARS_MAX {
                    return Err(format!(
                        "{name}: It has {size} characters as JSON: at most {OPTION_CHARS_MAX} are allowed."
                    ));
                }
                options.others.insert(action.wire_name().to_owned(), value);
            }
            None => {
                let allowed = Action::ALL.map(Action::wire_name).join(", ");
                return Err(format!("{name:?} is no action. Allowed: {allowed}."));
            }
        }
    }
    Ok(options)
}

/// Every text in a value is one that can be seen.
fn seen(value: &Json) -> Result<(), String> {
    let plain = |text: &str| unseen_in(text).map_or(Ok(()), |problem| Err(problem.to_string()));
    match value {
        Json::Text(text) => plain(text),
        Json::List(items) => items.iter().try_for_each(seen),
        Json::Object(object) => object.iter().try_for_each(|(name, value)| plain(name).and_then(|()| seen(value))),
        Json::Null | Json::Bool(_) | Json::Number(_) => Ok(()),
    }
}

/// Addresses with commas between them, or a list of them; each once, in order.
fn addresses(value: &Json) -> Result<Vec<String>, String> {
    let given: Vec<String> = match value {
        Json::Text(text) => {
            text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
        }
        Json::List(_) => fields::list(ADDRESSES_MAX, fields::raw_text)(value)?,
        other => return Err(format!("Expected addresses with commas between them but got {}.", other.kind())),
    };
    if given.len() > ADDRESSES_MAX {
        return Err(fields::too_many(given.len(), ADDRESSES_MAX));
    }
    let mut addresses: Vec<String> = Vec::new();
    for address in given {
        let address = Address::parse(&address).map_err(|problem| problem.to_string())?;
        if !addresses.iter().any(|known| known == address.as_written()) {
            addresses.push(address.as_written().to_owned());
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_actions_as_keys() {
        let read = |text| read(&Json::parse(text).unwrap());
        let options =
            read(r#"{"notify_external_user": "a@b.example, c@d.example,a@b.example", "request_pausing": {"x": 1}}"#)
                .unwrap();
        assert_eq!(options.addresses, ["a@b.example", "c@d.example"]);
        assert_eq!(
            options.others,
            BTreeMap::from([("request_slurm_resource_pausing".into(), serde_json::json!({"x": 1}))])
        );
        for bad in [
            r#"{"unknown": 1}"#,
            r#"{"notify_external_user": "nobody"}"#,
            r#"{"notify_external_user": 7}"#,
            "[]",
            r#"{"request_slurm_resource_pausing": {"x": ["a\u001b[2J"]}}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
