//! `sluice import sacct` that runs `sacct` itself: a year of invented jobs at sites in three zones, with known totals.
//!
//! The `sacct` here is a script that knows the jobs as seconds since 1970 and cuts them at the window it is asked for, in
//! the zone of `TZ`, as the real one does with `-T`.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use chrono::{DateTime, Datelike, TimeZone};
use chrono_tz::Tz;
use serde_json::Value;

use super::Fixture;
use super::import::{head, total};

/// A job: cluster, id, account, start, seconds.
type Job = (&'static str, u32, &'static str, i64, i64);

/// Writes a `sacct` into the fixture that knows these jobs; answers with its path.
fn sacct(fixture: &Fixture, jobs: &[Job]) -> String {
    let rows: Vec<String> = jobs
        .iter()
        .map(|(cluster, id, account, start, seconds)| format!("{cluster} {id} {account} {start} {}", start + seconds))
        .collect();
    fixture.file("jobs", &format!("{}\n", rows.join("\n")));
    let script = r#"#!/bin/sh
here=$(dirname "$0")
echo "$TZ $*" >> "$here/asked"
cluster=
while [ $# -gt 0 ]; do
    case $1 in
        -M) cluster=$2; shift ;;
        -S) begin=$(date -d "$(echo "$2" | tr T ' ')" +%s); shift ;;
        -E) end=$(date -d "$(echo "$2" | tr T ' ')" +%s); shift ;;
    esac
    shift
done
awk -v b="$begin" -v e="$end" -v c="$cluster" 'BEGIN { print "JobID|Cluster|Account|State|Start|End|ElapsedRaw|AllocTRES" }
    (c == "" || $1 == c) && $4 < e && $5 > b {
        s = $4 < b ? b : $4; t = $5 > e ? e : $5
        printf "%s|%s|%s|COMPLETED|%d|%d|%d|cpu=64,node=1\n", $2, $1, $3, s, t, t - s
    }' "$here/jobs"
"#;
    let path = fixture.file("sacct", script);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn asked(fixture: &Fixture) -> Vec<String> {
    let asked = std::fs::read_to_string(fixture.folder.path().join("asked")).unwrap_or_default();
    asked.lines().map(str::to_owned).collect()
}

/// A year of jobs: one of every length somewhere, many over the ends of months and the changes of clocks.
fn year() -> Vec<Job> {
    let begin = 1_735_689_600; // 2025-01-01T00:00:00Z
    let mut jobs = Vec::new();
    let mut seed: i64 = 20_250_101;
    for id in 1..=400 {
        seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
        let start = begin + i64::from(id) * 78_840 + seed % 7_200;
        let seconds = 60 + seed % 200_000;
        jobs.push(("alpha", id, if id % 3 == 0 { "hpc_genomics" } else { "hpc_climate" }, start, seconds));
    }
    jobs
}

/// Seconds by account and month of a zone, worked out second by second of each hour's end.
fn known(jobs: &[Job], zone: Tz) -> BTreeMap<(String, String), i64> {
    let mut totals = BTreeMap::new();
    for (_, _, account, start, seconds) in jobs {
        let mut at = *start;
        while at < start + seconds {
            let local = DateTime::from_timestamp(at, 0).unwrap().with_timezone(&zone);
            let (year, month) =
                if local.month() == 12 { (local.year() + 1, 1) } else { (local.year(), local.month() + 1) };
            let next = zone.with_ymd_and_hms(year, month, 1, 0, 0, 0).earliest().unwrap().timestamp();
            let until = next.min(start + seconds);
            *totals.entry(((*account).to_owned(), local.format("%Y-%m").to_string())).or_default() += until - at;
            at = until;
        }
    }
    totals
}

fn seconds(amount: &Value) -> i64 {
    let hours: f64 = amount.as_str().unwrap().parse().unwrap();
    #[expect(clippy::cast_possible_truncation, reason = "some thousand hours")]
    let seconds = (hours * 3600.0).round() as i64;
    seconds
}

