//! Evaluation, dry run, forced period reset, and the run at a period boundary.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;

use super::{BATCH, OperationError, Operations};
use crate::commands::allocation::{AllocationCommand, Book, PolicyInForce};
use crate::commands::execute::{CommandError, CommandMeta};
use crate::domain::evaluate::{EvaluationTerms, Flags, Trigger, Verb};
use crate::domain::ids::{EventId, OfferingId, PolicyId, ResourceId};
use crate::domain::period::{Month, Period, site_date};
use crate::domain::policy::PolicyTerms;
use crate::events::allocation::{AllocationEvent, PolicyEvaluated, Recorded, RecordedBasis};
use crate::events::envelope::Position;
use crate::events::registry::{PolicyFacts, Scope};

/// One resource's part of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluatedResource {
    /// The resource.
    pub resource: ResourceId,
    /// Its name.
    pub name: String,
    /// Percent of the effective allocation.
    pub percentage: Decimal,
    /// What was called for; in a dry run what would be.
    pub actions_taken: Vec<Verb>,
    /// Restrictions before.
    pub previous: Flags,
    /// Restrictions after.
    pub new: Flags,
    /// The sentence that explains it.
    pub explanation: String,
    /// In words: carryover after a period in which more was used than allocated.
    pub carryover_note: Option<String>,
    /// Why there is no result, if there is none.
    pub error: Option<String>,
}

/// The answer to evaluate, dry run and forced period reset.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluateAnswer {
    /// The policy.
    pub policy: PolicyId,
    /// The period that is counted.
    pub period: Period,
    /// (1 + grace ratio) × 100.
    pub grace_limit_percentage: Decimal,
    /// One entry per resource.
    pub resources: Vec<EvaluatedResource>,
    /// Position of the last event appended, if any.
    pub position: Option<Position>,
}

/// The terms of an evaluation: its own, or those that it shares with an earlier one.
pub(super) fn basis_of<'a>(evaluated: &'a PolicyEvaluated, book: &'a Book) -> Option<&'a RecordedBasis> {
    match &evaluated.basis {
        Recorded::Full(basis) => Some(basis),
        Recorded::Same { .. } => book.policies.get(&evaluated.policy)?.basis.as_ref().map(|(basis, _)| &**basis),
    }
}

/// What a decision says of one policy on one resource.
fn result_of(
    policy: PolicyId,
    resource: ResourceId,
    events: &[(EventId, AllocationEvent)],
    book: &Book,
) -> EvaluatedResource {
    let mut result = EvaluatedResource {
        resource,
        name: book.facts.name.clone(),
        percentage: Decimal::ZERO,
        actions_taken: Vec::new(),
        previous: book.flags,
        new: book.flags,
        explanation: String::new(),
        carryover_note: None,
        error: None,
    };
    for (_, event) in events {
        match event {
            AllocationEvent::PolicyEvaluated(evaluated) if evaluated.policy == policy => {
                result.percentage = evaluated.outcome.percentage;
                result.actions_taken.clone_from(&evaluated.outcome.verbs);
                result.explanation.clone_from(&evaluated.outcome.explanation);
                result.carryover_note =
                    basis_of(evaluated, book).and_then(|basis| basis.allocation.carryover.note.clone());
                result.previous = evaluated.before;
            }
            AllocationEvent::EvaluationFailed(failed) if failed.policy == policy => {
                result.error = Some(failed.error.clone());
            }
            AllocationEvent::RestrictionChanged(changed) => {
                (result.previous, result.new) = (changed.from, changed.to);
            }
            _ => {}
        }
    }
    result
}

impl Operations {
    fn answer(
        &self,
        policy: &PolicyInForce,
        resources: Vec<EvaluatedResource>,
        position: Option<Position>,
    ) -> EvaluateAnswer {
        let today = site_date(self.clock.now(), self.allocations.rules().zone);
        EvaluateAnswer {
            policy: policy.id(),
            period: Period::containing(policy.period, today),
            grace_limit_percentage: policy.facts.terms.grace_limit_percent(),
            resources,
            position,
        }
    }

    /// Evaluates a policy now on one resource or all in its scope, and records it.
    pub async fn evaluate(
        &self,
        policy: PolicyId,
        resource: Option<ResourceId>,
        meta: &CommandMeta,
    ) -> Result<EvaluateAnswer, OperationError> {
        self.follower.catch_up().await?;
        let policy = self.policy(policy)?;
        let resources = self.scoped(&policy, resource)?;
        self.evaluate_on(&policy, &resources, Trigger::Requested, meta).await
    }

    /// What [`Self::evaluate`] would do now; nothing is recorded.
    pub async fn dry_run(
        &self,
        policy: PolicyId,
        resource: Option<ResourceId>,
    ) -> Result<EvaluateAnswer, OperationError> {
        self.follower.catch_up().await?;
        let policy = self.policy(policy)?;
        let resources = self.scoped(&policy, resource)?;
        let results = self.would_be(&policy, &resources).await?;
        Ok(self.answer(&policy, results, None))
    }

    async fn would_be(
        &self,
        policy: &PolicyInForce,
        resources: &[ResourceId],
    ) -> Result<Vec<EvaluatedResource>, OperationError> {
        let command = AllocationCommand::Evaluate { policy: Some(policy.id()), trigger: Trigger::Requested };
        let mut results = Vec::with_capacity(resources.len());
        for batch in resources.chunks(BATCH) {
            // One bulk read; the decisions find the books in memory.
            self.allocations.readable_books_of(batch).await?;
            for resource in batch {
                let decision = self.allocations.dry_run(*resource, &command).await?;
                results.push(result_of(policy.id(), *resource, &decision.events, &decision.book));
            }
        }
        Ok(results)
    }

