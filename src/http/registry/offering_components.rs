//! Single components of an offering: the endpoints that the site agent's `waldur_site_load_components` calls.
//!
//! The provider's people and staff may change components. An agent may only confirm current values: it does not decide
//! what an offering counts. Its statement about accounting (`billing_type`, its own `accounting_type`) changes nothing.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::offerings::visible;
use super::{TAG, components};
use crate::commands::registry::RegistryError;
use crate::domain::ids::OfferingId;
use crate::domain::validation::FieldErrors;
use crate::events::registry::{Component, OfferingFacts};
use crate::http::context::{Context, EveryField, Id, reason};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::fields::{self, Fields};
use crate::http::json::Json;
use crate::http::resolve::NO_SUCH_OBJECT;
use crate::http::taken::{BillingTypeInput, IdInput, LimitPeriodInput, MinutesInput};

/// What is kept of a component; anything else that a client may send says nothing or is refused.
const KEPT: [&str; 8] = [
    "type",
    "name",
    "measured_unit",
    "billing_type",
    "limit_period",
    "slurm_tres",
    "minutes_per_unit",
    "limit_decimal_places",
];

/// A change to a component.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct UpdateOfferingComponentRequest {
    /// The component's id.
    uuid: IdInput,
    /// Its type, which does not change.
    #[schema(min_length = 1, max_length = 255)]
    r#type: Option<String>,
    /// Display name.
    #[schema(min_length = 1, max_length = 255)]
    name: Option<String>,
    /// Unit.
    #[schema(min_length = 1, max_length = 50)]
    measured_unit: Option<String>,
    /// `limit`, `usage`, `fixed`, `one` or `few`.
    billing_type: Option<BillingTypeInput>,
    /// `month`, `quarterly`, `annual` or `total`; null: none.
    limit_period: Option<LimitPeriodInput>,
    /// The TRES it stands for.
    #[schema(min_length = 1, max_length = 100)]
    slurm_tres: Option<String>,
    /// TRES minutes in one unit.
    minutes_per_unit: Option<MinutesInput>,
    /// Decimal places that a limit may have, 0 to 12.
    #[schema(maximum = 12)]
    limit_decimal_places: Option<u32>,
    /// Why.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
}

/// A component, and what became of the request.
#[derive(Debug, Serialize, ToSchema)]
pub struct OfferingComponentResponse {
    /// In words.
    status: &'static str,
    component: components::Shown,
}

/// Who asks, as far as an offering's components are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    Provider,
    Agent,
}

fn asked(ctx: &Context, offering: OfferingId) -> Result<(Asker, OfferingFacts), ApiError> {
    let customer = visible(ctx, offering)?;
    let visibility = ctx.visibility();
    let asker = match visibility.must_manage(customer) {
        Ok(()) => Asker::Provider,
        Err(_) if visibility.reports_for(offering) => Asker::Agent,
        Err(error) => return Err(error),
    };
    let state = ctx.app.registry.read();
    let facts = state.offering(offering).map(|o| o.facts.facts.clone()).ok_or(ApiError::NotFound)?;
    Ok((asker, facts))
}

/// Whether a value says nothing: what a client sends for a field that it has and nobody filled in.
fn says_nothing(name: &str, value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => true,
        Json::Text(text) => text.is_empty(),
        Json::List(items) => items.is_empty(),
        Json::Object(object) => object.is_empty(),
        // The factor that every component is shown with.
        Json::Number(number) => name == "unit_factor" && number == "1",
        Json::Bool(true) => false,
    }
}

/// The fields that describe a component; a complaint about each that would be lost.
fn described(fields: &mut Fields) -> BTreeMap<String, Json> {
    let names: Vec<String> = fields.names().map(str::to_owned).collect();
    let mut given = BTreeMap::new();
    for name in names {
        let Some(value) = fields.raw(&name).cloned() else { continue };
        if KEPT.contains(&name.as_str()) {
            given.insert(name, value);
        } else if !["uuid", "reason"].contains(&name.as_str()) && !says_nothing(&name, &value) {
            let message = format!("Sluice keeps no {name} of a component: {} was given; leave it out.", value.shown());
            fields.errors.add(&name, message);
        }
    }
    given
}

/// Reads a component; a complaint goes under the field that it names.
fn read(object: BTreeMap<String, Json>) -> Result<Component, FieldErrors> {
    components::component(&Json::Object(object)).map_err(|message| match message.split_once(": ") {
        Some((field, message)) if KEPT.contains(&field) => FieldErrors::one(field, message),
        _ => FieldErrors::one("non_field_errors", message),
    })
}

/// A component as it would be sent.
fn as_sent(component: &Component) -> Result<BTreeMap<String, Json>, ApiError> {
    let text = serde_json::to_string(component).map_err(ApiError::internal)?;
    match Json::parse(&text).map_err(ApiError::internal)? {
        Json::Object(object) => Ok(object),
        _ => Ok(BTreeMap::new()),
    }
}