fn command(fixture: &Fixture, zone: &str, sacct: &str, more: &[&str]) -> Value {
    let arguments = ["import", "sacct", "--offering", "hpc1", "--sacct", sacct, "--format", "json"];
    let mut command = fixture.command(&[&arguments[..], more].concat());
    let done = command.env("SLUICE_TIME_ZONE", zone).assert().success();
    serde_json::from_slice(&done.get_output().stdout).unwrap()
}

#[test]
fn a_year_of_jobs_at_sites_in_three_zones_is_counted_to_the_second_month_by_month() {
    let jobs = year();
    for zone in [Tz::America__Los_Angeles, Tz::Europe__Berlin, Tz::Pacific__Auckland] {
        let fixture = Fixture::new();
        fixture.command(&["apply", "-f", "src/demo/site.yaml"]).env("SLUICE_TIME_ZONE", zone.name()).assert().success();
        let sacct = sacct(&fixture, &jobs);
        let known = known(&jobs, zone);
        let mut found = BTreeMap::new();
        for number in 1..=12 {
            let month = format!("2025-{number:02}");
            let document = command(&fixture, zone.name(), &sacct, &["--month", &month]);
            for line in document["totals"].as_array().unwrap() {
                assert_eq!(line["month"], month.as_str(), "{zone}: no other month is touched");
                let account = line["account"].as_str().unwrap().to_owned();
                found.insert((account, month.clone()), seconds(&line["amount"]));
            }
        }
        found.retain(|_, seconds| *seconds > 0);
        let year: BTreeMap<_, _> = known.iter().filter(|((_, month), _)| month.starts_with("2025")).collect();
        assert_eq!(found.iter().collect::<BTreeMap<_, _>>(), year, "{zone}");
        let asked = asked(&fixture);
        assert_eq!(asked.len(), 12);
        assert!(asked.iter().all(|asked| asked.starts_with(&format!("{} -a -D -P -X -T", zone.name()))), "{asked:?}");

        // All of it at once gives the same, and so nothing new.
        let document = command(&fixture, zone.name(), &sacct, &["--from", "2025-01-01", "--to", "2025-12-31"]);
        let lines = document["totals"].as_array().unwrap();
        assert!(lines.iter().all(|line| line["outcome"] == "unchanged"), "{zone}: {document}");
    }
}

#[test]
fn files_in_another_zone_lose_nothing_at_its_edges() {
    // Listed at the months of UTC, as TZ=UTC sacct -T does, for a site in Los Angeles.
    let (jobs, zone) = (year(), Tz::America__Los_Angeles);
    let fixture = Fixture::new();
    fixture.command(&["apply", "-f", "src/demo/site.yaml"]).env("SLUICE_TIME_ZONE", zone.name()).assert().success();
    let month_at = |number: i64| {
        Tz::UTC.with_ymd_and_hms(
            2025 + i32::try_from(number / 12).unwrap(),
            u32::try_from(number % 12).unwrap() + 1,
            1,
            0,
            0,
            0,
        )
    };
    let mut files = Vec::new();
    for number in 0..14 {
        let (begin, end) = (month_at(number).unwrap().timestamp(), month_at(number + 1).unwrap().timestamp());
        let time = |at| DateTime::from_timestamp(at, 0).unwrap().format("%Y-%m-%dT%H:%M:%S").to_string();
        let rows: Vec<String> = jobs
            .iter()
            .filter(|(_, _, _, start, seconds)| *start < end && start + seconds > begin)
            .map(|(_, id, account, start, seconds)| {
                let (from, to) = ((*start).max(begin), (start + seconds).min(end));
                format!("{id}|{account}|COMPLETED|{}|{}|{}|cpu=64,node=1\n", time(from), time(to), to - from)
            })
            .collect();
        files.push(fixture.file(&format!("{number}.txt"), &super::import::jobs(&rows)));
    }
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let more =
        ["--offering", "hpc1", "--timezone", "UTC", "--from", "2025-01-01", "--to", "2025-12-31", "--format", "json"];
    let mut command = fixture.command(&[&["import", "sacct"], &files[..], &more[..]].concat());
    let done = command.env("SLUICE_TIME_ZONE", zone.name()).assert().success();
    let document: Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
    for ((account, month), known) in known(&jobs, zone).iter().filter(|((_, month), _)| month.starts_with("2025")) {
        assert_eq!(seconds(&total(&document, account, month)[0]), *known, "{account} {month}");
    }
}

