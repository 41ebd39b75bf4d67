//! Any interleaving of events, pruning, restarts and rebuilds gives what one fold of the log gives, and an event that comes
//! twice changes nothing.

use chrono::TimeDelta;
use proptest::prelude::*;
use sluice::events::allocation::ResourceState;
use sluice::projections::command_history::CommandHistory;
use sluice::projections::evaluation_log::EvaluationLog;
use sluice::projections::event_chains::EventChains;
use sluice::projections::registry::Registry;
use sluice::projections::site_answers::SiteAnswers;
use sluice::projections::status_summary::{StatusFilter, StatusSummary, list, policy_status};
use sluice::projections::usage::Usage;
use sluice::projections::{NAMES, rebuild, retention};
use sluice::store::consumer::Consumer;

use super::{ALL, Models, differences};
use crate::support::events::{
    FREE, Log, dispatch, holds_at, limits, policy, reported, restricted, state, unmatched, usage, user_usage, withdrawn,
};

#[derive(Debug, Clone)]
enum Step {
    Wait(u16),
    /// Evaluations of a resource by one policy or two, and perhaps what the agent is told.
    Evaluate {
        resource: u8,
        both: bool,
        used: u8,
        tell: bool,
    },
    Fail {
        resource: u8,
    },
    Report {
        resource: u8,
        back: u8,
        success: bool,
    },
    Unmatched {
        resource: u8,
    },
    Withdraw {
        resource: u8,
    },
    State {
        resource: u8,
        gone: bool,
    },
    Usage {
        resource: u8,
        amount: u8,
    },
    ChangePolicy {
        more: bool,
    },
    Retain {
        days: u8,
    },
    Settle,
    Prune,
    Restart {
        batch: u8,
    },
    Rebuild {
        which: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let resource = 0..4_u8;
    prop_oneof![
        4 => (1..4_000_u16).prop_map(Step::Wait),
        8 => (resource.clone(), any::<bool>(), 0..150_u8, any::<bool>())
            .prop_map(|(resource, both, used, tell)| Step::Evaluate { resource, both, used, tell }),
        1 => resource.clone().prop_map(|resource| Step::Fail { resource }),
        3 => (resource.clone(), 0..3_u8, any::<bool>())
            .prop_map(|(resource, back, success)| Step::Report { resource, back, success }),
        1 => resource.clone().prop_map(|resource| Step::Unmatched { resource }),
        1 => resource.clone().prop_map(|resource| Step::Withdraw { resource }),
        1 => (resource.clone(), any::<bool>()).prop_map(|(resource, gone)| Step::State { resource, gone }),
        2 => (resource, any::<u8>()).prop_map(|(resource, amount)| Step::Usage { resource, amount }),
        1 => any::<bool>().prop_map(|more| Step::ChangePolicy { more }),
        2 => (0..20_u8).prop_map(|days| Step::Retain { days }),
        4 => Just(Step::Settle),
        2 => Just(Step::Prune),
        2 => (1..12_u8).prop_map(|batch| Step::Restart { batch }),
        2 => (0..7_u8).prop_map(|which| Step::Rebuild { which }),
    ]
}

/// What the steps need to remember.
struct World {
    log: Log,
    notify: &'static [&'static str],
    flags: [sluice::domain::evaluate::Flags; 4],
    told: [Vec<u128>; 4],
    dispatches: u128,
}

impl World {
    async fn new() -> Self {
        let mut log = Log::new("2026-02-20T00:00:00Z");
        log.customers().await;
        log.policy(1, &["80"]).await;
        log.policy(2, &["80"]).await;
        for number in 0..4 {
            log.register(number).await;
        }
        Self { log, notify: &["80"], flags: [FREE; 4], told: Default::default(), dispatches: 0 }
    }

