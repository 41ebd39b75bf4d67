//! `…/versions/`: what a policy was in each of its versions, who changed what, when and why.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::TAG;
use super::shape::{self, Rules};
use crate::commands::registry::policy_stream;
use crate::domain::ids::{PolicyId, UserId};
use crate::events::envelope::{DecodeError, RecordedEvent};
use crate::events::registry::{PolicyFacts, RegistryEvent};
use crate::http::context::{Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail};
use crate::http::paging::{Page, PageParams, listed};

/// Versions that are read at a time.
const AT_ONCE: usize = 500;

/// A parameter that a version of a policy changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangedRule {
    /// Its name, as in a policy.
    pub parameter: String,
    /// Its value in the version before.
    pub before: Value,
    /// Its value from this version on.
    pub after: Value,
}

/// A version of a policy.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyVersion {
    /// Counts from 1.
    pub version: u64,
    /// When it came into force.
    pub created: DateTime<Utc>,
    /// Who made it; null once erased, or where nobody did.
    pub created_by_full_name: Option<String>,
    /// See above.
    pub created_by_username: Option<String>,
    /// Why, where somebody said so.
    pub reason: Option<String>,
    /// What it decided by. `period` is the policy's own; the offering's wins over it.
    pub rules: Rules,
    /// What is not as it was in the version before.
    pub differences: Vec<ChangedRule>,
}

/// A version as the log has it.
struct Recorded {
    event: RecordedEvent,
    facts: Box<PolicyFacts>,
}

async fn recorded(ctx: &Context, policy: PolicyId) -> Result<Vec<Recorded>, ApiError> {
    let stream = policy_stream(policy);
    let (mut found, mut read) = (Vec::new(), 0);
    loop {
        let events = ctx.app.store.read_stream(&stream, read, AT_ONCE).await?;
        let Some(last) = events.last() else { return Ok(found) };
        read = last.version;
        for event in events {
            match RegistryEvent::decode(&event.event_type, &event.payload) {
                Some(Ok(RegistryEvent::PolicyCreated(facts) | RegistryEvent::PolicyChanged(facts))) => {
                    found.push(Recorded { event, facts });
                }
                Some(Err(problem)) => return Err(ApiError::internal(DecodeError::new(&event, problem))),
                _ => {}
            }
        }
    }
}

async fn shown(ctx: &Context, facts: &PolicyFacts, addresses: bool) -> Result<Rules, ApiError> {
    Ok(Rules::of(ctx, facts, shape::options(ctx, facts, addresses).await?))
}

/// The parameters in which two versions differ, in the order of a policy's fields.
fn differences(before: &Rules, after: &Rules) -> Result<Vec<ChangedRule>, ApiError> {
    let value = |rules: &Rules| serde_json::to_value(rules).map_err(ApiError::internal);
    let (Value::Object(before), Value::Object(after)) = (value(before)?, value(after)?) else { return Ok(Vec::new()) };
    let differ = after.into_iter().filter_map(|(parameter, after)| {
        let before = before.get(&parameter).cloned().unwrap_or_default();
        (before != after).then_some(ChangedRule { parameter, before, after })
    });
    Ok(differ.collect())
}

/// List the versions of a policy, newest first, each with what it changed.
#[utoipa::path(get, path = "/api/marketplace-slurm-periodic-usage-policies/{uuid}/versions/", tag = TAG,
    params(("uuid" = String, Path), PageParams),
    responses((status = 200, body = [PolicyVersion], headers(("X-Result-Count" = u64, description = "Number of rows"))),
        (status = 404, body = ErrorDetail)))]
pub async fn list(ctx: Context, Id(policy): Id<PolicyId>) -> ApiResult {
    let known = super::visible(&ctx, policy)?;
    let addresses = {
        let state = ctx.app.registry.read();
        let offering = state.offering(known.facts.offering).ok_or(ApiError::NotFound)?;
        ctx.visibility_in(&state).manages(offering.facts.facts.customer)
    };
    let all = recorded(&ctx, policy).await?;
    let page = Page::of(&ctx.query)?.within(all.len() as u64)?;
    let wanted = page.cut((0..all.len()).rev().collect());
    let actor = |at: usize| all.get(at).and_then(|version| version.event.metadata.actor.id).map(UserId::from);
    let actors: Vec<UserId> = wanted.iter().filter_map(|at| actor(*at)).collect();
    let people = ctx.app.directory.users(&actors).await.map_err(ApiError::internal)?;
    let mut rows = Vec::new();
    for at in wanted {
        let Some(Recorded { event, facts }) = all.get(at) else { continue };
        let rules = shown(&ctx, facts, addresses).await?;
        let before = at.checked_sub(1).and_then(|before| all.get(before));
        let differences = match before {
            Some(before) => differences(&shown(&ctx, &before.facts, addresses).await?, &rules)?,
            None => Vec::new(),
        };
        let person = actor(at).and_then(|id| people.get(&id));
        rows.push(PolicyVersion {
            version: event.version,
            created: event.occurred_at,
            created_by_full_name: person.map(|user| user.full_name.clone()),
            created_by_username: person.map(|user| user.username.clone()),
            reason: event.metadata.reason.as_ref().map(ToString::to_string),
            rules,
            differences,
        });
    }
    listed(&ctx, page, all.len() as u64, &rows)
}
