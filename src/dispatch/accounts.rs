//! The account of each resource, the restrictions that SLURM may have on it, and accounts that a resource left
//! restricted.
//!
//! The agent takes an account's name from the API and skips resources that have ended, so it cannot lift restrictions
//! after an end or a change of account. They stay listed here until another resource on the account is confirmed, or an
//! operator reports that the account was freed. Part of the outbox's fold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::rows::{flag_bits, flags_of};
use crate::domain::evaluate::Flags;
use crate::domain::ids::{OfferingId, ResourceId};
use crate::events::Event;
use crate::events::allocation::AllocationEvent;
use crate::registry::book_of;
use crate::store::consumer::Decoded;
use crate::store::sql::{ReadDb, ReadTx, SqlError, SqlRow, SqlValue, in_list, query_in};

static BY_RESOURCE: LazyLock<String> = LazyLock::new(|| {
    in_list("SELECT resource, offering, account, live, flags, may FROM outbox_accounts{g} WHERE resource IN", "")
});
static LEFT_BY_ACCOUNT: LazyLock<String> = LazyLock::new(|| {
    in_list("SELECT offering, account, resource, flags, renamed, left_at FROM outbox_left{g} WHERE account IN", "")
});

/// Why an account was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftBecause {
    /// Its resource ended.
    Ended,
    /// Its resource has another account now.
    Renamed,
}

impl LeftBecause {
    /// The word that is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Renamed => "renamed",
        }
    }
}

/// An account that SLURM may still restrict, though the resource it was restricted for has it no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftRestricted {
    /// The cluster as sold.
    pub offering: OfferingId,
    /// The SLURM account.
    pub account: String,
    /// The resource that left it.
    pub resource: ResourceId,
    /// The restrictions that were sent for it.
    pub flags: Flags,
    /// Why the resource has it no more.
    pub because: LeftBecause,
    /// Since when.
    pub since: DateTime<Utc>,
    /// The live resource that has the account now: sending its own restrictions settles it.
    pub taken_by: Option<ResourceId>,
    /// The command that frees it.
    pub command: String,
}

/// What is kept of a resource's account.
#[derive(Debug, Clone)]
struct Account {
    offering: Uuid,
    name: String,
    live: bool,
    /// Restrictions in force.
    flags: Flags,
    /// Restrictions that SLURM may have: they were sent, and are not known to be lifted.
    may: Flags,
}

#[derive(Debug, Clone)]
struct Left {
    resource: Uuid,
    flags: Flags,
    renamed: bool,
    at: DateTime<Utc>,
}

/// What the outbox has to do about it.
#[derive(Debug, Default)]
pub(super) struct Consequences {
    /// This resource's agent must be sent its restrictions, unless they are already on their way.
    pub tell: Option<Flags>,
    /// Nobody need be told any more of the restrictions of these.
    pub settled: Vec<Uuid>,
}

/// The part of a batch that is about accounts.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    known: BTreeMap<Uuid, Account>,
    changed: BTreeSet<Uuid>,
    left: BTreeMap<(Uuid, String), Left>,
    left_changed: BTreeSet<(Uuid, String)>,
}

fn named<'e>(name: &'e str, backend_id: &'e str) -> &'e str {
    if backend_id.is_empty() { name } else { backend_id }
}

impl Accounts {
    /// Reads what is kept of the touched resources, and of the accounts that they have or come onto.
    pub(super) async fn load(tx: &mut ReadTx, touched: &[Uuid], events: &[&Decoded<Event>]) -> Result<Self, SqlError> {
        let keys: Vec<SqlValue> = touched.iter().map(|id| SqlValue::Uuid(*id)).collect();
        let mut accounts = Self::default();
        for row in query_in(tx, &BY_RESOURCE, &keys).await? {
            let account = Account {
                offering: row.uuid(1)?,
                name: row.text(2)?.to_owned(),
                live: row.bool(3)?,
                flags: flags_of(row.i64(4)?),
                may: flags_of(row.i64(5)?),
            };
            accounts.known.insert(row.uuid(0)?, account);
        }
        let names: BTreeSet<&str> = events.iter().filter_map(|event| accounts.comes_up(event)).collect();
        let names: Vec<SqlValue> = names.into_iter().map(SqlValue::from).collect();
        for row in query_in(tx, &LEFT_BY_ACCOUNT, &names).await? {
            let left =
                Left { resource: row.uuid(2)?, flags: flags_of(row.i64(3)?), renamed: row.bool(4)?, at: row.time(5)? };
            accounts.left.insert((row.uuid(0)?, row.text(1)?.to_owned()), left);
        }
        Ok(accounts)
    }

