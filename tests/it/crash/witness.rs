//! A consumer without any memory of what it has seen: an event that is applied twice, or not at all, shows in its table.

use std::path::Path;
use std::sync::Arc;

use crate::support::positions::number;
use async_trait::async_trait;
use sluice::app::App;
use sluice::events::Event;
use sluice::limits::Limits;
use sluice::store::consumer::{Consumer, ConsumerError, ConsumerLoop, Decoded};
use sluice::store::sql::{ReadDb, ReadTx, SqlValue};

struct Witness;

#[async_trait]
impl Consumer<Event> for Witness {
    fn name(&self) -> &'static str {
        "witness"
    }

    fn tables(&self) -> &'static [&'static str] {
        &["witness"]
    }

    async fn apply(&mut self, tx: &mut ReadTx, batch: &[Decoded<Event>]) -> Result<(), ConsumerError> {
        let position = |e: &Decoded<Event>| SqlValue::I64(number(e.recorded.position).cast_signed());
        tx.insert_many("INSERT INTO witness{g} (position)", 1, batch.iter().map(position).collect(), "").await?;
        Ok(())
    }
}

async fn database(folder: &Path) -> ReadDb {
    let db = crate::support::database::read_models(&folder.join("witness.db"), &Limits::default()).await;
    let mut tx = db.begin().await.unwrap();
    tx.execute("CREATE TABLE IF NOT EXISTS witness (position BIGINT NOT NULL)", &[]).await.unwrap();
    tx.commit().await.unwrap();
    db
}

/// The witness on a log, with a database of its own.
pub async fn consumers(app: &App, folder: &Path) -> ConsumerLoop<Event> {
    let db = database(folder).await;
    let now = Arc::new(sluice::clock::real_now);
    ConsumerLoop::new(Arc::clone(&app.store), db, Event::decode, now, Limits::default()).with(Witness)
}

/// The positions that it has seen, in order, after it has seen all.
pub async fn settled(app: &App, folder: &Path) -> Vec<i64> {
    consumers(app, folder).await.settle().await.unwrap();
    let db = database(folder).await;
    let rows = db.query("SELECT position FROM witness{g} ORDER BY position", &[]).await.unwrap();
    db.close().await;
    rows.iter().map(|row| row.i64(0).unwrap()).collect()
}
