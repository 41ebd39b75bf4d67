//! Ten thousand changed resources and one slow agent: its queue never holds more than the window, and nothing that waits for
//! its turn counts as unanswered.

use std::collections::VecDeque;

use chrono::TimeDelta;
use sluice::app::{App, AppOptions};
use sluice::commands::allocation::AllocationCommand;
use sluice::dispatch::{AgentQueue, Depth};
use sluice::domain::ids::ResourceId;
use sluice::events::allocation::{CommandReport, ExecutionMode};
use sluice::events::envelope::Position;
use sluice::registry::book_of;
use sluice::site_settings::SiteSettings;

use super::support::{RESET, queue_of};
use crate::support::fleet;

const RESOURCES: usize = 10_000;

/// Messages that the agent carries out in a minute: the last one waits for more than eleven hours.
const PER_MINUTE: usize = 15;

/// What the log says of messages, as far as it was read.
#[derive(Default)]
struct Seen {
    position: Position,
    /// Taken by the queue and not answered, oldest first.
    out: VecDeque<ResourceId>,
    sent: usize,
    late: usize,
}

impl Seen {
    async fn read_on(&mut self, app: &App) {
        loop {
            let events = app.store.read_all(self.position, 1_000).await.unwrap();
            let Some(last) = events.last() else { return };
            self.position = last.position;
            for event in &events {
                match &*event.event_type {
                    "stomp_message_sent.v1" => {
                        self.out.push_back(book_of(event.stream.as_str()).unwrap().0);
                        self.sent += 1;
                    }
                    "dispatch_unanswered.v1" => self.late += 1,
                    _ => {}
                }
            }
        }
    }
}

#[tokio::test]
#[ignore = "takes a minute or two without optimisation; a full run has it"]
async fn ten_thousand_changes_neither_flood_a_queue_nor_time_out_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = AppOptions::at(folder.path().join("sluice.db"));
    options.simulated_clock = Some("2026-03-15T08:00:00Z".parse().unwrap());
    options.dispatch.publishes = true;
    let window = u64::from(SiteSettings::default().dispatch_window);
    let app = App::open(options).await.unwrap();
    fleet::lay_out(&app, RESOURCES).await;
    app.agent_queues.put(AgentQueue { offering: fleet::offering(), ..queue_of("cluster", 1) });
    app.settle().await.unwrap();
    let begun = app.clock.now();
    let (mut seen, mut answered) = (Seen::default(), 0);
    while answered < RESOURCES {
        let depth = app.publisher.depth().await.unwrap();
        assert!(depth.unanswered <= window, "{depth:?}");
        assert_eq!(depth.queued + depth.unanswered, (RESOURCES - answered) as u64, "none is lost: {depth:?}");
        seen.read_on(&app).await;
        let commands: Vec<_> = seen.out.drain(..PER_MINUTE.min(seen.out.len())).map(|of| (of, answer())).collect();
        assert!(!commands.is_empty(), "the agent has something to do: {depth:?}");
        for outcome in app.allocations.execute_many(&commands, &fleet::meta()).await {
            outcome.unwrap();
        }
        // After its settings the agent looks after the account, and says which class of service it has.
        let said: Vec<_> =
            commands.iter().map(|(of, _)| (*of, AllocationCommand::ConfirmQos { qos: "normal".into() })).collect();
        for outcome in app.allocations.execute_many(&said, &fleet::meta()).await {
            outcome.unwrap();
        }
        answered += commands.len();
        app.advance_clock(app.clock.now() + TimeDelta::minutes(1)).await.unwrap();
    }
    seen.read_on(&app).await;
    assert_eq!(app.publisher.depth().await.unwrap(), Depth::default());
    assert_eq!(
        (seen.sent, seen.late),
        (RESOURCES, 0),
        "each was sent once, and whoever waits behind others is not late"
    );
    assert!(app.clock.now() - begun > TimeDelta::hours(11));
}

fn answer() -> AllocationCommand {
    let commands_executed = RESET.map(str::to_owned).to_vec();
    let report = CommandReport {
        success: true,
        error_message: String::new(),
        mode: ExecutionMode::Production,
        commands_executed,
    };
    AllocationCommand::ReportCommandResult { policy: fleet::policy(), dispatch: None, report }
}
