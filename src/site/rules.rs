//! Rules of a policy by themselves, in the keys of a site file: what somebody has in mind instead of those in force.

use super::file::Head;
use super::policy_keys::{PolicySpec, read_rules};
use super::yaml::{Fields, Given, Problems, parse};
use super::{SiteErrors, SiteProblem};
use crate::domain::policy::PolicyTerms;

/// Rules that take the place of others; what they leave out stays.
#[derive(Debug, Clone)]
pub struct Rules(PolicySpec);

impl Rules {
    /// Reads a mapping of the keys that a policy has in a site file, but for those that say where and for whom it applies.
    ///
    /// # Errors
    /// Everything that is wrong with it, by line.
    pub fn read(text: &str) -> Result<Self, SiteErrors> {
        let node = parse(text)?;
        let problems = Problems::default();
        let head = Head { slug: String::new(), uuid: None, line: 1, path: String::new() };
        let mut spec = None;
        if let Some(mut fields) = Fields::of(&node, "", &problems) {
            let read = read_rules(&mut fields, head);
            let elsewhere = [
                ("apply_to_all", read.apply_to_all != Given::Absent),
                ("organization_groups", read.organization_groups != Given::Absent),
                ("options", read.options != Given::Absent || read.recipients != Given::Absent),
                ("reason", read.reason.is_some()),
            ];
            for (key, _) in elsewhere.into_iter().filter(|(_, given)| *given) {
                problems.add(
                    fields.line,
                    key,
                    "says whom a policy concerns, and nothing of what it decides: leave it out",
                );
            }
            fields.finish();
            spec = Some(read);
        }
        problems.into_result()?;
        let empty = SiteProblem { line: 1, path: String::new(), problem: "no rule is given".to_owned() };
        spec.map(Self).ok_or_else(|| SiteErrors::one(empty))
    }

    /// Rules in force with these in their place.
    pub fn over(&self, terms: &PolicyTerms) -> PolicyTerms {
        let period = self.0.period.value().map_or(terms.period, |period| period.value);
        self.0.terms(Some(terms), period)
    }
}
