//! The site's last statements about each account: its class of service, limits read back, the time of the last contact,
//! and differences between intended and reported commands.
//!
//! A row holds the last statement, so that a repeated event leaves the same row.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::kit::{book_of, id_list};
use crate::domain::ids::{OfferingId, ResourceId};
use crate::domain::qos::{QosClass, QosNames};
use crate::domain::tres::Amounts;
use crate::events::Event;
use crate::events::allocation::{AllocationEvent, CommandResultReported};
use crate::store::consumer::{Consumer, ConsumerError, Decoded};
use crate::store::sql::{ReadDb, ReadTx, SqlError, SqlRow, SqlValue};

/// The consumer's name.
pub const NAME: &str = "site_answers";

/// The consumer.
#[derive(Debug, Default)]
pub struct SiteAnswers;

#[async_trait]
impl Consumer<Event> for SiteAnswers {
    fn name(&self) -> &'static str {
        NAME
    }

    fn tables(&self) -> &'static [&'static str] {
        &["site_answers"]
    }

    fn interested(&self, event_type: &str) -> bool {
        matches!(
            event_type,
            "qos_confirmed.v1" | "limits_echoed.v1" | "command_result_reported.v1" | "resource_synced.v1"
        )
    }

    async fn apply(&mut self, tx: &mut ReadTx, batch: &[Decoded<Event>]) -> Result<(), ConsumerError> {
        for decoded in batch {
            let (Some((resource, _)), Event::Allocation(event)) = (book_of(&decoded.recorded.stream), &decoded.event)
            else {
                continue;
            };
            answer(tx, SqlValue::Uuid(resource.as_uuid()), event, decoded.recorded.occurred_at).await?;
        }
        Ok(())
    }
}

async fn answer(
    tx: &mut ReadTx,
    resource: SqlValue,
    event: &AllocationEvent,
    at: DateTime<Utc>,
) -> Result<(), SqlError> {
    match event {
        AllocationEvent::QosConfirmed(confirmed) => {
            let upsert = "INSERT INTO site_answers{g} (resource, qos, qos_at) VALUES ($1, $2, $3) \
                          ON CONFLICT (resource) DO UPDATE SET qos = excluded.qos, qos_at = excluded.qos_at";
            tx.execute(upsert, &[resource, confirmed.qos.as_str().into(), confirmed.at.into()]).await?;
        }
        AllocationEvent::LimitsEchoed(echoed) => {
            let upsert = "INSERT INTO site_answers{g} (resource, limits, limits_agree, limits_at) VALUES ($1, $2, $3, $4) \
                          ON CONFLICT (resource) DO UPDATE SET limits = excluded.limits, \
                          limits_agree = excluded.limits_agree, limits_at = excluded.limits_at";
            let limits = serde_json::to_string(&echoed.limits).unwrap_or_else(|_| "{}".to_owned());
            tx.execute(upsert, &[resource, limits.into(), echoed.agrees.into(), echoed.at.into()]).await?;
        }
        AllocationEvent::ResourceSynced(synced) => {
            let upsert = "INSERT INTO site_answers{g} (resource, synced_at) VALUES ($1, $2) \
                          ON CONFLICT (resource) DO UPDATE SET synced_at = excluded.synced_at";
            tx.execute(upsert, &[resource, synced.at.into()]).await?;
        }
        AllocationEvent::CommandResultReported(result) => {
            if result.report.success {
                // What was read back before the site carried this out is out of date.
                let outdated = "UPDATE site_answers{g} SET limits = NULL, limits_agree = NULL, limits_at = NULL \
                                WHERE resource = $1 AND limits IS NOT NULL";
                tx.execute(outdated, std::slice::from_ref(&resource)).await?;
            }
            commands(tx, resource, result, at).await?;
        }
        _ => {}
    }
    Ok(())
}

/// Where the commands of the newest report are not those that were meant.
async fn commands(
    tx: &mut ReadTx,
    resource: SqlValue,
    result: &CommandResultReported,
    at: DateTime<Utc>,
) -> Result<(), SqlError> {
    if result.differences.is_empty() {
        let clear = "UPDATE site_answers{g} SET differences = NULL, reported_at = NULL \
                         WHERE resource = $1 AND differences IS NOT NULL";
        tx.execute(clear, &[resource]).await?;
    } else {
        let upsert = "INSERT INTO site_answers{g} (resource, differences, reported_at) VALUES ($1, $2, $3) \
                          ON CONFLICT (resource) DO UPDATE SET differences = excluded.differences, \
                          reported_at = excluded.reported_at";
        let differences = serde_json::to_string(&result.differences).unwrap_or_else(|_| "[]".to_owned());
        tx.execute(upsert, &[resource, differences.into(), at.into()]).await?;
    }
    Ok(())
}

