//! Egress control: the addresses that webhook calls may reach.
//!
//! A webhook names a host; the check applies to its address at the time of the call. Sluice resolves the name once,
//! checks each address, and connects to an address that passed, so a different resolution a moment later changes
//! nothing. It follows no redirects and uses no proxy, since a proxy would resolve the name itself.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, RequestBuilder, Url};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Link-local addresses, and those under which clouds hand out the credentials of a machine.
const DENIED_BY_DEFAULT: [&str; 7] = [
    "169.254.0.0/16",
    "fe80::/10",
    // Alibaba Cloud, Oracle Cloud, Azure, and AWS and Google over IPv6; the others use 169.254.169.254.
    "100.100.100.200/32",
    "192.0.0.192/32",
    "168.63.129.16/32",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
];

/// The networks that a webhook can never mean: no single machine has such an address. A connection to the unspecified
/// address reaches this machine itself.
const NOWHERE: [&str; 5] = ["0.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32", "::/128", "ff00::/8"];

/// A list of networks, in CIDR notation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no network: {problem}")]
pub struct NetworkError {
    text: String,
    problem: String,
}

impl Networks {
    /// Reads networks: an address with the length of its prefix, or an address alone.
    ///
    /// # Errors
    /// A text is neither.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, NetworkError> {
        texts.into_iter().map(network).collect::<Result<_, _>>().map(Self)
    }

    /// The network that one of these addresses lies in.
    fn holding(&self, addresses: &[IpAddr]) -> Option<&IpNet> {
        self.0.iter().find(|network| addresses.iter().any(|address| network.contains(address)))
    }
}

fn network(text: &str) -> Result<IpNet, NetworkError> {
    let refused = |problem: String| NetworkError { text: text.to_owned(), problem };
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let network: IpNet = text.parse().map_err(|_| {
        refused("write an address and the length of its prefix, as in 10.0.0.0/8 or fd00::/8".to_owned())
    })?;
    if network.trunc() == network {
        Ok(network)
    } else {
        Err(refused(format!("it sets bits behind its prefix; write {}", network.trunc())))
    }
}

impl Serialize for Networks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

impl<'de> Deserialize<'de> for Networks {
    /// From a list, or from one text with commas as a variable of the environment has it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Listed;
        impl<'de> Visitor<'de> for Listed {
            type Value = Networks;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of networks")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Networks, E> {
                let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
                Networks::parse(words).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Networks, A::Error> {
                let mut networks = Vec::new();
                while let Some(text) = list.next_element::<String>()? {
                    networks.push(network(&text).map_err(A::Error::custom)?);
                }
                Ok(Networks(networks))
            }
        }
        deserializer.deserialize_any(Listed)
    }
}

/// Which addresses may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// Only these networks; all, if there are none.
    pub allow: Networks,
    /// Never these networks, whatever is allowed.
    pub deny: Networks,
}

impl Default for Egress {
    /// Everything but link-local and metadata addresses.
    fn default() -> Self {
        // The texts are those above: a test reads them.
        Self { allow: Networks::default(), deny: Networks::parse(DENIED_BY_DEFAULT).unwrap_or_default() }
    }
}

/// An address that may not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It lies in a network that is denied.
    #[error("{address} lies in {network}, which webhooks.deny holds")]
    Deny {
        /// The address.
        address: IpAddr,
        /// The network.
        network: IpNet,
    },
    /// It lies in none of those that are allowed.
    #[error("{0} lies in no network of webhooks.allow")]
    Unlisted(IpAddr),
    /// It is no address of a single machine.
    #[error("{0} is no address of a machine that a webhook could mean")]
    Nowhere(IpAddr),
    /// The name has no address.
    #[error("the name has no address")]
    Unknown,
}

impl Egress {
    /// Whether an address may be reached.
    ///
    /// # Errors
    /// It may not.
    pub fn check(&self, address: IpAddr) -> Result<(), Denied> {
        let all = [Some(address), embedded(address).map(IpAddr::V4)];
        let all: Vec<IpAddr> = all.into_iter().flatten().collect();
        if Networks::parse(NOWHERE).is_ok_and(|nowhere| nowhere.holding(&all).is_some()) {
            return Err(Denied::Nowhere(address));
        }
        if let Some(network) = self.deny.holding(&all) {
            return Err(Denied::Deny { address, network: *network });
        }
        if self.allow.0.is_empty() || self.allow.holding(&all).is_some() {
            return Ok(());
        }
        Err(Denied::Unlisted(address))
    }

    /// The same for an address of the web whose host is an IP address; the addresses of a name are known when it is called.
    ///
    /// # Errors
    /// The host is an address that may not be reached.
    pub fn check_url(&self, url: &Url) -> Result<(), Denied> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        host.parse().map_or(Ok(()), |address| self.check(address))
    }

    /// The addresses of a host that may be reached.
    ///
    /// # Errors
    /// The name cannot be resolved, or none of its addresses may be reached.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, std::io::Error> {
        let (mut passed, mut denied) = (Vec::new(), Denied::Unknown);
        for address in tokio::net::lookup_host((host, port)).await? {
            match self.check(address.ip()) {
                Ok(()) => passed.push(address),
                Err(error) => denied = error,
            }
        }
        if passed.is_empty() {
            return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, denied));
        }
        Ok(passed)
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, of a NAT64 gateway, or of 6to4.
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let octets = address.octets();
    let of = |octets: &[u8]| <[u8; 4]>::try_from(octets).ok().map(Ipv4Addr::from);
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff | 0, ..] if !address.is_loopback() && !address.is_unspecified() => of(&octets[12..]),
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => of(&octets[12..]),
        [0x2002, ..] => of(&octets[2..6]),
        _ => None,
    }
}

