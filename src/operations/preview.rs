//! Preview: the effect of a policy's parameters on an allocation.
//!
//! With a resource it is enforcement itself on that resource, with the request's parameters instead of the policy's:
//! the same decision on the same book, not appended. It also shows enforcement with the policy's own parameters, since
//! clients fill in parameters that nobody asked for. Without a resource it is arithmetic on the numbers of the request.

use std::sync::Arc;

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::evaluate::basis_of;
use super::{OperationError, Operations};
use crate::commands::allocation::{AllocationCommand, Book, PolicyInForce};
use crate::commands::execute::CommandError;
use crate::domain::carryover::{CarryoverBase, CarryoverDetails, ComponentCarryover, Formula};
use crate::domain::decimal::rounded;
use crate::domain::evaluate::{EvaluationTerms, Trigger};
use crate::domain::ids::{PolicyId, ResourceId};
use crate::domain::period::{Period, site_date};
use crate::domain::policy::PolicyTerms;
use crate::domain::preview::{
    PreviewInputs, PreviewNumbers, Thresholds, daily_rate, date_projections, qos_status, thresholds,
};
use crate::domain::sacctmgr::{self, Command};
use crate::domain::tres::Weights;
use crate::events::allocation::{AllocationEvent, PolicyEvaluated};

/// Percent of the default notification threshold.
const NOTIFICATION_PERCENT: Decimal = Decimal::from_parts(80, 0, 0, false, 0);

/// What a preview is asked for; what is absent is the resource's policy's, or the default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PreviewRequest {
    /// Preview enforcement on this resource.
    pub resource: Option<ResourceId>,
    /// Allocation of one period; 1000.
    pub allocation: Option<Decimal>,
    /// What it was in the previous period, without a resource; the same.
    pub previous_allocation: Option<Decimal>,
    /// 0 to 1; 0.2.
    pub grace_ratio: Option<Decimal>,
    /// Usage of the previous period; absent or 0: no carryover.
    pub previous_usage: Option<Decimal>,
    /// 0 to 100 percent: the capped formula.
    pub carryover_factor: Option<Decimal>,
    /// Days: the decayed formula, where no factor is given.
    pub fairshare_decay_half_life: Option<Decimal>,
    /// Which allocation past usage is compared with; without a resource that of the previous period.
    pub carryover_base: Option<CarryoverBase>,
    /// Whether anything is carried over.
    pub carryover_enabled: Option<bool>,
    /// Used so far; 0.
    pub current_usage: Option<Decimal>,
    /// Used per day; 0. With a resource: its own pace in the period unless given.
    pub daily_usage_rate: Option<Decimal>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// Amounts to 2 decimals, percentage to 1.
    pub numbers: PreviewNumbers,
    /// Grace ratio used.
    pub grace_ratio: Decimal,
    /// Carryover in force.
    pub carryover_enabled: bool,
    /// The factor used; 50 where the formula has none.
    pub carryover_factor: Decimal,
    /// Id of the formula used.
    pub carryover_formula: &'static str,
    /// Why nothing is carried over, or words about what is.
    pub carryover_note: Option<String>,
    /// The commands that would be sent.
    pub commands: Vec<Command>,
    /// First and last day of the period, with a resource and a bounded period.
    pub period: Option<(NaiveDate, NaiveDate)>,
    /// The sentence of the evaluation, with a resource.
    pub explanation: Option<String>,
    /// The policy that is previewed; none without a resource, or where no policy applies to it.
    pub policy: Option<PolicyId>,
    /// Half-life of the decaying formula, in days, where that is the one used.
    pub half_life_days: Option<Decimal>,
    /// What the policy's own parameters come to now, with a resource to which one applies.
    pub enforced: Option<Box<Preview>>,
}

impl PreviewRequest {
    /// The formula asked for, else the given one.
    fn formula(&self, otherwise: &Formula) -> Formula {
        let base = self.carryover_base.unwrap_or(otherwise.base());
        match (self.carryover_factor, self.fairshare_decay_half_life) {
            (Some(factor_percent), _) => Formula::capped(base, factor_percent),
            (None, Some(half_life_days)) => Formula::decayed(base, half_life_days),
            (None, None) => otherwise.on(base),
        }
    }

    fn altered(&self, terms: &PolicyTerms) -> PolicyTerms {
        let mut terms = terms.clone();
        if let Some(grace) = self.grace_ratio {
            terms.grace_ratio = grace;
        }
        if let Some(enabled) = self.carryover_enabled {
            terms.carryover_enabled = enabled;
        }
        terms.carryover_base = self.carryover_base.or(terms.carryover_base);
        let formula = self.formula(&terms.carryover_formula());
        terms.carryover_factor = formula.factor_percent();
        if let Some(half_life_days) = formula.half_life_days() {
            terms.fairshare_decay_half_life = half_life_days;
        }
        terms
    }
}

