//! Applies a batch of events to the outbox: reads the rows of the affected resources, changes them in memory and writes
//! each once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::accounts::{Accounts, Consequences};
use super::consumer::Mark;
use super::rows::{self, FlagsRow, FlagsState, Row, RowState};
use crate::domain::dispatch::{Step, next};
use crate::domain::evaluate::Flags;
use crate::domain::ids::ResourceId;
use crate::domain::period::Month;
use crate::events::Event;
use crate::events::allocation::{AllocationEvent, CommandResultReported, SettingsCommanded};
use crate::events::dispatch::StompMessageSent;
use crate::events::envelope::RecordedEvent;
use crate::events::site::{EventSetAside, SiteEvent};
use crate::events::site_answer::QosConfirmed;
use crate::registry::{Registry, book_of};
use crate::store::consumer::Decoded;
use crate::store::sql::{ReadTx, SqlError, SqlValue, execute_in, in_list};

static REMOVE: LazyLock<String> = LazyLock::new(|| in_list("DELETE FROM outbox{g} WHERE no IN", ""));

/// Resource and month of the book that an event is about.
pub(super) fn book_about(event: &Decoded<Event>) -> Option<(ResourceId, Month)> {
    match &event.event {
        Event::Site(SiteEvent::EventSetAside(aside)) => book_of(aside.stream.as_str()),
        _ => book_of(event.recorded.stream.as_str()),
    }
}

/// A month as the outbox keeps it.
fn book_number(month: Month) -> i64 {
    i64::from(month.year()) * 100 + i64::from(month.number())
}

/// An agent's last sign of progress.
struct Agent {
    at: DateTime<Utc>,
    no: i64,
    changed: bool,
}

/// One batch.
pub(super) struct Fold {
    mark: Mark,
    offerings: BTreeMap<Uuid, Uuid>,
    rows: BTreeMap<i64, Row>,
    changed: BTreeSet<i64>,
    removed: BTreeSet<i64>,
    flags: BTreeMap<Uuid, FlagsRow>,
    flags_changed: BTreeSet<Uuid>,
    accounts: Accounts,
    agents: BTreeMap<Uuid, Agent>,
    /// Resets with an unknown outcome; none = known again.
    resets: BTreeMap<Uuid, Option<(Uuid, DateTime<Utc>)>>,
}

impl Fold {
    pub(super) async fn load(
        tx: &mut ReadTx,
        touched: &[Uuid],
        events: &[&Decoded<Event>],
        registry: &Registry,
        mark: Mark,
    ) -> Result<Self, SqlError> {
        let offerings = {
            let state = registry.read();
            let offering = |id: &Uuid| Some((*id, state.resource(ResourceId::from(*id))?.offering.as_uuid()));
            touched.iter().filter_map(offering).collect()
        };
        let (rows, mut flags) = rows::of_resources(tx, touched).await?;
        let accounts = Accounts::load(tx, touched, events).await?;
        let leavers: Vec<Uuid> = accounts.leavers().filter(|id| !touched.contains(id)).collect();
        flags.extend(rows::flags_of_resources(tx, &leavers).await?);
        let mut agents = BTreeMap::new();
        for row in tx.query("SELECT offering, progress_at, progress_no FROM outbox_agents{g}", &[]).await? {
            agents.insert(row.uuid(0)?, Agent { at: row.time(1)?, no: row.i64(2)?, changed: false });
        }
        Ok(Self {
            mark,
            offerings,
            rows: rows.into_iter().map(|row| (row.no, row)).collect(),
            changed: BTreeSet::new(),
            removed: BTreeSet::new(),
            flags: flags.into_iter().map(|row| (row.resource, row)).collect(),
            flags_changed: BTreeSet::new(),
            accounts,
            agents,
            resets: BTreeMap::new(),
        })
    }

