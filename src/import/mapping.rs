//! The TRES of a component, and its unit: `gpu_hours=gres/gpu`, `mem=mem,gb-hours`.
//!
//! A rule is written `COMPONENT=TRES` or `COMPONENT=TRES,UNIT`. TRES is SLURM's name (`node`, `cpu`, `mem`, `gres/gpu`,
//! `gres/gpu:a100`, `billing`, …). UNIT is one of [`UNITS`] or `minutes_per_unit=N`, the same number of TRES-minutes as
//! in an offering's settings; the default is hours, for memory GB-hours (1 GB = 1024 MB).

use std::collections::BTreeMap;
use std::str::FromStr;

use rust_decimal::Decimal;
use thiserror::Error;

use crate::domain::tres::is_memory;

/// Names of units and the TRES-seconds they hold. Those of memory start from SLURM's MB.
pub const UNITS: [(&str, u64); 8] = [
    ("hours", 3600),
    ("minutes", 60),
    ("seconds", 1),
    ("mb-hours", 3600),
    ("gb-hours", 3600 * 1024),
    ("tb-hours", 3600 * 1024 * 1024),
    ("gb-minutes", 60 * 1024),
    ("gb-seconds", 1024),
];

/// How one component is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentRule {
    /// The offering's component type.
    pub component: String,
    /// SLURM's name of what is counted.
    pub tres: String,
    /// TRES-seconds in one unit of the component: 3600 for CPU-hours, 3,686,400 for GB-hours of memory. Above 0.
    pub tres_seconds_per_unit: Decimal,
}

/// What is wrong with a rule or with the choice of rules.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MappingError {
    /// Not of the form of a rule.
    #[error(
        "{rule:?}: write COMPONENT=TRES or COMPONENT=TRES,UNIT, for instance gpu_hours=gres/gpu or mem=mem,gb-hours"
    )]
    Form {
        /// What was given.
        rule: String,
    },
    /// An unknown unit.
    #[error("{rule:?}: no unit {unit:?}; units are {}, or minutes_per_unit=N with N above 0", unit_names())]
    Unit {
        /// What was given.
        rule: String,
        /// Its unit.
        unit: String,
    },
    /// A unit of memory on a TRES that is not counted in MB.
    #[error("{rule:?}: {unit} is a unit of mem, not of {tres}")]
    MemoryUnit {
        /// What was given.
        rule: String,
        /// Its unit.
        unit: String,
        /// Its TRES.
        tres: String,
    },
    /// A rule for a component that the offering lacks.
    #[error("the offering has no component {component:?}; it has {}", listed(declared))]
    NotDeclared {
        /// The rule's component.
        component: String,
        /// What the offering declares.
        declared: Vec<String>,
    },
    /// Two rules for one component.
    #[error("two rules for the component {component:?}")]
    Twice {
        /// The component.
        component: String,
    },
}