    /// The account on which an event may find, or settle, that it was left restricted.
    fn comes_up<'e>(&'e self, event: &'e Decoded<Event>) -> Option<&'e str> {
        let Event::Allocation(allocation) = &event.event else { return None };
        match allocation {
            AllocationEvent::ResourceRegistered(registered) => Some(registered.facts.account()),
            AllocationEvent::ResourceDetailsChanged(changed) => Some(named(&changed.name, &changed.backend_id)),
            AllocationEvent::AccountFreed(freed) => Some(&freed.account),
            AllocationEvent::ResourceStateChanged(_) | AllocationEvent::QosConfirmed(_) => {
                let (resource, _) = book_of(event.recorded.stream.as_str())?;
                self.known.get(&resource.as_uuid()).map(|account| account.name.as_str())
            }
            _ => None,
        }
    }

    /// Resources that left one of these accounts.
    pub(super) fn leavers(&self) -> impl Iterator<Item = Uuid> {
        self.left.values().map(|left| left.resource)
    }

    /// Whether a resource is known to have ended.
    pub(super) fn has_ended(&self, resource: Uuid) -> bool {
        self.known.get(&resource).is_some_and(|account| !account.live)
    }

    /// Whether SLURM may have restrictions on the account of a resource.
    pub(super) fn may_be_restricted(&self, resource: Uuid) -> bool {
        self.known.get(&resource).is_some_and(|account| account.may.any())
    }

    /// The restrictions of a resource on whose account SLURM may have some.
    pub(super) fn left_with(&self, resource: Uuid) -> Option<Flags> {
        self.known.get(&resource).filter(|account| account.may.any()).map(|account| account.flags)
    }

    /// Folds an event.
    pub(super) fn take(&mut self, resource: Uuid, event: &AllocationEvent, at: DateTime<Utc>) -> Consequences {
        match event {
            AllocationEvent::ResourceRegistered(registered) => {
                let facts = &registered.facts;
                let account = Account {
                    offering: facts.offering.as_uuid(),
                    name: facts.account().to_owned(),
                    live: facts.state.is_live(),
                    flags: Flags::default(),
                    may: Flags::default(),
                };
                self.known.insert(resource, account);
                self.changed.insert(resource);
                self.comes_onto(resource)
            }
            AllocationEvent::ResourceDetailsChanged(changed) => {
                let name = named(&changed.name, &changed.backend_id);
                if self.known.get(&resource).is_none_or(|account| account.name == name) {
                    return Consequences::default();
                }
                self.leaves(resource, true, at);
                if let Some(account) = self.change(resource) {
                    (account.name, account.may) = (name.to_owned(), Flags::default());
                }
                self.comes_onto(resource)
            }
            AllocationEvent::ResourceStateChanged(changed) => {
                let lives = changed.to.is_live();
                if self.known.get(&resource).is_none_or(|account| account.live == lives) {
                    return Consequences::default();
                }
                if !lives {
                    self.leaves(resource, false, at);
                }
                if let Some(account) = self.change(resource) {
                    account.live = lives;
                }
                self.comes_onto(resource)
            }
            AllocationEvent::RestrictionChanged(changed) => {
                if let Some(account) = self.change(resource) {
                    account.flags = changed.to;
                }
                Consequences::default()
            }
            AllocationEvent::StompMessageSent(sent) => {
                if let Some(told) = sent.flags.filter(|flags| flags.any())
                    && let Some(account) = self.change(resource)
                {
                    account.may.paused |= told.paused;
                    account.may.downscaled |= told.downscaled;
                }
                Consequences::default()
            }
            AllocationEvent::QosConfirmed(confirmed) if confirmed.agrees() => self.confirmed(resource),
            AllocationEvent::AccountFreed(freed) => {
                let Some(offering) = self.known.get(&resource).map(|account| account.offering) else {
                    return Consequences::default();
                };
                let settled = self.settle(&(offering, freed.account.clone()));
                Consequences { tell: None, settled: settled.into_iter().filter(|r| self.has_ended(*r)).collect() }
            }
            _ => Consequences::default(),
        }
    }

    fn change(&mut self, resource: Uuid) -> Option<&mut Account> {
        self.changed.insert(resource);
        self.known.get_mut(&resource)
    }

    /// The resource has its account no more.
    fn leaves(&mut self, resource: Uuid, renamed: bool, at: DateTime<Utc>) {
        let Some(account) = self.known.get(&resource).filter(|account| account.live && account.may.any()) else {
            return;
        };
        let key = (account.offering, account.name.clone());
        self.left.insert(key.clone(), Left { resource, flags: account.may, renamed, at });
        self.left_changed.insert(key);
    }

    /// A live resource got an account that another one, or itself, left restricted: its agent must be sent its
    /// current restrictions, and nobody those of the resource that left.
    fn comes_onto(&self, resource: Uuid) -> Consequences {
        let Some(account) = self.known.get(&resource).filter(|account| account.live) else {
            return Consequences::default();
        };
        match self.left.get(&(account.offering, account.name.clone())) {
            None => Consequences::default(),
            Some(left) => {
                let settled = (left.resource != resource && !left.renamed).then_some(left.resource);
                Consequences { tell: Some(account.flags), settled: settled.into_iter().collect() }
            }
        }
    }