    pub(super) fn take(&mut self, event: &Decoded<Event>) {
        if let Event::Site(SiteEvent::EventSetAside(aside)) = &event.event {
            self.set_aside(aside);
        }
        let Event::Allocation(allocation) = &event.event else { return };
        let Some((resource, _)) = book_of(event.recorded.stream.as_str()) else { return };
        let resource = resource.as_uuid();
        let at = event.recorded.occurred_at;
        let about_accounts = self.accounts.take(resource, allocation, at);
        match allocation {
            AllocationEvent::SettingsCommanded(commanded) => {
                self.commanded(&event.recorded, resource, commanded);
                if commanded.inputs.as_ref().is_some_and(|inputs| inputs.takes_over) {
                    self.tell(resource, commanded.flags, at);
                }
            }
            // What has ended and was never restricted as far as SLURM knows need not be told that it is free.
            AllocationEvent::RestrictionChanged(changed)
                if !self.accounts.has_ended(resource) || self.accounts.may_be_restricted(resource) =>
            {
                self.restricted(resource, changed.to, at);
            }
            AllocationEvent::ResourceStateChanged(changed) => {
                if changed.to.is_live() {
                    // What waited for another state is looked at again.
                    self.changed.extend(self.of(resource));
                    if self.flags.contains_key(&resource) {
                        self.flags_changed.insert(resource);
                    }
                } else {
                    self.of(resource).into_iter().for_each(|no| self.remove(no));
                    // The next event reports the lifted restrictions; those that an operator holds stay.
                    match self.accounts.left_with(resource) {
                        Some(flags) => self.tell(resource, flags, at),
                        None => self.settle_flags(resource),
                    }
                }
            }
            AllocationEvent::StompMessageSent(sent) => self.sent(resource, sent),
            AllocationEvent::StompMessageFailed(failed) => {
                if let Some(row) = self.moved(allocation) {
                    row.error = Some(failed.error.clone());
                }
            }
            AllocationEvent::DispatchUnanswered(unanswered) => {
                if let Some(row) = self.moved(allocation) {
                    row.given_up = unanswered.given_up;
                }
            }
            AllocationEvent::DispatchResendRequested(_) => {
                if let Some(row) = self.moved(allocation) {
                    (row.resends, row.error) = (0, None);
                }
            }
            AllocationEvent::RestrictionResendRequested(requested) => {
                if let Some(row) = self.flags.get_mut(&resource)
                    && row.flags == requested.flags
                {
                    (row.state, row.resends) = (FlagsState::Queued, 0);
                    self.flags_changed.insert(resource);
                }
            }
            AllocationEvent::QosConfirmed(confirmed) => self.confirmed(resource, confirmed, at),
            AllocationEvent::CommandResultReported(result) => self.reported(resource, result, at),
            AllocationEvent::CommandResultUnmatched(_) => self.progress(resource, 0, at),
            _ => {}
        }
        let Consequences { tell, settled } = about_accounts;
        for resource in settled {
            self.settle_flags(resource);
        }
        if let Some(flags) = tell {
            self.tell(resource, flags, at);
        }
    }

    /// The agent must be sent a resource's restrictions, unless they are already on their way.
    fn tell(&mut self, resource: Uuid, flags: Flags, at: DateTime<Utc>) {
        let on_its_way = |row: &FlagsRow| row.flags == flags && row.state == FlagsState::Queued;
        if !self.flags.get(&resource).is_some_and(on_its_way) {
            self.restricted(resource, flags, at);
        }
    }

    /// Numbers of the rows of a resource.
    fn of(&self, resource: Uuid) -> Vec<i64> {
        self.rows.values().filter(|row| row.resource == resource).map(|row| row.no).collect()
    }

    fn find(&self, dispatch: Uuid) -> Option<i64> {
        self.rows.values().find(|row| row.dispatch == dispatch).map(|row| row.no)
    }

    fn change(&mut self, dispatch: Uuid) -> Option<&mut Row> {
        let no = self.find(dispatch)?;
        self.changed.insert(no);
        self.rows.get_mut(&no)
    }

    /// The row of the dispatch that an event is about, if it stands elsewhere after it and is kept.
    fn moved(&mut self, event: &AllocationEvent) -> Option<&mut Row> {
        let (dispatch, step) = event.dispatch_step()?;
        let no = self.find(dispatch.as_uuid())?;
        let row = self.rows.get_mut(&no)?;
        let (before, after) = (row.stage(), next(row.stage(), step));
        if before == after {
            return None;
        }
        if !row.stand(after) {
            self.remove(no);
            return None;
        }
        self.changed.insert(no);
        self.rows.get_mut(&no)
    }