fn default_formula() -> Formula {
    Formula::CappedUnusedOfPrevious { factor_percent: Decimal::from(50) }
}

impl Operations {
    /// Previews the parameters of a request.
    pub async fn preview(&self, request: &PreviewRequest) -> Result<Preview, OperationError> {
        match request.resource {
            Some(resource) => self.preview_resource(request, resource).await,
            None => Ok(self.preview_numbers(request)),
        }
    }

    fn preview_numbers(&self, request: &PreviewRequest) -> Preview {
        let formula = request.formula(&default_formula());
        let allocation = request.allocation.unwrap_or(Decimal::ONE_THOUSAND);
        let grace_ratio = request.grace_ratio.unwrap_or(Decimal::new(2, 1));
        let enabled = request.carryover_enabled.unwrap_or(true);
        let numbers = PreviewNumbers::of(&PreviewInputs {
            allocation,
            previous_allocation: request.previous_allocation.unwrap_or(allocation),
            grace_ratio,
            notification_percent: NOTIFICATION_PERCENT,
            previous_usage: request.previous_usage.unwrap_or_default(),
            carryover_enabled: enabled,
            formula: formula.clone(),
            days: 90,
            current_usage: request.current_usage.unwrap_or_default(),
            daily_usage_rate: request.daily_usage_rate.unwrap_or_default(),
            today: self.today(),
        });
        Preview {
            numbers: numbers.rounded(),
            grace_ratio,
            carryover_enabled: enabled,
            carryover_factor: formula.factor_percent().unwrap_or(Decimal::from(50)),
            carryover_formula: formula.id(),
            carryover_note: None,
            commands: Vec::new(),
            period: None,
            explanation: None,
            policy: None,
            half_life_days: formula.half_life_days(),
            enforced: None,
        }
    }

    fn today(&self) -> NaiveDate {
        site_date(self.clock.now(), self.allocations.rules().zone)
    }

    /// The resource's policy, the oldest that applies; and it with the request's parameters, or one with the defaults.
    fn previewed_policy(
        &self,
        book: &Book,
        request: &PreviewRequest,
    ) -> (Option<Arc<PolicyInForce>>, Arc<PolicyInForce>) {
        let known = self.registry.applicable(book.facts.offering, book.facts.customer);
        let state = self.registry.read();
        let own = known.and_then(|a| a.policies.first().cloned());
        let mut policy = own.as_ref().map_or_else(
            || {
                let offering = state.offering(book.facts.offering).map(|o| &o.facts.facts);
                let period = offering.and_then(crate::registry::offering_period).unwrap_or_default();
                let terms = PolicyTerms { period, carryover_factor: Some(Decimal::from(50)), ..PolicyTerms::default() };
                super::evaluate::unsaved_policy(book.facts.offering, terms, self.clock.now())
            },
            |p| (**p).clone(),
        );
        policy.facts.terms = request.altered(&policy.facts.terms);
        policy.evaluation = Arc::new(EvaluationTerms::of(&policy.facts.terms, policy.period));
        (own, Arc::new(policy))
    }

    async fn preview_resource(
        &self,
        request: &PreviewRequest,
        resource: ResourceId,
    ) -> Result<Preview, OperationError> {
        self.follower.catch_up().await?;
        let book = match self.allocations.book(resource).await {
            Err(CommandError::NoSuchResource(_)) => return Err(OperationError::NotInScope(resource)),
            other => other?,
        };
        let (own, policy) = self.previewed_policy(&book, request);
        let mut preview = self.decided(request, resource, &policy).await?;
        if let Some(own) = own {
            // The pace is no parameter of a policy: where the request says one, both count with it.
            let as_it_is = PreviewRequest {
                resource: request.resource,
                daily_usage_rate: request.daily_usage_rate,
                ..PreviewRequest::default()
            };
            preview.policy = Some(own.id());
            preview.enforced = Some(Box::new(self.decided(&as_it_is, resource, &own).await?));
        }
        Ok(preview)
    }

    /// What the decision on a resource would be with a policy as it is given.
    async fn decided(
        &self,
        request: &PreviewRequest,
        resource: ResourceId,
        policy: &Arc<PolicyInForce>,
    ) -> Result<Preview, OperationError> {
        let command = AllocationCommand::Evaluate { policy: Some(policy.id()), trigger: Trigger::Requested };
        let decision = self.allocations.dry_run_with(resource, &command, &[Arc::clone(policy)]).await?;
        let evaluated = decision.events.iter().find_map(|(_, e)| match e {
            AllocationEvent::PolicyEvaluated(evaluated) if evaluated.policy == policy.id() => Some(&**evaluated),
            _ => None,
        });
        let Some(evaluated) = evaluated else { return Err(OperationError::NotInScope(resource)) };
        let told = decision.events.iter().find_map(|(_, e)| match e {
            AllocationEvent::SettingsCommanded(commanded) => Some(commanded.commands.clone()),
            _ => None,
        });
        let commands = told.unwrap_or_else(|| {
            let last = decision.book.commanded.as_ref();
            let settings =
                last.map(|l| crate::domain::settings::AgentSettings { reset_raw_usage: false, ..l.settings.clone() });
            settings.map(|s| sacctmgr::commands(decision.book.facts.account(), &s, None)).unwrap_or_default()
        });
        Ok(self.shown(request, policy, evaluated, &decision.book, commands))
    }

