//! The consumer `notify`: from events to pending notices, and from recorded outcomes to settled rows.
//!
//! It folds policies, owners and the customer of a resource into its own tables, so that the recipients are those at
//! the time of the event, even on a rebuild, and a deleted policy is still known when its restriction is lifted. The
//! notices of a batch are written together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use rust_decimal::Decimal;
use tokio::sync::Notify;

use super::known::Known;
use super::{CONSUMER, Endpoint, MailTransportOptions, NotifyOptions};
use crate::domain::ids::{CustomerId, DispatchId, OfferingId, PolicyId, ResourceId, UserId};
use crate::domain::policy::Action;
use crate::events::Event;
use crate::events::allocation::{AllocationEvent, ResourceFacts};
use crate::events::envelope::RecordedEvent;
use crate::events::notice::{Notice, NoticeChannel, NoticeTemplate};
use crate::events::registry::{CustomerFacts, PolicyFacts, RegistryEvent, Scope};
use crate::registry::book_of;
use crate::store::consumer::{Consumer, ConsumerError, Decoded};
use crate::store::sql::{ReadTx, SqlValue};

const INTERESTING: [&str; 12] = [
    "policy_created.v1",
    "policy_changed.v1",
    "policy_deleted.v1",
    "customer_registered.v1",
    "customer_changed.v1",
    "resource_registered.v1",
    "policy_evaluated.v1",
    "restriction_changed.v1",
    "command_result_reported.v1",
    "notice_sent.v1",
    "notice_failed.v1",
    "notice_resent.v1",
];

/// Writes down what is owed.
pub struct NotifyConsumer {
    wake: Arc<Notify>,
    endpoints: Vec<UserId>,
    mail: bool,
    owed: bool,
}

/// What a notable event calls for, before the recipients are known.
struct Occasion<'a> {
    recorded: &'a RecordedEvent,
    resource: ResourceId,
    template: NoticeTemplate,
    thresholds: &'a [Decimal],
    /// The policies that decided; none = an operator, and every policy in force speaks for the owners.
    policies: &'a [PolicyId],
    dispatch: Option<DispatchId>,
}

/// One recipient and why it is one.
struct Recipient {
    channel: NoticeChannel,
    id: UserId,
    via: &'static str,
    policy: Option<PolicyId>,
}

/// A batch under way.
struct Batch {
    known: Known,
    /// Rows of `notices` that are not written yet.
    owed: Vec<SqlValue>,
    /// Rows of `notify_resources` that are not written yet.
    resources: Vec<SqlValue>,
}

/// Values of a row of `notices`.
const OWED: usize = 13;

impl NotifyConsumer {
    /// A consumer that wakes a worker through `wake`.
    pub fn new(options: &NotifyOptions, wake: Arc<Notify>) -> Self {
        Self {
            wake,
            endpoints: options.endpoints.iter().map(Endpoint::id).collect(),
            mail: !matches!(options.mail.transport, MailTransportOptions::None),
            owed: false,
        }
    }

    async fn registry(tx: &mut ReadTx, known: &mut Known, recorded: &RecordedEvent, event: &RegistryEvent) -> Applied {
        match event {
            RegistryEvent::PolicyCreated(facts) | RegistryEvent::PolicyChanged(facts) => {
                let upsert = "INSERT INTO notify_policies{g} (policy, offering, facts, created) VALUES ($1, $2, $3, $4) \
                              ON CONFLICT (policy) DO UPDATE SET facts = excluded.facts";
                let values = [
                    SqlValue::Uuid(facts.policy.as_uuid()),
                    SqlValue::Uuid(facts.offering.as_uuid()),
                    SqlValue::Text(json(facts)?),
                    SqlValue::Time(recorded.occurred_at),
                ];
                tx.execute(upsert, &values).await?;
                known.forget(None, Some(facts.policy));
            }
            RegistryEvent::PolicyDeleted(deleted) => {
                let policy = SqlValue::Uuid(deleted.policy.as_uuid());
                tx.execute("UPDATE notify_policies{g} SET deleted = 1 WHERE policy = $1", &[policy]).await?;
            }
            RegistryEvent::CustomerRegistered(facts) | RegistryEvent::CustomerChanged(facts) => {
                let upsert = "INSERT INTO notify_customers{g} (customer, facts) VALUES ($1, $2) \
                              ON CONFLICT (customer) DO UPDATE SET facts = excluded.facts";
                tx.execute(upsert, &[SqlValue::Uuid(facts.customer.as_uuid()), SqlValue::Text(json(facts)?)]).await?;
                known.forget(Some(facts.customer), None);
            }
            _ => {}
        }
        Ok(())
    }

