//! Lists of usage: newest month first, then by resource in the order of their first reports, then by component.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::{SHARED_BYTES, missing_of, usage_uuid};
use crate::domain::ids::{CustomerId, OfferingId, ProjectId, ResourceId, UserId};
use crate::domain::period::Month;
use crate::events::allocation::MissingUsage;
use crate::projections::kit::{Page, id_list, month_code, month_of};
use crate::projections::registry::VisibilityFilter;
use crate::store::sql::{ReadDb, SqlError, SqlRow, SqlValue};

/// Which totals to list. What is left out does not matter.
#[derive(Debug, Clone, Default)]
pub struct UsageFilter {
    /// Of this resource.
    pub resource: Option<ResourceId>,
    /// Of this month or later.
    pub from: Option<Month>,
    /// Of this month or earlier.
    pub to: Option<Month>,
    /// Of this month of any year, 1 to 12.
    pub month_of_year: Option<u32>,
    /// Of this component.
    pub component: Option<String>,
    /// Of resources of this offering.
    pub offering: Option<OfferingId>,
    /// Of resources of this customer.
    pub customer: Option<CustomerId>,
    /// Of resources of this project.
    pub project: Option<ProjectId>,
    /// What the asker may see; none: everything.
    pub visible: Option<VisibilityFilter>,
}

/// A month-to-date total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// Derived from resource, month and component.
    pub uuid: Uuid,
    /// The resource.
    pub resource: ResourceId,
    /// Its present name.
    pub resource_name: String,
    /// Its offering.
    pub offering: Option<OfferingId>,
    /// Its customer.
    pub customer: Option<CustomerId>,
    /// Its project.
    pub project: Option<ProjectId>,
    /// Calendar month.
    pub month: Month,
    /// Component type.
    pub component: String,
    /// In the component's unit.
    pub amount: Decimal,
    /// First reported.
    pub created: DateTime<Utc>,
    /// Last changed.
    pub modified: DateTime<Utc>,
    /// What becomes of later months without a report.
    pub missing: MissingUsage,
}

/// Which shares to list.
#[derive(Debug, Clone, Default)]
pub struct UserUsageFilter {
    /// In these totals.
    pub usage: UsageFilter,
    /// In this one total.
    pub usage_uuid: Option<Uuid>,
    /// Of this user.
    pub user: Option<UserId>,
}

/// A user's share in a month-to-date total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserUsageRow {
    /// Derived from the total and the user.
    pub uuid: Uuid,
    /// The total it is a share of; its amount and times are the share's.
    pub usage: UsageRow,
    /// Whose; the directory knows the name.
    pub user: UserId,
}

macro_rules! totals {
    ($select:literal, $where:literal, $end:literal) => {
        concat!(
            $select,
            " FROM component_usage u JOIN usage_resources r ON r.no = u.resource ",
            "LEFT JOIN registry_resources x ON x.id = r.id WHERE ",
            $where,
            " AND ($1 IS NULL OR r.id = $1) AND ($2 IS NULL OR u.month >= $2) AND ($3 IS NULL OR u.month <= $3) ",
            "AND ($4 IS NULL OR u.month % 100 = $4) AND ($5 IS NULL OR u.component = $5) AND ($6 IS NULL OR x.offering = $6) ",
            "AND ($7 IS NULL OR x.customer = $7) AND ($8 IS NULL OR x.project = $8) ",
            "AND ($9 IS NULL OR x.customer IN (SELECT unhex(value) FROM json_each($9)) ",
            "OR x.project IN (SELECT unhex(value) FROM json_each($10)) OR x.offering IN (SELECT unhex(value) FROM json_each($11))) ",
            $end
        )
    };
}

