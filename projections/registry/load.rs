//! Loads the in-memory registry from the tables, with the matching position of the log.
//!
//! It reads the position first and the rows after it, page by page; rows may be newer than the position. That is
//! harmless: facts carry the version of their stream, and following the log from that position changes nothing older.

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;

use super::Kind;
use super::objects::facts;
use super::resources::state_of;
use crate::domain::ids::{CustomerId, OfferingId, PolicyId, ProjectId, ResourceId};
use crate::domain::period::Month;
use crate::events::agent::AgentEvent;
use crate::events::allocation::ResourceState;
use crate::events::envelope::Position;
use crate::events::registry::{CustomerFacts, GroupFacts, OfferingFacts, PolicyFacts, ProjectFacts};
use crate::projections::kit::month_of;
use crate::store::sql::{ReadDb, SqlError, SqlRow};

/// Rows read at a time.
const PAGE: i64 = 5_000;

/// An object with the version of its stream and its first moment.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedObject<T> {
    /// What it is.
    pub facts: T,
    /// Version of its stream.
    pub version: u64,
    /// When its first event happened.
    pub created: DateTime<Utc>,
}

/// What the memory keeps of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadedResource {
    /// The resource.
    pub resource: ResourceId,
    /// Its offering.
    pub offering: OfferingId,
    /// Its project.
    pub project: ProjectId,
    /// Its customer.
    pub customer: CustomerId,
    /// Its state.
    pub state: ResourceState,
    /// The newest book.
    pub book: Month,
}

/// The position up to which the tables are: the consumer's checkpoint. Read it before the rows.
pub async fn loaded_position(db: &ReadDb) -> Result<Position, SqlError> {
    let select = "SELECT position_hi, position_lo FROM consumers WHERE name = 'registry' AND building = 0";
    db.query_one(select, &[]).await?.map_or(Ok(Position::START), |row| row.position(0))
}

async fn load<T: DeserializeOwned>(
    db: &ReadDb,
    kind: Kind,
    mut each: impl FnMut(LoadedObject<T>) + Send,
) -> Result<(), SqlError> {
    let select = "SELECT no, facts, version, created_at FROM registry_objects \
                  WHERE kind = $1 AND no > $2 AND (gone = 0 OR kind < 5) ORDER BY no LIMIT $3";
    let mut after = 0;
    loop {
        let rows = db.query(select, &[kind.code().into(), after.into(), PAGE.into()]).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.i64(0)?;
        for row in &rows {
            let version = row.i64(2)?.cast_unsigned();
            each(LoadedObject { facts: facts(row, 1)?, version, created: row.time(3)? });
        }
    }
}

macro_rules! loads {
    ($($(#[$doc:meta])* $name:ident: $facts:ty = $kind:ident;)+) => {$(
        $(#[$doc])*
        pub async fn $name(db: &ReadDb, each: impl FnMut(LoadedObject<$facts>) + Send) -> Result<(), SqlError> {
            load(db, Kind::$kind, each).await
        }
    )+};
}

loads! {
    /// Every organisation group, retired ones too.
    load_groups: GroupFacts = Group;
    /// Every customer, retired ones too.
    load_customers: CustomerFacts = Customer;
    /// Every project, retired ones too.
    load_projects: ProjectFacts = Project;
    /// Every offering, retired ones too.
    load_offerings: OfferingFacts = Offering;
    /// Every policy that is not deleted.
    load_policies: PolicyFacts = Policy;
}

/// Ids of the policies that were deleted: they are not used again.
pub async fn load_deleted_policies(db: &ReadDb) -> Result<Vec<PolicyId>, SqlError> {
    let select = "SELECT id FROM registry_objects WHERE kind = $1 AND gone = 1 ORDER BY no";
    db.query(select, &[Kind::Policy.code().into()]).await?.iter().map(|row| Ok(row.uuid(0)?.into())).collect()
}

/// Something of a site agent, as the event that has it.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedAgentPart {
    /// The event.
    pub event: AgentEvent,
    /// Version of the agent's stream.
    pub version: u64,
    /// When it was first registered.
    pub created: DateTime<Utc>,
    /// When it last changed.
    pub modified: DateTime<Utc>,
}

/// Every site agent that is in use, with its services, processors, subscriptions and queues.
pub async fn load_agents(db: &ReadDb, mut each: impl FnMut(LoadedAgentPart) + Send) -> Result<(), SqlError> {
    let select = "SELECT no, kind, facts, version, created_at, modified_at FROM registry_objects \
                  WHERE kind >= $1 AND no > $2 AND gone = 0 ORDER BY no LIMIT $3";
    let mut after = 0;
    loop {
        let rows = db.query(select, &[Kind::Agent.code().into(), after.into(), PAGE.into()]).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.i64(0)?;
        for row in &rows {
            let event = match row.i64(1)? {
                7 => AgentEvent::ServiceRegistered(facts(row, 2)?),
                8 => AgentEvent::ProcessorRegistered(facts(row, 2)?),
                9 => AgentEvent::SubscriptionRegistered(facts(row, 2)?),
                10 => AgentEvent::QueueRegistered(facts(row, 2)?),
                _ => AgentEvent::IdentityRegistered(facts(row, 2)?),
            };
            let version = row.i64(3)?.cast_unsigned();
            each(LoadedAgentPart { event, version, created: row.time(4)?, modified: row.time(5)? });
        }
    }
}

/// Every resource, terminated ones too.
pub async fn load_resources(db: &ReadDb, mut each: impl FnMut(LoadedResource) + Send) -> Result<(), SqlError> {
    let select = "SELECT no, id, offering, project, customer, state, book FROM registry_resources \
                  WHERE no > $1 ORDER BY no LIMIT $2";
    let mut after = 0;
    loop {
        let rows = db.query(select, &[after.into(), PAGE.into()]).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.i64(0)?;
        for row in &rows {
            each(loaded(row)?);
        }
    }
}

fn loaded(row: &SqlRow) -> Result<LoadedResource, SqlError> {
    Ok(LoadedResource {
        resource: row.uuid(1)?.into(),
        offering: row.uuid(2)?.into(),
        project: row.uuid(3)?.into(),
        customer: row.uuid(4)?.into(),
        state: state_of(row.i64(5)?, 5)?,
        book: month_of(row.i64(6)?).ok_or(SqlError::Column { index: 6, expected: "a month" })?,
    })
}
