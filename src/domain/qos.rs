//! Classes of service: those that the site agent understands, and their names in the site's SLURM.

use serde::{Deserialize, Serialize};

/// The class of service a resource is in; the agent knows these three and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum QosClass {
    /// Nothing is held against it.
    #[default]
    #[serde(rename = "qos_default")]
    Default,
    /// Slowed down.
    #[serde(rename = "qos_downscaled")]
    Downscaled,
    /// Blocked.
    #[serde(rename = "qos_paused")]
    Paused,
}

impl QosClass {
    /// The class that follows from a resource's two flags; paused outweighs downscaled.
    pub fn of(paused: bool, downscaled: bool) -> Self {
        match (paused, downscaled) {
            (true, _) => Self::Paused,
            (false, true) => Self::Downscaled,
            (false, false) => Self::Default,
        }
    }

    /// The name in the agent's configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Default => "qos_default",
            Self::Downscaled => "qos_downscaled",
            Self::Paused => "qos_paused",
        }
    }
}

/// What a site calls the three classes in SLURM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QosNames {
    /// For resources without restriction.
    pub default: String,
    /// For resources that are slowed down.
    pub downscaled: String,
    /// For resources that are blocked.
    pub paused: String,
}

impl Default for QosNames {
    fn default() -> Self {
        Self { default: "normal".into(), downscaled: "slowdown".into(), paused: "blocked".into() }
    }
}

impl QosNames {
    /// The site's name for a class.
    pub fn of(&self, class: QosClass) -> &str {
        match class {
            QosClass::Default => &self.default,
            QosClass::Downscaled => &self.downscaled,
            QosClass::Paused => &self.paused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_decide_the_class_and_the_site_its_name() {
        let site = QosNames { paused: "stopped".into(), ..QosNames::default() };
        for (paused, downscaled, word, name) in [
            (false, false, "qos_default", "normal"),
            (false, true, "qos_downscaled", "slowdown"),
            (true, false, "qos_paused", "stopped"),
            (true, true, "qos_paused", "stopped"),
        ] {
            let class = QosClass::of(paused, downscaled);
            assert_eq!((class.word(), site.of(class)), (word, name));
            assert_eq!(serde_json::to_value(class).unwrap(), word);
        }
    }

    #[test]
    fn names_that_are_left_out_are_the_usual_ones() {
        let names: QosNames = serde_json::from_str(r#"{"downscaled": "slow"}"#).unwrap();
        assert_eq!(names, QosNames { downscaled: "slow".into(), ..QosNames::default() });
        assert!(serde_json::from_str::<QosNames>(r#"{"slowed": "slow"}"#).is_err());
    }
}