    async fn allocation(
        &mut self,
        tx: &mut ReadTx,
        batch: &mut Batch,
        recorded: &RecordedEvent,
        event: &AllocationEvent,
    ) -> Applied {
        let Some((resource, _)) = book_of(recorded.stream.as_str()) else { return Ok(()) };
        let occasion =
            |template| Occasion { recorded, resource, template, thresholds: &[], policies: &[], dispatch: None };
        match event {
            AllocationEvent::ResourceRegistered(registered) => {
                batch.keep(&registered.facts);
                Ok(())
            }
            AllocationEvent::PolicyEvaluated(evaluated) if !evaluated.outcome.notified.is_empty() => {
                let owed = Occasion {
                    thresholds: &evaluated.outcome.notified,
                    policies: &[evaluated.policy],
                    ..occasion(NoticeTemplate::ThresholdReached)
                };
                self.owe(tx, batch, &owed).await
            }
            AllocationEvent::RestrictionChanged(changed) => {
                match NoticeTemplate::of_restriction(changed.from, changed.to) {
                    Some(template) => {
                        self.owe(tx, batch, &Occasion { policies: &changed.policies, ..occasion(template) }).await
                    }
                    None => Ok(()),
                }
            }
            AllocationEvent::CommandResultReported(result) if !result.report.success => {
                let owed = Occasion {
                    policies: &[result.policy],
                    dispatch: Some(result.dispatch),
                    ..occasion(NoticeTemplate::CommandFailed)
                };
                self.owe(tx, batch, &owed).await
            }
            AllocationEvent::NoticeSent(sent) => {
                self.write(tx, batch).await?;
                settle(tx, &sent.notice, "sent", None).await
            }
            AllocationEvent::NoticeFailed(failed) => {
                self.write(tx, batch).await?;
                settle(tx, &failed.notice, "failed", Some(failed.error.as_str())).await
            }
            AllocationEvent::NoticeResent(resent) => {
                self.write(tx, batch).await?;
                self.owed = true;
                owe_again(tx, &resent.notice).await
            }
            _ => Ok(()),
        }
    }

    async fn owe(&mut self, tx: &mut ReadTx, batch: &mut Batch, occasion: &Occasion<'_>) -> Applied {
        if let Some(dispatch) = occasion.dispatch {
            self.write(tx, batch).await?;
            let told = "SELECT 1 FROM notices{g} WHERE dispatch = $1 LIMIT 1";
            if tx.query_one(told, &[SqlValue::Uuid(dispatch.as_uuid())]).await?.is_some() {
                return Ok(());
            }
        }
        let Some((offering, customer)) = batch.known.resource(occasion.resource) else { return Ok(()) };
        let facts = batch.known.customer(tx, customer).await?;
        let policies = if occasion.policies.is_empty() {
            applying(tx, offering, facts.as_deref()).await?
        } else {
            batch.known.policies(tx, occasion.policies).await?
        };
        let recipients = self.recipients(&policies, facts.as_deref());
        let thresholds = json(&occasion.thresholds)?;
        for recipient in &recipients {
            batch.owed.extend(row(occasion, customer, &thresholds, recipient));
        }
        Ok(())
    }

    /// Writes what the batch owes so far: whatever settles a notice has to find it.
    async fn write(&mut self, tx: &mut ReadTx, batch: &mut Batch) -> Applied {
        let insert = "INSERT INTO notices{g} (cause, channel, recipient, via, resource, customer, policy, template, \
                      thresholds, dispatch, stream, version, occurred_at)";
        let rows = std::mem::take(&mut batch.owed);
        self.owed |= tx.insert_many(insert, OWED, rows, "ON CONFLICT DO NOTHING").await? > 0;
        Ok(())
    }

