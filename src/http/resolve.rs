//! Finds the object that a field of a body refers to: by address, UUID or slug.

use uuid::Uuid;

use super::json::Json;
use super::reference::Reference;
use crate::domain::ids::{CustomerId, GroupId, OfferingId, ProjectId};
use crate::registry::RegistryState;

/// The message for a reference to nothing, or to what the caller may not see.
pub const NO_SUCH_OBJECT: &str = "Invalid hyperlink - Object does not exist.";

/// The longest slug.
const SLUG_CHARS_MAX: usize = 100;

fn find<T: From<Uuid> + Copy>(
    value: &Json,
    collections: &[&str],
    exists: impl Fn(T) -> bool,
    by_slug: impl Fn(&str) -> Option<T>,
) -> Result<T, String> {
    let Json::Text(text) = value else {
        return Err(format!("Incorrect type. Expected an address, UUID or slug, received {}.", value.kind()));
    };
    let found = collections.iter().find_map(|collection| Reference::parse(text, collection)).and_then(|r| match r {
        Reference::Uuid(uuid) => Some(T::from(uuid)).filter(|id| exists(*id)),
        Reference::Slug(slug) => by_slug(&slug),
    });
    found.ok_or_else(|| NO_SUCH_OBJECT.to_owned())
}

/// An offering.
pub fn offering(value: &Json, state: &RegistryState) -> Result<OfferingId, String> {
    let by_slug = |slug: &str| state.offerings().find(|o| o.facts.facts.slug == slug).map(|o| o.facts.facts.offering);
    let collections = ["marketplace-provider-offerings", "marketplace-public-offerings", "marketplace-offerings"];
    find(value, &collections, |id| state.offering(id).is_some_and(|o| !o.facts.facts.retired), by_slug)
}

/// An organisation.
pub fn customer(value: &Json, state: &RegistryState) -> Result<CustomerId, String> {
    let by_slug = |slug: &str| state.customers().find(|c| c.facts.slug == slug).map(|c| c.facts.customer);
    find(value, &["customers"], |id| state.customer(id).is_some_and(|c| !c.facts.retired), by_slug)
}

/// An organisation group.
pub fn group(value: &Json, state: &RegistryState) -> Result<GroupId, String> {
    let by_slug = |slug: &str| state.groups().find(|g| g.facts.slug == slug).map(|g| g.facts.group);
    find(value, &["organization-groups"], |id| state.group(id).is_some_and(|g| !g.facts.retired), by_slug)
}

/// A project.
pub fn project(value: &Json, state: &RegistryState) -> Result<ProjectId, String> {
    let by_slug = |slug: &str| state.projects().find(|p| p.facts.slug == slug).map(|p| p.facts.project);
    find(value, &["projects"], |id| state.project(id).is_some_and(|p| !p.facts.retired), by_slug)
}

/// A slug: lower-case letters, digits, dashes, underscores and dots, beginning with a letter or digit.
pub fn slug(value: &Json) -> Result<String, String> {
    let fits = |text: &str| {
        (1..=SLUG_CHARS_MAX).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && super::reference::parse_uuid(text).is_none()
    };
    match value {
        Json::Text(text) if fits(text) => Ok(text.clone()),
        other => Err(format!(
            "{} is no slug: 1 to {SLUG_CHARS_MAX} letters, digits, dashes, underscores and dots are allowed, a letter or digit first.",
            other.shown()
        )),
    }
}
