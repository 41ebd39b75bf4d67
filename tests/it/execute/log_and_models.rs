//! The log and what is made from it know each other: a log that is older, another or damaged is told, read models that cannot be
//! used are made again, and none of that adds an event.

use std::path::PathBuf;
use std::sync::Arc;

use sluice::app::{App, AppError, AppOptions};
use sluice::projections::usage::{self, UsageFilter};
use sluice::store::address::Database;
use sluice::store::sql::ReadDb;
use sluice::store::sqlite::DatabaseFiles;
use sqlx::{AssertSqlSafe, Connection};

use super::soundness::spoil;
use super::{Place, count, is_evaluation, is_report, lay_out, log, put_customer, put_policy, resource_id, run, usage};
use crate::support::database::{drop_read_models, on_postgres};
use crate::support::fleet::meta;
use crate::support::world::{ALL_THREE, dec, policy_facts, policy_id, terms};

fn file(place: &Place) -> Option<PathBuf> {
    place.options().database.file().map(std::path::Path::to_owned)
}

fn with_journals(file: &std::path::Path) -> Vec<PathBuf> {
    let named = |suffix: &str| PathBuf::from(format!("{}{suffix}", file.display()));
    ["", "-wal", "-shm"].map(named).to_vec()
}

/// Resources, a policy that changed some times, reports; everything carried out.
async fn busy(place: &Place) -> Arc<App> {
    let app = place.open_at("2026-03-10T12:00:00Z").await;
    lay_out(&app, &["a", "b", "c"]).await;
    for percent in 1..6 {
        let mut terms = terms(ALL_THREE);
        terms.grace_ratio = dec(&format!("0.{percent}"));
        put_policy(&app, terms).await;
        app.settle().await.unwrap();
    }
    put_customer(&app, "uni-b", &["research"]).await;
    let change = [("fairshare_divisor".to_owned(), serde_json::json!(4))].into_iter().collect();
    app.settings.change(&change, &meta()).await.unwrap();
    for name in ["a", "b", "c"] {
        run(&app, name, &usage("2026-03", 100)).await;
    }
    app.settle().await.unwrap();
    app
}

async fn lose_read_models(place: &Place) {
    drop_read_models(&place.options().database).await;
}

#[tokio::test]
async fn to_lose_the_read_models_adds_nothing_to_the_log() {
    let place = Place::new();
    let app = busy(&place).await;
    let (head, evaluations) = (app.store.head().await.unwrap(), count(&app, is_evaluation).await);
    app.settle().await.unwrap();
    assert_eq!(app.store.head().await.unwrap(), head, "nothing is left to do");
    drop(app);
    for _ in 0..2 {
        lose_read_models(&place).await;
        let app = place.again().await;
        app.settle().await.unwrap();
        assert_eq!((app.store.head().await.unwrap(), count(&app, is_evaluation).await), (head, evaluations));
        assert_eq!(app.reactions.pending().await.unwrap(), []);
        drop(app);
    }
    // What is called for from here on is carried out.
    let app = place.again().await;
    app.settle().await.unwrap();
    let facts = policy_facts("main", terms(ALL_THREE));
    app.registry_commands.put_policy(policy_id("main"), &meta(), &|_| Ok(facts.clone())).await.unwrap();
    app.settle().await.unwrap();
    assert_eq!(count(&app, is_evaluation).await, evaluations + 3);
}

