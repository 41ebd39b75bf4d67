//! `…/preview-changes/`: the effect of changed rules of a policy on all its allocations, before they are saved.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode};
use rust_decimal::Decimal;
use serde::Serialize;
use utoipa::ToSchema;

use super::TAG;
use super::body::{ComponentLimitRequest, Intent, PatchedPolicyRequest, PolicyInput};
use crate::domain::ids::{PolicyId, ResourceId, UserId, slug_uuid};
use crate::events::registry::PolicyFacts;
use crate::http::context::{Body, Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::fields::Fields;
use crate::http::number::Num;
use crate::http::paging::{Page, PageParams, RESULT_COUNT};
use crate::http::taken::{ActionsInput, ReferenceInput};
use crate::operations::what_if::{Becomes, RulesPreview, TRIED_MAX, Terms, Tried};
use crate::registry::RegistryState;

/// Changed rules: what a change takes, with what a new policy needs.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct ChangesRequest {
    /// Address, UUID or slug of the offering, which cannot change.
    #[schema(nullable = false)]
    scope: Option<ReferenceInput>,
    /// Action names with commas between them.
    #[schema(nullable = false)]
    actions: Option<ActionsInput>,
    /// Allocations where a resource sets none: `[{"type": …, "limit": …}]`.
    #[schema(nullable = false, max_items = 100)]
    component_limits_set: Option<Vec<ComponentLimitRequest>>,
    /// The rest.
    #[schema(inline)]
    #[serde(flatten)]
    optional: PatchedPolicyRequest,
}

/// An allocation under changed rules.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangedAllocation {
    pub resource_uuid: String,
    pub resource_name: String,
    pub customer_uuid: String,
    pub customer_name: String,
    /// `paused`, `slowed_down`, `restored`, `warned` (people would be told), `released` (the policy would apply no more), `failed`
    /// or `unchanged`.
    pub becomes: &'static str,
    /// As in allocation states.
    pub state_now: &'static str,
    pub state_then: &'static str,
    pub usage_percentage_now: Option<Num>,
    pub usage_percentage_then: Option<Num>,
    pub may_use_now: Option<Num>,
    pub may_use_then: Option<Num>,
    pub used: Option<Num>,
    /// What would be called for: `pause`, `downscale`, `notify`.
    pub actions: Vec<&'static str>,
    /// Mails that would go out about it.
    pub mails: u64,
    /// The sentence of the evaluation under the changed rules.
    pub explanation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl ChangedAllocation {
    fn of(tried: &Tried, state: &RegistryState) -> Self {
        let of = |terms: Option<&Terms>, read: fn(&Terms) -> Decimal| terms.map(|terms| Num(read(terms)));
        let (now, then) = (tried.now.as_ref(), tried.then.as_ref());
        Self {
            resource_uuid: tried.resource.to_string(),
            resource_name: tried.name.clone(),
            customer_uuid: tried.customer.to_string(),
            customer_name: state.customer(tried.customer).map(|c| c.facts.name.clone()).unwrap_or_default(),
            becomes: tried.becomes.as_str(),
            state_now: tried.standing_now.as_str(),
            state_then: tried.standing_then.as_str(),
            usage_percentage_now: of(now, |terms| terms.percentage),
            usage_percentage_then: of(then, |terms| terms.percentage),
            may_use_now: of(now, |terms| terms.may_use),
            may_use_then: of(then, |terms| terms.may_use),
            used: of(then, |terms| terms.used).or_else(|| of(now, |terms| terms.used)),
            actions: tried.verbs.iter().map(|verb| verb.as_str()).collect(),
            mails: tried.mails,
            explanation: tried.then.as_ref().map(|terms| terms.explanation.clone()),
            error: tried.error.clone(),
        }
    }
}

/// What changed rules come to; nothing is recorded.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangesPreview {
    pub policy_uuid: String,
    /// Allocations that were looked at.
    pub tried: u64,
    /// Allocations beyond the bound of 10,000, which were not.
    pub not_tried: u64,
    /// How many become what.
    pub becomes: BTreeMap<&'static str, u64>,
    /// Mails that would go out.
    pub mails: u64,
    /// Different people and addresses that would get one.
    pub people: u64,
    /// In one sentence.
    pub summary: String,
    /// A page of the allocations, what matters most first.
    pub allocations: Vec<ChangedAllocation>,
}

