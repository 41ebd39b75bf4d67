//! `sluice users` and `sluice notices`.

use serde_json::{Value, json};

use super::{Fixture, KEY, Serving};

#[test]
fn users_are_listed_and_erased() {
    let fixture = Fixture::with_site();
    let table = fixture.run(&["users", "list"]);
    assert!(table.contains("alice@uni-a.example") && table.contains("Bert Brown"), "{table}");
    fixture
        .command(&["token", "create", "--user", "bert", "--role", "owner", "--key-env", "KEY"])
        .env("KEY", KEY)
        .assert()
        .success();
    let erased = fixture.json(&["users", "erase", "--email", "BERT@uni-b.example"]);
    assert_eq!((erased["erased"].as_array().unwrap().len(), &erased["tokens_revoked"]), (1, &json!(1)));
    let names: Vec<Value> =
        fixture.json(&["users", "list"]).as_array().unwrap().iter().map(|user| user["username"].clone()).collect();
    assert_eq!(names, ["alice"]);
    let (status, stderr) = fixture.fails(&["users", "erase", "--username", "bert"]);
    assert_eq!((status, stderr.as_str()), (1, "error: there is nobody of this description in the directory\n"));
    for arguments in [vec!["users", "erase"], vec!["users", "erase", "--username", "a", "--email", "b"]] {
        assert_eq!(fixture.fails(&arguments).0, 2, "{arguments:?}");
    }
}

#[tokio::test]
async fn notices_that_were_given_up_are_listed_and_sent_again() {
    let fixture = Fixture::with_site();
    fixture
        .command(&["token", "create", "--user", "root", "--role", "staff", "--key-env", "KEY"])
        .env("KEY", KEY)
        .assert()
        .success();
    assert_eq!(fixture.run(&["notices", "list"]), "there are no such notices\n");
    let folder = fixture.folder.path().join("mail");
    std::fs::write(&folder, "no folder").unwrap();
    let impatient = [("SLUICE_NOTICES__ATTEMPTS_MAX", "1"), ("SLUICE_NOTICES__DIGEST_SECONDS", "0")];
    let server = Serving::start(&fixture, &impatient);
    let resource =
        fixture.json(&["explain", "--resource", "climate-hpc1"])["resource"]["resource"].as_str().unwrap().to_owned();
    let holds = format!("{}/api/marketplace-provider-resources/{resource}/holds/", server.url);
    let pause = json!({"kind": "pause", "reason": "an inspection"});
    let answer = reqwest::Client::new().post(holds).header("authorization", format!("Token {KEY}")).json(&pause).send();
    assert_eq!(answer.await.unwrap().status(), 201);
    server.logs("a notice is settled").await;
    let until = async |state: &str| loop {
        let listed = fixture.json(&["notices", "list", "--state", state]);
        if listed["count"] != 0 {
            break listed["notices"][0].clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let failed = until("failed").await;
    assert_eq!((&failed["template"], &failed["attempts"]), (&json!("paused"), &json!(1)));
    let table = fixture.run(&["notices", "list", "--resource", "climate-hpc1"]);
    assert!(
        table.contains("climate-hpc1  alice  mail") && table.contains("the mail folder cannot be written"),
        "{table}"
    );
    std::fs::remove_file(&folder).unwrap();
    let resent = fixture.run(&["notices", "resend", failed["notice"].as_str().unwrap()]);
    assert_eq!(resent, "1 notice owed again; the server sends them now\n");
    assert_eq!(until("sent").await["notice"], failed["notice"]);
    let (status, stderr) = fixture.fails(&["notices", "resend", failed["notice"].as_str().unwrap()]);
    assert_eq!(status, 1, "{stderr}");
    assert_eq!(fixture.run(&["notices", "resend", "--all"]), "nothing was given up\n");
    assert_eq!(fixture.fails(&["notices", "list", "--state", "lost"]).0, 2);
    server.stop();
}