    async fn evaluate(&mut self, resource: u8, both: bool, used: u8, tell: bool) {
        let (number, used) = (u128::from(resource), u32::from(used));
        let before = self.flags[usize::from(resource)];
        let policies: &[u128] = if both { &[1, 2] } else { &[1] };
        let mut events = Vec::new();
        for policy in policies {
            events.push(self.log.evaluation(number, *policy, used, before, self.notify));
        }
        let after = holds_at(used);
        if before != after {
            events.push(restricted(before, after));
            self.flags[usize::from(resource)] = after;
        }
        if tell {
            self.dispatches += 1;
            events.push(self.log.settings(number, dispatch(self.dispatches), policies, after));
            self.told[usize::from(resource)].push(self.dispatches);
        }
        self.log.on(number, events).await;
    }

    /// True if the step was an event.
    async fn happen(&mut self, step: &Step) -> bool {
        match step {
            Step::Wait(minutes) => self.log.advance(TimeDelta::minutes((*minutes).into())),
            Step::Evaluate { resource, both, used, tell } => self.evaluate(*resource, *both, *used, *tell).await,
            Step::Fail { resource } => {
                let failure = self.log.failure(1, self.flags[usize::from(*resource)]);
                self.log.on((*resource).into(), vec![failure]).await;
            }
            Step::Report { resource, back, success } => {
                let told = &self.told[usize::from(*resource)];
                let Some(number) = told.iter().rev().nth((*back).into()).copied() else { return true };
                self.log.on((*resource).into(), vec![reported(dispatch(number), 1, *success, "no")]).await;
            }
            Step::Unmatched { resource } => drop(self.log.on((*resource).into(), vec![unmatched(1)]).await),
            Step::Withdraw { resource } => drop(self.log.on((*resource).into(), vec![withdrawn(2)]).await),
            Step::State { resource, gone } => {
                let to = if *gone { ResourceState::Terminating } else { ResourceState::Ok };
                self.log.on((*resource).into(), vec![state(ResourceState::Updating, to)]).await;
            }
            Step::Usage { resource, amount } => {
                let (month, amount) = ("2026-03", u32::from(*amount));
                let events = vec![usage(month, amount), user_usage(month, 3, amount), limits(amount)];
                self.log.on((*resource).into(), events).await;
            }
            Step::ChangePolicy { more } => {
                self.notify = if *more { &["40", "80"] } else { &["70"] };
                self.log.policy(1, self.notify).await;
                self.log.policy(2, self.notify).await;
            }
            Step::Retain { days } => {
                let horizon = self.log.now - TimeDelta::days((*days).into());
                self.log.retain_from(horizon).await;
            }
            _ => return false,
        }
        true
    }
}

/// The counters are what the lines add up to.
async fn check_counters(models: &Models) {
    for number in 1..3 {
        let status = policy_status(&models.db, policy(number)).await.unwrap().unwrap();
        let filter = StatusFilter { policy: Some(policy(number)), ..StatusFilter::default() };
        let (lines, _) = list(&models.db, &filter, ALL).await.unwrap();
        let n = |wanted: &dyn Fn(&sluice::projections::status_summary::StatusRow) -> bool| {
            i64::try_from(lines.iter().filter(|line| wanted(line)).count()).unwrap()
        };
        assert_eq!(status.resources_evaluated, n(&|_| true));
        assert_eq!(status.paused, n(&|line| line.flags.paused));
        assert_eq!(status.downscaled, n(&|line| line.flags.downscaled));
        assert_eq!(status.affected_resources_count, n(&|line| line.held.any()));
        assert_eq!(status.fired_resources, n(&|line| line.fired));
        assert_eq!(status.full, n(&|line| line.full));
        for (agent, counted) in &status.agent {
            assert_eq!(*counted, n(&|line| line.agent == *agent), "{agent:?}");
        }
        for (percent, counted) in &status.over_thresholds {
            assert_eq!(*counted, n(&|line| line.thresholds_reached.contains(percent)));
        }
    }
}

