//! The part of a list that a command shows. A table shows one page; a document is complete unless `--limit` cuts it. A
//! partial list says so, and how to continue.

use clap::Args;
use serde_json::{Map, Value, json};

use super::output::Out;
use crate::projections::Page;

/// Options of every command that lists.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Paging {
    /// List so many; without it a page in a table, and all of them with --format json
    #[arg(long, alias = "rows", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: Option<u32>,
    /// Go on with the page of this number
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    page: u32,
}

impl Paging {
    /// The page of a list whose tables have `default` rows.
    pub(super) fn page(self, default: u32, out: &Out) -> Page {
        let whole = if out.is_json() { u32::MAX } else { default };
        Page { number: self.page, size: self.limit.unwrap_or(whole) }
    }
}

/// How many rows are shown, of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    page: Page,
    rows: u64,
    /// How many there are.
    pub(super) total: u64,
}

impl Shown {
    /// So many rows of a page, of so many in all.
    pub(super) fn new(page: Page, rows: usize, total: u64) -> Self {
        Self { page, rows: rows as u64, total }
    }

    fn before(self) -> u64 {
        u64::from(self.page.number.saturating_sub(1)) * u64::from(self.page.size)
    }

    /// How many come after these.
    fn more(self) -> u64 {
        self.total.saturating_sub(self.before() + self.rows)
    }

    /// The next page.
    pub(super) fn next(self) -> Option<u32> {
        (self.more() > 0).then(|| self.page.number.saturating_add(1))
    }

    /// Adds the total number of rows and the next page to a list.
    pub(super) fn beside(self, document: &mut Map<String, Value>) {
        document.insert("count".into(), json!(self.total));
        document.insert("next".into(), json!(self.next()));
    }

    /// Says how many more there are, below a table; for a document that has no place for it on standard error.
    pub(super) fn tell(self, which: &str, out: &Out) {
        if let Some(next) = self.next() {
            let limit = self.page.size;
            let says = format!("… and {} {which}: --page {next} --limit {limit} goes on", self.more());
            if out.is_json() { out.remark(says) } else { out.text(says) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_list_says_where_it_goes_on_and_a_whole_one_does_not() {
        let shown = |number, size, rows, total| Shown::new(Page { number, size }, rows, total);
        assert_eq!((shown(1, 10, 10, 25).more(), shown(1, 10, 10, 25).next()), (15, Some(2)));
        assert_eq!((shown(3, 10, 5, 25).more(), shown(3, 10, 5, 25).next()), (0, None));
        assert_eq!(shown(1, u32::MAX, 300, 300).next(), None);
        assert_eq!(shown(9, 10, 0, 25).next(), None, "behind the last page there is nothing");
    }

    #[test]
    fn documents_are_whole_unless_a_limit_cuts_them() {
        let (table, document) = (Out::new(false), Out::new(true));
        assert_eq!(Paging { limit: None, page: 1 }.page(20, &table).size, 20);
        assert_eq!(Paging { limit: None, page: 1 }.page(20, &document).size, u32::MAX);
        assert_eq!(Paging { limit: Some(7), page: 2 }.page(20, &document), Page { number: 2, size: 7 });
    }
}
