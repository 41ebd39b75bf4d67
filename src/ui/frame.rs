//! The frame around every page: navigation, the signed-in user, and the time.

use serde::de::IgnoredAny;

use super::visit::Visit;
use super::{assets, words};

/// The part of the service that a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// The overview.
    Overview,
    /// Allocations.
    Allocations,
    /// Policies.
    Policies,
    /// What agents were told.
    Commands,
    /// The log.
    Events,
    /// How the service does.
    System,
    /// None.
    None,
}

/// A place in the navigation.
pub struct Place {
    /// Its address.
    pub href: &'static str,
    /// Its icon.
    pub icon: &'static str,
    /// Its name.
    pub name: &'static str,
    /// How many there are, where that is said.
    pub count: Option<String>,
    /// The count is of what needs somebody.
    pub alarm: bool,
    /// Whether the page belongs to it.
    pub current: bool,
}

/// A step of the way to a page.
pub struct Crumb {
    /// Where it leads.
    pub href: String,
    /// What it is called.
    pub name: String,
}

/// Who is signed in.
pub struct Person {
    /// The name.
    pub name: String,
    /// Two letters of it.
    pub initials: String,
    /// The role.
    pub role: &'static str,
}

/// What surrounds a page.
pub struct Frame {
    /// The page's title.
    pub title: String,
    /// Pages above it.
    pub crumbs: Vec<Crumb>,
    /// The navigation; nothing for those who only have allocations of their own.
    pub places: Vec<Place>,
    /// Who is signed in, if somebody is.
    pub person: Option<Person>,
    /// `light`, `dark` or `auto`.
    pub theme: &'static str,
    /// What a form has to send.
    pub csrf: String,
    /// The address of the page, to come back to.
    pub here: String,
    /// The time, `09:12`, in UTC.
    pub clock: Option<words::Moment>,
    /// The time is a simulated one.
    pub simulated: bool,
    /// The program's version.
    pub version: &'static str,
    /// Address of the style.
    pub css: &'static str,
    /// Address of htmx.
    pub htmx: &'static str,
    /// Address of our own script.
    pub script: &'static str,
    /// Address of the icons.
    pub icons: &'static str,
}

impl Frame {
    /// A frame without navigation: for those who are not signed in.
    pub fn bare(title: impl Into<String>, theme: &'static str) -> Self {
        Self {
            title: title.into(),
            crumbs: Vec::new(),
            places: Vec::new(),
            person: None,
            theme,
            csrf: String::new(),
            here: "/".to_owned(),
            clock: None,
            simulated: false,
            version: env!("CARGO_PKG_VERSION"),
            css: assets::address("sluice.css"),
            htmx: assets::address("vendor/htmx.min.js"),
            script: assets::address("sluice.js"),
            icons: assets::address("icons.svg"),
        }
    }

    /// The frame of a page.
    pub async fn of(visit: &Visit, title: impl Into<String>, section: Section) -> Self {
        let mut frame = Self::bare(title, visit.theme);
        let session = &visit.session;
        let name = if session.full_name.is_empty() { &session.username } else { &session.full_name };
        frame.person =
            Some(Person { name: name.clone(), initials: words::initials(name), role: words::role(session.role) });
        frame.csrf.clone_from(&visit.csrf);
        frame.clock = Some(words::Moment::of(visit.now));
        frame.simulated = visit.simulated;
        frame.here = visit.here();
        if !visit.is_user() {
            frame.places = places(visit, section).await;
        }
        frame
    }

    /// The same with a step above the page.
    #[must_use]
    pub fn under(mut self, href: &str, name: &str) -> Self {
        self.crumbs.push(Crumb { href: href.to_owned(), name: name.to_owned() });
        self
    }
}

/// How many rows a list of the API has; none where that cannot be said just now.
async fn rows_of(visit: &Visit, path: &str) -> Option<String> {
    let listed = visit.api.list::<IgnoredAny>(path).await.ok()?;
    Some(words::whole(listed.total))
}

async fn places(visit: &Visit, section: Section) -> Vec<Place> {
    let place = |href, icon, name, count, of| Place { href, icon, name, count, alarm: false, current: section == of };
    let allocations = rows_of(visit, "/api/marketplace-provider-resources/?page_size=1&field=uuid").await;
    let policies = rows_of(visit, "/api/marketplace-slurm-periodic-usage-policies/?page_size=1&field=uuid").await;
    let dead = rows_of(visit, "/api/dead-letters/?page_size=1&field=reason").await.filter(|count| count != "0");
    let mut places = vec![
        place("/", "layout-dashboard", "Overview", None, Section::Overview),
        place("/allocations", "layers", "Allocations", allocations, Section::Allocations),
        place("/policies", "scroll-text", "Policies", policies, Section::Policies),
        Place { alarm: dead.is_some(), ..place("/commands", "terminal", "Commands", dead, Section::Commands) },
    ];
    if visit.reads_log() {
        places.push(place("/events", "list-tree", "Events", None, Section::Events));
        places.push(place("/system", "settings", "System", None, Section::System));
    }
    places
}
