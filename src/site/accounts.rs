//! The accounts in a site file: compared with each other here, and with existing ones by the planner.

use std::collections::HashMap;

use super::known::Known;
use super::merge::Desired;
use crate::domain::ids::OfferingId;
use crate::events::allocation::ResourceFacts;
use crate::operations::AccountClaim;

/// The account of a resource of the file.
pub(super) fn claim_of(facts: &ResourceFacts) -> AccountClaim {
    AccountClaim {
        resource: facts.resource,
        offering: facts.offering,
        backend_id: facts.backend_id.clone(),
        name: facts.name.clone(),
    }
}

/// Whether the file gives a live resource an account that it has not yet.
pub(super) fn is_new(facts: &ResourceFacts, known: &Known) -> bool {
    let current = known.resources.get(&facts.resource);
    facts.state.is_live() && current.is_none_or(|c| !c.state.is_live() || c.account() != facts.account())
}

/// The accounts that resources are to get by the file. What has its account already keeps it.
pub(super) fn claims(known: &Known, desired: &Desired) -> Vec<AccountClaim> {
    desired.resources.iter().flatten().filter(|facts| is_new(facts, known)).map(claim_of).collect()
}

/// For each account the line of the resource that has it by the file, and whether that is new.
#[derive(Default)]
pub(super) struct InFile(HashMap<(OfferingId, String), (u64, bool)>);

impl InFile {
    /// Takes an account; the line of the resource that has it by the file already, unless both have had it before.
    pub(super) fn take(&mut self, facts: &ResourceFacts, line: u64, new: bool) -> Option<u64> {
        let other = self.0.insert(claim_of(facts).key(), (line, new));
        other.filter(|(_, other)| new || *other).map(|(line, _)| line)
    }
}