    /// Each recipient once, whichever policies call for it; the oldest of them is named.
    fn recipients(&self, policies: &[Arc<PolicyFacts>], customer: Option<&CustomerFacts>) -> Vec<Recipient> {
        let mut mail: BTreeMap<UserId, Recipient> = BTreeMap::new();
        let mut add = |id: UserId, via, policy| {
            let recipient = Recipient { channel: NoticeChannel::Mail, id, via, policy: Some(policy) };
            mail.entry(id).or_insert(recipient);
        };
        for policy in policies.iter().filter(|_| self.mail) {
            if policy.terms.actions.contains(&Action::NotifyOrganizationOwners) {
                customer.iter().flat_map(|c| &c.owners).for_each(|owner| add(*owner, "owner", policy.policy));
            }
            if policy.terms.actions.contains(&Action::NotifyExternalUser) {
                policy.external_recipients.iter().for_each(|id| add(*id, "external", policy.policy));
            }
        }
        let first = policies.first().map(|policy| policy.policy);
        let webhook =
            |id: &UserId| Recipient { channel: NoticeChannel::Webhook, id: *id, via: "endpoint", policy: first };
        mail.into_values().chain(self.endpoints.iter().map(webhook)).collect()
    }
}

type Applied = Result<(), ConsumerError>;

