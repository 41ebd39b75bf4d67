//! Users and addresses.

use sluice::directory::{DirectoryError, Subject, UserDetails};

use super::{Fixture, at, details, user_id};

const NOW: &str = "2026-03-01T00:00:00Z";
const LATER: &str = "2026-03-02T00:00:00Z";

#[tokio::test]
async fn an_entry_is_made_once_and_changed_when_it_differs() {
    let fixture = Fixture::new().await;
    let alice = details("alice");
    assert!(fixture.directory.put_user(&alice, at(NOW)).await.expect("made"));
    assert!(!fixture.directory.put_user(&alice, at(LATER)).await.expect("the same"));
    let named = UserDetails { full_name: "Alice A".to_owned(), ..alice };
    assert!(fixture.directory.put_user(&named, at(LATER)).await.expect("changed"));

    let fixture = fixture.restart().await;
    let known = fixture.directory.user_by_username("alice").await.expect("read").expect("known");
    assert_eq!((known.id, known.full_name.as_str()), (user_id("alice"), "Alice A"));
    assert_eq!((known.created, known.modified), (at(NOW), at(LATER)));
}

#[tokio::test]
async fn a_name_belongs_to_one_user() {
    let fixture = Fixture::new().await;
    fixture.directory.put_user(&details("alice"), at(NOW)).await.expect("made");
    let other = UserDetails { id: user_id("impostor"), ..details("alice") };
    let error = fixture.directory.put_user(&other, at(NOW)).await.expect_err("taken");
    assert!(matches!(error, DirectoryError::UsernameTaken(name) if name == "alice"));
}

#[tokio::test]
async fn users_are_found_by_many_ids_and_unknown_ones_are_left_out() {
    let fixture = Fixture::new().await;
    for name in ["alice", "bob", "carol"] {
        fixture.directory.put_user(&details(name), at(NOW)).await.expect("made");
    }
    let found = fixture.directory.users(&[user_id("carol"), user_id("nobody"), user_id("alice")]).await.expect("read");
    let mut names: Vec<_> = found.values().map(|user| user.username.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["alice", "carol"]);
    assert!(fixture.directory.users(&[]).await.expect("read").is_empty());
}

#[tokio::test]
async fn an_address_keeps_its_id_which_does_not_tell_the_address() {
    let fixture = Fixture::new().await;
    let emails = ["ops@example.org".to_owned(), "billing@example.org".to_owned()];
    let ids = fixture.directory.address_ids(&emails, at(NOW)).await.expect("made");
    let again = ["Billing@Example.org".to_owned(), "ops@example.org".to_owned()];
    let same = fixture.directory.address_ids(&again, at(LATER)).await.expect("found");
    assert_eq!(same, [ids[1], ids[0]]);
    assert_eq!(fixture.directory.addresses(&[ids[1], ids[0]]).await.expect("read"), [&emails[1][..], &emails[0][..]]);

    let elsewhere = Fixture::new().await.directory.address_ids(&emails, at(NOW)).await.expect("made");
    assert_ne!(elsewhere, ids);
}

#[tokio::test]
async fn erasing_leaves_an_id_that_stands_for_nobody() {
    let fixture = Fixture::new().await;
    fixture.directory.put_user(&details("alice"), at(NOW)).await.expect("made");
    let ids = fixture.directory.address_ids(&["ops@example.org".to_owned()], at(NOW)).await.expect("made");
    let erase = async |id| fixture.directory.erase(&Subject::Id(id), at(LATER)).await.expect("read").entries;
    assert_eq!(erase(user_id("alice")).await, [user_id("alice")]);
    assert_eq!(erase(ids[0]).await, [ids[0]]);
    assert_eq!(erase(ids[0]).await, []);
    assert_eq!(fixture.directory.user(user_id("alice")).await.expect("read"), None);
    assert!(fixture.directory.addresses(&[user_id("alice"), ids[0]]).await.expect("read").is_empty());
}

#[tokio::test]
async fn a_person_is_erased_with_the_addresses_that_are_theirs_and_nobody_else() {
    let fixture = Fixture::new().await;
    let directory = &fixture.directory;
    for (name, email) in
        [("alice", "shared@uni-a.example"), ("bob", "Shared@uni-a.example"), ("carol", "carol@x.example")]
    {
        let user = UserDetails { email: Some(email.to_owned()), ..details(name) };
        directory.put_user(&user, at(NOW)).await.expect("made");
    }
    let emails = ["SHARED@uni-a.example", "carol@x.example"].map(str::to_owned);
    let ids = directory.address_ids(&emails, at(NOW)).await.expect("made");
    let by_name = Subject::Username("alice".to_owned());
    let mut erased = directory.erase(&by_name, at(LATER)).await.expect("erased").entries;
    erased.sort_unstable();
    let mut expected = [user_id("alice"), ids[0]];
    expected.sort_unstable();
    assert_eq!(erased, expected, "the address in policies is hers too; bob, who shares the mailbox, stays");
    let by_email = Subject::Email("shared@UNI-A.example".to_owned());
    assert_eq!(directory.erase(&by_email, at(LATER)).await.expect("erased").entries, [user_id("bob")]);
    assert_eq!(directory.all_users().await.expect("read").len(), 1);
    assert_eq!(directory.addresses(&ids).await.expect("read"), ["carol@x.example"]);
}
