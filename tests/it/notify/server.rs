//! Against a real mail server that a full run starts: `SLUICE_TEST_SMTP` names the folder with its ports, certificate
//! authority and mailbox (see `tests/services/smtp.py`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use sluice::notify::{MailTransportOptions, NotifyOptions, SmtpOptions, SmtpTls};

use super::support::{Letter, Site, impatient};
use crate::support::world::{policy_facts, terms};

fn folder() -> PathBuf {
    std::env::var_os("SLUICE_TEST_SMTP").expect("SLUICE_TEST_SMTP is set by a full run of tests/run").into()
}

fn options(kind: &str, tls: SmtpTls, credentials: Option<(&str, &str)>) -> NotifyOptions {
    let port = std::fs::read_to_string(folder().join(format!("{kind}.port"))).unwrap().trim().parse().unwrap();
    let mut options = impatient();
    options.mail.from = "Sluice <sluice@site.example>".into();
    options.mail.transport = MailTransportOptions::Smtp(SmtpOptions {
        host: "localhost".into(),
        port: Some(port),
        tls,
        ca_file: Some(folder().join("ca.pem")),
        credentials: credentials.map(|(name, password)| (name.to_owned(), password.to_owned().into())),
        timeout: Duration::from_secs(10),
    });
    options
}

/// An address of this run alone: the server keeps its mailbox from one run of the tests to the next, on another engine.
fn nobody_elses(name: &str) -> String {
    format!("{name}-{}@elsewhere.example", sluice::clock::IdSource.fresh().simple())
}

/// The mails that reached this address.
fn arrived(address: &str) -> Vec<Letter> {
    let read = |path: &Path| Letter::read(&std::fs::read_to_string(path).unwrap());
    let entries = std::fs::read_dir(folder().join("mailbox/new")).unwrap();
    entries.map(|entry| read(&entry.unwrap().path())).filter(|mail| mail.to.contains(address)).collect()
}

async fn told(address: &str, options: NotifyOptions) -> Site {
    let site = Box::pin(Site::new(terms("notify_organization_owners"), options)).await;
    let ids = site.app.directory.address_ids(&[address.to_owned()], site.now()).await.unwrap();
    let mut facts = policy_facts("main", terms("notify_external_user"));
    facts.external_recipients = ids.into_iter().collect();
    site.put_policy(facts).await;
    site.report("climate", "810").await;
    Box::pin(site.pass(60)).await;
    site
}

#[tokio::test]
#[ignore = "needs the mail server of a full run"]
async fn mail_goes_through_a_real_server_with_and_without_encryption_and_authentication() {
    for (kind, tls, credentials) in [
        ("plain", SmtpTls::None, None),
        ("plain", SmtpTls::Opportunistic, None),
        ("starttls", SmtpTls::Required, Some(("sluice", "correct horse"))),
        ("starttls", SmtpTls::Opportunistic, Some(("sluice", "correct horse"))),
        ("implicit", SmtpTls::Implicit, None),
    ] {
        let address = nobody_elses(&format!("{kind}-{tls:?}").to_lowercase());
        let site = told(&address, options(kind, tls, credentials)).await;
        let sent = site.outcomes().await.remove(0).unwrap_or_else(|failed| panic!("{address}: {failed:?}"));
        let mails = arrived(&address);
        assert_eq!(mails.len(), 1, "{address}");
        assert_eq!(mails[0].message_id, format!("<{}@site.example>", sent.notice.notice));
        assert!(mails[0].raw.contains("810 of 1000"), "{}", mails[0].raw);
    }
}

#[tokio::test]
#[ignore = "needs the mail server of a full run"]
async fn nothing_is_sent_where_the_server_is_not_what_was_asked_for() {
    for (name, kind, tls, credentials) in [
        ("no-starttls", "plain", SmtpTls::Required, None),
        ("wrong-password", "starttls", SmtpTls::Required, Some(("sluice", "wrong"))),
        ("no-password", "starttls", SmtpTls::Required, None),
    ] {
        let address = nobody_elses(name);
        let site = told(&address, options(kind, tls, credentials)).await;
        assert!(site.outcomes().await.is_empty(), "{name}: it may work once the site has put it right");
        assert!(arrived(&address).is_empty(), "{name}");
    }
    let mut unknown = options("implicit", SmtpTls::Implicit, None);
    if let MailTransportOptions::Smtp(smtp) = &mut unknown.mail.transport {
        smtp.ca_file = None;
    }
    let address = nobody_elses("unknown-ca");
    let site = told(&address, unknown).await;
    assert!(site.outcomes().await.is_empty() && arrived(&address).is_empty());
}
