//! Disabling, enabling and deleting a policy: what it does and to whom, a reason, and the act by its name.

use askama::Template;
use axum::extract::Path;
use axum::http::Method;
use serde_json::{Value, json};

use super::outcome::{Changed, Outcome, changed_outcome};
use super::{COLLECTION, Policy, known_to_change};
use crate::ui::allocation::encoded;
use crate::ui::assets;
use crate::ui::frame::{Frame, Section};
use crate::ui::problem::Problem;
use crate::ui::visit::{Shown, Visit, done, page};

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Enable,
    Disable,
    Delete,
}

impl Act {
    const fn word(self) -> &'static str {
        match self {
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Delete => "delete",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Enable => "Enable",
            Self::Disable => "Disable",
            Self::Delete => "Delete",
        }
    }

    const fn icon(self) -> &'static str {
        match self {
            Self::Enable => "play",
            Self::Disable => "ban",
            Self::Delete => "x",
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::Enable => "It decides again from now on, by the rules that it has.",
            Self::Disable => {
                "It restricts nobody any more and keeps everything: rules, log and commands. It can be enabled again."
            }
            Self::Delete => {
                "Its restrictions are released. Its log and its commands stay readable. It does not come back."
            }
        }
    }

    /// The state that a policy has after it; a deleted one restricts as little as a disabled one.
    const fn enabled_then(self) -> bool {
        matches!(self, Self::Enable)
    }
}

/// What a policy's page offers: word, icon and name of each.
pub fn offered(enabled: bool) -> [(&'static str, &'static str, &'static str); 2] {
    let first = if enabled { Act::Disable } else { Act::Enable };
    [first, Act::Delete].map(|act| (act.word(), act.icon(), act.name()))
}

/// The dialog's content.
#[derive(Template)]
#[template(path = "policy_switch_part.html")]
struct Part {
    policy: String,
    href: String,
    act: Act,
    icons: &'static str,
    csrf: String,
    reason: String,
    outcome: Option<Outcome>,
    problem: Option<Problem>,
    in_dialog: bool,
}

/// The same as a page.
#[derive(Template)]
#[template(path = "policy_switch.html")]
struct SwitchPage {
    frame: Frame,
    part: Part,
}

/// What the act would come to.
async fn tried(visit: &Visit, policy: &Policy, act: Act) -> Result<Outcome, Problem> {
    let path = format!("{COLLECTION}/{}/preview-changes/?page_size=100", policy.uuid);
    let run: Changed = visit.api.send(Method::POST, &path, &json!({ "enabled": act.enabled_then() })).await?;
    Ok(changed_outcome(run, "After that:"))
}

async fn part(visit: &Visit, policy: &Policy, act: Act, problem: Option<Problem>) -> Shown {
    let (outcome, problem) = match (tried(visit, policy, act).await, problem) {
        (Ok(outcome), problem) => (Some(outcome), problem),
        (Err(_), Some(problem)) | (Err(problem), None) => (None, Some(problem)),
    };
    let part = Part {
        policy: policy.name().to_owned(),
        href: policy.href(),
        act,
        icons: assets::address("icons.svg"),
        csrf: visit.csrf.clone(),
        reason: visit.form.get("reason").unwrap_or_default().to_owned(),
        outcome,
        problem,
        in_dialog: visit.fragment,
    };
    if visit.fragment {
        return page(&part);
    }
    let frame = Frame::of(visit, format!("{} {}", act.name(), part.policy), Section::Policies).await;
    let frame = frame.under("/policies", "Policies").under(&part.href, &part.policy);
    page(&SwitchPage { frame, part })
}

async fn asked(visit: &Visit, key: &str, act: Act) -> Shown {
    let policy = known_to_change(visit, key).await?;
    part(visit, &policy, act, None).await
}

async fn does(visit: &Visit, key: &str, act: Act) -> Shown {
    let policy = known_to_change(visit, key).await?;
    let (path, reason) = (format!("{COLLECTION}/{}/", policy.uuid), visit.form.get("reason").unwrap_or_default());
    let (done_with, to) = if act == Act::Delete {
        let path = format!("{path}?reason={}", encoded(reason));
        (visit.api.send::<Value>(Method::DELETE, &path, &json!({})).await, "/policies".to_owned())
    } else {
        let body = json!({ "enabled": act.enabled_then(), "reason": reason });
        (visit.api.send::<Value>(Method::PATCH, &path, &body).await, policy.href())
    };
    match done_with {
        Ok(_) => Ok(done(visit, &to)),
        Err(problem) => part(visit, &policy, act, Some(problem)).await,
    }
}

/// Asks before a policy is disabled.
pub async fn ask_to_disable(visit: Visit, Path(key): Path<String>) -> Shown {
    asked(&visit, &key, Act::Disable).await
}

/// Disables it.
pub async fn disable(visit: Visit, Path(key): Path<String>) -> Shown {
    does(&visit, &key, Act::Disable).await
}

/// Asks before a policy is enabled.
pub async fn ask_to_enable(visit: Visit, Path(key): Path<String>) -> Shown {
    asked(&visit, &key, Act::Enable).await
}

/// Enables it.
pub async fn enable(visit: Visit, Path(key): Path<String>) -> Shown {
    does(&visit, &key, Act::Enable).await
}

/// Asks before a policy is deleted.
pub async fn ask_to_delete(visit: Visit, Path(key): Path<String>) -> Shown {
    asked(&visit, &key, Act::Delete).await
}

/// Deletes it.
pub async fn delete(visit: Visit, Path(key): Path<String>) -> Shown {
    does(&visit, &key, Act::Delete).await
}
