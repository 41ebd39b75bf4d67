//! Totals agree between the reports, the API and the read models; links lead to the events that they name.

use std::collections::BTreeSet;

use sluice::domain::ids::PolicyId;
use sluice::projections::{Page, command_history, evaluation_log};
use sluice::report::{Cell, Kind, Report, Value};

use super::scene::{BIO, CLIMATE, quarters};
use super::{YEAR, made, total};
use crate::support::server::{TestServer, USAGES, Who, id};

async fn rows(server: &TestServer, path: &str) -> Vec<serde_json::Value> {
    server.get(Who::Staff, path).await.expect(200).as_array().unwrap().clone()
}

#[tokio::test]
async fn totals_agree_with_what_else_counts_them() {
    let server = quarters().await;
    let app = &server.app;
    let all = Page::first(10_000);

    let statement = made(app, Kind::Statement, YEAR).await;
    let filter = evaluation_log::EvaluationFilter::default();
    let evaluations = evaluation_log::count(&app.read, &filter).await.unwrap();
    // What is older than 90 days was pruned, and is counted by month.
    let pruned = rows(&server, "/api/evaluation-totals/?page_size=100").await;
    let pruned: u64 = pruned.iter().map(|row| row["evaluations"].as_u64().unwrap()).sum();
    assert!(pruned > 0 && evaluations > 0);
    assert_eq!(total(&statement, "evaluations"), evaluations.unsigned_abs() + pruned);
    assert_eq!(total(&statement, "decisions_different"), 0);
    assert!(total(&statement, "decisions_verified") >= total(&statement, "evaluations"));
    // Each quarter by itself adds up to the year.
    let mut sums = (0, Vec::new());
    for quarter in ["2026-Q1", "2026-Q2", "2026-Q3", "2026-Q4"] {
        let quarter = made(app, Kind::Statement, quarter).await;
        sums.0 += total(&quarter, "evaluations");
        sums.1.extend(quarter.tables[0].rows.clone());
    }
    assert_eq!(sums.0, total(&statement, "evaluations"));
    assert_eq!(sums.1.len(), statement.tables[0].rows.len());

    for slug in [CLIMATE, BIO] {
        let usages = rows(&server, &format!("{USAGES}?resource_uuid={}&page_size=100", id("resource", slug))).await;
        let of_api: f64 = usages.iter().map(|row| row["usage"].as_f64().unwrap()).sum();
        let used = |row: &&Vec<Cell>| row[0].value == Value::Text(slug.into());
        let said: f64 = statement.tables[0].rows.iter().filter(used).map(|row| amounts(&row[11])).sum();
        assert!((of_api - said).abs() < 1e-6, "{slug}: {of_api} and {said}");
    }

    // The history goes back 90 days: its last quarter is whole.
    let summer = "2026-07-01T00:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let agents = made(app, Kind::AgentReliability, "2026-Q3").await;
    let (commands, _) =
        command_history::list(&app.read, &command_history::CommandFilter::default(), all).await.unwrap();
    let commands: Vec<_> = commands.into_iter().filter(|row| row.queued_at >= summer).collect();
    let dispatches: BTreeSet<_> = commands.iter().map(|row| row.dispatch).collect();
    let confirmed: BTreeSet<_> =
        commands.iter().filter(|row| row.success == Some(true)).map(|row| row.dispatch).collect();
    let failed: BTreeSet<_> =
        commands.iter().filter(|row| row.success == Some(false)).map(|row| row.dispatch).collect();
    assert_eq!(total(&agents, "commanded"), dispatches.len() as u64);
    assert_eq!(total(&agents, "confirmed"), confirmed.len() as u64);
    assert_eq!(total(&agents, "failed"), failed.len() as u64);
    assert!(!confirmed.is_empty() && confirmed.len() < dispatches.len());
    assert!(total(&made(app, Kind::AgentReliability, YEAR).await, "failed") > 0);

    let notices = made(app, Kind::Notices, "2026-Q3").await;
    let sent = rows(&server, "/api/notices/?state=sent&page_size=100").await;
    let called_for = |row: &&serde_json::Value| row["occurred_at"].as_str().unwrap() >= "2026-07-01";
    let notice = |row: &serde_json::Value| ["uuid", "resource_uuid", "template"].map(|name| row[name].to_string());
    let messages: BTreeSet<[String; 3]> = sent.iter().filter(called_for).map(notice).collect();
    assert_eq!(total(&notices, "sent"), messages.len() as u64);

    let register = made(app, Kind::EnforcementRegister, YEAR).await;
    let states = rows(&server, "/api/allocation-states/?page_size=100").await;
    let restricted = states.iter().map(|row| u64::from(row["paused"] == true) + u64::from(row["downscaled"] == true));
    let open = register.tables[0].rows.iter().filter(|row| row[4].value == Value::Nothing).count() as u64;
    assert_eq!(open, restricted.sum::<u64>());
    for (restriction, hours) in [("paused", "hours_paused"), ("slowed down", "hours_slowed_down")] {
        let of = |row: &&Vec<Cell>| row[2].value == Value::Text(restriction.into());
        let listed: chrono::TimeDelta = register.tables[0].rows.iter().filter(of).map(|row| span(&row[5])).sum();
        let in_register = register.tables[0].totals.iter().find(|(name, _)| *name == hours).unwrap();
        let in_statement = statement.tables[0].totals.iter().find(|(name, _)| *name == hours).unwrap();
        assert_eq!(span(&in_register.1), listed, "{hours}");
        assert_eq!(span(&in_statement.1), listed, "{hours} of statement and register");
        assert!(!listed.is_zero(), "{hours}");
    }
    assert_eq!(total(&made(app, Kind::Exceptions, YEAR).await, "exemptions"), 1);
    assert_eq!(total(&made(app, Kind::Drift, YEAR).await, "found"), 3);
    assert_eq!(total(&made(app, Kind::Drift, YEAR).await, "settled"), 2);
    assert_eq!(total(&made(app, Kind::Fairness, YEAR).await, "not_explained"), 0);
    assert!(total(&made(app, Kind::Fairness, YEAR).await, "treated_otherwise") > 0);
    assert_eq!(total(&made(app, Kind::PolicyChanges, YEAR).await, "policies"), 2);
}

