//! `sluice users`: lists the directory and pending memberships, and erases people.

use clap::{Args, Subcommand};
use serde_json::json;
use uuid::Uuid;

use super::output::{Out, count, time};
use super::session::{CliError, Session};
use crate::commands::execute::CommandMeta;
use crate::directory::Subject;
use crate::domain::ids::UserId;
use crate::operations::membership::{self, Belonging, Pending};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List everybody in the directory
    List,
    /// List who was named as owner or member by somebody who may not see them, and is not confirmed
    Pending,
    /// Confirm a pending membership: it counts from then on
    Confirm(Settle),
    /// Drop a pending membership
    Decline(Settle),
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

/// Options of `users confirm` and `users decline`.
#[derive(Debug, Args)]
pub(super) struct Settle {
    /// The membership's id, as listed
    membership: Uuid,
    /// Reason, recorded with the change
    #[arg(long, value_parser = super::hold::reason)]
    reason: Option<String>,
}

pub(super) async fn run(session: &Session, command: Command, out: &Out) -> Result<(), CliError> {
    match command {
        Command::List => list(session, out).await,
        Command::Pending => pending(session, out).await,
        Command::Confirm(options) => settle(session, options, true, out).await,
        Command::Decline(options) => settle(session, options, false, out).await,
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

/// The name of a user; the id where the directory has none.
async fn name_of(session: &Session, user: UserId) -> Result<String, CliError> {
    let known = session.app.directory.user(user).await;
    let known = known.map_err(|error| CliError::because("the directory cannot be read", error))?;
    Ok(known.map_or_else(|| user.to_string(), |known| known.username))
}

fn role(pending: &Pending) -> &'static str {
    match pending.belonging {
        Belonging::Owner(_) => "owner",
        Belonging::Member(_) => "member",
    }
}

async fn pending(session: &Session, out: &Out) -> Result<(), CliError> {
    let all = membership::pending(&session.app.registry.read());
    let (mut document, mut rows) = (Vec::new(), Vec::new());
    for one in &all {
        let (id, user) = (one.id.as_simple().to_string(), name_of(session, one.user).await?);
        document.push(json!({
            "uuid": id, "user": user, "role": role(one), "of": one.name, "customer_uuid": one.customer,
        }));
        rows.push([id, user, role(one).to_owned(), one.name.clone()]);
    }
    out.json(&document);
    if all.is_empty() {
        out.text("no membership is pending");
        return Ok(());
    }
    out.table(["membership", "user", "as", "of"], rows);
    Ok(())
}

async fn settle(session: &Session, options: Settle, confirmed: bool, out: &Out) -> Result<(), CliError> {
    let found = membership::pending(&session.app.registry.read()).into_iter().find(|one| one.id == options.membership);
    let id = options.membership.as_simple();
    let one = found.ok_or_else(|| CliError::Failed(format!("there is no pending membership {id}")))?;
    let meta = CommandMeta { reason: options.reason.map(Into::into), ..session.meta() };
    let settled = membership::settle(&session.app.registry_commands, &one, confirmed, &meta).await;
    settled.map_err(|error| CliError::because("the membership was not settled", error))?;
    session.settle().await?;
    let user = name_of(session, one.user).await?;
    out.json(
        &json!({"uuid": id.to_string(), "user": user, "role": role(&one), "of": one.name, "confirmed": confirmed}),
    );
    let what = if confirmed { "is now" } else { "does not become" };
    out.text(format!("{user} {what} {} of {}", role(&one), one.name));
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
