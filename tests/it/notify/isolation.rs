//! One bad message stops one message: names that the log or the directory has from before names had a rule, rows that
//! cannot be read, servers that take nothing but ASCII.

use sluice::directory::UserDetails;
use sluice::http::{ApiState, router};
use sluice::notify::NotifyOptions;
use sluice::serve::Server;
use sluice::store::sql::SqlValue;
use sluice::supervise::Concern;
use tokio_util::sync::CancellationToken;

use super::delivery::through;
use super::smtp::{Fixture, Manner};
use super::support::{Site, impatient, user};
use crate::support::world::terms;

const NASTY: &str = "Ann A\n(deputy)\r\nBcc: victim@elsewhere.example\u{1b}[2J\u{202e}";

/// Options that try a server again and again.
fn patient(server: &Fixture) -> NotifyOptions {
    let mut options = through(server);
    options.retry.attempts_max = 1_000;
    options
}

async fn named(site: &Site, name: &str, email: &str, full_name: &str) {
    let details = UserDetails {
        id: user(name),
        username: name.to_owned(),
        email: Some(email.to_owned()),
        full_name: full_name.to_owned(),
    };
    site.app.directory.put_user(&details, site.now()).await.unwrap();
}

/// `climate` has a second owner, bea, who is told of the same.
async fn two_owners(notify: NotifyOptions) -> Site {
    let site = Box::pin(Site::new(terms("notify_organization_owners"), notify)).await;
    site.put_user("bea").await;
    site.put_customer("uni-a", &["alice", "bea"]).await;
    site
}

#[tokio::test]
async fn a_name_with_line_breaks_goes_into_one_line_of_one_mail() {
    let site = two_owners(impatient()).await;
    named(&site, "alice", "alice@uni-a.example", NASTY).await;
    site.report("climate", "810").await;
    Box::pin(site.pass(60)).await;
    let mails = site.mails();
    assert_eq!(mails.len(), 2, "{mails:?}");
    for mail in &mails {
        let head = mail.raw.split("\r\n\r\n").next().unwrap();
        assert!(!head.contains("\nBcc:"), "{head}");
        assert!(!mail.raw.contains('\u{1b}') && !mail.raw.contains('\u{202e}'), "{}", mail.raw);
    }
    assert!(mails.iter().any(|mail| mail.raw.contains("alice@uni-a.example")));
}

#[tokio::test]
async fn a_row_that_cannot_be_read_keeps_no_other_back_and_no_server_from_starting() {
    let mut site = two_owners(impatient()).await;
    site.report("climate", "810").await;
    let mut tx = site.app.read.begin().await.unwrap();
    let spoil = "UPDATE notices SET thresholds = 'nonsense' WHERE recipient = $1";
    assert_eq!(tx.execute(spoil, &[SqlValue::Uuid(user("alice").as_uuid())]).await.unwrap(), 1);
    tx.commit().await.unwrap();
    Box::pin(site.pass(60)).await;
    let to: Vec<String> = site.mails().into_iter().map(|mail| mail.to).collect();
    assert!(to.len() == 1 && to[0].contains("bea@"), "{to:?}");

    site.restart(impatient()).await;
    let server = Server::start(site.app.clone(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (address, stop) = (server.address(), CancellationToken::new());
    let (service, signal) = (router(ApiState::new(site.app.clone())), stop.clone());
    let running = tokio::spawn(async move { server.run(service, signal).await.unwrap() });
    let ready = reqwest::get(format!("http://{address}/health/ready")).await.unwrap();
    assert_eq!(ready.status(), 200);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_server_that_knows_ascii_only_gets_an_encoded_domain() {
    let server = Fixture::new(Manner::Takes).await;
    let site = Box::pin(Site::new(terms("notify_organization_owners"), patient(&server))).await;
    named(&site, "alice", "x@münchen.example", "Ann Müller").await;
    site.report("climate", "810").await;
    Box::pin(site.pass(60)).await;
    let mails = server.taken();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].to.contains("<x@xn--mnchen-3ya.example>"), "{}", mails[0].to);
    assert_eq!(site.outcomes().await.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}

#[tokio::test]
async fn a_mail_server_that_hangs_up_degrades_the_service_and_no_more() {
    let server = Fixture::new(Manner::Stalls).await;
    let site = Box::pin(Site::new(terms("notify_organization_owners"), patient(&server))).await;
    site.report("climate", "810").await;
    Box::pin(site.pass(60)).await;
    let worker = site.app.workers.get("notices", Concern::Delivery);
    let stop = CancellationToken::new();
    let run = site.app.notifier.run(stop.clone(), &worker);
    let seen = async {
        while !worker.standing().stalled() {
            tokio::task::yield_now().await;
        }
        server.set(Manner::Takes);
        while worker.standing().stalled() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    tokio::join!(run, seen);
    assert_eq!(server.taken().len(), 1);
}
