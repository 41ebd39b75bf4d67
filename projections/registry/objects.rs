//! Lists of customers, groups, projects, offerings and policies, with their facts.

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{Kind, MEMBER, OWNER};
use crate::domain::ids::{CustomerId, ProjectId, UserId};
use crate::events::registry::{CustomerFacts, GroupFacts, OfferingFacts, PolicyFacts, ProjectFacts};
use crate::projections::kit::{Page, id_list};
use crate::store::sql::{ReadDb, SqlError, SqlRow, SqlValue};

/// Which objects to list. What is left out does not matter.
#[derive(Debug, Clone, Default)]
pub struct ObjectFilter {
    /// This one.
    pub id: Option<Uuid>,
    /// With this slug.
    pub slug: Option<String>,
    /// Whose name contains this, whatever the case of ASCII letters.
    pub name: Option<String>,
    /// With this name.
    pub name_exact: Option<String>,
    /// Under these: the customer of a project or an offering, the offering of a policy.
    pub parents: Option<Vec<Uuid>>,
    /// Among these: what somebody may see.
    pub visible: Option<Vec<Uuid>>,
    /// Retired and deleted ones too.
    pub gone_too: bool,
}

/// An object with what is known of its history.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectRow<T> {
    /// What it is.
    pub facts: T,
    /// Version of its stream, which is a policy's version.
    pub version: u64,
    /// When its first event happened.
    pub created: DateTime<Utc>,
    /// Who caused that; an id that the directory knows.
    pub created_by: Option<UserId>,
    /// When its newest event happened.
    pub modified: DateTime<Utc>,
    /// Retired or deleted.
    pub gone: bool,
}

const WHERE_COUNT: &str = "SELECT count(*) FROM registry_objects o WHERE o.kind = $1 AND ($2 IS NULL OR o.id = $2) \
    AND ($3 IS NULL OR o.slug = $3) AND ($4 IS NULL OR instr(lower(o.name), lower($4)) > 0) AND ($5 IS NULL OR o.name = $5) \
    AND ($6 IS NULL OR o.parent IN (SELECT unhex(value) FROM json_each($6))) \
    AND ($7 IS NULL OR o.id IN (SELECT unhex(value) FROM json_each($7))) AND (o.gone = 0 OR $8 = 1)";
const SELECT: &str = "SELECT o.facts, o.version, o.created_at, o.created_by, o.modified_at, o.gone FROM registry_objects o \
    WHERE o.kind = $1 AND ($2 IS NULL OR o.id = $2) \
    AND ($3 IS NULL OR o.slug = $3) AND ($4 IS NULL OR instr(lower(o.name), lower($4)) > 0) AND ($5 IS NULL OR o.name = $5) \
    AND ($6 IS NULL OR o.parent IN (SELECT unhex(value) FROM json_each($6))) \
    AND ($7 IS NULL OR o.id IN (SELECT unhex(value) FROM json_each($7))) AND (o.gone = 0 OR $8 = 1) \
    ORDER BY o.no LIMIT $9 OFFSET $10";

async fn list<T: DeserializeOwned>(
    db: &ReadDb,
    kind: Kind,
    filter: &ObjectFilter,
    page: Page,
) -> Result<(Vec<ObjectRow<T>>, i64), SqlError> {
    let mut values = vec![
        SqlValue::I64(kind.code()),
        filter.id.into(),
        filter.slug.as_deref().into(),
        filter.name.as_deref().into(),
        filter.name_exact.as_deref().into(),
        filter.parents.as_ref().map(|ids| id_list(ids.iter().copied())).into(),
        filter.visible.as_ref().map(|ids| id_list(ids.iter().copied())).into(),
        filter.gone_too.into(),
    ];
    let total = db.query_one(WHERE_COUNT, &values).await?.map_or(Ok(0), |row| row.i64(0))?;
    values.extend([page.size.into(), page.offset().into()]);
    let rows = db.query(SELECT, &values).await?;
    Ok((rows.iter().map(object_row).collect::<Result<_, SqlError>>()?, total))
}

pub(super) fn facts<T: DeserializeOwned>(row: &SqlRow, index: usize) -> Result<T, SqlError> {
    serde_json::from_str(row.text(index)?).map_err(|_| SqlError::Column { index, expected: "the facts of an object" })
}

fn object_row<T: DeserializeOwned>(row: &SqlRow) -> Result<ObjectRow<T>, SqlError> {
    Ok(ObjectRow {
        facts: facts(row, 0)?,
        version: row.i64(1)?.cast_unsigned(),
        created: row.time(2)?,
        created_by: row.opt_uuid(3)?.map(Into::into),
        modified: row.time(4)?,
        gone: row.bool(5)?,
    })
}

macro_rules! lists {
    ($($(#[$doc:meta])* $name:ident: $facts:ty = $kind:ident;)+) => {$(
        $(#[$doc])*
        pub async fn $name(
            db: &ReadDb,
            filter: &ObjectFilter,
            page: Page,
        ) -> Result<(Vec<ObjectRow<$facts>>, i64), SqlError> {
            list(db, Kind::$kind, filter, page).await
        }
    )+};
}

lists! {
    /// A page of organisation groups in the order of registration, and how many there are.
    groups: GroupFacts = Group;
    /// A page of customers, and how many there are.
    customers: CustomerFacts = Customer;
    /// A page of projects, and how many there are.
    projects: ProjectFacts = Project;
    /// A page of offerings, and how many there are.
    offerings: OfferingFacts = Offering;
    /// A page of policies, and how many there are.
    policies: PolicyFacts = Policy;
}

async fn linked(db: &ReadDb, role: i64, user: UserId) -> Result<Vec<Uuid>, SqlError> {
    let select = "SELECT object FROM registry_links WHERE other = $1 AND role = $2 ORDER BY object";
    let rows = db.query(select, &[SqlValue::Uuid(user.as_uuid()), role.into()]).await?;
    rows.iter().map(|row| row.uuid(0)).collect()
}

/// Customers that a user owns.
pub async fn customers_of(db: &ReadDb, owner: UserId) -> Result<Vec<CustomerId>, SqlError> {
    Ok(linked(db, OWNER, owner).await?.into_iter().map(Into::into).collect())
}

/// Projects that a user is a member of.
pub async fn projects_of(db: &ReadDb, member: UserId) -> Result<Vec<ProjectId>, SqlError> {
    Ok(linked(db, MEMBER, member).await?.into_iter().map(Into::into).collect())
}
