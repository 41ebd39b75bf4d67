//! `sluice token create|list|revoke`: manages API tokens.

use clap::{Args, Subcommand};
use serde_json::json;

use super::end::End;
use super::output::{Out, time};
use super::session::{CliError, Session};
use crate::directory::{NewToken, Role, UserDetails};
use crate::domain::ids::{TokenId, slug_uuid};
use crate::domain::text::{NAME, TextProblem, USERNAME};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a token; its key is printed this once
    Create(Create),
    /// List every token
    List,
    /// Revoke a token
    Revoke {
        /// The token's id, as listed
        token: TokenId,
    },
}

/// Options of `token create`.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Whose it is; a user that is not known yet is made
    #[arg(long, value_name = "NAME", value_parser = username)]
    user: String,
    /// What it may do: staff, support, owner, member, agent
    #[arg(long, value_parser = role)]
    role: Role,
    /// The offering of an agent, by id or slug
    #[arg(long, value_name = "OFFERING", required_if_eq("role", "agent"))]
    offering: Option<String>,
    /// What it is for
    #[arg(long, value_parser = label)]
    label: Option<String>,
    /// When it ends: a day (its beginning at the site), an instant, or a time from now such as 90d
    #[arg(long, value_name = "WHEN", value_parser = End::parse, alias = "expires_at", alias = "expires-at")]
    expires: Option<End>,
    /// Variable of the environment that holds the key; a random one is made without it
    #[arg(long, value_name = "VARIABLE", alias = "key_env")]
    key_env: Option<String>,
}

fn username(given: &str) -> Result<String, TextProblem> {
    USERNAME.read(given)
}

fn label(given: &str) -> Result<String, TextProblem> {
    NAME.read(given)
}

fn role(word: &str) -> Result<Role, String> {
    Role::parse(word).ok_or_else(|| "one of staff, support, owner, member, agent is allowed".to_owned())
}

pub(super) async fn run(session: &Session, command: Command, out: &Out) -> Result<(), CliError> {
    match command {
        Command::Create(options) => create(session, options, out).await,
        Command::List => list(session, out).await,
        Command::Revoke { token } => {
            let revoked = session.app.directory.revoke_token(token, session.now()).await;
            if !revoked.map_err(|error| CliError::because("the token could not be revoked", error))? {
                return Err(CliError::Failed(format!("there is no token {token} in force")));
            }
            out.json(&json!({"uuid": token, "revoked": true}));
            out.text(format!("token {token} is revoked"));
            Ok(())
        }
    }
}

async fn create(session: &Session, options: Create, out: &Out) -> Result<(), CliError> {
    let (directory, now) = (&session.app.directory, session.now());
    let failed = |error| CliError::because("the token could not be made", error);
    if options.role != Role::Agent && options.offering.is_some() {
        return Err(CliError::Usage("--offering is for --role agent only".to_owned()));
    }
    let offering = options.offering.as_deref().map(|name| session.offering(name)).transpose()?;
    let key = match &options.key_env {
        None => None,
        Some(name) => Some(
            std::env::var(name)
                .map_err(|_| CliError::Usage(format!("the variable {name} is not set in the environment")))?,
        ),
    };
    let end = |end: End| end.after(now, session.config.time_zone).map_err(CliError::Usage);
    let expires_at = options.expires.map(end).transpose()?;
    let user = if let Some(user) = directory.user_by_username(&options.user).await.map_err(failed)? {
        user.id
    } else {
        let id = slug_uuid("user", &options.user).into();
        let user = UserDetails { id, username: options.user.clone(), email: None, full_name: String::new() };
        directory.put_user(&user, now).await.map_err(failed)?;
        id
    };
    let brought = key.is_some();
    let new = NewToken { user, role: options.role, offering, label: options.label, expires_at, key };
    let (id, key) = directory.create_token(new, now).await.map_err(failed)?;
    let shown = (!brought).then_some(&key);
    out.json(&json!({
        "uuid": id, "user": options.user, "role": options.role, "offering_uuid": offering,
        "expires_at": expires_at.map(time), "key": shown,
    }));
    out.text(format!("token {id} of {} ({})", options.user, options.role));
    if let Some(key) = shown {
        out.text(format!("key, shown this once:\n  {key}"));
    }
    Ok(())
}

async fn list(session: &Session, out: &Out) -> Result<(), CliError> {
    let now = session.now();
    let tokens = session.app.directory.tokens().await;
    let tokens = tokens.map_err(|error| CliError::because("the tokens cannot be read", error))?;
    let state = |token: &crate::directory::TokenRecord| match (token.revoked_at, token.is_active(now)) {
        (Some(at), _) => format!("revoked {}", time(at)),
        (None, true) => "active".to_owned(),
        (None, false) => "expired".to_owned(),
    };
    let document: Vec<_> = tokens
        .iter()
        .map(|token| {
            json!({
                "uuid": token.id, "user_uuid": token.user, "user": token.username, "role": token.role,
                "offering_uuid": token.offering, "label": token.label, "created": time(token.created),
                "expires_at": token.expires_at.map(time), "revoked_at": token.revoked_at.map(time),
                "active": token.is_active(now),
            })
        })
        .collect();
    out.json(&document);
    if tokens.is_empty() {
        out.text("there are no tokens; make one with: sluice token create --user root --role staff");
        return Ok(());
    }
    let offerings = |id| {
        let registry = session.app.registry.read();
        registry.offering(id).map(|o| o.facts.facts.slug.clone()).unwrap_or_default()
    };
    let rows = tokens
        .iter()
        .map(|token| {
            [
                token.id.to_string(),
                token.username.clone(),
                token.role.to_string(),
                token.offering.map(offerings).unwrap_or_default(),
                token.label.clone().unwrap_or_default(),
                time(token.created),
                token.expires_at.map(time).unwrap_or_default(),
                state(token),
            ]
        })
        .collect();
    out.table(["token", "user", "role", "offering", "label", "created", "expires", "state"], rows);
    Ok(())
}
