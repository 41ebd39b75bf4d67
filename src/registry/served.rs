//! The progress of the running server's registry, published for other processes on the database.
//!
//! A command beside a server appends, and then waits until the server has read it: later requests to the server see the
//! change.

use std::sync::Arc;

use async_trait::async_trait;

use super::Follower;
use crate::events::Event;
use crate::events::envelope::Position;
use crate::store::consumer::{Consumer, ConsumerError, Decoded};
use crate::store::sql::{ReadDb, ReadTx, SqlError};

/// The name of the checkpoint; only a serving process moves it.
const NAME: &str = "server";

/// Moves the server's checkpoint once its registry has followed.
pub struct Served {
    follower: Arc<Follower>,
}

impl Served {
    /// Watches the registry that `follower` keeps.
    pub fn new(follower: Arc<Follower>) -> Self {
        Self { follower }
    }
}

#[async_trait]
impl Consumer<Event> for Served {
    fn name(&self) -> &'static str {
        NAME
    }

    fn tables(&self) -> &'static [&'static str] {
        &[]
    }

    async fn apply(&mut self, _: &mut ReadTx, _: &[Decoded<Event>]) -> Result<(), ConsumerError> {
        self.follower.catch_up().await.map_err(|error| ConsumerError::Other(error.to_string()))
    }
}

/// How far the server's registry is; the start if none ever served.
pub async fn served_position(db: &ReadDb) -> Result<Position, SqlError> {
    let row = db
        .query_one("SELECT position_hi, position_lo FROM consumers WHERE name = 'server' AND building = 0", &[])
        .await?;
    row.map_or(Ok(Position::START), |row| row.position(0))
}
