//! A database on a server: it answers, accepts writes, and its tables are of this version.

use super::files::migrations;
use super::{Finding, chain};
use crate::clock::IdSource;
use crate::config::Config;
use crate::store::StoreError;
use crate::store::address::Database;
use crate::store::lease::Leases;
use crate::store::postgres::{ServerInspection, inspect};

const AREA: &str = "database";

/// The oldest server that the statements are written for.
const OLDEST: i32 = 140_000;

/// Looks at a database, without changing it. Says also whether it may be opened: it is of this version, so that opening
/// changes nothing.
pub(super) async fn examine(url: &str, config: &Config) -> (Vec<Finding>, bool) {
    let (limits, database) = (config.limits(), Database::Postgres(url.to_owned()));
    let database = &database;
    let seen = match inspect(url, &limits).await {
        Ok(seen) => seen,
        Err(error) => return (vec![unreachable(database, &error)], false),
    };
    let mut found = server(&seen);
    let (tables, usable) = tables(database, &seen);
    found.push(tables);
    if usable && let Ok(leases) = Leases::new(url, IdSource.fresh(), &limits) {
        found.extend(leader(&leases).await);
    }
    (found, usable)
}

fn unreachable(database: &Database, error: &StoreError) -> Finding {
    Finding::trouble(
        AREA,
        format!("{database} does not answer: {}", chain(error)),
        "is the server up, the address right, the password set, and the machine let in (pg_hba.conf)? Try psql with the same URL",
    )
}

fn server(seen: &ServerInspection) -> Vec<Finding> {
    let mut found = Vec::new();
    let version = format!("PostgreSQL {}.{}", seen.server_version / 10_000, seen.server_version % 10_000);
    if seen.server_version < OLDEST {
        found.push(Finding::trouble(AREA, format!("{version} is too old"), "use PostgreSQL 14 or newer"));
    }
    if seen.read_only {
        let fix = "name the primary, or an address that leads to it (target_session_attrs in a proxy)";
        found.push(Finding::trouble(AREA, "the server takes no writes: it is a replica, or read-only", fix));
    }
    if seen.encoding != "UTF8" {
        let fix = "make the database with ENCODING 'UTF8'";
        found.push(Finding::trouble(AREA, format!("its texts are stored as {}", seen.encoding), fix));
    }
    let (most, open) = seen.connections;
    if open + 25 > most {
        let what = format!("{open} of {most} connections are open; a process of Sluice takes up to 20");
        found.push(Finding::warning(AREA, what, "raise max_connections, or close what is not needed"));
    }
    found
}

fn tables(database: &Database, seen: &ServerInspection) -> (Finding, bool) {
    if !seen.ahead.is_empty() {
        let what = format!("{database} was made by a newer version ({} ahead)", migrations(seen.ahead.len()));
        return (Finding::trouble(AREA, what, "use the version of Sluice that the server has"), false);
    }
    if !seen.changed.is_empty() {
        let what = format!("{database} was made by another build: migrations {:?} are not the same", seen.changed);
        let fix = "use the build that made it, or copy the log to a new database (sluice store copy) with that build";
        return (Finding::trouble(AREA, what, fix), false);
    }
    match seen.behind.as_deref() {
        None => {
            let what = format!("there are no tables yet in {database}");
            (
                Finding::warning(AREA, what, "`sluice serve` makes them; if there should be some, check --database"),
                false,
            )
        }
        Some([]) => (Finding::ok(AREA, format!("of this version: {database}")), true),
        Some(behind) => {
            let what = format!("{database} is of an older version ({} behind)", migrations(behind.len()));
            (Finding::warning(AREA, what, "back it up; the next start of `sluice serve` upgrades it"), false)
        }
    }
}

/// Who leads of the processes that serve the database.
async fn leader(leases: &Leases) -> Option<Finding> {
    let leases = leases.all().await.ok()?;
    let lease = leases.first()?;
    Some(if lease.holds {
        Finding::ok("server", format!("process {} leads, the holder number {}", lease.holder.as_simple(), lease.epoch))
    } else {
        Finding::warning(
            "server",
            "no process leads: read models, messages to agents, mails and scheduled jobs stand still",
            "start `sluice serve`; if one runs, its log says why it cannot lead",
        )
    })
}
