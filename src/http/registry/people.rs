//! Owners and members: named by user name or id in requests, resolved by the directory in answers.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use utoipa::ToSchema;

use crate::directory::{Role, UserDetails, UserRecord};
use crate::domain::ids::{UserId, slug_uuid};
use crate::http::context::Context;
use crate::http::error::ApiError;
use crate::http::fields::{self, Fields};
use crate::http::json::Json;
use crate::http::policies::is_address;
use crate::http::reference::uuid_in;

/// People in one list at most.
const PEOPLE_MAX: usize = 1_000;

/// Somebody, as the API shows them beside an object.
#[derive(Debug, Serialize, ToSchema)]
pub struct Person {
    uuid: String,
    url: String,
    username: String,
    full_name: String,
    /// For staff, support and owners.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
}

/// Somebody, as a request names them.
#[derive(Debug, Clone, ToSchema)]
#[schema(as = PersonRequest)]
pub struct Named {
    /// User name.
    pub username: String,
    /// Mail address.
    pub email: Option<String>,
    /// Full name.
    pub full_name: Option<String>,
    #[schema(ignore)]
    id: Option<UserId>,
}

/// Reads one person: a user name, an id or address of a user, or an object with `username`, `email`, `full_name`.
fn named(value: &Json) -> Result<Named, String> {
    match value {
        Json::Text(text) => match uuid_in(text) {
            Some(id) => Ok(Named { username: String::new(), email: None, full_name: None, id: Some(id.into()) }),
            None => Ok(Named { username: fields::words(150)(value)?, email: None, full_name: None, id: None }),
        },
        Json::Object(object) => {
            let username = object.get("username").ok_or("username: This field is required.")?;
            let email = object.get("email").filter(|v| **v != Json::Null).map(fields::words(320)).transpose()?;
            if let Some(email) = email.as_deref().filter(|email| !is_address(email)) {
                return Err(format!("email: Enter a valid email address: {email:?} is none."));
            }
            let full_name = object.get("full_name").filter(|v| **v != Json::Null);
            Ok(Named {
                username: fields::words(150)(username).map_err(|m| format!("username: {m}"))?,
                email,
                full_name: full_name
                    .map(fields::maybe_words(255))
                    .transpose()
                    .map_err(|m| format!("full_name: {m}"))?,
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
    let people = fields.optional(name, fields::list(named))?;
    if people.len() > PEOPLE_MAX {
        fields.errors.add(name, format!("{} people are given: at most {PEOPLE_MAX} are allowed.", people.len()));
    }
    Some(people)
}

/// Their ids. Somebody new gets an entry in the directory; what is known of somebody else only staff may change.
pub async fn ids(ctx: &Context, field: &str, people: &[Named]) -> Result<BTreeSet<UserId>, ApiError> {
    let directory = &ctx.app.directory;
    let mut ids = BTreeSet::new();
    for person in people {
        let known = match person.id {
            Some(id) => directory.user(id).await,
            None => directory.user_by_username(&person.username).await,
        };
        let known = known.map_err(ApiError::internal)?;
        if known.is_none() && person.id.is_some() {
            return Err(ApiError::field(field, "Invalid hyperlink - Object does not exist."));
        }
        let id = known.as_ref().map_or_else(|| slug_uuid("user", &person.username).into(), |user| user.id);
        let says_more = person.email.is_some() || person.full_name.is_some();
        if known.is_none() || (says_more && ctx.is_staff()) {
            let (email, full_name) = known.map_or((None, String::new()), |user| (user.email, user.full_name));
            let details = UserDetails {
                id,
                username: person.username.clone(),
                email: person.email.clone().or(email),
                full_name: person.full_name.clone().unwrap_or(full_name),
            };
            directory.put_user(&details, ctx.app.clock.now()).await.map_err(ApiError::internal)?;
        }
        ids.insert(id);
    }
    Ok(ids)
}

/// Everybody in these sets, from the directory.
pub async fn known<'a>(
    ctx: &Context,
    sets: impl Iterator<Item = &'a BTreeSet<UserId>>,
) -> Result<HashMap<UserId, UserRecord>, ApiError> {
    let ids: Vec<UserId> = sets.flatten().copied().collect::<BTreeSet<_>>().into_iter().collect();
    ctx.app.directory.users(&ids).await.map_err(ApiError::internal)
}

/// Shows people.
pub fn show(ctx: &Context, ids: &BTreeSet<UserId>, users: &HashMap<UserId, UserRecord>) -> Vec<Person> {
    let with_email = matches!(ctx.caller.role, Role::Staff | Role::Support | Role::Owner);
    let mut people: Vec<Person> = ids
        .iter()
        .filter_map(|id| users.get(id))
        .map(|user| Person {
            uuid: user.id.to_string(),
            url: ctx.url("users", user.id),
            username: user.username.clone(),
            full_name: user.full_name.clone(),
            email: user.email.clone().filter(|_| with_email),
        })
        .collect();
    people.sort_by(|one, other| one.username.cmp(&other.username));
    people
}
