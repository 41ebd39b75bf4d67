//! Site agents: their identities, services and queues.
//!
//! An agent registers itself at every start; repeating a registration changes nothing. Agents register for their own
//! offering, staff for any; a caller who sees the offering sees its agents.

mod compatibility;
mod identities;
mod logs;
mod nothing;
mod processors;
mod queues;
mod services;
mod subscriptions;

pub use logs::SiteAgentLogRequest;

use std::collections::BTreeSet;

use utoipa_axum::routes;

use super::access::{Access, Routes};
use super::context::Context;
use super::error::ApiError;
use super::fields;
use super::json::Json;
use crate::domain::ids::{AgentId, OfferingId};
use crate::events::agent::IdentityFacts;
use crate::registry::Registered;

/// The group in the API's description.
const TAG: &str = "Site agents";

/// Characters of a name at most.
const NAME_CHARS_MAX: usize = 255;
/// Kinds of messages that a queue may name at most.
const OBJECT_TYPES_MAX: usize = 100;

/// The routes of site agents.
pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Access::SignedIn, routes!(identities::list))
        .add(Access::Reporting, routes!(identities::create))
        .add(Access::SignedIn, routes!(identities::retrieve))
        .add(Access::Reporting, routes!(identities::update, identities::patch, identities::destroy))
        .add(Access::Reporting, routes!(services::register_service))
        .add(Access::Reporting, routes!(queues::register_queue))
        .add(Access::Reporting, routes!(subscriptions::register_event_subscription))
        .add(Access::SignedIn, routes!(services::list))
        .add(Access::SignedIn, routes!(services::retrieve))
        .add(Access::Reporting, routes!(processors::register_processor))
        .add(Access::SignedIn, routes!(processors::list))
        .add(Access::SignedIn, routes!(processors::retrieve))
        .add(Access::SignedIn, routes!(subscriptions::list))
        .add(Access::SignedIn, routes!(subscriptions::retrieve))
        .add(Access::Reporting, routes!(subscriptions::create_queue))
        .add(Access::SignedIn, routes!(logs::list))
        .add(Access::Reporting, routes!(logs::create))
        .add(Access::SignedIn, routes!(nothing::orders))
        .add(Access::SignedIn, routes!(nothing::user_limits))
        .add(Access::SignedIn, routes!(nothing::resource_keys))
        .add(Access::SignedIn, routes!(nothing::service_accounts))
        .add(Access::SignedIn, routes!(nothing::course_accounts))
        .add(Access::SignedIn, routes!(nothing::user_attribute_config))
}

/// Offerings whose agents the caller sees; none: all.
fn seen(ctx: &Context) -> impl Fn(OfferingId) -> bool {
    let state = ctx.app.registry.read();
    let visibility = ctx.visibility_in(&state);
    let of: BTreeSet<OfferingId> = if visibility.all {
        BTreeSet::new()
    } else {
        state.offerings().map(|o| &o.facts.facts).filter(|o| visibility.offering(o)).map(|o| o.offering).collect()
    };
    move |offering| visibility.all || of.contains(&offering)
}

/// An agent that the caller sees.
fn visible(ctx: &Context, agent: AgentId) -> Result<Registered<IdentityFacts>, ApiError> {
    let known = ctx.app.registry.read().agents().identity(agent).cloned().ok_or(ApiError::NotFound)?;
    if seen(ctx)(known.facts.offering) { Ok(known) } else { Err(ApiError::NotFound) }
}

/// An agent for which the caller may register things: what it sees, if it reports for the offering.
fn own(ctx: &Context, agent: AgentId) -> Result<Registered<IdentityFacts>, ApiError> {
    let known = visible(ctx, agent)?;
    if ctx.visibility().reports_for(known.facts.offering) { Ok(known) } else { Err(ApiError::Forbidden) }
}

/// Reads kinds of messages: each a short word.
fn object_types(value: &Json) -> Result<BTreeSet<String>, String> {
    let types = fields::list(OBJECT_TYPES_MAX, fields::words(100))(value)?;
    Ok(types.into_iter().collect())
}