#[test]
fn clusters_are_asked_one_by_one_and_since_last_begins_where_the_last_import_was() {
    let fixture = Fixture::with_site();
    let site = std::fs::read_to_string("src/demo/site.yaml").unwrap();
    let begins = site.find("slug: hpc1").unwrap();
    let (before, after) = site.split_at(begins + "slug: hpc1".len());
    let indent = " ".repeat(begins - before[..begins].rfind('\n').unwrap() - 1);
    let file = fixture.file("site.yaml", &format!("{before}\n{indent}slurm_clusters: [alpha, beta]{after}"));
    fixture.run(&["apply", "-f", &file]);
    let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().timestamp();
    let jobs = [
        ("alpha", 7, "hpc_climate", at("2026-02-28T23:00:00Z"), 7200),
        ("beta", 7, "hpc_climate", at("2026-03-10T00:00:00Z"), 3600),
        ("gamma", 7, "hpc_climate", at("2026-03-10T00:00:00Z"), 360_000),
        ("beta", 8, "hpc_climate", at("2026-04-01T00:00:00Z"), 7200),
    ];
    let sacct = sacct(&fixture, &jobs);
    let document = command(&fixture, "UTC", &sacct, &["--month", "2026-02"]);
    assert_eq!(total(&document, "hpc_climate", "2026-02")[0], "1");
    let document = command(&fixture, "UTC", &sacct, &["--since-last"]);
    assert_eq!(document["months"], serde_json::json!(["2026-02", "2026-03", "2026-04"]));
    assert_eq!(total(&document, "hpc_climate", "2026-03")[0], "2");
    assert_eq!(total(&document, "hpc_climate", "2026-04")[0], "2");
    let asked = asked(&fixture);
    let clusters: Vec<&str> = asked.iter().map(|asked| asked.split(' ').nth(2).unwrap()).collect();
    assert_eq!(clusters, ["alpha", "beta", "alpha", "beta", "alpha", "beta", "alpha", "beta"]);
    assert!(asked[6].contains("-S 2026-04-01T00:00:00 -E 2026-04-02T00:00:00"), "until now: {}", asked[6]);
}

#[test]
fn a_sacct_that_fails_stores_nothing() {
    let fixture = Fixture::with_site();
    let before = head(&fixture);
    let path = fixture.file("sacct", "#!/bin/sh\necho 'sacct: error: no slurmdbd here' >&2\nexit 1\n");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (status, stderr) =
        fixture.fails(&["import", "sacct", "--offering", "hpc1", "--month", "2026-02", "--sacct", &path]);
    assert_eq!(status, 1);
    assert!(stderr.contains("sacct failed (exit status: 1); it said: sacct: error: no slurmdbd here"), "{stderr}");
    assert_eq!(head(&fixture), before);
}

#[test]
fn a_file_that_was_cut_at_the_months_of_another_zone_says_what_is_missing() {
    let fixture = Fixture::new();
    let zone = "America/Los_Angeles";
    fixture.command(&["apply", "-f", "src/demo/site.yaml"]).env("SLUICE_TIME_ZONE", zone).assert().success();
    let row = super::import::job(1, "hpc_climate", "2026-02-28T22:00:00", "2026-03-01T00:00:00", 7200);
    let file = fixture.file("february.txt", &super::import::jobs(&[row]));
    let arguments = super::import::import(&file, &["--timezone", "UTC", "--month", "2026-02"]);
    let done = fixture.command(&arguments).env("SLUICE_TIME_ZONE", zone).assert().success();
    let stderr = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
    assert!(stderr.contains("cut where the month ends in UTC, 8 h before it does at the site"), "{stderr}");
}
