//! Commands on policies: create, change, delete, and a recorded request to evaluate.

use std::collections::BTreeSet;

use super::{ATTEMPTS_MAX, Put, RegistryCommands, RegistryError, decode, is_deleted, policy_stream, stream_name};
use crate::commands::execute::CommandMeta;
use crate::domain::ids::{PolicyId, RequestId, ResourceId};
use crate::domain::period::PeriodKind;
use crate::domain::policy::LimitType;
use crate::domain::validation::FieldErrors;
use crate::events::envelope::Position;
use crate::events::registry::{
    BillingType, EvaluationRequested, OfferingFacts, PolicyDeleted, PolicyFacts, RegistryEvent, Scope,
};
use crate::registry::RegistryState;
use crate::store::StoreError;

/// What somebody wants of a policy.
pub type PolicyChange<'a> = &'a (dyn Fn(Option<&PolicyFacts>) -> Result<PolicyFacts, RegistryError> + Sync);

/// Checks a policy's parameters, and that it fits its offering and the other policies on it.
///
/// A period that stays as it is in `current` is not compared with the offering's: that may have changed since, and wins.
pub fn check_against_offering(
    facts: &PolicyFacts,
    current: Option<&PolicyFacts>,
    state: &RegistryState,
) -> Result<(), FieldErrors> {
    let mut errors = FieldErrors::default();
    if let Err(found) = facts.terms.validate() {
        errors.extend(found);
    }
    match state.offering(facts.offering).filter(|o| !o.facts.facts.retired) {
        None => errors.add("scope", "Object does not exist: there is no such offering."),
        Some(offering) => {
            check_components(facts, &offering.facts.facts, &mut errors);
            if current.is_none_or(|c| c.terms.period != facts.terms.period) {
                check_period(facts, &offering.facts.facts, &mut errors);
            }
            check_limit_type(facts, state, &mut errors);
        }
    }
    if let Scope::Groups(groups) = &facts.scope {
        for group in groups.iter().filter(|g| state.group(**g).is_none()) {
            errors
                .add("organization_groups", format!("Object does not exist: there is no organization group {group}."));
        }
        if groups.is_empty() {
            errors.add(
                "non_field_errors",
                "Exactly one of apply_to_all=True and a non-empty list of organization_groups is required; neither is given.",
            );
        }
    }
    errors.into_result()
}

fn check_components(facts: &PolicyFacts, offering: &OfferingFacts, errors: &mut FieldErrors) {
    let known: BTreeSet<&str> = offering.components.iter().map(|c| c.component_type.as_str()).collect();
    for component in facts.terms.component_limits.keys().filter(|c| !known.contains(c.as_str())) {
        let known: Vec<&str> = known.iter().copied().collect();
        errors.add(
            "component_limits_set",
            format!("Invalid component type {component:?}; the offering has {}.", known.join(", ")),
        );
    }
}

/// A limit-billed offering may say what period its limits count in; a policy that says otherwise contradicts it.
fn check_period(facts: &PolicyFacts, offering: &OfferingFacts, errors: &mut FieldErrors) {
    let periods: BTreeSet<PeriodKind> = offering
        .components
        .iter()
        .filter(|c| c.billing_type == BillingType::Limit)
        .filter_map(|c| PeriodKind::from_limit_period(c.limit_period?.as_str()))
        .collect();
    let Some(only) = periods.first().filter(|_| periods.len() == 1) else {
        if periods.len() > 1 {
            let names: Vec<&str> = periods.iter().map(|p| p.name()).collect();
            errors.add(
                "period",
                format!("The limit-billed components of the offering have different limit periods ({}); a policy needs one.", names.join(", ")),
            );
        }
        return;
    };
    if facts.terms.period != *only {
        errors.add(
            "period",
            format!(
                "{} ({}) does not match the limit period of the offering's components: {} ({}) is required.",
                facts.terms.period.code(),
                facts.terms.period.name(),
                only.code(),
                only.name()
            ),
        );
    }
}

