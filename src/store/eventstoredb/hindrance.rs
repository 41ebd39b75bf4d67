//! Explains why this process cannot use the event store, in a sentence that names the host and the remedy.
//!
//! The client keeps the text of an error and drops its source (a refused certificate shows only as "client error
//! (Connect)", ADR 24), and it has one error for a refused password and for a missing right. So after an operation has
//! finally failed, this module finds the reason with its own connection to each host, and with a second call.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use eventstore::ClientSettings;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error as TlsError, RootCertStore};

use super::election::Node;

/// How long a host may take to accept a connection, and again to agree on TLS.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// How many names of a certificate are shown.
const NAMES_MAX: usize = 5;

/// What is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hindrance {
    /// The name of the host means nothing here.
    Unresolved { host: String, problem: String },
    /// The host is there, and nobody listens at the port.
    Closed { at: Node },
    /// No connection comes about.
    Unreachable { at: Node, problem: String },
    /// An authority that is not trusted vouches for the certificate; the file that names those that are.
    UnknownAuthority { at: Node, ca_file: Option<String> },
    /// The certificate is for other names.
    WrongName { at: Node, names: Vec<String> },
    /// The certificate is refused for another reason.
    Certificate { at: Node, problem: String },
    /// The address asks for TLS, and the server speaks none.
    WithoutTls { at: Node },
    /// The address asks for plain text, and the server speaks TLS.
    WantsTls { at: Node },
    /// The server wants to know who calls.
    NobodyNamed { at: Node },
    /// The server knows no such user with this password.
    PasswordRefused { at: Node, user: String },
    /// The user has no right to this.
    MayNot { at: Node, user: String, what: &'static str },
    /// No node leads: what was found of each.
    NoLeader { nodes: String },
    /// The node is reachable; what it, or the client, says.
    Failed { at: Node, said: String },
}

impl Hindrance {
    /// Whether it may go by itself, as when a server starts; else somebody has to do something first.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unresolved { .. }
            | Self::Closed { .. }
            | Self::Unreachable { .. }
            | Self::NoLeader { .. }
            | Self::Failed { .. } => true,
            Self::UnknownAuthority { .. }
            | Self::WrongName { .. }
            | Self::Certificate { .. }
            | Self::WithoutTls { .. }
            | Self::WantsTls { .. }
            | Self::NobodyNamed { .. }
            | Self::PasswordRefused { .. }
            | Self::MayNot { .. } => false,
        }
    }

    /// The same of one node among several.
    fn in_short(&self) -> String {
        match self {
            Self::Closed { .. } => "nothing listens there".to_owned(),
            Self::Unresolved { problem, .. } => format!("its name cannot be resolved ({problem})"),
            Self::Unreachable { problem, .. } => format!("it cannot be reached ({problem})"),
            other => other.to_string(),
        }
    }
}

