//! The effect of a change before it is made: new limits of an allocation, term by term, and new rules of a policy on
//! all allocations. Both run the decision that the change itself would run, without the append.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::evaluate::basis_of;
use super::{BATCH, OperationError, Operations};
use crate::commands::allocation::{AllocationCommand, Book, Decision, PolicyInForce};
use crate::commands::execute::CommandError;
use crate::domain::carryover::CarryoverDetails;
use crate::domain::evaluate::{EvaluationTerms, Flags, Trigger, Verb};
use crate::domain::ids::{CustomerId, PolicyId, ResourceId, UserId};
use crate::domain::period::Period;
use crate::domain::policy::Action;
use crate::domain::sacctmgr::Command;
use crate::domain::standing::{ByHand, Standing};
use crate::domain::threshold::Effect;
use crate::domain::tres::Amounts;
use crate::events::allocation::{AllocationEvent, HoldKind, PolicyEvaluated};
use crate::events::notice::NoticeTemplate;
use crate::events::registry::PolicyFacts;
use crate::registry::{RegistryState, offering_period, superseded};

/// Allocations on which changed rules are tried, at most.
pub const TRIED_MAX: usize = 10_000;

/// An allocation under a policy at one of two times.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// Weighted base allocation.
    pub base: Decimal,
    /// With what is carried over: weighted, what may be used.
    pub may_use: Decimal,
    /// Weighted usage.
    pub used: Decimal,
    /// Percent.
    pub percentage: Decimal,
    /// Base by component.
    pub components: Amounts,
    /// Every term of the carryover, or why there is none.
    pub carryover: Option<CarryoverDetails>,
    /// The policy's holds.
    pub holds: Flags,
    /// The sentence.
    pub explanation: String,
}

impl Terms {
    fn of(evaluated: &PolicyEvaluated, book: &Book) -> Self {
        let basis = basis_of(evaluated, book);
        let weighted = |basis: &crate::events::allocation::RecordedBasis| -> Decimal {
            let weights = &basis.basis.terms.weights;
            basis.basis.base.iter().map(|(component, term)| weights.of(component) * term.amount).sum()
        };
        let components = basis.map(|b| b.basis.base.iter().map(|(c, term)| (c.clone(), term.amount)).collect());
        Self {
            base: basis.map(weighted).unwrap_or_default(),
            may_use: evaluated.outcome.weighted_allocation,
            used: evaluated.outcome.weighted_usage,
            percentage: evaluated.outcome.percentage,
            components: components.unwrap_or_default(),
            carryover: basis.map(|b| b.allocation.carryover.clone()),
            holds: evaluated.outcome.holds,
            explanation: evaluated.outcome.explanation.clone(),
        }
    }
}

/// What new limits come to under one policy.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitsUnder {
    /// The policy.
    pub policy: PolicyId,
    /// The period that is counted.
    pub period: Period,
    /// With the limits of now.
    pub now: Terms,
    /// With the new ones.
    pub then: Terms,
    /// Percentages for which notices become due.
    pub notified: Vec<Decimal>,
}

/// What new limits of an allocation come to.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitsPreview {
    /// The limits of now.
    pub limits_now: Amounts,
    /// The new ones, as they would be kept.
    pub limits: Amounts,
    /// Restrictions now.
    pub now: Flags,
    /// Restrictions with the new limits.
    pub then: Flags,
    /// Under each policy that applies, oldest first.
    pub policies: Vec<LimitsUnder>,
    /// What the agent would be told, if it would be.
    pub commands: Vec<Command>,
}

/// What becomes of an allocation under changed rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Becomes {
    /// It is paused.
    Paused,
    /// It is slowed down.
    SlowedDown,
    /// A restriction is lifted.
    Restored,
    /// A notice that a percentage was reached.
    Warned,
    /// The policy applies no more.
    Released,
    /// It cannot be evaluated.
    Failed,
    /// Nothing.
    Unchanged,
}

