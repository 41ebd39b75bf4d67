//! Limits and SLURM's counter: whatever comes in whatever order, at the moment a message is handed over its limits minus what
//! SLURM will have counted are what the policies still allow.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use proptest::prelude::*;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use sluice::commands::allocation::{AllocationCommand, UsageReport};
use sluice::domain::evaluate::Trigger;
use sluice::domain::period::{Month, PeriodKind};
use sluice::domain::policy::PolicyTerms;
use sluice::events::allocation::{CommandReport, ExecutionMode, SettingsCommanded};

use crate::support::world::{ALL_THREE, World, amounts, message, terms};

/// Before the site began: what is imported of it, SLURM has long counted.
const EARLIER: [&str; 3] = ["2026-02", "2026-03", "2026-04"];

#[derive(Debug, Clone, Copy)]
enum Fate {
    /// The agent does all of it.
    Done,
    /// It dies before it does anything, and says nothing.
    Lost,
    /// It fails before it comes to the reset, and says so in time.
    Failed,
}

#[derive(Debug, Clone)]
enum Step {
    /// Jobs run, and are reported.
    Report(i64),
    Import(usize, i64),
    Limit(i64),
    HandOver(Fate),
    Answer,
    Minutes(i64),
    Days(i64, bool),
    Account(u8),
    ResetByHand,
}

fn step() -> impl Strategy<Value = Step> {
    let fate = prop_oneof![3 => Just(Fate::Done), 1 => Just(Fate::Lost), 1 => Just(Fate::Failed)];
    prop_oneof![
        6 => (1..400_i64).prop_map(Step::Report),
        2 => (0..EARLIER.len(), 0..600_i64).prop_map(|(month, hours)| Step::Import(month, hours)),
        2 => (0..3000_i64).prop_map(Step::Limit),
        6 => fate.prop_map(Step::HandOver),
        4 => Just(Step::Answer),
        2 => (1..70_i64).prop_map(Step::Minutes),
        2 => (1..40_i64, any::<bool>()).prop_map(|(days, noticed)| Step::Days(days, noticed)),
        1 => (0..3_u8).prop_map(Step::Account),
        1 => Just(Step::ResetByHand),
    ]
}

/// The site: what SLURM counts, and what an agent has still to report.
struct Site {
    world: World,
    used: BTreeMap<Month, i64>,
    /// Minutes on the account's counter.
    counter: i64,
    /// Sluice can know what the counter counts from.
    known: bool,
    /// The agent said that it never came to the reset.
    owed: bool,
    reports: Vec<(SettingsCommanded, bool)>,
}

impl Site {
    fn new(kinds: &[PeriodKind]) -> Self {
        let mut world = World::on("2026-05-10");
        for (name, kind) in ["one", "two"].into_iter().zip(kinds) {
            world.put_policy(name, PolicyTerms { period: *kind, ..terms(ALL_THREE) });
        }
        world.register(&[("node", "1000")]);
        Self { world, used: BTreeMap::new(), counter: 54_321, known: false, owed: false, reports: Vec::new() }
    }

    /// Minutes that the strictest policy still allows.
    fn allowed(&self) -> i64 {
        let book = self.world.book();
        let left = |policy: &std::sync::Arc<sluice::commands::allocation::PolicyInForce>| {
            let (recorded, _) = book.policies.get(&policy.id()).unwrap().basis.as_ref().unwrap();
            let months = book.usage.iter().filter(|(month, _)| recorded.basis.period.contains(**month));
            let used: Decimal = months.filter_map(|(_, usage)| usage.get("node")).map(|term| term.amount).sum();
            (recorded.allocation.effective["node"] * Decimal::from(72) - used * Decimal::from(60)).to_i64().unwrap()
        };
        self.world.policies.iter().map(left).min().unwrap()
    }

