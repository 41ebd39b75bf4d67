//! Runs `sacct` itself: one query per month and cluster, with its output read as a stream.
//!
//! `TZ` passes the site's zone, since `sacct` reads and cuts times in it; times come back as seconds since 1970, so
//! that no hour of a clock change is ambiguous. If the clocks pass a month's edge twice, the query includes some hours
//! around it, and the surplus is cut off here.

use std::fmt;
use std::io::{BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::offset::LocalResult;
use chrono::{DateTime, TimeDelta, TimeZone};
use chrono_tz::Tz;

use super::error::ImportError;
use super::{Importer, Progress};

/// Columns that are asked for.
const COLUMNS: &str = "JobID,Cluster,Account,State,Start,End,ElapsedRaw,AllocTRES";

/// What `sacct` may say on standard error, and how much of it is shown.
const STDERR_BYTES_MAX: u64 = 64 * 1024;
const STDERR_CHARS_SHOWN: usize = 1_000;

/// How long a process whose output is of no use may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// The signal of a process that writes into a closed pipe.
const SIGPIPE: i32 = 13;

/// Variables that change what `sacct` prints.
const CLEARED: [&str; 4] = ["SACCT_FEDERATION", "SACCT_LOCAL", "SACCT_FORMAT", "SLURM_CLUSTERS"];

/// One query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The program, looked for in `PATH` if it is no path.
    pub program: String,
    /// The cluster; the one `sacct` is set up for without it.
    pub cluster: Option<String>,
    /// First second, since 1970.
    pub begin_s: i64,
    /// The second after the last.
    pub end_s: i64,
    /// Zone of the site.
    pub zone: Tz,
}

impl Query {
    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = Vec::new();
        if let Some(cluster) = &self.cluster {
            arguments.extend(["-M".to_owned(), cluster.clone()]);
        }
        arguments.extend(["-a", "-D", "-P", "-X", "-T", "--noconvert"].map(str::to_owned));
        arguments.extend(["-S".to_owned(), local(self.begin_s, self.zone, -3)]);
        arguments.extend(["-E".to_owned(), local(self.end_s, self.zone, 3)]);
        arguments.extend(["-o".to_owned(), COLUMNS.to_owned()]);
        arguments
    }

    /// The query in short.
    fn label(&self) -> String {
        let cluster = self.cluster.as_ref().map(|name| format!(" -M {name}")).unwrap_or_default();
        let (begin, end) = (local(self.begin_s, self.zone, -3), local(self.end_s, self.zone, 3));
        format!("sacct{cluster} -S {begin} -E {end}")
    }

    /// Runs the query and reads what comes; answers with what `sacct` said on standard error although it succeeded.
    ///
    /// # Errors
    /// `sacct` cannot be run or fails, or what it writes cannot be read.
    pub fn run(
        &self,
        importer: &mut Importer,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<String>, ImportError> {
        let failed = |problem: String| ImportError::Sacct { problem: format!("{problem}; the command was: {self}") };
        let mut command = Command::new(&self.program);
        command.args(self.arguments()).env("TZ", self.zone.name()).env("SLURM_TIME_FORMAT", "%s").env("LC_ALL", "C");
        for name in CLEARED {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| {
            failed(if error.kind() == std::io::ErrorKind::NotFound {
                format!("{} was not found: say where it is with --sacct, or name a file", self.program)
            } else {
                format!("{} cannot be run: {error}", self.program)
            })
        })?;
        let mut running = Running(child);
        let (Some(stdout), Some(stderr)) = (running.0.stdout.take(), running.0.stderr.take()) else {
            return Err(failed("sacct has no output".to_owned()));
        };
        let said = std::thread::spawn(move || {
            let mut said = Vec::new();
            let mut stderr = stderr;
            // The rest is taken too, so that the program never waits for a reader.
            let read = (&mut stderr).take(STDERR_BYTES_MAX).read_to_end(&mut said);
            drop(read.and_then(|_| std::io::copy(&mut stderr, &mut std::io::sink())));
            String::from_utf8_lossy(&said).trim().chars().take(STDERR_CHARS_SHOWN).collect::<String>()
        });
        let read = importer.read(&self.label(), BufReader::with_capacity(256 * 1024, stdout), on_progress);
        importer.was_asked(self.cluster.as_deref());
        // What could not be read to its end may still be written.
        let ended = read.is_err() && running.end_within(GRACE);
        let status = running.0.wait().map_err(|error| failed(format!("sacct was lost: {error}")))?;
        let said = said.join().unwrap_or_default();
        // A program that failed writes no header: its own words say more than that. One that writes what nobody reads any
        // more is ended for it, and that says nothing.
        let unread = read.is_err() && (ended || status.signal() == Some(SIGPIPE));
        if !status.success() && !unread {
            let words = if said.is_empty() { "it said nothing".to_owned() } else { format!("it said: {said}") };
            return Err(failed(format!("sacct failed ({status}); {words}")));
        }
        read?;
        Ok(Some(said).filter(|said| !said.is_empty()))
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TZ={} {} {}", self.zone.name(), self.program, self.arguments().join(" "))
    }
}

/// A process that does not outlive its reader.
struct Running(Child);

impl Running {
    /// Waits for the process, which nobody reads any more, and ends it when it takes too long; says whether it had to.
    fn end_within(&mut self, grace: Duration) -> bool {
        let since = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) {
            if since.elapsed() > grace {
                return self.0.kill().is_ok();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.end_within(Duration::ZERO);
        drop(self.0.wait());
    }
}

/// An instant as `sacct` reads it. Where the clock shows that time twice, some hours are added.
fn local(epoch_s: i64, zone: Tz, hours: i64) -> String {
    let instant = DateTime::from_timestamp(epoch_s, 0).unwrap_or_default().with_timezone(&zone);
    let naive = instant.naive_local();
    let naive = match zone.from_local_datetime(&naive) {
        LocalResult::Ambiguous(..) => naive + TimeDelta::hours(hours),
        _ => naive,
    };
    naive.format("%Y-%m-%dT%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::Query;

    fn query(zone: Tz, begin_s: i64, end_s: i64) -> String {
        Query { program: "sacct".to_owned(), cluster: Some("alpha".to_owned()), begin_s, end_s, zone }.to_string()
    }

    #[test]
    fn a_month_is_asked_for_in_the_zone_of_the_site() {
        assert_eq!(
            query(Tz::America__Los_Angeles, 1_772_352_000, 1_775_026_800),
            "TZ=America/Los_Angeles sacct -M alpha -a -D -P -X -T --noconvert -S 2026-03-01T00:00:00 \
             -E 2026-04-01T00:00:00 -o JobID,Cluster,Account,State,Start,End,ElapsedRaw,AllocTRES"
        );
    }

    #[test]
    fn an_edge_that_comes_twice_is_asked_for_with_some_hours_around_it() {
        // Havana, 2026-11-01: 01:00 goes back to 00:00, so 00:00 is at 04:00 and at 05:00 UTC.
        let said = query(Tz::America__Havana, 1_793_505_600, 1_793_505_600);
        assert!(said.contains("-S 2026-10-31T21:00:00 -E 2026-11-01T03:00:00"), "{said}");
    }
}
