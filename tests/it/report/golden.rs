//! Each report as it is printed, line by line. Ids and positions, which differ from run to run, stand as signs.

use std::path::Path;

use sluice::report::Kind;

use super::scene::quarters;
use super::{YEAR, made};

/// 32 hex digits as `<id>`, and in the last column positions as `#`. Mails of one instant may be delivered in any order, so
/// lines that begin with the same instant are sorted.
fn masked(lines: &str) -> String {
    let mut text = String::new();
    let mut lines: Vec<&str> = lines.lines().collect();
    let instant = |line: &&str| line.get(..20).unwrap_or_default().to_owned();
    for same in lines.chunk_by_mut(|one, other| instant(one) == instant(other)) {
        same.sort_unstable();
    }
    for line in lines {
        let (values, events) = line.rsplit_once(',').unwrap_or((line, ""));
        let linked: String = events.split(' ').map(mask_position).collect::<Vec<_>>().join(" ");
        text.extend([&mask_ids(values), ",", &linked, "\n"]);
    }
    text
}

fn mask_position(word: &str) -> String {
    let mut masked = String::new();
    for sign in word.chars() {
        match sign {
            digit if digit.is_ascii_digit() && masked.ends_with('#') => {}
            digit if digit.is_ascii_digit() => masked.push('#'),
            other => masked.push(other),
        }
    }
    masked
}

fn mask_ids(text: &str) -> String {
    let (mut masked, mut word) = (String::new(), String::new());
    for sign in text.chars().chain([' ']) {
        if sign.is_ascii_hexdigit() {
            word.push(sign);
            continue;
        }
        masked.push_str(if word.len() == 32 { "<id>" } else { &word });
        word.clear();
        masked.push(sign);
    }
    masked.pop();
    masked
}

#[tokio::test]
async fn each_report_reads_as_its_golden_file() {
    let server = quarters().await;
    let mut wrong = Vec::new();
    for kind in Kind::ALL {
        let report = made(&server.app, kind, YEAR).await;
        let mut text = masked(&report.csv());
        for table in &report.tables {
            text.extend(["\n", table.name, " in all\n"]);
            for (name, cell) in &table.totals {
                text.extend([name, ": ", &*cell.value.text(), "\n"]);
            }
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/reports/{}.csv", kind.as_str()));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        if golden != text {
            wrong.push(format!("{}:\n{text}\nis not\n{golden}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\nUPDATE_GOLDEN=1 writes them anew", wrong.join("\n"));
}