    /// The account has the class of service that the resource's restrictions call for.
    fn confirmed(&mut self, resource: Uuid) -> Consequences {
        let Some(account) = self.change(resource) else { return Consequences::default() };
        account.may = account.flags;
        let key = (account.offering, account.name.clone());
        // A resource that has ended speaks for the account only as long as nobody else left it after that.
        let own = self.left.get(&key).is_some_and(|left| left.resource == resource);
        if self.known.get(&resource).is_some_and(|account| account.live) || own {
            self.settle(&key);
        }
        Consequences::default()
    }

    fn settle(&mut self, key: &(Uuid, String)) -> Option<Uuid> {
        let left = self.left.remove(key)?;
        self.left_changed.insert(key.clone());
        Some(left.resource)
    }

    /// Writes what changed.
    pub(super) async fn save(self, tx: &mut ReadTx) -> Result<(), SqlError> {
        let known = self.changed.iter().filter_map(|id| Some((*id, self.known.get(id)?)));
        let values: Vec<SqlValue> = known
            .flat_map(|(resource, account)| {
                [
                    SqlValue::Uuid(resource),
                    SqlValue::Uuid(account.offering),
                    account.name.clone().into(),
                    account.live.into(),
                    flag_bits(account.flags).into(),
                    flag_bits(account.may).into(),
                ]
            })
            .collect();
        if !values.is_empty() {
            let insert = "INSERT INTO outbox_accounts{g} (resource, offering, account, live, flags, may)";
            let update = "ON CONFLICT (resource) DO UPDATE SET account = excluded.account, live = excluded.live, \
                          flags = excluded.flags, may = excluded.may";
            tx.insert_many(insert, 6, values, update).await?;
        }
        for key in &self.left_changed {
            let (offering, account) = (SqlValue::Uuid(key.0), SqlValue::from(key.1.as_str()));
            let Some(left) = self.left.get(key) else {
                let delete = "DELETE FROM outbox_left{g} WHERE offering = $1 AND account = $2";
                tx.execute(delete, &[offering, account]).await?;
                continue;
            };
            let upsert = "INSERT INTO outbox_left{g} (offering, account, resource, flags, renamed, left_at) \
                          VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (offering, account) DO UPDATE SET \
                          resource = excluded.resource, flags = excluded.flags, renamed = excluded.renamed, \
                          left_at = excluded.left_at";
            let values = [
                offering,
                account,
                SqlValue::Uuid(left.resource),
                flag_bits(left.flags).into(),
                left.renamed.into(),
                left.at.into(),
            ];
            tx.execute(upsert, &values).await?;
        }
        Ok(())
    }
}

/// The newest accounts that were left restricted, of an offering or of all, and how many there are. The command is not filled
/// in: it needs the offering's name for the class of service.
pub(super) async fn left_restricted(
    db: &ReadDb,
    offering: Option<OfferingId>,
    limit: u32,
    offset: u64,
) -> Result<(Vec<LeftRestricted>, u64), SqlError> {
    let offering = SqlValue::from(offering.map(|id| id.as_uuid()));
    let count = "SELECT count(*) FROM outbox_left WHERE ($1 IS NULL OR offering = $1)";
    let total = db.query_one(count, std::slice::from_ref(&offering)).await?.map_or(Ok(0), |row| row.i64(0))?;
    let select = "SELECT l.offering, l.account, l.resource, l.flags, l.renamed, l.left_at, \
                  (SELECT a.resource FROM outbox_accounts a WHERE a.offering = l.offering \
                  AND a.account = l.account AND a.live = 1 ORDER BY a.resource LIMIT 1) FROM outbox_left l \
                  WHERE ($1 IS NULL OR l.offering = $1) ORDER BY l.left_at DESC, l.account LIMIT $2 OFFSET $3";
    let rows = db.query(select, &[offering, limit.into(), offset.cast_signed().into()]).await?;
    Ok((rows.iter().map(left).collect::<Result<_, _>>()?, total.cast_unsigned()))
}

/// The accounts of this name that were left restricted, one for each offering that has it.
pub(super) async fn left_on(db: &ReadDb, account: &str) -> Result<Vec<LeftRestricted>, SqlError> {
    let select = "SELECT l.offering, l.account, l.resource, l.flags, l.renamed, l.left_at, \
                  (SELECT a.resource FROM outbox_accounts a WHERE a.offering = l.offering \
                  AND a.account = l.account AND a.live = 1 ORDER BY a.resource LIMIT 1) FROM outbox_left l \
                  WHERE l.account = $1 ORDER BY l.offering";
    db.query(select, &[account.into()]).await?.iter().map(left).collect()
}

fn left(row: &SqlRow) -> Result<LeftRestricted, SqlError> {
    Ok(LeftRestricted {
        offering: row.uuid(0)?.into(),
        account: row.text(1)?.to_owned(),
        resource: row.uuid(2)?.into(),
        flags: flags_of(row.i64(3)?),
        because: if row.bool(4)? { LeftBecause::Renamed } else { LeftBecause::Ended },
        since: row.time(5)?,
        taken_by: row.opt_uuid(6)?.map(ResourceId::from),
        command: String::new(),
    })
}
