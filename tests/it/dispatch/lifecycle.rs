//! One lifecycle, and those who read it: whatever is recorded of dispatches, in whatever order, the outbox, the command
//! history, the status summary and the book say the same of each.

use std::sync::Arc;

use proptest::prelude::*;
use sluice::app::App;
use sluice::domain::dispatch::{Stage, Step, next};
use sluice::domain::evaluate::Flags;
use sluice::domain::ids::{DispatchId, ResourceId, slug_uuid};
use sluice::events::allocation::{AllocationEvent, DispatchState, SettingsCommanded};
use sluice::events::dispatch::{
    CommandReport, CommandResultReported, DispatchResendRequested, DispatchUnanswered, ExecutionMode,
    StompMessageFailed, StompMessageSent,
};
use sluice::events::envelope::{Metadata, NewEvent, Position, StreamName};
use sluice::projections::command_history::{CommandFilter, DispatchStatus, dispatches};
use sluice::projections::status_summary::{AgentStatus, StatusFilter, list};
use sluice::store::ExpectedVersion;

use crate::projections::ALL;
use crate::support::database::options;
use crate::support::fleet;

/// Sequences that share a database, each on a resource of its own.
const SEQUENCES: usize = 16;

/// What is recorded next on a resource.
#[derive(Debug, Clone, Copy)]
enum Recorded {
    /// Another dispatch.
    Commanded,
    /// A step of one of its dispatches, counted from the newest.
    Step(usize, Step),
}

fn recorded() -> impl Strategy<Value = Recorded> {
    let steps: Vec<Step> = Step::ALL.into_iter().filter(|step| *step != Step::Supersede).collect();
    let step = (prop_oneof![4 => Just(0_usize), 1 => 1..3_usize], prop::sample::select(steps));
    prop_oneof![1 => Just(Recorded::Commanded), 6 => step.prop_map(|(back, step)| Recorded::Step(back, step))]
}

/// A dispatch as it ought to stand.
struct Meant {
    id: DispatchId,
    stage: Stage,
    /// The outbox still has a row of it.
    kept: bool,
}

impl Meant {
    fn take(&mut self, step: Step) {
        let before = self.stage;
        self.stage = next(before, step);
        // What no queue has is not waited for once it is superseded.
        let ended = [Stage::Confirmed, Stage::RefusedAndSuperseded, Stage::FailedAndSuperseded];
        let waits = !ended.contains(&self.stage);
        let answerable = self.stage != Stage::Superseded || matches!(before, Stage::Sent | Stage::Superseded);
        self.kept &= waits && answerable;
    }

    /// State and `given_up` of its row in the outbox.
    fn row(&self) -> (i64, bool) {
        let state = match self.stage {
            Stage::Queued => 0,
            Stage::Sent => 1,
            Stage::NoAnswer => 2,
            Stage::Failed | Stage::Refused => 3,
            Stage::Superseded => 4,
            Stage::Confirmed | Stage::RefusedAndSuperseded | Stage::FailedAndSuperseded => {
                unreachable!("there is no row")
            }
        };
        (state, self.stage == Stage::Refused)
    }
}

/// A resource and its dispatches, oldest first.
struct Line {
    resource: ResourceId,
    stream: StreamName,
    dispatches: Vec<Meant>,
}

impl Line {
    /// The event that records something, which happens here too.
    fn record(&mut self, recorded: Recorded, template: &SettingsCommanded, number: &mut u128) -> AllocationEvent {
        let (back, step) = match recorded {
            Recorded::Step(back, step) if !self.dispatches.is_empty() => (back % self.dispatches.len(), step),
            _ => {
                *number += 1;
                let id = DispatchId::from(slug_uuid("dispatch", &number.to_string()));
                self.dispatches.iter_mut().for_each(|older| older.take(Step::Supersede));
                self.dispatches.push(Meant { id, stage: Stage::Queued, kept: true });
                return AllocationEvent::SettingsCommanded(Box::new(SettingsCommanded {
                    dispatch: id,
                    inherits_reset: None,
                    ..template.clone()
                }));
            }
        };
        let place = self.dispatches.len() - 1 - back;
        let (dispatch, at) = (self.dispatches[place].id, template.at);
        self.dispatches[place].take(step);
        let report = |success: bool| {
            let error_message = if success { String::new() } else { "sacctmgr: error".to_owned() };
            let report = CommandReport {
                success,
                error_message,
                mode: ExecutionMode::Production,
                commands_executed: Vec::new(),
            };
            let policy = template.policy;
            AllocationEvent::CommandResultReported(CommandResultReported {
                dispatch,
                policy,
                report,
                differences: Vec::new(),
            })
        };
        match step {
            Step::Supersede => unreachable!("another dispatch does that"),
            Step::Send => AllocationEvent::StompMessageSent(StompMessageSent {
                dispatch: Some(dispatch),
                messages: Vec::new(),
                flags: None,
                reset: false,
                resend: 0,
                consumers: Vec::new(),
                at,
            }),
            Step::Refuse => AllocationEvent::StompMessageFailed(StompMessageFailed {
                dispatch,
                attempts: 3,
                error: "refused".to_owned(),
            }),
            Step::Miss => {
                AllocationEvent::DispatchUnanswered(DispatchUnanswered { dispatch, resends: 0, given_up: false })
            }
            Step::Resend => AllocationEvent::DispatchResendRequested(DispatchResendRequested { dispatch }),
            Step::Succeed => report(true),
            Step::Fail => report(false),
        }
    }

