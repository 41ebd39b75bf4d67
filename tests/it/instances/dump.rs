//! The commands for backup and restore on `PostgreSQL`, as the documentation has them.

use std::path::Path;
use std::process::Command;

use sluice::app::AppOptions;
use sluice::store::address::Database;

use super::check;
use crate::support::database::{postgres, rows, with_name};
use crate::support::server::TestServer;

/// The block of commands after a comment.
fn commands(begins: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/POSTGRESQL.md");
    let page = std::fs::read_to_string(page).unwrap();
    let block = page.split("```sh\n").skip(1).find(|block| block.starts_with(begins));
    block.unwrap_or_else(|| panic!("no block begins with {begins:?}")).split("```").next().unwrap().to_owned()
}

fn run(script: &str, folder: &Path, variables: &[(&str, &str)]) {
    let mut command = Command::new("bash");
    command.args(["-euc", script]).current_dir(folder).envs(variables.iter().copied());
    let done = command.output().unwrap();
    assert!(done.status.success(), "{script}\n{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the PostgreSQL of a full run"]
async fn a_dump_is_restored_into_a_new_database_and_read_models_are_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let database = postgres(&folder.path().join("site.db"));
    let Database::Postgres(url) = &database else { unreachable!("it is on a server") };
    let server = TestServer::customized(|options: &mut AppOptions| options.database = database.clone()).await;
    server.policy(|_| ()).await;
    server.report("climate-hpc1", "1250", "2026-03-01").await;
    // In use meanwhile.
    run(&commands("# back up"), folder.path(), &[("SLUICE_DATABASE", url)]);
    server.stop().await;

    let name = format!("restored_{}", url.rsplit_once('/').unwrap().1);
    let new = with_name(url, &name);
    let variables = [("NEW_DATABASE", new.as_str()), ("SERVER", url.as_str()), ("NAME", name.as_str())];
    run(&commands("# restore"), folder.path(), &variables);
    let restored = Database::Postgres(new.clone());
    let app = check::open(&restored).await;
    app.consumers.settle().await.unwrap();
    let (before, after) = (rows(url).await, rows(&new).await);
    for table in ["events", "streams", "directory_entries", "tokens", "registry_resources", "evaluation_log", "meta"] {
        assert!(!before[table].is_empty(), "{table}");
        assert_eq!(before[table], after[table], "{table}");
    }
    // It is a log like any other: what was restored can be gone on with, and not be changed.
    let mut connection = crate::support::database::connect(&new).await;
    let change = sqlx::query("UPDATE sluice.events SET reason = 'x'").execute(&mut connection).await;
    assert!(change.unwrap_err().to_string().contains("append-only"));
}
