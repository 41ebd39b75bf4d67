//! Applies a batch of events to the registry's tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{IN_GROUP, Kind, MEMBER, OWNER};
use crate::domain::tres::Amounts;
use crate::events::Event;
use crate::events::agent::AgentEvent;
use crate::events::allocation::{AllocationEvent, ResourceState};
use crate::events::registry::RegistryEvent;
use crate::projections::kit::{Mark, book_of, flag_bits, in_list, month_code, query_in};
use crate::store::consumer::Decoded;
use crate::store::sql::{ReadTx, SqlError, SqlRow, SqlValue};

static RESOURCES: LazyLock<String> = LazyLock::new(|| {
    in_list(
        "SELECT id, slug, name, offering, project, customer, backend_id, limits, state, flags, book, born_at, modified_at \
         FROM registry_resources{g} WHERE id IN",
        "",
    )
});

/// The place of a state in the list of states.
pub(super) fn state_code(state: ResourceState) -> i64 {
    ResourceState::ALL.iter().zip(0..).find(|(known, _)| **known == state).map_or(-1, |(_, code)| code)
}

struct Resource {
    order: usize,
    id: Uuid,
    slug: String,
    name: String,
    offering: Uuid,
    project: Uuid,
    customer: Uuid,
    backend_id: String,
    limits: String,
    state: i64,
    flags: i64,
    book: i64,
    born_at: DateTime<Utc>,
    modified_at: DateTime<Utc>,
}

/// Amounts by component as JSON.
fn limits_text(limits: &Amounts) -> String {
    let entries = limits.iter().map(|(component, amount)| (component.clone(), amount.to_string().into()));
    serde_json::Value::Object(entries.collect()).to_string()
}

impl Resource {
    fn read(row: &SqlRow) -> Result<Self, SqlError> {
        Ok(Self {
            order: 0,
            id: row.uuid(0)?,
            slug: row.text(1)?.to_owned(),
            name: row.text(2)?.to_owned(),
            offering: row.uuid(3)?,
            project: row.uuid(4)?,
            customer: row.uuid(5)?,
            backend_id: row.text(6)?.to_owned(),
            limits: row.text(7)?.to_owned(),
            state: row.i64(8)?,
            flags: row.i64(9)?,
            book: row.i64(10)?,
            born_at: row.time(11)?,
            modified_at: row.time(12)?,
        })
    }

    fn change(&mut self, event: &AllocationEvent, book: i64, at: DateTime<Utc>) {
        self.book = self.book.max(book);
        match event {
            AllocationEvent::LimitsChanged(changed) => self.limits = limits_text(&changed.limits),
            AllocationEvent::ResourceDetailsChanged(changed) => {
                self.name.clone_from(&changed.name);
                self.backend_id.clone_from(&changed.backend_id);
            }
            AllocationEvent::ResourceStateChanged(changed) => self.state = state_code(changed.to),
            AllocationEvent::RestrictionChanged(changed) => self.flags = flag_bits(changed.to),
            _ => return,
        }
        self.modified_at = at;
    }

    fn values(self) -> [SqlValue; 13] {
        [
            SqlValue::Uuid(self.id),
            self.slug.into(),
            self.name.into(),
            SqlValue::Uuid(self.offering),
            SqlValue::Uuid(self.project),
            SqlValue::Uuid(self.customer),
            self.backend_id.into(),
            self.limits.into(),
            self.state.into(),
            self.flags.into(),
            self.book.into(),
            self.born_at.into(),
            self.modified_at.into(),
        ]
    }
}