impl std::error::Error for Hindrance {}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unresolved { host, problem } => write!(
                f,
                "the host {host:?} of the event store cannot be resolved ({problem}): check the name in event_store"
            ),
            Self::Closed { at } => write!(
                f,
                "nothing listens at {at}: start the event store there, or correct host and port in event_store"
            ),
            Self::Unreachable { at, problem } => write!(
                f,
                "the event store at {at} cannot be reached ({problem}): check the network and the firewalls between here and \
                 there"
            ),
            Self::UnknownAuthority { at, ca_file: None } => write!(
                f,
                "the certificate of the event store at {at} comes from an authority that this machine does not trust: name \
                 the authority's certificate in event_store (tlsCaFile=/path/to/ca.crt)"
            ),
            Self::UnknownAuthority { at, ca_file: Some(file) } => write!(
                f,
                "the certificate of the event store at {at} does not come from the authority in {file}: name the file of the \
                 authority that signed it (tlsCaFile in event_store)"
            ),
            Self::WrongName { at, names } => {
                let names = if names.is_empty() { "another host".to_owned() } else { names.join(", ") };
                write!(
                    f,
                    "the certificate of the event store at {at} is not for {}: it is for {names}. Write a name in event_store \
                     that the certificate has, or give the server a certificate for {}",
                    at.host, at.host
                )
            }
            Self::Certificate { at, problem } => write!(
                f,
                "the certificate of the event store at {at} is refused ({problem}): give the server a valid certificate"
            ),
            Self::WithoutTls { at } => write!(
                f,
                "the event store at {at} does not speak TLS: turn TLS on there, or write tls=false in event_store if nobody \
                 else can read that network"
            ),
            Self::WantsTls { at } => {
                write!(f, "the event store at {at} speaks TLS: take tls=false out of event_store")
            }
            Self::NobodyNamed { at } => write!(
                f,
                "the event store at {at} lets nobody in without a name: write esdb://USER:PASSWORD@{at} in event_store"
            ),
            Self::PasswordRefused { at, user } => write!(
                f,
                "the event store at {at} refuses the user {user:?} with this password: correct them in event_store \
                 (characters such as @ and / are percent-encoded there), or make the user in the event store"
            ),
            Self::MayNot { at, user, what } => write!(
                f,
                "the user {user:?} may not {what} in the event store at {at}: give it the right (docs/OPERATIONS.md, \
                 \"EventStoreDB\", shows how)"
            ),
            Self::NoLeader { nodes } => write!(
                f,
                "no node of the event store leads ({nodes}): more than half of them must run and reach each other, and the \
                 leader must be reachable from here by the name that the nodes give it"
            ),
            Self::Failed { at, said } => {
                write!(f, "the event store at {at} can be reached and does not serve: {said}; see its log")
            }
        }
    }
}

/// What keeps this process from any node that the settings name, with what the client said of the last attempt. Whether a
/// server speaks TLS that is asked for plain text is no question where a client was `connected` before.
pub(super) async fn of_hosts(settings: &ClientSettings, connected: bool, said: String) -> Hindrance {
    let found = look(settings, settings.is_secure_mode_enabled() || !connected).await;
    conclude(&found).unwrap_or_else(|| match found.as_slice() {
        [(node, Ok(()))] => Hindrance::Failed { at: node.clone(), said },
        several => no_leader(several),
    })
}

/// What keeps this process from all nodes that the settings name; none: one of them at least can be reached.
pub(super) async fn of_all_hosts(settings: &ClientSettings) -> Option<Hindrance> {
    let found = look(settings, true).await;
    let none = found.iter().all(|(_, found)| found.is_err());
    conclude(&found).or_else(|| none.then(|| no_leader(&found)))
}

/// A node and what keeps this process from it.
type Found = (Node, Result<(), Hindrance>);

async fn look(settings: &ClientSettings, greets: bool) -> Vec<Found> {
    let tls = greets.then(|| Tls::of(settings)).flatten();
    let nodes = settings.hosts().iter().cloned().map(Node::from);
    let found = nodes.map(|node| async {
        let found = of_node(&node, tls.as_ref()).await;
        (node, found)
    });
    futures::future::join_all(found).await
}

/// What needs no word of the other nodes: somebody has to see to it, which no leader spares them, or there is one node.
fn conclude(found: &[Found]) -> Option<Hindrance> {
    let mut each = found.iter().filter_map(|(_, found)| found.as_ref().err());
    let lasting = each.clone().find(|why| !why.may_pass());
    let only = (found.len() == 1).then(|| each.next()).flatten();
    lasting.or(only).cloned()
}

fn no_leader(found: &[Found]) -> Hindrance {
    let each = found.iter().map(|(node, found)| match found {
        Ok(()) => format!("{node}: it can be reached"),
        Err(why) => format!("{node}: {}", why.in_short()),
    });
    Hindrance::NoLeader { nodes: each.collect::<Vec<_>>().join("; ") }
}

/// How the address wants to speak.
struct Tls {
    connector: TlsConnector,
    /// The address asks for TLS.
    wanted: bool,
    /// The address asks for certificates to be checked.
    checked: bool,
    ca_file: Option<String>,
}

