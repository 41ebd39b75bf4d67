//! A resource as the API shows it.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::COLLECTION;
use crate::commands::allocation::Book;
use crate::domain::evaluate::Flags;
use crate::events::allocation::ResourceFacts;
use crate::http::context::Context;
use crate::http::number::{Num, amounts};
use crate::http::registry::{OFFERING_COLLECTION, OFFERING_TYPE, PROJECT_COLLECTION, plugin_options};
use crate::projections::registry::ResourceRow;
use crate::projections::site_answers::SiteAnswer;

/// An allocation: one SLURM account.
#[derive(Debug, Serialize, ToSchema)]
pub struct Resource {
    uuid: String,
    url: String,
    slug: String,
    name: String,
    description: String,
    /// The SLURM account.
    backend_id: String,
    state: &'static str,
    /// Address of the offering.
    offering: String,
    offering_uuid: String,
    offering_name: String,
    offering_slug: String,
    offering_type: &'static str,
    offering_plugin_options: Value,
    provider_uuid: String,
    provider_name: String,
    /// Address of the project.
    project: String,
    project_uuid: String,
    project_name: String,
    project_slug: String,
    project_description: String,
    project_end_date: Option<NaiveDate>,
    customer_uuid: String,
    customer_name: String,
    customer_slug: String,
    /// Limits by component; a component that is absent has none of its own.
    limits: BTreeMap<String, Num>,
    paused: bool,
    downscaled: bool,
    restrict_member_access: bool,
    /// What the site says of the account: `qos`.
    backend_metadata: Value,
    attributes: Value,
    end_date: Option<NaiveDate>,
    created: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modified: Option<DateTime<Utc>>,
    /// When the agent last came to the end of looking after the account, to ten minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sync: Option<DateTime<Utc>>,
}

/// What the site said of an account.
#[derive(Default)]
struct Said<'a> {
    qos: Option<&'a str>,
    synced_at: Option<DateTime<Utc>>,
}

fn show(
    ctx: &Context,
    facts: &ResourceFacts,
    flags: Flags,
    modified: Option<DateTime<Utc>>,
    said: &Said<'_>,
) -> Resource {
    let state = ctx.app.registry.read();
    let offering = state.offering(facts.offering).map(|o| &o.facts.facts);
    let provider = offering.and_then(|o| state.customer(o.customer));
    let project = state.project(facts.project);
    let customer = state.customer(facts.customer);
    Resource {
        uuid: facts.resource.to_string(),
        url: ctx.url(COLLECTION, facts.resource),
        slug: facts.slug.clone(),
        name: facts.name.clone(),
        description: String::new(),
        backend_id: facts.backend_id.clone(),
        state: facts.state.as_str(),
        offering: ctx.url(OFFERING_COLLECTION, facts.offering),
        offering_uuid: facts.offering.to_string(),
        offering_name: offering.map(|o| o.name.clone()).unwrap_or_default(),
        offering_slug: offering.map(|o| o.slug.clone()).unwrap_or_default(),
        offering_type: OFFERING_TYPE,
        offering_plugin_options: plugin_options(),
        provider_uuid: offering.map(|o| o.customer.to_string()).unwrap_or_default(),
        provider_name: provider.map(|c| c.facts.name.clone()).unwrap_or_default(),
        project: ctx.url(PROJECT_COLLECTION, facts.project),
        project_uuid: facts.project.to_string(),
        project_name: project.map(|p| p.facts.name.clone()).unwrap_or_default(),
        project_slug: project.map(|p| p.facts.slug.clone()).unwrap_or_default(),
        project_description: String::new(),
        project_end_date: None,
        customer_uuid: facts.customer.to_string(),
        customer_name: customer.map(|c| c.facts.name.clone()).unwrap_or_default(),
        customer_slug: customer.map(|c| c.facts.slug.clone()).unwrap_or_default(),
        limits: amounts(&facts.limits),
        paused: flags.paused,
        downscaled: flags.downscaled,
        restrict_member_access: false,
        backend_metadata: said.qos.map_or_else(|| json!({}), |qos| json!({ "qos": qos })),
        attributes: json!({}),
        end_date: None,
        created: facts.created,
        modified,
        last_sync: said.synced_at,
    }
}

/// From its book: as it is now.
pub fn of_book(ctx: &Context, book: &Book, modified: Option<DateTime<Utc>>) -> Resource {
    let qos = book.answers.qos.as_ref().map(|confirmed| confirmed.qos.as_str());
    show(ctx, &book.facts, book.flags, modified, &Said { qos, synced_at: book.answers.synced_at })
}

/// From a row of the read model, and what the site said of the account.
pub fn of_row(ctx: &Context, row: &ResourceRow, answer: Option<&SiteAnswer>) -> Resource {
    let facts = ResourceFacts {
        resource: row.resource,
        slug: row.slug.clone(),
        name: row.name.clone(),
        offering: row.offering,
        project: row.project,
        customer: row.customer,
        backend_id: row.backend_id.clone(),
        limits: row.limits.clone(),
        state: row.state,
        created: row.created,
    };
    let said = answer.map_or_else(Said::default, |answer| Said {
        qos: answer.qos.as_ref().map(|(qos, _)| qos.as_str()),
        synced_at: answer.synced_at,
    });
    show(ctx, &facts, row.flags, Some(row.modified), &said)
}
