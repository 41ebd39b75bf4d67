//! Explain: every term of a resource's standing under each of its policies, computed by the same decision as
//! enforcement.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::Serialize;

use super::{OperationError, Operations};
use crate::commands::allocation::{AllocationCommand, Book, PolicyInForce};
use crate::commands::execute::CommandError;
use crate::domain::carryover::CarryoverDetails;
use crate::domain::decimal::rounded;
use crate::domain::evaluate::{BaseSource, Flags, Trigger, UsageByMonth};
use crate::domain::ids::{PolicyId, ResourceId};
use crate::domain::period::Period;
use crate::domain::threshold::Effect;
use crate::events::allocation::{AllocationEvent, HoldPlaced, PolicyEvaluated, ResourceFacts};

/// A threshold of a policy on a resource.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedThreshold {
    /// Percent of the effective allocation.
    pub percent: Decimal,
    /// The same as an amount, weighted.
    pub amount: Decimal,
    /// What happens there.
    pub effect: Effect,
    /// It is reached now.
    pub reached: bool,
}

/// One component's terms.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedComponent {
    /// Used in the period.
    pub used: Decimal,
    /// Base allocation, if it has one.
    pub base: Option<Decimal>,
    /// Who says so.
    pub base_source: Option<BaseSource>,
    /// Base plus carryover, if it has one.
    pub effective: Option<Decimal>,
    /// Weight in the sums.
    pub weight: Decimal,
}

/// A resource under one policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedPolicy {
    /// The policy.
    pub policy: PolicyId,
    /// Its version.
    pub version: u64,
    /// The period that is counted.
    pub period: Period,
    /// Percent, as an evaluation now would record it.
    pub percentage: Decimal,
    /// Weighted usage.
    pub weighted_usage: Decimal,
    /// Weighted effective allocation.
    pub weighted_allocation: Decimal,
    /// Terms by component.
    pub components: BTreeMap<String, ExplainedComponent>,
    /// How the carryover came about.
    pub carryover: Option<CarryoverDetails>,
    /// Thresholds, lowest first.
    pub thresholds: Vec<ExplainedThreshold>,
    /// The policy's holds after an evaluation now.
    pub holds: Flags,
    /// The sentence.
    pub sentence: String,
}

/// A policy on the offering that leaves the resource alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PassedBy {
    /// The policy.
    pub policy: PolicyId,
    /// Its slug, or its id.
    pub name: String,
    /// Why: the resource has ended, it is disabled, or the organisation is in none of its groups.
    pub reason: &'static str,
}

/// Everything about a resource that decisions rest on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// What the resource is.
    pub resource: ResourceFacts,
    /// Restrictions in force.
    pub flags: Flags,
    /// Manual holds.
    pub holds: Vec<HoldPlaced>,
    /// Usage by month with the reports it comes from.
    pub usage: UsageByMonth,
    /// Its policies, oldest first.
    pub policies: Vec<ExplainedPolicy>,
    /// Policies of its offering that do not apply to it.
    pub passed_by: Vec<PassedBy>,
}

impl Operations {
    /// Explains a resource.
    pub async fn explain(&self, resource: ResourceId) -> Result<Explanation, OperationError> {
        self.follower.catch_up().await?;
        let book = match self.allocations.book(resource).await {
            Err(CommandError::NoSuchResource(_)) => return Err(OperationError::NotInScope(resource)),
            other => other?,
        };
        let command = AllocationCommand::Evaluate { policy: None, trigger: Trigger::Requested };
        let decision = self.allocations.dry_run(resource, &command).await?;
        let known = self.registry.applicable(book.facts.offering, book.facts.customer);
        let policies = known.map(|a| a.policies).unwrap_or_default();
        let explained = policies.iter().filter_map(|policy| {
            decision.events.iter().find_map(|(_, event)| match event {
                AllocationEvent::PolicyEvaluated(evaluated) if evaluated.policy == policy.id() => {
                    Some(explained(policy, evaluated, &decision.book))
                }
                _ => None,
            })
        });
        let explained: Vec<ExplainedPolicy> = explained.collect();
        let passed_by = self.passed_by(&book.facts, &explained);
        Ok(Explanation {
            passed_by,
            resource: book.facts.clone(),
            flags: book.flags,
            holds: book.holds.clone(),
            usage: book.usage.clone(),
            policies: explained,
        })
    }
}

impl Operations {
    fn passed_by(&self, resource: &ResourceFacts, applying: &[ExplainedPolicy]) -> Vec<PassedBy> {
        let state = self.registry.read();
        let others = state.policies().filter(|p| p.facts.offering == resource.offering);
        let others = others.filter(|p| !applying.iter().any(|applies| applies.policy == p.id()));
        let mut passed_by: Vec<PassedBy> = others
            .map(|p| PassedBy {
                policy: p.id(),
                name: if p.facts.slug.is_empty() { p.id().to_string() } else { p.facts.slug.clone() },
                reason: if !resource.state.is_live() {
                    "the resource has ended"
                } else if p.facts.terms.enabled {
                    "the resource's organisation is in none of its groups"
                } else {
                    "it is disabled"
                },
            })
            .collect();
        passed_by.sort_by(|one, other| one.name.cmp(&other.name));
        passed_by
    }
}

fn explained(policy: &PolicyInForce, evaluated: &PolicyEvaluated, book: &Book) -> ExplainedPolicy {
    let outcome = &evaluated.outcome;
    // The decision has just put the terms on the book's page.
    let recorded = book.policies.get(&policy.id()).and_then(|page| page.basis.as_ref()).map(|(basis, _)| basis);
    let empty = crate::domain::evaluate::MonthUsage::new();
    let current = book.usage.get(&evaluated.month).unwrap_or(&empty);
    let used = recorded.and_then(|r| r.basis.period_usage(current)).unwrap_or_default();
    let mut components: BTreeMap<String, ExplainedComponent> = BTreeMap::new();
    let names = recorded.iter().flat_map(|r| r.basis.base.keys()).chain(used.keys());
    for name in names {
        let base = recorded.and_then(|r| r.basis.base.get(name));
        components.entry(name.clone()).or_insert_with(|| ExplainedComponent {
            used: used.get(name).copied().unwrap_or_default(),
            base: base.map(|b| b.amount),
            base_source: base.map(|b| b.source),
            effective: recorded.and_then(|r| r.allocation.effective.get(name).copied()),
            weight: policy.evaluation.weights.of(name),
        });
    }
    let thresholds = policy.evaluation.ladder.iter().map(|rung| ExplainedThreshold {
        percent: rung.percent,
        amount: rounded(outcome.weighted_allocation * rung.percent / Decimal::ONE_HUNDRED, 6),
        effect: rung.effect,
        reached: rung.is_reached_by(outcome.percentage),
    });
    ExplainedPolicy {
        policy: policy.id(),
        version: policy.version,
        period: evaluated.period,
        percentage: outcome.percentage,
        weighted_usage: outcome.weighted_usage,
        weighted_allocation: outcome.weighted_allocation,
        components,
        carryover: recorded.map(|r| r.allocation.carryover.clone()),
        thresholds: thresholds.collect(),
        holds: outcome.holds,
        sentence: outcome.explanation.clone(),
    }
}
