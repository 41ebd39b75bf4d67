//! The rows of an import, with each distinct text parsed once, and warnings about the mapping.
//!
//! A component whose TRES is in no row counts as zero: that is right if nobody used one, and wrong if the rows have a
//! TRES that is easily confused with it. The latter is an error: `gres/gpu:a100` is mapped and rows have `gres/gpu`
//! that no typed entry accounts for, or a name that differs only in case, or lacks its `gres/`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::error::ImportError;
use super::mapping::ComponentRule;
use super::tres_string::{amount, amounts, entries, holds_nothing};

/// Distinct texts that are remembered.
const KNOWN_MAX: usize = 65_536;

/// Names of TRES that are kept for remarks.
const NAMES_MAX: usize = 200;

/// One text, read.
#[derive(Debug, Clone)]
struct Known {
    amounts: Box<[u64]>,
    blanks: bool,
    nothing: bool,
    /// Per rule: a name that is easily taken for its TRES.
    siblings: Box<[(usize, String)]>,
}

/// Reads allocations and keeps count of what was in them.
#[derive(Debug, Default)]
pub(super) struct Allocations {
    known: HashMap<Box<str>, Known>,
    names: BTreeSet<String>,
    /// Per rule, whether its TRES was in a row.
    found: Vec<bool>,
    siblings: BTreeMap<usize, (String, u64)>,
    seen: AllocationsSeen,
}

/// What was in the rows of jobs that ran.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllocationsSeen {
    /// Rows of jobs that ran.
    pub rows: u64,
    /// Those without `AllocTRES`, and the seconds that their jobs ran.
    pub without: u64,
    /// Seconds that those jobs ran.
    pub without_s: u64,
    /// Rows with blanks in it.
    pub with_blanks: u64,
    /// Names of TRES in the rows.
    pub names: BTreeSet<String>,
    /// Components whose TRES is in no row, with that TRES.
    pub nowhere: Vec<(String, String)>,
}

impl Allocations {
    pub(super) fn new(rules: usize) -> Self {
        Self { found: vec![false; rules], ..Self::default() }
    }

    /// The amounts of a text, one per rule, into `into`; `ran_s` is how long its job ran.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(super) fn read(
        &mut self,
        text: &str,
        ran_s: u32,
        rules: &[ComponentRule],
        into: &mut Vec<u64>,
    ) -> Result<(), String> {
        if !self.known.contains_key(text) {
            amounts(text, rules, into)?;
            self.learn(text, rules, into);
        }
        let Some(known) = self.known.get(text) else { return Ok(()) };
        self.seen.rows += 1;
        self.seen.with_blanks += u64::from(known.blanks);
        if known.nothing {
            self.seen.without += 1;
            self.seen.without_s += u64::from(ran_s);
        }
        for (rule, name) in &known.siblings {
            let (_, rows) = self.siblings.entry(*rule).or_insert_with(|| (name.clone(), 0));
            *rows += 1;
        }
        into.clear();
        into.extend_from_slice(&known.amounts);
        Ok(())
    }

    fn learn(&mut self, text: &str, rules: &[ComponentRule], amounts: &[u64]) {
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        for (name, _) in entries(text) {
            if self.names.len() < NAMES_MAX && !self.names.contains(name) {
                self.names.insert(name.to_owned());
            }
        }
        let mut siblings = Vec::new();
        for (at, rule) in rules.iter().enumerate() {
            let of_it = |name: &str| {
                name == rule.tres || name.strip_prefix(&rule.tres).is_some_and(|rest| rest.starts_with(':'))
            };
            if entries(text).any(|(name, _)| of_it(name)) {
                self.found[at] = true;
            } else if let Some(name) = sibling(text, &rule.tres) {
                siblings.push((at, name.to_owned()));
            }
        }
        let known = Known {
            amounts: amounts.into(),
            blanks: text.contains(|c: char| c.is_whitespace()),
            nothing: holds_nothing(text),
            siblings: siblings.into(),
        };
        self.known.insert(text.into(), known);
    }

    /// What was seen.
    ///
    /// # Errors
    /// Nothing can be counted, or a component counts what only its sibling shows.
    pub(super) fn finish(self, rules: &[ComponentRule]) -> Result<AllocationsSeen, ImportError> {
        let mut seen = self.seen;
        if seen.rows > 0 && seen.rows == seen.without {
            return Err(ImportError::NoAllocation { rows: seen.rows });
        }
        for (at, rule) in rules.iter().enumerate().filter(|(at, _)| !self.found[*at] && seen.rows > 0) {
            if let Some((sibling, rows)) = self.siblings.get(&at) {
                let (component, tres) = (rule.component.clone(), rule.tres.clone());
                return Err(ImportError::Sibling { component, tres, sibling: sibling.clone(), rows: *rows });
            }
            seen.nowhere.push((rule.component.clone(), rule.tres.clone()));
        }
        seen.names = self.names;
        Ok(seen)
    }
}

