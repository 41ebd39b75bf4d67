//! The publisher is stopped dead at every step between deciding and recording, and started again: nothing is lost, nothing is
//! recorded twice, and the broker is handed the same message under the same id.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use async_trait::async_trait;
use secrecy::SecretString;
use sluice::app::App;
use sluice::commands::allocation::{AllocationCommand, DispatchRecord};
use sluice::commands::execute::CommandMeta;
use sluice::dispatch::broker::{Broker, BrokerError, Outgoing, QueueStatus};
use sluice::dispatch::{AgentQueue, DeadLetterReason, DispatchOptions, Publisher, PublisherParts};
use sluice::domain::evaluate::Flags;
use sluice::domain::ids::PolicyId;
use sluice::events::allocation::{AllocationEvent, CommandReport, ExecutionMode};
use sluice::events::dispatch::RestrictionResendRequested;
use sluice::events::envelope::Position;
use sluice::notify::RetryOptions;
use tokio_util::sync::CancellationToken;

use super::support::queue_of;
use crate::support::server::TestServer;
use crate::support::server::{Who, id, resource_path};

/// What a broker did with what it was handed, by id.
#[derive(Default)]
struct Ledger {
    taken: Mutex<BTreeMap<String, usize>>,
    /// The next call takes what it is handed, and answers never.
    hangs: Mutex<bool>,
    hung: tokio::sync::Notify,
    /// What the next calls answer instead.
    failures: Mutex<Vec<BrokerError>>,
}

/// A broker whose agent reports a failure before the hand-over is recorded.
struct Hasty {
    app: Arc<App>,
    policy: PolicyId,
}

#[async_trait]
impl Broker for Hasty {
    async fn provision(&self, _: &AgentQueue, _: &SecretString) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn publish(&self, _: &AgentQueue, messages: &[Outgoing]) -> Vec<Result<(), BrokerError>> {
        for message in messages {
            let body: serde_json::Value = serde_json::from_str(&message.body).unwrap();
            let resource: uuid::Uuid = body["resource_uuid"].as_str().unwrap().parse().unwrap();
            let report = CommandReport {
                success: false,
                error_message: "no such account".into(),
                mode: ExecutionMode::Production,
                commands_executed: Vec::new(),
            };
            let command = AllocationCommand::ReportCommandResult { policy: self.policy, dispatch: None, report };
            let meta = CommandMeta::system(uuid::Uuid::from_u128(1));
            self.app.allocations.execute(resource.into(), &command, &meta).await.unwrap();
        }
        self.app.consumers.settle().await.unwrap();
        messages.iter().map(|_| Ok(())).collect()
    }

    async fn status(&self, _: &AgentQueue) -> Result<QueueStatus, BrokerError> {
        Ok(QueueStatus { exists: true, consumers: 1, messages: 0 })
    }
}

/// A broker that can be held while it takes messages.
#[derive(Default)]
struct Gate {
    bodies: Mutex<Vec<serde_json::Value>>,
    /// The next call waits.
    shut: Mutex<bool>,
    reached: tokio::sync::Notify,
    opened: tokio::sync::Notify,
}

#[async_trait]
impl Broker for Gate {
    async fn provision(&self, _: &AgentQueue, _: &SecretString) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn publish(&self, _: &AgentQueue, messages: &[Outgoing]) -> Vec<Result<(), BrokerError>> {
        self.bodies.lock().unwrap().extend(messages.iter().map(|m| serde_json::from_str(&m.body).unwrap()));
        let shut = std::mem::take(&mut *self.shut.lock().unwrap());
        if shut {
            self.reached.notify_one();
            self.opened.notified().await;
        }
        messages.iter().map(|_| Ok(())).collect()
    }

    async fn status(&self, _: &AgentQueue) -> Result<QueueStatus, BrokerError> {
        Ok(QueueStatus { exists: true, consumers: 1, messages: 0 })
    }
}

