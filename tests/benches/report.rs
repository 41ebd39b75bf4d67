//! Tables, medians, and the conditions under which something was measured.

use std::fmt::Write as _;

/// The middle of some measurements.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A table in the form that Markdown knows, printed row by row, so that a long run shows what it has.
pub struct Table {
    widths: Vec<usize>,
}

impl Table {
    pub fn new(columns: &[&str]) -> Self {
        let table = Self { widths: columns.iter().map(|name| name.chars().count().max(9)).collect() };
        table.row(&columns.iter().map(ToString::to_string).collect::<Vec<_>>());
        table.row(&table.widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>());
        table
    }

    pub fn row(&self, cells: &[String]) {
        let mut line = String::from("|");
        for (cell, width) in cells.iter().zip(&self.widths) {
            write!(line, " {cell:>width$} |").unwrap();
        }
        println!("{line}");
    }
}

fn first_line(path: &str, prefix: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(prefix)).unwrap_or_default();
    line.trim_start_matches(prefix).trim_start_matches([' ', '\t', ':']).trim().to_owned()
}

/// Prints the machine and how busy it is.
pub fn conditions() {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    println!(
        "{} x {cores}, memory {}",
        first_line("/proc/cpuinfo", "model name"),
        first_line("/proc/meminfo", "MemTotal")
    );
    println!("Linux {}, load {}", first_line("/proc/sys/kernel/osrelease", ""), load());
}

/// The load average: how many others wanted the cores in the last minutes.
pub fn load() -> String {
    first_line("/proc/loadavg", "").split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Anonymous memory of a process, KiB; what the page cache holds of its files does not count.
pub fn anonymous_kib(process: &str) -> u64 {
    let text = first_line(&format!("/proc/{process}/smaps_rollup"), "Anonymous:");
    text.trim_end_matches("kB").trim().parse().unwrap_or_default()
}

/// Processor time that this process has used so far, seconds: what other processes do changes it little.
pub fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit(") ").next().unwrap_or_default();
    let ticks =
        after_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap_or_default()).sum::<f64>();
    ticks / 100.0 // the kernel shows times in hundredths, whatever it counts in
}
