//! The jobs of `sacct --json` and of slurmrestd's `/slurmdb/…/jobs`, one at a time, since such a document can be large.
//!
//! Every job becomes the texts of a table row, so that the same rules read, check and count both forms. Numbers are
//! plain (SLURM 20.11 to 22.05) or `{set, infinite, number}` (from 23.02 on), states a word or a list.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, BufRead};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::error::ImportError;
use super::header::Field;
use super::row::{Columns, JobRow, OwnTexts, Place};

/// Calls `take` for each job of a document, and of further documents behind it.
///
/// # Errors
/// The input cannot be read, is no JSON, or has no list of jobs; what `take` says.
pub(super) fn jobs<R: BufRead>(
    name: &str,
    input: R,
    take: &mut dyn FnMut(&JobRow<'_>) -> Result<(), ImportError>,
) -> Result<u64, ImportError> {
    let count = RefCell::new(0);
    let failed = RefCell::new(None);
    let mut input = input;
    let mut documents = 0;
    while !at_end(&mut input).map_err(|source| ImportError::Io { name: name.to_owned(), source })? {
        documents += 1;
        let seed = Document { name, count: &count, failed: &failed, take: RefCell::new(&mut *take) };
        let mut reader = serde_json::Deserializer::from_reader(&mut input);
        let read = seed.deserialize(&mut reader);
        if let Some(error) = failed.take() {
            return Err(error);
        }
        if let Err(error) = read {
            return Err(unreadable(name, error));
        }
    }
    if documents == 0 {
        return Err(unusable(name, "the document is empty"));
    }
    Ok(count.into_inner())
}

/// Passes over what separates documents.
fn at_end<R: BufRead>(input: &mut R) -> io::Result<bool> {
    loop {
        match input.fill_buf()?.first() {
            None => return Ok(true),
            Some(byte) if byte.is_ascii_whitespace() => input.consume(1),
            Some(_) => return Ok(false),
        }
    }
}

fn unusable(name: &str, problem: &str) -> ImportError {
    let problem = format!(
        "{problem}; what is read is the JSON of sacct -a -D -X -S … -E … --json, or of slurmrestd's /slurmdb/…/jobs"
    );
    ImportError::Json { name: name.to_owned(), problem }
}

fn unreadable(name: &str, error: serde_json::Error) -> ImportError {
    if error.is_io() {
        return ImportError::Io { name: name.to_owned(), source: error.into() };
    }
    if error.is_eof() {
        return unusable(name, "the JSON document ends in the middle: it was cut off");
    }
    unusable(name, &format!("not the JSON that was expected: {error}"))
}

/// What is done with each job.
type Take<'a> = dyn FnMut(&JobRow<'_>) -> Result<(), ImportError> + 'a;

struct Document<'a, 'b> {
    name: &'a str,
    count: &'a RefCell<u64>,
    failed: &'a RefCell<Option<ImportError>>,
    take: RefCell<&'b mut Take<'b>>,
}

impl<'de> DeserializeSeed<'de> for Document<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the list \"jobs\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "jobs" => {
                    seen = true;
                    map.next_value_seed(Jobs(&self))?;
                }
                "errors" => self.check_errors(&map.next_value()?)?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if seen { Ok(()) } else { Err(self.stop(unusable(self.name, "a JSON document without the list \"jobs\""))) }
    }
}

impl Document<'_, '_> {
    fn stop<E: Error>(&self, error: ImportError) -> E {
        self.failed.replace(Some(error));
        E::custom("stopped")
    }

    /// An answer with errors may lack jobs.
    fn check_errors<E: Error>(&self, errors: &Value) -> Result<(), E> {
        let Some(first) = errors.as_array().and_then(|errors| errors.first()) else { return Ok(()) };
        let texts = ["description", "error", "source"].map(|key| first.get(key).and_then(Value::as_str));
        let said = texts.into_iter().flatten().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ");
        let said = if said.is_empty() { first.to_string() } else { said };
        let problem = format!("the document reports an error of SLURM, so jobs may be missing: {said}");
        Err(self.stop(ImportError::Json { name: self.name.to_owned(), problem }))
    }
}

struct Jobs<'a, 'b, 'c>(&'a Document<'b, 'c>);

impl<'de> DeserializeSeed<'de> for Jobs<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Jobs<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the list of jobs")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(job) = seq.next_element::<Job>()? {
            let number = {
                let mut count = self.0.count.borrow_mut();
                *count += 1;
                *count
            };
            let place = Place { input: self.0.name, number, columns: Columns::Json };
            let taken = job.texts(place).and_then(|texts| (self.0.take.borrow_mut())(&texts.row(place)));
            taken.map_err(|error| self.0.stop::<A::Error>(error))?;
        }
        Ok(())
    }
}

