//! Settings that staff may change while the service runs.

use askama::Template;
use axum::extract::Path;
use axum::http::Method;
use serde_json::{Map, Value, json};

use super::{ABOVE, System, Tab, changes, reads};
use crate::ui::assets;
use crate::ui::frame::{Frame, Section};
use crate::ui::problem::Problem;
use crate::ui::visit::{Shown, Visit, done, page};

/// A setting.
pub struct Setting {
    /// Its name.
    pub name: String,
    /// What it is, in a few words.
    pub title: &'static str,
    /// What it does.
    pub what: &'static str,
    /// Its value.
    pub value: String,
    /// What may be chosen; empty where a number is typed.
    pub choices: &'static [(&'static str, &'static str)],
}

/// The page.
#[derive(Template)]
#[template(path = "system_settings.html")]
struct SettingsPage {
    frame: Frame,
    tabs: Vec<Tab>,
    may_change: bool,
    settings: Vec<Setting>,
}

/// The form of one.
#[derive(Template)]
#[template(path = "setting_part.html")]
struct Part {
    icons: &'static str,
    csrf: String,
    in_dialog: bool,
    problem: Option<Problem>,
    setting: Setting,
    typed: String,
    reason: String,
}

/// The same as a page.
#[derive(Template)]
#[template(path = "setting.html")]
struct SettingPage {
    frame: Frame,
    part: Part,
}

/// The retention, under the name that the API has for it.
pub const RETENTION_DAYS: &str = "SLURM_POLICY_EVALUATION_LOG_RETENTION_DAYS";

const YES_NO: &[(&str, &str)] = &[("true", "yes"), ("false", "no")];
const SCOPES: &[(&str, &str)] = &[("customer", "those of the same organisation"), ("offering", "all on the offering")];

/// A setting in words: its title, what it does, what may be chosen.
fn known(name: &str) -> (&'static str, &'static str, &'static [(&'static str, &'static str)]) {
    match name {
        RETENTION_DAYS => (
            "Retention, days",
            "How long rows of the evaluation log and the command history are kept. Events stay.",
            &[],
        ),
        "no_answer_minutes" => {
            ("No answer after, minutes", "When Sluice resends a message that an agent has not answered.", &[])
        }
        "reset_resend_minutes" => {
            ("Resend resets for, minutes", "How long a resent message still resets raw usage.", &[])
        }
        "dispatch_window" => {
            ("Unanswered messages", "How many messages one agent may leave unanswered before the rest wait.", &[])
        }
        "block_creation_scope" => {
            ("What blocks a new allocation", "Which used-up allocations block the creation of new ones.", SCOPES)
        }
        "fairshare_divisor" => ("Fairshare divisor", "Fairshare is the effective hours divided by this number.", &[]),
        "reset_total_at_takeover" => (
            "Reset under a total policy",
            "Whether take-over resets raw usage under a policy without periods too.",
            YES_NO,
        ),
        "usage_before_creation_months" => {
            ("Usage before creation, months", "How far before its creation an allocation's usage is accepted.", &[])
        }
        _ => ("", "", &[]),
    }
}

fn setting(name: &str, value: &Value) -> Setting {
    let (title, what, choices) = known(name);
    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Setting { name: name.to_owned(), title, what, value, choices }
}

impl Setting {
    /// The value in words.
    pub fn says(&self) -> &str {
        self.choices.iter().find(|(word, _)| *word == self.value).map_or(&self.value, |(_, says)| says)
    }
}

/// The settings in force.
pub async fn in_force(visit: &Visit) -> Result<Vec<Setting>, Problem> {
    let all = visit.api.get::<Map<String, Value>>("/api/settings/").await?;
    Ok(all.iter().map(|(name, value)| setting(name, value)).collect())
}

/// The page of settings.
pub async fn show(visit: Visit) -> Shown {
    reads(&visit)?;
    let settings = in_force(&visit).await?;
    let system = System::of(&visit, "Settings", "/system/settings").await;
    page(&SettingsPage { frame: system.frame, tabs: system.tabs, may_change: system.may_change, settings })
}

async fn part(visit: &Visit, name: &str) -> Result<Part, Problem> {
    changes(visit)?;
    let setting = in_force(visit).await?.into_iter().find(|setting| setting.name == name);
    let setting = setting.ok_or_else(Problem::not_found)?;
    Ok(Part {
        icons: assets::address("icons.svg"),
        csrf: visit.csrf.clone(),
        in_dialog: visit.fragment,
        problem: None,
        typed: visit.form.get("value").unwrap_or(&setting.value).to_owned(),
        reason: visit.form.get("reason").unwrap_or_default().to_owned(),
        setting,
    })
}

async fn shown(visit: &Visit, part: Part) -> Shown {
    if visit.fragment {
        return page(&part);
    }
    let frame = Frame::of(visit, part.setting.title, Section::System).await.under(ABOVE.0, ABOVE.1);
    page(&SettingPage { frame: frame.under("/system/settings", "Settings"), part })
}

/// The form of a setting.
pub async fn ask(visit: Visit, Path(name): Path<String>) -> Shown {
    let part = part(&visit, &name).await?;
    shown(&visit, part).await
}

/// Changes a setting.
pub async fn change(visit: Visit, Path(name): Path<String>) -> Shown {
    let mut part = part(&visit, &name).await?;
    let value = match part.typed.as_str() {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        text => text.into(),
    };
    let body = json!({ (name.as_str()): value, "reason": part.reason });
    match visit.api.send::<Value>(Method::PATCH, "/api/settings/", &body).await {
        Ok(_) => return Ok(done(&visit, "/system/settings")),
        Err(problem) => part.problem = Some(problem),
    }
    shown(&visit, part).await
}