    fn remove(&mut self, no: i64) {
        self.rows.remove(&no);
        self.changed.remove(&no);
        self.removed.insert(no);
    }

    fn settle_flags(&mut self, resource: Uuid) {
        if self.flags.remove(&resource).is_some() {
            self.flags_changed.insert(resource);
        }
    }

    fn commanded(&mut self, recorded: &RecordedEvent, resource: Uuid, commanded: &SettingsCommanded) {
        let Some(offering) = self.offerings.get(&resource).copied() else { return };
        let inherits = commanded.inherits_reset.map(|id| id.as_uuid());
        let mut reset_since = None;
        for no in self.of(resource) {
            let Some(row) = self.rows.get_mut(&no) else { continue };
            if Some(row.dispatch) == inherits {
                reset_since = row.reset_since;
            } else if row.reset
                && commanded.reset.is_none()
                && inherits.is_none()
                && row.sent_no > 0
                && let Some(since) = row.reset_since
            {
                self.resets.insert(resource, Some((row.dispatch, since)));
            }
            // Only what a queue has may still be answered.
            let may_be_answered = matches!(row.state, RowState::Sent | RowState::Superseded);
            if may_be_answered && row.stand(next(row.stage(), Step::Supersede)) {
                self.changed.insert(no);
            } else {
                self.remove(no);
            }
        }
        if commanded.reset.is_some() {
            // A new decision discards the outcome of the last one.
            self.resets.insert(resource, None);
        }
        self.mark.rows += 1;
        let Some((_, month)) = book_of(recorded.stream.as_str()) else { return };
        let row = Row {
            no: self.mark.rows,
            dispatch: commanded.dispatch.as_uuid(),
            resource,
            offering,
            policy: commanded.policy.as_uuid(),
            state: RowState::Queued,
            book: book_number(month),
            version: recorded.version.cast_signed(),
            reset: commanded.settings.reset_raw_usage,
            reset_since,
            queued_at: recorded.occurred_at,
            sent_at: None,
            sent_no: 0,
            resends: 0,
            given_up: false,
            error: None,
            attempts: 0,
            handed: None,
        };
        self.changed.insert(row.no);
        self.rows.insert(row.no, row);
    }

    /// What an event said that was set aside is in force no more: no queue gets it, and nobody waits for an answer to it.
    fn set_aside(&mut self, aside: &EventSetAside) {
        let Some((resource, month)) = book_of(aside.stream.as_str()) else { return };
        let (resource, book, version) = (resource.as_uuid(), book_number(month), aside.version.cast_signed());
        let said = |row: &&Row| row.resource == resource && row.book == book && row.version == version;
        let rows: Vec<i64> = self.rows.values().filter(said).map(|row| row.no).collect();
        for no in rows {
            self.remove(no);
        }
    }

    fn restricted(&mut self, resource: Uuid, flags: Flags, at: DateTime<Utc>) {
        let Some(offering) = self.offerings.get(&resource).copied() else { return };
        self.mark.rows += 1;
        let row = FlagsRow {
            resource,
            offering,
            flags,
            no: self.mark.rows,
            queued_at: at,
            attempts: 0,
            handed: None,
            state: FlagsState::Queued,
            sent_at: None,
            sent_no: 0,
            resends: 0,
        };
        self.flags.insert(resource, row);
        self.flags_changed.insert(resource);
    }

    fn sent(&mut self, resource: Uuid, sent: &StompMessageSent) {
        // The agent takes the settings first, and then asks for the resource.
        let number = self.mark.sent + 1;
        self.mark.sent += 2;
        if let Some(row) = self.flags.get_mut(&resource)
            && Some(row.flags) == sent.flags
        {
            row.resends += i64::from(row.sent_no > 0);
            (row.state, row.sent_at, row.sent_no) = (FlagsState::Sent, Some(sent.at), number + 1);
            self.flags_changed.insert(resource);
        }
        let Some(dispatch) = sent.dispatch else { return };
        let Some(row) = self.change(dispatch.as_uuid()) else { return };
        // An agent may be quicker than the record of the hand-over, and have said that it never came to the reset.
        let failed_already = row.state == RowState::Failed && row.sent_no == 0;
        row.sent_at = Some(sent.at);
        row.sent_no = number;
        row.resends = sent.resend.into();
        let (before, after) = (row.stage(), next(row.stage(), Step::Send));
        if after != before && row.stand(after) {
            row.error = None;
        }
        let unknown = row.reset_since.filter(|_| row.reset && !sent.reset);
        if sent.reset && !failed_already {
            row.reset_since.get_or_insert(sent.at);
        }
        if let Some(since) = unknown {
            self.resets.insert(resource, Some((dispatch.as_uuid(), since)));
        }
    }