    fn hand_over(&mut self, fate: Fate) {
        if self.world.book().newest_dispatch().is_none() {
            return;
        }
        let first = self.world.book().newest_dispatch().is_some_and(|newest| newest.waits);
        let told = self.world.hand_over();
        let resets = told.settings.reset_raw_usage;
        let counted = if resets { 0 } else { self.counter };
        let (limit, allowed) = (told.settings.limits["node"], self.allowed());
        if resets || self.known {
            assert!(
                limit - counted == allowed || (limit == 0 && allowed <= 0),
                "{limit} minutes beside {counted} counted, and {allowed} are left: {told:?}"
            );
        }
        assert!(resets || !self.owed, "the reset that failed goes with it: {told:?}");
        match fate {
            Fate::Done => {
                self.known |= resets;
                self.owed &= !resets;
                self.counter = counted;
                self.reports.push((told, true));
            }
            Fate::Lost => {
                // Nobody can know any more whether it was reset.
                self.known &= !resets;
                self.owed &= !resets;
            }
            Fate::Failed => {
                self.known &= !resets;
                // After a message that nobody answered, nobody knows whether the first one did it.
                let fresh = first || self.world.book().newest_dispatch().is_some_and(|newest| !newest.resent);
                self.reports.push((told, false));
                self.answer();
                self.owed = resets && fresh;
            }
        }
    }