/// Resources: those that the batch touches are read, changed in memory and written once.
pub(super) async fn resources(tx: &mut ReadTx, events: &[&Decoded<Event>]) -> Result<(), SqlError> {
    let ids: BTreeSet<Uuid> =
        events.iter().filter_map(|e| book_of(&e.recorded.stream)).map(|(id, _)| id.as_uuid()).collect();
    let keys: Vec<SqlValue> = ids.into_iter().map(SqlValue::Uuid).collect();
    let mut known: BTreeMap<Uuid, Resource> = BTreeMap::new();
    for row in query_in(tx, &RESOURCES, &keys).await? {
        known.insert(row.uuid(0)?, Resource::read(&row)?);
    }
    for (order, event) in events.iter().enumerate() {
        let (Some((id, month)), Event::Allocation(allocation)) = (book_of(&event.recorded.stream), &event.event) else {
            continue;
        };
        let (id, book, at) = (id.as_uuid(), month_code(month), event.recorded.occurred_at);
        if let AllocationEvent::ResourceRegistered(registered) = allocation {
            let facts = &registered.facts;
            known.entry(id).or_insert_with(|| Resource {
                order,
                id,
                slug: facts.slug.clone(),
                name: facts.name.clone(),
                offering: facts.offering.as_uuid(),
                project: facts.project.as_uuid(),
                customer: facts.customer.as_uuid(),
                backend_id: facts.backend_id.clone(),
                limits: limits_text(&facts.limits),
                state: state_code(facts.state),
                flags: 0,
                book,
                born_at: facts.created,
                modified_at: at,
            });
        } else if let Some(resource) = known.get_mut(&id) {
            resource.change(allocation, book, at);
        }
    }
    // The table numbers new rows in the order in which they come.
    let mut changed: Vec<Resource> = known.into_values().collect();
    changed.sort_by_key(|resource| resource.order);
    let rows: Vec<SqlValue> = changed.into_iter().flat_map(Resource::values).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let insert = "INSERT INTO registry_resources{g} (id, slug, name, offering, project, customer, backend_id, limits, \
                  state, flags, book, born_at, modified_at)";
    let update = "ON CONFLICT (id) DO UPDATE SET name = excluded.name, backend_id = excluded.backend_id, \
                  limits = excluded.limits, state = excluded.state, flags = excluded.flags, book = excluded.book, \
                  modified_at = excluded.modified_at";
    tx.insert_many(insert, 13, rows, update).await?;
    Ok(())
}

/// An object as its newest event describes it.
struct Object {
    kind: Kind,
    id: Uuid,
    slug: String,
    name: String,
    parent: Option<Uuid>,
    gone: bool,
    links: Vec<(i64, Uuid)>,
}

fn object(event: &RegistryEvent) -> Option<Object> {
    let plain = |kind, id, slug: &str, name: &str, parent, gone| Object {
        kind,
        id,
        slug: slug.to_owned(),
        name: name.to_owned(),
        parent,
        gone,
        links: Vec::new(),
    };
    Some(match event {
        RegistryEvent::GroupRegistered(f) | RegistryEvent::GroupChanged(f) => {
            plain(Kind::Group, f.group.as_uuid(), &f.slug, &f.name, None, f.retired)
        }
        RegistryEvent::CustomerRegistered(f) | RegistryEvent::CustomerChanged(f) => Object {
            links: f
                .owners
                .iter()
                .map(|owner| (OWNER, owner.as_uuid()))
                .chain(f.groups.iter().map(|group| (IN_GROUP, group.as_uuid())))
                .collect(),
            ..plain(Kind::Customer, f.customer.as_uuid(), &f.slug, &f.name, None, f.retired)
        },
        RegistryEvent::ProjectRegistered(f) | RegistryEvent::ProjectChanged(f) => Object {
            links: f.members.iter().map(|member| (MEMBER, member.as_uuid())).collect(),
            ..plain(Kind::Project, f.project.as_uuid(), &f.slug, &f.name, Some(f.customer.as_uuid()), f.retired)
        },
        RegistryEvent::OfferingRegistered(f) | RegistryEvent::OfferingChanged(f) => {
            plain(Kind::Offering, f.offering.as_uuid(), &f.slug, &f.name, Some(f.customer.as_uuid()), f.retired)
        }
        RegistryEvent::PolicyCreated(f) | RegistryEvent::PolicyChanged(f) => {
            plain(Kind::Policy, f.policy.as_uuid(), &f.slug, "", Some(f.offering.as_uuid()), false)
        }
        RegistryEvent::PolicyDeleted(_) | RegistryEvent::EvaluationRequested(_) => return None,
    })
}

