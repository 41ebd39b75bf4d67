//! What every list of rows has around it: filters, which page it is, and the same as a file. All of it stands in the address.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::listing::{Choice, Filter, line};
use super::problem::Problem;
use super::visit::{Shown, Visit};

/// Rows of a page.
pub const ROWS: u64 = 50;

/// Rows of a file that the API is asked for at a time.
const ROWS_OF_FILE: u64 = 100;

/// A span of days, as a form.
pub struct Range {
    /// The first day that is asked for.
    pub from: String,
    /// The last one.
    pub to: String,
    /// In words, where one is asked for.
    pub value: Option<String>,
    /// Where to be rid of it.
    pub clear: String,
    /// What else the address says.
    pub kept: Vec<(String, String)>,
}

/// What is around a list.
pub struct Sheet {
    /// Filters, with their choices.
    pub filters: Vec<Filter>,
    /// A filter by time.
    pub range: Option<Range>,
    /// `1–50 of 8,100`.
    pub line: String,
    /// Where the page before is.
    pub previous: Option<String>,
    /// Where the next page is.
    pub next: Option<String>,
    /// Where to go to see all, if it is filtered.
    pub clear: Option<String>,
    /// Addresses of the whole list as CSV and NDJSON.
    pub files: Option<(String, String)>,
}

impl Sheet {
    /// Of a list that has no filters, at the page that is asked for.
    pub fn plain(visit: &Visit, shown: usize, total: u64) -> Result<Self, Problem> {
        let page = visit.page()?;
        Ok(Self {
            filters: Vec::new(),
            range: None,
            line: line(page, ROWS, shown as u64, total),
            previous: (page > 1).then(|| visit.at_page(page - 1)),
            next: (page * ROWS < total).then(|| visit.at_page(page + 1)),
            clear: None,
            files: None,
        })
    }

    /// The same with filters; `kept` are parameters of the address that are no filters.
    #[must_use]
    pub fn filtered(mut self, visit: &Visit, filters: Vec<Filter>, range: Option<Range>, kept: &[&str]) -> Self {
        let is_set = filters.iter().any(|filter| filter.value.is_some())
            || range.as_ref().is_some_and(|range| range.value.is_some());
        self.clear = is_set.then(|| {
            let rest = visit.query.only(|name| kept.contains(&name)).encoded();
            if rest.is_empty() { visit.path.clone() } else { format!("{}?{rest}", visit.path) }
        });
        self.filters = filters;
        self.range = range;
        self
    }

    /// The same with files of a name.
    #[must_use]
    pub fn with_files(mut self, visit: &Visit, base: &str) -> Self {
        let query = visit.query.only(|name| name != "page").encoded();
        let file = |kind: &str| format!("{base}.{kind}?{query}").trim_end_matches('?').to_owned();
        self.files = Some((file("csv"), file("ndjson")));
        self
    }
}

/// A filter with given choices: their words in the address, and their names.
pub fn filter(visit: &Visit, name: &'static str, key: &'static str, choices: &[(&str, &str)]) -> Filter {
    let set = visit.query.get(key);
    let choice = |(word, name): &(&str, &str)| Choice {
        name: (*name).to_owned(),
        href: visit.with(key, word),
        set: set == Some(word),
    };
    let choices: Vec<Choice> = choices.iter().map(choice).collect();
    let value = set.map(|word| choices.iter().find(|c| c.set).map_or_else(|| word.to_owned(), |c| c.name.clone()));
    Filter { name, value, clear: visit.with(key, ""), choices }
}

/// Something that has a short name, or only an id.
#[derive(Deserialize)]
struct Slugged {
    uuid: String,
    #[serde(default)]
    slug: String,
    #[serde(default)]
    name: String,
}

/// A filter whose choices are objects of the API.
pub async fn of_objects(visit: &Visit, name: &'static str, key: &'static str, path: &str) -> Result<Filter, Problem> {
    let known = visit.api.list_if_allowed::<Slugged>(path).await?;
    let named = |one: &Slugged| match (one.name.is_empty(), one.slug.is_empty()) {
        (false, _) => one.name.clone(),
        (true, false) => one.slug.clone(),
        (true, true) => one.uuid.clone(),
    };
    let known: Vec<(String, String)> = known.rows.iter().map(|one| (one.uuid.clone(), named(one))).collect();
    let choices: Vec<(&str, &str)> = known.iter().map(|(id, name)| (id.as_str(), name.as_str())).collect();
    Ok(filter(visit, name, key, &choices))
}

