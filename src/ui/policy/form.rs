//! The form of a policy: every parameter with its name, what it means, and what is wrong with it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::values::{LIMIT, Values, WEIGHT};
use crate::ui::problem::Problem;
use crate::ui::visit::Visit;
use crate::ui::words;

/// An option among several.
pub struct Choice {
    /// As it is sent.
    pub value: String,
    /// As it is called.
    pub name: String,
    /// It is chosen.
    pub set: bool,
}

/// What is entered in.
pub enum Kind {
    /// A line.
    Line,
    /// Several lines.
    Lines,
    /// On or off.
    Switch,
    /// One of several.
    One(Vec<Choice>),
    /// Any of several.
    Any(Vec<Choice>),
}

/// A field.
pub struct Input {
    /// Its name.
    pub name: String,
    /// What it is called.
    pub label: String,
    /// What it means.
    pub help: &'static str,
    /// What it holds.
    pub value: String,
    /// What it is entered in.
    pub kind: Kind,
    /// What is wrong with it, in the API's words.
    pub errors: Vec<String>,
}

/// Fields that belong together.
pub struct Group {
    /// What they are about.
    pub title: &'static str,
    /// The fields.
    pub inputs: Vec<Input>,
}

#[derive(Deserialize)]
struct ComponentRead {
    #[serde(rename = "type")]
    component: String,
    name: String,
}

/// An offering, as the form reads it.
#[derive(Deserialize)]
pub struct Offering {
    /// Its id.
    pub uuid: String,
    /// Its short name.
    pub slug: String,
    /// Its name.
    pub name: String,
    components: Vec<ComponentRead>,
}

#[derive(Deserialize)]
struct GroupRead {
    uuid: String,
    name: String,
}

/// What the form offers for choice.
pub struct Known {
    /// Offerings that the caller sees.
    pub offerings: Vec<Offering>,
    groups: Vec<GroupRead>,
}

impl Known {
    /// Read from the API.
    pub async fn of(visit: &Visit) -> Result<Self, Problem> {
        let offerings = visit.api.list_if_allowed("/api/marketplace-provider-offerings/?page_size=100").await?.rows;
        let groups = visit.api.list_if_allowed("/api/organization-groups/?page_size=100").await?.rows;
        Ok(Self { offerings, groups })
    }

    /// The same with one offering alone.
    #[must_use]
    pub fn on(mut self, offering: &str) -> Self {
        self.offerings.retain(|known| known.uuid == offering);
        self
    }

    /// The components of the offering, or of all where none is chosen: type and name.
    fn components(&self, offering: &str) -> BTreeMap<String, String> {
        let chosen = self.offerings.iter().filter(|o| offering.is_empty() || o.uuid == offering || o.slug == offering);
        chosen.flat_map(|o| &o.components).map(|c| (c.component.clone(), c.name.clone())).collect()
    }
}

const ACTIONS: [(&str, &str); 5] = [
    ("notify_organization_owners", "Tell the owners of the organisation, by mail"),
    ("notify_external_user", "Tell others, by mail"),
    ("block_creation_of_new_resources", "Block new allocations of an organisation at 100 %"),
    ("request_slurm_resource_downscaling", "Slow down at 100 %"),
    ("request_slurm_resource_pausing", "Pause above the grace"),
];
const PERIODS: [(&str, &str); 5] = [
    ("", "the offering's, else quarter"),
    ("2", "month"),
    ("3", "quarter"),
    ("4", "year"),
    ("1", "total, without an end"),
];
const LIMIT_TYPES: [(&str, &str); 3] = [
    ("GrpTRESMins", "GrpTRESMins: minutes of the account"),
    ("MaxTRESMins", "MaxTRESMins: minutes of a job"),
    ("GrpTRES", "GrpTRES: a count at a time"),
];
const BASES: [(&str, &str); 2] =
    [("previous", "the allocation of the previous period"), ("current", "the allocation of now")];
const STRATEGIES: [(&str, &str); 2] = [("threshold", "the standard ladder"), ("progressive", "a list of its own")];

fn options(choices: &[(&str, &str)], set: impl Fn(&str) -> bool) -> Vec<Choice> {
    let option =
        |(value, name): &(&str, &str)| Choice { set: set(value), value: (*value).to_owned(), name: (*name).to_owned() };
    choices.iter().map(option).collect()
}

/// Makes fields out of values, and hands out complaints to them.
struct Maker<'a> {
    values: &'a Values,
    errors: BTreeMap<String, Vec<String>>,
}

impl Maker<'_> {
    /// A field; `about` is the parameter whose complaints it shows.
    fn input(&mut self, name: &str, about: &str, label: &str, kind: Kind, help: &'static str) -> Input {
        let (value, errors) = (self.values.get(name).to_owned(), self.errors.remove(about).unwrap_or_default());
        Input { name: name.to_owned(), label: label.to_owned(), help, value, kind, errors }
    }

    fn line(&mut self, name: &str, label: &str, help: &'static str) -> Input {
        self.input(name, name, label, Kind::Line, help)
    }

    fn switch(&mut self, name: &str, label: &str, help: &'static str) -> Input {
        self.input(name, name, label, Kind::Switch, help)
    }

    fn one(&mut self, name: &str, label: &str, choices: &[(&str, &str)], help: &'static str) -> Input {
        let value = self.values.get(name).to_owned();
        self.input(name, name, label, Kind::One(options(choices, |one| one == value)), help)
    }

    fn per_component(
        &mut self,
        components: &BTreeMap<String, String>,
        prefix: &str,
        about: &str,
        what: &str,
        help: &'static str,
    ) -> Vec<Input> {
        let mut all = components.clone();
        for (component, _) in self.values.beginning(prefix) {
            all.entry(component.to_owned()).or_insert_with(|| words::unit(component));
        }
        let input = |(component, name): (&String, &String)| {
            self.input(&format!("{prefix}{component}"), about, &format!("{what}, {name}"), Kind::Line, help)
        };
        all.iter().map(input).collect()
    }
}

