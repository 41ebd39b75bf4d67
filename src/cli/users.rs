//! `sluice users list|erase`: who stands in the directory, and taking somebody out of it for good.

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{Out, count, time};
use super::session::{CliError, Session};
use crate::directory::Subject;
use crate::domain::ids::UserId;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List everybody in the directory
    List,
    /// Erase a person: name, mail address (in policies too) and tokens; events keep an id that then stands for nobody
    Erase(Whom),
}

/// Options of `users erase`.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Whom {
    /// The user of this name
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// Every user and address with this mail address
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// The user or address of this id
    #[arg(long, value_name = "UUID")]
    uuid: Option<UserId>,
}

pub(super) async fn run(session: &Session, command: Command, out: &Out) -> Result<(), CliError> {
    match command {
        Command::List => list(session, out).await,
        Command::Erase(whom) => erase(session, whom, out).await,
    }
}

async fn list(session: &Session, out: &Out) -> Result<(), CliError> {
    let users = session.app.directory.all_users().await;
    let users = users.map_err(|error| CliError::because("the directory cannot be read", error))?;
    let document: Vec<_> = users
        .iter()
        .map(|user| {
            json!({
                "uuid": user.id, "username": user.username, "full_name": user.full_name, "email": user.email,
                "created": time(user.created),
            })
        })
        .collect();
    out.json(&document);
    if users.is_empty() {
        out.text("there is nobody in the directory");
        return Ok(());
    }
    let row = |user: crate::directory::UserRecord| {
        [user.id.to_string(), user.username, user.full_name, user.email.unwrap_or_default(), time(user.created)]
    };
    out.table(["user", "name", "full name", "mail", "created"], users.into_iter().map(row).collect());
    Ok(())
}

async fn erase(session: &Session, whom: Whom, out: &Out) -> Result<(), CliError> {
    let subjects = [whom.username.map(Subject::Username), whom.email.map(Subject::Email), whom.uuid.map(Subject::Id)];
    let Some(subject) = subjects.into_iter().flatten().next() else {
        return Err(CliError::Usage("one of --username, --email and --uuid is expected".to_owned()));
    };
    let erased = session.app.directory.erase(&subject, session.now()).await;
    let erased = erased.map_err(|error| CliError::because("nobody was erased", error))?;
    if erased.entries.is_empty() {
        return Err(CliError::Failed("there is nobody of this description in the directory".to_owned()));
    }
    out.json(&json!({"erased": erased.entries, "tokens_revoked": erased.tokens_revoked}));
    let entries = count(erased.entries.len(), "entry", "entries");
    let tokens = usize::try_from(erased.tokens_revoked).unwrap_or(usize::MAX);
    out.text(format!("erased {entries} of the directory, revoked {}", count(tokens, "token", "tokens")));
    out.text("a site file that still names the person would bring the entry back at the next apply");
    Ok(())
}