/// The name in a text that is easily taken for a TRES that is not in it.
fn sibling<'a>(text: &'a str, tres: &str) -> Option<&'a str> {
    let alike = |name: &str| {
        name.eq_ignore_ascii_case(tres)
            || name.strip_prefix("gres/").is_some_and(|plain| plain.eq_ignore_ascii_case(tres))
            || tres.strip_prefix("gres/").is_some_and(|plain| plain.eq_ignore_ascii_case(name))
    };
    if let Some((name, _)) = entries(text).find(|(name, _)| alike(name)) {
        return Some(name);
    }
    // Where the types are tracked, they add up to the plain entry: then nobody used this one.
    let (base, _) = tres.split_once(':')?;
    let count = |value: &str| amount(base, value).unwrap_or_default();
    let (name, plain) = entries(text).find(|(name, _)| *name == base)?;
    let of_type = |name: &str| name.strip_prefix(base).is_some_and(|rest| rest.starts_with(':'));
    let typed: u64 = entries(text).filter(|(name, _)| of_type(name)).map(|(_, value)| count(value)).sum();
    (count(plain) > typed).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::Allocations;
    use crate::import::{ComponentRule, ImportError};

    fn finish(texts: &[&str], rule: &str) -> Result<super::AllocationsSeen, ImportError> {
        let rules: [ComponentRule; 1] = [rule.parse().expect("a rule")];
        let mut allocations = Allocations::new(1);
        for text in texts {
            allocations.read(text, 60, &rules, &mut Vec::new()).expect("well-formed");
        }
        allocations.finish(&rules)
    }

    #[test]
    fn what_only_a_sibling_shows_is_an_error() {
        for (text, rule, sibling) in [
            ("cpu=8,gres/gpu=4,node=1", "a=gres/gpu:a100", "gres/gpu"),
            ("gres/gpu=4,gres/gpu:h100=1", "a=gres/gpu:a100", "gres/gpu"),
            ("gres/gpu:a100=4", "a=gres/gpu:A100", "gres/gpu:a100"),
            ("gres/gpu=4", "a=gpu", "gres/gpu"),
            ("CPU=4", "a=cpu", "CPU"),
        ] {
            match finish(&[text, "node=1"], rule) {
                Err(ImportError::Sibling { sibling: found, rows: 1, .. }) => assert_eq!(found, sibling, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_nobody_used_is_told_and_no_error() {
        for (text, rule) in [
            ("cpu=8,node=1", "a=gres/gpu"),
            ("gres/gpu=4,gres/gpu:h100=4", "a=gres/gpu:a100"),
            ("gres/gpu:h100=4", "a=gres/gpu:a100"),
            ("cpu=8,node=1", "a=gres/gpus"),
        ] {
            let seen = finish(&[text], rule).expect("no error");
            assert_eq!(seen.nowhere.len(), 1, "{text}");
        }
        let found = finish(&["gres/gpu=4", "gres/gpu=1,gres/gpu:a100=1"], "a=gres/gpu:a100").expect("one row has it");
        assert!(found.nowhere.is_empty());
        assert!(finish(&[], "a=cpu").expect("no rows").nowhere.is_empty());
    }

    #[test]
    fn rows_without_an_allocation_are_counted_and_all_of_them_are_an_error() {
        let seen = finish(&["", "cpu=1", "N/A", "cpu=1, node=1"], "a=cpu").expect("some have one");
        assert_eq!((seen.rows, seen.without, seen.without_s, seen.with_blanks), (4, 2, 120, 1));
        assert!(matches!(finish(&["", ""], "a=cpu"), Err(ImportError::NoAllocation { rows: 2 })));
    }
}
