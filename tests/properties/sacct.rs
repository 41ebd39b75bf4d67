//! Importing accounting data: splitting loses nothing, and neither the order of rows nor their division into files matters.

use chrono::DateTime;
use chrono_tz::Tz;
use proptest::prelude::*;
use rust_decimal::Decimal;
use sluice::import::{ImportOptions, ImportTotals, Importer, MonthKey};

const HEADER: &str = "JobID|Account|Start|End|ElapsedRaw|AllocTRES";

#[derive(Debug, Clone)]
struct Job {
    id: u32,
    account: u8,
    start: i64,
    span: u32,
    elapsed: u32,
    nodes: u16,
}

impl Job {
    fn row(&self) -> String {
        row(self, self.start, self.start + i64::from(self.span), self.elapsed)
    }
}

fn row(job: &Job, start: i64, end: i64, elapsed: u32) -> String {
    // Times in UTC with an offset, so that the zone of the file is out of play.
    let text = |at| DateTime::from_timestamp(at, 0).expect("in range").format("%Y-%m-%dT%H:%M:%SZ");
    format!("{}|acc{}|{}|{}|{elapsed}|node={},cpu=4", job.id, job.account, text(start), text(end), job.nodes)
}

/// A job in 2025 to 2027, up to 100 days long; `suspended` ones count less than their span.
fn job(suspended: bool) -> impl Strategy<Value = Job> {
    (1_u32..40, 1_735_689_600_i64..1_830_000_000, 0_u32..8_640_000, 0_u32..=100, 1_u16..500).prop_map(
        move |(id, start, span, percent, nodes)| {
            let elapsed =
                if suspended { u32::try_from(u64::from(span) * u64::from(percent) / 100).expect("less") } else { span };
            // A job is charged to one account, however often it is listed.
            let account = u8::try_from(id % 4).expect("less than 4");
            Job { id, account, start, span, elapsed, nodes }
        },
    )
}

/// Distinct ids, so that jobs do not overlap themselves.
fn numbered(jobs: Vec<Job>) -> Vec<Job> {
    (1..).zip(jobs).map(|(id, job)| Job { id, ..job }).collect()
}

fn zone() -> impl Strategy<Value = Tz> {
    prop::sample::select(vec![
        Tz::UTC,
        Tz::Europe__Berlin,
        Tz::America__New_York,
        Tz::Australia__Lord_Howe,
        Tz::Asia__Kathmandu,
        Tz::Africa__Cairo,
        Tz::Pacific__Apia,
    ])
}

fn import(files: &[Vec<String>], zone: Tz) -> ImportTotals {
    let rules = ["node=node,seconds", "cpu=cpu,seconds"].map(|rule| rule.parse().expect("a rule"));
    let mut importer = Importer::new(ImportOptions::new(rules.to_vec(), zone));
    for rows in files {
        let text = format!("{HEADER}\n{}\n", rows.join("\n"));
        importer.read("generated", text.as_bytes(), &mut |_| {}).expect("well-formed rows");
    }
    importer.finish().expect("small totals")
}

fn sum(totals: &ImportTotals, component: &str) -> Decimal {
    totals.per_account.values().flat_map(|months| months.values()).map(|amounts| amounts[component]).sum()
}

/// What was used, without the zeros: where those stand depends on whether a month has jobs that end in it.
fn used(totals: &ImportTotals) -> Vec<(String, MonthKey, Decimal)> {
    let months = totals.per_account.iter().flat_map(|(account, months)| months.iter().map(move |of| (account, of)));
    months
        .map(|(account, (month, amounts))| (account.clone(), *month, amounts["node"]))
        .filter(|(_, _, amount)| !amount.is_zero())
        .collect()
}

proptest! {
    #[test]
    fn splitting_at_month_edges_conserves_seconds(jobs in prop::collection::vec(job(true), 0..30), zone in zone()) {
        let jobs = numbered(jobs);
        let totals = import(&[jobs.iter().map(Job::row).collect()], zone);
        let nodes: u64 = jobs.iter().map(|job| u64::from(job.elapsed) * u64::from(job.nodes)).sum();
        let cpus: u64 = jobs.iter().map(|job| u64::from(job.elapsed) * 4).sum();
        prop_assert_eq!(sum(&totals, "node"), Decimal::from(nodes));
        prop_assert_eq!(sum(&totals, "cpu"), Decimal::from(cpus));
        prop_assert_eq!(totals.jobs, jobs.len() as u64);
    }

    /// Ids repeat here, so rows of a job overlap and contradict each other.
    #[test]
    fn the_order_of_rows_is_irrelevant(
        (rows, shuffled) in prop::collection::vec(job(true), 1..40)
            .prop_map(|jobs| jobs.iter().map(Job::row).collect::<Vec<_>>())
            .prop_flat_map(|rows| (Just(rows.clone()), Just(rows).prop_shuffle())),
        zone in zone(),
    ) {
        prop_assert_eq!(import(&[rows], zone), import(&[shuffled], zone));
    }

    #[test]
    fn the_division_into_files_and_repetition_are_irrelevant(
        jobs in prop::collection::vec(job(true), 1..40), cut in any::<prop::sample::Index>(), zone in zone(),
    ) {
        let rows: Vec<String> = jobs.iter().map(Job::row).collect();
        let (first, second) = rows.split_at(cut.index(rows.len()));
        let whole = import(std::slice::from_ref(&rows), zone);
        let parts = import(&[first.to_vec(), second.to_vec()], zone);
        prop_assert_eq!(&whole, &parts);
        let twice = import(&[rows.clone(), rows], zone);
        prop_assert_eq!(whole.per_account, twice.per_account);
        prop_assert_eq!(whole.jobs, twice.jobs);
    }

    /// `sacct -T` cuts a job at the edges of the window that was asked for.
    #[test]
    fn pieces_of_a_job_are_worth_the_whole_with_and_without_the_whole_beside_them(
        jobs in prop::collection::vec((job(false), any::<prop::sample::Index>()), 1..20), zone in zone(),
    ) {
        let ids = (1..).zip(&jobs).map(|(id, (job, cut))| (Job { id, ..job.clone() }, cut));
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        for (job, cut) in ids {
            let first = u32::try_from(cut.index(job.span as usize + 1)).expect("within the span");
            let middle = job.start + i64::from(first);
            pieces.push(row(&job, job.start, middle, first));
            pieces.push(row(&job, middle, job.start + i64::from(job.span), job.span - first));
            whole.push(job.row());
        }
        let expected = used(&import(std::slice::from_ref(&whole), zone));
        prop_assert_eq!(&expected, &used(&import(std::slice::from_ref(&pieces), zone)));
        prop_assert_eq!(&expected, &used(&import(&[pieces, whole], zone)));
    }
}
