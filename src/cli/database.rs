//! A missing database: commands do not create one, and name the others that they find.

use std::path::{Path, PathBuf};

use super::output::Out;
use super::session::CliError;
use crate::config::{Config, Database, Sources};

/// The configuration of a packaged service.
const PACKAGED: &str = "/etc/sluice/sluice.toml";

/// There is no database at the configured place.
pub(super) fn missing(config: &Config, database: &Database) -> CliError {
    let mut text = format!("there is no database at {database}");
    for hint in others(config, database) {
        text.push_str("\n  ");
        text.push_str(&hint);
    }
    text.push_str(
        "\n  `sluice serve` and `sluice apply` make a new one; --database, --data-dir and --config say where it is",
    );
    CliError::Failed(text)
}

/// Says that a new database was made, and which others there are.
pub(super) fn made(config: &Config, database: &Database, out: &Out) {
    out.remark(format!("made a new database: {database}"));
    for hint in others(config, database) {
        out.remark(format!("  {hint}"));
    }
}

/// Databases and configurations that are found elsewhere, each with the flag that leads to it.
fn others(config: &Config, database: &Database) -> Vec<String> {
    let sources = Sources::of_process(None, Vec::new());
    let mut hints = Vec::new();
    let packaged = Path::new(PACKAGED);
    if packaged.exists() {
        let named = Config::load(&Sources { file: Some(packaged.to_owned()), ..Sources::default() });
        match named.and_then(|packaged| packaged.database()) {
            Ok(named) if named == *database => {}
            Ok(named) => hints.push(format!("{PACKAGED} names {named}: --config {PACKAGED}")),
            Err(_) => hints.push(format!("there is a configuration in {PACKAGED}: --config {PACKAGED}")),
        }
    }
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let here = database.file().map(whole);
    let mut seen: Vec<PathBuf> = here.into_iter().collect();
    let in_folder = config.data_dir.iter().map(|folder| folder.join("sluice.db"));
    for path in Config::usual_databases(&sources).into_iter().chain(in_folder) {
        let path = whole(&path);
        if path.is_file() && !seen.contains(&path) {
            hints.push(format!("there is one in {}: --database sqlite://{}", path.display(), path.display()));
            seen.push(path);
        }
    }
    hints
}
