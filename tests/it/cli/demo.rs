//! The demo fits a terminal, and what it tells is what its own calls answer.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use serde_json::Value;

/// A demo that serves; it ends with the test.
struct Demo {
    child: Child,
    lines: Vec<String>,
}

impl Demo {
    fn start(columns: &str) -> Self {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("sluice"));
        command.env_clear().env("COLUMNS", columns).arg("demo").stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            lines.push(line.unwrap());
            if lines.last().is_some_and(|line| line == "Ctrl-C ends it.") {
                break;
            }
        }
        Self { child, lines }
    }

    /// The value of a variable that it prints for the shell.
    fn variable(&self, name: &str) -> &str {
        let found = self.lines.iter().find_map(|line| line.strip_prefix(&format!("  {name}=")));
        found.unwrap_or_else(|| panic!("no {name} in {:#?}", self.lines))
    }

    /// Allocation and site agent of each line of the table at the end.
    fn agents(&self) -> Vec<(&str, &str)> {
        let table = self.lines.iter().skip_while(|line| !line.ends_with("where the allocations stand now")).skip(2);
        let rows = table.take_while(|line| !line.is_empty());
        rows.map(|row| (row.split_whitespace().next().unwrap(), row.split_whitespace().last().unwrap())).collect()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It removes its folder when it is asked to end.
        drop(std::process::Command::new("kill").arg(self.child.id().to_string()).status());
        drop(self.child.wait());
    }
}

#[tokio::test]
async fn the_demo_fits_a_terminal_and_its_own_calls_agree_with_what_it_tells() {
    let demo = Demo::start("80");
    let story = demo.lines.iter().take_while(|line| !line.starts_with("The pages"));
    let wide: Vec<&String> = story.filter(|line| line.chars().count() > 80).collect();
    assert_eq!(wide, [""; 0]);

    let url = format!("{}/status/", demo.variable("POLICY"));
    let request = reqwest::Client::new().get(url).header("Authorization", format!("Token {}", demo.variable("TOKEN")));
    let status: Value = request.send().await.unwrap().json().await.unwrap();
    let told = demo.agents();
    let told_confirmed = told.iter().filter(|(_, agent)| *agent == "confirmed").count();
    assert!(told_confirmed > 0, "{told:?}");
    assert_eq!(status["agent"]["confirmed"], told_confirmed, "{status}");
    assert_eq!(status["qos_unknown"], 0);
    for row in status["resources"].as_array().unwrap() {
        let name = row["resource_name"].as_str().unwrap();
        let (_, agent) = told.iter().find(|(allocation, _)| *allocation == name).unwrap();
        assert_eq!(row["site"]["qos_status"] == "confirmed", *agent == "confirmed", "{name}: {row}");
    }
}
