//! `sluice audit`, as an operator and an auditor meet it.

use serde_json::Value;

use super::Fixture;
use crate::execute::soundness::spoil;
use crate::support::database::database;

/// Status and everything that was printed.
fn on(fixture: &Fixture, arguments: &[&str]) -> (i32, String) {
    let mut command = fixture.command(&[&["audit"], arguments].concat());
    let key = fixture.folder.path().join("notary.key");
    if key.exists() {
        command.env("SLUICE_NOTARY__KEY_FILE", key);
        command.env("SLUICE_NOTARY__FILE", fixture.folder.path().join("checkpoints.ndjson"));
    }
    let done = command.output().unwrap();
    (done.status.code().unwrap(), String::from_utf8([done.stdout, done.stderr].concat()).unwrap())
}

fn json(fixture: &Fixture, arguments: &[&str]) -> Value {
    let (_, said) = on(fixture, &[arguments, &["--format", "json"]].concat());
    // What stands on standard error comes after the document.
    let first = serde_json::Deserializer::from_str(&said).into_iter::<Value>().next();
    first.and_then(Result::ok).unwrap_or_else(|| panic!("{said}"))
}

#[tokio::test]
async fn a_log_is_signed_verified_proved_and_handed_over() {
    let fixture = Fixture::with_site();
    let path = |name: &str| fixture.folder.path().join(name).to_str().unwrap().to_owned();
    let (status, said) = on(&fixture, &["checkpoint"]);
    assert!(status == 2 && said.contains("there is no key to sign with"), "{said}");
    let (status, said) = on(&fixture, &["verify"]);
    assert!(status == 2 && said.contains("--key names the public key"), "{said}");
    let (status, said) = on(&fixture, &["keygen", "--name", "sluice.test/log", "--out", &path("notary.key")]);
    assert!(status == 0 && said.contains("sluice.test/log+"), "{said}");
    let (status, said) = on(&fixture, &["keygen", "--name", "sluice.test/log", "--out", &path("notary.key")]);
    assert!(status == 1 && said.contains("already"), "{said}");

    let first = json(&fixture, &["checkpoint"]);
    let size = first["size"].as_u64().unwrap();
    assert!(size > 5 && first["note"].as_str().unwrap().starts_with("sluice.test/log\n"), "{first}");
    let (status, said) = on(&fixture, &["checkpoint"]);
    assert!(status == 0 && said.contains(&format!("signed: the first {} events", size + 1)), "{said}");
    let verdict =
        json(&fixture, &["verify", "--key", &path("notary.key.pub"), "--checkpoints", &path("checkpoints.ndjson")]);
    assert!(verdict["sound"] == true && verdict["checkpoints"] == 4, "two are kept, and two in the file: {verdict}");

    let proof = json(&fixture, &["prove", "--position", "3"]);
    assert!(proof["index"] == 2 && proof["size"] == size + 1 && !proof["checkpoint"].is_null(), "{proof}");
    let proof = json(&fixture, &["prove", "--from", &size.to_string()]);
    assert!(proof["earlier"] == first["note"] && !proof["hashes"].as_array().unwrap().is_empty(), "{proof}");
    let (status, said) = on(&fixture, &["prove", "--position", "99999"]);
    assert!(status == 2 && said.contains("holds no event at position 99999 yet"), "{said}");

    vouched(&fixture, &path, size + 1);
    on(&fixture, &["keygen", "--name", "sluice.test/log", "--out", &path("next.key")]);
    let (status, said) = on(&fixture, &["rotate", "--to", &path("next.key")]);
    assert!(status == 0 && said.contains("hands over to"), "{said}");
    let verdict = json(&fixture, &["verify", "--key", &path("next.key.pub")]);
    assert!(verdict["sound"] == true && verdict["keys"].as_array().unwrap().len() == 2, "{verdict}");

    let change = "UPDATE events SET reason = 'another' WHERE position = 3";
    spoil(&database(&fixture.folder.path().join("sluice.db")), change, change).await;
    let (status, said) = on(&fixture, &["verify"]);
    assert!(status == 1 && said.contains("event_changed at position 3"), "{said}");
    let verdict = json(&fixture, &["verify"]);
    let finding = &verdict["findings"][0];
    assert!(finding["kind"] == "event_changed" && finding["index"] == 2 && finding["position"] == "3", "{verdict}");
}

/// A second machine vouches: it remembers what it saw, and signs what goes on from there.
fn vouched(fixture: &Fixture, path: &impl Fn(&str) -> String, size: u64) {
    on(fixture, &["keygen", "--name", "witness.test/w", "--out", &path("witness.key")]);
    let (key, log, state) = (path("witness.key"), path("notary.key.pub"), path("seen.json"));
    let ask = |old: u64| {
        let request = json(fixture, &["request", "--old", &old.to_string()]);
        fixture.file("request.txt", request["request"].as_str().unwrap())
    };
    let witness = |request: &str, how: &[&str]| {
        let arguments = ["witness", "--key", &key, "--log-key", &log, "--state", &state, request];
        on(fixture, &[&arguments[..], how].concat())
    };
    let (status, said) = witness(&ask(0), &["--format", "json"]);
    assert_eq!(status, 0, "{said}");
    let signed: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(signed["size"], size);
    let cosignature = fixture.file("cosignature.txt", signed["cosignature"].as_str().unwrap());
    let (status, said) = on(fixture, &["cosigned", &cosignature, "--witness", signed["key"].as_str().unwrap()]);
    assert!(status == 0 && said.contains(&format!("the checkpoint of {size} events")), "{said}");
    let (status, said) = witness(&ask(0), &[]);
    assert!(status == 1 && said.contains(&format!("that was seen is of {size} events")), "{said}");
    on(fixture, &["checkpoint"]);
    let (status, said) = witness(&ask(size), &[]);
    assert!(status == 0 && said.starts_with("\u{2014} witness.test/w "), "{said}");
    let other = fixture.file("other.txt", "\u{2014} witness.test/w AAAAAAAAAAA=\n");
    let (status, said) = on(fixture, &["cosigned", &other, "--witness", signed["key"].as_str().unwrap()]);
    assert!(status == 1 && said.contains("no signature of this witness"), "{said}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let fixture = Fixture::with_site();
    let file = fixture.file("nothing.ndjson", "{\"size\": 1}\n");
    for (arguments, expected) in [
        (&["keygen", "--name", "a b", "--out", "/nowhere/x"][..], "no name of a key"),
        (&["verify", "--key", "x"], "\"x\" is no public key"),
        (
            &[
                "verify",
                "--key",
                "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
                "--checkpoints",
                &file,
            ],
            "line 1 has no \"note\"",
        ),
        (&["prove"], "--position"),
        (&["prove", "--position", "1"], "there is no checkpoint yet"),
    ] {
        let (status, said) = on(&fixture, arguments);
        assert!((1..=2).contains(&status) && said.contains(expected), "{arguments:?}: {status} {said}");
    }
}