impl Tls {
    /// None: the files that the address names cannot be read, which opening it says.
    fn of(settings: &ClientSettings) -> Option<Self> {
        let mut roots = RootCertStore::empty();
        let ca_file = settings.tls_ca_file().cloned();
        match &ca_file {
            Some(file) => {
                for certificate in CertificateDer::pem_file_iter(file).ok()? {
                    roots.add(certificate.ok()?).ok()?;
                }
            }
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .ok()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Some(Self {
            connector: TlsConnector::from(Arc::new(config)),
            wanted: settings.is_secure_mode_enabled(),
            checked: settings.is_tls_certificate_verification_enabled(),
            ca_file,
        })
    }

    /// What a handshake that ended like this says.
    fn verdict(&self, at: &Node, handshake: Result<(), io::Error>) -> Result<(), Hindrance> {
        let refused = handshake.err().map(|error| {
            let why = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()).cloned();
            (error.to_string(), why)
        });
        let (problem, why) = match refused {
            None if self.wanted => return Ok(()),
            None => return Err(Hindrance::WantsTls { at: at.clone() }),
            Some(refused) => refused,
        };
        match why {
            Some(TlsError::InvalidCertificate(_) | TlsError::NoCertificatesPresented) if !self.wanted => {
                Err(Hindrance::WantsTls { at: at.clone() })
            }
            // A server that speaks plain text understands no greeting of TLS.
            _ if !self.wanted => Ok(()),
            Some(TlsError::InvalidCertificate(why)) if self.checked => Err(self.of_certificate(at, &why)),
            Some(TlsError::InvalidCertificate(_)) => Ok(()),
            Some(TlsError::InvalidMessage(_)) => Err(Hindrance::WithoutTls { at: at.clone() }),
            None => Err(Hindrance::Unreachable {
                at: at.clone(),
                problem: format!("{problem} when TLS began; does it speak TLS?"),
            }),
            _ => Err(Hindrance::Unreachable { at: at.clone(), problem }),
        }
    }

    fn of_certificate(&self, at: &Node, why: &CertificateError) -> Hindrance {
        let at = at.clone();
        match why {
            CertificateError::UnknownIssuer => Hindrance::UnknownAuthority { at, ca_file: self.ca_file.clone() },
            CertificateError::NotValidForNameContext { presented, .. } => {
                Hindrance::WrongName { at, names: presented.iter().take(NAMES_MAX).map(|name| plain(name)).collect() }
            }
            CertificateError::NotValidForName => Hindrance::WrongName { at, names: Vec::new() },
            other => Hindrance::Certificate { at, problem: other.to_string() },
        }
    }
}

/// `DnsName("node1")` and `IpAddress(10.0.0.1)` as `node1` and `10.0.0.1`.
fn plain(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"').to_owned()
}

/// What keeps this process from one node, if anything does.
async fn of_node(node: &Node, tls: Option<&Tls>) -> Result<(), Hindrance> {
    let silent = || Hindrance::Unreachable { at: node.clone(), problem: "no answer within a second".to_owned() };
    let connecting = tokio::time::timeout(ANSWERS_WITHIN, connect(node)).await;
    let stream = connecting.map_err(|_| silent())??;
    let Some(tls) = tls else { return Ok(()) };
    let Ok(name) = ServerName::try_from(node.host.clone()) else { return Ok(()) };
    match tokio::time::timeout(ANSWERS_WITHIN, tls.connector.connect(name, stream)).await {
        Ok(handshake) => tls.verdict(node, handshake.map(drop)),
        // Plain text waits for the rest of what it takes for a request.
        Err(_) if !tls.wanted => Ok(()),
        Err(_) => Err(silent()),
    }
}

async fn connect(node: &Node) -> Result<TcpStream, Hindrance> {
    let host = node.host.as_str();
    let unresolved = |problem: String| Hindrance::Unresolved { host: host.to_owned(), problem };
    let found: Vec<_> = match tokio::net::lookup_host((host, node.port)).await {
        Ok(found) => found.collect(),
        Err(error) => return Err(unresolved(error.to_string())),
    };
    let mut refused = unresolved("it has no address".to_owned());
    for address in found {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                refused = Hindrance::Closed { at: node.clone() };
            }
            Err(error) => refused = Hindrance::Unreachable { at: node.clone(), problem: error.to_string() },
        }
    }
    Err(refused)
}