    /// Everybody says what is meant.
    async fn is_said_by_all(&self, app: &App) {
        let filter = CommandFilter { resource: Some(self.resource), ..CommandFilter::default() };
        let (history, _) = dispatches(&app.read, &filter, ALL).await.unwrap();
        let rows = app.read.query("SELECT dispatch, state, given_up FROM outbox", &[]).await.unwrap();
        app.allocations.forget_books();
        let book = app.allocations.book(self.resource).await.unwrap();
        for meant in &self.dispatches {
            let shown = history.iter().find(|row| row.dispatch == meant.id).map(|row| row.status);
            assert_eq!(shown, Some(DispatchStatus::from(meant.stage)), "command history, {:?}", meant.stage);
            let row = rows.iter().find(|row| row.uuid(0).unwrap() == meant.id.as_uuid());
            let row = row.map(|row| (row.i64(1).unwrap(), row.bool(2).unwrap()));
            assert_eq!(row, meant.kept.then(|| meant.row()), "outbox, {:?}", meant.stage);
            if let Some(open) = book.dispatches.iter().find(|open| open.dispatch == meant.id) {
                assert_eq!(Some(open.state), DispatchState::of(meant.stage), "book, {:?}", meant.stage);
            }
        }
        if let Some(newest) = self.dispatches.last() {
            let filter = StatusFilter { resource: Some(self.resource), ..StatusFilter::default() };
            let (status, _) = list(&app.read, &filter, ALL).await.unwrap();
            assert_eq!(status[0].agent, AgentStatus::from(newest.stage), "status summary");
        }
    }
}

/// A fleet, what its agents were told first, and where each resource's book stands.
async fn fleet_of(folder: &std::path::Path) -> (Arc<App>, SettingsCommanded, Vec<Line>) {
    let app = App::open(options(folder)).await.unwrap();
    fleet::lay_out(&app, SEQUENCES).await;
    app.consumers.settle().await.unwrap();
    let (mut template, mut lines, mut after) = (None, Vec::new(), Position::START);
    loop {
        let page = app.store.read_all(after, 500).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.position;
        for event in &page {
            match AllocationEvent::decode(&event.event_type, &event.payload).transpose().unwrap() {
                Some(AllocationEvent::SettingsCommanded(commanded)) => template = Some(*commanded),
                Some(AllocationEvent::ResourceRegistered(registered)) => lines.push(Line {
                    resource: registered.facts.resource,
                    stream: event.stream.clone(),
                    dispatches: Vec::new(),
                }),
                _ => {}
            }
        }
    }
    let template = template.expect("the policy has the agents told");
    assert_eq!((template.flags, lines.len()), (Flags::default(), SEQUENCES));
    (app, template, lines)
}

async fn run(sequences: Vec<Vec<Recorded>>, together: usize) {
    let folder = tempfile::tempdir().unwrap();
    let (app, template, mut lines) = fleet_of(folder.path()).await;
    let mut number = 0;
    let longest = sequences.iter().map(Vec::len).max().unwrap_or_default();
    // What is recorded between two batches meets rows in the tables, within one those in memory.
    for begin in (0..longest).step_by(together) {
        for (line, sequence) in lines.iter_mut().zip(&sequences) {
            let some = sequence.iter().skip(begin).take(together);
            let events: Vec<NewEvent> = some
                .map(|recorded| {
                    let event = line.record(*recorded, &template, &mut number);
                    NewEvent {
                        event_id: sluice::clock::IdSource.fresh(),
                        event_type: event.event_type(),
                        occurred_at: template.at,
                        metadata: Metadata {
                            actor: sluice::events::envelope::Actor::SYSTEM,
                            correlation_id: slug_uuid("correlation", "lifecycle"),
                            causation_id: None,
                            reason: None,
                        },
                        payload: event.to_append().unwrap(),
                    }
                })
                .collect();
            if !events.is_empty() {
                app.store.append(&line.stream, ExpectedVersion::Any, events).await.unwrap();
            }
        }
        app.consumers.settle().await.unwrap();
        for line in &lines {
            line.is_said_by_all(&app).await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, max_shrink_iters: 16, ..ProptestConfig::default() })]

    #[test]
    fn all_who_read_of_a_dispatch_agree(
        sequences in prop::collection::vec(prop::collection::vec(recorded(), 1..16), SEQUENCES),
        together in 1_usize..6,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(run(sequences, together));
    }
}
