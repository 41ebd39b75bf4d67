//! Mail as files in a Maildir, for sites without a mail server and for tests. Mail programs can read it
//! (`mutt -f mail`).

use std::path::{Path, PathBuf};

use super::Failed;
use crate::notify::message::Mail;
use crate::store::private;

/// A Maildir.
#[derive(Debug)]
pub struct Maildir {
    folder: PathBuf,
}

impl Maildir {
    /// The Maildir in this folder; it is made with the first mail.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Writes the mail into `tmp` and moves it to `new` when it is whole. The same message has the same name: a repeat
    /// replaces it.
    pub async fn deliver(&self, mail: &Mail) -> Result<(), Failed> {
        let (folder, name, bytes) = (self.folder.clone(), mail.file_name(), mail.bytes());
        let written = tokio::task::spawn_blocking(move || write(&folder, &name, &bytes)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failed::Unreachable(format!("the mail folder cannot be written: {error}"))),
            Err(_) => Err(Failed::Unreachable("the mail folder cannot be written".to_owned())),
        }
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    for part in ["tmp", "new", "cur"] {
        private::folder(&folder.join(part))?;
    }
    let draft = folder.join("tmp").join(name);
    let mut file = private::new_file(&draft)?;
    std::io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    std::fs::rename(&draft, folder.join("new").join(name))
}
