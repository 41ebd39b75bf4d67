//! Equal usage, equal treatment: evaluations of an offering at the same whole percent are held beside each other. Where the
//! allocations were treated differently, something has to explain it: the rule, a hold by hand, another policy on the same
//! allocation, or a threshold within the percent. What nothing explains is named as such.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use uuid::Uuid;

use super::known::Known;
use super::pass::{Collector, Seen};
use super::{Asked, Cell, EventRef, Refs, Table};
use crate::domain::evaluate::Flags;
use crate::domain::ids::{HoldId, OfferingId, PolicyId, ResourceId};
use crate::events::Event;
use crate::events::allocation::{AllocationEvent, HoldKind};
use crate::events::envelope::RecordedEvent;

const COLUMNS: [&str; 12] = [
    "offering",
    "percent",
    "treatment",
    "evaluations",
    "allocations",
    "policy",
    "rule_version",
    "others",
    "others_evaluations",
    "others_rule",
    "explained_by",
    "explanation",
];

/// Allocations that a class names.
const NAMED: usize = 5;

/// Everything that a treatment rests on, but for the percentage.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Class {
    policy: PolicyId,
    version: u64,
    /// What the policy itself holds: paused, slowed down.
    rule: (bool, bool),
    /// What was in force: paused, slowed down.
    treated: (bool, bool),
    /// Kinds of holds by hand in force.
    by_hand: BTreeSet<&'static str>,
}

#[derive(Debug)]
struct Members {
    evaluations: Refs,
    allocations: BTreeSet<ResourceId>,
    more: bool,
    lowest: Decimal,
    highest: Decimal,
}

/// An evaluation whose append may still change restrictions.
struct Pending {
    offering: OfferingId,
    policy: PolicyId,
    version: u64,
    rule: (bool, bool),
    percentage: Decimal,
    here: EventRef,
}

#[derive(Default)]
struct Standing {
    flags: Flags,
    by_hand: HashMap<HoldId, HoldKind>,
    pending: Vec<Pending>,
    append: Option<(Uuid, DateTime<Utc>)>,
}

/// Makes the report.
pub(super) struct Fairness {
    asked: Asked,
    standing: HashMap<ResourceId, Standing>,
    groups: BTreeMap<(OfferingId, u32), BTreeMap<Class, Members>>,
}

fn pair(flags: Flags) -> (bool, bool) {
    (flags.paused, flags.downscaled)
}

fn treatment(pair: (bool, bool)) -> &'static str {
    match pair {
        (true, _) => "paused",
        (false, true) => "slowed down",
        (false, false) => "not restricted",
    }
}

impl Fairness {
    pub(super) fn new(asked: &Asked) -> Self {
        Self { asked: asked.clone(), standing: HashMap::new(), groups: BTreeMap::new() }
    }

    /// Takes evaluations into account whose append is over.
    fn settle(&mut self, resource: ResourceId) {
        let Some(standing) = self.standing.get_mut(&resource) else { return };
        let treated = pair(standing.flags);
        let by_hand: BTreeSet<&'static str> = standing.by_hand.values().map(|kind| kind.as_str()).collect();
        for one in std::mem::take(&mut standing.pending) {
            let percent = one.percentage.trunc().to_u32().unwrap_or(u32::MAX);
            let class =
                Class { policy: one.policy, version: one.version, rule: one.rule, treated, by_hand: by_hand.clone() };
            let members = self.groups.entry((one.offering, percent)).or_default().entry(class).or_insert(Members {
                evaluations: Refs::default(),
                allocations: BTreeSet::new(),
                more: false,
                lowest: one.percentage,
                highest: one.percentage,
            });
            members.evaluations.add(one.here);
            members.lowest = members.lowest.min(one.percentage);
            members.highest = members.highest.max(one.percentage);
            if members.allocations.len() < NAMED {
                members.allocations.insert(resource);
            } else {
                members.more |= !members.allocations.contains(&resource);
            }
        }
    }

    fn event(&mut self, seen: &Seen<'_>, resource: ResourceId, event: &AllocationEvent, known: &Known) {
        match event {
            AllocationEvent::PolicyEvaluated(evaluated) => {
                let append = Some((seen.recorded.metadata.correlation_id, seen.recorded.occurred_at));
                if self.standing.entry(resource).or_default().append != append {
                    self.settle(resource);
                }
                let Some(offering) = known.offering_of(resource) else { return };
                let standing = self.standing.entry(resource).or_default();
                standing.append = append;
                let wanted = self.asked.policy.is_none_or(|wanted| wanted == evaluated.policy);
                if wanted && self.asked.span.holds(seen.recorded.occurred_at) {
                    standing.pending.push(Pending {
                        offering,
                        policy: evaluated.policy,
                        version: evaluated.policy_version,
                        rule: pair(evaluated.outcome.holds),
                        percentage: evaluated.outcome.percentage,
                        here: seen.here,
                    });
                }
            }
            AllocationEvent::RestrictionChanged(changed) => {
                self.standing.entry(resource).or_default().flags = changed.to;
            }
            AllocationEvent::HoldPlaced(hold) => {
                self.settle(resource);
                self.standing.entry(resource).or_default().by_hand.insert(hold.hold, hold.kind);
            }
            AllocationEvent::HoldReleased(released) => {
                self.settle(resource);
                self.standing.entry(resource).or_default().by_hand.remove(&released.hold);
            }
            _ => {}
        }
    }
}

