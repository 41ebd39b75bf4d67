//! Whether this release of Sluice is tested with an agent's version.
//!
//! The site agent cannot read an identity without this field. It is information only: no version is refused.

use serde::Serialize;
use utoipa::ToSchema;

/// The oldest version of the site agent that the release tests run, and the newest one.
const OLDEST: Version = Version { release: [1, 0, 7], candidate: None };
const NEWEST: Version = Version { release: [1, 0, 8], candidate: Some(12) };

/// Whether an agent's version is known to work here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AgentCompatibility {
    /// `compatible`, or `unknown`: the agent does not say its version, or nobody has tested it. Sluice turns no agent away.
    status: &'static str,
    /// One sentence.
    message: String,
    /// The oldest version that is tested.
    minimum_required: String,
}

/// A version of the agent as Python packages write them, such as `1.0.8rc12`; a candidate comes before its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    release: [u32; 3],
    candidate: Option<u32>,
}

impl Version {
    /// Reads `X.Y.Z`, `X.Y.ZrcN` and what pre-releases add behind (`.devN`, `+local`), which does not count.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let public = text.split_once('+').map_or(text, |(public, _)| public);
        let plain = public.split_once(".dev").map_or(public, |(plain, _)| plain);
        let (numbers, candidate) = match plain.split_once("rc") {
            Some((numbers, candidate)) => (numbers, Some(candidate.parse().ok()?)),
            None => (plain, None),
        };
        let mut release = [0; 3];
        for (at, number) in numbers.split('.').enumerate() {
            *release.get_mut(at)? = number.parse().ok()?;
        }
        Some(Self { release, candidate })
    }

    /// For comparison: a release comes after all its candidates.
    fn rank(self) -> ([u32; 3], u32) {
        (self.release, self.candidate.unwrap_or(u32::MAX))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [major, minor, patch] = self.release;
        write!(f, "{major}.{minor}.{patch}")?;
        self.candidate.map_or(Ok(()), |candidate| write!(f, "rc{candidate}"))
    }
}

/// What is known of an agent of this version.
pub fn compatibility(version: &str) -> AgentCompatibility {
    let (status, message) = match Version::parse(version) {
        None if version.trim().is_empty() => ("unknown", "The agent has not said its version.".to_owned()),
        None => ("unknown", format!("{version:?} is not a version that Sluice can read.")),
        Some(known) if known.rank() < OLDEST.rank() => {
            let message = format!("Sluice is tested with the site agent from {OLDEST} on; {version} is older.");
            ("unknown", message)
        }
        Some(known) if known.release > NEWEST.release => {
            let message = format!("Sluice is tested with the site agent up to {NEWEST}; {version} is newer.");
            ("unknown", message)
        }
        Some(_) => ("compatible", format!("Sluice is tested with the site agent from {OLDEST} to {NEWEST}.")),
    };
    AgentCompatibility { status, message, minimum_required: OLDEST.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_between_the_oldest_and_the_newest_tested_are_compatible() {
        for version in ["1.0.7", "1.0.8rc1", "1.0.8rc12", "1.0.8", " 1.0.8rc12.dev3+local "] {
            assert_eq!(compatibility(version).status, "compatible", "{version}");
        }
        for (version, says) in [
            ("", "has not said"),
            ("main", "is not a version"),
            ("1.0.x", "is not a version"),
            ("1.0.7.1", "is not a version"),
            ("1.0.6", "is older"),
            ("1.0.7rc3", "is older"),
            ("1.0.9rc1", "is newer"),
            ("2.0", "is newer"),
        ] {
            let known = compatibility(version);
            assert_eq!((known.status, known.message.contains(says)), ("unknown", true), "{version}: {known:?}");
            assert_eq!(known.minimum_required, "1.0.7");
        }
    }
}