    fn shown(
        &self,
        request: &PreviewRequest,
        policy: &PolicyInForce,
        evaluated: &PolicyEvaluated,
        book: &Book,
        commands: Vec<Command>,
    ) -> Preview {
        let terms = &policy.facts.terms;
        let outcome = &evaluated.outcome;
        let basis = basis_of(evaluated, book);
        let weights = &policy.evaluation.weights;
        let base = basis.map(|b| b.basis.base.iter().map(|(c, t)| weights.of(c) * t.amount).sum()).unwrap_or_default();
        let carryover = basis.and_then(|b| weighted_carryover(&b.allocation.carryover, weights));
        let today = self.today();
        let rate = request
            .daily_usage_rate
            .filter(|rate| !rate.is_zero())
            .unwrap_or_else(|| daily_rate(outcome.weighted_usage, counted_since(evaluated.period, book), today));
        let notification = terms.notification_thresholds.first().copied().unwrap_or(NOTIFICATION_PERCENT);
        let limits: Thresholds = thresholds(outcome.weighted_allocation, terms.grace_ratio, notification);
        let numbers = PreviewNumbers {
            base_allocation: base,
            effective_allocation: outcome.weighted_allocation,
            carryover,
            current_usage: outcome.weighted_usage,
            daily_usage_rate: rate,
            usage_percentage: outcome.percentage,
            current_qos_status: qos_status(outcome.percentage, notification, terms.grace_ratio),
            date_projections: date_projections(outcome.weighted_usage, rate, &limits, today),
            thresholds: limits,
        };
        let details = basis.map(|b| &b.allocation.carryover);
        Preview {
            numbers: numbers.rounded(),
            grace_ratio: terms.grace_ratio,
            carryover_enabled: terms.carryover_enabled,
            carryover_factor: terms.carryover_factor.unwrap_or(Decimal::from(50)),
            carryover_formula: terms.carryover_formula().id(),
            carryover_note: details.and_then(|d| d.note.clone().or_else(|| d.reason.map(|r| r.word().to_owned()))),
            commands,
            period: evaluated.period.start().zip(evaluated.period.end()),
            explanation: Some(outcome.explanation.clone()),
            policy: None,
            half_life_days: terms.carryover_formula().half_life_days(),
            enforced: None,
        }
    }
}

/// The first day of the period, or of the resource's life where the period has none.
fn counted_since(period: Period, book: &Book) -> NaiveDate {
    period.start().unwrap_or_else(|| book.facts.created.date_naive())
}

/// The carryover of all components as one weighted sum, for the single numbers that the wire has.
fn weighted_carryover(details: &CarryoverDetails, weights: &Weights) -> Option<ComponentCarryover> {
    let mut terms = details.per_component.iter();
    let (first, one) = terms.next()?;
    let scaled = |component: &str, c: &ComponentCarryover| {
        let weight = weights.of(component);
        let times = |amount: Decimal| rounded(amount * weight, 12);
        ComponentCarryover {
            base: times(c.base),
            previous_base: c.previous_base.map(times),
            previous_usage: times(c.previous_usage),
            decay_factor: c.decay_factor,
            effective_previous_usage: c.effective_previous_usage.map(times),
            unused: c.unused.map(times),
            carryover_cap: c.carryover_cap.map(times),
            carryover: times(c.carryover),
            total: times(c.total),
        }
    };
    let plus = |a: Option<Decimal>, b: Option<Decimal>| a.zip(b).map(|(a, b)| a + b);
    Some(terms.fold(scaled(first, one), |sum, (component, c)| {
        let c = scaled(component, c);
        ComponentCarryover {
            base: sum.base + c.base,
            previous_base: plus(sum.previous_base, c.previous_base),
            previous_usage: sum.previous_usage + c.previous_usage,
            decay_factor: sum.decay_factor,
            effective_previous_usage: plus(sum.effective_previous_usage, c.effective_previous_usage),
            unused: plus(sum.unused, c.unused),
            carryover_cap: plus(sum.carryover_cap, c.carryover_cap),
            carryover: sum.carryover + c.carryover,
            total: sum.total + c.total,
        }
    }))
}