/// A version of a policy with the instant from which it was in force.
fn rule(known: &Known, policy: PolicyId, version: u64) -> String {
    let versions = known.policies.get(&policy).map(|policy| &policy.versions);
    let since = versions.and_then(|all| all.iter().find(|(number, ..)| *number == version)).map(|(_, at, _)| *at);
    let since = since.map(|at| format!(", in force from {}", at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)));
    format!("{} version {version}{}", known.policy(policy), since.unwrap_or_default())
}

/// What explains that two classes were treated differently at the same whole percent.
fn explained(known: &Known, one: (&Class, &Members), other: (&Class, &Members)) -> (&'static str, String) {
    let ((class, members), (others, reference)) = (one, other);
    if class.by_hand != others.by_hand {
        let said = |hands: &BTreeSet<&'static str>| {
            if hands.is_empty() { "none".to_owned() } else { hands.iter().copied().collect::<Vec<_>>().join(", ") }
        };
        return (
            "hold",
            format!("holds by hand: {} here, {} with the others", said(&class.by_hand), said(&others.by_hand)),
        );
    }
    let elsewhere = |class: &Class| class.by_hand.is_empty() && class.treated != class.rule;
    if elsewhere(class) || elsewhere(others) {
        let whose = if elsewhere(class) { "here" } else { "with the others" };
        return ("another policy", format!("another policy on the same allocation decides as well, {whose}"));
    }
    if (class.policy, class.version) != (others.policy, others.version) {
        let (here, there) = (rule(known, class.policy, class.version), rule(known, others.policy, others.version));
        return ("rule", format!("{here}; the others: {there}"));
    }
    if members.highest < reference.lowest || members.lowest > reference.highest {
        let (low, high) = if members.highest < reference.lowest {
            (members.highest, reference.lowest)
        } else {
            (reference.highest, members.lowest)
        };
        return ("percent", format!("a threshold lies between {} and {} percent", low.normalize(), high.normalize()));
    }
    ("NOT EXPLAINED", "same rule, same percent, no hold: look at these evaluations".to_owned())
}

impl Collector for Fairness {
    fn wants(&self, name: &str, recorded: &RecordedEvent) -> bool {
        recorded.occurred_at < self.asked.span.to
            && match name {
                "restriction_changed" | "hold_placed" | "hold_released" => true,
                "policy_evaluated" => recorded.occurred_at >= self.asked.span.from,
                _ => false,
            }
    }

    fn take(&mut self, seen: &Seen<'_>, known: &Known) {
        if let (Some(resource), Event::Allocation(event)) = (seen.resource, seen.event) {
            self.event(seen, resource, event, known);
        }
    }

    fn finish(mut self: Box<Self>, known: &Known) -> Vec<Table> {
        let left: Vec<ResourceId> = self.standing.keys().copied().collect();
        for resource in left {
            self.settle(resource);
        }
        let mut table = Table::new("differences", &COLUMNS);
        let (mut compared, mut alike, mut differing) = (Refs::default(), Refs::default(), Refs::default());
        let mut by_reason: BTreeMap<&'static str, Refs> = BTreeMap::new();
        for ((offering, percent), classes) in &self.groups {
            // What most got is what the others are held against; among equals the gentlest.
            let Some(reference) = classes.iter().max_by_key(|(class, members)| {
                (members.evaluations.count, std::cmp::Reverse((class.treated, (*class).clone())))
            }) else {
                continue;
            };
            for (class, members) in classes {
                compared.add_all(&members.evaluations);
                if class.treated == reference.0.treated {
                    alike.add_all(&members.evaluations);
                    continue;
                }
                differing.add_all(&members.evaluations);
                let (by, explanation) = explained(known, (class, members), reference);
                by_reason.entry(by).or_default().add_all(&members.evaluations);
                let mut names: Vec<String> = members.allocations.iter().map(|one| known.name(*one)).collect();
                names.extend(members.more.then(|| "and others".to_owned()));
                let row = vec![
                    Cell::text(known.offering(*offering)),
                    Cell::count((*percent).into()),
                    Cell::text(treatment(class.treated)),
                    members.evaluations.counted(),
                    Cell::text(names.join(", ")),
                    Cell::text(known.policy(class.policy)),
                    super::enforcement::version_of(known, class.policy, class.version),
                    Cell::text(treatment(reference.0.treated)),
                    reference.1.evaluations.counted(),
                    Cell::text(format!("{} version {}", known.policy(reference.0.policy), reference.0.version)),
                    Cell::text(by),
                    Cell::text(explanation),
                ];
                table.push(row, self.asked.rows_max);
            }
        }
        table.totals = vec![
            ("evaluations_compared", compared.counted()),
            ("treated_alike", alike.counted()),
            ("treated_otherwise", differing.counted()),
        ];
        let mut reason = |name, by| table.totals.push((name, by_reason.remove(by).unwrap_or_default().counted()));
        reason("explained_by_rule", "rule");
        reason("explained_by_hold", "hold");
        reason("explained_by_another_policy", "another policy");
        reason("explained_by_percent", "percent");
        reason("not_explained", "NOT EXPLAINED");
        table.notes.push(
            "compared: evaluations of one offering at the same whole percent; the others: what most of them got there"
                .to_owned(),
        );
        vec![table]
    }
}