fn json(value: &impl serde::Serialize) -> Result<String, ConsumerError> {
    serde_json::to_string(value).map_err(|error| ConsumerError::Other(format!("facts cannot be kept: {error}")))
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, ConsumerError> {
    serde_json::from_str(text).map_err(|error| ConsumerError::Other(format!("kept facts cannot be read: {error}")))
}

fn row(occasion: &Occasion<'_>, customer: CustomerId, thresholds: &str, recipient: &Recipient) -> [SqlValue; OWED] {
    [
        SqlValue::Uuid(occasion.recorded.event_id),
        SqlValue::Static(recipient.channel.as_str()),
        SqlValue::Uuid(recipient.id.as_uuid()),
        SqlValue::Static(recipient.via),
        SqlValue::Uuid(occasion.resource.as_uuid()),
        SqlValue::Uuid(customer.as_uuid()),
        recipient.policy.map(|id| id.as_uuid()).into(),
        SqlValue::Static(occasion.template.as_str()),
        thresholds.into(),
        occasion.dispatch.map(|id| id.as_uuid()).into(),
        occasion.recorded.stream.as_str().into(),
        SqlValue::I64(occasion.recorded.version.cast_signed()),
        SqlValue::Time(occasion.recorded.occurred_at),
    ]
}

impl Batch {
    fn keep(&mut self, facts: &ResourceFacts) {
        self.known.came(facts.resource, facts.offering, facts.customer);
        let values = [facts.resource.as_uuid(), facts.offering.as_uuid(), facts.customer.as_uuid()];
        self.resources.extend(values.map(SqlValue::Uuid));
    }
}

/// The resource of an event that may have to be told of.
fn concerned(decoded: &Decoded<Event>) -> Option<ResourceId> {
    let Event::Allocation(event) = &decoded.event else { return None };
    let notable = match event {
        AllocationEvent::PolicyEvaluated(evaluated) => !evaluated.outcome.notified.is_empty(),
        AllocationEvent::RestrictionChanged(changed) => {
            NoticeTemplate::of_restriction(changed.from, changed.to).is_some()
        }
        AllocationEvent::CommandResultReported(result) => !result.report.success,
        _ => false,
    };
    notable.then(|| book_of(decoded.recorded.stream.as_str())).flatten().map(|(resource, _)| resource)
}

/// Marks the rows that a recorded outcome speaks of.
async fn settle(tx: &mut ReadTx, notice: &Notice, state: &'static str, error: Option<&str>) -> Applied {
    let update = "UPDATE notices{g} SET state = $1, error = $2, notice = $3, attempts = $4, outcome = NULL, forced = 0, \
                  next_attempt_at = NULL WHERE cause = $5 AND channel = $6 AND recipient = $7 AND state <> 'sent'";
    for cause in &notice.covers {
        for recipient in &notice.recipients {
            let values = [
                SqlValue::Static(state),
                error.map(str::to_owned).into(),
                SqlValue::Uuid(notice.notice.as_uuid()),
                SqlValue::I64(notice.attempt.into()),
                SqlValue::Uuid(cause.as_uuid()),
                SqlValue::Static(notice.channel.as_str()),
                SqlValue::Uuid(recipient.as_uuid()),
            ];
            tx.execute(update, &values).await?;
        }
    }
    Ok(())
}

/// Makes given-up notices pending again, immediately and regardless of their age.
async fn owe_again(tx: &mut ReadTx, notice: &Notice) -> Applied {
    let update = "UPDATE notices{g} SET state = 'owed', outcome = NULL, attempts = 0, forced = 1, next_attempt_at = NULL \
                  WHERE cause = $1 AND channel = $2 AND recipient = $3 AND state = 'failed'";
    for cause in &notice.covers {
        for recipient in &notice.recipients {
            let values = [
                SqlValue::Uuid(cause.as_uuid()),
                SqlValue::Static(notice.channel.as_str()),
                SqlValue::Uuid(recipient.as_uuid()),
            ];
            tx.execute(update, &values).await?;
        }
    }
    Ok(())
}

pub(super) async fn customer_facts(
    tx: &mut ReadTx,
    customer: CustomerId,
) -> Result<Option<CustomerFacts>, ConsumerError> {
    let select = "SELECT facts FROM notify_customers{g} WHERE customer = $1";
    let row = tx.query_one(select, &[SqlValue::Uuid(customer.as_uuid())]).await?;
    row.map(|row| from_json(row.text(0)?)).transpose()
}

pub(super) async fn policy_facts(tx: &mut ReadTx, policy: PolicyId) -> Result<Option<PolicyFacts>, ConsumerError> {
    let select = "SELECT facts FROM notify_policies{g} WHERE policy = $1";
    let row = tx.query_one(select, &[SqlValue::Uuid(policy.as_uuid())]).await?;
    row.map(|row| from_json(row.text(0)?)).transpose()
}

/// Policies in force for a customer's resources on an offering, oldest first.
async fn applying(
    tx: &mut ReadTx,
    offering: OfferingId,
    customer: Option<&CustomerFacts>,
) -> Result<Vec<Arc<PolicyFacts>>, ConsumerError> {
    let select = "SELECT facts FROM notify_policies{g} WHERE offering = $1 AND deleted = 0 ORDER BY created, policy";
    let nowhere = BTreeSet::new();
    let groups = customer.map_or(&nowhere, |c| &c.groups);
    let mut found = Vec::new();
    for row in tx.query(select, &[SqlValue::Uuid(offering.as_uuid())]).await? {
        let facts: PolicyFacts = from_json(row.text(0)?)?;
        let in_scope = match &facts.scope {
            Scope::All => true,
            Scope::Groups(wanted) => groups.intersection(wanted).next().is_some(),
        };
        if facts.terms.enabled && in_scope {
            found.push(Arc::new(facts));
        }
    }
    Ok(found)
}

#[async_trait]
impl Consumer<Event> for NotifyConsumer {
    fn name(&self) -> &'static str {
        CONSUMER
    }

    fn tables(&self) -> &'static [&'static str] {
        &["notices", "notify_policies", "notify_customers", "notify_resources"]
    }

    fn interested(&self, event_type: &str) -> bool {
        INTERESTING.contains(&event_type)
    }

    async fn apply(&mut self, tx: &mut ReadTx, batch: &[Decoded<Event>]) -> Result<(), ConsumerError> {
        let known = Known::of(tx, batch.iter().filter_map(concerned).collect()).await?;
        let mut writing = Batch { known, owed: Vec::new(), resources: Vec::new() };
        for decoded in batch {
            match &decoded.event {
                Event::Registry(event) => {
                    Self::registry(tx, &mut writing.known, &decoded.recorded, event).await?;
                }
                Event::Allocation(event) => self.allocation(tx, &mut writing, &decoded.recorded, event).await?,
                Event::Site(_) | Event::Agent(_) => {}
            }
        }
        let insert = "INSERT INTO notify_resources{g} (resource, offering, customer)";
        tx.insert_many(insert, 3, std::mem::take(&mut writing.resources), "ON CONFLICT DO NOTHING").await?;
        self.write(tx, &mut writing).await
    }

    fn committed(&mut self) {
        if std::mem::take(&mut self.owed) {
            self.wake.notify_one();
        }
    }
}
