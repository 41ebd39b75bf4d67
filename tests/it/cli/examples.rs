//! The pages' own examples: every block of shell in API.md and in the README's tour runs as it stands there.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::{Fixture, KEY, Serving};

/// The clock of the examples.
const CLOCK: (&str, &str) = ("SLUICE_SIMULATED_CLOCK", "2026-03-01T00:00:00Z");

fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The blocks of shell of a page, in their order.
fn blocks(page: &str) -> Vec<&str> {
    page.split("\n```sh\n").skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

/// Runs a script that ends at its first failing command, inside of substitutions and pipes too, and names that command.
fn run(script: &str, variables: &[(&str, &str)], folder: &Path) -> Output {
    let strict = "set -Eeo pipefail; shopt -s inherit_errexit\ntrap 'echo \"failed: $BASH_COMMAND\" >&2' ERR\n";
    let mut bash = Command::new("bash");
    bash.args(["-c", &format!("{strict}{script}")]).envs(variables.iter().copied()).current_dir(folder);
    bash.stdin(Stdio::null()).output().expect("bash is needed")
}

fn passed(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}\nafter\n{out}");
    out.into_owned()
}

#[test]
#[ignore = "needs bash and curl"]
fn every_block_of_the_api_page_runs() {
    let fixture = Fixture::new();
    for arguments in [
        &["apply", "-f", "docs/config/academic-quarterly.yaml"][..],
        &["token", "create", "--user", "root", "--role", "staff", "--key-env", "KEY"],
    ] {
        fixture.command(arguments).env(CLOCK.0, CLOCK.1).env("KEY", KEY).assert().success();
    }
    let server = Serving::start(&fixture, &[CLOCK]);
    let text = page("docs/API.md");
    let blocks = blocks(&text);
    assert!(blocks.len() > 8, "only {} blocks were found", blocks.len());
    let api = format!("{}/api", server.url);
    let output = run(&blocks.join("\n"), &[("API", &api), ("TOKEN", KEY)], fixture.folder.path());
    passed(&output);
    server.stop();
}

#[test]
#[ignore = "needs bash and curl"]
fn the_tour_of_the_readme_runs_and_says_what_it_shows() {
    let text = page("README.md");
    let tour = text.split("## A minute's tour").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let folder = TempDir::new().unwrap();
    // On a port and in a folder of its own.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let script = blocks(tour)
        .join("\n")
        .replace("127.0.0.1:8000", &address)
        .replace("/tmp/sluice-tour", &folder.path().join("tour").display().to_string());
    let script = script.replace(
        "sleep 1 ",
        &format!(
            "for i in $(seq 100); do curl -fs http://{address}/health/ready >/dev/null && break; sleep 0.1; done "
        ),
    );
    let program = Path::new(assert_cmd::cargo::cargo_bin!("sluice")).parent().unwrap().to_owned();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = run(&format!("trap 'kill %1' EXIT\n{script}"), &[("PATH", &path), ("SLUICE_LISTEN", &address)], root);
    let said = passed(&output);
    let shown = tour.split("\n```\n").nth(1).unwrap_or_default();
    assert!(said.contains("104.3 % = 1565 of 1500 node_hours"), "{said}\ninstead of\n{shown}");
    assert!(said.contains("WOULD TRIGGER"), "{said}");
}
