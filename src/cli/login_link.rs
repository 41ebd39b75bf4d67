//! `sluice login-link`: a link that signs somebody in to the web interface once.

use std::net::SocketAddr;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use serde_json::json;

use super::output::{Out, time};
use super::session::{CliError, Session};
use crate::app::{App, reached};
use crate::directory::{DirectoryError, Role, UserDetails};
use crate::domain::ids::{UserId, slug_uuid};
use crate::domain::text::{TextProblem, USERNAME};

/// The longest time that a link may wait to be used, in minutes.
const MINUTES_MAX: i64 = 24 * 60;

/// How long the link lasts that a new server prints.
pub(super) const FIRST_LINK: TimeDelta = TimeDelta::minutes(15);

/// Options of `login-link`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Who is signed in; a user that is not known yet is made
    #[arg(long, value_name = "NAME", value_parser = username, default_value = "admin")]
    user: String,
    /// What may be done: staff, support, owner, member
    #[arg(long, value_parser = role, default_value = "staff")]
    role: Role,
    /// How long the link waits to be used, in minutes (1 to 1440)
    #[arg(long, value_name = "MINUTES", default_value_t = 15, value_parser = clap::value_parser!(i64).range(1..=MINUTES_MAX))]
    minutes: i64,
    /// The address under which people reach the service; without it, where the server of this machine listens
    #[arg(long, value_name = "URL", value_parser = address)]
    address: Option<String>,
}

fn username(given: &str) -> Result<String, TextProblem> {
    USERNAME.read(given)
}

fn role(word: &str) -> Result<Role, String> {
    let allowed = || "one of staff, support, owner, member is allowed; a site agent has no pages".to_owned();
    Role::parse(word).filter(|role| *role != Role::Agent).ok_or_else(allowed)
}

fn address(given: &str) -> Result<String, String> {
    let rest = given.strip_prefix("https://").or_else(|| given.strip_prefix("http://"));
    match rest.map(|rest| rest.trim_end_matches('/')) {
        Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', ' ', '@']) => {
            Ok(given.trim_end_matches('/').to_owned())
        }
        _ => Err("an address such as https://sluice.example.org is allowed, without a path".to_owned()),
    }
}

pub(super) async fn run(session: &Session, options: Options, out: &Out) -> Result<(), CliError> {
    let (now, until) = (session.now(), session.now() + TimeDelta::minutes(options.minutes));
    let base = if let Some(address) = options.address {
        address
    } else {
        let listened = session.app.listened_at().await?;
        let none = "no server of this machine has listened yet; say with --address where people reach it";
        format!("http://{}", listened.ok_or_else(|| CliError::Usage(none.to_owned()))?)
    };
    let failed = |error| CliError::because("the link could not be made", error);
    let key = link_key(&session.app, &options.user, options.role, (now, until)).await.map_err(failed)?;
    let link = format!("{base}/login?link={key}");
    out.json(&json!({"url": link, "username": options.user, "role": options.role, "expires_at": until}));
    out.text(&link);
    out.remark(format!("signs in as {} ({}), once, until {}", options.user, options.role, time(until)));
    Ok(())
}

/// Makes a link for a user, who is made too if there is none of the name.
pub(super) async fn link_key(
    app: &App,
    username: &str,
    role: Role,
    (now, until): (DateTime<Utc>, DateTime<Utc>),
) -> Result<String, DirectoryError> {
    let user = if let Some(known) = app.directory.user_by_username(username).await? {
        known.id
    } else {
        let id = UserId::from(slug_uuid("user", username));
        let details = UserDetails { id, username: username.to_owned(), email: None, full_name: String::new() };
        app.directory.put_user(&details, now).await?;
        id
    };
    app.directory.create_login_link(user, role, until, now).await
}

/// The link that somebody at a terminal gets who has just started a new service: there is no other way in yet.
pub(super) async fn first_link(app: &App, address: SocketAddr) -> Result<String, DirectoryError> {
    let now = app.clock.now();
    let key = link_key(app, "admin", Role::Staff, (now, now + FIRST_LINK)).await?;
    Ok(format!("http://{}/login?link={key}", reached(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_and_a_host() {
        assert_eq!(address("https://sluice.example.org/"), Ok("https://sluice.example.org".to_owned()));
        assert_eq!(address("http://127.0.0.1:8080"), Ok("http://127.0.0.1:8080".to_owned()));
        for bad in ["sluice.example.org", "https://", "ftp://x", "https://x/path", "https://me@x", "https://x?y"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