fn unit_names() -> String {
    UNITS.map(|(name, _)| name).join(", ")
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

impl FromStr for ComponentRule {
    type Err = MappingError;

    fn from_str(text: &str) -> Result<Self, MappingError> {
        let form = || MappingError::Form { rule: text.to_owned() };
        let (component, counted) = text.split_once('=').ok_or_else(form)?;
        let (tres, unit) = match counted.split_once(',') {
            Some((tres, unit)) => (tres.trim(), Some(unit.trim())),
            None => (counted.trim(), None),
        };
        let component = component.trim();
        if component.is_empty() || tres.is_empty() || tres.contains('=') || tres.contains(char::is_whitespace) {
            return Err(form());
        }
        let tres_seconds_per_unit = match unit {
            None => default_unit(tres),
            Some(unit) => unit_of(text, tres, unit)?,
        };
        Ok(Self { component: component.to_owned(), tres: tres.to_owned(), tres_seconds_per_unit })
    }
}

fn unit_of(rule: &str, tres: &str, unit: &str) -> Result<Decimal, MappingError> {
    let unknown = || MappingError::Unit { rule: rule.to_owned(), unit: unit.to_owned() };
    if let Some(minutes) = unit.strip_prefix("minutes_per_unit=") {
        let minutes: Decimal = minutes.parse().map_err(|_| unknown())?;
        return seconds_of_minutes(minutes).ok_or_else(unknown);
    }
    let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(unknown)?;
    let of_memory = ["mb-", "gb-", "tb-"].iter().any(|prefix| unit.starts_with(prefix));
    if of_memory && tres != "mem" && !tres.starts_with("bb/") {
        let (rule, unit, tres) = (rule.to_owned(), unit.to_owned(), tres.to_owned());
        return Err(MappingError::MemoryUnit { rule, unit, tres });
    }
    Ok(Decimal::from(*seconds))
}

fn seconds_of_minutes(minutes: Decimal) -> Option<Decimal> {
    minutes.checked_mul(Decimal::from(60)).filter(|seconds| *seconds > Decimal::ZERO)
}

fn default_unit(tres: &str) -> Decimal {
    Decimal::from(if tres == "mem" { 3600 * 1024 } else { 3600 })
}

/// The TRES that a component's own name suggests, if it is a usual name.
fn usual_tres(component: &str) -> Option<String> {
    let name = component.to_ascii_lowercase().replace('-', "_");
    let tres = match name.as_str() {
        name if is_memory(name) => "mem",
        "node" | "nodes" | "node_hour" | "node_hours" => "node",
        "cpu" | "cpus" | "cpu_hour" | "cpu_hours" | "core" | "cores" | "core_hours" => "cpu",
        "gpu" | "gpus" | "gpu_hour" | "gpu_hours" => "gres/gpu",
        "billing" | "billing_hours" | "billing_units" => "billing",
        other if other.starts_with("gres/") => return Some(format!("gres/{}", &component["gres/".len()..])),
        _ => return None,
    };
    Some(tres.to_owned())
}

/// A component as an offering declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredComponent {
    /// Its type.
    pub component: String,
    /// The TRES that the offering names for it, if any.
    pub slurm_tres: Option<String>,
    /// TRES-minutes per unit, if the offering says so.
    pub minutes_per_unit: Option<Decimal>,
}

/// The rules of an import, and the components that none was found for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mappings {
    /// One rule per counted component, in the order of the declaration.
    pub rules: Vec<ComponentRule>,
    /// Declared components whose TRES is not known; nothing is reported for them.
    pub unmapped: Vec<String>,
}

impl Mappings {
    /// Chooses a rule for each component of an offering: one given by hand; else the offering's own TRES and
    /// unit; else what the component's name suggests (`node_hours`, `cpu`, `mem`, `gpu`, `gres/…`, `billing` and the like).
    ///
    /// # Errors
    /// A rule by hand names a component that the offering lacks, or one component twice.
    pub fn choose(declared: &[DeclaredComponent], by_hand: &[ComponentRule]) -> Result<Self, MappingError> {
        let mut given: BTreeMap<&str, &ComponentRule> = BTreeMap::new();
        for rule in by_hand {
            if !declared.iter().any(|known| known.component == rule.component) {
                let declared = declared.iter().map(|known| known.component.clone()).collect();
                return Err(MappingError::NotDeclared { component: rule.component.clone(), declared });
            }
            if given.insert(&rule.component, rule).is_some() {
                return Err(MappingError::Twice { component: rule.component.clone() });
            }
        }
        let mut mappings = Self::default();
        for known in declared {
            let rule = given.get(known.component.as_str()).map(|rule| (*rule).clone()).or_else(|| known.rule());
            match rule {
                Some(rule) => mappings.rules.push(rule),
                None => mappings.unmapped.push(known.component.clone()),
            }
        }
        Ok(mappings)
    }
}

impl DeclaredComponent {
    fn rule(&self) -> Option<ComponentRule> {
        let tres = self.slurm_tres.clone().or_else(|| usual_tres(&self.component))?;
        let tres_seconds_per_unit =
            self.minutes_per_unit.and_then(seconds_of_minutes).unwrap_or_else(|| default_unit(&tres));
        Some(ComponentRule { component: self.component.clone(), tres, tres_seconds_per_unit })
    }
}

