//! People and tokens of a site file.

use std::fmt;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::file::instant;
use super::yaml::{At, Fields, Given, Node, Value};
use crate::directory::{Role, key_complaint};
use crate::domain::ids::{UserId, slug_uuid};
use crate::domain::text::{Address, NAME, USERNAME};

/// Somebody named in the file. A key left out leaves what the directory has.
#[derive(Debug, Clone)]
pub(super) struct PersonSpec {
    pub(super) username: At<String>,
    pub(super) email: Given<String>,
    pub(super) full_name: Given<String>,
}

impl PersonSpec {
    pub(super) fn id(&self) -> UserId {
        slug_uuid("user", &self.username.value).into()
    }
}

/// Where a token's key comes from.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum KeySource {
    /// The file or the environment has it.
    Given(String),
    /// The file names a variable that is not set.
    Unset(String),
    /// It is made and shown once.
    Made,
}

// By hand, so that no key ever reaches a log.
impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Given(_) => "Given",
            Self::Unset(_) => "Unset",
            Self::Made => "Made",
        })
    }
}

#[derive(Debug, Clone)]
pub(super) struct TokenSpec {
    pub(super) user: PersonSpec,
    pub(super) role: Role,
    pub(super) offering: Option<At<String>>,
    pub(super) key: KeySource,
    pub(super) label: Option<String>,
    pub(super) expires_at: Option<DateTime<Utc>>,
    pub(super) line: u64,
    pub(super) path: String,
}

impl TokenSpec {
    /// What it is called in a plan.
    pub(super) fn title(&self) -> String {
        match &self.offering {
            Some(offering) => format!("{} ({} of {})", self.user.username.value, self.role, offering.value),
            None => format!("{} ({})", self.user.username.value, self.role),
        }
    }
}

/// A list of persons: mappings, or bare user names.
pub(super) fn read_people(fields: &mut Fields<'_>, key: &'static str) -> Given<Vec<PersonSpec>> {
    let problems = fields.problems;
    fields.list(key).map(|items| {
        let read = |(node, path): (&Node, String)| {
            if let Value::Scalar { .. } = node.value {
                let username = super::yaml::text_of(node, path, problems)?;
                check_username(&username, problems);
                return Some(PersonSpec { username, email: Given::Absent, full_name: Given::Absent });
            }
            let mut fields = Fields::of(node, path, problems)?;
            let person = read_person(&mut fields);
            fields.finish();
            person
        };
        items.into_iter().filter_map(read).collect()
    })
}

fn read_person(fields: &mut Fields<'_>) -> Option<PersonSpec> {
    let username = fields.required("username");
    let email = fields.text("email");
    let full_name = fields.text_of(NAME, "full_name").map(|at| at.value);
    if let Some(at) = email.value()
        && let Err(problem) = Address::parse(&at.value)
    {
        fields.problems.at(at, problem.to_string());
    }
    let username = username?;
    check_username(&username, fields.problems);
    Some(PersonSpec { username, email: email.map(|at| at.value), full_name })
}

fn check_username(username: &At<String>, problems: &super::yaml::Problems) {
    if let Err(problem) = USERNAME.read(&username.value) {
        let max = USERNAME.max;
        let message = format!(
            "{:?} is no user name: 1 to {max} characters without blanks are allowed: {problem}",
            username.value
        );
        problems.at(username, message);
    }
}

pub(super) fn read_token(
    fields: &mut Fields<'_>,
    zone: Tz,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Option<TokenSpec> {
    let user = fields.required("user");
    let role = fields.word("role", Role::parse, "one of staff, support, owner, member, agent is allowed");
    let offering = fields.text("offering");
    let (key, key_env) = (fields.text("key"), fields.text("key_env"));
    let label = fields.text_of(NAME, "label").value().map(|at| at.value.clone());
    let expires_at = instant(fields, "expires_at", zone).value().map(|at| at.value);
    let problems = fields.problems;
    if key.value().is_some() && key_env.value().is_some() {
        problems.add(fields.line, &*fields.path, "key and key_env are both given: one of them is allowed");
    }
    let source = match (&key, &key_env) {
        (Given::Value(key), _) => KeySource::Given(key.value.clone()),
        (_, Given::Value(name)) => {
            variable(&name.value).map_or_else(|| KeySource::Unset(name.value.clone()), KeySource::Given)
        }
        _ => KeySource::Made,
    };
    if let KeySource::Given(text) = &source
        && let Some(complaint) = key_complaint(text)
    {
        let key = if key.value().is_some() { "key" } else { "key_env" };
        problems.add(fields.line, fields.path_of(key), format!("the key is not usable: {complaint}"));
    }
    let Some(role) = role.value().map(|at| at.value) else {
        problems.add(fields.line, fields.path_of("role"), "is required: one of staff, support, owner, member, agent");
        return None;
    };
    let offering = offering.value().cloned();
    if (role == Role::Agent) != offering.is_some() {
        let problem = if offering.is_some() { "is for agents only" } else { "is required for an agent" };
        problems.add(fields.line, fields.path_of("offering"), problem);
    }
    let username = user?;
    check_username(&username, problems);
    let user = PersonSpec { username, email: Given::Absent, full_name: Given::Absent };
    Some(TokenSpec {
        user,
        role,
        offering,
        key: source,
        label,
        expires_at,
        line: fields.line,
        path: fields.path.clone(),
    })
}
