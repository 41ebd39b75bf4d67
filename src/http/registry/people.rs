//! Owners and members: named by user name or id in requests, resolved by the directory in answers.
//!
//! A caller may name any visible person. An invisible person named by exact user name, whether that user exists or not,
//! becomes pending: no team, no mail, no address, until the person or staff confirms. Only staff and the person set
//! addresses and full names.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use utoipa::ToSchema;

use crate::directory::{Role, UserDetails, UserRecord};
use crate::domain::ids::{CustomerId, OfferingId, ProjectId, UserId, slug_uuid};
use crate::domain::text::{NAME, USERNAME};
use crate::http::context::Context;
use crate::http::error::ApiError;
use crate::http::fields::{self, Fields};
use crate::http::json::Json;
use crate::http::reference::uuid_in;
use crate::http::resolve::NO_SUCH_OBJECT;
use crate::registry::ResourceEntry;

/// People in one list at most.
const PEOPLE_MAX: usize = 1_000;

/// Somebody, as the API shows them beside an object.
#[derive(Debug, Serialize, ToSchema)]
pub struct Person {
    uuid: String,
    url: String,
    username: String,
    /// Empty of somebody pending.
    full_name: String,
    /// For staff and the person.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    /// Named by somebody who may not see them, and not yet confirmed: the membership has no effect.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pending: bool,
}

/// Somebody, as a request names them.
#[derive(Debug, Clone, ToSchema)]
#[schema(as = PersonRequest)]
pub struct Named {
    /// User name.
    #[schema(min_length = 1, max_length = 150, pattern = r"^\s*\S+\s*$")]
    pub username: String,
    /// Mail address; for staff and the person.
    #[schema(max_length = 320)]
    pub email: Option<String>,
    /// Full name; for staff and the person.
    #[schema(max_length = 255)]
    pub full_name: Option<String>,
    /// As in our answers: it leaves somebody who is pending as they are.
    pub pending: Option<bool>,
    #[schema(ignore)]
    id: Option<UserId>,
}

/// Who is part of something, and who is to be once it is confirmed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct People {
    /// Who is.
    pub confirmed: BTreeSet<UserId>,
    /// Who is to be.
    pub pending: BTreeSet<UserId>,
}

/// Reads one person: a user name, an id or address of a user, or an object with `username`, `email`, `full_name`.
fn named(value: &Json) -> Result<Named, String> {
    let plain = |username: String, id| Named { username, email: None, full_name: None, pending: None, id };
    match value {
        Json::Text(text) => match uuid_in(text) {
            Some(id) => Ok(plain(String::new(), Some(id.into()))),
            None => Ok(plain(fields::text(USERNAME)(value)?, None)),
        },
        Json::Object(object) => {
            fields::only(object, &["email", "full_name", "pending", "url", "username", "uuid"])?;
            let given = |name: &str| object.get(name).filter(|value| **value != Json::Null);
            let at = |name: &'static str| move |message: String| format!("{name}: {message}");
            let username = object.get("username").ok_or("username: This field is required.")?;
            Ok(Named {
                username: fields::text(USERNAME)(username).map_err(at("username"))?,
                email: given("email").map(fields::address).transpose().map_err(at("email"))?,
                full_name: given("full_name")
                    .map(fields::maybe_words(NAME.max))
                    .transpose()
                    .map_err(at("full_name"))?,
                pending: given("pending").map(fields::boolean).transpose().map_err(at("pending"))?,
                id: None,
            })
        }
        other => Err(format!(
            "Expected a user name or an object with username, email and full_name, but got {}.",
            other.kind()
        )),
    }
}

/// Reads a list of people, if it was sent.
pub fn read(fields: &mut Fields, name: &str) -> Option<Vec<Named>> {
    fields.optional(name, fields::list(PEOPLE_MAX, named))
}

/// Whom a caller may see, by the people of their organisations and the teams of the resources that they provide.
fn visible_to(ctx: &Context) -> BTreeSet<UserId> {
    let state = ctx.app.registry.read();
    let visibility = ctx.visibility_in(&state);
    let mut seen = BTreeSet::from([ctx.caller.user]);
    let mut projects: BTreeSet<ProjectId> = BTreeSet::new();
    let mut customers: BTreeSet<CustomerId> = visibility.customers.clone();
    let own = state.projects().filter(|p| visibility.customers.contains(&p.facts.customer));
    projects.extend(own.map(|p| p.facts.project));
    let offered: BTreeSet<OfferingId> =
        state.offerings().map(|o| &o.facts.facts).filter(|o| visibility.offering(o)).map(|o| o.offering).collect();
    let provided = |entry: &&ResourceEntry| entry.state.is_live() && offered.contains(&entry.offering);
    for entry in state.resources().map(|(_, entry)| entry).filter(provided) {
        projects.insert(entry.project);
        customers.insert(entry.customer);
    }
    seen.extend(projects.into_iter().filter_map(|id| state.project(id)).flat_map(|p| &p.facts.members));
    seen.extend(customers.into_iter().filter_map(|id| state.customer(id)).flat_map(|c| &c.facts.owners));
    seen
}