/// A part of an agent; all parts are under the agent itself.
fn agent_part(event: &AgentEvent) -> Option<Object> {
    let part = |kind, id, name: &str, parent| Object {
        kind,
        id,
        slug: String::new(),
        name: name.to_owned(),
        parent: Some(parent),
        gone: false,
        links: Vec::new(),
    };
    Some(match event {
        AgentEvent::IdentityRegistered(f) | AgentEvent::IdentityChanged(f) => {
            part(Kind::Agent, f.agent.as_uuid(), &f.name, f.offering.as_uuid())
        }
        AgentEvent::ServiceRegistered(f) => part(Kind::AgentService, f.service.as_uuid(), &f.name, f.agent.as_uuid()),
        AgentEvent::ProcessorRegistered(f) => {
            part(Kind::AgentProcessor, f.processor.as_uuid(), &f.name, f.agent.as_uuid())
        }
        AgentEvent::SubscriptionRegistered(f) => {
            part(Kind::AgentSubscription, f.subscription.as_uuid(), &f.object_type, f.agent.as_uuid())
        }
        AgentEvent::QueueRegistered(f) => part(Kind::AgentQueue, f.consumer.as_uuid(), &f.queue, f.agent.as_uuid()),
        AgentEvent::IdentityRemoved(_) => return None,
    })
}

/// Objects are few and seldom change: one by one.
pub(super) async fn objects(tx: &mut ReadTx, mark: &mut Mark, events: &[&Decoded<Event>]) -> Result<(), SqlError> {
    for event in events {
        let recorded = &event.recorded;
        let (found, payload) = match &event.event {
            Event::Registry(registry) => {
                if let RegistryEvent::PolicyDeleted(deleted) = registry {
                    let update =
                        "UPDATE registry_objects{g} SET gone = 1, modified_at = $2 WHERE id = $1 AND kind = $3";
                    let (id, kind) = (SqlValue::Uuid(deleted.policy.as_uuid()), Kind::Policy.code());
                    let values = [id, recorded.occurred_at.into(), kind.into()];
                    tx.execute(update, &values).await?;
                }
                (object(registry), registry.payload())
            }
            Event::Agent(agent) => {
                if let AgentEvent::IdentityRemoved(removed) = agent {
                    let update = "UPDATE registry_objects{g} SET gone = 1, modified_at = $2 \
                                  WHERE (id = $1 AND kind = $3) OR (parent = $1 AND kind > $3)";
                    let (id, kind) = (SqlValue::Uuid(removed.agent.as_uuid()), Kind::Agent.code());
                    let values = [id, recorded.occurred_at.into(), kind.into()];
                    tx.execute(update, &values).await?;
                }
                (agent_part(agent), agent.payload())
            }
            Event::Allocation(_) | Event::Site(_) => continue,
        };
        let Some(object) = found else { continue };
        // Callers may choose the id of a new object, and logs hold objects of two kinds with the same id.
        let find = "SELECT no FROM registry_objects{g} WHERE id = $1 AND kind = $2";
        let known = tx.query_one(find, &[SqlValue::Uuid(object.id), object.kind.code().into()]).await?;
        let no = known.map_or_else(|| Ok(mark.number()), |row| row.i64(0))?;
        let values = [
            no.into(),
            object.kind.code().into(),
            SqlValue::Uuid(object.id),
            object.slug.into(),
            object.name.into(),
            object.parent.into(),
            object.gone.into(),
            recorded.version.cast_signed().into(),
            payload.into(),
            recorded.occurred_at.into(),
            recorded.metadata.actor.id.into(),
        ];
        let upsert = "INSERT INTO registry_objects{g} (no, kind, id, slug, name, parent, gone, version, facts, created_at, \
                      created_by, modified_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $10) \
                      ON CONFLICT (id, kind) DO UPDATE SET slug = excluded.slug, name = excluded.name, \
                      parent = excluded.parent, gone = excluded.gone, version = excluded.version, \
                      facts = excluded.facts, modified_at = excluded.modified_at";
        tx.execute(upsert, &values).await?;
        let roles = match object.kind {
            Kind::Customer => Some([OWNER, IN_GROUP]),
            Kind::Project => Some([MEMBER, MEMBER]),
            _ => None,
        };
        if let Some([one, other]) = roles {
            let drop = "DELETE FROM registry_links{g} WHERE object = $1 AND role IN ($2, $3)";
            tx.execute(drop, &[SqlValue::Uuid(object.id), one.into(), other.into()]).await?;
            let link = |(role, other)| [SqlValue::Uuid(object.id), SqlValue::I64(role), SqlValue::Uuid(other)];
            let rows: Vec<SqlValue> = object.links.into_iter().flat_map(link).collect();
            if !rows.is_empty() {
                tx.insert_many("INSERT INTO registry_links{g} (object, role, other)", 3, rows, "").await?;
            }
        }
    }
    Ok(())
}
