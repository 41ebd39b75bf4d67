//! The doctor: checks everything that Sluice needs, and says what is wrong and what to do about it.
//!
//! It changes nothing, upgrades no database and sends no mail, and works beside a running server and without one. If an
//! earlier failure makes a check impossible, it omits the check rather than guess.

mod files;
mod log;
mod reach;
mod server;
mod service;

use serde::Serialize;

use crate::app::{App, AppError};
use crate::config::{Config, Database};

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing to do.
    Ok,
    /// Worth a look; Sluice does its work.
    Warning,
    /// Sluice cannot do its work, or will soon not.
    Trouble,
}

impl State {
    /// The word in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Trouble => "TROUBLE",
        }
    }
}

/// What was found about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about: configuration, database, log, disk, clock, server, consumers, agents, accounts, notices, mail,
    /// webhooks, tokens.
    pub area: &'static str,
    /// How it stands.
    pub state: State,
    /// What was seen.
    pub what: String,
    /// What to do; of anything that is not in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(area: &'static str, what: impl Into<String>) -> Self {
        Self { area, state: State::Ok, what: what.into(), fix: None }
    }

    /// Worth a look.
    pub fn warning(area: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { area, state: State::Warning, what: what.into(), fix: Some(fix.into()) }
    }

    /// Something is broken.
    pub fn trouble(area: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { area, state: State::Trouble, what: what.into(), fix: Some(fix.into()) }
    }
}

/// What to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoctorOptions {
    /// Read every page of the database files.
    pub integrity: bool,
    /// Read every event of the log.
    pub deep: bool,
    /// Connect to the mail server, the endpoints of webhooks and the running server.
    pub network: bool,
}

/// Looks at everything.
pub async fn examine(config: &Config, options: DoctorOptions) -> Vec<Finding> {
    let mut found = configuration(config);
    let usable = match config.database() {
        Err(_) => false,
        Ok(Database::Sqlite(log)) => {
            let (seen, usable) = files::examine(&log, &config.limits(), options.integrity).await;
            found.extend(seen);
            usable
        }
        Ok(Database::Postgres(url)) => {
            let (seen, usable) = server::examine(&url, config).await;
            found.extend(seen);
            usable
        }
    };
    if usable {
        match config.app_options() {
            Err(error) => found.push(Finding::trouble("configuration", error.to_string(), "correct the configuration")),
            Ok(mut app_options) => {
                app_options.repairs = false;
                found.extend(log::examine(&app_options, options).await);
                match App::open(app_options).await {
                    Ok(app) => found.extend(service::examine(&app, config, options).await),
                    Err(error) => found.push(Finding::trouble(
                        match error {
                            AppError::Notify(_) => "notices",
                            AppError::ClockKind { .. } | AppError::Backwards { .. } => "clock",
                            _ => "database",
                        },
                        chain(&error),
                        "correct what the message names; `sluice serve` does not start before",
                    )),
                }
            }
        }
    }
    if options.network {
        found.extend(reach::examine(config).await);
    }
    found
}

/// An error and what lies behind it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let said = source.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = source.source();
    }
    text
}

fn configuration(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    match config.database() {
        Ok(database) => found.push(Finding::ok("configuration", format!("read; the database is {database}"))),
        Err(error) => found.push(Finding::trouble("configuration", error.to_string(), "set --database or --data-dir")),
    }
    for variable in &config.notify_options().missing_secrets {
        found.push(Finding::trouble(
            "configuration",
            format!("the variable {variable} is not set; the configuration says that it holds a secret"),
            format!("set {variable} in the environment of the server (and of this command, to check the rest)"),
        ));
    }
    if config.public_url.is_none() && config.notices.link.is_none() {
        found.push(Finding::warning(
            "configuration",
            "mails have no link: neither public_url nor notices.link is set",
            "set public_url to the address under which people reach the service",
        ));
    }
    if config.listen.ip().is_unspecified() || !config.listen.ip().is_loopback() {
        found.push(Finding::warning(
            "configuration",
            format!("the server listens on {} without TLS: keys travel in the clear", config.listen),
            "listen on 127.0.0.1 and put a proxy that does TLS in front",
        ));
    }
    found
}
