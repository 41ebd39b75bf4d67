//! Accounts that were left restricted: the command that frees each, and the report that it was run.

use super::super::accounts::{self, LeftRestricted};
use super::{DispatchError, Publisher};
use crate::commands::allocation::{AllocationCommand, DispatchRecord};
use crate::commands::execute::CommandMeta;
use crate::domain::ids::{OfferingId, ResourceId};
use crate::domain::sacctmgr;
use crate::events::dispatch::AccountFreed;
use crate::events::envelope::Position;

/// What came of saying that an account is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freed {
    /// It is listed no more.
    Recorded(Option<Position>),
    /// It was not listed.
    NotLeft,
    /// A live resource has it now, whose restrictions are its own.
    Taken(ResourceId),
}

impl Publisher {
    /// Accounts that SLURM may still restrict though their resource ended or has another one, the newest first, of an offering
    /// or of all, and how many there are.
    pub async fn left_restricted(
        &self,
        offering: Option<OfferingId>,
        limit: u32,
        offset: u64,
    ) -> Result<(Vec<LeftRestricted>, u64), DispatchError> {
        let (mut found, total) = accounts::left_restricted(&self.parts.read, offering, limit, offset).await?;
        self.with_commands(&mut found);
        Ok((found, total))
    }

    /// Has an account taken off the list: somebody freed it at the cluster.
    pub async fn account_freed(
        &self,
        offering: OfferingId,
        account: &str,
        meta: &CommandMeta,
    ) -> Result<Freed, DispatchError> {
        let left = accounts::left_on(&self.parts.read, account).await?;
        let Some(left) = left.into_iter().find(|left| left.offering == offering) else { return Ok(Freed::NotLeft) };
        if let Some(resource) = left.taken_by {
            return Ok(Freed::Taken(resource));
        }
        let record = DispatchRecord::AccountFreed(AccountFreed { account: left.account });
        let command = AllocationCommand::RecordDispatch(record);
        Ok(Freed::Recorded(self.parts.allocations.execute(left.resource, &command, meta).await?.position))
    }

    /// The offerings that have an account of this name on the list.
    pub async fn left_on(&self, account: &str) -> Result<Vec<OfferingId>, DispatchError> {
        Ok(accounts::left_on(&self.parts.read, account).await?.into_iter().map(|left| left.offering).collect())
    }

    fn with_commands(&self, found: &mut [LeftRestricted]) {
        let state = self.parts.registry.read();
        for left in found {
            let names = state.offering(left.offering).map(|known| known.facts.facts.qos.clone()).unwrap_or_default();
            left.command = sacctmgr::set_qos(&left.account, &names.default);
        }
    }
}
