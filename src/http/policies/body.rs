//! Reads a policy from a request: each parameter separately, replacing the old value.
//!
//! An omitted parameter keeps its value; on creation it gets its default. As in Waldur, `apply_to_all` counts as false
//! if a `PUT` omits it.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;

use super::options::{self, Options};
use crate::domain::carryover::CarryoverBase;
use crate::domain::ids::{GroupId, OfferingId, PolicyId, UserId};
use crate::domain::period::PeriodKind;
use crate::domain::policy::{Action, LimitType, PolicyTerms, QosStrategy};
use crate::domain::text::TextProblem;
use crate::domain::threshold::{Effect, Rung};
use crate::domain::tres::Amounts;
use crate::domain::validation::FieldErrors;
use crate::events::registry::{PolicyFacts, Scope};
use crate::http::context::{Context, reason};
use crate::http::error::ApiError;
use crate::http::fields::{self, Fields};
use crate::http::json::Json;
use crate::http::resolve;
use crate::http::taken::{
    ActionsInput, AmountInput, CarryoverBaseInput, EffectInput, HalfLifeInput, IdInput, LimitTypeInput, OptionsInput,
    PercentInput, PeriodInput, QosStrategyInput, RatioInput, ReferenceInput, RungPercentInput, SlugInput,
    ThresholdsInput, WeightsInput,
};
use crate::http::visibility::Visibility;
use crate::registry::{RegistryState, offering_period};

/// Organization groups of one policy.
const GROUPS_MAX: usize = 1_000;
/// Thresholds of one policy.
const RUNGS_MAX: usize = 100;
/// Characters of a list of actions: all their names are a part of that.
const ACTIONS_CHARS_MAX: usize = 1_000;

/// How the request stands to what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// A new policy.
    Create,
    /// The whole policy anew.
    Replace,
    /// Some parameters.
    Patch,
}

/// What was said; none = left out.
#[derive(Debug, Default)]
pub struct PolicyInput {
    pub scope: Option<OfferingId>,
    pub slug: Option<String>,
    pub uuid: Option<PolicyId>,
    pub options: Option<Options>,
    pub reason: Option<String>,
    actions: Option<BTreeSet<Action>>,
    apply_to_all: Option<bool>,
    groups: Option<BTreeSet<GroupId>>,
    component_limits: Option<Amounts>,
    period: Option<PeriodKind>,
    limit_type: Option<LimitType>,
    tres_billing_enabled: Option<bool>,
    tres_billing_weights: Option<BTreeMap<String, Decimal>>,
    fairshare_decay_half_life: Option<Decimal>,
    carryover_enabled: Option<bool>,
    #[expect(clippy::option_option, reason = "null unsets it, which is not the same as leaving it out")]
    carryover_factor: Option<Option<Decimal>>,
    carryover_base: Option<CarryoverBase>,
    grace_ratio: Option<Decimal>,
    notification_thresholds: Option<Vec<Decimal>>,
    raw_usage_reset: Option<bool>,
    qos_strategy: Option<QosStrategy>,
    progressive_thresholds: Option<Vec<Rung>>,
    enabled: Option<bool>,
}

impl PolicyInput {
    /// Reads a body; every complaint is gathered before it is refused.
    pub fn read(mut fields: Fields, ctx: &Context, intent: Intent) -> Result<Self, ApiError> {
        let f = &mut fields;
        let state = ctx.app.registry.read();
        let visibility = Visibility::of(&ctx.caller, &state);
        let scope = |value: &Json| managed_offering(value, &state, &visibility);
        let groups = fields::list(GROUPS_MAX, |value| resolve::group(value, &state));
        let mut input = Self {
            scope: f.optional("scope", scope),
            actions: f.optional("actions", actions),
            component_limits: f.optional("component_limits_set", component_limits),
            options: f.optional("options", options::read),
            apply_to_all: f.optional("apply_to_all", fields::boolean),
            groups: f.optional("organization_groups", groups).map(|groups| groups.into_iter().collect()),
            period: f.optional("period", period),
            limit_type: f
                .optional("limit_type", fields::choice(LimitType::from_name, "GrpTRESMins, MaxTRESMins, GrpTRES")),
            tres_billing_enabled: f.optional("tres_billing_enabled", fields::boolean),
            tres_billing_weights: f.optional("tres_billing_weights", fields::numbers_by_name),
            fairshare_decay_half_life: f.optional("fairshare_decay_half_life", fields::number),
            carryover_enabled: f.optional("carryover_enabled", fields::boolean),
            carryover_factor: f.nullable("carryover_factor", fields::number),
            carryover_base: f.optional("carryover_base", fields::choice(CarryoverBase::from_name, "previous, current")),
            grace_ratio: f.optional("grace_ratio", fields::number),
            notification_thresholds: f.optional("notification_threshold", one_or_more),
            raw_usage_reset: f.optional("raw_usage_reset", fields::boolean),
            qos_strategy: f.optional("qos_strategy", fields::choice(QosStrategy::from_name, "threshold, progressive")),
            progressive_thresholds: f.optional("progressive_thresholds", fields::list(RUNGS_MAX, rung)),
            enabled: f.optional("enabled", fields::boolean),
            slug: f.optional("slug", resolve::slug),
            uuid: f.optional("uuid", |value| fields::uuid(value).map(PolicyId::from)),
            reason: reason(f),
        };
        if intent != Intent::Patch {
            for name in ["scope", "actions", "component_limits_set"] {
                if !f.has(name) {
                    f.errors.add(name, fields::REQUIRED);
                }
            }
            input.apply_to_all = input.apply_to_all.or(Some(false));
        }
        f.check()?;
        Ok(input)
    }