macro_rules! shares {
    ($select:literal, $where:literal, $end:literal) => {
        concat!(
            $select,
            " FROM user_usage u JOIN usage_resources r ON r.no = u.resource ",
            "LEFT JOIN registry_resources x ON x.id = r.id WHERE ",
            $where,
            " AND ($1 IS NULL OR r.id = $1) AND ($2 IS NULL OR u.month >= $2) AND ($3 IS NULL OR u.month <= $3) ",
            "AND ($4 IS NULL OR u.month % 100 = $4) AND ($5 IS NULL OR u.component = $5) AND ($6 IS NULL OR x.offering = $6) ",
            "AND ($7 IS NULL OR x.customer = $7) AND ($8 IS NULL OR x.project = $8) ",
            "AND ($9 IS NULL OR x.customer IN (SELECT unhex(value) FROM json_each($9)) ",
            "OR x.project IN (SELECT unhex(value) FROM json_each($10)) OR x.offering IN (SELECT unhex(value) FROM json_each($11))) ",
            "AND ($12 IS NULL OR u.usage_id = $12) AND ($13 IS NULL OR u.user_id = $13) ",
            $end
        )
    };
}

fn values(filter: &UsageFilter) -> Vec<SqlValue> {
    let visible = filter.visible.as_ref();
    vec![
        filter.resource.map(|r| r.as_uuid()).into(),
        filter.from.map(month_code).into(),
        filter.to.map(month_code).into(),
        filter.month_of_year.map(i64::from).into(),
        filter.component.as_deref().into(),
        filter.offering.map(|o| o.as_uuid()).into(),
        filter.customer.map(|c| c.as_uuid()).into(),
        filter.project.map(|p| p.as_uuid()).into(),
        visible.map(|v| id_list(v.customers.iter().map(CustomerId::as_uuid))).into(),
        visible.map(|v| id_list(v.projects.iter().map(ProjectId::as_uuid))).into(),
        visible.map(|v| id_list(v.offerings.iter().map(OfferingId::as_uuid))).into(),
    ]
}

async fn number(db: &ReadDb, sql: &'static str, values: &[SqlValue]) -> Result<i64, SqlError> {
    db.query_one(sql, values).await?.map_or(Ok(0), |row| row.i64(0))
}

/// A page of totals, and how many there are.
pub async fn list(db: &ReadDb, filter: &UsageFilter, page: Page) -> Result<(Vec<UsageRow>, i64), SqlError> {
    let mut values = values(filter);
    let total = if filter.resource.is_some() {
        let sql = totals!(
            "SELECT count(*)",
            "u.month IN (SELECT month FROM usage_months) AND u.resource = (SELECT no FROM usage_resources WHERE id = $1)",
            ""
        );
        number(db, sql, &values).await?
    } else {
        number(db, totals!("SELECT count(*)", "1 = 1", ""), &values).await?
    };
    values.extend([page.size.into(), page.offset().into()]);
    let rows = if filter.resource.is_some() {
        let sql = totals!(
            "SELECT r.id, x.name, x.offering, x.customer, x.project, u.month, u.component, u.amount, u.created_at, u.modified_at, u.missing",
            "u.month IN (SELECT month FROM usage_months) AND u.resource = (SELECT no FROM usage_resources WHERE id = $1)",
            "ORDER BY u.month DESC, u.resource, u.component LIMIT $12 OFFSET $13"
        );
        db.query(sql, &values).await?
    } else {
        let sql = totals!(
            "SELECT r.id, x.name, x.offering, x.customer, x.project, u.month, u.component, u.amount, u.created_at, u.modified_at, u.missing",
            "1 = 1",
            "ORDER BY u.month DESC, u.resource, u.component LIMIT $12 OFFSET $13"
        );
        db.query(sql, &values).await?
    };
    Ok((rows.iter().map(total_row).collect::<Result<_, SqlError>>()?, total))
}

/// Months back from the one that has ended in which the last report may lie.
const LOOKED_BACK: u32 = 120;

/// Resources whose last report on a component asks for something in months without one, and which have none of the month
/// that has ended. Each may turn out to need nothing.
pub async fn without_report(db: &ReadDb, ended: Month) -> Result<Vec<ResourceId>, SqlError> {
    let select = "SELECT DISTINCT r.id FROM component_usage u JOIN usage_resources r ON r.no = u.resource \
                  WHERE u.month >= $1 AND u.month < $2 AND u.missing <> 0 AND NOT EXISTS (SELECT 1 FROM component_usage n \
                  WHERE n.month = CASE WHEN u.month % 100 = 12 THEN u.month + 89 ELSE u.month + 1 END \
                  AND n.resource = u.resource AND n.component = u.component) ORDER BY r.id";
    let first = ended.minus(LOOKED_BACK).map_or(0, month_code);
    let rows = db.query(select, &[first.into(), month_code(ended).into()]).await?;
    rows.iter().map(|row| Ok(row.uuid(0)?.into())).collect()
}