#[tokio::test]
async fn a_log_from_before_finished_work_was_recorded_is_not_worked_on_again() {
    let place = Place::new();
    let app = busy(&place).await;
    let evaluations = count(&app, is_evaluation).await;
    drop(app);
    // As an older version left it: the facts are not there. Their place in the log stays.
    let was = "reactions_finished.v1";
    let change = |set: &str| {
        format!("UPDATE events SET {set} WHERE kind_id = (SELECT kind_id FROM event_kinds WHERE name = '{was}')")
    };
    let other = "(SELECT kind_id FROM event_kinds WHERE name = 'retention_applied.v1')";
    let add =
        "INSERT INTO event_kinds (kind_id, name) SELECT max(kind_id) + 1, 'retention_applied.v1' FROM event_kinds";
    let payload = r#"'{"horizon":"2000-01-01T00:00:00Z","retention_days":1}'"#;
    let set = format!("kind_id = {other}, payload = {payload}");
    let sql = format!("{add}; {}", change(&set));
    spoil(&place.options().database, &sql, &sql).await;
    lose_read_models(&place).await;
    let app = place.again().await;
    app.settle().await.unwrap();
    assert_eq!(count(&app, is_evaluation).await, evaluations);
    assert_eq!(app.reactions.pending().await.unwrap(), []);
    let head = app.store.head().await.unwrap();
    drop(app);
    lose_read_models(&place).await;
    let app = place.again().await;
    app.settle().await.unwrap();
    assert_eq!(app.store.head().await.unwrap(), head, "by now it is recorded");
}

/// A copy of the log's file and its journal, taken while nobody has it open.
fn copies(from: &std::path::Path, to: &std::path::Path) {
    for (from, to) in with_journals(from).into_iter().zip(with_journals(to)) {
        let _ = std::fs::remove_file(&to);
        if from.exists() {
            std::fs::copy(from, to).unwrap();
        }
    }
}

/// Lets go of a database, and waits until no file of it is open any more.
async fn close(place: &Place, app: Arc<App>) {
    app.read.close().await;
    drop(app);
    let folder = place.dir.path();
    let is_open = || {
        let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return false };
        open.flatten().filter_map(|file| std::fs::read_link(file.path()).ok()).any(|file| file.starts_with(folder))
    };
    for _ in 0..6_000 {
        if !is_open() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("somebody still has a file in {} open", folder.display());
}

async fn shown(app: &App) -> usize {
    let (rows, _) =
        usage::list(&app.read, &UsageFilter::default(), sluice::projections::Page::first(100)).await.unwrap();
    rows.len()
}

#[tokio::test]
async fn read_models_of_a_log_that_is_older_by_now_are_made_again() {
    let place = Place::new();
    let Some(log_file) = file(&place) else { return };
    let app = busy(&place).await;
    close(&place, app).await;
    let old = log_file.with_file_name("old.db");
    copies(&log_file, &old);
    let app = place.again().await;
    for amount in 101..120 {
        run(&app, "a", &usage("2026-03", amount)).await;
    }
    app.settle().await.unwrap();
    close(&place, app).await;
    copies(&old, &log_file);

    let refused = App::open(AppOptions { repairs: false, ..place.options() }).await.err().unwrap();
    assert!(matches!(&refused, AppError::ReadModels(why) if why.contains("the log ends at position")), "{refused}");
    let app = place.again().await;
    assert!(DatabaseFiles::of(&log_file).aside().exists());
    let before = log(&app).await.len();
    app.settle().await.unwrap();
    assert_eq!(log(&app).await.len(), before, "nothing is done again");
    assert_eq!((count(&app, is_report).await, shown(&app).await), (3, 3));
    run(&app, "a", &usage("2026-03", 200)).await;
    app.settle().await.unwrap();
    assert_eq!(
        app.allocations.book(resource_id("a")).await.unwrap().amount("2026-03".parse().unwrap(), "node"),
        Some(dec("200"))
    );
    close(&place, app).await;

    // It was gone on with, unseen, until it is as long as it was: another event stands where the read models stood.
    let app = place.again().await;
    for amount in 201..260 {
        run(&app, "b", &usage("2026-03", amount)).await;
    }
    app.settle().await.unwrap();
    close(&place, app).await;
    let models = DatabaseFiles::of(&log_file).read;
    let kept = log_file.with_file_name("kept.db");
    copies(&models, &kept);
    copies(&old, &log_file);
    for path in with_journals(&models) {
        let _ = std::fs::remove_file(path);
    }
    let app = place.again().await;
    for amount in 301..400 {
        run(&app, "c", &usage("2026-03", amount)).await;
    }
    close(&place, app).await;
    copies(&kept, &models);
    let refused = App::open(place.options()).await.err().unwrap();
    let AppError::ReadModels(why) = &refused else { panic!("{refused}") };
    assert!(why.contains("another event") && why.contains("sluice projections discard"), "{why}");
    App::discard_read_models(&place.options()).await.unwrap();
    let app = place.again().await;
    app.settle().await.unwrap();
    assert_eq!(shown(&app).await, 3);
}

