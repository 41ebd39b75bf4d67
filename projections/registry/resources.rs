//! Lists of resources.

use chrono::{DateTime, Utc};

use super::fold::state_code;
use crate::domain::evaluate::Flags;
use crate::domain::ids::{CustomerId, OfferingId, ProjectId, ResourceId};
use crate::domain::period::Month;
use crate::domain::tres::Amounts;
use crate::events::allocation::ResourceState;
use crate::projections::kit::{Page, flags_of, id_list, month_of};
use crate::store::sql::{ReadDb, SqlError, SqlRow, SqlValue};

/// What somebody may see: resources of any of these.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VisibilityFilter {
    /// Of these customers.
    pub customers: Vec<CustomerId>,
    /// Of these projects.
    pub projects: Vec<ProjectId>,
    /// Of these offerings.
    pub offerings: Vec<OfferingId>,
}

/// In which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As they were registered.
    #[default]
    Registered,
    /// Last registered first.
    NewestFirst,
    /// By name.
    Name,
}

/// Which resources to list. What is left out does not matter.
#[derive(Debug, Clone, Default)]
pub struct ResourceFilter {
    /// This one.
    pub id: Option<ResourceId>,
    /// With this slug.
    pub slug: Option<String>,
    /// Whose name contains this, whatever the case of ASCII letters.
    pub name: Option<String>,
    /// With this name.
    pub name_exact: Option<String>,
    /// With this SLURM account.
    pub backend_id: Option<String>,
    /// Of this offering.
    pub offering: Option<OfferingId>,
    /// Of this customer.
    pub customer: Option<CustomerId>,
    /// Of this project.
    pub project: Option<ProjectId>,
    /// In one of these states; empty: any.
    pub states: Vec<ResourceState>,
    /// Paused, or not.
    pub paused: Option<bool>,
    /// Slowed down, or not.
    pub downscaled: Option<bool>,
    /// What the asker may see; none: everything.
    pub visible: Option<VisibilityFilter>,
    /// In which order.
    pub order: Order,
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceRow {
    /// The resource.
    pub resource: ResourceId,
    /// Unique short name.
    pub slug: String,
    /// Display name.
    pub name: String,
    /// Its offering.
    pub offering: OfferingId,
    /// Its project.
    pub project: ProjectId,
    /// Its customer.
    pub customer: CustomerId,
    /// The SLURM account.
    pub backend_id: String,
    /// Limits by component, hours.
    pub limits: Amounts,
    /// State at the site.
    pub state: ResourceState,
    /// Restrictions in force.
    pub flags: Flags,
    /// The newest book.
    pub book: Month,
    /// When it came into being.
    pub created: DateTime<Utc>,
    /// When something of this last changed.
    pub modified: DateTime<Utc>,
}

/// `$1` drives the index that is named; the others only restrict.
macro_rules! matching {
    ($select:literal, $driver:literal, $end:literal) => {
        concat!(
            $select,
            " FROM registry_resources x WHERE ",
            $driver,
            " AND ($2 IS NULL OR x.slug = $2) AND ($3 IS NULL OR instr(lower(x.name), lower($3)) > 0) ",
            "AND ($4 IS NULL OR x.name = $4) AND ($5 IS NULL OR x.backend_id = $5) AND ($6 IS NULL OR x.offering = $6) ",
            "AND ($7 IS NULL OR x.customer = $7) AND ($8 IS NULL OR x.project = $8) AND ($9 = 0 OR ((1 << CAST(x.state AS INTEGER)) & $9) <> 0) ",
            "AND (x.flags & $10) = $11 AND ($12 IS NULL OR x.customer IN (SELECT unhex(value) FROM json_each($12)) ",
            "OR x.project IN (SELECT unhex(value) FROM json_each($13)) ",
            "OR x.offering IN (SELECT unhex(value) FROM json_each($14))) ",
            $end
        )
    };
}

macro_rules! texts {
    ($select:literal, $end:literal) => {
        [
            matching!($select, "x.id = $1", $end),
            matching!($select, "($1 IS NULL AND x.slug = $2)", $end),
            matching!($select, "($1 IS NULL AND x.offering = $6 AND x.backend_id = $5)", $end),
            matching!($select, "($1 IS NULL AND x.project = $8)", $end),
            matching!($select, "($1 IS NULL AND x.customer = $7)", $end),
            matching!($select, "($1 IS NULL AND x.offering = $6)", $end),
            matching!($select, "$1 IS NULL", $end),
        ]
    };
}

const COUNT: [&str; 7] = texts!("SELECT count(*)", "");
const BY_NUMBER: [&str; 7] = texts!(
    "SELECT x.id, x.slug, x.name, x.offering, x.project, x.customer, x.backend_id, x.limits, x.state, x.flags, x.book, x.born_at, x.modified_at",
    "ORDER BY x.no LIMIT $15 OFFSET $16"
);
const NEWEST_FIRST: [&str; 7] = texts!(
    "SELECT x.id, x.slug, x.name, x.offering, x.project, x.customer, x.backend_id, x.limits, x.state, x.flags, x.book, x.born_at, x.modified_at",
    "ORDER BY x.no DESC LIMIT $15 OFFSET $16"
);
const BY_NAME: [&str; 7] = texts!(
    "SELECT x.id, x.slug, x.name, x.offering, x.project, x.customer, x.backend_id, x.limits, x.state, x.flags, x.book, x.born_at, x.modified_at",
    "ORDER BY x.name, x.no LIMIT $15 OFFSET $16"
);

/// The most selective index that the filter can use.
fn driver(filter: &ResourceFilter) -> usize {
    match filter {
        ResourceFilter { id: Some(_), .. } => 0,
        ResourceFilter { slug: Some(_), .. } => 1,
        ResourceFilter { offering: Some(_), backend_id: Some(_), .. } => 2,
        ResourceFilter { project: Some(_), .. } => 3,
        ResourceFilter { customer: Some(_), .. } => 4,
        ResourceFilter { offering: Some(_), .. } => 5,
        _ => 6,
    }
}

fn values(filter: &ResourceFilter) -> Vec<SqlValue> {
    let states = filter.states.iter().fold(0, |bits, state| bits | 1 << state_code(*state).max(0));
    let flag = |wanted: Option<bool>, bit: i64| wanted.map_or((0, 0), |set| (bit, if set { bit } else { 0 }));
    let (paused, downscaled) = (flag(filter.paused, 1), flag(filter.downscaled, 2));
    let visible = filter.visible.as_ref();
    vec![
        filter.id.map(|id| id.as_uuid()).into(),
        filter.slug.as_deref().into(),
        filter.name.as_deref().into(),
        filter.name_exact.as_deref().into(),
        filter.backend_id.as_deref().into(),
        filter.offering.map(|id| id.as_uuid()).into(),
        filter.customer.map(|id| id.as_uuid()).into(),
        filter.project.map(|id| id.as_uuid()).into(),
        SqlValue::I64(states),
        SqlValue::I64(paused.0 | downscaled.0),
        SqlValue::I64(paused.1 | downscaled.1),
        visible.map(|v| id_list(v.customers.iter().map(CustomerId::as_uuid))).into(),
        visible.map(|v| id_list(v.projects.iter().map(ProjectId::as_uuid))).into(),
        visible.map(|v| id_list(v.offerings.iter().map(OfferingId::as_uuid))).into(),
    ]
}

/// How many resources there are.
pub async fn count_resources(db: &ReadDb, filter: &ResourceFilter) -> Result<i64, SqlError> {
    db.query_one(COUNT[driver(filter)], &values(filter)).await?.map_or(Ok(0), |row| row.i64(0))
}

/// A page of resources, and how many there are.
pub async fn resources(db: &ReadDb, filter: &ResourceFilter, page: Page) -> Result<(Vec<ResourceRow>, i64), SqlError> {
    let total = count_resources(db, filter).await?;
    let texts = match filter.order {
        Order::Registered => BY_NUMBER,
        Order::NewestFirst => NEWEST_FIRST,
        Order::Name => BY_NAME,
    };
    let mut values = values(filter);
    values.extend([page.size.into(), page.offset().into()]);
    let rows = db.query(texts[driver(filter)], &values).await?;
    Ok((rows.iter().map(resource_row).collect::<Result<_, SqlError>>()?, total))
}

/// One resource.
pub async fn resource(db: &ReadDb, id: ResourceId) -> Result<Option<ResourceRow>, SqlError> {
    let filter = ResourceFilter { id: Some(id), ..ResourceFilter::default() };
    let mut values = values(&filter);
    values.extend([SqlValue::I64(1), SqlValue::I64(0)]);
    db.query_one(BY_NUMBER[0], &values).await?.as_ref().map(resource_row).transpose()
}

/// The state at a place in the list of states.
pub(super) fn state_of(code: i64, index: usize) -> Result<ResourceState, SqlError> {
    let state = usize::try_from(code).ok().and_then(|code| ResourceState::ALL.get(code)).copied();
    state.ok_or(SqlError::Column { index, expected: "a state" })
}

fn resource_row(row: &SqlRow) -> Result<ResourceRow, SqlError> {
    Ok(ResourceRow {
        resource: row.uuid(0)?.into(),
        slug: row.text(1)?.to_owned(),
        name: row.text(2)?.to_owned(),
        offering: row.uuid(3)?.into(),
        project: row.uuid(4)?.into(),
        customer: row.uuid(5)?.into(),
        backend_id: row.text(6)?.to_owned(),
        limits: serde_json::from_str(row.text(7)?)
            .map_err(|_| SqlError::Column { index: 7, expected: "amounts by component" })?,
        state: state_of(row.i64(8)?, 8)?,
        flags: flags_of(row.i64(9)?),
        book: month_of(row.i64(10)?).ok_or(SqlError::Column { index: 10, expected: "a month" })?,
        created: row.time(11)?,
        modified: row.time(12)?,
    })
}
