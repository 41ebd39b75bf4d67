//! Tokens: made, shown once, checked, expired, revoked.

use sluice::directory::{DirectoryError, NewToken, Role, Subject};
use sluice::domain::ids::{OfferingId, slug_uuid};

use super::{Fixture, at, details, user_id};

const NOW: &str = "2026-03-01T00:00:00Z";
const KEY: &str = "0123456789abcdef0123456789abcdef01234567";

fn staff() -> NewToken {
    NewToken { user: user_id("root"), role: Role::Staff, offering: None, label: None, expires_at: None, key: None }
}

#[tokio::test]
async fn a_made_key_opens_and_only_its_hash_is_kept() {
    let fixture = Fixture::new().await;
    fixture.directory.put_user(&details("root"), at(NOW)).await.expect("made");
    let (id, key) = fixture.directory.create_token(staff(), at(NOW)).await.expect("made");
    assert!(key.len() == 40 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{} characters", key.len());

    let principal = fixture.directory.authenticate(&key, at(NOW)).await.expect("read").expect("known");
    assert_eq!((principal.token, principal.username.as_str(), principal.role), (id, "root", Role::Staff));
    assert_eq!(fixture.directory.authenticate(&key.to_uppercase(), at(NOW)).await.expect("read"), None);
    let bytes = fixture.bytes().await;
    assert!(bytes.windows(4).any(|some| some == b"root"), "the files hold what was written");
    assert!(!bytes.windows(40).any(|some| some == key.as_bytes()), "the key stands in the file");
}

#[tokio::test]
async fn expired_and_revoked_tokens_open_nothing_and_stay_listed() {
    let fixture = Fixture::new().await;
    let end = at("2026-03-02T00:00:00Z");
    let expiring = NewToken { expires_at: Some(end), ..staff() };
    let (_, key) = fixture.directory.create_token(expiring, at(NOW)).await.expect("made");
    assert!(fixture.directory.authenticate(&key, at("2026-03-01T23:59:59Z")).await.expect("read").is_some());
    assert!(fixture.directory.authenticate(&key, end).await.expect("read").is_none());

    let (id, key) = fixture.directory.create_token(staff(), end).await.expect("made");
    assert!(fixture.directory.revoke_token(id, end).await.expect("revoked"));
    assert!(!fixture.directory.revoke_token(id, end).await.expect("once is enough"));
    assert!(fixture.directory.authenticate(&key, end).await.expect("read").is_none());

    let listed = fixture.directory.tokens().await.expect("read");
    assert_eq!(listed.iter().map(|token| token.is_active(end)).collect::<Vec<_>>(), [false, false]);
    assert_eq!(listed[1].revoked_at, Some(end));
}

#[tokio::test]
async fn a_key_brought_along_must_be_long_plain_and_new() {
    let fixture = Fixture::new().await;
    let with = |key: &str| NewToken { key: Some(key.to_owned()), ..staff() };
    for unusable in ["secret", "with blanks in it, and long", &"x".repeat(201)] {
        let error = fixture.directory.create_token(with(unusable), at(NOW)).await.expect_err(unusable);
        assert!(matches!(error, DirectoryError::KeyUnusable(_)), "{error}");
        assert!(!error.to_string().contains(unusable));
    }
    let (_, key) = fixture.directory.create_token(with(KEY), at(NOW)).await.expect("made");
    assert_eq!(key, KEY);
    let error = fixture.directory.create_token(with(KEY), at(NOW)).await.expect_err("twice");
    assert!(matches!(error, DirectoryError::KeyInUse));
    assert!(!format!("{:?}", with(KEY)).contains(KEY));
}

#[tokio::test]
async fn an_agent_has_an_offering_and_nobody_else_has() {
    let fixture = Fixture::new().await;
    let offering: OfferingId = slug_uuid("offering", "hpc1").into();
    for (role, offering) in [(Role::Agent, None), (Role::Staff, Some(offering))] {
        let error =
            fixture.directory.create_token(NewToken { role, offering, ..staff() }, at(NOW)).await.expect_err("refused");
        assert!(matches!(error, DirectoryError::OfferingMismatch));
    }
    let agent = NewToken { role: Role::Agent, offering: Some(offering), ..staff() };
    let (_, key) = fixture.directory.create_token(agent, at(NOW)).await.expect("made");
    let principal = fixture.directory.authenticate(&key, at(NOW)).await.expect("read").expect("known");
    assert_eq!((principal.role, principal.offering), (Role::Agent, Some(offering)));
}

#[tokio::test]
async fn erasing_a_user_revokes_the_tokens() {
    let fixture = Fixture::new().await;
    fixture.directory.put_user(&details("root"), at(NOW)).await.expect("made");
    let labelled = NewToken { label: Some("root's laptop".to_owned()), ..staff() };
    let (_, key) = fixture.directory.create_token(labelled, at(NOW)).await.expect("made");
    let erased = fixture.directory.erase(&Subject::Id(user_id("root")), at(NOW)).await.expect("erased");
    assert_eq!(erased.tokens_revoked, 1);
    assert!(fixture.directory.authenticate(&key, at(NOW)).await.expect("read").is_none());
    let left = &fixture.directory.tokens().await.expect("read")[0];
    assert_eq!((left.username.as_str(), &left.label), ("", &None));
}
