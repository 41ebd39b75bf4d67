//! What decisions could look at, at each place of the log: the registry as it was then, and the same with other rules.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, RwLock};

use super::{Asked, WhatIfError};
use crate::commands::allocation::{EarlierComponentLimits, OfferingInForce, PolicyInForce};
use crate::domain::evaluate::EvaluationTerms;
use crate::domain::ids::{CustomerId, OfferingId, PolicyId, ResourceId};
use crate::events::allocation::{AllocationEvent, WithdrawReason};
use crate::events::envelope::{DecodeError, RecordedEvent};
use crate::events::registry::RegistryEvent;
use crate::registry::{RegistryState, book_of, offering_period};

/// Versions of policies under the rules that count, by policy and version.
type Versions = Arc<RwLock<HashMap<(PolicyId, u64), Arc<PolicyInForce>>>>;

/// What decisions on an organisation's allocations could look at.
pub(super) struct Scene {
    pub(super) offering: Arc<OfferingInForce>,
    /// Policies that applied, as it was recorded.
    pub(super) recorded: BTreeSet<PolicyId>,
    /// Policies that apply under the rules that count, oldest first.
    pub(super) policies: Vec<Arc<PolicyInForce>>,
    /// Policies of the offering, and whether each is enabled.
    known: HashMap<PolicyId, bool>,
    versions: Versions,
}

impl Scene {
    /// Why a policy applies no more.
    pub(super) fn withdrawn(&self, policy: PolicyId) -> WithdrawReason {
        match self.known.get(&policy) {
            None => WithdrawReason::Deleted,
            Some(false) => WithdrawReason::Disabled,
            Some(true) => WithdrawReason::OutOfScope,
        }
    }

    /// A policy in the version that a decision was made with: another process may have been a little behind.
    pub(super) fn version(&self, policy: PolicyId, version: u64) -> Option<Arc<PolicyInForce>> {
        self.versions.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(&(policy, version)).cloned()
    }
}

/// Follows the registry through the log.
pub(super) struct Stage {
    asked: Arc<Asked>,
    state: RegistryState,
    versions: Versions,
    offering: Option<OfferingId>,
    scenes: HashMap<CustomerId, Arc<Scene>>,
}

impl Stage {
    pub(super) fn new(asked: &Arc<Asked>) -> Self {
        Self {
            asked: Arc::clone(asked),
            state: RegistryState::default(),
            versions: Versions::default(),
            offering: None,
            scenes: HashMap::new(),
        }
    }

    pub(super) fn knew_the_policy(&self) -> bool {
        self.offering.is_some()
    }

    /// Follows an event, if it is one of the registry.
    pub(super) fn see(&mut self, recorded: &RecordedEvent) -> Result<(), WhatIfError> {
        let unsound = |problem| WhatIfError::from(Box::new(DecodeError::new(recorded, problem)));
        if recorded.is_disposed() || recorded.occurred_at >= self.asked.to {
            return Ok(());
        }
        if let Some((resource, month)) = book_of(recorded.stream.as_str()) {
            if &*recorded.event_type == "resource_registered.v1"
                && let Some(event) = AllocationEvent::decode(&recorded.event_type, &recorded.payload)
            {
                self.state.apply_allocation(resource, month, &event.map_err(unsound)?);
            }
            return Ok(());
        }
        let Some(event) = RegistryEvent::decode(&recorded.event_type, &recorded.payload) else { return Ok(()) };
        let event = event.map_err(unsound)?;
        if let RegistryEvent::PolicyCreated(facts) | RegistryEvent::PolicyChanged(facts) = &event
            && facts.policy == self.asked.policy
        {
            self.offering = Some(facts.offering);
        }
        self.state.apply(&event, recorded.version, recorded.occurred_at);
        self.scenes.clear();
        if let RegistryEvent::PolicyCreated(facts) | RegistryEvent::PolicyChanged(facts) = &event
            && let Some(policy) = self.state.policy(facts.policy)
            && let Some(offering) = self.state.offering(facts.offering)
        {
            // Kept for decisions of a process that did not know of the next version yet.
            self.other(policy, &offering.facts)?;
        }
        Ok(())
    }

    /// What decisions on an allocation can look at here; none if it is none of the policy's offering.
    pub(super) fn scene_of(&mut self, resource: ResourceId) -> Result<Option<Arc<Scene>>, WhatIfError> {
        let Some(entry) = self.state.resource(resource).copied() else { return Ok(None) };
        if self.offering != Some(entry.offering) {
            return Ok(None);
        }
        if let Some(scene) = self.scenes.get(&entry.customer) {
            return Ok(Some(Arc::clone(scene)));
        }
        let Some(offering) = self.state.offering(entry.offering).map(|known| Arc::clone(&known.facts)) else {
            return Ok(None);
        };
        let (mut recorded, mut policies, mut known) = (BTreeSet::new(), Vec::new(), HashMap::new());
        for policy in self.state.policies_on(entry.offering) {
            let (in_scope, id) = (self.state.in_scope(policy, entry.customer), policy.id());
            let other = self.other(policy, &offering)?;
            recorded.extend((in_scope && policy.facts.terms.enabled).then_some(id));
            known.insert(id, other.facts.terms.enabled);
            policies.extend((in_scope && other.facts.terms.enabled).then_some(other));
        }
        let versions = Arc::clone(&self.versions);
        let scene = Arc::new(Scene { offering, recorded, policies, known, versions });
        self.scenes.insert(entry.customer, Arc::clone(&scene));
        Ok(Some(scene))
    }

    /// A policy under the rules that count.
    fn other(
        &self,
        policy: &Arc<PolicyInForce>,
        offering: &OfferingInForce,
    ) -> Result<Arc<PolicyInForce>, WhatIfError> {
        let other = match self.asked.rules.as_ref().filter(|_| policy.id() == self.asked.policy) {
            Some(rules) => {
                let terms = rules(&policy.facts.terms);
                terms.validate().map_err(|errors| WhatIfError::Rules(errors.to_string()))?;
                let earlier_limits = if terms.component_limits == policy.facts.terms.component_limits {
                    policy.earlier_limits.clone()
                } else {
                    self.limits_before(policy, &terms.component_limits)
                };
                let period = offering_period(&offering.facts).unwrap_or(terms.period);
                let evaluation = Arc::new(EvaluationTerms::of(&terms, period));
                let facts = crate::events::registry::PolicyFacts { terms, ..policy.facts.clone() };
                Arc::new(PolicyInForce { facts, evaluation, period, earlier_limits, ..(**policy).clone() })
            }
            None => Arc::clone(policy),
        };
        let mut versions = self.versions.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        versions.insert((other.id(), other.version), Arc::clone(&other));
        Ok(other)
    }

    /// Component limits from before the other rules: a new period still looks back to what was in force then.
    fn limits_before(
        &self,
        policy: &PolicyInForce,
        limits: &crate::domain::tres::Amounts,
    ) -> Vec<EarlierComponentLimits> {
        let begins = self.asked.from;
        let mut earlier: Vec<EarlierComponentLimits> =
            policy.earlier_limits.iter().filter(|old| old.until <= begins).cloned().collect();
        let then = policy.component_limits_before(begins);
        if policy.created < begins && then != limits {
            earlier.push(EarlierComponentLimits { until: begins, limits: then.clone() });
        }
        earlier
    }
}
