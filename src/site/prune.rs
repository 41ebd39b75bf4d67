//! Takes objects that the file does not name out of use with `--prune`, only of the kinds that the file lists. Nothing
//! is erased.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};

use super::file::{Kind, SiteFile};
use super::merge::DesiredPolicy;
use super::plan::{ChangeKind, Facts, Planner, ResourceChange, Step, Wanted, kept_tokens, title_of};
use crate::domain::ids::TokenId;
use crate::events::allocation::{ResourceFacts, ResourceState};

impl Planner<'_> {
    pub(super) fn prune(&mut self, file: &SiteFile, wanted: &Wanted, now: DateTime<Utc>) {
        let known = self.known;
        if file.tokens.is_some() {
            let specs = file.tokens.iter().flatten().enumerate();
            let kept: HashSet<TokenId> =
                specs.flat_map(|(i, spec)| kept_tokens(spec, i, known, self.ids, now)).map(|token| token.id).collect();
            for token in known.tokens.iter().filter(|token| token.is_active(now) && !kept.contains(&token.id)) {
                let title = format!("{} ({})", token.username, token.role);
                let step = Some(Step::RevokeToken(token.id));
                self.push(Kind::Token, &title, Some(token.id.as_uuid()), ChangeKind::Prune, Vec::new(), step);
                self.note("the token is revoked".to_owned());
            }
        }
        if file.resources.is_some() {
            let gone =
                known.resources.values().filter(|f| f.state.is_live() && !wanted.0.contains(&f.resource.as_uuid()));
            let mut gone: Vec<&ResourceFacts> = gone.collect();
            gone.sort_by_key(|facts| &facts.slug);
            for facts in gone {
                let state = Some(ResourceState::Terminated);
                let change = ResourceChange { resource: facts.resource, details: None, limits: None, state };
                let (id, step) = (facts.resource.as_uuid(), Some(Step::ChangeResource(change)));
                self.push(Kind::Resource, &facts.slug, Some(id), ChangeKind::Prune, Vec::new(), step);
                self.note("the resource is terminated; its history stays".to_owned());
            }
        }
        if file.policies.is_some() {
            let gone = known.policies.values().filter(|f| f.terms.enabled && !wanted.0.contains(&f.policy.as_uuid()));
            for facts in gone {
                let mut disabled = facts.clone();
                disabled.terms.enabled = false;
                let policy = DesiredPolicy { facts: disabled, recipients: None, reason: None };
                let (id, step) = (facts.policy.as_uuid(), Some(Step::Policy(Box::new(policy))));
                self.push(Kind::Policy, &title_of(facts), Some(id), ChangeKind::Prune, Vec::new(), step);
                self.note("the policy is disabled: its restrictions are released, its history stays".to_owned());
            }
        }
        self.retire(Kind::Offering, file.offerings.is_some(), &known.offerings, wanted, Step::Offering);
        self.retire(Kind::Project, file.projects.is_some(), &known.projects, wanted, Step::Project);
        self.retire(Kind::Customer, file.customers.is_some(), &known.customers, wanted, Step::Customer);
        self.retire(Kind::OrganizationGroup, file.groups.is_some(), &known.groups, wanted, Step::Group);
    }

    fn retire<T: Facts>(
        &mut self,
        kind: Kind,
        listed: bool,
        known: &BTreeMap<T::Id, T>,
        wanted: &Wanted,
        step: impl Fn(T) -> Step,
    ) {
        let gone = known.values().filter(|facts| listed && !facts.is_retired() && !wanted.0.contains(&facts.uuid()));
        for facts in gone {
            let step = Some(step(facts.clone().retired()));
            self.push(kind, facts.slug(), Some(facts.uuid()), ChangeKind::Prune, Vec::new(), step);
            self.note("it is taken out of use; its history stays".to_owned());
        }
    }
}
