//! Writes results, errors and progress to the terminal or the pipe.

use std::borrow::Cow;
use std::error::Error;
use std::io::{IsTerminal, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use indicatif::{ProgressBar, ProgressStyle};
use rust_decimal::Decimal;
use serde::Serialize;

use crate::domain::explain::short;
use crate::store::Distance;

/// Where results go, and in which form.
pub(super) struct Out {
    json: bool,
    silent: bool,
}

impl Out {
    pub(super) fn new(json: bool) -> Self {
        Self { json, silent: false }
    }

    /// Results are not printed.
    pub(super) fn silent() -> Self {
        Self { json: true, silent: true }
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints text for people; nothing where JSON is wanted.
    pub(super) fn text(&self, text: impl AsRef<str>) {
        if !self.json {
            write_out(&visible(text.as_ref()));
        }
    }

    /// Prints sentences for people, folded to the width of the terminal; nothing where JSON is wanted.
    pub(super) fn prose(&self, text: impl AsRef<str>) {
        self.text(super::table::prose(text.as_ref(), super::table::width()));
    }

    /// Prints a table for people; nothing where JSON is wanted.
    #[expect(clippy::needless_pass_by_value, reason = "a caller has no use for its rows afterwards")]
    pub(super) fn table<const N: usize>(&self, header: [&str; N], rows: Vec<[String; N]>) {
        self.text(super::table::laid_out(&header, &rows, super::table::width()));
    }

    /// The same with columns that nobody knows before.
    pub(super) fn wide_table(&self, header: &[String], rows: &[Vec<String>]) {
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        self.text(super::table::laid_out(&header, rows, super::table::width()));
    }

    /// Prints lines for another program, whichever form is wanted for people.
    #[expect(clippy::unused_self, reason = "everything that is printed goes through here")]
    pub(super) fn raw(&self, lines: &str) {
        let mut stdout = std::io::stdout().lock();
        // A reader that has seen enough closes the pipe; that is no failure.
        drop(stdout.write_all(lines.as_bytes()));
        drop(stdout.flush());
    }

    /// Prints a table on standard error: what goes with an error.
    #[expect(clippy::needless_pass_by_value, reason = "a caller has no use for its rows afterwards")]
    pub(super) fn remark_table<const N: usize>(&self, header: [&str; N], rows: Vec<[String; N]>) {
        self.remark(super::table::laid_out(&header, &rows, super::table::width()));
    }

    /// Prints a document where JSON is wanted.
    pub(super) fn json(&self, document: &impl Serialize) {
        if self.json
            && !self.silent
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
        drop(writeln!(stderr, "{}", visible(text.as_ref())));
    }

    /// Prints an error with what lies behind it on standard error.
    pub(super) fn error(&self, error: &dyn Error) {
        self.remark(format!("error: {}", chain(error)));
    }

    /// A progress bar over so many events; where nobody knows how many, one that shows how many there were.
    pub(super) fn progress_over(&self, total: Distance, what: &'static str) -> ProgressBar {
        if let Some(events) = total.events() {
            return self.progress(events, what);
        }
        let bar = self.progress(0, what);
        bar.unset_length();
        if let Ok(style) = ProgressStyle::with_template("{msg} {spinner} {human_pos}") {
            bar.set_style(style);
        }
        bar
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

/// Text without what a terminal would obey: other people's words reach the operator as words. Control characters but the
/// end of a line, and those that turn the direction of writing or are not seen, are shown by their number.
fn visible(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    if !text.contains(obeyed) {
        return text.into();
    }
    text.chars().map(|c| if obeyed(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_that_was_printed() {
        assert_eq!(visible("a\u{1b}[31mb\u{7}\nc\u{202e}d"), "a\\u{1b}[31mb\\u{7}\nc\\u{202e}d");
        assert!(matches!(visible("köln 100 % → pause"), Cow::Borrowed(_)));
    }
}