    /// The facts of a new policy.
    pub fn create(&self, policy: PolicyId, state: &RegistryState) -> Result<PolicyFacts, FieldErrors> {
        let missing = || FieldErrors::one("scope", fields::REQUIRED);
        let offering = self.scope.ok_or_else(missing)?;
        let period = state.offering(offering).and_then(|o| offering_period(&o.facts.facts));
        let facts = PolicyFacts {
            policy,
            slug: self.slug.clone().unwrap_or_default(),
            offering,
            scope: Scope::Groups(BTreeSet::new()),
            terms: PolicyTerms { period: period.unwrap_or(PeriodKind::Quarter), ..PolicyTerms::default() },
            external_recipients: BTreeSet::new(),
            options: BTreeMap::new(),
        };
        self.apply(&facts)
    }

    /// The facts with what was said in place of the old.
    pub fn apply(&self, facts: &PolicyFacts) -> Result<PolicyFacts, FieldErrors> {
        let mut facts = facts.clone();
        if self.scope.is_some_and(|offering| offering != facts.offering) {
            return Err(FieldErrors::one("scope", "A policy stays on its offering; create another one instead."));
        }
        if self.slug.as_ref().is_some_and(|slug| *slug != facts.slug) {
            return Err(FieldErrors::one(
                "slug",
                format!("The slug of a policy does not change; it is {:?}.", facts.slug),
            ));
        }
        facts.scope = self.wanted_scope(&facts.scope)?;
        self.apply_terms(&mut facts.terms);
        facts.terms = facts.terms.normalized();
        Ok(facts)
    }

    /// Takes over the options, whose addresses the directory knows by now.
    pub fn apply_options(&self, facts: &mut PolicyFacts, recipients: Option<&BTreeSet<UserId>>) {
        if let Some(options) = &self.options {
            facts.options.clone_from(&options.others);
            facts.external_recipients = recipients.cloned().unwrap_or_default();
        }
    }

    fn apply_terms(&self, terms: &mut PolicyTerms) {
        fn set<T: Clone>(place: &mut T, value: Option<&T>) {
            if let Some(value) = value {
                place.clone_from(value);
            }
        }
        set(&mut terms.actions, self.actions.as_ref());
        set(&mut terms.component_limits, self.component_limits.as_ref());
        set(&mut terms.period, self.period.as_ref());
        set(&mut terms.limit_type, self.limit_type.as_ref());
        set(&mut terms.tres_billing_enabled, self.tres_billing_enabled.as_ref());
        set(&mut terms.tres_billing_weights, self.tres_billing_weights.as_ref());
        set(&mut terms.fairshare_decay_half_life, self.fairshare_decay_half_life.as_ref());
        set(&mut terms.carryover_enabled, self.carryover_enabled.as_ref());
        set(&mut terms.carryover_factor, self.carryover_factor.as_ref());
        if self.carryover_base.is_some() {
            terms.carryover_base = self.carryover_base;
        }
        set(&mut terms.grace_ratio, self.grace_ratio.as_ref());
        set(&mut terms.notification_thresholds, self.notification_thresholds.as_ref());
        set(&mut terms.raw_usage_reset, self.raw_usage_reset.as_ref());
        set(&mut terms.qos_strategy, self.qos_strategy.as_ref());
        set(&mut terms.progressive_thresholds, self.progressive_thresholds.as_ref());
        set(&mut terms.enabled, self.enabled.as_ref());
    }

