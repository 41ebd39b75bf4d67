//! The address of an `EventStoreDB` or `KurrentDB` server or cluster, as `esdb://user:password@host:2113?tls=true`.
//!
//! It is validated on input, since the client ignores unknown parameters, so that a misspelt `tlsVerifyCert` would have
//! no effect. The password is removed from the text and never shown.

use std::fmt;
use std::str::FromStr;

use eventstore::ClientSettings;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::election::Node;

/// What every stream of a log begins with, unless the address says something else.
const DEFAULT_PREFIX: &str = "sluice.";

/// The longest prefix, in bytes.
const PREFIX_BYTES_MAX: usize = 64;

/// What may stand before `://`, with or without `+discover`.
const SCHEMES: [&str; 4] = ["esdb", "kurrentdb", "kurrent", "kdb"];

/// Parameters that the client understands; `nodePreference` and `streamPrefix` are looked at here.
const CLIENT_PARAMETERS: [&str; 12] = [
    "maxDiscoverAttempts",
    "discoveryInterval",
    "gossipTimeout",
    "tls",
    "tlsVerifyCert",
    "tlsCaFile",
    "keepAliveInterval",
    "keepAliveTimeout",
    "defaultDeadline",
    "connectionName",
    "userCertFile",
    "userKeyFile",
];

/// Where the events are, when they are in `EventStoreDB` or `KurrentDB`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventStoreAddress {
    /// Scheme, hosts and the client's parameters; no credentials.
    address: String,
    /// The hosts that the address lists, none where they are to be discovered by name.
    nodes: Vec<Node>,
    user: Option<String>,
    password: Option<String>,
    prefix: String,
}

/// A text that is no such address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; write esdb://[user:password@]host:2113[,host:2113][?tls=false]")]
pub struct EventStoreAddressError(String);

impl EventStoreAddress {
    /// What every stream of this log begins with; several logs can share a server.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The hosts that the address lists; none where they are to be discovered by name.
    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What a client for one of the nodes is made with.
    pub(super) fn settings_for(&self, node: &Node) -> Result<ClientSettings, EventStoreAddressError> {
        self.settings_with(&format!("{}:{}", node.host, node.port))
    }

    /// What a client is made with that asks one of the nodes who leads. It does so only if there are several to ask.
    pub(super) fn settings_to_ask(&self, node: &Node) -> Result<ClientSettings, EventStoreAddressError> {
        self.settings_with(&format!("{0}:{1},{0}:{1}", node.host, node.port))
    }

    /// The same as in the address, with other hosts.
    fn settings_with(&self, hosts: &str) -> Result<ClientSettings, EventStoreAddressError> {
        let (scheme, rest) = self.address.split_once("://").unwrap_or(("esdb", &self.address));
        let query = rest.split_once('?').map_or("", |(_, query)| query);
        parse(&format!("{scheme}://{hosts}?{query}"))
    }

    /// What the client is made with. Credentials go with each call: the client would take a password as it stands in the
    /// address, `%40` and all.
    pub(super) fn settings(&self) -> Result<ClientSettings, EventStoreAddressError> {
        parse(&self.address)
    }

    /// Who calls.
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// User and password, decoded.
    pub(super) fn credentials(&self) -> Option<eventstore::Credentials> {
        let user = self.user.clone()?;
        Some(eventstore::Credentials::new(user, self.password.clone().unwrap_or_default()))
    }
}

fn parse(address: &str) -> Result<ClientSettings, EventStoreAddressError> {
    // There are no credentials in the text that the client complains about.
    address.parse().map_err(|error: eventstore::ClientSettingsParseError| {
        EventStoreAddressError(format!("{address:?} is no address of an event store: {}", error.message()))
    })
}

fn refused(problem: impl Into<String>) -> EventStoreAddressError {
    EventStoreAddressError(problem.into())
}

fn decoded(text: &str) -> Result<String, EventStoreAddressError> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(std::borrow::Cow::into_owned).map_err(|_| refused("user and password are UTF-8, percent-encoded"))
}

/// The prefix of stream names: one that no other log's streams can begin with by accident ends with a dot.
fn checked_prefix(prefix: &str) -> Result<String, EventStoreAddressError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    let starts_well = prefix.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if starts_well && prefix.ends_with('.') && prefix.len() <= PREFIX_BYTES_MAX && prefix.bytes().all(plain) {
        return Ok(prefix.to_owned());
    }
    Err(refused(format!(
        "streamPrefix is {prefix:?}: it has 2 to {PREFIX_BYTES_MAX} of a-z, A-Z, 0-9, '_' and '.', begins with a letter or \
         digit and ends with a dot"
    )))
}

impl FromStr for EventStoreAddress {
    type Err = EventStoreAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| refused("the address has no scheme"))?;
        let kind = scheme.strip_suffix("+discover").unwrap_or(scheme);
        if !SCHEMES.contains(&kind) {
            return Err(refused(format!("{scheme:?} is no event store that Sluice knows")));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let place = place.trim_end_matches('/');
        let (who, hosts) = place.rsplit_once('@').map_or((None, place), |(who, hosts)| (Some(who), hosts));
        if hosts.is_empty() || hosts.contains('/') {
            return Err(refused("the address names no host"));
        }
        let (mut user, mut password) = (None, None);
        if let Some(who) = who {
            let (name, secret) = who.split_once(':').unwrap_or((who, ""));
            user = Some(decoded(name)?);
            password = Some(decoded(secret)?);
        }
        let mut prefix = DEFAULT_PREFIX.to_owned();
        let mut parameters = form_urlencoded::Serializer::new(String::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            if is("streamPrefix") {
                prefix = checked_prefix(&value)?;
            } else if is("nodePreference") {
                if !value.eq_ignore_ascii_case("leader") {
                    return Err(refused(format!(
                        "nodePreference is {value:?}: only leader is allowed, since a decision rests on what was just written"
                    )));
                }
            } else if CLIENT_PARAMETERS.into_iter().any(is) {
                parameters.append_pair(&name, &value);
            } else {
                let known = CLIENT_PARAMETERS.join(", ");
                return Err(refused(format!(
                    "there is no parameter {name:?}; there are {known}, nodePreference, streamPrefix"
                )));
            }
        }
        let query = parameters.append_pair("nodePreference", "leader").finish();
        let mut address =
            Self { address: format!("{scheme}://{hosts}?{query}"), nodes: Vec::new(), user, password, prefix };
        let settings = address.settings()?;
        if !scheme.ends_with("+discover") {
            address.nodes = settings.hosts().iter().cloned().map(Node::from).collect();
        }
        Ok(address)
    }
}

impl TryFrom<String> for EventStoreAddress {
    type Error = EventStoreAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<EventStoreAddress> for String {
    fn from(address: EventStoreAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for EventStoreAddress {
    /// The address without a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.address.split_once("://").unwrap_or(("esdb", &self.address));
        let user = self.user.as_deref().map(|user| format!("{user}@")).unwrap_or_default();
        write!(f, "{scheme}://{user}{rest}&streamPrefix={}", self.prefix)
    }
}

impl fmt::Debug for EventStoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventStoreAddress({self})")
    }
}
