//! What becomes of a delivery: servers that refuse, stall or hang up; restarts; tables that are gone; dead letters.

use std::time::Duration;

use sluice::notify::{MailTransportOptions, NoticeFilter, NoticeState, NotifyOptions, SmtpOptions, SmtpTls};
use sluice::store::sql::SqlValue;
use tokio_util::sync::CancellationToken;

use super::smtp::{Fixture, Manner};
use super::support::{Site, impatient};
use crate::support::world::terms;

pub fn through(fixture: &Fixture) -> NotifyOptions {
    let mut options = impatient();
    options.mail.transport = MailTransportOptions::Smtp(SmtpOptions {
        host: "127.0.0.1".into(),
        port: Some(fixture.address.port()),
        tls: SmtpTls::None,
        ca_file: None,
        credentials: None,
        timeout: Duration::from_millis(200),
    });
    options
}

/// A site with one mail that is due, and a server of this manner.
async fn owing(manner: Manner) -> (Site, Fixture) {
    let fixture = Fixture::new(manner).await;
    let site = Box::pin(Site::new(terms("notify_organization_owners"), through(&fixture))).await;
    site.report("climate", "810").await;
    let clock = site.now() + chrono::Duration::seconds(60);
    Box::pin(site.app.advance_clock(clock)).await.unwrap();
    (site, fixture)
}

async fn rows(site: &Site, state: NoticeState) -> Vec<sluice::notify::NoticeRow> {
    site.app.notifier.list(&NoticeFilter { state: Some(state), resource: None, limit: 100, offset: 0 }).await.unwrap()
}

#[tokio::test]
async fn a_server_takes_a_mail_over_smtp() {
    let (site, fixture) = owing(Manner::Takes).await;
    let taken = fixture.taken();
    assert_eq!(taken.len(), 1);
    let sent = site.outcomes().await.remove(0).unwrap();
    assert_eq!(taken[0].message_id, format!("<{}@localhost>", sent.notice.notice));
    assert!(taken[0].raw.contains("Auto-Submitted: auto-generated") && !taken[0].raw.contains("List-Unsubscribe"));
    assert!(taken[0].raw.contains("text/plain") && taken[0].raw.contains("text/html"));
}

#[tokio::test]
async fn a_refused_recipient_is_given_up_at_once_and_the_log_has_no_address() {
    let (site, _fixture) = owing(Manner::RefusesRecipient("550 5.1.1 <alice@uni-a.example>: no such user here")).await;
    let outcomes = site.outcomes().await;
    let [Err(failed)] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!(failed.notice.attempt, 1);
    assert!(failed.error.contains("no such user") && !failed.error.contains("alice"), "{}", failed.error);
}

#[tokio::test]
async fn a_server_that_fails_for_now_is_asked_again_until_it_takes_the_mail() {
    for manner in [
        Manner::RefusesRecipient("451 4.7.1 greylisted"),
        Manner::Stalls,
        Manner::Drops,
        Manner::TakesAndHangsUp,
        Manner::RefusesRecipient("530 5.7.0 authentication required"),
    ] {
        let (site, fixture) = owing(manner).await;
        assert!(site.outcomes().await.is_empty(), "{manner:?}");
        let waiting = rows(&site, NoticeState::Owed).await;
        assert_eq!(waiting.len(), 1, "{manner:?}");
        assert!(waiting[0].attempts >= 1 && waiting[0].error.is_some(), "{manner:?}: {waiting:?}");
        let before: Vec<String> = fixture.taken().into_iter().map(|mail| mail.message_id).collect();
        fixture.set(Manner::Takes);
        site.app.settle().await.unwrap();
        let taken = fixture.taken();
        let sent = site.outcomes().await.remove(0).unwrap();
        assert!(before.iter().all(|id| *id == taken.last().unwrap().message_id), "a repeat has the same id");
        assert_eq!(sent.notice.attempt, waiting[0].attempts + 1, "{manner:?}");
        assert!(rows(&site, NoticeState::Owed).await.is_empty());
    }
}

