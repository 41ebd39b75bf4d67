//! Lists of usage: newest month first, then by resource in the order of their first reports, then by component.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::{SHARED_BYTES, usage_uuid};
use crate::domain::ids::{CustomerId, OfferingId, ProjectId, ResourceId, UserId};
use crate::domain::period::Month;
use crate::projections::kit::{Page, id_list, month_code, month_of};
use crate::store::sql::{ReadDb, SqlError, SqlRow, SqlValue};

/// Which totals to list. What is left out does not matter.
#[derive(Debug, Clone, Default)]
pub struct UsageFilter {
    /// Of this resource.
    pub resource: Option<ResourceId>,
    /// Of this month.
    pub month: Option<Month>,
    /// Of this component.
    pub component: Option<String>,
    /// Of resources of this offering.
    pub offering: Option<OfferingId>,
    /// Of resources of these customers or projects only: what somebody may see.
    pub visible: Option<(Vec<CustomerId>, Vec<ProjectId>)>,
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
            " AND ($1 IS NULL OR r.id = $1) AND ($2 IS NULL OR u.month = $2) AND ($3 IS NULL OR u.component = $3) ",
            "AND ($4 IS NULL OR x.offering = $4) AND ($5 IS NULL OR x.customer IN (SELECT unhex(value) FROM json_each($5)) ",
            "OR x.project IN (SELECT unhex(value) FROM json_each($6))) ",
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
            " AND ($1 IS NULL OR r.id = $1) AND ($2 IS NULL OR u.month = $2) AND ($3 IS NULL OR u.component = $3) ",
            "AND ($4 IS NULL OR x.offering = $4) AND ($5 IS NULL OR x.customer IN (SELECT unhex(value) FROM json_each($5)) ",
            "OR x.project IN (SELECT unhex(value) FROM json_each($6))) ",
            "AND ($7 IS NULL OR u.usage_id = $7) AND ($8 IS NULL OR u.user_id = $8) ",
            $end
        )
    };
}

fn values(filter: &UsageFilter) -> Vec<SqlValue> {
    let visible = filter.visible.as_ref();
    vec![
        filter.resource.map(|r| r.as_uuid()).into(),
        filter.month.map(month_code).into(),
        filter.component.as_deref().into(),
        filter.offering.map(|o| o.as_uuid()).into(),
        visible.map(|(customers, _)| id_list(customers.iter().map(CustomerId::as_uuid))).into(),
        visible.map(|(_, projects)| id_list(projects.iter().map(ProjectId::as_uuid))).into(),
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
            "SELECT r.id, x.name, x.offering, x.customer, x.project, u.month, u.component, u.amount, u.created_at, u.modified_at",
            "u.month IN (SELECT month FROM usage_months) AND u.resource = (SELECT no FROM usage_resources WHERE id = $1)",
            "ORDER BY u.month DESC, u.resource, u.component LIMIT $7 OFFSET $8"
        );
        db.query(sql, &values).await?
    } else {
        let sql = totals!(
            "SELECT r.id, x.name, x.offering, x.customer, x.project, u.month, u.component, u.amount, u.created_at, u.modified_at",
            "1 = 1",
            "ORDER BY u.month DESC, u.resource, u.component LIMIT $7 OFFSET $8"
        );
        db.query(sql, &values).await?
    };
    Ok((rows.iter().map(total_row).collect::<Result<_, SqlError>>()?, total))
}

/// One total by its id: among those of the resources whose ids begin as it does.
pub async fn get(db: &ReadDb, uuid: Uuid) -> Result<Option<UsageRow>, SqlError> {
    let select = "SELECT r.id, x.name, x.offering, x.customer, x.project, u.month, u.component, u.amount, \
                  u.created_at, u.modified_at FROM usage_resources r JOIN component_usage u \
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
            "ORDER BY u.month DESC, u.no LIMIT $9 OFFSET $10"
        )
    } else {
        shares!(
            "SELECT r.id, x.name, x.offering, x.customer, x.project, u.month, u.component, u.amount, u.created_at, \
             u.modified_at, u.id, u.user_id",
            "1 = 1",
            "ORDER BY u.month DESC, u.no LIMIT $9 OFFSET $10"
        )
    };
    let rows = db.query(select, &values).await?;
    let share =
        |row: &SqlRow| Ok(UserUsageRow { uuid: row.uuid(10)?, usage: total_row(row)?, user: row.uuid(11)?.into() });
    Ok((rows.iter().map(share).collect::<Result<_, SqlError>>()?, total))
}

fn total_row(row: &SqlRow) -> Result<UsageRow, SqlError> {
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
    })
}
