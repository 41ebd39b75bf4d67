//! `sluice demo`: two quarters and a half of a small cluster, played through in seconds on a simulated clock.
//!
//! Nothing is staged: the demo applies the sample site and imports invented `sacct` output day by day, the clock runs
//! the same jobs as in a server, and the output is read back from the event log.

mod narrate;
mod story;

pub use narrate::Narrator;
pub use story::{DemoError, Story, start};

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crate::app::{App, AppOptions};
use crate::commands::execute::CommandMeta;
use crate::directory::{NewToken, Role, UserDetails};
use crate::domain::explain::short;
use crate::domain::ids::{PolicyId, UserId, slug_uuid};
use crate::events::envelope::Actor;
use crate::projections::{Page, status_summary};
use crate::site::{Site, SiteFile};

/// The demo's policy.
fn policy() -> PolicyId {
    PolicyId::from(slug_uuid("policy", "hpc1-quarterly"))
}

/// Makes a database in `folder`, applies the sample site, and plays the story to `out`.
pub async fn play(folder: &Path, out: &mut (dyn Write + Send), colour: bool) -> Result<Arc<App>, DemoError> {
    let mut options = AppOptions::at(folder.join("sluice.db"));
    options.simulated_clock = Some(start());
    // Visitors look at all quarters when the story is over.
    options.settings.retention_days = 3_650;
    let app = App::open(options).await?;
    // No line is wider than 80 columns.
    writeln!(out, "Sluice demo: two quarters and a half of a small cluster, on a simulated clock,")?;
    writeln!(out, "in {}", folder.display())?;
    writeln!(out, "Policy hpc1-quarterly, 1000 node-hours each: warn at 80 %, slow down at 100 %,")?;
    writeln!(out, "pause at 120 %; up to 50 % is carried over. The demo has no cluster: it answers")?;
    writeln!(out, "in the place of the site agent.\n")?;
    let meta = CommandMeta {
        actor: Actor::CLI,
        correlation_id: crate::clock::IdSource.fresh(),
        causation_id: None,
        reason: None,
    };
    let file = SiteFile::read(story::SITE, app.allocations.rules().zone, &|_| None)?;
    let site = Site {
        registry: Arc::clone(&app.registry),
        registry_commands: Arc::clone(&app.registry_commands),
        allocations: Arc::clone(&app.allocations),
        directory: app.directory.clone(),
        read: app.read.clone(),
    };
    site.apply(&file, false, &meta, app.clock.now(), &|_, _| {}).await?;
    let story = Story::new(Arc::clone(&app))?;
    story.play(&mut Narrator::new(out, colour)).await?;
    status(&app, out).await?;
    Ok(app)
}

/// The status table at the end.
async fn status(app: &App, out: &mut (dyn Write + Send)) -> Result<(), DemoError> {
    let filter = status_summary::StatusFilter { policy: Some(policy()), ..Default::default() };
    let (rows, _) = status_summary::list(&app.read, &filter, Page::first(100)).await?;
    writeln!(out, "\n{}: where the allocations stand now", app.clock.now().format("%Y-%m-%d"))?;
    writeln!(out, "  {:<12} {:<9} {:>9}  {:<12} site agent", "allocation", "period", "usage", "state")?;
    for row in rows {
        let state = match (row.flags.paused, row.flags.downscaled) {
            (true, _) => "paused",
            (false, true) => "slowed down",
            (false, false) => "normal",
        };
        let period = row.period.map(|p| p.to_string()).unwrap_or_default();
        let usage = row.percentage.map(|p| format!("{} %", short(p, 1))).unwrap_or_default();
        let agent = row.agent.as_str();
        writeln!(out, "  {:<12} {period:<9} {usage:>9}  {state:<12} {agent}", row.resource_name)?;
    }
    Ok(())
}

/// Makes a staff token and prints how to look around with it.
pub async fn invite(app: &App, address: SocketAddr, out: &mut (dyn Write + Send)) -> Result<(), DemoError> {
    let now = app.clock.now();
    let user = UserId::from(slug_uuid("user", "demo"));
    let details = UserDetails { id: user, username: "demo".into(), email: None, full_name: "Demo operator".into() };
    app.directory.put_user(&details, now).await?;
    let new = NewToken { user, role: Role::Staff, offering: None, label: None, expires_at: None, key: None };
    let (_, key) = app.directory.create_token(new, now).await?;
    // The demo's clock does not move: the link does not expire while people read the story.
    let link = app.directory.create_login_link(user, Role::Staff, now + chrono::TimeDelta::hours(1), now).await?;
    writeln!(out, "\nThe pages, for one sign-in as staff: http://{address}/login?link={link}")?;
    let api = format!("http://{address}/api");
    let (policies, policy) = ("marketplace-slurm-periodic-usage-policies", policy());
    writeln!(out, "\nThe API serves at {api}/ (documentation: {api}/docs/). Three things to try:\n")?;
    writeln!(out, "  TOKEN={key}")?;
    writeln!(out, "  POLICY={api}/{policies}/{policy}")?;
    for call in ["$POLICY/status/", "\"$POLICY/evaluation-logs/?action=pause\"", "-X POST $POLICY/dry-run/"] {
        writeln!(out, "  curl -s -H \"Authorization: Token $TOKEN\" {call}")?;
    }
    writeln!(out, "\nCtrl-C ends it.")?;
    out.flush()?;
    Ok(())
}