struct Resolver(Arc<Egress>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let egress = Arc::clone(&self.0);
        Box::pin(async move {
            let found = egress.resolve(name.as_str(), 0).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Calls webhooks, and reaches no address that it may not.
#[derive(Debug, Clone)]
pub struct Caller {
    client: Client,
    egress: Arc<Egress>,
}

impl Caller {
    /// A client that waits so long for an answer.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(egress: Egress, timeout: Duration) -> Result<Self, reqwest::Error> {
        let egress = Arc::new(egress);
        let client = Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Resolver(Arc::clone(&egress)))
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, egress })
    }

    /// Which addresses it may reach.
    pub fn egress(&self) -> &Egress {
        &self.egress
    }

    /// Begins a POST.
    ///
    /// # Errors
    /// The host is an address that may not be reached. A name that has no other shows when the request is sent.
    pub fn post(&self, url: Url) -> Result<RequestBuilder, Denied> {
        // The client resolves names; an address it would take as it is.
        self.egress.check_url(&url)?;
        Ok(self.client.post(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(egress: &Egress, url: &str) -> Result<(), String> {
        egress.check_url(&Url::parse(url).unwrap()).map_err(|denied| denied.to_string())
    }

    fn networks(texts: &[&str]) -> Networks {
        Networks::parse(texts.iter().copied()).unwrap()
    }

    #[test]
    fn what_is_denied_by_default_can_be_read() {
        assert_eq!(networks(&DENIED_BY_DEFAULT), Egress::default().deny);
        assert_eq!(networks(&NOWHERE).0.len(), NOWHERE.len());
    }

    #[test]
    fn no_spelling_of_a_metadata_address_passes() {
        let egress = Egress::default();
        for host in [
            "169.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "0251.0376.0251.0376",
            "169.254.43518",
            "[::ffff:169.254.169.254]",
            "[::ffff:a9fe:a9fe]",
            "[::169.254.169.254]",
            "[64:ff9b::a9fe:a9fe]",
            "[2002:a9fe:a9fe::1]",
            "[fe80::1]",
            "[fd00:ec2::254]",
            "[fd20:ce::254]",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "0.0.0.0",
            "0",
            "[::]",
            "[::ffff:0.0.0.0]",
            "255.255.255.255",
            "224.0.0.1",
            "[ff02::1]",
        ] {
            assert!(checked(&egress, &format!("http://{host}/latest/")).is_err(), "{host}");
        }
        for host in ["127.0.0.1", "[::1]", "10.1.2.3", "192.168.0.9", "[fd00::1]", "93.184.215.14", "hooks.example"] {
            assert_eq!(checked(&egress, &format!("https://{host}/in")), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_site_says_what_is_allowed_and_what_is_not() {
        let egress = Egress { allow: networks(&["10.0.0.0/8", "2001:db8::/32"]), deny: networks(&["10.9.0.0/16"]) };
        assert_eq!(checked(&egress, "http://10.1.0.1/"), Ok(()));
        assert_eq!(checked(&egress, "http://[::ffff:10.1.0.1]/"), Ok(()));
        assert_eq!(checked(&egress, "http://[2001:db8::7]/"), Ok(()));
        assert_eq!(
            checked(&egress, "http://10.9.0.1/"),
            Err("10.9.0.1 lies in 10.9.0.0/16, which webhooks.deny holds".into())
        );
        assert_eq!(checked(&egress, "http://192.0.2.1/"), Err("192.0.2.1 lies in no network of webhooks.allow".into()));
    }

    #[test]
    fn a_text_that_is_no_network_is_refused_with_one_that_would_do() {
        let refused = |text: &str| Networks::parse([text]).unwrap_err().to_string();
        assert_eq!(
            refused("10.0.0.1/8"),
            "\"10.0.0.1/8\" is no network: it sets bits behind its prefix; write 10.0.0.0/8"
        );
        for text in ["", "localhost", "10.0.0.0/33", "10.0.0.0-10.0.0.9", "10.0.0"] {
            assert!(refused(text).contains("as in 10.0.0.0/8"), "{text}");
        }
        assert_eq!(networks(&["10.0.0.1", "::1"]), networks(&["10.0.0.1/32", "::1/128"]));
    }

    #[tokio::test]
    async fn a_name_is_reached_at_the_addresses_that_passed_and_at_no_other() {
        let here = |deny: &[&str]| Egress { allow: Networks::default(), deny: networks(deny) };
        let passed = here(&["::1/128"]).resolve("localhost", 80).await.unwrap();
        assert!(!passed.is_empty() && passed.iter().all(|a| a.ip() == Ipv4Addr::LOCALHOST), "{passed:?}");
        let error = here(&["127.0.0.0/8", "::1/128"]).resolve("localhost", 80).await.unwrap_err();
        assert!(error.to_string().contains("which webhooks.deny holds"), "{error}");
    }

    #[tokio::test]
    async fn a_call_to_a_denied_name_is_never_connected() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url =
            |host: &str| Url::parse(&format!("http://{host}:{}/", listener.local_addr().unwrap().port())).unwrap();
        let egress = Egress { allow: Networks::default(), deny: networks(&["127.0.0.0/8", "::1/128"]) };
        let caller = Caller::new(egress, Duration::from_secs(10)).unwrap();
        let mut error: Box<dyn std::error::Error> =
            caller.post(url("localhost")).unwrap().send().await.unwrap_err().into();
        let mut said = error.to_string();
        while let Some(source) = error.source() {
            said = format!("{said}: {source}");
            error = source.to_string().into();
        }
        assert!(caller.post(url("127.0.0.1")).is_err());
        let nobody = futures::FutureExt::now_or_never(listener.accept());
        assert!(nobody.is_none(), "{said}");
    }
}
