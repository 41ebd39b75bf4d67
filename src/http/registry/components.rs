//! The components of an offering, and its classes of service, in requests and answers.

use rust_decimal::Decimal;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::decimal;
use crate::domain::ids::{OfferingId, slug_uuid};
use crate::domain::qos::QosNames;
use crate::domain::tres::{is_memory, usual_minutes_per_unit};
use crate::events::registry::{BillingType, Component, LimitPeriod};
use crate::http::fields;
use crate::http::json::Json;
use crate::http::number::Num;
use crate::http::taken::{BillingTypeInput, LimitPeriodInput, MinutesInput};

/// Components of an offering at most.
const COMPONENTS_MAX: usize = 100;

/// Something an offering counts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OfferingComponent)]
pub struct Shown {
    uuid: String,
    offering_uuid: String,
    #[serde(rename = "type")]
    component_type: String,
    name: String,
    measured_unit: String,
    /// `limit`, `usage`, `fixed`, `one` or `few`.
    billing_type: &'static str,
    /// `month`, `quarterly`, `annual` or `total`.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_period: Option<&'static str>,
    /// The TRES it stands for.
    slurm_tres: String,
    /// TRES minutes in one unit.
    minutes_per_unit: Num,
    /// Decimal places that a limit may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_decimal_places: Option<u32>,
    unit_factor: u32,
    is_boolean: bool,
}

/// The site's names of its classes of service.
#[derive(Debug, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct QosRequest {
    #[schema(min_length = 1, max_length = 64, nullable = false)]
    default: Option<String>,
    #[schema(min_length = 1, max_length = 64, nullable = false)]
    downscaled: Option<String>,
    #[schema(min_length = 1, max_length = 64, nullable = false)]
    paused: Option<String>,
}

/// A component in a request.
#[derive(Debug, ToSchema)]
#[schema(as = OfferingComponentRequest)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct Request {
    /// Component type.
    #[schema(min_length = 1, max_length = 255)]
    r#type: String,
    /// Display name; the type without it.
    #[schema(min_length = 1, max_length = 255)]
    name: Option<String>,
    /// Unit; `hours` without it.
    #[schema(min_length = 1, max_length = 50)]
    measured_unit: Option<String>,
    /// `limit` (default), `usage`, `fixed`, `one` or `few`.
    billing_type: Option<BillingTypeInput>,
    /// `month`, `quarterly`, `annual` or `total`.
    limit_period: Option<LimitPeriodInput>,
    /// The TRES it stands for; its type without it.
    #[schema(min_length = 1, max_length = 100)]
    slurm_tres: Option<String>,
    /// TRES minutes in one unit; 60 without it.
    minutes_per_unit: Option<MinutesInput>,
    /// Decimal places that a limit may have, 0 to 12; any without it.
    #[schema(maximum = 12)]
    limit_decimal_places: Option<u32>,
}

fn billing_word(billing: BillingType) -> &'static str {
    match billing {
        BillingType::Limit => "limit",
        BillingType::Usage => "usage",
        BillingType::Fixed => "fixed",
        BillingType::One => "one",
        BillingType::Few => "few",
    }
}

/// The id of a component of an offering.
pub fn id_of(offering: OfferingId, component: &Component) -> Uuid {
    slug_uuid("component", &format!("{offering}/{}", component.component_type))
}

/// Shows a component.
pub fn show(offering: OfferingId, component: &Component) -> Shown {
    Shown {
        uuid: id_of(offering, component).as_simple().to_string(),
        offering_uuid: offering.to_string(),
        component_type: component.component_type.clone(),
        name: component.name.clone(),
        measured_unit: component.measured_unit.clone(),
        billing_type: billing_word(component.billing_type),
        limit_period: component.limit_period.map(LimitPeriod::as_str),
        slurm_tres: component.tres().to_owned(),
        minutes_per_unit: Num(component.minutes_per_unit),
        limit_decimal_places: component.limit_decimal_places,
        unit_factor: 1,
        is_boolean: false,
    }
}

fn billing(word: &str) -> Option<BillingType> {
    let all = [BillingType::Limit, BillingType::Usage, BillingType::Fixed, BillingType::One, BillingType::Few];
    all.into_iter().find(|known| billing_word(*known) == word)
}

fn limit_period(word: &str) -> Option<LimitPeriod> {
    let all = [LimitPeriod::Month, LimitPeriod::Quarterly, LimitPeriod::Annual, LimitPeriod::Total];
    all.into_iter().find(|known| known.as_str() == word)
}