/// The fields in which two descriptions differ.
fn differing(known: &Component, wanted: &Component) -> Result<Vec<String>, ApiError> {
    let (known, wanted) = (as_sent(known)?, as_sent(wanted)?);
    let names: std::collections::BTreeSet<&String> = known.keys().chain(wanted.keys()).collect();
    Ok(names.into_iter().filter(|name| known.get(*name) != wanted.get(*name)).cloned().collect())
}

async fn keep(ctx: &Context, offering: OfferingId, component: &Component, why: Option<String>) -> Result<(), ApiError> {
    let wanted = |current: Option<&OfferingFacts>| {
        let mut facts = current.ok_or(RegistryError::Missing("offering"))?.clone();
        match facts.components.iter_mut().find(|known| known.component_type == component.component_type) {
            Some(known) => known.clone_from(component),
            None => facts.components.push(component.clone()),
        }
        components::check(&facts.components).map_err(|message| FieldErrors::one("type", message))?;
        Ok(facts)
    };
    let put = ctx.app.registry_commands.put_offering(offering, &ctx.meta(why), wanted).await?;
    ctx.settled(put.position).await;
    Ok(())
}

fn answer(ctx: &Context, code: StatusCode, offering: OfferingId, status: &'static str, c: &Component) -> ApiResult {
    ctx.one(code, &OfferingComponentResponse { status, component: components::show(offering, c) })
}

/// Add a component to an offering.
#[utoipa::path(post, path = "/api/marketplace-provider-offerings/{uuid}/create_offering_component/", tag = TAG,
    params(("uuid" = String, Path)), request_body = components::Request,
    responses((status = 201, body = OfferingComponentResponse), (status = 400, body = ErrorFields),
        (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
pub async fn create(ctx: Context, Id(offering): Id<OfferingId>, EveryField(mut fields): EveryField) -> ApiResult {
    let (asker, facts) = asked(&ctx, offering)?;
    if asker == Asker::Agent {
        let why =
            "An agent adds nothing to what an offering counts; its owners and staff do, in site.yaml or over the API.";
        return Err(ApiError::ForbiddenTo(why.to_owned()));
    }
    let given = described(&mut fields);
    let why = reason(&mut fields);
    let component = match read(given) {
        Ok(component) => Some(component),
        Err(errors) => {
            fields.errors.extend(errors);
            None
        }
    };
    if let Some(known) =
        component.as_ref().and_then(|c| facts.components.iter().find(|k| k.component_type == c.component_type))
    {
        let message = format!("The offering has a component {:?} already; change that one.", known.component_type);
        fields.errors.add("type", message);
    }
    fields.check()?;
    let Some(component) = component else { return Err(ApiError::NotFound) };
    keep(&ctx, offering, &component, why).await?;
    answer(&ctx, StatusCode::CREATED, offering, "added", &component)
}

/// Change a component of an offering; omitted fields stay. An agent may only confirm current values.
#[utoipa::path(post, path = "/api/marketplace-provider-offerings/{uuid}/update_offering_component/", tag = TAG,
    params(("uuid" = String, Path)), request_body = UpdateOfferingComponentRequest,
    responses((status = 200, body = OfferingComponentResponse), (status = 400, body = ErrorFields),
        (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
pub async fn update(ctx: Context, Id(offering): Id<OfferingId>, EveryField(mut fields): EveryField) -> ApiResult {
    let (asker, facts) = asked(&ctx, offering)?;
    let known = fields.required("uuid", |value| {
        let id: Uuid = fields::uuid(value)?;
        let found = facts.components.iter().find(|c| components::id_of(offering, c) == id);
        found.cloned().ok_or_else(|| NO_SUCH_OBJECT.to_owned())
    });
    let given = described(&mut fields);
    let why = reason(&mut fields);
    let Some(known) = known else {
        fields.check()?;
        return Err(ApiError::NotFound);
    };
    let mut whole = as_sent(&known)?;
    // How an agent accounts says nothing of how the offering bills.
    whole.extend(given.into_iter().filter(|(name, _)| asker == Asker::Provider || name != "billing_type"));
    let wanted = read(whole).unwrap_or_else(|errors| {
        fields.errors.extend(errors);
        known.clone()
    });
    if wanted.component_type != known.component_type {
        let message = format!("A component keeps its type; this one is {:?}.", known.component_type);
        fields.errors.add("type", message);
    }
    fields.check()?;
    let differs = differing(&known, &wanted)?;
    if differs.is_empty() {
        return answer(&ctx, StatusCode::OK, offering, "nothing changes", &known);
    }
    if asker == Asker::Agent {
        let message = format!(
            "The component {:?} is another one here ({}); its offering's owners and staff change it, an agent does not.",
            known.component_type,
            differs.join(", ")
        );
        return Err(ApiError::ForbiddenTo(message));
    }
    keep(&ctx, offering, &wanted, why).await?;
    answer(&ctx, StatusCode::OK, offering, "changed", &wanted)
}