async fn run(steps: Vec<Step>) {
    let mut world = World::new().await;
    let mut models = Models::new(5).await;
    let mut feed = models.start(&world.log);
    for step in steps {
        match &step {
            Step::Settle => drop(feed.settle().await.unwrap()),
            Step::Prune => drop(retention::prune(&models.db, |_| {}).await.unwrap()),
            Step::Restart { batch } => {
                models.limits.consumer_batch_events = (*batch).into();
                feed = models.start(&world.log);
            }
            Step::Rebuild { which } => {
                rebuild::one(&feed, &models.db, NAMES[usize::from(*which)], |_| {}).await.unwrap();
            }
            happens => assert!(world.happen(happens).await, "{happens:?} is handled above"),
        }
    }
    feed.settle().await.unwrap();
    retention::prune(&models.db, |_| {}).await.unwrap();
    check_counters(&models).await;
    let fold = Models::of(&world.log).await;
    retention::prune(&fold.db, |_| {}).await.unwrap();
    assert_eq!(differences(&models.dump().await, &fold.dump().await), []);
    rebuild::all(&feed, &models.db, |_, _| {}).await.unwrap();
    assert_eq!(differences(&models.dump().await, &fold.dump().await), [], "after a rebuild of everything");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_interleaving_is_the_fold_of_the_log(steps in prop::collection::vec(step(), 1..60)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(steps));
    }
}

/// A log in which everything happens.
async fn eventful() -> Log {
    let mut world = World::new().await;
    for round in 0..6_u8 {
        for resource in 0..4 {
            for step in [
                Step::Wait(700),
                Step::Evaluate { resource, both: round % 2 == 0, used: 30 * round + resource, tell: true },
                Step::Fail { resource },
                Step::Report { resource, back: 0, success: round % 3 > 0 },
                Step::Usage { resource, amount: round },
                Step::Unmatched { resource },
            ] {
                assert!(world.happen(&step).await);
            }
        }
        for step in [
            Step::ChangePolicy { more: round % 2 == 0 },
            Step::Withdraw { resource: 1 },
            Step::State { resource: 2, gone: round == 5 },
            Step::Retain { days: 2 },
        ] {
            assert!(world.happen(&step).await);
        }
    }
    world.log
}

#[tokio::test]
async fn an_event_that_comes_twice_changes_nothing() {
    let log = eventful().await;
    let once = Models::of(&log).await;
    let twice = Models::new(1).await;
    let events = log.all().await;
    assert!(events.len() > 100);
    let mut consumers: Vec<Box<dyn Consumer<sluice::events::Event>>> = vec![
        Box::new(Registry::default()),
        Box::new(Usage::default()),
        Box::new(EvaluationLog::default()),
        Box::new(CommandHistory::default()),
        Box::new(StatusSummary::default()),
        Box::new(SiteAnswers),
        Box::new(EventChains::default()),
    ];
    for batch in events.chunks(7) {
        for again in [false, true] {
            let mut tx = twice.db.begin().await.unwrap();
            for consumer in &mut consumers {
                if again {
                    // As another process would that had not seen the first time.
                    consumer.reload(&mut tx).await.unwrap();
                }
                consumer.apply(&mut tx, batch).await.unwrap();
            }
            tx.commit().await.unwrap();
        }
    }
    assert_eq!(differences(&once.dump().await, &twice.dump().await), []);
}

#[tokio::test]
async fn a_rebuild_without_the_horizon_is_pruned_to_the_same_tables() {
    let mut log = eventful().await;
    let models = Models::of(&log).await;
    let horizon = log.now - TimeDelta::days(1);
    log.retain_from(horizon).await;
    let feed = models.start(&log);
    feed.settle().await.unwrap();
    let pruned = retention::prune(&models.db, |_| {}).await.unwrap();
    assert!(pruned.evaluations > 0 && pruned.dispatches > 0);
    let expected = models.dump().await;
    // Written in full first, then pruned.
    feed.rebuild(Box::new(EvaluationLog::default()), |_| {}).await.unwrap();
    feed.rebuild(Box::new(CommandHistory::default()), |_| {}).await.unwrap();
    assert_ne!(models.dump().await["evaluation_log"], expected["evaluation_log"]);
    retention::prune(&models.db, |_| {}).await.unwrap();
    assert_eq!(differences(&models.dump().await, &expected), []);
    // Not written at all.
    rebuild::all(&feed, &models.db, |_, _| {}).await.unwrap();
    assert_eq!(differences(&models.dump().await, &expected), []);
    assert!(rebuild::one(&feed, &models.db, "nothing", |_| {}).await.is_err());
}