    /// Exactly one of the two ways to say who the policy applies to, after the change.
    fn wanted_scope(&self, current: &Scope) -> Result<Scope, FieldErrors> {
        let (was_all, had) = match current {
            Scope::All => (true, BTreeSet::new()),
            Scope::Groups(groups) => (false, groups.clone()),
        };
        let all = self.apply_to_all.unwrap_or(was_all);
        let groups = self.groups.clone().unwrap_or(had);
        match (all, groups.is_empty()) {
            (true, true) => Ok(Scope::All),
            (false, false) => Ok(Scope::Groups(groups)),
            (true, false) => Err(FieldErrors::one(
                "non_field_errors",
                "It is not possible to set apply_to_all=True when organization_groups are specified: exactly one of the two is allowed.",
            )),
            (false, true) => Err(FieldErrors::one(
                "non_field_errors",
                "Exactly one of apply_to_all=True and a non-empty list of organization_groups is required; neither is given.",
            )),
        }
    }
}

/// An offering on which the caller may set policies.
fn managed_offering(value: &Json, state: &RegistryState, visibility: &Visibility) -> Result<OfferingId, String> {
    let id = resolve::offering(value, state)?;
    let offering = state.offering(id).filter(|o| visibility.offering(&o.facts.facts)).ok_or(resolve::NO_SUCH_OBJECT)?;
    if visibility.manages(offering.facts.facts.customer) {
        Ok(id)
    } else {
        Err("Only staff and owners of the organisation that offers it may set policies on an offering.".to_owned())
    }
}

fn actions(value: &Json) -> Result<BTreeSet<Action>, String> {
    let list = match value {
        Json::Text(list) => list.clone(),
        Json::List(_) => fields::list(Action::ALL.len(), fields::raw_text)(value)?.join(","),
        other => {
            return Err(format!(
                "Not a valid string: {} was given, action names with commas between them are allowed.",
                other.kind()
            ));
        }
    };
    let given = list.chars().count();
    if given > ACTIONS_CHARS_MAX {
        return Err(TextProblem::TooLong { max: ACTIONS_CHARS_MAX, given }.to_string());
    }
    Action::parse_list(&list).map_err(|error| error.to_string())
}

fn component_limits(value: &Json) -> Result<Amounts, String> {
    let limits = fields::list(fields::NAMES_MAX, |item| {
        let Json::Object(item) = item else { return Err(format!("Expected {{type, limit}} but got {}.", item.kind())) };
        fields::only(item, &["limit", "type"])?;
        let component = item.get("type").ok_or("type: This field is required.")?;
        let limit = item.get("limit").ok_or("limit: This field is required.")?;
        let component = fields::words(255)(component).map_err(|message| format!("type: {message}"))?;
        Ok((component, fields::number(limit).map_err(|message| format!("limit: {message}"))?))
    })(value)?;
    let mut amounts = Amounts::new();
    for (component, limit) in limits {
        if amounts.insert(component.clone(), limit.normalize()).is_some() {
            return Err(format!("Component type {component:?} is given more than once."));
        }
    }
    Ok(amounts)
}

fn period(value: &Json) -> Result<PeriodKind, String> {
    const ALLOWED: &str = "1 (total), 2 (month), 3 (quarter), 4 (year)";
    let code = |text: &str| text.parse().ok().and_then(PeriodKind::from_code);
    fields::choice(|text| code(text).or_else(|| PeriodKind::from_name(text)), ALLOWED)(value)
}

fn one_or_more(value: &Json) -> Result<Vec<Decimal>, String> {
    match value {
        Json::List(_) => fields::list(RUNGS_MAX, fields::number)(value),
        other => fields::number(other).map(|one| vec![one]),
    }
}

fn rung(value: &Json) -> Result<Rung, String> {
    let Json::Object(item) = value else {
        return Err(format!("Expected {{percent, effect, qos?}} but got {}.", value.kind()));
    };
    fields::only(item, &["effect", "percent", "qos"])?;
    let percent = item.get("percent").ok_or("percent: This field is required.")?;
    let effect = item.get("effect").ok_or("effect: This field is required.")?;
    let effects = [Effect::Notify, Effect::Downscale, Effect::Pause];
    let effect =
        fields::choice(|word| effects.into_iter().find(|e| e.verb() == word), "notify, downscale, pause")(effect);
    let qos = match item.get("qos") {
        None | Some(Json::Null) => None,
        Some(qos) => Some(fields::words(64)(qos).map_err(|message| format!("qos: {message}"))?),
    };
    Ok(Rung {
        percent: fields::number(percent).map_err(|message| format!("percent: {message}"))?,
        effect: effect.map_err(|message| format!("effect: {message}"))?,
        qos,
    })
}