fn scope(maker: &mut Maker<'_>, known: &Known, new: bool) -> Group {
    let mut inputs = Vec::new();
    if new {
        inputs.push(maker.line("slug", "Short name", "A part of its address. It never changes."));
        let value = maker.values.get("scope").to_owned();
        let offering = |o: &Offering| Choice {
            value: o.uuid.clone(),
            name: o.name.clone(),
            set: value == o.uuid || value == o.slug,
        };
        let offerings = known.offerings.iter().map(offering).collect();
        inputs.push(maker.input("scope", "scope", "Offering", Kind::One(offerings), "It never changes either."));
    }
    inputs.push(maker.one(
        "period",
        "Period",
        &PERIODS,
        "Where the offering's components agree on a period, that one is required.",
    ));
    let everybody = [("all", "every organisation"), ("groups", "organisations in these groups")];
    let applies = maker.values.get("applies").to_owned();
    let applies = options(&everybody, |one| one == applies);
    inputs.push(maker.input("applies", "apply_to_all", "Applies to", Kind::One(applies), ""));
    let group = |g: &GroupRead| Choice {
        value: g.uuid.clone(),
        name: g.name.clone(),
        set: maker.values.all("organization_groups").any(|id| id == g.uuid),
    };
    let groups: Vec<Choice> = known.groups.iter().map(group).collect();
    if !groups.is_empty() {
        inputs.push(maker.input("organization_groups", "organization_groups", "Groups", Kind::Any(groups), ""));
    }
    inputs.push(maker.switch("enabled", "Enabled", "A disabled policy restricts nobody and keeps everything."));
    Group { title: "Where it applies", inputs }
}

fn acts(maker: &mut Maker<'_>) -> Group {
    let actions = options(&ACTIONS, |one| maker.values.all("actions").any(|action| action == one));
    let inputs = vec![
        maker.input("actions", "actions", "Actions", Kind::Any(actions), ""),
        maker.input("external", "options", "Mail addresses of others", Kind::Line, "With commas between them."),
        maker.line("notification_threshold", "Warn at, %", "One or several, such as 50, 80, 95."),
        maker.line("grace_ratio", "Grace", "0 to 1. With 0.2 the account is paused at 120 %."),
        maker.one("qos_strategy", "Rungs", &STRATEGIES, ""),
        maker.input(
            "progressive_thresholds",
            "progressive_thresholds",
            "Own rungs",
            Kind::Lines,
            "A line each: percent, then notify, downscale or pause, then a QoS if it has one. 90 downscale slow90",
        ),
    ];
    Group { title: "What it does, and when", inputs }
}

fn amounts(maker: &mut Maker<'_>, components: &BTreeMap<String, String>) -> Group {
    let mut inputs = maker.per_component(
        components,
        LIMIT,
        "component_limits_set",
        "Limit",
        "Where an allocation has none of its own. Empty: none.",
    );
    inputs.push(maker.switch("carryover_enabled", "Carry over what was not used", ""));
    inputs.push(maker.line("carryover_factor", "At most, % of the base", "Empty: by decay, with the half-life below."));
    inputs.push(maker.line(
        "fairshare_decay_half_life",
        "Half-life, days",
        "In which past usage loses half its weight.",
    ));
    inputs.push(maker.one("carryover_base", "Compared with", &BASES, "What past usage is compared with."));
    Group { title: "How much may be used", inputs }
}

fn slurm(maker: &mut Maker<'_>, components: &BTreeMap<String, String>) -> Group {
    let mut inputs = vec![
        maker.one("limit_type", "Limit", &LIMIT_TYPES, "All policies of an offering use the same."),
        maker.switch("raw_usage_reset", "Raw usage starts at 0 each period", ""),
        maker.switch("tres_billing_enabled", "Count in billing units", ""),
    ];
    let help = "Empty for all: the usual weights.";
    inputs.extend(maker.per_component(components, WEIGHT, "tres_billing_weights", "Weight", help));
    Group { title: "In SLURM", inputs }
}

/// The form's fields with these values, and the complaints that are about none of them.
pub fn fields(known: &Known, values: &Values, problem: Option<&Problem>, new: bool) -> (Vec<Group>, Vec<String>) {
    let errors = problem.map(|problem| problem.fields.clone()).unwrap_or_default();
    let mut maker = Maker { values, errors };
    let components = known.components(values.get("scope"));
    let groups = vec![
        scope(&mut maker, known, new),
        acts(&mut maker),
        amounts(&mut maker, &components),
        slurm(&mut maker, &components),
    ];
    let without_a_place =
        |(name, all): (String, Vec<String>)| all.into_iter().map(move |text| format!("{name}: {text}"));
    let mut above = problem.map(|problem| problem.apart.clone()).unwrap_or_default();
    above.extend(maker.errors.into_iter().flat_map(without_a_place));
    (groups, above)
}
