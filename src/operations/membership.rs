//! Pending members and owners: people named by somebody who may not see them, whose membership takes effect only when
//! the person or staff confirms it.

use uuid::Uuid;

use crate::commands::execute::CommandMeta;
use crate::commands::registry::{RegistryCommands, RegistryError};
use crate::domain::ids::{CustomerId, ProjectId, UserId, slug_uuid};
use crate::events::envelope::Position;
use crate::events::registry::{CustomerFacts, ProjectFacts};
use crate::registry::RegistryState;

/// What somebody is to belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Belonging {
    /// An organisation, as an owner.
    Owner(CustomerId),
    /// A project, as a member.
    Member(ProjectId),
}

/// A membership that nobody has confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Its id: the same as long as it is pending.
    pub id: Uuid,
    /// As what, and where.
    pub belonging: Belonging,
    /// The organisation that it is about.
    pub customer: CustomerId,
    /// The name of the organisation or project.
    pub name: String,
    /// Who.
    pub user: UserId,
}

/// Every pending membership: of organisations first, then of projects, each in the order of their names.
pub fn pending(state: &RegistryState) -> Vec<Pending> {
    let row = |belonging, object: Uuid, customer, name: &str, user: UserId| Pending {
        id: slug_uuid("pending_membership", &format!("{}/{user}", object.as_simple())),
        belonging,
        customer,
        name: name.to_owned(),
        user,
    };
    let of_customer = |facts: &CustomerFacts| -> Vec<Pending> {
        let (id, name) = (facts.customer, facts.name.as_str());
        facts.pending.iter().map(|user| row(Belonging::Owner(id), id.as_uuid(), id, name, *user)).collect()
    };
    let of_project = |facts: &ProjectFacts| -> Vec<Pending> {
        let (id, customer, name) = (facts.project, facts.customer, facts.name.as_str());
        facts.pending.iter().map(|user| row(Belonging::Member(id), id.as_uuid(), customer, name, *user)).collect()
    };
    let customers = state.customers().filter(|c| !c.facts.retired).flat_map(|c| of_customer(&c.facts));
    let projects = state.projects().filter(|p| !p.facts.retired).flat_map(|p| of_project(&p.facts));
    let mut all: Vec<Pending> = customers.chain(projects).collect();
    all.sort_by(|one, other| {
        let kind = |pending: &Pending| matches!(pending.belonging, Belonging::Member(_));
        (kind(one), &one.name, one.id).cmp(&(kind(other), &other.name, other.id))
    });
    all
}

/// Makes a pending membership one that counts, or drops it. Nothing where it is pending no longer.
///
/// # Errors
/// It could not be recorded.
pub async fn settle(
    commands: &RegistryCommands,
    pending: &Pending,
    confirmed: bool,
    meta: &CommandMeta,
) -> Result<Option<Position>, RegistryError> {
    let user = pending.user;
    match pending.belonging {
        Belonging::Owner(customer) => {
            let wanted = |current: Option<&CustomerFacts>| {
                let mut facts = current.ok_or(RegistryError::Missing("customer"))?.clone();
                if facts.pending.remove(&user) && confirmed {
                    facts.owners.insert(user);
                }
                Ok(facts)
            };
            Ok(commands.put_customer(customer, meta, wanted).await?.position)
        }
        Belonging::Member(project) => {
            let wanted = |current: Option<&ProjectFacts>| {
                let mut facts = current.ok_or(RegistryError::Missing("project"))?.clone();
                if facts.pending.remove(&user) && confirmed {
                    facts.members.insert(user);
                }
                Ok(facts)
            };
            Ok(commands.put_project(project, meta, wanted).await?.position)
        }
    }
}