/// A number with its noun.
fn counted(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// What would happen, in one sentence; and that it has not.
fn sentence(preview: &RulesPreview) -> String {
    let of = |becomes| preview.counts.get(&becomes).copied().unwrap_or_default();
    let parts = [
        (of(Becomes::Paused), "paused"),
        (of(Becomes::SlowedDown), "slowed down"),
        (of(Becomes::Restored), "restored"),
        (of(Becomes::Warned), "warned"),
        (of(Becomes::Released), "released from the policy"),
    ];
    let happens: Vec<String> = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{} {what}", counted(*number, "allocation would be", "allocations would be")))
        .collect();
    let happens = if happens.is_empty() { "Nothing would change".to_owned() } else { happens.join(", ") };
    let told = match preview.people {
        0 => String::new(),
        people => format!(", and {} told", counted(people, "person would be", "people would be")),
    };
    let failed = match of(Becomes::Failed) {
        0 => String::new(),
        failed => format!(" {} be evaluated.", counted(failed, "allocation could not", "allocations could not")),
    };
    let left = match preview.left_out {
        0 => String::new(),
        left => format!(" {left} allocations beyond {TRIED_MAX} were not looked at."),
    };
    format!("{happens}{told}.{failed}{left} Nothing has been changed or recorded.")
}

/// The rules as they would be, with addresses that the directory does not learn from a preview.
fn with_options(input: &PolicyInput, mut facts: PolicyFacts) -> PolicyFacts {
    let previewed = |address: &String| UserId::from(slug_uuid("previewed address", &address.to_lowercase()));
    let recipients = input.options.as_ref().map(|options| options.addresses.iter().map(previewed).collect());
    input.apply_options(&mut facts, recipients.as_ref());
    facts
}

/// The effect of changed rules on all allocations of the policy: which would be paused, slowed down, restored or
/// warned, and how many mails would go out. Takes the body of a change; nothing is recorded.
#[utoipa::path(post, path = "/api/marketplace-slurm-periodic-usage-policies/{uuid}/preview-changes/", tag = TAG,
    params(("uuid" = String, Path), PageParams,
        ("resource_uuid" = Option<String>, Query, description = "On this allocation only")),
    request_body = ChangesRequest,
    responses((status = 200, body = ChangesPreview, headers(("X-Result-Count" = u64, description = "Number of allocations"))),
        (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
pub async fn preview_changes(ctx: Context, Id(id): Id<PolicyId>, Body(fields): Body) -> ApiResult {
    let resource: Option<ResourceId> = ctx.query.uuid("resource_uuid")?;
    let shown = preview(&ctx, id, fields, resource, Page::of(&ctx.query)?).await?;
    let mut response = ctx.one(StatusCode::OK, &shown)?;
    response.headers_mut().insert(RESULT_COUNT, HeaderValue::from(shown.tried));
    Ok(response)
}

/// A page of what changed rules come to, for those who may change the policy; `fields` are those of a change.
///
/// # Errors
/// There is no such policy, somebody else manages it, or the rules or the page are refused.
pub async fn preview(
    ctx: &Context,
    id: PolicyId,
    fields: Fields,
    resource: Option<ResourceId>,
    page: Page,
) -> Result<ChangesPreview, ApiError> {
    let policy = super::managed(ctx, id)?;
    let input = PolicyInput::read(fields, ctx, Intent::Patch)?;
    let wanted = with_options(&input, input.apply(&policy.facts)?);
    crate::commands::registry::check_against_offering(&wanted, Some(&policy.facts), &ctx.app.registry.read())?;
    let preview = ctx.app.operations.preview_rules(id, &wanted, resource).await?;
    shown(ctx, id, preview, page)
}

/// What a new policy comes to on all the allocations that it would govern. Takes what a creation takes; nothing is recorded.
#[utoipa::path(post, path = "/api/marketplace-slurm-periodic-usage-policies/preview-new/", tag = TAG,
    params(PageParams), request_body = super::body::PolicyRequest,
    responses((status = 200, body = ChangesPreview, headers(("X-Result-Count" = u64, description = "Number of allocations"))),
        (status = 400, body = ErrorFields)))]
pub async fn preview_new(ctx: Context, Body(fields): Body) -> ApiResult {
    let input = PolicyInput::read(fields, &ctx, Intent::Create)?;
    let id = super::new_id(&ctx, &input)?;
    let page = Page::of(&ctx.query)?;
    let draft = {
        let state = ctx.app.registry.read();
        let draft = with_options(&input, input.create(id, &state)?);
        crate::commands::registry::check_against_offering(&draft, None, &state)?;
        draft
    };
    let shown = shown(&ctx, id, ctx.app.operations.preview_new(&draft).await?, page)?;
    let mut response = ctx.one(StatusCode::OK, &shown)?;
    response.headers_mut().insert(RESULT_COUNT, HeaderValue::from(shown.tried));
    Ok(response)
}

fn shown(ctx: &Context, id: PolicyId, preview: RulesPreview, page: Page) -> Result<ChangesPreview, ApiError> {
    let total = preview.tried.len() as u64;
    let summary = sentence(&preview);
    let rows = page.within(total)?.cut(preview.tried);
    let state = ctx.app.registry.read();
    Ok(ChangesPreview {
        policy_uuid: id.to_string(),
        tried: total,
        not_tried: preview.left_out as u64,
        becomes: preview.counts.iter().map(|(becomes, n)| (becomes.as_str(), *n)).collect(),
        mails: preview.mails,
        people: preview.people,
        summary,
        allocations: rows.iter().map(|tried| ChangedAllocation::of(tried, &state)).collect(),
    })
}
