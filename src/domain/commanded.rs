//! The recorded inputs of a message to the agent, and the function that computes the message from them.
//!
//! A decision and its later replay both call [`CommandInputs::work_out`], so that the recorded commands can be compared
//! with the result of their inputs, byte by byte.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::evaluate::{Allocation, EvaluationTerms, Flags};
use super::ids::PolicyId;
use super::policy::LimitType;
use super::qos::QosClass;
use super::sacctmgr::{self, Command};
use super::settings::{AgentSettings, SettingsInputs, baseline_minutes, strictest};
use super::tres::{Amounts, TresMapping};

/// A class of service under the name that goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldQos {
    /// The class.
    pub class: QosClass,
    /// The site's or a rung's name; absent where an old event did not record it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
}

/// What one policy contributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyInputs {
    /// The policy.
    pub policy: PolicyId,
    /// Version in the same stream of the evaluation that has its terms and its allocation in full.
    pub basis: u64,
    /// Which limit its numbers are for.
    pub limit_type: LimitType,
    /// What its period had counted when SLURM's counter began: amounts by component.
    #[serde(skip_serializing_if = "Amounts::is_empty", default)]
    pub counted: Amounts,
}

/// Everything that a message's settings, class of service and commands follow from, beside the evaluations it refers to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandInputs {
    /// The account that the commands name.
    pub account: String,
    /// The account has been told nothing before: a resource is taken over, or came onto another account.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub takes_over: bool,
    /// The class of service last sent for the account; none: the default one is assumed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub told: Option<ToldQos>,
    /// The site's name for the class of service.
    pub site_qos: String,
    /// The name of the rung that restricts, which goes before it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rung_qos: Option<String>,
    /// By what the sum of the effective hours is divided to give the fairshare.
    pub fairshare_divisor: Decimal,
    /// How the components that occur appear in SLURM.
    pub components: BTreeMap<String, TresMapping>,
    /// What the policies that apply contribute, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub policies: Vec<PolicyInputs>,
    /// Since when SLURM's counter is taken to count; none: it was never reset, or is with this message.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub counted_since: Option<DateTime<Utc>>,
    /// No policy applies any more: what was set last stays.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kept: Option<Box<AgentSettings>>,
}

/// What follows.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkedOut {
    /// The settings.
    pub settings: AgentSettings,
    /// The class of service.
    pub qos: QosClass,
    /// The name that goes with it.
    pub qos_name: String,
    /// The commands, in order.
    pub commands: Vec<Command>,
}

impl CommandInputs {
    /// The settings, given for each of the policies the terms and the allocation of the evaluation it refers to.
    pub fn settings(&self, evaluated: &[(&EvaluationTerms, &Allocation)], resets: bool) -> AgentSettings {
        if let Some(kept) = &self.kept {
            return AgentSettings { reset_raw_usage: resets, ..(**kept).clone() };
        }
        let one = |(policy, (terms, allocation)): (&PolicyInputs, &(&EvaluationTerms, &Allocation))| {
            AgentSettings::of(&SettingsInputs {
                limit_type: policy.limit_type,
                weights: &terms.weights,
                grace_ratio: terms.grace_ratio(),
                effective: &allocation.effective,
                components: &self.components,
                baseline_minutes: &baseline_minutes(&policy.counted, &self.components, &terms.weights),
                fairshare_divisor: self.fairshare_divisor,
                reset_raw_usage: resets,
                carryover: &allocation.carryover,
            })
        };
        let each: Vec<AgentSettings> = self.policies.iter().zip(evaluated).map(one).collect();
        AgentSettings { reset_raw_usage: resets, ..strictest(&each) }
    }

    /// The name of the class of service: the rung's own, else the site's.
    pub fn qos_name(&self) -> &str {
        self.rung_qos.as_deref().unwrap_or(&self.site_qos)
    }

    /// Everything: `flags` are the restrictions in force, `resets` says whether raw usage is reset.
    pub fn work_out(&self, evaluated: &[(&EvaluationTerms, &Allocation)], flags: Flags, resets: bool) -> WorkedOut {
        let settings = self.settings(evaluated, resets);
        let qos = QosClass::of(flags.paused, flags.downscaled);
        let name = self.qos_name();
        let changed = self
            .told
            .as_ref()
            .map_or(qos != QosClass::Default, |told| told.class != qos || told.name.as_deref() != Some(name));
        let reason = match qos {
            QosClass::Paused => "paused",
            QosClass::Downscaled => "downscaled",
            QosClass::Default => "restored",
        };
        let commands = sacctmgr::commands(&self.account, &settings, changed.then_some((name, reason)));
        WorkedOut { settings, qos, qos_name: name.to_owned(), commands }
    }
}
