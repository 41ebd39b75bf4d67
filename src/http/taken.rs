//! Types for body fields in the API's description: spellings and words that several bodies share.
//!
//! These types parse nothing; the handlers do, and a run of `tests/openapi` compares the two.

use std::borrow::Cow;

use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, ObjectBuilder, OneOfBuilder, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::agents::SiteAgentLogRequest;
use super::number::Num;
use super::registry::people::Named;

/// A decimal as a string, as `json::decimal` reads it.
const DECIMAL: &str = r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$";

/// A short name, as `resolve::slug` reads it.
const SLUG: &str = "^[A-Za-z0-9][A-Za-z0-9._-]*$";

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// One of some words.
fn word(words: &'static str) -> ObjectBuilder {
    string().enum_values(Some(words.split(", ")))
}

fn decimal() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Number, Type::String]))
        .pattern(Some(DECIMAL))
        .max_length(Some(64))
        .description(Some("A decimal: a number, or a string with one, which keeps every digit."))
}

/// An object with something under each key, the name of a component.
fn by_name(of: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .max_properties(Some(100))
        .property_names(Some(string().min_length(Some(1)).max_length(Some(255))))
        .additional_properties(Some(Ref::from_schema_name(of)))
}

/// A decimal between two bounds, which hold for the number that a string has too.
fn between(low: i64, high: i64) -> ObjectBuilder {
    decimal().minimum(Some(low)).maximum(Some(high))
}

/// The same without its lower bound.
fn above(low: i64, high: i64) -> ObjectBuilder {
    decimal().exclusive_minimum(Some(low)).maximum(Some(high))
}

macro_rules! taken {
    ($($(#[$doc:meta])* $name:ident$(($part:ty))?: $schema:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                RefOr::T($schema.build().into())
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn schemas(found: &mut Vec<(String, RefOr<Schema>)>) {
                let _ = &found;
                $(
                    found.push((<$part>::name().into_owned(), <$part>::schema()));
                    <$part>::schemas(found);
                )?
            }
        }
    )+};
}

taken! {
    /// A number, or a string with one in it, of which every digit counts.
    DecimalInput: decimal();
    /// An amount.
    AmountInput: between(0, 1_000_000_000_000_000);
    /// A part of the whole.
    RatioInput: between(0, 1);
    /// A percentage.
    PercentInput: between(0, 100);
    /// A percentage at which people are told.
    NoticePercentInput: between(1, 100);
    /// A percentage at which something happens.
    RungPercentInput: above(0, 10_000);
    /// Days.
    HalfLifeInput: above(0, 1_000_000);
    /// A weight in billing.
    WeightInput: between(0, 1_000_000_000);
    /// TRES minutes in one unit.
    MinutesInput: above(0, 1_000_000_000);
    /// One percentage, or several.
    ThresholdsInput(NoticePercentInput): OneOfBuilder::new()
        .item(Ref::from_schema_name("NoticePercentInput"))
        .item(ArrayBuilder::new().items(Ref::from_schema_name("NoticePercentInput")).min_items(Some(1)).max_items(Some(100)));
    /// The same as answers have it.
    NoticeThresholds(Num): OneOfBuilder::new()
        .item(Ref::from_schema_name("Num"))
        .item(ArrayBuilder::new().items(Ref::from_schema_name("Num")));
    /// An id.
    IdInput: string()
        .min_length(Some(32))
        .max_length(Some(2_000))
        .description(Some("An id: 32 hex digits, with or without dashes, or an address that ends in them."));
    /// What an object is referred to by.
    ReferenceInput: string()
        .min_length(Some(1))
        .max_length(Some(2_000))
        .description(Some("An object: by its address, its id (32 hex digits, with or without dashes), or its slug."));
    /// Somebody.
    PersonInput(Named): OneOfBuilder::new()
        .item(string().min_length(Some(1)).max_length(Some(2_000)).description(Some("A user name, an id or an address.")))
        .item(Ref::from_schema_name("PersonRequest"));
    /// A short name.
    SlugInput: string()
        .min_length(Some(1))
        .max_length(Some(100))
        .pattern(Some(SLUG))
        .description(Some("A short name that is no id."));
    /// An instant.
    InstantInput: string()
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .description(Some(
            "An instant from 1970 to 9998, as in RFC 3339; without a zone it is UTC, and a day is its midnight.",
        ));
    /// Actions of a policy.
    ActionsInput: OneOfBuilder::new()
        .item(string().min_length(Some(1)).max_length(Some(1_000)).description(Some("Names with commas between them.")))
        .item(ArrayBuilder::new().items(string().max_length(Some(1_000))).min_items(Some(1)).max_items(Some(5)));
    /// A short text.
    WordInput: string().min_length(Some(1)).max_length(Some(100));
    /// A name.
    NameInput: string().min_length(Some(1)).max_length(Some(255));
    /// Limits by component.
    LimitsInput(AmountInput): by_name("AmountInput");
    /// Limits by component, as they are read back.
    EchoedLimitsInput(DecimalInput): by_name("DecimalInput");
    /// Weights by component.
    WeightsInput(WeightInput): by_name("WeightInput");
    /// Options by action.
    OptionsInput: ObjectBuilder::new().max_properties(Some(7)).additional_properties(Some(serde_json::Value::schema()));
    /// Values by the field of a message.
    FiltersInput: ObjectBuilder::new()
        .max_properties(Some(100))
        .property_names(Some(string().min_length(Some(1)).max_length(Some(255))))
        .additional_properties(Some(ArrayBuilder::new().items(serde_json::Value::schema()).max_items(Some(100))));
    /// Lines of an agent's log.
    LinesInput(SiteAgentLogRequest): ArrayBuilder::new()
        .items(Ref::from_schema_name("SiteAgentLogRequest"))
        .max_items(Some(1_000));
    /// How grave a line of a log is.
    LevelInput: word("DEBUG, INFO, WARNING, ERROR, CRITICAL");
    /// How a component is billed.
    BillingTypeInput: word("limit, usage, fixed, one, few");
    /// The period of a limit.
    LimitPeriodInput: word("month, quarterly, annual, total");
    /// The state of a resource that is in use.
    LiveStateInput: word("Creating, OK, Erred, Updating");
    /// What a hold does.
    HoldKindInput: word("pause, downscale, slowdown, exemption");
    /// Whose token it is.
    RoleInput: word("staff, support, owner, member, agent");
    /// What past usage is compared with.
    CarryoverBaseInput: word("previous, current");
    /// What ran commands.
    ModeInput: word("production, emulator");
    /// What becomes of a month without a report.
    MissingUsageInput: word("none, reuse, zero");
    /// A kind of period.
    PeriodInput: ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(4))
        .description(Some("1 total, 2 month, 3 quarter, 4 year."));
    /// What SLURM limits.
    LimitTypeInput: word("GrpTRESMins, MaxTRESMins, GrpTRES");
    /// How classes of service follow from usage.
    QosStrategyInput: word("threshold, progressive");
    /// What happens at a rung.
    EffectInput: word("notify, downscale, pause");
    /// A kind of object that a webhook hears of.
    ScopeKindInput: word("customer, project, offering");
}