fn places(value: &Json) -> Result<u32, String> {
    let whole = fields::number(value)?;
    let places = u32::try_from(whole).ok().filter(|n| whole.fract().is_zero() && *n <= decimal::MAX_DECIMALS);
    places
        .ok_or_else(|| format!("{} is not allowed: a whole number from 0 to {}.", value.shown(), decimal::MAX_DECIMALS))
}

/// What an item may have: what is read below, and what our own answers show beside it.
const KNOWN: [&str; 12] = [
    "billing_type",
    "is_boolean",
    "limit_decimal_places",
    "limit_period",
    "measured_unit",
    "minutes_per_unit",
    "name",
    "offering_uuid",
    "slurm_tres",
    "type",
    "unit_factor",
    "uuid",
];

/// Reads a component.
pub fn component(value: &Json) -> Result<Component, String> {
    let object = fields::object(value)?;
    fields::only(&object, &KNOWN)?;
    let given = |name: &str| object.get(name).filter(|value| **value != Json::Null);
    let named = |name: &'static str| move |message: String| format!("{name}: {message}");
    let component_type = given("type").ok_or_else(|| fields::REQUIRED.to_owned()).and_then(fields::words(255));
    let component_type = component_type.map_err(named("type"))?;
    let name = given("name").map(fields::words(255)).transpose().map_err(named("name"))?;
    let unit = given("measured_unit").map(fields::words(50)).transpose().map_err(named("measured_unit"))?;
    let read_billing = fields::choice(billing, "limit, usage, fixed, one, few");
    let read_period = fields::choice(limit_period, "month, quarterly, annual, total");
    let minutes = given("minutes_per_unit").map(fields::number).transpose().map_err(named("minutes_per_unit"))?;
    let slurm_tres = given("slurm_tres").map(fields::words(100)).transpose().map_err(named("slurm_tres"))?;
    let counted = slurm_tres.as_deref().unwrap_or(&component_type);
    let usual_unit = if is_memory(counted) { "GB-hours" } else { "hours" };
    let minutes = minutes.unwrap_or_else(|| usual_minutes_per_unit(counted));
    let least = Decimal::new(1, decimal::MAX_DECIMALS);
    if let Some(message) = decimal::complaint(minutes, least, Decimal::from(1_000_000_000)) {
        return Err(named("minutes_per_unit")(message));
    }
    Ok(Component {
        name: name.unwrap_or_else(|| component_type.clone()),
        component_type,
        measured_unit: unit.unwrap_or_else(|| usual_unit.to_owned()),
        billing_type: given("billing_type")
            .map(read_billing)
            .transpose()
            .map_err(named("billing_type"))?
            .unwrap_or_default(),
        limit_period: given("limit_period").map(read_period).transpose().map_err(named("limit_period"))?,
        slurm_tres,
        minutes_per_unit: minutes.normalize(),
        limit_decimal_places: given("limit_decimal_places")
            .map(places)
            .transpose()
            .map_err(named("limit_decimal_places"))?,
    })
}

/// Reads a list of components, each type once.
pub fn read(value: &Json) -> Result<Vec<Component>, String> {
    let components = fields::list(COMPONENTS_MAX, component)(value)?;
    check(&components)?;
    Ok(components)
}

/// Refuses too many components, and a type that is there twice.
pub fn check(components: &[Component]) -> Result<(), String> {
    if components.len() > COMPONENTS_MAX {
        return Err(fields::too_many(components.len(), COMPONENTS_MAX));
    }
    for (index, component) in components.iter().enumerate() {
        if components[..index].iter().any(|earlier| earlier.component_type == component.component_type) {
            return Err(format!("Component type {:?} is given more than once.", component.component_type));
        }
    }
    Ok(())
}

/// Reads the site's names of the three classes of service; those left out are the given ones.
pub fn read_qos(value: &Json, otherwise: &QosNames) -> Result<QosNames, String> {
    let object = fields::object(value)?;
    let mut names = otherwise.clone();
    for (key, value) in &object {
        let name = fields::words(64)(value).map_err(|message| format!("{key}: {message}"))?;
        match key.as_str() {
            "default" => names.default = name,
            "downscaled" => names.downscaled = name,
            "paused" => names.paused = name,
            _ => return Err(format!("{key:?} is no class of service. Allowed: default, downscaled, paused.")),
        }
    }
    Ok(names)
}
