//! A list of allocations: its filters, order and page, all of which are in the address.

use form_urlencoded::Serializer;

use super::problem::Problem;
use super::read::{AllocationState, Named};
use super::rows::Row;
use super::standing::STATES;
use super::visit::Visit;
use super::words;

/// Rows of a page.
const ROWS: u64 = 50;

/// The head of a column.
pub struct Head {
    /// Its title.
    pub title: String,
    /// Where a click on it leads; none where it cannot be sorted by.
    pub href: Option<String>,
    /// `ascending` or `descending`, where the list is sorted by it.
    pub sorted: Option<&'static str>,
    /// Its class.
    pub class: &'static str,
}

/// A choice of a filter.
pub struct Choice {
    /// Its name.
    pub name: String,
    /// Where it leads.
    pub href: String,
    /// Whether it is the one in force.
    pub set: bool,
}

/// A filter.
pub struct Filter {
    /// What it is about.
    pub name: &'static str,
    /// The choice in force.
    pub value: Option<String>,
    /// Where to go to be rid of it.
    pub clear: String,
    /// What can be chosen.
    pub choices: Vec<Choice>,
}

/// A list of allocations.
pub struct Listing {
    /// The rows of the page.
    pub rows: Vec<Row>,
    /// The heads of its columns.
    pub heads: Vec<Head>,
    /// Filters, with their choices.
    pub filters: Vec<Filter>,
    /// What is searched for.
    pub q: String,
    /// `1–50 of 8,100`.
    pub line: String,
    /// Where the page before is.
    pub previous: Option<String>,
    /// Where the next page is.
    pub next: Option<String>,
    /// Where to go to see all.
    pub clear: Option<String>,
    /// Addresses of the whole list as files.
    pub csv: String,
    /// See above.
    pub ndjson: String,
    /// The columns are those of meant and said rather than of usage.
    pub drift: bool,
}

/// Which allocations a list has before anything is filtered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Not restricted, and a rung comes in the period.
    AtRisk,
    /// Slowed down, paused or held.
    Restricted,
    /// What the site has not confirmed.
    Drift,
}

impl Which {
    /// The list of a tab.
    pub fn of_tab(tab: Option<&str>) -> Self {
        match tab {
            Some("restricted") => Self::Restricted,
            Some("drift") => Self::Drift,
            Some("all") => Self::All,
            _ => Self::AtRisk,
        }
    }

    /// What the API is asked for.
    pub fn asked(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::All => &[],
            Self::AtRisk => &[("at_risk", "true")],
            Self::Restricted => &[("state", "paused"), ("state", "slowed_down"), ("state", "on_hold")],
            Self::Drift => &[
                ("agent_status", "failed"),
                ("agent_status", "no_answer"),
                ("agent_status", "sent"),
                ("agent_status", "queued"),
            ],
        }
    }
}

/// Columns that can be sorted by: the word in the address, and whether large values come first.
const SORTS: [&str; 7] = ["name", "organisation", "state", "usage", "next", "pace", "state_since"];

/// The query of the API for a list, without its page.
pub fn asked(visit: &Visit, which: Which) -> Result<String, Problem> {
    let mut asked = Serializer::new(String::new());
    asked.append_pair("once", "true");
    for (name, value) in which.asked() {
        asked.append_pair(name, value);
    }
    for state in visit.query.all("state") {
        asked.append_pair("state", state);
    }
    for (ours, theirs) in
        [("q", "q"), ("org", "customer_uuid"), ("policy", "policy_uuid"), ("offering", "offering_uuid")]
    {
        if let Some(value) = visit.query.get(ours) {
            asked.append_pair(theirs, value);
        }
    }
    if let Some(sort) = visit.query.get("sort") {
        if !SORTS.contains(&sort.trim_start_matches('-')) {
            let sentence =
                format!("sort: {sort:?} is not valid. Allowed: {}, each with a dash in front too.", SORTS.join(", "));
            return Err(Problem::new(axum::http::StatusCode::BAD_REQUEST, sentence));
        }
        asked.append_pair("o", sort);
    }
    Ok(asked.finish())
}

/// The rungs that bars of a list are marked at, and the months of its strips, where they are the same in all rows.
fn shared(rows: &[AllocationState]) -> (String, String) {
    let one = |of: &AllocationState| {
        let rungs: Vec<String> = of.rungs.iter().map(|rung| rung.percent.normalize().to_string()).collect();
        let months = of.period_start.zip(of.period_end).map(|(first, last)| {
            let (first, last) = (first.format("%b").to_string(), last.format("%b").to_string());
            if first == last { first } else { format!("{first}\u{2009}\u{2013}\u{2009}{last}") }
        });
        (rungs.join(" · "), months.unwrap_or_default())
    };
    let mut all: Vec<(String, String)> = rows.iter().map(one).collect();
    all.dedup();
    if let [of] = all.as_slice() { of.clone() } else { (String::new(), String::new()) }
}

