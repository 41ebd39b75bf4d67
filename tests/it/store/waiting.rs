//! `serve` waits at its start for the stores that come up beside it, and says so in two lines.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;

use crate::cli::{Fixture as Cli, Serving, bare, failure};
use crate::instances::proxy::Proxy;
use crate::store::esdb::{Fixture, Standing};
use crate::support::database::{postgres, server};

const BEGINS: &str = "does not answer; waiting up to ";
const ENDS: &str = "the wait is over after ";

fn serve(cli: &Cli, variables: &[(&str, &str)]) -> std::process::Command {
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("sluice"));
    command.env_clear().env("SLUICE_DATA_DIR", cli.folder.path());
    command.envs(variables.iter().copied()).args(["serve", "--listen", "127.0.0.1:0"]);
    command
}

/// Lines of a log with this text.
fn lines(log: &str, text: &str) -> usize {
    log.lines().filter(|line| line.contains(text)).count()
}

/// What `serve` says that ends without serving.
fn gives_up(variables: &[(&str, &str)]) -> String {
    let cli = Cli::new();
    let mut command = bare(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("SLUICE_DATA_DIR", cli.folder.path()).envs(variables.iter().copied());
    let (status, said) = failure(&mut command);
    assert_eq!(status, 1, "{said}");
    said
}

/// Starts a server, asks it to end once it waits, and gives its status and what it logged.
fn asked_to_end(variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let cli = Cli::new();
    let mut child = serve(&cli, variables).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stderr, mut log) = (BufReader::new(child.stderr.take().unwrap()), String::new());
    while !log.contains(BEGINS) {
        assert!(stderr.read_line(&mut log).unwrap() > 0, "it ended by itself: {log}");
    }
    assert!(std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    stderr.read_to_string(&mut log).unwrap();
    (child.wait().unwrap().code(), log)
}

/// Starts a server, lets the store come up once the wait has been announced, and gives what was logged.
async fn served(command: std::process::Command, comes_up: impl FnOnce() + Send + 'static) -> String {
    let starting = tokio::task::spawn_blocking(move || Serving::after(command, BEGINS, comes_up));
    let serving = starting.await.unwrap();
    let log = serving.stop();
    assert_eq!((lines(&log, BEGINS), lines(&log, ENDS)), (1, 1), "{log}");
    log
}

#[tokio::test]
async fn a_server_waits_for_its_event_store() {
    let (mut fixture, cli) = (Fixture::start(), Cli::new());
    fixture.stop();
    let address = fixture.address();
    let port = fixture.port();
    let log = served(serve(&cli, &[("SLUICE_EVENT_STORE", &address)]), move || {
        fixture.restart();
        // It lives as long as the test's process.
        std::mem::forget(fixture);
    });
    let log = log.await;
    assert!(
        log.contains(&format!(
            "a store does not answer; waiting up to 60 s (store_wait) what=the event store reason=nothing listens at \
             127.0.0.1:{port}"
        )),
        "{log}"
    );
}

#[tokio::test]
async fn a_server_waits_for_an_event_store_that_is_not_ready() {
    let (fixture, cli) = (Fixture::start(), Cli::new());
    fixture.state.view().standing = Standing::NotReady;
    let address = fixture.address();
    let log = served(serve(&cli, &[("SLUICE_EVENT_STORE", &address)]), move || {
        fixture.state.view().standing = Standing::Serving;
        std::mem::forget(fixture);
    });
    let log = log.await;
    assert!(log.contains("Server Is Not Ready"), "{log}");
    assert_eq!(lines(&log, "ERROR"), 0, "{log}");
}

#[test]
fn a_server_gives_up_when_the_wait_is_over() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = gives_up(&[("SLUICE_EVENT_STORE", &format!("esdb://{closed}?tls=false")), ("SLUICE_STORE_WAIT", "1")]);
    assert_eq!((lines(&said, BEGINS), lines(&said, ENDS)), (1, 0), "{said}");
    assert!(said.contains("error: the event store did not answer within 1 s (store_wait)"), "{said}");
    assert!(said.contains(&format!("nothing listens at {closed}: start the event store there")), "{said}");

    let database = format!("postgres://sluice:geheim@{closed}/sluice");
    let said = gives_up(&[("SLUICE_DATABASE", &database), ("SLUICE_STORE_WAIT", "1")]);
    assert_eq!((lines(&said, BEGINS), lines(&said, ENDS)), (1, 0), "{said}");
    assert!(said.contains(&closed.to_string()) && said.contains("refused") && !said.contains("geheim"), "{said}");

    // 0 waits for nothing.
    let said = gives_up(&[("SLUICE_DATABASE", &database), ("SLUICE_STORE_WAIT", "0")]);
    assert_eq!(lines(&said, BEGINS), 0, "{said}");
    let (status, said) = failure(bare(&["serve"]).env("SLUICE_DATA_DIR", "/nowhere").env("SLUICE_STORE_WAIT", "3601"));
    assert!(status == 2 && said.contains("store_wait") && said.contains("0 to 3600"), "{said}");
}

#[test]
fn a_server_that_waits_ends_when_it_is_asked_to() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // It takes connections, and says nothing on them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for address in [closed, silent.local_addr().unwrap()] {
        let (event_store, database) =
            (format!("esdb://{address}?tls=false"), format!("postgres://sluice@{address}/sluice"));
        for store in [("SLUICE_EVENT_STORE", event_store.as_str()), ("SLUICE_DATABASE", &database)] {
            // Who waits to the end, waits for an hour.
            let (status, log) = asked_to_end(&[store, ("SLUICE_STORE_WAIT", "3600")]);
            // The signal itself would leave no status.
            assert_eq!(status, Some(0), "{store:?}: {log}");
            assert_eq!(lines(&log, "asked to end before requests were accepted"), 1, "{store:?}: {log}");
        }
    }
}

#[test]
fn what_no_wait_mends_ends_it_at_once() {
    let fixture = Fixture::start();
    fixture.state.users.lock().unwrap().insert("Basic b3BzOmNoYW5nZWl0".to_owned(), true);
    let address = format!("esdb://ops:geheim@127.0.0.1:{}?tls=false&discoveryInterval=1", fixture.port());
    let said = gives_up(&[("SLUICE_EVENT_STORE", &address)]);
    assert_eq!(lines(&said, BEGINS), 0, "{said}");
    assert!(said.contains("the event store cannot be used") && said.contains("refuses the user \"ops\""), "{said}");
    assert!(!said.contains("geheim"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the PostgreSQL of a full run"]
async fn a_server_waits_for_its_database() {
    let cli = Cli::new();
    let sluice::store::address::Database::Postgres(url) = postgres(&cli.folder.path().join("sluice.db")) else {
        unreachable!("it is on a server")
    };
    let proxy = Arc::new(Proxy::before(&server().unwrap()).await);
    proxy.close(true);
    let (way, opens) = (proxy.url(&url), Arc::clone(&proxy));
    let log = served(serve(&cli, &[("SLUICE_DATABASE", &way)]), move || opens.close(false)).await;
    assert!(log.contains("what=the database postgres"), "{log}");

    let stranger = way.replacen("postgres://", "postgres://nobody", 1);
    let said = tokio::task::spawn_blocking(move || gives_up(&[("SLUICE_DATABASE", &stranger)])).await.unwrap();
    assert_eq!(lines(&said, BEGINS), 0, "{said}");
}