/// The body of a creation or a full update, for the API's description.
#[derive(Debug, utoipa::ToSchema)]
#[schema(as = PolicyRequest)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct PolicyRequest {
    /// Address, UUID or slug of the offering.
    scope: ReferenceInput,
    /// Action names with commas between them.
    actions: ActionsInput,
    /// Allocations where a resource sets none: `[{"type": …, "limit": …}]`.
    #[schema(max_items = 100)]
    component_limits_set: Vec<ComponentLimitRequest>,
    /// The rest.
    #[schema(inline)]
    #[serde(flatten)]
    optional: PatchedPolicyRequest,
}

/// The allocation of a component.
#[derive(Debug, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct ComponentLimitRequest {
    /// Component type.
    #[schema(min_length = 1, max_length = 255)]
    r#type: String,
    /// Limit per period.
    limit: AmountInput,
}

/// A rung of a progressive policy.
#[derive(Debug, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct RungRequest {
    /// Where it is.
    percent: RungPercentInput,
    /// What happens there.
    effect: EffectInput,
    /// The class of service, if not that of the site.
    #[schema(min_length = 1, max_length = 64)]
    qos: Option<String>,
}

/// Some parameters of a policy, for the API's description.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct PatchedPolicyRequest {
    /// Options by action; `notify_external_user`: addresses with commas between them.
    #[schema(nullable = false)]
    options: Option<OptionsInput>,
    /// Whether it applies to every organisation.
    #[schema(nullable = false)]
    apply_to_all: Option<bool>,
    /// Addresses, UUIDs or slugs of organization groups.
    #[schema(nullable = false, max_items = 1_000)]
    organization_groups: Option<Vec<ReferenceInput>>,
    /// 1 total, 2 month, 3 quarter, 4 year.
    #[schema(nullable = false)]
    period: Option<PeriodInput>,
    /// `GrpTRESMins`, `MaxTRESMins` or `GrpTRES`.
    #[schema(nullable = false)]
    limit_type: Option<LimitTypeInput>,
    /// Whether usage counts in billing units.
    #[schema(nullable = false)]
    tres_billing_enabled: Option<bool>,
    /// Weights by component.
    #[schema(nullable = false)]
    tres_billing_weights: Option<WeightsInput>,
    /// Days in which past usage loses half its weight.
    #[schema(nullable = false)]
    fairshare_decay_half_life: Option<HalfLifeInput>,
    /// Whether anything is carried over.
    #[schema(nullable = false)]
    carryover_enabled: Option<bool>,
    /// Cap of the carryover in percent, or null for the decaying formula.
    carryover_factor: Option<PercentInput>,
    /// The allocation with which past usage is compared: `previous`, that of the previous period at its end (the
    /// default for a new policy), or `current`, the present one.
    #[schema(nullable = false)]
    carryover_base: Option<CarryoverBaseInput>,
    /// 0 to 1.
    #[schema(nullable = false)]
    grace_ratio: Option<RatioInput>,
    /// A percent, or a list of them.
    #[schema(nullable = false)]
    notification_threshold: Option<ThresholdsInput>,
    /// Whether raw usage is reset at a period boundary.
    #[schema(nullable = false)]
    raw_usage_reset: Option<bool>,
    /// `threshold` or `progressive`.
    #[schema(nullable = false)]
    qos_strategy: Option<QosStrategyInput>,
    /// Rungs of a progressive policy: `[{"percent": …, "effect": "notify|downscale|pause", "qos": …}]`.
    #[schema(nullable = false, max_items = 100)]
    progressive_thresholds: Option<Vec<RungRequest>>,
    /// Whether it is in force.
    #[schema(nullable = false)]
    enabled: Option<bool>,
    /// Short name, unique; a new policy's id derives from it.
    #[schema(nullable = false)]
    slug: Option<SlugInput>,
    /// Its id; of a new policy only, derived from the slug without it.
    #[schema(nullable = false)]
    uuid: Option<IdInput>,
    /// Reason, recorded with the change.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
}