/// What of a job is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Job {
    account: Option<String>,
    association: Option<Association>,
    cluster: Option<String>,
    #[serde(rename = "job_id")]
    id: Value,
    array: Option<Array>,
    het: Option<Het>,
    state: Value,
    time: Option<Time>,
    tres: Option<Tres>,
    /// Only slurmctld's own list has it.
    #[serde(rename = "job_state")]
    of_slurmctld: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Association {
    account: Option<String>,
    cluster: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Array {
    #[serde(rename = "job_id")]
    id: Value,
    task_id: Value,
    task: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Het {
    #[serde(rename = "job_id")]
    id: Value,
    #[serde(rename = "job_offset")]
    part: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Time {
    start: Value,
    end: Value,
    elapsed: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tres {
    allocated: Value,
}

/// A number, plain or in its wrapper, as text; empty where it is not set. Anything else is kept to be refused.
fn number(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Object(wrapped) => match (wrapped.get("set"), wrapped.get("infinite"), wrapped.get("number")) {
            (Some(Value::Bool(false)), ..) | (_, Some(Value::Bool(true)), _) | (.., None) => String::new(),
            (.., Some(inner)) => number(inner),
        },
        Value::Number(plain) => match plain.as_f64() {
            // Whole numbers that were written with a point.
            Some(whole) if plain.is_f64() && whole.fract() == 0.0 => format!("{whole:.0}"),
            _ => plain.to_string(),
        },
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Job {
    fn texts(&self, place: Place<'_>) -> Result<OwnTexts<'_>, ImportError> {
        let bad = |problem: &str| ImportError::BadLine(Box::new(place.bad_line(&number(&self.id), problem)));
        let Some(time) = &self.time else {
            return Err(bad(if self.of_slurmctld.is_some() {
                "a job of slurmctld's list (slurmrestd's /slurm/…/jobs), which forgets jobs that have ended: take /slurmdb/…/jobs"
            } else {
                "a job without time"
            }));
        };
        let mut texts = OwnTexts::default();
        texts.set(Field::JobId, self.id());
        let (account, cluster) = match &self.association {
            Some(association) => (association.account.as_deref(), association.cluster.as_deref()),
            None => (None, None),
        };
        texts.set(Field::Account, self.account.as_deref().or(account).unwrap_or_default());
        texts.set(Field::Cluster, self.cluster.as_deref().or(cluster).unwrap_or_default());
        texts.set(Field::State, state(&self.state));
        texts.set(Field::Start, number(&time.start));
        texts.set(Field::End, number(&time.end));
        texts.set(Field::ElapsedRaw, number(&time.elapsed));
        let tres = self.tres.as_ref().map_or(Ok(String::new()), |tres| allocated(&tres.allocated));
        texts.set(Field::AllocTres, tres.map_err(|problem| bad(&problem))?);
        Ok(texts)
    }

    /// The id as the table has it: tasks of arrays and parts of heterogeneous jobs under the id of the whole.
    fn id(&self) -> String {
        let set = |value: &Value| Some(number(value)).filter(|text| !text.is_empty());
        let whole = |value: &Value| set(value).filter(|text| text != "0");
        if let Some((base, part)) = self.het.as_ref().and_then(|het| Some((whole(&het.id)?, set(&het.part)?))) {
            return format!("{base}+{part}");
        }
        let of_array = self.array.as_ref().and_then(|array| {
            let base = whole(&array.id)?;
            match set(&array.task_id) {
                Some(task) => Some(format!("{base}_{task}")),
                None => set(&array.task).map(|tasks| format!("{base}_[{tasks}]")),
            }
        });
        of_array.unwrap_or_else(|| number(&self.id))
    }
}

/// A word, or the first of a list; the newest versions list flags behind it.
fn state(value: &Value) -> String {
    match value {
        Value::String(word) => word.clone(),
        Value::Array(words) => words.first().map(state).unwrap_or_default(),
        Value::Object(of) => of.get("current").map(state).unwrap_or_default(),
        _ => String::new(),
    }
}

/// `cpu=4,gres/gpu=1` of the list of what was allocated; memory there is in MB.
fn allocated(value: &Value) -> Result<String, String> {
    let list = match value {
        Value::Null => return Ok(String::new()),
        // Some wrappers of the document write the table's own form.
        Value::String(text) => return Ok(text.clone()),
        Value::Array(list) => list,
        other => return Err(format!("tres.allocated is {other}, not a list")),
    };
    let mut texts = Vec::new();
    for entry in list {
        let count = number(&entry["count"]);
        if count.is_empty() {
            continue;
        }
        let kind = entry["type"].as_str().ok_or_else(|| format!("{entry} in tres.allocated has no type"))?;
        let name = entry["name"].as_str().filter(|name| !name.is_empty());
        texts.push(name.map_or_else(|| format!("{kind}={count}"), |name| format!("{kind}/{name}={count}")));
    }
    Ok(texts.join(","))
}