    /// The site said which class of service an account has. It ends the wait if that is the one that was meant and the agent
    /// had been told; an answer from before that is none.
    fn confirmed(&mut self, resource: Uuid, confirmed: &QosConfirmed, at: DateTime<Utc>) {
        let told = self.flags.get(&resource).map_or(0, |row| row.sent_no);
        self.progress(resource, if confirmed.agrees() { told } else { 0 }, at);
        if told > 0 && confirmed.agrees() {
            self.settle_flags(resource);
        }
    }

    fn reported(&mut self, resource: Uuid, result: &CommandResultReported, at: DateTime<Utc>) {
        let no = self.find(result.dispatch.as_uuid());
        let answered = no.and_then(|no| self.rows.get(&no)).map_or(0, |row| row.sent_no);
        self.progress(resource, answered, at);
        let ran_reset = crate::commands::allocation::ran_reset(&result.report);
        if result.report.success && ran_reset {
            self.resets.insert(resource, None);
        }
        let Some(no) = no else { return };
        let Some(row) = self.rows.get_mut(&no) else { return };
        if !row.stand(next(row.stage(), result.report.step())) {
            return self.remove(no);
        }
        row.error = Some(result.report.error_message.clone());
        if row.resends == 0 && !ran_reset {
            // It came no further than that: the reset is as good as never sent.
            row.reset_since = None;
        }
        self.changed.insert(no);
    }

    /// Notes that the agent got on: it answered the hand-over of this number.
    fn progress(&mut self, resource: Uuid, no: i64, at: DateTime<Utc>) {
        let Some(offering) = self.offerings.get(&resource) else { return };
        let agent = self.agents.entry(*offering).or_insert(Agent { at, no: 0, changed: true });
        agent.at = agent.at.max(at);
        agent.no = agent.no.max(no);
        agent.changed = true;
    }

    /// Writes what changed, and says how far the numbers are.
    pub(super) async fn save(mut self, tx: &mut ReadTx) -> Result<Mark, SqlError> {
        let removed: Vec<SqlValue> = self.removed.iter().copied().map(SqlValue::I64).collect();
        execute_in(tx, &REMOVE, &removed).await?;
        let rows = self.changed.iter().filter_map(|no| self.rows.remove(no)).collect();
        let mut flags = Vec::new();
        for resource in &self.flags_changed {
            if let Some(row) = self.flags.remove(resource) {
                flags.push(row);
            } else {
                let delete = "DELETE FROM outbox_flags{g} WHERE resource = $1";
                tx.execute(delete, &[SqlValue::Uuid(*resource)]).await?;
            }
        }
        rows::save(tx, rows, flags).await?;
        self.accounts.save(tx).await?;
        for (resource, unknown) in self.resets {
            let Some((dispatch, since)) = unknown else {
                tx.execute("DELETE FROM outbox_resets{g} WHERE resource = $1", &[SqlValue::Uuid(resource)]).await?;
                continue;
            };
            let upsert = "INSERT INTO outbox_resets{g} (resource, dispatch, since) VALUES ($1, $2, $3) \
                          ON CONFLICT (resource) DO UPDATE SET dispatch = excluded.dispatch, since = excluded.since";
            tx.execute(upsert, &[SqlValue::Uuid(resource), SqlValue::Uuid(dispatch), since.into()]).await?;
        }
        for (offering, agent) in self.agents.into_iter().filter(|(_, agent)| agent.changed) {
            let upsert = "INSERT INTO outbox_agents{g} (offering, progress_at, progress_no) VALUES ($1, $2, $3) \
                          ON CONFLICT (offering) DO UPDATE SET progress_at = excluded.progress_at, \
                          progress_no = excluded.progress_no";
            tx.execute(upsert, &[SqlValue::Uuid(offering), agent.at.into(), agent.no.into()]).await?;
        }
        Ok(self.mark)
    }
}
