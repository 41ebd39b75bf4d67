//! Proofs as documents: what the API and the command line hand out.

use serde::Serialize;
use utoipa::ToSchema;

use super::leaf::{Leaves, hex};
use super::service::{Notary, NotaryError};
use crate::events::envelope::Position;

/// That the log holds an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct InclusionProof {
    /// The number of its leaf, from 0.
    pub index: u64,
    /// How many events the tree is over.
    pub size: u64,
    /// Where the event stands.
    pub position: String,
    /// Its leaf, hex.
    pub leaf: String,
    /// The path of RFC 6962, hex.
    pub hashes: Vec<String>,
    /// The note of the checkpoint of this size, if one was signed.
    pub checkpoint: Option<String>,
}

/// That a log only grew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ConsistencyProof {
    /// How many events the smaller tree is over.
    pub from: u64,
    /// How many events the larger tree is over.
    pub size: u64,
    /// The path of RFC 6962, hex.
    pub hashes: Vec<String>,
    /// The note of the checkpoint of the smaller tree, if one was signed.
    pub earlier: Option<String>,
    /// The note of the checkpoint of the larger tree, if one was signed.
    pub checkpoint: Option<String>,
}

impl Notary {
    /// How many events the newest checkpoint is about, or as many as are asked for.
    async fn size(&self, asked: Option<u64>) -> Result<u64, NotaryError> {
        if let Some(size) = asked {
            return Ok(size);
        }
        let newest = self.newest().await?.map(|newest| newest.size);
        newest.ok_or_else(|| NotaryError::NotThere("there is no checkpoint yet".to_owned()))
    }

    /// Proves that the log holds the event at a position, against a checkpoint, by default the newest.
    ///
    /// # Errors
    /// The tree holds no such event.
    pub async fn prove_event(&self, position: Position, size: Option<u64>) -> Result<InclusionProof, NotaryError> {
        let size = self.size(size).await?;
        let (index, event) = self.number_of(position).await?;
        let hashes = self.inclusion(index, size).await?.iter().map(hex).collect();
        let leaf = hex(&Leaves::default().of(&event));
        let checkpoint = self.checkpoint_of(size).await?;
        Ok(InclusionProof { index, size, position: position.plain(), leaf, hashes, checkpoint })
    }

    /// Proves that the log of a checkpoint, by default of the newest, begins with that of an earlier one.
    ///
    /// # Errors
    /// The tree is not as large.
    pub async fn prove_growth(&self, from: u64, size: Option<u64>) -> Result<ConsistencyProof, NotaryError> {
        let size = self.size(size).await?;
        let hashes = self.consistency(from, size).await?.iter().map(hex).collect();
        let (earlier, checkpoint) = (self.checkpoint_of(from).await?, self.checkpoint_of(size).await?);
        Ok(ConsistencyProof { from, size, hashes, earlier, checkpoint })
    }
}