fn check_limit_type(facts: &PolicyFacts, state: &RegistryState, errors: &mut FieldErrors) {
    let differing: Option<LimitType> = state
        .policies_on(facts.offering)
        .filter(|p| p.id() != facts.policy)
        .map(|p| p.facts.terms.limit_type)
        .find(|t| *t != facts.terms.limit_type);
    if let Some(other) = differing {
        errors.add(
            "limit_type",
            format!(
                "{} differs from {}, which the other policies of the offering use; all must use the same.",
                facts.terms.limit_type.wire_name(),
                other.wire_name()
            ),
        );
    }
}

impl RegistryCommands {
    /// Creates or changes a policy; `wanted` gets what is. A deleted policy is missing.
    pub async fn put_policy(
        &self,
        policy: PolicyId,
        meta: &CommandMeta,
        wanted: PolicyChange<'_>,
    ) -> Result<Put<PolicyFacts>, RegistryError> {
        let stream = policy_stream(policy);
        for _ in 0..ATTEMPTS_MAX {
            let events = self.read(&stream).await?;
            if is_deleted(&events) {
                return Err(RegistryError::Missing("policy"));
            }
            let version = events.last().map_or(0, |e| e.version);
            let current = current(&events)?;
            let facts = wanted(current.as_ref())?;
            if current.as_ref() == Some(&facts) {
                return Ok(Put { facts, version, position: None, created: false });
            }
            check_against_offering(&facts, current.as_ref(), &self.registry.read())?;
            let created = current.is_none();
            if created {
                self.must_be_free(policy.as_uuid())?;
            }
            let boxed = Box::new(facts.clone());
            let event = if created { RegistryEvent::PolicyCreated(boxed) } else { RegistryEvent::PolicyChanged(boxed) };
            match self.append(&stream, version, event, meta).await {
                Ok((version, position)) => return Ok(Put { facts, version, position: Some(position), created }),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(RegistryError::Contended(stream.to_string()))
    }

    /// Deletes a policy; its history stays.
    pub async fn delete_policy(&self, policy: PolicyId, meta: &CommandMeta) -> Result<Position, RegistryError> {
        let stream = policy_stream(policy);
        for _ in 0..ATTEMPTS_MAX {
            let events = self.read(&stream).await?;
            if events.is_empty() || is_deleted(&events) {
                return Err(RegistryError::Missing("policy"));
            }
            let version = events.last().map_or(0, |e| e.version);
            let Some(facts) = current(&events)? else { return Err(RegistryError::Missing("policy")) };
            let event = RegistryEvent::PolicyDeleted(PolicyDeleted { policy, offering: facts.offering });
            match self.append(&stream, version, event, meta).await {
                Ok((_, position)) => return Ok(position),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(RegistryError::Contended(stream.to_string()))
    }

    /// Records a request to evaluate, for the running server to carry out.
    pub async fn request_evaluation(
        &self,
        policy: PolicyId,
        resource: Option<ResourceId>,
        meta: &CommandMeta,
    ) -> Result<(RequestId, Position), RegistryError> {
        if self.registry.read().policy(policy).is_none() {
            return Err(RegistryError::Missing("policy"));
        }
        if resource.is_some_and(|id| self.registry.read().resource(id).is_none()) {
            return Err(RegistryError::Missing("resource"));
        }
        let request = RequestId::from(self.ids.fresh());
        let event = RegistryEvent::EvaluationRequested(EvaluationRequested { request, policy, resource });
        // Its own stream: a request is no new version of the policy.
        let (_, position) = self.append(&stream_name("evaluation_request", request.as_uuid()), 0, event, meta).await?;
        Ok((request, position))
    }
}

fn current(events: &[crate::events::envelope::RecordedEvent]) -> Result<Option<PolicyFacts>, RegistryError> {
    for recorded in events.iter().rev() {
        if let Some(RegistryEvent::PolicyCreated(facts) | RegistryEvent::PolicyChanged(facts)) = decode(recorded)? {
            return Ok(Some(*facts));
        }
    }
    Ok(None)
}