/// What the site said of one account.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SiteAnswer {
    /// The class of service that the account has, and when that was said.
    pub qos: Option<(String, DateTime<Utc>)>,
    /// Limits that were read back, whether they are those that were sent, and when that was said.
    pub limits: Option<(Amounts, bool, DateTime<Utc>)>,
    /// Where the commands of the newest report are not those that were meant.
    pub differences: Vec<String>,
    /// When the agent last came to the end of looking after the account.
    pub synced_at: Option<DateTime<Utc>>,
}

fn read<T: serde::de::DeserializeOwned>(row: &SqlRow, index: usize) -> Result<Option<T>, SqlError> {
    let wrong = |_| SqlError::Column { index, expected: "JSON" };
    row.opt_text(index)?.map(|text| serde_json::from_str(text).map_err(wrong)).transpose()
}

fn site_answer(row: &SqlRow) -> Result<SiteAnswer, SqlError> {
    let qos = row.opt_text(1)?.map(str::to_owned);
    let limits: Option<Amounts> = read(row, 3)?;
    let agree = row.opt_bool(4)?.unwrap_or(true);
    Ok(SiteAnswer {
        qos: qos.zip(row.opt_time(2)?),
        limits: limits.zip(row.opt_time(5)?).map(|(limits, at)| (limits, agree, at)),
        differences: read(row, 6)?.unwrap_or_default(),
        synced_at: row.opt_time(7)?,
    })
}

/// What the site said of these accounts; those of which it said nothing are left out.
pub async fn of_resources(
    db: &ReadDb,
    resources: impl Iterator<Item = ResourceId>,
) -> Result<HashMap<ResourceId, SiteAnswer>, SqlError> {
    let select = "SELECT resource, qos, qos_at, limits, limits_agree, limits_at, differences, synced_at FROM site_answers \
                  WHERE resource IN (SELECT unhex(value) FROM json_each($1))";
    let ids = id_list(resources.map(|resource| resource.as_uuid()));
    let rows = db.query(select, &[ids.into()]).await?;
    rows.iter().map(|row| Ok((row.uuid(0)?.into(), site_answer(row)?))).collect()
}

/// How many accounts of an offering's live resources are not as they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Disagreements {
    /// Commands were run that were not meant, or the other way round.
    pub commands: i64,
    /// The account has another class of service than its restrictions call for, as far as the site has said.
    pub qos: i64,
    /// Limits that were read back are not those that were sent.
    pub limits: i64,
    /// The settings are confirmed, and the site never said which class of service the account has.
    pub unknown: i64,
}

/// Counts them.
pub async fn disagreements(db: &ReadDb, offering: OfferingId, names: &QosNames) -> Result<Disagreements, SqlError> {
    let select = "SELECT count(a.differences), count(CASE WHEN a.qos <> \
                  CASE WHEN (x.flags & 1) <> 0 THEN $2 WHEN (x.flags & 2) <> 0 THEN $3 ELSE $4 END THEN 1 END), \
                  count(CASE WHEN a.limits_agree = 0 THEN 1 END) FROM site_answers a JOIN registry_resources x ON x.id = a.resource \
                  WHERE x.offering = $1 AND x.state < 4";
    let name = |class| SqlValue::from(names.of(class));
    let values = [
        SqlValue::Uuid(offering.as_uuid()),
        name(QosClass::Paused),
        name(QosClass::Downscaled),
        name(QosClass::Default),
    ];
    let Some(row) = db.query_one(select, &values).await? else { return Ok(Disagreements::default()) };
    let unknown = "SELECT count(*) FROM status_resources s LEFT JOIN site_answers a ON a.resource = s.id \
                   WHERE s.offering = $1 AND s.live = 1 AND s.agent = 3 AND a.qos IS NULL";
    let unknown = db.query_one(unknown, &[SqlValue::Uuid(offering.as_uuid())]).await?;
    let unknown = unknown.map_or(Ok(0), |row| row.i64(0))?;
    Ok(Disagreements { commands: row.i64(0)?, qos: row.i64(1)?, limits: row.i64(2)?, unknown })
}