#[tokio::test]
async fn another_log_is_refused_with_the_way_out() {
    let (place, other) = (Place::new(), Place::new());
    let (Some(mine), Some(theirs)) = (file(&place), file(&other)) else { return };
    close(&place, busy(&place).await).await;
    close(&other, busy(&other).await).await;
    copies(&theirs, &mine);
    let refused = App::open(place.options()).await.err().unwrap();
    let AppError::ReadModels(why) = &refused else { panic!("{refused}") };
    assert!(why.contains("another log") && why.contains("sluice projections discard"), "{why}");
}

/// What happens to the file of the read models.
type Harm = fn(&std::path::Path);

#[tokio::test]
async fn read_models_that_cannot_be_used_are_made_again() {
    let harms: [(&str, Harm); 5] = [
        ("garbage", |file| std::fs::write(file, "no database ".repeat(10_000)).unwrap()),
        ("truncated", |file| {
            let bytes = std::fs::read(file).unwrap();
            std::fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("nothing", |file| std::fs::write(file, "").unwrap()),
        ("bits", |file| {
            let mut bytes = std::fs::read(file).unwrap();
            for place in (8_192..bytes.len()).step_by(1_777) {
                bytes[place] ^= 0x41;
            }
            std::fs::write(file, bytes).unwrap();
        }),
        ("header", |file| {
            let mut bytes = std::fs::read(file).unwrap();
            bytes[..200].fill(0xff);
            std::fs::write(file, bytes).unwrap();
        }),
    ];
    let place = Place::new();
    let Some(log_file) = file(&place) else { return };
    let app = busy(&place).await;
    let head = app.store.head().await.unwrap();
    close(&place, app).await;
    let models = DatabaseFiles::of(&log_file).read;
    for (name, harm) in harms {
        let mut raw = sqlx::SqliteConnection::connect(&format!("sqlite://{}", models.display())).await.unwrap();
        sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut raw).await.unwrap();
        raw.close().await.unwrap();
        for path in &with_journals(&models)[1..] {
            let _ = std::fs::remove_file(path);
        }
        harm(&models);
        let app = App::open(AppOptions { serving: true, ..place.options() }).await;
        let app = app.unwrap_or_else(|error| panic!("{name}: {error}"));
        app.settle().await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((app.store.head().await.unwrap(), shown(&app).await), (head, 3), "{name}");
        close(&place, app).await;
    }
}

#[tokio::test]
async fn read_models_of_a_newer_version_are_made_again() {
    let place = Place::new();
    let app = busy(&place).await;
    close(&place, app).await;
    let options = place.options();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'from the future', true, 'x', 0)";
    match &options.database {
        Database::Sqlite(log) => {
            let models = DatabaseFiles::of(log).read;
            let mut raw = sqlx::SqliteConnection::connect(&format!("sqlite://{}", models.display())).await.unwrap();
            sqlx::raw_sql(newer).execute(&mut raw).await.unwrap();
            raw.close().await.unwrap();
        }
        Database::Postgres(url) => {
            let newer = newer.replace("INTO ", "INTO sluice_read.");
            let mut raw = crate::support::database::connect(url).await;
            sqlx::raw_sql(AssertSqlSafe(newer)).execute(&mut raw).await.unwrap();
        }
    }
    assert!(ReadDb::open_read(&options.database, &options.limits).await.unwrap_err().is_damage());
    let app = place.again().await;
    app.settle().await.unwrap();
    assert_eq!(shown(&app).await, 3);
    assert!(on_postgres() || DatabaseFiles::of(&file(&place).unwrap()).aside().exists());
}
