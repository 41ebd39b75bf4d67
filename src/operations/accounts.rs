//! The rule of SLURM accounts: on an offering each account has one live resource, identified by its `backend_id` or
//! else its name; and none begins with a dash, which `sacctmgr` would take for an option.
//!
//! Every entrance checks it before it registers, renames or restores a resource.

use std::collections::HashMap;

use crate::domain::ids::{OfferingId, ResourceId};
use crate::projections::registry::{AccountHolder, account_holders};
use crate::store::sql::{ReadDb, SqlError};

/// An account that a resource is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountClaim {
    /// The resource.
    pub resource: ResourceId,
    /// Its offering.
    pub offering: OfferingId,
    /// What says so: its `backend_id`, empty if its name stands for one.
    pub backend_id: String,
    /// Its name.
    pub name: String,
}

impl AccountClaim {
    /// The account.
    pub fn account(&self) -> &str {
        if self.backend_id.is_empty() { &self.name } else { &self.backend_id }
    }

    /// The field that the account comes from.
    pub fn field(&self) -> &'static str {
        if self.backend_id.is_empty() { "name" } else { "backend_id" }
    }

    /// The account as SLURM tells accounts apart: it knows no capital letters.
    pub fn key(&self) -> (OfferingId, String) {
        (self.offering, self.account().to_ascii_lowercase())
    }

    /// What is wrong with the account by itself.
    pub fn complaint(&self) -> Option<String> {
        let account = self.account();
        if !account.starts_with('-') {
            return None;
        }
        Some(match self.field() {
            "name" => format!(
                "{account:?} would be the SLURM account, since no backend_id is given; an account does not begin with a dash"
            ),
            _ => format!("{account:?} begins with a dash, which sacctmgr takes for an option; choose another account"),
        })
    }

    /// Why the account is not free.
    pub fn taken(&self, by: &AccountHolder) -> String {
        let account = self.account();
        let by_name = if self.backend_id.is_empty() { " (its name, since no backend_id is given)" } else { "" };
        format!(
            "{account:?}{by_name} is the account of the resource {:?} ({}) of this offering already; choose another",
            by.name, by.resource
        )
    }
}

/// For each account that a live resource of its offering has, and not the claiming one itself nor one that `gives_up` what it
/// has: the place of the claim in the list, and who has it. One look for all.
///
/// # Errors
/// The read models cannot be read.
pub async fn holders(
    read: &ReadDb,
    claims: &[AccountClaim],
    gives_up: impl Fn(ResourceId) -> bool,
) -> Result<Vec<(usize, AccountHolder)>, SqlError> {
    let accounts: Vec<&str> = claims.iter().map(AccountClaim::account).collect();
    let found = account_holders(read, &accounts).await?;
    let mut by_key: HashMap<(OfferingId, String), Vec<AccountHolder>> = HashMap::new();
    for holder in found.into_iter().filter(|holder| !gives_up(holder.resource)) {
        by_key.entry((holder.offering, holder.account.clone())).or_default().push(holder);
    }
    let other = |claim: &AccountClaim| {
        by_key.get(&claim.key())?.iter().find(|holder| holder.resource != claim.resource).cloned()
    };
    Ok(claims.iter().enumerate().filter_map(|(place, claim)| Some((place, other(claim)?))).collect())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn claim(backend_id: &str, name: &str) -> AccountClaim {
        let (resource, offering) = (Uuid::from_u128(1).into(), Uuid::from_u128(2).into());
        AccountClaim { resource, offering, backend_id: backend_id.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn no_account_begins_with_a_dash_wherever_it_comes_from() {
        assert!(claim("-x", "Climate").complaint().is_some_and(|said| said.contains("\"-x\" begins with a dash")));
        assert!(claim("", "-x").complaint().is_some_and(|said| said.contains("no backend_id is given")));
        assert_eq!((claim("x-y", "-x").complaint(), claim("", "x-").complaint()), (None, None));
    }

    #[test]
    fn accounts_are_told_apart_as_slurm_does() {
        assert_eq!(claim("HPC_Climate", "a").key(), claim("", "hpc_climate").key());
        assert_ne!(claim("hpc_climate", "a").key(), claim("hpc_climate2", "a").key());
    }
}
