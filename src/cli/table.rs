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

/// Sentences as text, no line wider than `width` where there is one: what follows stands two blanks further in. Blanks within
/// a line stay, so that columns stay; what is quoted with backticks is to be copied, and stays on one line.
pub(super) fn prose(text: &str, width: Option<usize>) -> String {
    let Some(width) = width else { return text.to_owned() };
    text.split('\n').flat_map(|line| folded(line, width)).collect::<Vec<_>>().join("\n")
}

fn folded(line: &str, width: usize) -> Vec<String> {
    if seen(line) <= width {
        return vec![line.to_owned()];
    }
    let indent = (line.len() - line.trim_start_matches(' ').len() + 2).min(width / 2);
    let mut lines = vec![String::new()];
    for piece in pieces(line) {
        match lines.last_mut() {
            Some(last) if last.trim().is_empty() || seen(last) + seen(piece) <= width => last.push_str(piece),
            _ => lines.push(format!("{:indent$}{}", "", piece.trim_start())),
        }
    }
    lines
}

/// The words of a line, each with the blanks before it; what is between backticks is one word.
fn pieces(line: &str) -> Vec<&str> {
    let come_in_pairs = line.matches('`').count().is_multiple_of(2);
    let (mut pieces, mut from, mut within, mut before) = (Vec::new(), 0, false, ' ');
    for (at, letter) in line.char_indices() {
        within ^= come_in_pairs && letter == '`';
        if letter == ' ' && before != ' ' && !within {
            pieces.push(&line[from..at]);
            from = at;
        }
        before = letter;
    }
    pieces.push(&line[from..]);
    pieces
}

/// Columns that a text takes on a terminal, its colours left out.
fn seen(text: &str) -> usize {
    let mut colour = false;
    let shown = text.chars().filter(|letter| {
        let skipped = colour || *letter == '\x1b';
        colour = skipped && *letter != 'm';
        !skipped
    });
    shown.count()
}

/// Lays lines out for the terminal as they are written.
pub(super) struct Folding<W: std::io::Write> {
    out: W,
    width: Option<usize>,
    line: Vec<u8>,
}

impl<W: std::io::Write> Folding<W> {
    /// For a terminal so wide; lines go through as they are where there is none.
    pub(super) fn new(out: W, width: Option<usize>) -> Self {
        Self { out, width, line: Vec::new() }
    }
}

impl<W: std::io::Write> std::io::Write for Folding<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for byte in bytes {
            if *byte == b'\n' {
                let line = String::from_utf8_lossy(&self.line);
                writeln!(self.out, "{}", prose(&line, self.width))?;
                self.line.clear();
            } else {
                self.line.push(*byte);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_folded_and_what_is_to_be_copied_is_not() {
        assert_eq!(prose("a line of words that fits", Some(80)), "a line of words that fits");
        assert_eq!(prose("  one two three four", Some(12)), "  one two\n    three\n    four");
        assert_eq!(
            prose("a  b\nrun `one two three` and then this", Some(14)),
            "a  b\nrun\n  `one two three`\n  and then\n  this"
        );
        assert_eq!(prose("don`t fold within this", Some(12)), "don`t fold\n  within\n  this", "no pair, no quotation");
        assert_eq!(prose("\x1b[1mone\x1b[0m two", Some(7)), "\x1b[1mone\x1b[0m two", "colours take no room");
        assert_eq!(prose("averylongwordalone", Some(10)), "averylongwordalone");
        let mut told = Vec::new();
        std::io::Write::write_all(&mut Folding::new(&mut told, Some(10)), "one two three\nfour\n".as_bytes()).unwrap();
        assert_eq!(String::from_utf8(told).unwrap(), "one two\n  three\nfour\n");
    }

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