#[tokio::test]
async fn after_the_last_attempt_it_is_a_dead_letter_that_can_be_sent_again() {
    let (site, fixture) = owing(Manner::Drops).await;
    for _ in 0..5 {
        site.app.settle().await.unwrap();
    }
    let outcomes = site.outcomes().await;
    let [Err(failed)] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!(failed.notice.attempt, 3);
    assert!(failed.error.starts_with("given up after 3 attempts"), "{}", failed.error);
    let connections = fixture.connections();
    site.app.settle().await.unwrap();
    assert_eq!(fixture.connections(), connections, "nobody asks any more");

    let dead = rows(&site, NoticeState::Failed).await;
    assert_eq!(dead.len(), 1);
    fixture.set(Manner::Takes);
    assert_eq!(site.resend(dead[0].notice).await, 1);
    site.app.settle().await.unwrap();
    assert_eq!(fixture.taken().len(), 1);
    assert_eq!(rows(&site, NoticeState::Sent).await.len(), 1);
    assert!(site.outcomes().await[1].is_ok());
    assert_eq!(site.resend(None).await, 0, "what was sent is not sent again");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_asked_once_and_not_once_per_mail() {
    let fixture = Fixture::new(Manner::Stalls).await;
    let site = Site::new(terms("notify_organization_owners"), through(&fixture)).await;
    site.put_user("carol").await;
    site.put_customer("uni-a", &["alice", "bob", "carol"]).await;
    site.report("climate", "810").await;
    site.pass(60).await;
    assert_eq!(rows(&site, NoticeState::Owed).await.len(), 3);
    let attempts: u32 = rows(&site, NoticeState::Owed).await.iter().map(|row| row.attempts).sum();
    let connections = fixture.connections();
    assert_eq!(u32::try_from(connections).unwrap(), attempts);
    site.app.notifier.work(&CancellationToken::new()).await.unwrap();
    assert_eq!(fixture.connections(), connections + 1);
}

#[tokio::test]
async fn a_crash_between_delivery_and_record_sends_again_with_the_same_id_and_records_once() {
    let fixture = Fixture::new(Manner::TakesAndStalls).await;
    let mut options = through(&fixture);
    if let MailTransportOptions::Smtp(smtp) = &mut options.mail.transport {
        smtp.timeout = Duration::from_mins(1);
    }
    let mut site = Site::new(terms("notify_organization_owners"), options).await;
    site.report("climate", "810").await;
    let to = site.now() + chrono::Duration::seconds(60);
    let app = std::sync::Arc::clone(&site.app);
    tokio::select! {
        _ = app.advance_clock(to) => panic!("the server never said that it took the mail"),
        () = fixture.has_taken(1) => {}
    }
    drop(app);
    fixture.set(Manner::Takes);
    site.restart(through(&fixture)).await;
    for _ in 0..3 {
        site.app.settle().await.unwrap();
    }
    let taken = fixture.taken();
    assert_eq!(taken.len(), 2);
    assert_eq!(taken[0], taken[1], "the very same mail");
    let outcomes = site.outcomes().await;
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    assert_eq!(outcomes[0].as_ref().unwrap().notice.attempt, 2);
}

#[tokio::test]
async fn tables_made_anew_from_the_log_send_nothing_again() {
    let mut site = Site::new(terms("notify_organization_owners"), NotifyOptions::default()).await;
    site.report("climate", "810").await;
    site.pass(60).await;
    site.report("ocean", "810").await;
    assert_eq!(site.mails().len(), 1);
    site.app.read.close().await;
    crate::support::database::drop_read_models(&site.options.database).await;
    std::fs::remove_dir_all(site.mail_folder()).unwrap();
    site.restart(NotifyOptions::default()).await;
    site.app.settle().await.unwrap();
    assert!(site.mails().is_empty(), "what was sent is known from the log");
    site.pass(60).await;
    assert_eq!(site.mails().len(), 1, "and what was owed is still owed");
    assert_eq!(site.outcomes().await.len(), 2);
}

#[tokio::test]
async fn an_event_that_comes_again_owes_nothing_new() {
    let site = Site::new(terms("notify_organization_owners"), NotifyOptions::default()).await;
    site.report("climate", "810").await;
    let before = rows(&site, NoticeState::Owed).await;
    assert_eq!(before.len(), 1);
    let mut tx = site.app.read.begin().await.unwrap();
    let back = "UPDATE consumers SET position_hi = 0, position_lo = 0, epoch = epoch + 1 WHERE name = $1";
    tx.execute(back, &[SqlValue::Static(sluice::notify::CONSUMER)]).await.unwrap();
    tx.commit().await.unwrap();
    site.report("ocean", "10").await;
    assert_eq!(rows(&site, NoticeState::Owed).await, before);
}

#[tokio::test]
async fn what_is_no_news_any_more_is_not_sent() {
    let (mut site, fixture) = {
        let fixture = Fixture::new(Manner::Takes).await;
        let options = NotifyOptions { delivers: false, ..through(&fixture) };
        (Site::new(terms("notify_organization_owners"), options).await, fixture)
    };
    site.report("climate", "810").await;
    site.pass(60 * 60 * 24 * 4).await;
    assert_eq!(fixture.connections(), 0, "a process that does not deliver leaves it to the one that does");
    site.restart(through(&fixture)).await;
    site.app.settle().await.unwrap();
    let outcomes = site.outcomes().await;
    let [Err(failed)] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert!(failed.error.contains("older than 72 hours"), "{}", failed.error);
    assert_eq!(fixture.connections(), 0);
    let dead = rows(&site, NoticeState::Failed).await;
    assert_eq!(site.resend(dead[0].notice).await, 1);
    site.app.settle().await.unwrap();
    assert_eq!(fixture.taken().len(), 1, "an operator may want it all the same");
}
