//! The plan for resources; terminated ones do not change, and the plan says how to proceed.

use super::file::{Kind, SiteFile};
use super::plan::{Planner, ResourceChange, Step};
use crate::events::allocation::{ResourceFacts, ResourceState};

impl Planner<'_> {
    pub(super) fn resources(&mut self, file: &SiteFile, wanted: Vec<Option<ResourceFacts>>) {
        for (spec, facts) in file.resources.iter().flatten().zip(wanted) {
            let Some(facts) = facts else { continue };
            let current = self.known.resources.get(&facts.resource);
            let (slug, id) = (facts.slug.clone(), facts.resource);
            let step = || match current {
                None => Step::Register(Box::new(facts.clone())),
                Some(current) => Step::ChangeResource(ResourceChange {
                    resource: id,
                    details: ((&current.name, &current.backend_id) != (&facts.name, &facts.backend_id))
                        .then(|| (facts.name.clone(), facts.backend_id.clone())),
                    limits: (current.limits != facts.limits).then(|| facts.limits.clone()),
                    state: (current.state != facts.state).then_some(facts.state),
                }),
            };
            // A slug that was given over the API may differ; it is a name, and stays.
            let wanted =
                current.map_or_else(|| facts.clone(), |c| ResourceFacts { slug: c.slug.clone(), ..facts.clone() });
            self.put(Kind::Resource, &slug, id.as_uuid(), (current, &wanted), step);
            match current.filter(|_| spec.state.value().is_none()).map(|c| c.state) {
                Some(ResourceState::Terminated) => {
                    self.stays(format!("it is terminated, which is final, and stays so; {}", another_on(&wanted)));
                }
                Some(ResourceState::Terminating) => {
                    self.stays("it is being terminated and stays so; `state: OK` brings it back".to_owned());
                }
                _ => {}
            }
        }
    }
}

/// How to proceed with the account of a terminated resource.
pub(super) fn another_on(ended: &ResourceFacts) -> String {
    format!(
        "for a new allocation on the account list a resource of another slug with backend_id: {} (what was used stays with this one)",
        ended.account()
    )
}
