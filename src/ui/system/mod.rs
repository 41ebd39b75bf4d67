//! How the service does: what runs by itself, who follows the log, notices, holds, tokens, retention, settings.

pub mod consumers;
pub mod holds;
pub mod jobs;
pub mod notices;
pub mod retention;
pub mod settings;
pub mod tokens;

use super::frame::{Frame, Section};
use super::problem::Problem;
use super::visit::Visit;

/// Where the pages are.
pub const ABOVE: (&str, &str) = ("/system", "System");

/// A page of the system.
pub struct Tab {
    /// Its name.
    pub name: &'static str,
    /// Its address.
    pub href: &'static str,
    /// Whether it is shown.
    pub current: bool,
}

/// Pages, with whether only staff see them.
const PAGES: [(&str, &str, bool); 7] = [
    ("Jobs", "/system/jobs", false),
    ("Consumers", "/system/consumers", false),
    ("Notices", "/system/notices", false),
    ("Holds", "/system/holds", false),
    ("Tokens", "/system/tokens", true),
    ("Retention", "/system/retention", false),
    ("Settings", "/system/settings", false),
];

/// What surrounds a page of the system: for staff and support.
pub struct System {
    /// The frame.
    pub frame: Frame,
    /// All pages.
    pub tabs: Vec<Tab>,
    /// The path that was asked for.
    pub path: String,
    /// Whether the caller may change something.
    pub may_change: bool,
}

impl System {
    /// The surroundings of a page.
    pub async fn of(visit: &Visit, title: &'static str, href: &str) -> Self {
        let is_staff = visit.is_staff();
        let pages = PAGES.into_iter().filter(|(_, _, staff)| is_staff || !staff);
        Self {
            frame: Frame::of(visit, title, Section::System).await.under(ABOVE.0, ABOVE.1),
            tabs: pages.map(|(name, at, _)| Tab { name, href: at, current: at == href }).collect(),
            path: visit.path.clone(),
            may_change: is_staff,
        }
    }
}

/// What one may not see is not found.
pub fn reads(visit: &Visit) -> Result<(), Problem> {
    if visit.reads_log() { Ok(()) } else { Err(Problem::not_found()) }
}

/// The same for what only staff may do.
pub fn changes(visit: &Visit) -> Result<(), Problem> {
    if visit.is_staff() { Ok(()) } else { Err(Problem::not_found()) }
}