    /// Re-evaluates the paused or slowed-down resources that stand below 100 %: what a period change should have lifted.
    pub async fn force_period_reset(
        &self,
        policy: PolicyId,
        resource: Option<ResourceId>,
        meta: &CommandMeta,
    ) -> Result<EvaluateAnswer, OperationError> {
        self.follower.catch_up().await?;
        let policy = self.policy(policy)?;
        let resources = self.scoped(&policy, resource)?;
        let restricted: Vec<ResourceId> = self
            .would_be(&policy, &resources)
            .await?
            .into_iter()
            .filter(|r| r.error.is_none() && r.previous.any() && r.percentage < Decimal::ONE_HUNDRED)
            .map(|r| r.resource)
            .collect();
        self.evaluate_on(&policy, &restricted, Trigger::ForcedPeriodReset, meta).await
    }

    /// Evaluates a policy on these resources and records it.
    pub async fn evaluate_on(
        &self,
        policy: &PolicyInForce,
        resources: &[ResourceId],
        trigger: Trigger,
        meta: &CommandMeta,
    ) -> Result<EvaluateAnswer, OperationError> {
        let command = AllocationCommand::Evaluate { policy: Some(policy.id()), trigger };
        let mut results = Vec::with_capacity(resources.len());
        let mut position = None;
        for batch in resources.chunks(BATCH) {
            let commands: Vec<_> = batch.iter().map(|r| (*r, command.clone())).collect();
            for ((resource, _), outcome) in commands.iter().zip(self.allocations.execute_many(&commands, meta).await) {
                let done = outcome?;
                position = position.max(done.position);
                results.push(result_of(policy.id(), *resource, &done.events, &done.book));
            }
        }
        Ok(self.answer(policy, results, position))
    }

    /// Every live resource to which a policy applies, in the order of their ids.
    pub async fn all_governed(&self) -> Result<Vec<ResourceId>, OperationError> {
        self.follower.catch_up().await?;
        Ok(self.governed(|_| true))
    }

    /// Those that have not yet opened the current month's book, and with it the new period: their usage starts from
    /// zero, carryover is computed, restrictions are lifted or stay, raw usage is reset.
    pub async fn before_boundary(&self) -> Result<Vec<ResourceId>, OperationError> {
        self.follower.catch_up().await?;
        let month = Month::of_instant(self.clock.now(), self.allocations.rules().zone);
        Ok(self.governed(|book| book < month))
    }

    /// Live resources to which a policy applies and whose newest book is wanted.
    fn governed(&self, wanted: impl Fn(Month) -> bool) -> Vec<ResourceId> {
        let state = self.registry.read();
        let mut applies = std::collections::HashMap::new();
        state
            .resources()
            .filter(|(_, e)| e.state.is_live() && wanted(e.book))
            .filter(|(_, e)| {
                *applies
                    .entry((e.offering, e.customer))
                    .or_insert_with(|| !state.applying(e.offering, e.customer).is_empty())
            })
            .map(|(id, _)| id)
            .collect()
    }

    /// Evaluates every policy on a batch of resources. One that fails does not keep the others from it.
    ///
    /// # Errors
    /// The store or the registry failed: going on with other resources would not help.
    pub async fn evaluate_batch(
        &self,
        resources: &[ResourceId],
        trigger: Trigger,
        meta: &CommandMeta,
    ) -> Result<BatchDone, OperationError> {
        let command = AllocationCommand::Evaluate { policy: None, trigger };
        let commands: Vec<_> = resources.iter().map(|r| (*r, command.clone())).collect();
        let mut done = BatchDone::default();
        for (resource, outcome) in resources.iter().zip(self.allocations.execute_many(&commands, meta).await) {
            match outcome {
                Ok(executed) => {
                    done.position = done.position.max(executed.position);
                    let failure = executed.events.iter().find_map(|(_, event)| match event {
                        AllocationEvent::EvaluationFailed(failed) => Some(failed.error.clone()),
                        _ => None,
                    });
                    done.failed.extend(failure.map(|error| (*resource, error)));
                }
                // It is gone, or was never there: nobody has to hear of that.
                Err(CommandError::NoSuchResource(_)) => {}
                Err(
                    error @ (CommandError::Refused(_)
                    | CommandError::Book(_)
                    | CommandError::Unsound(_)
                    | CommandError::Contended(_)
                    | CommandError::Crashed(_)),
                ) => {
                    tracing::error!(%resource, error = &error as &dyn std::error::Error, "a resource is not evaluated");
                    done.failed.push((*resource, error.to_string()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }
}

/// What came of a batch of evaluations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchDone {
    /// Resources that could not be evaluated, each with the reason.
    pub failed: Vec<(ResourceId, String)>,
    /// Position of the last event appended, if any.
    pub position: Option<Position>,
}

/// A policy that exists only for a preview.
pub(super) fn unsaved_policy(
    offering: OfferingId,
    terms: PolicyTerms,
    now: chrono::DateTime<chrono::Utc>,
) -> PolicyInForce {
    let period = terms.period;
    PolicyInForce {
        evaluation: std::sync::Arc::new(EvaluationTerms::of(&terms, period)),
        facts: PolicyFacts {
            policy: PolicyId::from(uuid::Uuid::nil()),
            slug: String::new(),
            offering,
            scope: Scope::All,
            terms,
            external_recipients: BTreeSet::new(),
            options: BTreeMap::new(),
        },
        version: 0,
        created: now,
        period,
        earlier_limits: Vec::new(),
    }
}
