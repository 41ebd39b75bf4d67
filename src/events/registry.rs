//! Events of the registry: customers, organisation groups, projects, offerings and policies.
//!
//! A registration or change carries the complete new set of facts, so that the newest event of a stream holds the
//! current ones. Events contain opaque ids instead of people's names and mail addresses; the directory resolves them.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::domain::ids::{CustomerId, GroupId, OfferingId, PolicyId, ProjectId, RequestId, ResourceId, UserId};
use crate::domain::policy::PolicyTerms;
use crate::domain::qos::QosNames;
use crate::event_family;

/// An organisation group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupFacts {
    /// The group.
    pub group: GroupId,
    /// Unique short name.
    pub slug: String,
    /// Display name.
    pub name: String,
    /// No longer in use.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub retired: bool,
}

/// An organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerFacts {
    /// The organisation.
    pub customer: CustomerId,
    /// Unique short name.
    pub slug: String,
    /// Display name.
    pub name: String,
    /// Groups it is in.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub groups: BTreeSet<GroupId>,
    /// Its owners.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub owners: BTreeSet<UserId>,
    /// Named as owners by somebody who may not see them, and not confirmed.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub pending: BTreeSet<UserId>,
    /// No longer in use.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub retired: bool,
}

/// A project of an organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectFacts {
    /// The project.
    pub project: ProjectId,
    /// Unique short name.
    pub slug: String,
    /// Display name.
    pub name: String,
    /// Its organisation.
    pub customer: CustomerId,
    /// Its members.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub members: BTreeSet<UserId>,
    /// Named as members by somebody who may not see them, and not confirmed.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub pending: BTreeSet<UserId>,
    /// No longer in use.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub retired: bool,
}

/// How a component is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BillingType {
    /// By limit.
    #[default]
    Limit,
    /// By usage.
    Usage,
    /// Fixed price.
    Fixed,
    /// Once.
    One,
    /// A few times.
    Few,
}

/// How often a limit begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitPeriod {
    /// Calendar month.
    Month,
    /// Calendar quarter.
    Quarterly,
    /// Calendar year.
    Annual,
    /// Never.
    Total,
}

impl LimitPeriod {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Month => "month",
            Self::Quarterly => "quarterly",
            Self::Annual => "annual",
            Self::Total => "total",
        }
    }
}

/// Something an offering counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Its type, e.g. `node_hours`.
    #[serde(rename = "type")]
    pub component_type: String,
    /// Display name.
    pub name: String,
    /// Unit shown, e.g. `hours`.
    pub measured_unit: String,
    /// How it is billed.
    pub billing_type: BillingType,
    /// How often its limit begins anew.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit_period: Option<LimitPeriod>,
    /// The TRES of the cluster it stands for; its own type if the site says nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub slurm_tres: Option<String>,
    /// TRES minutes in one unit; 60 for hours.
    pub minutes_per_unit: Decimal,
    /// Decimal places that a limit of it may have; any if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit_decimal_places: Option<u32>,
}

impl Component {
    /// The TRES name that commands use.
    pub fn tres(&self) -> &str {
        self.slurm_tres.as_deref().unwrap_or(&self.component_type)
    }
}

/// A cluster as sold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferingFacts {
    /// The offering.
    pub offering: OfferingId,
    /// Unique short name.
    pub slug: String,
    /// Display name.
    pub name: String,
    /// The organisation that offers it.
    pub customer: CustomerId,
    /// What it counts.
    pub components: Vec<Component>,
    /// The site's QoS names.
    #[serde(default)]
    pub qos: QosNames,
    /// The SLURM clusters whose accounting counts; empty if it is the only one that is asked.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub slurm_clusters: Vec<String>,
    /// No longer in use.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub retired: bool,
}

/// Who a policy applies to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every customer.
    All,
    /// Customers in one of the groups.
    Groups(BTreeSet<GroupId>),
}

/// A policy as it is in one version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyFacts {
    /// The policy.
    pub policy: PolicyId,
    /// Unique short name; empty for policies made without one.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub slug: String,
    /// The offering it is on.
    pub offering: OfferingId,
    /// Who it applies to.
    pub scope: Scope,
    /// Its parameters.
    pub terms: PolicyTerms,
    /// Addresses of `notify_external_user`, as ids of the directory.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub external_recipients: BTreeSet<UserId>,
    /// Further options by action, free of personal data.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub options: BTreeMap<String, serde_json::Value>,
}

/// A policy was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyDeleted {
    /// The policy.
    pub policy: PolicyId,
    /// The offering it was on.
    pub offering: OfferingId,
}

/// Somebody asked the running server for an evaluation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvaluationRequested {
    /// The request.
    pub request: RequestId,
    /// The policy.
    pub policy: PolicyId,
    /// One resource, or all in scope.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resource: Option<ResourceId>,
}

event_family! {
    /// The events of the registry.
    RegistryEvent {
        /// A group exists.
        GroupRegistered(GroupFacts) = "organization_group_registered.v1",
        /// A group changed.
        GroupChanged(GroupFacts) = "organization_group_changed.v1",
        /// An organisation exists.
        CustomerRegistered(CustomerFacts) = "customer_registered.v1",
        /// An organisation changed.
        CustomerChanged(CustomerFacts) = "customer_changed.v1",
        /// A project exists.
        ProjectRegistered(ProjectFacts) = "project_registered.v1",
        /// A project changed.
        ProjectChanged(ProjectFacts) = "project_changed.v1",
        /// An offering exists.
        OfferingRegistered(OfferingFacts) = "offering_registered.v1",
        /// An offering changed.
        OfferingChanged(OfferingFacts) = "offering_changed.v1",
        /// A policy exists; this is its version 1.
        PolicyCreated(Box<PolicyFacts>) = "policy_created.v1",
        /// A policy changed; this is its next version.
        PolicyChanged(Box<PolicyFacts>) = "policy_changed.v1",
        /// A policy was deleted.
        PolicyDeleted(PolicyDeleted) = "policy_deleted.v1",
        /// Somebody asked for an evaluation.
        EvaluationRequested(EvaluationRequested) = "evaluation_requested.v1",
    }
}
