//! External services: the mail server, which it greets without sending a mail, and the endpoints of webhooks.

use std::time::Duration;

use tokio::net::TcpStream;

use super::{Finding, chain};
use crate::config::{Config, MailTransport};
use crate::egress::{Denied, Egress};
use crate::notify::{MailTransportOptions, greet};

/// How long a connection to an endpoint may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Connects to everything that is configured.
pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let mut found = vec![mail(config).await];
    for endpoint in &config.webhooks.endpoints {
        found.push(webhook(&endpoint.name, &endpoint.url, &config.webhooks.egress()).await);
    }
    found
}

async fn mail(config: &Config) -> Finding {
    const AREA: &str = "mail";
    let options = config.notify_options();
    let at = format!("{}{}", config.mail.host, config.mail.port.map(|port| format!(":{port}")).unwrap_or_default());
    match (config.mail.transport, options.mail.transport) {
        (MailTransport::None, _) => Finding::ok(AREA, "switched off: nobody is told by mail"),
        (MailTransport::Maildir, _) => Finding::warning(
            AREA,
            "goes into files that nobody may be reading (transport = \"maildir\")",
            "set mail.transport = \"smtp\" and mail.host, or read the folder with a mail program",
        ),
        (MailTransport::Smtp, MailTransportOptions::Smtp(smtp)) => match greet(&smtp).await {
            Ok(()) => Finding::ok(AREA, format!("{at} answers, and lets Sluice in; nothing was sent")),
            Err(reason) => Finding::trouble(
                AREA,
                format!("{at} cannot be used: {reason}"),
                "check mail.host, port, tls, ca_file, username and the password's variable; notices wait and are sent later",
            ),
        },
        (MailTransport::Smtp, _) => Finding::trouble(AREA, "the mail server is not configured", "set mail.host"),
    }
}

async fn webhook(name: &str, url: &str, egress: &Egress) -> Finding {
    const AREA: &str = "webhooks";
    let fix = "check the address, the name server and the firewall; calls wait and are made later";
    let address = reqwest::Url::parse(url).ok().and_then(|url| {
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        Some((host, url.port_or_known_default()?))
    });
    // The address may hold a key: it is not shown.
    let Some((host, port)) = address else {
        return Finding::trouble(
            AREA,
            format!("{name}: its address cannot be read"),
            "write an http:// or https:// address",
        );
    };
    let connected = tokio::time::timeout(CONNECT_WITHIN, async {
        TcpStream::connect(egress.resolve(&host, port).await?.as_slice()).await
    })
    .await;
    match connected {
        Ok(Ok(_)) => Finding::ok(AREA, format!("{name} can be reached at {host}:{port}; nothing was sent")),
        Ok(Err(error)) if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Denied>) => {
            Finding::trouble(
                AREA,
                format!("{name} at {host}:{port} may not be called: {error}"),
                "correct its address, or webhooks.allow and webhooks.deny; calls wait and are made later",
            )
        }
        Ok(Err(error)) => Finding::trouble(AREA, format!("{name} at {host}:{port}: {}", chain(&error)), fix),
        Err(_) => Finding::trouble(AREA, format!("{name} at {host}:{port} does not answer within 5 s"), fix),
    }
}