/// A filter that is set by a link elsewhere, and only taken away here.
pub fn fixed(visit: &Visit, name: &'static str, key: &'static str, value: Option<String>) -> Filter {
    Filter { name, value, clear: visit.with(key, ""), choices: Vec::new() }
}

/// A filter by days.
pub fn range(visit: &Visit) -> Range {
    let of = |name| visit.query.get(name).unwrap_or_default().to_owned();
    let (from, to) = (of("from"), of("to"));
    let value = match (from.as_str(), to.as_str()) {
        ("", "") => None,
        (from, "") => Some(format!("from {from}")),
        ("", to) => Some(format!("to {to}")),
        (from, to) => Some(format!("{from} to {to}")),
    };
    let rest = visit.query.only(|name| !matches!(name, "from" | "to" | "page" | "before"));
    let kept = form_urlencoded::parse(rest.encoded().as_bytes()).into_owned().collect();
    let clear =
        if rest.encoded().is_empty() { visit.path.clone() } else { format!("{}?{}", visit.path, rest.encoded()) };
    Range { from, to, value, clear, kept }
}

/// Parameters of the address under the names that the API has for them.
pub fn asked(visit: &Visit, names: &[(&str, &str)]) -> String {
    let mut asked = form_urlencoded::Serializer::new(String::new());
    for (ours, theirs) in names {
        for value in visit.query.all(ours) {
            asked.append_pair(theirs, value);
        }
    }
    asked.finish()
}

/// A value as a cell. A text that a spreadsheet would take for a formula is given a quote in front.
pub fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => return String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(texts)) if texts.iter().all(Value::is_string) => {
            texts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; ")
        }
        Some(other) => return other.to_string(),
    };
    let text = if text.starts_with(['=', '+', '-', '@', '\t']) { format!("'{text}") } else { text };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

fn csv_line(columns: &[&str], row: &Map<String, Value>) -> String {
    let mut line = columns.iter().map(|name| cell(row.get(*name))).collect::<Vec<_>>().join(",");
    line.push_str("\r\n");
    line
}

/// A whole list of the API as a file, in the form that the file's name ends with; `path` ends where the page is to be added.
pub fn file(visit: &Visit, name: &str, columns: &'static [&'static str], path: String) -> Shown {
    let csv = match name.rsplit_once('.') {
        Some((_, "csv")) => true,
        Some((_, "ndjson")) => false,
        _ => return Err(Problem::not_found()),
    };
    let api = visit.api.clone();
    let first = if csv { columns.join(",") + "\r\n" } else { String::new() };
    let pages = futures::stream::try_unfold((1_u64, false), move |(page, done)| {
        let (api, path) = (api.clone(), path.clone());
        async move {
            if done {
                return Ok(None);
            }
            let path = format!("{path}page={page}&page_size={ROWS_OF_FILE}");
            let found = api.list::<Map<String, Value>>(&path).await;
            let found = found.map_err(|problem| std::io::Error::other(problem.sentences.join(" ")))?;
            let line = |row: &Map<String, Value>| {
                if csv { csv_line(columns, row) } else { Value::Object(row.clone()).to_string() + "\n" }
            };
            let text: String = found.rows.iter().map(line).collect();
            let last = page * ROWS_OF_FILE >= found.total;
            Ok::<_, std::io::Error>(Some((text, (page + 1, last))))
        }
    });
    let body = futures::StreamExt::chain(futures::stream::iter([Ok(first)]), pages);
    let kind = if csv { "text/csv; charset=utf-8" } else { "application/x-ndjson" };
    download(name, kind, Body::from_stream(body))
}

/// A file to be kept, under a name.
pub fn download(name: &str, kind: &'static str, body: Body) -> Shown {
    let mut response = (StatusCode::OK, body).into_response();
    let disposition = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_DISPOSITION, disposition.map_err(|error| Problem::defect(&error))?);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_are_quoted_and_are_never_formulas() {
        assert_eq!(cell(Some(&json!("a,\"b\""))), "\"a,\"\"b\"\"\"");
        assert_eq!(cell(Some(&json!("=1+1"))), "'=1+1");
        assert_eq!(cell(Some(&json!(-3.5))), "-3.5");
        assert_eq!(cell(Some(&json!(["a", "b"]))), "a; b");
        assert_eq!(cell(None), "");
    }
}