/// One total by its id: among those of the resources whose ids begin as it does.
pub async fn get(db: &ReadDb, uuid: Uuid) -> Result<Option<UsageRow>, SqlError> {
    let select = "SELECT r.id, x.name, x.offering, x.customer, x.project, u.month, u.component, u.amount, \
                  u.created_at, u.modified_at, u.missing FROM usage_resources r JOIN component_usage u \
                  ON u.month IN (SELECT month FROM usage_months) AND u.resource = r.no \
                  LEFT JOIN registry_resources x ON x.id = r.id WHERE r.id >= $1 AND r.id <= $2";
    let (mut first, mut last) = ([u8::MIN; 16], [u8::MAX; 16]);
    first[..SHARED_BYTES].copy_from_slice(&uuid.as_bytes()[..SHARED_BYTES]);
    last[..SHARED_BYTES].copy_from_slice(&uuid.as_bytes()[..SHARED_BYTES]);
    let between = [first, last].map(|bytes| SqlValue::Uuid(Uuid::from_bytes(bytes)));
    for row in db.query(select, &between).await? {
        let row = total_row(&row)?;
        if row.uuid == uuid {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

/// A page of users' shares, and how many there are.
pub async fn list_users(
    db: &ReadDb,
    filter: &UserUsageFilter,
    page: Page,
) -> Result<(Vec<UserUsageRow>, i64), SqlError> {
    let mut values = values(&filter.usage);
    values.extend([filter.usage_uuid.into(), filter.user.map(|user| user.as_uuid()).into()]);
    let of_one = filter.usage.resource.is_some();
    let count = if of_one {
        shares!("SELECT count(*)", "u.resource = (SELECT no FROM usage_resources WHERE id = $1)", "")
    } else {
        shares!("SELECT count(*)", "1 = 1", "")
    };
    let total = number(db, count, &values).await?;
    values.extend([page.size.into(), page.offset().into()]);
    let select = if of_one {
        shares!(
            "SELECT r.id, x.name, x.offering, x.customer, x.project, u.month, u.component, u.amount, u.created_at, \
             u.modified_at, u.id, u.user_id",
            "u.resource = (SELECT no FROM usage_resources WHERE id = $1)",
            "ORDER BY u.month DESC, u.no LIMIT $14 OFFSET $15"
        )
    } else {
        shares!(
            "SELECT r.id, x.name, x.offering, x.customer, x.project, u.month, u.component, u.amount, u.created_at, \
             u.modified_at, u.id, u.user_id",
            "1 = 1",
            "ORDER BY u.month DESC, u.no LIMIT $14 OFFSET $15"
        )
    };
    let rows = db.query(select, &values).await?;
    let share = |row: &SqlRow| {
        Ok(UserUsageRow { uuid: row.uuid(10)?, usage: row_of(row, MissingUsage::None)?, user: row.uuid(11)?.into() })
    };
    Ok((rows.iter().map(share).collect::<Result<_, SqlError>>()?, total))
}

fn total_row(row: &SqlRow) -> Result<UsageRow, SqlError> {
    row_of(row, missing_of(row.i64(10)?))
}

/// The first ten columns, which totals and shares have in common.
fn row_of(row: &SqlRow, missing: MissingUsage) -> Result<UsageRow, SqlError> {
    let resource = row.uuid(0)?.into();
    let month = month_of(row.i64(5)?).ok_or(SqlError::Column { index: 5, expected: "a month" })?;
    let component = row.text(6)?;
    Ok(UsageRow {
        uuid: usage_uuid(resource, month, component),
        resource,
        resource_name: row.opt_text(1)?.unwrap_or_default().to_owned(),
        offering: row.opt_uuid(2)?.map(Into::into),
        customer: row.opt_uuid(3)?.map(Into::into),
        project: row.opt_uuid(4)?.map(Into::into),
        month,
        component: component.to_owned(),
        amount: row.decimal(7)?,
        created: row.time(8)?,
        modified: row.time(9)?,
        missing,
    })
}