    fn answer(&mut self) {
        for (told, success) in std::mem::take(&mut self.reports) {
            let ran = if success && told.settings.reset_raw_usage { vec!["RawUsage=0".to_owned()] } else { Vec::new() };
            let report = CommandReport {
                success,
                error_message: String::new(),
                mode: ExecutionMode::Production,
                commands_executed: ran,
            };
            let (policy, dispatch) = (told.policy, Some(told.dispatch));
            self.world.when(&AllocationCommand::ReportCommandResult { policy, dispatch, report }).unwrap();
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Report(hours) => {
                let month = Month::of_instant(self.world.now, self.world.rules.zone);
                let total = self.used.entry(month).or_default();
                *total += hours;
                self.counter += hours * 60;
                self.world.report(&month.to_string(), &[("node", &total.to_string())]);
            }
            Step::Import(month, hours) => {
                self.world.report(EARLIER[*month], &[("node", &hours.to_string())]);
            }
            Step::Limit(hours) => drop(self.world.limits(&[("node", &hours.to_string())])),
            Step::HandOver(fate) => self.hand_over(*fate),
            Step::Answer => self.answer(),
            Step::Minutes(minutes) => self.world.now += TimeDelta::minutes(*minutes),
            Step::Days(days, noticed) => {
                self.world.now += TimeDelta::days(*days);
                if *noticed {
                    self.world.evaluate(Trigger::PeriodBoundary);
                }
            }
            Step::Account(number) => {
                let backend_id = Some(format!("hpc_{number}"));
                let change = AllocationCommand::ChangeDetails { name: None, backend_id };
                if !self.world.when(&change).unwrap().is_empty() {
                    // Whatever has run there before.
                    (self.counter, self.known, self.owed) = (4_321, false, false);
                    self.reports.clear();
                }
            }
            Step::ResetByHand => {
                self.world.when(&AllocationCommand::ResetRawUsage).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn limits_minus_what_slurm_counts_are_what_the_policies_allow(
        kinds in prop_oneof![
            Just(vec![PeriodKind::Month]),
            Just(vec![PeriodKind::Quarter]),
            Just(vec![PeriodKind::Year]),
            Just(vec![PeriodKind::Quarter, PeriodKind::Month]),
        ],
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut site = Site::new(&kinds);
        for step in &steps {
            site.take(step);
        }
        site.hand_over(Fate::Done);
    }
}

#[test]
fn what_is_imported_before_an_agent_comes_is_taken_from_the_limit_that_waits() {
    let mut world = World::on("2026-04-15");
    world.put_policy("main", PolicyTerms { period: PeriodKind::Quarter, ..terms(ALL_THREE) });
    world.register(&[("node", "1500")]);
    let events = world.report("2026-04", &[("node", "900")]);
    let told = message(&events).unwrap();
    assert_eq!(told.settings.limits["node"], 54_000);
    assert!(told.settings.reset_raw_usage && told.reset.is_none(), "the same reset, counting from later on");
    assert_eq!(world.hand_over().settings.limits["node"], 54_000);
    // From here on SLURM counts; a month before that is none of it, whenever it is imported.
    assert!(message(&world.report("2026-04", &[("node", "950")])).is_none());
    world.answer();
    // A reset by hand in May: what is told of April after that was all counted before.
    world.day("2026-05-02");
    world.when(&AllocationCommand::ResetRawUsage).unwrap();
    world.hand_over();
    world.answer();
    let events = world.report("2026-04", &[("node", "1000")]);
    assert_eq!(message(&events).unwrap().settings.limits["node"], 48_000);
}

#[test]
fn what_was_measured_before_the_counter_began_is_none_of_what_it_counts_however_late_it_is_told() {
    let mut world = World::on("2026-04-15");
    world.put_policy("main", PolicyTerms { period: PeriodKind::Quarter, ..terms(ALL_THREE) });
    world.register(&[("node", "1500")]);
    world.hand_over();
    world.answer();
    world.day("2026-04-16");
    let report = UsageReport::new("2026-04".parse().unwrap(), amounts(&[("node", "900")]));
    let report = report.measured_at("2026-04-14T00:00:00Z".parse().unwrap());
    let events = world.when(&AllocationCommand::ReportUsage(report)).unwrap();
    assert_eq!(message(&events).unwrap().settings.limits["node"], 54_000);
    assert!(!message(&events).unwrap().settings.reset_raw_usage);
    world.hand_over();
    assert!(message(&world.used("950")).is_none(), "fifty more, and SLURM has counted them");
}

#[test]
fn a_reset_that_failed_goes_with_what_follows_whenever_that_is() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    let told = world.hand_over();
    let report = CommandReport {
        success: false,
        error_message: "sacctmgr: error: it did not work".into(),
        mode: ExecutionMode::Production,
        commands_executed: vec!["sacctmgr modify account hpc_climate set fairshare=333".into()],
    };
    let (policy, dispatch) = (told.policy, Some(told.dispatch));
    let answer = AllocationCommand::ReportCommandResult { policy, dispatch, report };
    assert!(message(&world.when(&answer).unwrap()).is_none(), "it is not tried again by itself");
    world.day("2026-03-20");
    assert!(message(&world.used("100")).is_none());
    let events = world.limits(&[("node", "2000")]);
    let told = message(&events).unwrap();
    assert!(told.settings.reset_raw_usage && told.inherits_reset == dispatch);
    assert_eq!(told.settings.limits["node"], 2000 * 72 - 100 * 60);
}

#[test]
fn a_reset_that_failed_is_worked_out_anew_when_it_is_handed_over_in_a_month_without_decisions() {
    let mut world = World::on("2026-05-10");
    world.put_policy("main", PolicyTerms { period: PeriodKind::Quarter, ..terms(ALL_THREE) });
    world.register(&[("node", "1000")]);
    let told = world.hand_over();
    let report = CommandReport {
        success: false,
        error_message: "sacctmgr: error: it did not work".into(),
        mode: ExecutionMode::Production,
        commands_executed: Vec::new(),
    };
    let (policy, dispatch) = (told.policy, Some(told.dispatch));
    world.when(&AllocationCommand::ReportCommandResult { policy, dispatch, report }).unwrap();
    world.used("10");
    world.day("2026-06-01");
    let told = world.hand_over();
    assert!(told.settings.reset_raw_usage && told.inherits_reset == dispatch);
    assert_eq!(told.settings.limits["node"], 1000 * 72 - 10 * 60, "ten hours that the reset takes off the counter");
}

#[test]
fn what_waits_is_compared_with_what_the_account_was_told_and_not_with_itself() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    world.hand_over();
    world.answer();
    world.used("1000");
    let events = world.limits(&[("node", "1010")]);
    let told: Vec<_> = message(&world.used("1010")).map(|m| m.commands.clone()).into_iter().flatten().collect();
    assert!(
        message(&events).is_some_and(|m| m.commands.iter().all(|c| !c.shell_command.contains("qos="))),
        "back to normal"
    );
    assert!(told.iter().any(|c| c.shell_command.ends_with("qos=slowdown")), "nobody has told the account yet");
    assert_eq!(amounts(&[("node", "1010")]), world.book().facts.limits);
}
