//! The columns that are read, and their places according to the header.
//!
//! Columns are found by name, in any order; others are ignored. `ElapsedRaw` may be absent if `Elapsed` is present. A
//! header that ends in a bar (`sacct -p`) means that rows end in one too; any other surplus column is malformed, since
//! a bar in a free text shifts everything after it.

/// The command that writes what this module reads, for help texts and errors.
pub const SACCT_COMMAND: &str = "sacct -a -D -P -X -T --noconvert -S 2026-03-01T00:00:00 -E 2026-04-01T00:00:00 \
     -o JobID,Cluster,Account,State,Start,End,ElapsedRaw,AllocTRES";

/// The columns that are looked at; others are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Job id.
    JobId,
    /// Account that is charged.
    Account,
    /// Seconds that the job ran, suspensions taken out.
    ElapsedRaw,
    /// What was allocated.
    AllocTres,
    /// Local time of the start.
    Start,
    /// Local time of the end.
    End,
    /// The same as [`Field::ElapsedRaw`], as days, hours, minutes and seconds.
    Elapsed,
    /// Cluster, optional.
    Cluster,
    /// State of the job, optional.
    State,
}

/// How many there are.
pub(super) const FIELD_COUNT: usize = 9;

/// Every field with the name of its column; the required ones first.
const FIELDS: [(Field, &str); FIELD_COUNT] = [
    (Field::JobId, "JobID"),
    (Field::Account, "Account"),
    (Field::ElapsedRaw, "ElapsedRaw"),
    (Field::AllocTres, "AllocTRES"),
    (Field::Start, "Start"),
    (Field::End, "End"),
    (Field::Elapsed, "Elapsed"),
    (Field::Cluster, "Cluster"),
    (Field::State, "State"),
];
const REQUIRED: usize = 6;

impl Field {
    /// Place among [`FIELDS`] and in a row's texts.
    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// Name of the column.
    pub fn name(self) -> &'static str {
        FIELDS[self.index()].1
    }
}

/// Where the columns of an input are.
#[derive(Debug, Clone, Default)]
pub(super) struct Header {
    /// Index of each field.
    places: [Option<usize>; FIELD_COUNT],
    /// Columns of a row, with the empty one behind a bar at the end.
    pub(super) columns: usize,
    /// It ends in a bar, and so must the rows.
    pub(super) ends_in_bar: bool,
}

impl Header {
    /// Whether a line names columns of `sacct`: its job id and one more that is read.
    pub(super) fn is_one(line: &str) -> bool {
        let cells = || line.split('|').map(plain);
        let known = |name: &str| FIELDS.iter().any(|(_, field)| field.eq_ignore_ascii_case(name));
        cells().any(|name| name.eq_ignore_ascii_case("JobID")) && cells().filter(|name| known(name)).count() > 1
    }

    /// Reads a header.
    ///
    /// # Errors
    /// What is missing, or there twice.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let ends_in_bar = line.trim_end().ends_with('|');
        let mut header = Self { columns: line.split('|').count(), ends_in_bar, ..Self::default() };
        for (at, name) in line.split('|').map(plain).enumerate() {
            let Some(known) = FIELDS.iter().position(|(_, field)| field.eq_ignore_ascii_case(name)) else { continue };
            if header.places[known].replace(at).is_some() {
                return Err(format!("the column {} is there twice", FIELDS[known].1));
            }
        }
        let elapsed = header.place(Field::Elapsed).is_some();
        let missing: Vec<_> = FIELDS[..REQUIRED]
            .iter()
            .filter(|(field, _)| header.place(*field).is_none() && !(*field == Field::ElapsedRaw && elapsed))
            .map(|(_, name)| *name)
            .collect();
        if missing.is_empty() { Ok(header) } else { Err(format!("no column {}", missing.join(", "))) }
    }

    /// Where a field is, counted from 0.
    pub(super) fn place(&self, field: Field) -> Option<usize> {
        self.places[field.index()]
    }

    /// The field of a column.
    pub(super) fn field_at(&self, column: usize) -> Option<Field> {
        self.places.iter().position(|place| *place == Some(column)).map(|known| FIELDS[known].0)
    }
}

/// A column's name without blanks around it and without a width such as `%20`.
fn plain(name: &str) -> &str {
    let name = name.trim();
    match name.rsplit_once('%') {
        Some((name, width)) if width.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::{FIELDS, Field, Header};

    #[test]
    fn fields_are_in_the_order_of_their_numbers() {
        for (at, (field, name)) in FIELDS.iter().enumerate() {
            assert_eq!((field.index(), field.name()), (at, *name));
        }
    }

    #[test]
    fn columns_are_found_by_name_whatever_their_width() {
        let header = Header::parse("JOBID%20|Account%-15|State|Start|End|Elapsed|AllocTRES|").expect("all there");
        assert_eq!(
            (header.columns, header.place(Field::JobId), header.field_at(1)),
            (8, Some(0), Some(Field::Account))
        );
        assert_eq!(Header::parse("JobID|Account|Start").unwrap_err(), "no column ElapsedRaw, AllocTRES, End");
        assert!(Header::parse("JobID|JobID|Account").unwrap_err().contains("JobID is there twice"));
    }

    #[test]
    fn a_header_is_told_from_other_lines() {
        assert!(Header::is_one("JobID|JobName|Account"));
        for line in ["JobID Account Start", "JobID", "Cluster|Account|Login|Used", "1|climate|2026-03-01T00:00:00"] {
            assert!(!Header::is_one(line), "{line}");
        }
    }
}