/// Who is to be part of something after a request that names these. What the request says of a person beside the name, only
/// staff and the person may say.
pub async fn resolve(ctx: &Context, field: &str, people: &[Named], current: &People) -> Result<People, ApiError> {
    let seen = if ctx.is_staff() { BTreeSet::new() } else { visible_to(ctx) };
    let mut wanted = People::default();
    let mut entries = Vec::with_capacity(people.len());
    for (index, person) in people.iter().enumerate() {
        let refused = |message: &str| ApiError::field(field, format!("Item {}: {message}", index + 1));
        let known = match person.id {
            Some(id) => ctx.app.directory.user(id).await,
            None => ctx.app.directory.user_by_username(&person.username).await,
        };
        let known = known.map_err(ApiError::internal)?;
        let id = known.as_ref().map_or_else(|| slug_uuid("user", &person.username).into(), |user| user.id);
        let stranger = !ctx.is_staff() && !seen.contains(&id) && !current.confirmed.contains(&id);
        if person.id.is_some() && (known.is_none() || (stranger && !current.pending.contains(&id))) {
            return Err(refused(NO_SUCH_OBJECT));
        }
        if !ctx.is_staff() && id != ctx.caller.user {
            if person.email.is_some() {
                return Err(refused("email: Only staff and the person set an address."));
            }
            // A name as it was read is no change; of a stranger nothing was read.
            let shown = known.as_ref().filter(|_| !stranger).map_or("", |user| user.full_name.as_str());
            if person.full_name.as_deref().is_some_and(|name| name != shown) {
                return Err(refused("full_name: Only staff and the person set a full name."));
            }
        }
        entries.extend(entry(ctx, person, id, known));
        let stays_pending = person.pending == Some(true) && current.pending.contains(&id);
        let into = if stranger || stays_pending { &mut wanted.pending } else { &mut wanted.confirmed };
        into.insert(id);
    }
    // Nothing is kept of a request of which a part is refused.
    for entry in &entries {
        ctx.app.directory.put_user(entry, ctx.app.clock.now()).await.map_err(ApiError::internal)?;
    }
    wanted.pending.retain(|id| !wanted.confirmed.contains(id));
    Ok(wanted)
}

/// The entry in the directory, where there is something new.
fn entry(ctx: &Context, person: &Named, id: UserId, known: Option<UserRecord>) -> Option<UserDetails> {
    let says_more = person.email.is_some() || person.full_name.is_some();
    let may_say = ctx.is_staff() || id == ctx.caller.user;
    if known.is_some() && !(says_more && may_say) {
        return None;
    }
    let username = known.as_ref().map_or_else(|| person.username.clone(), |user| user.username.clone());
    let (email, full_name) = known.map_or((None, String::new()), |user| (user.email, user.full_name));
    Some(UserDetails {
        id,
        username,
        email: person.email.clone().or(email),
        full_name: person.full_name.clone().unwrap_or(full_name),
    })
}

/// Everybody in these sets, from the directory.
pub async fn known<'a>(
    ctx: &Context,
    sets: impl Iterator<Item = &'a BTreeSet<UserId>>,
) -> Result<HashMap<UserId, UserRecord>, ApiError> {
    let ids: Vec<UserId> = sets.flatten().copied().collect::<BTreeSet<_>>().into_iter().collect();
    ctx.app.directory.users(&ids).await.map_err(ApiError::internal)
}

/// Shows those of an organisation's people whom the caller may see: all of them to staff, support and the organisation's
/// owners, to others themselves.
pub fn show(
    ctx: &Context,
    owners: Option<&BTreeSet<UserId>>,
    confirmed: &BTreeSet<UserId>,
    pending: &BTreeSet<UserId>,
    users: &HashMap<UserId, UserRecord>,
) -> Vec<Person> {
    let all = match ctx.caller.role {
        Role::Staff | Role::Support => true,
        Role::Owner => owners.is_some_and(|owners| owners.contains(&ctx.caller.user)),
        Role::Member | Role::Agent => false,
    };
    let person = |user: &UserRecord, pending: bool| Person {
        uuid: user.id.to_string(),
        url: ctx.url("users", user.id),
        username: user.username.clone(),
        full_name: if pending { String::new() } else { user.full_name.clone() },
        email: address_for(ctx, user).filter(|_| !pending),
        pending,
    };
    let shown = |ids: &BTreeSet<UserId>, pending: bool| -> Vec<Person> {
        let seen = ids.iter().filter(|id| all || **id == ctx.caller.user);
        seen.filter_map(|id| users.get(id)).map(|user| person(user, pending)).collect()
    };
    let mut people = shown(confirmed, false);
    people.extend(shown(pending, true));
    people.sort_by(|one, other| one.username.cmp(&other.username));
    people
}

/// Somebody's mail address, for staff and the person.
pub fn address_for(ctx: &Context, user: &UserRecord) -> Option<String> {
    let may = ctx.caller.role == Role::Staff || user.id == ctx.caller.user;
    user.email.clone().filter(|_| may)
}
