//! The layout of a table: as a table if it fits, if necessary with wrapped sentences, else as one block per row, so
//! that no time, number or id is ever broken.

use std::fmt::Write as _;
use std::io::IsTerminal;

use comfy_table::{ColumnConstraint, ContentArrangement, Table, TableStyle, Width};

/// A column of sentences is not made narrower than this.
const PROSE_MIN: usize = 28;

/// A column whose cells are longer than their longest word by so much holds sentences.
const PROSE_BEYOND: usize = 12;

/// Blanks around the cells of a column.
const PADDING: usize = 2;

/// Columns of the terminal: from the environment (`COLUMNS`), else from the terminal itself; none in a pipe.
pub(super) fn width() -> Option<usize> {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|columns| *columns >= 20);
    said.or_else(|| {
        let terminal = std::io::stdout().is_terminal().then(Table::new)?;
        terminal.width().map(usize::from)
    })
}

/// The widths that a column needs.
#[derive(Debug, Clone, Copy)]
struct Need {
    /// To be shown on one line.
    natural: usize,
    /// At least.
    least: usize,
}

fn needs<R: AsRef<[String]>>(header: &[&str], rows: &[R]) -> Vec<Need> {
    let need = |column: usize| {
        let cells = || rows.iter().map(|row| row.as_ref()[column].as_str()).chain([header[column]]);
        let natural = cells().flat_map(str::lines).map(chars).max().unwrap_or_default();
        let word = cells().flat_map(str::split_whitespace).map(chars).max().unwrap_or_default();
        let prose = natural > word + PROSE_BEYOND;
        Need { natural, least: if prose { word.max(PROSE_MIN.min(natural)) } else { natural } }
    };
    (0..header.len()).map(need).collect()
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

/// The table as text, no wider than `width` where there is one.
pub(super) fn laid_out<R: AsRef<[String]>>(header: &[&str], rows: &[R], width: Option<usize>) -> String {
    let needs = needs(header, rows);
    let sum = |of: fn(&Need) -> usize| needs.iter().map(|need| of(need) + PADDING).sum::<usize>();
    match width {
        Some(width) if sum(|need| need.natural) > width + 1 => {
            if sum(|need| need.least) <= width {
                table(header, rows, Some((&needs, width)))
            } else {
                blocks(header, rows, width)
            }
        }
        _ => table(header, rows, None),
    }
}

fn table<R: AsRef<[String]>>(header: &[&str], rows: &[R], narrow: Option<(&[Need], usize)>) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    for row in rows {
        table.add_row(row.as_ref());
    }
    if let Some((needs, width)) = narrow {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
        for (column, need) in table.column_iter_mut().zip(needs) {
            column.set_constraint(if need.least == need.natural {
                ColumnConstraint::ContentWidth
            } else {
                let least = need.least + PADDING;
                ColumnConstraint::LowerBoundary(Width::Fixed(u16::try_from(least).unwrap_or(u16::MAX)))
            });
        }
    }
    let shown = table.to_string();
    let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// A block for each row: its first cell, and below it the other non-empty cells, each with its name.
fn blocks<R: AsRef<[String]>>(header: &[&str], rows: &[R], width: usize) -> String {
    let names = header.iter().skip(1).map(|name| chars(name)).max().unwrap_or_default();
    let indent = names + 4;
    let mut text = String::new();
    for row in rows.iter().map(AsRef::as_ref) {
        if !text.is_empty() {
            text.push('\n');
        }
        let filled = row.iter().zip(header).skip(1).filter(|(cell, _)| !matches!(cell.as_str(), "" | "-"));
        text.extend([row.first().map_or("", String::as_str), "\n"]);
        for (cell, name) in filled {
            let lines = wrapped(cell, width.saturating_sub(indent).max(PROSE_MIN));
            let mut lines = lines.iter();
            let first = lines.next().map_or("", String::as_str);
            // Writing to a text never fails.
            let _ = writeln!(text, "  {name:<names$}  {first}");
            for line in lines {
                let _ = writeln!(text, "{:indent$}{line}", "");
            }
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// Lines of at most `width`; only a word that is longer is.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let full = lines.last().is_some_and(|line| !line.is_empty() && chars(line) + 1 + chars(word) > width);
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [&str; 3] = ["what", "when", "why"];

    fn rows() -> Vec<[String; 3]> {
        let why = "104.3 % = 1565 of 1500 node_hours (1000 base + 500 carried over); 100 % reached -> downscale";
        vec![["climate".to_owned(), "2026-03-01T00:00:00Z".to_owned(), why.to_owned()]]
    }

    #[test]
    fn a_table_that_fits_is_one() {
        let text = laid_out(&HEADER, &rows(), Some(200));
        assert_eq!(text, laid_out(&HEADER, &rows(), None));
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn sentences_wrap_and_nothing_else_does() {
        let text = laid_out(&HEADER, &rows(), Some(80));
        assert!(text.lines().all(|line| chars(line) <= 80), "{text}");
        assert!(text.contains("2026-03-01T00:00:00Z") && text.lines().count() > 2, "{text}");
    }

    #[test]
    fn what_does_not_fit_becomes_blocks_without_empty_cells() {
        let header = ["hold", "resource", "until", "ticket", "why"];
        let id = "01a206a5774a7c338e70dcf10e4b02fb".to_owned();
        let row =
            [id.clone(), "climate".to_owned(), "2026-03-15T00:00:00Z".to_owned(), "-".to_owned(), rows()[0][2].clone()];
        let text = laid_out(&header, &[row], Some(80));
        assert!(
            text.starts_with(&format!(
                "{id}\n  resource  climate\n  until     2026-03-15T00:00:00Z\n  why       104.3 %"
            )),
            "{text}"
        );
        assert!(!text.contains("ticket") && text.lines().all(|line| chars(line) <= 80), "{text}");
    }
}