#[cfg(test)]
mod tests {
    use rust_decimal::Decimal;

    use super::{ComponentRule, DeclaredComponent, MappingError, Mappings};

    fn rule(text: &str) -> ComponentRule {
        text.parse().expect(text)
    }

    fn declared(component: &str) -> DeclaredComponent {
        DeclaredComponent { component: component.to_owned(), slurm_tres: None, minutes_per_unit: None }
    }

    #[test]
    fn a_rule_names_component_tres_and_unit() {
        let cases = [
            ("gpu_hours=gres/gpu", "gres/gpu", 3600),
            ("a100=gres/gpu:a100,minutes", "gres/gpu:a100", 60),
            ("mem=mem", "mem", 3_686_400),
            ("mem = mem , mb-hours", "mem", 3600),
            ("mem=mem,tb-hours", "mem", 3_774_873_600_u64),
            ("mem=mem,minutes_per_unit=61440", "mem", 3_686_400),
            ("half=cpu,minutes_per_unit=0.5", "cpu", 30),
        ];
        for (text, tres, seconds) in cases {
            let rule = rule(text);
            assert_eq!((rule.tres.as_str(), rule.tres_seconds_per_unit), (tres, Decimal::from(seconds)), "{text}");
        }
    }

    #[test]
    fn errors_say_how_to_write_it() {
        for (text, says) in [
            ("gpu", "COMPONENT=TRES"),
            ("=cpu", "COMPONENT=TRES"),
            ("a=", "COMPONENT=TRES"),
            ("a=b=c", "COMPONENT=TRES"),
            ("a=cpu,days", "units are hours, minutes"),
            ("a=cpu,minutes_per_unit=0", "N above 0"),
            ("a=cpu,minutes_per_unit=-3", "N above 0"),
            ("a=cpu,gb-hours", "gb-hours is a unit of mem, not of cpu"),
        ] {
            let message = text.parse::<ComponentRule>().expect_err(text).to_string();
            assert!(message.contains(says), "{message}");
        }
    }

    #[test]
    fn usual_names_are_known_and_others_listed() {
        let names = ["node_hours", "CPU", "mem", "gpu-hours", "GRES/fpga", "billing", "storage"];
        let chosen = Mappings::choose(&names.map(declared), &[]).expect("no rules by hand");
        let tres: Vec<_> = chosen.rules.iter().map(|rule| rule.tres.as_str()).collect();
        assert_eq!(tres, ["node", "cpu", "mem", "gres/gpu", "gres/fpga", "billing"]);
        assert_eq!(chosen.rules[2].tres_seconds_per_unit, Decimal::from(3_686_400));
        assert_eq!(chosen.unmapped, ["storage"]);
    }

    #[test]
    fn the_offering_wins_over_the_name_and_the_hand_over_both() {
        let memory = DeclaredComponent {
            component: "mem".to_owned(),
            slurm_tres: Some("mem".to_owned()),
            minutes_per_unit: Some(Decimal::from(60)),
        };
        let by_offering = Mappings::choose(std::slice::from_ref(&memory), &[]).expect("valid");
        assert_eq!(by_offering.rules, [rule("mem=mem,mb-hours")]);
        let by_hand = Mappings::choose(&[memory], &[rule("mem=mem,gb-hours")]).expect("valid");
        assert_eq!(by_hand.rules, [rule("mem=mem,gb-hours")]);
    }

    #[test]
    fn rules_for_nothing_and_rules_twice_are_refused() {
        let unknown = Mappings::choose(&[declared("cpu")], &[rule("gpu=gres/gpu")]).expect_err("not declared");
        assert_eq!(unknown.to_string(), "the offering has no component \"gpu\"; it has cpu");
        let twice = Mappings::choose(&[declared("cpu")], &[rule("cpu=cpu"), rule("cpu=node")]);
        assert_eq!(twice, Err(MappingError::Twice { component: "cpu".to_owned() }));
    }
}
