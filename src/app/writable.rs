//! Checks whether accepted data could be stored, by writing to the place where events go.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::sync::Mutex;

use super::App;
use crate::store::address::Database;
use crate::store::{StoreError, private};
use crate::supervise::chain;

/// How long a result stays valid: more frequent checks do not cause more writes.
const HOLDS_FOR: Duration = Duration::from_secs(1);

/// Bytes that are written beside a database file: room for what a few reports add to its journals.
const BYTES: usize = 256 << 10;

/// The key of the row that is written.
const KEY: &str = "written_for_readiness";

/// What was found last, and when.
pub type Written = Arc<Mutex<Option<(Instant, bool)>>>;

/// Why nothing could be written.
#[derive(Debug, thiserror::Error)]
enum Unwritable {
    #[error("no file can be written beside the database")]
    File(#[from] io::Error),
    #[error("the database takes no row")]
    Row(#[from] StoreError),
    #[error("the attempt was cut off")]
    CutOff(#[from] tokio::task::JoinError),
}

impl App {
    /// Whether the database can be written: its tables take a row, and where they are in files there is room beside them.
    /// One attempt at a time runs to its end, even if nobody waits for the answer.
    pub async fn writable(self: &Arc<Self>) -> bool {
        let mut written = Arc::clone(&self.written).lock_owned().await;
        if let Some((_, good)) = written.filter(|(at, _)| at.elapsed() < HOLDS_FOR) {
            return good;
        }
        let app = Arc::clone(self);
        let attempt = tokio::spawn(async move {
            let found = app.write().await;
            let before = written.is_none_or(|(_, good)| good);
            match &found {
                Err(error) if before => tracing::error!(reason = chain(error), "nothing can be written: not ready"),
                Ok(()) if !before => tracing::info!("the database can be written again"),
                _ => {}
            }
            *written = Some((Instant::now(), found.is_ok()));
            found.is_ok()
        });
        attempt.await.unwrap_or(false)
    }

    async fn write(&self) -> Result<(), Unwritable> {
        if let Database::Sqlite(log) = &self.options.database {
            let path = private::real(log).with_extension("db.probe");
            tokio::task::spawn_blocking(move || fill_and_remove(&path)).await??;
        }
        Ok(self.meta.set(KEY, "1").await?)
    }
}

/// Writes a file to the disk, and takes it away again, what a full disk took of it too.
fn fill_and_remove(path: &Path) -> io::Result<()> {
    // Bytes that no file system can make smaller.
    let mut bytes = vec![0; BYTES];
    rand::rng().fill_bytes(&mut bytes);
    let mut file = private::new_file(path)?;
    let filled = file.write_all(&bytes).and_then(|()| file.sync_all());
    drop(file);
    let removed = std::fs::remove_file(path);
    filled.and(removed)
}
