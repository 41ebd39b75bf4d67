//! Guesses what an input without a usable header is, and names the command that writes a usable one.
//!
//! It examines only the first lines, and decides nothing: the input is refused in any case.

use super::header::{Header, SACCT_COMMAND};

/// Why a text without a header is none, from its first lines that are not blank.
pub(super) fn of_text(lines: &[String]) -> String {
    let Some(first) = lines.first() else {
        return format!("the input is empty, without even a header; make one with: {SACCT_COMMAND}");
    };
    let kind = kind_of(first, lines);
    format!("{kind}; make a good file with: {SACCT_COMMAND}")
}

fn kind_of(first: &str, lines: &[String]) -> String {
    let any = |what: &dyn Fn(&str) -> bool| lines.iter().any(|line| what(line));
    let lower = first.to_ascii_lowercase();
    if any(&is_sreport) {
        return "this looks like a report of sreport, whose sums cannot be divided by job".to_owned();
    }
    if lower.starts_with("<!doctype") || lower.starts_with("<html") || lower.starts_with("<?xml") {
        return "this looks like a web page or XML".to_owned();
    }
    if any(&|line| line.starts_with("sacct: ") || line.starts_with("slurm_") || line.starts_with("Invalid field")) {
        return "this looks like an error message of sacct".to_owned();
    }
    if let Some(name) = lines.iter().find_map(|line| delimiter_of(line)) {
        return format!(
            "the columns are separated by {name} (CSV, or sacct --delimiter), where '|' is read (sacct -P)"
        );
    }
    if any(&is_table_header) {
        return "this looks like a table of sacct without -P, whose columns are cut to their width".to_owned();
    }
    if any(&|line| line.contains("NODELIST(REASON)")) {
        return "this looks like a list of squeue, which knows nothing of jobs that have ended".to_owned();
    }
    if any(&is_row) {
        return "no header with the names of the columns, separated by '|': leave out sacct's -n".to_owned();
    }
    "no header with the names of the columns, separated by '|', as sacct -P writes it".to_owned()
}

/// Why an input that is no text is not read, from its first bytes.
pub(super) fn of_bytes(bytes: &[u8]) -> Option<&'static str> {
    let kinds: [(&[u8], &str); 7] = [
        (b"PK\x03\x04", "a zip archive (or a spreadsheet): unpack it, or save the text"),
        (b"BZh", "compressed with bzip2: use bzcat FILE | … -"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it"),
        (b"%PDF", "a PDF document"),
        (b"SQLite format 3", "an SQLite database"),
        (b"\xd0\xcf\x11\xe0", "a spreadsheet: save it as text"),
        (b"\x7fELF", "a program"),
    ];
    kinds.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, what)| *what)
}

fn is_sreport(line: &str) -> bool {
    let words = ["Utilization 20", "Utilization 19", "Usage reported in", "Proper Name", "Top 10 Users"];
    words.iter().any(|word| line.contains(word)) || line.starts_with("Cluster/Account/User")
}

/// `JobID   JobName  Account`, between blanks.
fn is_table_header(line: &str) -> bool {
    !line.contains('|') && Header::is_one(&line.split_whitespace().collect::<Vec<_>>().join("|"))
}

/// The name of the character that separates names of columns, if it is not a bar.
fn delimiter_of(line: &str) -> Option<&'static str> {
    let delimiters =
        [(',', "','"), (';', "';'"), ('\t', "tabs"), (':', "':'"), ('^', "'^'"), ('#', "'#'"), ('~', "'~'")];
    let named = |delimiter: char| Header::is_one(&line.replace('"', "").replace('|', " ").replace(delimiter, "|"));
    delimiters.iter().find(|(delimiter, _)| named(*delimiter)).map(|(_, name)| *name)
}

/// A row with bars that begins with a job id.
pub(super) fn is_row(line: &str) -> bool {
    let id = line.split('|').next().unwrap_or_default();
    line.matches('|').count() >= 3 && id.bytes().next().is_some_and(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::of_text;

    #[test]
    fn common_files_are_named() {
        let cases = [
            (vec![], "the input is empty"),
            (vec!["----", "Cluster/Account/User Utilization 2026-03-01T00:00:00 - 2026-03-31T23:59:59"], "sreport"),
            (vec!["Cluster|Account|Login|Proper Name|Used|Energy"], "sreport"),
            (vec!["JobID           JobName    Account", "------------ ---------- ----------"], "without -P"),
            (vec!["JobID,Account,State"], "separated by ','"),
            (vec!["\"JobID\";\"Account\""], "separated by ';'"),
            (vec!["JobID\tAccount"], "separated by tabs"),
            (vec!["1|a|COMPLETED|2026-03-01T00:00:00|5"], "leave out sacct's -n"),
            (vec!["sacct: error: Problem talking to the database"], "an error message of sacct"),
            (vec!["<!DOCTYPE html>"], "a web page"),
            (vec!["  JOBID PARTITION NAME USER ST TIME NODES NODELIST(REASON)"], "squeue"),
            (vec!["hello"], "no header with the names"),
        ];
        for (lines, says) in cases {
            let lines: Vec<String> = lines.into_iter().map(str::to_owned).collect();
            let said = of_text(&lines);
            assert!(said.contains(says) && said.contains("sacct -a -D -P"), "{lines:?}: {said}");
        }
    }
}