impl Becomes {
    /// All of it, what matters most first.
    pub const ALL: [Self; 7] =
        [Self::Paused, Self::SlowedDown, Self::Restored, Self::Warned, Self::Released, Self::Failed, Self::Unchanged];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::SlowedDown => "slowed_down",
            Self::Restored => "restored",
            Self::Warned => "warned",
            Self::Released => "released",
            Self::Failed => "failed",
            Self::Unchanged => "unchanged",
        }
    }
}

/// An allocation under changed rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Tried {
    /// The allocation.
    pub resource: ResourceId,
    /// Its name.
    pub name: String,
    /// Its organisation.
    pub customer: CustomerId,
    /// What becomes of it.
    pub becomes: Becomes,
    /// How it stands.
    pub standing_now: Standing,
    /// How it would.
    pub standing_then: Standing,
    /// Under the rules of now, where they have been evaluated.
    pub now: Option<Terms>,
    /// Under the changed ones, where they apply.
    pub then: Option<Terms>,
    /// What would be called for.
    pub verbs: Vec<Verb>,
    /// Mails that would go out about it.
    pub mails: u64,
    /// Why it cannot be evaluated.
    pub error: Option<String>,
}

/// What changed rules come to on all allocations of a policy.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RulesPreview {
    /// Allocations, what matters most first.
    pub tried: Vec<Tried>,
    /// Allocations beyond the bound, which were not looked at.
    pub left_out: usize,
    /// How many become what.
    pub counts: BTreeMap<Becomes, u64>,
    /// Mails that would go out.
    pub mails: u64,
    /// Different people and addresses that would get one.
    pub people: u64,
}

fn evaluated(decision: &Decision, policy: PolicyId) -> Option<&PolicyEvaluated> {
    decision.events.iter().find_map(|(_, event)| match event {
        AllocationEvent::PolicyEvaluated(evaluated) if evaluated.policy == policy => Some(&**evaluated),
        _ => None,
    })
}

fn by_hand(book: &Book) -> ByHand {
    let exempts = |kind: HoldKind| kind == HoldKind::Exemption;
    ByHand {
        restricts: book.holds.iter().any(|hold| !exempts(hold.kind)),
        exempts: book.holds.iter().any(|hold| exempts(hold.kind)),
    }
}

/// Whether usage reached a notification percentage.
fn warned(policy: &PolicyInForce, percentage: Decimal) -> bool {
    let mut notices = policy.evaluation.ladder.iter().filter(|rung| rung.effect == Effect::Notify);
    notices.any(|rung| rung.is_reached_by(percentage))
}

impl Operations {
    /// What new limits of an allocation come to; nothing is recorded.
    ///
    /// # Errors
    /// There is no such allocation, or the limits are refused.
    pub async fn preview_limits(
        &self,
        resource: ResourceId,
        limits: &Amounts,
    ) -> Result<LimitsPreview, OperationError> {
        self.follower.catch_up().await?;
        let book = match self.allocations.book(resource).await {
            Err(CommandError::NoSuchResource(_)) => return Err(OperationError::NotInScope(resource)),
            other => other?,
        };
        let evaluate = AllocationCommand::Evaluate { policy: None, trigger: Trigger::Requested };
        let now = self.allocations.dry_run(resource, &evaluate).await?;
        let change = AllocationCommand::ChangeLimits(limits.clone());
        let changed = self.allocations.dry_run(resource, &change).await?;
        // The limits of now change nothing, and nothing is decided.
        let then = if changed.events.is_empty() { &now } else { &changed };
        let known = self.registry.applicable(book.facts.offering, book.facts.customer);
        let under = |policy: &Arc<PolicyInForce>| {
            let (one, other) = (evaluated(&now, policy.id())?, evaluated(then, policy.id())?);
            Some(LimitsUnder {
                policy: policy.id(),
                period: other.period,
                now: Terms::of(one, &now.book),
                then: Terms::of(other, &then.book),
                notified: other.outcome.notified.clone(),
            })
        };
        let told = then.events.iter().find_map(|(_, event)| match event {
            AllocationEvent::SettingsCommanded(commanded) => Some(commanded.commands.clone()),
            _ => None,
        });
        Ok(LimitsPreview {
            limits_now: book.facts.limits.clone(),
            limits: then.book.facts.limits.clone(),
            now: book.flags,
            then: then.book.flags,
            policies: known.map(|a| a.policies).unwrap_or_default().iter().filter_map(under).collect(),
            commands: told.unwrap_or_default(),
        })
    }

