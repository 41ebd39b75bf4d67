//! Proxies that the site trusts to name the client's address.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Addresses and networks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Spelled", into = "Vec<String>")]
pub struct Networks(Vec<IpNet>);

/// A text that is neither an address nor a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither an IP address nor a network: 127.0.0.1, 10.0.0.0/8 and 2001:db8::/32 are")]
pub struct NetworksError(String);

/// How a file spells them, and how a variable of the environment does.
#[derive(Deserialize)]
#[serde(untagged)]
enum Spelled {
    List(Vec<String>),
    Text(String),
}

impl TryFrom<Spelled> for Networks {
    type Error = NetworksError;

    fn try_from(spelled: Spelled) -> Result<Self, NetworksError> {
        match spelled {
            Spelled::Text(text) => text.parse(),
            Spelled::List(list) => list.iter().map(|one| network(one)).collect::<Result<_, _>>().map(Self),
        }
    }
}

impl FromStr for Networks {
    type Err = NetworksError;

    /// Separated by commas.
    fn from_str(text: &str) -> Result<Self, NetworksError> {
        let each = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        each.map(network).collect::<Result<_, _>>().map(Self)
    }
}

impl From<Networks> for Vec<String> {
    fn from(networks: Networks) -> Self {
        networks.0.iter().map(IpNet::to_string).collect()
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Vec::from(self.clone()).join(", "))
    }
}

fn network(text: &str) -> Result<IpNet, NetworksError> {
    let text = text.trim();
    let address = || text.parse::<IpAddr>().ok().map(|address| IpNet::from(address.to_canonical()));
    text.parse().ok().or_else(address).ok_or_else(|| NetworksError(text.to_owned()))
}

impl Networks {
    /// Whether an address is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client's address behind a proxy, from the values of `X-Forwarded-For`. Each proxy appends the address of
    /// its caller; anybody may have written the entries before the first one added by the site's own proxies.
    pub fn forwarded<'v>(&self, values: impl DoubleEndedIterator<Item = &'v str>) -> Option<IpAddr> {
        let addresses = values.rev().flat_map(|value| value.rsplit(',')).map(|text| address(text.trim()));
        // What cannot be read was written by nobody whom the site trusts.
        addresses.map_while(|address| address).find(|address| !self.contains(*address))
    }
}

/// An address, perhaps with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_from_lists_and_from_a_text() {
        let text: Networks = "127.0.0.1, 10.0.0.0/8,2001:db8::/32".parse().unwrap();
        let list: Networks = serde_json::from_str(r#"["127.0.0.1", "10.0.0.0/8", "2001:db8::/32"]"#).unwrap();
        assert_eq!(text, list);
        assert_eq!(serde_json::from_str::<Networks>(r#""10.0.0.0/8""#).unwrap().to_string(), "10.0.0.0/8");
        for (address, trusted) in [
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("::ffff:10.1.2.3", true),
            ("2001:db8::7", true),
            ("::1", false),
        ] {
            assert_eq!(text.contains(address.parse().unwrap()), trusted, "{address}");
        }
        for bad in ["proxy.example", "10.0.0.0/33", "10.0.0"] {
            assert!(bad.parse::<Networks>().unwrap_err().to_string().contains(bad));
        }
    }

    #[test]
    fn the_last_address_that_no_trusted_proxy_has_is_the_callers() {
        let trusted: Networks = "10.0.0.0/8".parse().unwrap();
        for (values, expected) in [
            (vec!["192.0.2.1"], Some("192.0.2.1")),
            (vec!["203.0.113.9, 192.0.2.1, 10.0.0.7"], Some("192.0.2.1")),
            (vec!["203.0.113.9", "192.0.2.1"], Some("192.0.2.1")),
            (vec!["203.0.113.9, nonsense"], None),
            (vec!["192.0.2.1:4711"], Some("192.0.2.1")),
            (vec!["[2001:db8::1]:4711"], Some("2001:db8::1")),
            (vec!["10.0.0.1"], None),
            (vec![], None),
        ] {
            let found = trusted.forwarded(values.iter().copied());
            assert_eq!(found, expected.map(|e| e.parse().unwrap()), "{values:?}");
        }
    }
}