fn heads(visit: &Visit, drift: bool, rows: &[AllocationState]) -> Vec<Head> {
    let (rungs, months) = shared(rows);
    let columns: &[(&str, &str, &str)] = if drift {
        &[
            ("Allocation", "name", ""),
            ("Organisation", "organisation", "roomy"),
            ("State", "state", ""),
            ("Intended", "", ""),
            ("At the site", "", ""),
            ("For", "state_since", "num"),
            ("Site agent", "", ""),
        ]
    } else {
        &[
            ("Allocation", "name", ""),
            ("Organisation", "organisation", "roomy"),
            ("State", "state", ""),
            ("Usage", "usage", ""),
            ("Period", "", ""),
            ("Next rung", "next", ""),
            ("7-day pace", "pace", "num"),
            ("Site agent", "", ""),
        ]
    };
    let sorted = visit.query.get("sort").unwrap_or("next");
    let head = |(title, key, class): &(&'static str, &'static str, &'static str)| {
        let is_sorted = !key.is_empty() && sorted.trim_start_matches('-') == *key;
        let turned = is_sorted && !sorted.starts_with('-');
        let to = if turned { format!("-{key}") } else { (*key).to_owned() };
        let title = match *title {
            "Usage" => format!("Usage {rungs}").trim_end().to_owned(),
            "Period" if !months.is_empty() => format!("{months}, state"),
            other => other.to_owned(),
        };
        Head {
            title,
            href: (!key.is_empty()).then(|| visit.with("sort", &to)),
            sorted: is_sorted.then_some(if sorted.starts_with('-') { "descending" } else { "ascending" }),
            class,
        }
    };
    columns.iter().map(head).collect()
}

/// A filter whose choices are objects of the API.
async fn filter(visit: &Visit, name: &'static str, key: &'static str, path: &str) -> Result<Filter, Problem> {
    let set = visit.query.get(key);
    let known = visit.api.list_if_allowed::<Named>(path).await?;
    let choice =
        |named: Named| Choice { set: set == Some(&named.uuid), href: visit.with(key, &named.uuid), name: named.name };
    let choices: Vec<Choice> = known.rows.into_iter().map(choice).collect();
    let value = set.map(|_| choices.iter().find(|c| c.set).map_or_else(|| "unknown".to_owned(), |c| c.name.clone()));
    Ok(Filter { name, value, clear: visit.with(key, ""), choices })
}

fn states(visit: &Visit) -> Filter {
    let set = visit.query.get("state");
    let choice = |(key, tone): &(&'static str, super::standing::Tone)| Choice {
        name: tone.word.to_owned(),
        href: visit.with("state", key),
        set: set == Some(key),
    };
    let choices: Vec<Choice> = STATES.iter().map(choice).collect();
    let value = choices.iter().find(|choice| choice.set).map(|choice| choice.name.clone());
    Filter { name: "State", value, clear: visit.with("state", ""), choices }
}

/// Which rows of all a page shows: `1–50 of 8,100`.
pub fn line(page: u64, size: u64, shown: u64, total: u64) -> String {
    if total == 0 {
        return "none".to_owned();
    }
    let first = (page - 1) * size + 1;
    format!("{}\u{2013}{} of {}", words::whole(first), words::whole(first + shown.max(1) - 1), words::whole(total))
}

impl Listing {
    /// The list that a visit asks for.
    pub async fn of(visit: &Visit, which: Which) -> Result<Self, Problem> {
        let (query, page) = (asked(visit, which)?, visit.page()?);
        let path = format!("/api/allocation-states/?{query}&page={page}&page_size={ROWS}");
        let found = visit.api.list::<AllocationState>(&path).await?;
        let mut filters = Vec::new();
        if which != Which::Restricted {
            filters.push(states(visit));
        }
        filters.push(filter(visit, "Organisation", "org", "/api/customers/?page_size=100").await?);
        filters
            .push(filter(visit, "Offering", "offering", "/api/marketplace-provider-offerings/?page_size=100").await?);
        filters.retain(|filter| filter.value.is_some() || filter.choices.len() > 1);
        let q = visit.query.get("q").unwrap_or_default().to_owned();
        let filtered = !q.is_empty() || filters.iter().any(|filter| filter.value.is_some());
        let shown = found.rows.len() as u64;
        let files = |kind: &str| {
            let kept = visit.query.only(|name| name != "page").encoded();
            let name = if which == Which::AtRisk && visit.path == "/" { "at-risk" } else { "all" };
            format!("/allocations/export/allocations.{kind}?list={name}&{kept}").trim_end_matches('&').to_owned()
        };
        Ok(Self {
            rows: found.rows.iter().map(|row| Row::of(row, visit.now)).collect(),
            heads: heads(visit, which == Which::Drift, &found.rows),
            line: line(page, ROWS, shown, found.total),
            previous: (page > 1).then(|| visit.at_page(page - 1)),
            next: (page * ROWS < found.total).then(|| visit.at_page(page + 1)),
            clear: filtered.then(|| visit.path.clone()),
            filters,
            q,
            csv: files("csv"),
            ndjson: files("ndjson"),
            drift: which == Which::Drift,
        })
    }
}