    /// What changed rules of a policy come to on the allocations that it applies to, or would; nothing is recorded.
    ///
    /// # Errors
    /// There is no such policy, or the books cannot be read.
    pub async fn preview_rules(
        &self,
        policy: PolicyId,
        wanted: &PolicyFacts,
        resource: Option<ResourceId>,
    ) -> Result<RulesPreview, OperationError> {
        self.follower.catch_up().await?;
        let known = self.policy(policy)?;
        let mut earlier_limits = known.earlier_limits.clone();
        superseded(&mut earlier_limits, &known.facts, wanted, self.clock.now());
        let then = PolicyInForce { earlier_limits, version: known.version + 1, ..self.in_force(wanted, known.created) };
        self.compared(&known, &Arc::new(then), resource).await
    }

    /// What a policy that does not exist yet comes to on every allocation that it would govern.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn preview_new(&self, wanted: &PolicyFacts) -> Result<RulesPreview, OperationError> {
        self.follower.catch_up().await?;
        let now = self.clock.now();
        let mut nothing = wanted.clone();
        nothing.terms.enabled = false;
        self.compared(&self.in_force(&nothing, now), &Arc::new(self.in_force(wanted, now)), None).await
    }

    /// What becomes of every allocation that one of two forms of a policy governs, when the second takes the place of the first.
    async fn compared(
        &self,
        known: &PolicyInForce,
        changed: &Arc<PolicyInForce>,
        resource: Option<ResourceId>,
    ) -> Result<RulesPreview, OperationError> {
        let mut concerned = self.concerned(known, changed, resource)?;
        let left_out = concerned.len().saturating_sub(TRIED_MAX);
        concerned.truncate(TRIED_MAX);
        let mut preview = RulesPreview {
            left_out,
            counts: Becomes::ALL.into_iter().map(|becomes| (becomes, 0)).collect(),
            ..RulesPreview::default()
        };
        let mut people = BTreeSet::new();
        for batch in concerned.chunks(BATCH) {
            // One bulk read; the decisions find the books in memory.
            self.allocations.readable_books_of(batch).await?;
            for resource in batch {
                let tried = self.tried(*resource, known, changed, &mut people).await?;
                *preview.counts.entry(tried.becomes).or_default() += 1;
                preview.mails += tried.mails;
                preview.tried.push(tried);
            }
        }
        preview.people = people.len() as u64;
        preview.tried.sort_by(|one, other| {
            let percent = |tried: &Tried| tried.then.as_ref().map(|terms| terms.percentage);
            one.becomes
                .cmp(&other.becomes)
                .then_with(|| percent(other).cmp(&percent(one)))
                .then(one.name.cmp(&other.name))
        });
        Ok(preview)
    }

    /// The first version of a policy with these facts.
    fn in_force(&self, facts: &PolicyFacts, created: DateTime<Utc>) -> PolicyInForce {
        let state = self.registry.read();
        let offering = state.offering(facts.offering).and_then(|o| offering_period(&o.facts.facts));
        let period = offering.unwrap_or(facts.terms.period);
        PolicyInForce {
            facts: facts.clone(),
            version: 1,
            created,
            evaluation: Arc::new(EvaluationTerms::of(&facts.terms, period)),
            period,
            earlier_limits: Vec::new(),
        }
    }

    /// The allocations to which either form of the policy applies.
    fn concerned(
        &self,
        known: &PolicyInForce,
        changed: &PolicyInForce,
        resource: Option<ResourceId>,
    ) -> Result<Vec<ResourceId>, OperationError> {
        let state = self.registry.read();
        let mut all: BTreeSet<ResourceId> = BTreeSet::new();
        for policy in [known, changed].into_iter().filter(|policy| policy.facts.terms.enabled) {
            all.extend(state.resources_in_scope(policy));
        }
        match resource {
            None => Ok(all.into_iter().collect()),
            Some(resource) if all.contains(&resource) => Ok(vec![resource]),
            Some(resource) => Err(OperationError::NotInScope(resource)),
        }
    }

    async fn tried(
        &self,
        resource: ResourceId,
        known: &PolicyInForce,
        changed: &Arc<PolicyInForce>,
        people: &mut BTreeSet<UserId>,
    ) -> Result<Tried, OperationError> {
        let book = self.allocations.book(resource).await?;
        let (customer, policies, applies) = {
            let state = self.registry.read();
            let facts = &book.facts;
            let mut policies = state.applying(facts.offering, facts.customer);
            policies.retain(|policy| policy.id() != known.id());
            let applies = changed.facts.terms.enabled && state.in_scope(changed, facts.customer);
            if applies {
                policies.push(Arc::clone(changed));
                policies.sort_by_key(|policy| (policy.created, policy.id()));
            }
            (facts.customer, policies, applies)
        };
        let as_it_is = AllocationCommand::Evaluate { policy: Some(known.id()), trigger: Trigger::PolicyChanged };
        let now = self.allocations.dry_run(resource, &as_it_is).await?;
        let all = AllocationCommand::Evaluate { policy: None, trigger: Trigger::PolicyChanged };
        let then = self.allocations.dry_run_with(resource, &all, &policies).await?;
        let (before, after) = (evaluated(&now, known.id()), evaluated(&then, known.id()));
        let failed = then.events.iter().find_map(|(_, event)| match event {
            AllocationEvent::EvaluationFailed(failed) if failed.policy == known.id() => Some(failed.error.clone()),
            _ => None,
        });
        let template = NoticeTemplate::of_restriction(book.flags, then.book.flags);
        let notified = after.is_some_and(|after| !after.outcome.notified.is_empty());
        let becomes = match template {
            _ if failed.is_some() => Becomes::Failed,
            Some(NoticeTemplate::Paused) => Becomes::Paused,
            Some(NoticeTemplate::SlowedDown) => Becomes::SlowedDown,
            Some(_) => Becomes::Restored,
            None if notified => Becomes::Warned,
            None if !applies && before.is_some() => Becomes::Released,
            None => Becomes::Unchanged,
        };
        let told = recipients(&self.registry.read(), customer, changed);
        let occasions = u64::from(template.is_some()) + u64::from(notified);
        if occasions > 0 {
            people.extend(&told);
        }
        let percentage =
            |evaluated: Option<&PolicyEvaluated>| evaluated.map(|e| e.outcome.percentage).unwrap_or_default();
        Ok(Tried {
            resource,
            name: book.facts.name.clone(),
            customer,
            becomes,
            standing_now: Standing::of(book.flags, by_hand(&book), warned(known, percentage(before))),
            standing_then: Standing::of(then.book.flags, by_hand(&then.book), warned(changed, percentage(after))),
            now: before.map(|before| Terms::of(before, &now.book)),
            then: after.map(|after| Terms::of(after, &then.book)),
            verbs: after.map(|after| after.outcome.verbs.clone()).unwrap_or_default(),
            mails: occasions * told.len() as u64,
            error: failed,
        })
    }
}

/// The recipients of mail about a policy's decisions on an organisation's allocations.
fn recipients(state: &RegistryState, customer: CustomerId, policy: &PolicyInForce) -> BTreeSet<UserId> {
    let actions = &policy.facts.terms.actions;
    let mut told = BTreeSet::new();
    if actions.contains(&Action::NotifyOrganizationOwners) {
        told.extend(state.customer(customer).into_iter().flat_map(|c| c.facts.owners.iter().copied()));
    }
    if actions.contains(&Action::NotifyExternalUser) {
        told.extend(policy.facts.external_recipients.iter().copied());
    }
    told
}
