//! Three quarters of two allocations: usage, two rules one after the other, an exemption, limits that change, an agent that
//! confirms, fails and says what it found.

use serde_json::json;
use sluice::commands::allocation::{AllocationCommand, DispatchRecord};
use sluice::domain::ids::{HoldId, ResourceId};
use sluice::events::allocation::HoldKind;
use sluice::events::dispatch::{AgentMessage, CommandReport, ExecutionMode, StompMessageSent};
use uuid::Uuid;

use crate::support::fleet::meta;
use crate::support::server::{TestServer, Who, resource_path};
use crate::support::world::resource_id;

pub(crate) const CLIMATE: &str = "climate-hpc1";
pub(crate) const BIO: &str = "bio-hpc1";

async fn run(server: &TestServer, resource: ResourceId, command: AllocationCommand) {
    server.app.allocations.execute(resource, &command, &meta()).await.unwrap();
    server.app.settle().await.unwrap();
}

async fn day(server: &TestServer, day: &str) {
    server.app.advance_clock(format!("{day}T12:00:00Z").parse().unwrap()).await.unwrap();
}

/// The agent takes the newest settings, and says what came of them.
async fn answer(server: &TestServer, slug: &str, success: bool) {
    let resource = resource_id(slug);
    let book = server.app.allocations.book(resource).await.unwrap();
    let Some(open) = book.newest_dispatch().cloned() else { return };
    let at = server.app.clock.now();
    let sent = StompMessageSent {
        dispatch: Some(open.dispatch),
        messages: vec![AgentMessage::Settings, AgentMessage::Resource],
        flags: Some(book.flags),
        reset: open.reset,
        resend: 0,
        consumers: vec![Uuid::from_u128(9)],
        at,
    };
    run(server, resource, AllocationCommand::RecordDispatch(DispatchRecord::Sent(sent))).await;
    let later = at + chrono::TimeDelta::minutes(10);
    server.app.advance_clock(later).await.unwrap();
    let commands = book.commanded.as_ref().unwrap();
    let reset =
        if commands.settings.reset_raw_usage { vec!["sacctmgr modify account set RawUsage=0".into()] } else { vec![] };
    let report = CommandReport {
        success,
        error_message: if success { String::new() } else { "sacctmgr: no such account".into() },
        mode: ExecutionMode::Production,
        commands_executed: reset,
    };
    let result = AllocationCommand::ReportCommandResult { policy: open.policy, dispatch: Some(open.dispatch), report };
    run(server, resource, result).await;
}

async fn found_qos(server: &TestServer, slug: &str, qos: &str) {
    run(server, resource_id(slug), AllocationCommand::ConfirmQos { qos: qos.into() }).await;
}

/// Lives it.
pub(crate) async fn quarters() -> TestServer {
    let server = TestServer::customized(|options| {
        options.simulated_clock = Some("2026-01-10T12:00:00Z".parse().unwrap());
        options.dispatch.publishes = false;
    })
    .await;
    let (policy, _) = server.policy(|body| body["carryover_enabled"] = json!(false)).await;
    day(&server, "2026-02-01").await;
    server.report(CLIMATE, "850", "2026-01-31").await;
    answer(&server, CLIMATE, true).await;
    day(&server, "2026-02-20").await;
    server.report(CLIMATE, "200", "2026-02-19").await;
    server.report(BIO, "525", "2026-02-19").await;
    answer(&server, BIO, true).await;
    found_qos(&server, BIO, "normal").await;
    day(&server, "2026-03-05").await;
    server.report(CLIMATE, "160", "2026-03-04").await;
    answer(&server, CLIMATE, false).await;
    found_qos(&server, BIO, "slowdown").await;
    // A new quarter; then a rule that is milder.
    day(&server, "2026-04-15").await;
    let change = json!({"grace_ratio": 0.4, "reason": "the council's decision of April"});
    server.patch(Who::Staff, &policy, &change).await.expect(200);
    server.report(CLIMATE, "1250", "2026-04-14").await;
    let exemption = AllocationCommand::PlaceHold {
        hold: HoldId::from(Uuid::from_u128(7)),
        kind: HoldKind::Exemption,
        reason: "urgent computing".into(),
        ticket: Some("RT-1".into()),
        expires_at: None,
        public: false,
    };
    run(&server, resource_id(BIO), exemption).await;
    server.report(BIO, "625", "2026-04-14").await;
    day(&server, "2026-05-20").await;
    let release = AllocationCommand::ReleaseHold { hold: HoldId::from(Uuid::from_u128(7)), expired: false };
    run(&server, resource_id(BIO), release).await;
    let top_up = json!({"limits": {"node_hours": 700}, "reason": "top-up"});
    server.patch(Who::Staff, &resource_path(BIO), &top_up).await.expect(200);
    day(&server, "2026-07-03").await;
    server.report(CLIMATE, "100", "2026-07-02").await;
    day(&server, "2026-08-30").await;
    server.report(CLIMATE, "1350", "2026-08-29").await;
    server.report(BIO, "900", "2026-08-29").await;
    answer(&server, BIO, true).await;
    server.app.settle().await.unwrap();
    server
}
