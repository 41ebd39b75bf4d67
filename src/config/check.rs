//! Values that their types accept but that are still invalid: log levels, web addresses.

use reqwest::Url;

use super::{Config, ConfigError};

/// Levels of the log, the least first.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl Config {
    /// Whether the log's level is one, or a list of directives that each name theirs.
    pub(super) fn check_log(&self) -> Result<(), ConfigError> {
        level(&self.log.level).map_err(|problem| ConfigError::Unfit { key: "log.level", problem })
    }

    /// Whether addresses are addresses on the web.
    pub(super) fn check_addresses(&self) -> Result<(), ConfigError> {
        let unfit = |key: &'static str| move |problem: String| ConfigError::Unfit { key, problem };
        if let Some(address) = &self.public_url {
            web_address(address).map_err(unfit("public_url"))?;
            if address.contains(['?', '#']) {
                return Err(unfit("public_url")("links are made by adding to it: it takes no ? and no #".to_owned()));
            }
        }
        if let Some(link) = &self.notices.link {
            web_address(link).map_err(unfit("notices.link"))?;
        }
        for endpoint in &self.webhooks.endpoints {
            let problem = |problem: String| format!("the url of {:?}: {problem}", endpoint.name);
            let refused = |text: String| unfit("webhooks.endpoints")(problem(text));
            let address = web_address(&endpoint.url).map_err(refused)?;
            self.webhooks.egress().check_url(&address).map_err(|denied| refused(denied.to_string()))?;
        }
        Ok(())
    }
}

/// Why a text is no address on the web that a browser or a program could follow.
pub(super) fn web_address(text: &str) -> Result<Url, String> {
    let expected = || "an address that begins with http:// or https:// and names a host is expected".to_owned();
    let address = Url::parse(text).map_err(|_| expected())?;
    let web = matches!(address.scheme(), "http" | "https") && address.host_str().is_some_and(|host| !host.is_empty());
    // What a parser of addresses puts right in silence would stand in mails as it was written.
    let plain = text.chars().all(|c| !c.is_whitespace() && !c.is_control());
    if web && plain { Ok(address) } else { Err(expected()) }
}

/// Why a text sets no levels. A word alone that is no level would be taken for the name of a module, and silence the rest.
fn level(text: &str) -> Result<(), String> {
    for directive in directives(text) {
        let directive = directive.trim();
        let (target, word) = match directive.rsplit_once('=') {
            Some((target, word)) if !word.contains(']') => (target, word),
            _ => ("", directive),
        };
        let known = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
        let named = target.chars().all(|c| c.is_ascii_alphanumeric() || "_:-.[]{}=,\"".contains(c));
        if !known || !named || (target.is_empty() && directive.starts_with('=')) {
            return Err(format!(
                "{directive:?} is neither a level ({}) nor a module with one, such as sluice::store=debug",
                LEVELS.join(", ")
            ));
        }
    }
    Ok(())
}

/// The parts between commas; those inside of brackets belong to a part.
fn directives(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(|c| {
        depth += i32::from(matches!(c, '[' | '{')) - i32::from(matches!(c, ']' | '}'));
        c == ',' && depth <= 0
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_levels_or_modules_with_one() {
        for good in ["info", "WARN", "off", "info,sluice::store=debug", "warn, sqlx=trace", "[request{id=1,a=2}]=debug"]
        {
            assert_eq!(level(good), Ok(()), "{good}");
        }
        for bad in
            ["shout", "", "info,", "sluice=shout", "=info", "sluice::store", "info,loud", "in fo=debug", "info;warn"]
        {
            assert!(level(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_on_the_web_name_a_host() {
        for good in ["http://localhost", "https://sluice.example:8443/base", "http://[::1]:80/", "https://a.b/{uuid}"] {
            assert!(web_address(good).is_ok(), "{good}");
        }
        for bad in ["x", "sluice.example", "ftp://a", "http://", "//a", "mailto:a@b", "https://a b", "http:///x y"] {
            assert!(web_address(bad).is_err(), "{bad}");
        }
    }
}
