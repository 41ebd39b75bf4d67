//! Objects other than policies and resources: organisations, their groups, projects, offerings.

pub mod components;
mod customers;
mod groups;
mod offering_components;
mod offering_users;
mod offerings;
mod pending;
pub mod people;
mod projects;
mod providers;

pub use offering_users::offering_user_id;
pub use offerings::{COLLECTION as OFFERING_COLLECTION, OFFERING_TYPE, plugin_options};
pub use projects::COLLECTION as PROJECT_COLLECTION;

use utoipa::IntoParams;
use uuid::Uuid;

use super::access::Routes;
use super::error::ApiError;
use super::fields::{self, Fields};
use super::query::Query;
use super::resolve;
use crate::domain::ids::slug_uuid;
use crate::domain::validation::FieldErrors;
use crate::projections::registry::ObjectFilter;

/// Characters of a display name at most.
pub const NAME_CHARS_MAX: usize = 255;

/// The group in the API's description.
const TAG: &str = "Registry";

/// The routes of the registry.
pub fn routes(mut routes: Routes) -> Routes {
    for group in [
        customers::routes,
        groups::routes,
        projects::routes,
        offerings::routes,
        providers::routes,
        offering_users::routes,
        pending::routes,
    ] {
        routes = group(routes);
    }
    routes
}

/// The parameters of every list of the registry, for the API's description.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes parameters that `object_filter` reads")]
pub struct ObjectParams {
    /// With this id.
    uuid: Option<String>,
    /// Whose name contains this.
    name: Option<String>,
    /// With this name.
    name_exact: Option<String>,
    /// With this slug.
    slug: Option<String>,
}

/// The filters that every list of the registry has.
fn object_filter(query: &Query) -> Result<ObjectFilter, ApiError> {
    Ok(ObjectFilter {
        id: query.uuid::<Uuid>("uuid")?,
        slug: query.get("slug").map(str::to_owned),
        name: query.get("name").map(str::to_owned),
        name_exact: query.get("name_exact").map(str::to_owned),
        ..ObjectFilter::default()
    })
}

/// Slug, name and id of a new object.
pub struct NewObject {
    /// Its id: the one asked for, else the slug's.
    pub id: Uuid,
    /// Unique short name.
    pub slug: String,
    /// Display name; the slug where none is given.
    pub name: String,
}

/// Reads what every new object has. Without a slug it is made of the name.
pub fn new_object(kind: &str, fields: &mut Fields) -> Option<NewObject> {
    let name = fields.optional("name", fields::words(NAME_CHARS_MAX));
    let slug = match fields.optional("slug", resolve::slug) {
        Some(slug) => Some(slug),
        None if fields.has("slug") => None,
        None => name.as_deref().map(slugified).filter(|slug| !slug.is_empty()),
    };
    if slug.is_none() && !fields.has("slug") {
        fields.errors.add(if name.is_some() { "slug" } else { "name" }, fields::REQUIRED);
    }
    let uuid = fields.optional("uuid", fields::uuid);
    let slug = slug?;
    Some(NewObject {
        id: uuid.unwrap_or_else(|| slug_uuid(kind, &slug)),
        name: name.unwrap_or_else(|| slug.clone()),
        slug,
    })
}

/// Letters and digits of a name in lower case, with single dashes for everything between them.
fn slugified(name: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let slug = plain.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    slug.chars().take(100).collect::<String>().trim_end_matches('-').to_owned()
}

/// The complaint that an object of this slug or id is there already.
pub fn exists(kind: &str, new: &NewObject) -> FieldErrors {
    FieldErrors::one(
        "slug",
        format!("There is a {kind} with the slug {:?} or the id {} already.", new.slug, new.id.as_simple()),
    )
}

/// Slug and id do not change, since others name an object by them.
pub fn same_names(fields: &mut Fields, slug: &str, id: Uuid) {
    if fields.optional("uuid", fields::uuid).is_some_and(|given| given != id) {
        fields.errors.add("uuid", format!("An id does not change; it is {}.", id.as_simple()));
    }
    if let Some(given) = fields.optional("slug", fields::raw_text)
        && given != slug
    {
        fields.errors.add("slug", format!("A slug does not change; it is {slug:?}."));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_slugs() {
        for (name, slug) in [("University A", "university-a"), ("  HPC  / 2 ", "hpc-2"), ("Ж", "")] {
            assert_eq!(slugified(name), slug);
        }
    }
}