/// `2026-01: node_hours 850; 2026-02: node_hours 200` listed up.
fn amounts(cell: &Cell) -> f64 {
    let Value::Text(text) = &cell.value else { return 0.0 };
    text.split("; ").map(|month| month.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

fn span(cell: &Cell) -> chrono::TimeDelta {
    match cell.value {
        Value::Hours(span) => span,
        ref other => panic!("{other:?} is no span"),
    }
}

fn cells(report: &Report) -> impl Iterator<Item = &Cell> {
    let tables = report.tables.iter();
    tables.flat_map(|table| table.rows.iter().flatten().chain(table.totals.iter().map(|(_, cell)| cell)))
}

#[tokio::test]
async fn every_number_leads_to_events_that_are_there() {
    let server = quarters().await;
    for kind in Kind::ALL {
        let report = made(&server.app, kind, YEAR).await;
        let mut linked = 0;
        for cell in cells(&report) {
            assert!(cell.events.first.len() as u64 <= cell.events.count);
            for link in &cell.events.first {
                let there = server.app.store.event_at(link.position).await.unwrap();
                let there = there.unwrap_or_else(|| panic!("{}: nothing stands at {}", kind.as_str(), link.position));
                assert_eq!(there.event_id, link.event, "{}", kind.as_str());
                linked += 1;
            }
            let numbers = matches!(&cell.value, Value::Hours(span) if !span.is_zero());
            assert!(!numbers || cell.events.count > 0 || kind == Kind::AgentReliability, "{}: {cell:?}", kind.as_str());
        }
        assert!(linked > 0, "{} links nothing", kind.as_str());
    }
}

/// What was known at a position is the report that was made then.
#[tokio::test]
async fn a_report_of_then_is_made_again() {
    let server = quarters().await;
    let then = made(&server.app, Kind::Statement, "2026-Q1").await;
    server.report(CLIMATE, "170", "2026-03-31").await;
    let now = made(&server.app, Kind::Statement, "2026-Q1").await;
    assert_ne!(then.tables[0].rows, now.tables[0].rows, "a correction of March");
    let asked = sluice::report::Asked { as_of: Some(then.through), ..then.asked.clone() };
    let again = sluice::report::report(&server.app.store, &asked, |_| true).await.unwrap();
    assert_eq!(again.tables, then.tables);
}

#[tokio::test]
async fn only_what_was_asked_for_is_reported() {
    let server = quarters().await;
    let whole = made(&server.app, Kind::EnforcementRegister, YEAR).await;
    let asked = sluice::report::Asked {
        resource: Some(crate::support::world::resource_id(BIO)),
        policy: Some(PolicyId::from(uuid::Uuid::from_u128(1))),
        ..whole.asked.clone()
    };
    let none = sluice::report::report(&server.app.store, &asked, |_| true).await.unwrap();
    assert!(none.tables[0].rows.is_empty());
    let of_bio = sluice::report::Asked { policy: None, ..asked };
    let of_bio = sluice::report::report(&server.app.store, &of_bio, |_| true).await.unwrap();
    assert!(!of_bio.tables[0].rows.is_empty() && of_bio.tables[0].rows.len() < whole.tables[0].rows.len());
    let stopped = sluice::report::report(&server.app.store, &whole.asked, |_| false).await.unwrap_err();
    assert!(matches!(stopped, sluice::report::ReportError::Stopped));
}
