//! To whom notices go, and what happens when there is nobody behind an id any more.

use sluice::notify::{MailTransportOptions, NotifyOptions};
use sluice::notify::{NoticeFilter, NoticeState};

use super::support::{Site, impatient, user};
use crate::support::world::{policy_facts, terms};

fn recipients(site: &Site) -> Vec<String> {
    site.mails().into_iter().map(|mail| mail.to).collect()
}

#[tokio::test]
async fn owners_of_the_resources_customer_are_told_and_nobody_else() {
    let site = Site::new(terms("notify_organization_owners"), NotifyOptions::default()).await;
    site.put_user("carol").await;
    site.put_customer("uni-a", &["alice", "carol"]).await;
    site.report("climate", "810").await;
    site.pass(60).await;
    let told = recipients(&site);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("<alice@uni-a.example>") && told[1].contains("<carol@uni-a.example>"), "{told:?}");
}

#[tokio::test]
async fn external_recipients_are_told_where_the_policy_says_so() {
    let site = Site::new(terms("notify_organization_owners"), NotifyOptions::default()).await;
    let ids = site.app.directory.address_ids(&["pi@elsewhere.example".into()], site.now()).await.unwrap();
    let mut facts = policy_facts("main", terms("notify_external_user"));
    facts.external_recipients = ids.iter().copied().collect();
    site.put_policy(facts).await;
    site.report("climate", "810").await;
    site.pass(60).await;
    assert_eq!(recipients(&site), ["pi@elsewhere.example"]);
    let sent = site.outcomes().await.remove(0).unwrap();
    assert_eq!(sent.notice.recipients, ids);
}

#[tokio::test]
async fn a_policy_without_a_notifying_action_tells_nobody() {
    let site = Site::new(terms("request_downscaling"), NotifyOptions::default()).await;
    site.report("climate", "1000").await;
    site.pass(60).await;
    assert!(site.mails().is_empty() && site.outcomes().await.is_empty());
}

#[tokio::test]
async fn an_erased_recipient_is_recorded_as_undeliverable_and_not_tried_again() {
    let site = Site::new(terms("notify_organization_owners"), impatient()).await;
    site.report("climate", "810").await;
    site.app.directory.erase(&sluice::directory::Subject::Id(user("alice")), site.now()).await.unwrap();
    site.pass(60).await;
    site.pass(600).await;
    let outcomes = site.outcomes().await;
    let [Err(failed)] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!(failed.notice.attempt, 1);
    assert!(failed.error.starts_with("undeliverable"), "{}", failed.error);
    assert!(site.mails().is_empty());
}

#[tokio::test]
async fn who_is_no_longer_an_owner_is_not_told() {
    let site = Site::new(terms("notify_organization_owners"), NotifyOptions::default()).await;
    site.report("climate", "810").await;
    site.put_customer("uni-a", &["bob"]).await;
    site.pass(60).await;
    let outcomes = site.outcomes().await;
    let [Err(failed)] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!(failed.error, "undeliverable: no longer an owner");
}

#[tokio::test]
async fn without_mail_nobody_is_owed_one() {
    let mut options = NotifyOptions::default();
    options.mail.transport = MailTransportOptions::None;
    let site = Site::new(terms("notify_organization_owners"), options).await;
    site.report("climate", "810").await;
    site.pass(60).await;
    let owed = NoticeFilter { state: Some(NoticeState::Owed), resource: None, limit: 10, offset: 0 };
    assert!(site.app.notifier.list(&owed).await.unwrap().is_empty() && site.outcomes().await.is_empty());
}
