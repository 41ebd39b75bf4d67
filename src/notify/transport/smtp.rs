//! Mail over SMTP: TLS from the start, with STARTTLS or without, with or without a user name and password.

use lettre::address::Envelope;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use secrecy::ExposeSecret;
use std::time::Duration;

use super::{Failed, TransportError, reason};
use crate::notify::message::Mail;
use crate::notify::{SmtpOptions, SmtpTls};

/// Steps that one delivery may take, each within the time-out of the options.
const STEPS_MAX: u32 = 4;

/// The client of a mail server.
pub struct Smtp {
    client: AsyncSmtpTransport<Tokio1Executor>,
    /// A server may answer each step just in time; this bounds the whole.
    at_most: Duration,
}

impl Smtp {
    /// A client with these options; nothing is sent yet.
    pub fn new(options: &SmtpOptions) -> Result<Self, TransportError> {
        let port = options.port.unwrap_or(match options.tls {
            SmtpTls::Implicit => 465,
            SmtpTls::Required => 587,
            SmtpTls::Opportunistic | SmtpTls::None => 25,
        });
        let tls = match options.tls {
            SmtpTls::None => Tls::None,
            SmtpTls::Opportunistic => Tls::Opportunistic(parameters(options)?),
            SmtpTls::Required => Tls::Required(parameters(options)?),
            SmtpTls::Implicit => Tls::Wrapper(parameters(options)?),
        };
        let mut client = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(options.host.as_str())
            .port(port)
            .tls(tls)
            .timeout(Some(options.timeout));
        if let Some((name, password)) = &options.credentials {
            client = client.credentials(Credentials::new(name.clone(), password.expose_secret().to_owned()));
        }
        Ok(Self { client: client.build(), at_most: options.timeout * STEPS_MAX })
    }

    /// Sends a mail.
    pub async fn send(&self, mail: &Mail) -> Result<(), Failed> {
        match tokio::time::timeout(self.at_most, self.client.send_raw(mail.envelope(), &mail.bytes())).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(failed(&error, is_ascii(mail.envelope()))),
            Err(_) => Err(Failed::Unreachable("the mail server takes too long".to_owned())),
        }
    }
}

/// Connects to a mail server, lets it know who is there, encrypts and authenticates as configured, and leaves again. No mail
/// is sent. An error says what went wrong, free of addresses.
pub async fn greet(options: &SmtpOptions) -> Result<(), String> {
    let smtp = Smtp::new(options).map_err(|error| reason(&error))?;
    match tokio::time::timeout(smtp.at_most, smtp.client.test_connection()).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err("the mail server hangs up after the greeting".to_owned()),
        Ok(Err(error)) => Err(reason(&error)),
        Err(_) => Err("the mail server takes too long".to_owned()),
    }
}

fn parameters(options: &SmtpOptions) -> Result<TlsParameters, TransportError> {
    let mut tls = TlsParameters::builder(options.host.clone());
    if let Some(path) = &options.ca_file {
        let refused = |source| TransportError::Authority { path: path.clone(), source };
        let pem = std::fs::read(path).map_err(|error| refused(error.into()))?;
        tls = tls.add_root_certificate(Certificate::from_pem(&pem).map_err(|error| refused(error.into()))?);
    }
    tls.build_rustls().map_err(|error| TransportError::Client { what: "the mail server", source: error.into() })
}

/// Whether every server takes the addresses of an envelope: one that does not speak SMTPUTF8 takes ASCII only.
fn is_ascii(envelope: &Envelope) -> bool {
    envelope.from().into_iter().chain(envelope.to()).all(|address| AsRef::<str>::as_ref(address).is_ascii())
}

/// A server that refuses to let the site in (530 to 539: authentication) has nothing against this mail.
fn failed(error: &lettre::transport::smtp::Error, ascii: bool) -> Failed {
    let reason = reason(error);
    let code = error.status().map(u16::from);
    match code {
        Some(530..=539) => Failed::Unreachable(reason),
        _ if error.is_permanent() => Failed::Never(reason),
        // The client refuses addresses that this server cannot take; without them it is the server that lacks something.
        _ if error.is_client() && !ascii => Failed::Never(reason),
        _ if error.is_transient() => Failed::Later(reason),
        _ => Failed::Unreachable(reason),
    }
}
