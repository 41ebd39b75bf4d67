//! How results, complaints and progress reach the terminal, or the pipe.

use std::borrow::Cow;
use std::error::Error;
use std::io::{IsTerminal, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use comfy_table::{ContentArrangement, Table, TableStyle};
use indicatif::{ProgressBar, ProgressStyle};
use rust_decimal::Decimal;
use serde::Serialize;

use crate::domain::explain::short;

/// Where results go, and in which form.
pub(super) struct Out {
    json: bool,
}

impl Out {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints text for people; nothing where JSON is wanted.
    pub(super) fn text(&self, text: impl AsRef<str>) {
        if !self.json {
            write_out(text.as_ref());
        }
    }

    /// Prints a table for people; nothing where JSON is wanted.
    pub(super) fn table<const N: usize>(&self, header: [&str; N], rows: Vec<[String; N]>) {
        if self.json {
            return;
        }
        let mut table = Table::new();
        table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Disabled);
        if std::io::stdout().is_terminal() {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        table.set_header(header.map(str::to_uppercase));
        for row in rows {
            table.add_row(row);
        }
        let shown = table.to_string();
        let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
        write_out(&lines.join("\n"));
    }

    /// Prints a document where JSON is wanted.
    pub(super) fn json(&self, document: &impl Serialize) {
        if self.json
            && let Ok(text) = serde_json::to_string_pretty(document)
        {
            write_out(&text);
        }
    }

    /// Prints a remark for people on standard error.
    #[expect(clippy::unused_self, reason = "everything that is printed goes through here")]
    pub(super) fn remark(&self, text: impl AsRef<str>) {
        let mut stderr = std::io::stderr().lock();
        // Nowhere to complain if standard error is gone.
        drop(writeln!(stderr, "{}", text.as_ref()));
    }

    /// Prints an error with what lies behind it on standard error.
    pub(super) fn error(&self, error: &dyn Error) {
        self.remark(format!("error: {}", chain(error)));
    }

    /// A progress bar on a terminal, nothing in a pipe.
    pub(super) fn progress(&self, total: u64, what: &'static str) -> ProgressBar {
        if self.json || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(total).with_message(what);
        let template = "{msg} [{bar:30}] {human_pos}/{human_len} {eta}";
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style.progress_chars("=> ")),
            Err(_) => bar,
        }
    }
}

fn write_out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // A reader that has seen enough closes the pipe; that is no failure.
    drop(writeln!(stdout, "{text}"));
    drop(stdout.flush());
}

/// An error and everything behind it, in one line each.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let said = source.to_string();
        // Transparent errors repeat themselves.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = source.source();
    }
    text
}

/// An instant as tables show it.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// An amount as tables show it: at most four places.
pub(super) fn amount(value: Decimal) -> String {
    short(value, 4)
}

/// A percentage as tables show it, cut and not rounded, so that none shows a threshold that was not reached.
pub(super) fn percent(value: Decimal) -> String {
    format!("{} %", value.trunc_with_scale(2).normalize())
}

/// "paused", "downscaled", both or nothing.
pub(super) fn flags(flags: crate::domain::evaluate::Flags) -> Cow<'static, str> {
    match (flags.paused, flags.downscaled) {
        (true, true) => "paused, downscaled".into(),
        (true, false) => "paused".into(),
        (false, true) => "downscaled".into(),
        (false, false) => "-".into(),
    }
}

/// A count and its noun.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}