#[async_trait]
impl Broker for Ledger {
    async fn provision(&self, _: &AgentQueue, _: &SecretString) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn publish(&self, _: &AgentQueue, messages: &[Outgoing]) -> Vec<Result<(), BrokerError>> {
        // Two points at which a crash may come: before and after the broker has them.
        tokio::task::yield_now().await;
        let failure = self.failures.lock().unwrap().pop();
        if let Some(failure) = failure {
            return messages.iter().map(|_| Err(failure.clone())).collect();
        }
        for message in messages {
            *self.taken.lock().unwrap().entry(message.id.clone()).or_default() += 1;
        }
        if std::mem::take(&mut *self.hangs.lock().unwrap()) {
            self.hung.notify_one();
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
        messages.iter().map(|_| Ok(())).collect()
    }

    async fn status(&self, _: &AgentQueue) -> Result<QueueStatus, BrokerError> {
        Ok(QueueStatus { exists: true, consumers: 1, messages: 0 })
    }
}

fn publisher(server: &TestServer, broker: Arc<dyn Broker>) -> Publisher {
    let app = &server.app;
    let parts = PublisherParts {
        read: app.read.clone(),
        store: Arc::clone(&app.store),
        registry: Arc::clone(&app.registry),
        follower: Arc::clone(&app.follower),
        allocations: Arc::clone(&app.allocations),
        settings: Arc::clone(&app.settings),
        clock: Arc::clone(&app.clock),
        broker,
        queues: Arc::clone(&app.agent_queues) as _,
        database: app.options.database.clone(),
        wake: Arc::default(),
    };
    let retry = RetryOptions { first: std::time::Duration::ZERO, longest: std::time::Duration::ZERO, attempts_max: 3 };
    Publisher::new(parts, DispatchOptions { publishes: true, retry, ..DispatchOptions::default() })
}

/// Runs something until it is done or was polled so many times; then it is gone, as after a crash.
async fn cut_off<T>(work: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut work = pin!(work);
    let mut left = polls;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        work.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Dispatches recorded as sent, with how often.
async fn recorded(server: &TestServer) -> BTreeMap<String, usize> {
    let mut sent = BTreeMap::new();
    for event in server.app.store.read_all(Position::START, 100_000).await.unwrap() {
        if let Some(Ok(AllocationEvent::StompMessageSent(one))) =
            AllocationEvent::decode(&event.event_type, &event.payload)
            && let Some(dispatch) = one.dispatch
        {
            *sent.entry(dispatch.to_string()).or_default() += 1;
        }
    }
    sent
}

async fn site() -> TestServer {
    let server = TestServer::customized(|options| options.dispatch.publishes = false).await;
    server.app.agent_queues.put(queue_of("hpc1", 1));
    server.policy(|_| ()).await;
    server.app.settle().await.unwrap();
    server
}

#[tokio::test]
async fn a_crash_at_any_step_loses_nothing_and_records_nothing_twice() {
    let server = site().await;
    let never = CancellationToken::new();
    let ledger = Arc::new(Ledger::default());
    let mut rounds = 0;
    for polls in 1.. {
        rounds += 1;
        let hours = 1000 + polls;
        let change = serde_json::json!({"limits": {"node_hours": hours}});
        server.patch(Who::Staff, &resource_path("climate-hpc1"), &change).await.expect(200);
        server.app.settle().await.unwrap();
        let whole = cut_off(publisher(&server, Arc::clone(&ledger) as _).work(&never), polls).await;
        // What the log was handed before the crash is in it, or not: here no process ended, so something else goes after it.
        let renamed = serde_json::json!({"name": format!("bio {polls}")});
        server.patch(Who::Staff, &resource_path("bio-hpc1"), &renamed).await.expect(200);
        // Started again, over whatever was left.
        let again = publisher(&server, Arc::clone(&ledger) as _);
        loop {
            server.app.consumers.settle().await.unwrap();
            if again.work(&never).await.unwrap() == 0 {
                break;
            }
        }
        server.app.settle().await.unwrap();
        let depth = again.depth().await.unwrap();
        assert_eq!(depth.queued, 0, "after {polls} polls");
        if whole.is_some() {
            break;
        }
    }
    assert!(rounds > 2, "a pass is more than {rounds} steps");
    // And once more just where it hurts: the broker has it, and nobody here knows.
    let change = serde_json::json!({"limits": {"node_hours": 5000}});
    server.patch(Who::Staff, &resource_path("climate-hpc1"), &change).await.expect(200);
    server.app.settle().await.unwrap();
    *ledger.hangs.lock().unwrap() = true;
    let doomed = publisher(&server, Arc::clone(&ledger) as _);
    tokio::select! {
        _ = doomed.work(&never) => panic!("it hangs"),
        () = ledger.hung.notified() => {}
    }
    let again = publisher(&server, Arc::clone(&ledger) as _);
    while again.work(&never).await.unwrap() > 0 {
        server.app.settle().await.unwrap();
    }
    let recorded = recorded(&server).await;
    let taken = ledger.taken.lock().unwrap().clone();
    let handed: BTreeMap<&str, usize> =
        taken.iter().filter(|(id, _)| !id.starts_with("resource-")).map(|(id, n)| (&id[..32], *n)).collect();
    assert_eq!(recorded.keys().map(String::as_str).collect::<Vec<_>>(), handed.keys().copied().collect::<Vec<_>>());
    assert!(recorded.values().all(|n| *n == 1), "{recorded:?}");
    assert!(handed.values().all(|n| (1..=2).contains(n)), "at least once, and once more after a crash: {handed:?}");
    assert!(handed.values().any(|n| *n == 2), "some crash came between hand-over and record");
    assert!(handed.values().any(|n| *n == 1), "and some did not");
    server.stop().await;
}

#[tokio::test]
async fn the_built_in_broker_has_each_message_once_wherever_the_crash_came() {
    let server = site().await;
    let never = CancellationToken::new();
    let broker = server.app.builtin_broker.clone().unwrap();
    let queue = queue_of("hpc1", 1);
    let mut dispatches = 0;
    for polls in (1..).step_by(3) {
        let change = serde_json::json!({"limits": {"node_hours": 1000 + polls}});
        server.patch(Who::Staff, &resource_path("climate-hpc1"), &change).await.expect(200);
        server.app.settle().await.unwrap();
        dispatches += 1;
        let whole = cut_off(publisher(&server, Arc::clone(&broker) as _).work(&never), polls).await;
        let again = publisher(&server, Arc::clone(&broker) as _);
        loop {
            server.app.consumers.settle().await.unwrap();
            if again.work(&never).await.unwrap() == 0 {
                break;
            }
        }
        if whole.is_some() {
            break;
        }
    }
    // One of `bio-hpc1`, and one for each change of `climate-hpc1`, whose first was superseded before any pass; and word of the
    // restrictions of both.
    assert_eq!(broker.status(&queue).await.unwrap().messages, dispatches + 1 + 2);
    assert_eq!(recorded(&server).await.len() as u64, dispatches + 1);
    server.stop().await;
}

#[tokio::test]
async fn a_broker_that_is_away_is_tried_again_and_one_that_refuses_is_given_up_on() {
    let server = site().await;
    let never = CancellationToken::new();
    let ledger = Arc::new(Ledger::default());
    let publisher = publisher(&server, Arc::clone(&ledger) as _);
    for _ in 0..10 {
        ledger.failures.lock().unwrap().push(BrokerError::Unreachable("nobody is there".into()));
        assert_eq!(publisher.work(&never).await.unwrap(), 0);
    }
    assert_eq!(publisher.depth().await.unwrap().queued, 2, "however often it is away");
    for attempt in 1..=3 {
        ledger.failures.lock().unwrap().push(BrokerError::Refused("too large".into()));
        let recorded = publisher.work(&never).await.unwrap();
        assert_eq!(recorded, if attempt == 3 { 2 } else { 0 }, "attempt {attempt}");
    }
    server.app.settle().await.unwrap();
    let (letters, total) = publisher.dead_letters(10, 0).await.unwrap();
    assert_eq!((letters.len(), total), (2, 2));
    assert!(letters.iter().all(|letter| letter.error.as_deref() == Some("too large") && letter.sent_at.is_none()));
    let depth = publisher.depth().await.unwrap();
    assert_eq!((depth.queued, depth.given_up), (0, 2));
    server.stop().await;
}

#[tokio::test]
async fn a_failure_that_comes_before_its_hand_over_is_recorded_stays_one() {
    let server = TestServer::customized(|options| options.dispatch.publishes = false).await;
    server.app.agent_queues.put(queue_of("hpc1", 1));
    let (path, _) = server.policy(|_| ()).await;
    server.app.settle().await.unwrap();
    let policy: uuid::Uuid = path.trim_end_matches('/').rsplit('/').next().unwrap().parse().unwrap();
    let hasty = Hasty { app: Arc::clone(&server.app), policy: policy.into() };
    let publisher = publisher(&server, Arc::new(hasty));
    let never = CancellationToken::new();
    while publisher.work(&never).await.unwrap() > 0 {
        server.app.consumers.settle().await.unwrap();
    }
    let depth = publisher.depth().await.unwrap();
    assert_eq!((depth.queued, depth.unanswered), (0, 0), "nobody waits for what was answered: {depth:?}");
    let (dead, total) = publisher.dead_letters(10, 0).await.unwrap();
    assert_eq!(total, 2, "one for each resource");
    assert!(dead.iter().all(|letter| letter.reason == DeadLetterReason::Failed), "{dead:?}");
    assert!(dead.iter().all(|letter| letter.error.as_deref() == Some("no such account")), "{dead:?}");
    server.stop().await;
}

#[tokio::test]
async fn restrictions_that_change_while_word_of_them_is_handed_over_are_told() {
    let server = site().await;
    let never = CancellationToken::new();
    let gate = Arc::new(Gate::default());
    let publisher = publisher(&server, Arc::clone(&gate) as _);
    server.report("climate-hpc1", "2500", "2026-03-01").await;
    for _ in 0..10 {
        server.app.consumers.settle().await.unwrap();
        publisher.work(&never).await.unwrap();
    }
    // Word of the restrictions alone, which are lifted while the broker takes it.
    let flags = Flags { paused: true, downscaled: true };
    let again = DispatchRecord::RestrictionResendRequested(RestrictionResendRequested { flags });
    let resource: uuid::Uuid = id("resource", "climate-hpc1").parse().unwrap();
    let meta = CommandMeta::system(uuid::Uuid::from_u128(1));
    let command = AllocationCommand::RecordDispatch(again);
    server.app.allocations.execute(resource.into(), &command, &meta).await.unwrap();
    server.app.consumers.settle().await.unwrap();
    (*gate.shut.lock().unwrap(), *gate.bodies.lock().unwrap()) = (true, Vec::new());
    let lifted = async {
        gate.reached.notified().await;
        let limits = serde_json::json!({"limits": {"node_hours": 9000}});
        server.patch(Who::Staff, &resource_path("climate-hpc1"), &limits).await.expect(200);
        server.app.consumers.settle().await.unwrap();
        gate.opened.notify_one();
    };
    let (passed, ()) = tokio::join!(publisher.work(&never), lifted);
    passed.unwrap();
    let mut recorded = 0;
    for _ in 0..10 {
        server.app.consumers.settle().await.unwrap();
        recorded += publisher.work(&never).await.unwrap();
    }
    let told: Vec<serde_json::Value> = gate.bodies.lock().unwrap().iter().map(|body| body["paused"].clone()).collect();
    assert_eq!(told.first(), Some(&true.into()), "what was handed over first: {told:?}");
    assert_eq!(told.last(), Some(&false.into()), "the agent hears that they are lifted: {told:?}");
    assert_eq!(recorded, 1, "and the log has each hand-over once");
    server.stop().await;
}
