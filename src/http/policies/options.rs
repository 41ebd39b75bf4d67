//! The options of a policy's actions. Mail addresses in them go to the directory; the policy keeps their ids.

use std::collections::BTreeMap;

use crate::domain::policy::Action;
use crate::http::fields;
use crate::http::json::Json;

/// Addresses of one policy at most.
const ADDRESSES_MAX: usize = 50;

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
                options.others.insert(action.wire_name().to_owned(), value.to_value());
            }
            None => {
                let allowed = Action::ALL.map(Action::wire_name).join(", ");
                return Err(format!("{name:?} is no action. Allowed: {allowed}."));
            }
        }
    }
    Ok(options)
}

/// Addresses with commas between them, or a list of them; each once, in order.
fn addresses(value: &Json) -> Result<Vec<String>, String> {
    let given: Vec<String> = match value {
        Json::Text(text) => {
            text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
        }
        Json::List(_) => fields::list(fields::words(320))(value)?,
        other => return Err(format!("Expected addresses with commas between them but got {}.", other.kind())),
    };
    if given.len() > ADDRESSES_MAX {
        return Err(format!("{} addresses are given: at most {ADDRESSES_MAX} are allowed.", given.len()));
    }
    let mut addresses: Vec<String> = Vec::new();
    for address in given {
        if !is_address(&address) {
            return Err(format!("Enter a valid email address: {address:?} is none."));
        }
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// Whether a text is a plain mail address: no display name, no quoted part, a domain of letters, digits and dashes.
pub fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let local_fits = (1..=64).contains(&local.len())
        && local.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~.-".contains(&b))
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..");
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let labels: Vec<&str> = domain.split('.').collect();
    local_fits
        && domain.len() <= 253
        && labels.iter().all(|l| label_fits(l))
        && (labels.len() > 1 || domain == "localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_plain_ones() {
        for good in ["a@b.example", "first.last+tag@sub.domain.example", "root@localhost"] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "a@",
            "@b.example",
            "a@b",
            "a b@c.example",
            "a@b..example",
            ".a@b.example",
            "A <a@b.example>",
            "a@-b.example",
            "a@b.example\n",
        ] {
            assert!(!is_address(bad), "{bad:?}");
        }
    }

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
        for bad in
            [r#"{"unknown": 1}"#, r#"{"notify_external_user": "nobody"}"#, r#"{"notify_external_user": 7}"#, "[]"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
