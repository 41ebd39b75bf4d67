//! Events of allocation books: one stream per resource and calendar month, `allocation-{resource}-{YYYY-MM}`.
//!
//! They store results: folding them never recomputes a decision. Amounts are decimal strings.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::domain::evaluate::{Flags, MonthUsage, NoticeTerms, Outcome, Trigger, UsageByMonth, flag_words};
use crate::domain::ids::{CustomerId, HoldId, OfferingId, PolicyId, ProjectId, ResourceId, UserId};
use crate::domain::limit_history::LimitHistory;
use crate::domain::period::{Month, Period};
use crate::domain::small_map::SmallMap;
use crate::domain::tres::Amounts;
use crate::event_family;
use crate::events::chain::Chains;
use crate::events::dispatch::{
    AccountFreed, DispatchResendRequested, DispatchUnanswered, RestrictionResendRequested, StompMessageFailed,
    StompMessageSent,
};
use crate::events::notice::{NoticeFailed, NoticeResent, NoticeSent};
use crate::events::site_answer::{LimitsEchoed, QosConfirmed, ResourceSynced, SiteAnswers};

pub use super::commanded::{Commanded, CounterReset, DispatchState, OpenDispatch, SettingsCommanded};
pub use super::dispatch::{CommandReport, CommandResultReported, CommandResultUnmatched, ExecutionMode};
pub use super::recorded::{Recorded, RecordedBasis};
pub use super::resource_state::ResourceState;

/// What a resource is, as far as decisions need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceFacts {
    /// The resource.
    pub resource: ResourceId,
    /// Unique short name.
    pub slug: String,
    /// Display name.
    pub name: String,
    /// The cluster as sold.
    pub offering: OfferingId,
    /// The project it belongs to.
    pub project: ProjectId,
    /// The organisation the project belongs to.
    pub customer: CustomerId,
    /// The SLURM account; empty if the site has not said yet.
    pub backend_id: String,
    /// Its own limits by component, in hours; absent = no limit.
    pub limits: Amounts,
    /// State at the site.
    pub state: ResourceState,
    /// When it came into being; decides whether it existed in a previous period.
    pub created: DateTime<Utc>,
}

impl ResourceFacts {
    /// The SLURM account that commands name: the backend id, else the name.
    pub fn account(&self) -> &str {
        if self.backend_id.is_empty() { &self.name } else { &self.backend_id }
    }
}

/// A resource's first fact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceRegistered {
    /// All of it.
    #[serde(flatten)]
    pub facts: ResourceFacts,
}

/// Limits were set; the whole new set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitsChanged {
    /// New limits by component, hours.
    pub limits: Amounts,
    /// What they were.
    pub previous: Amounts,
}

/// Name or account changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceDetailsChanged {
    /// Display name.
    pub name: String,
    /// SLURM account.
    pub backend_id: String,
}

/// The state at the site changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceStateChanged {
    /// Before.
    pub from: ResourceState,
    /// After.
    pub to: ResourceState,
}

/// One component of a usage report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportedAmount {
    /// Month-to-date total, in the component's unit.
    pub amount: Decimal,
    /// The total it replaces.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous: Option<Decimal>,
}

/// What becomes of a later month that ends without a report on a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingUsage {
    /// It stays without a total.
    #[default]
    None,
    /// It gets the total of the last report.
    Reuse,
    /// It gets a total of zero.
    Zero,
}

impl MissingUsage {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::None, Self::Reuse, Self::Zero];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Reuse => "reuse",
            Self::Zero => "zero",
        }
    }

    /// The meaning of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == word)
    }
}

/// What a report says of later months without one, and of which month it is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingTerm {
    /// The last month with a total.
    pub month: Month,
    /// What becomes of those after it.
    pub policy: MissingUsage,
}

/// A total that nobody reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilledAmount {
    /// The total, in the component's unit.
    pub amount: Decimal,
    /// What the last report said of such months.
    pub policy: MissingUsage,
}

/// A month ended without a report on some components, and got the totals that their last reports ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingUsageFilled {
    /// The calendar month.
    pub month: Month,
    /// Totals by component.
    pub amounts: SmallMap<String, FilledAmount>,
}

/// Month-to-date totals; components that are absent keep theirs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsageReported {
    /// The calendar month they belong to.
    pub month: Month,
    /// New totals that differ from the known ones.
    pub amounts: SmallMap<String, ReportedAmount>,
    /// A decrease, or a change of a past month.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub restated: bool,
    /// When the totals were read from the accounting; unknown of reports from before this was recorded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub measured_at: Option<DateTime<Utc>>,
    /// What becomes of later months without a report, by component; nothing where nothing is said.
    #[serde(skip_serializing_if = "SmallMap::is_empty", default)]
    pub missing_usage: SmallMap<String, MissingUsage>,
}

/// One component of a late report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateAmount {
    /// The total that was reported, in the component's unit.
    pub amount: Decimal,
    /// The total that stands, since it was measured later.
    pub stands: Decimal,
    /// When that one was measured.
    pub stands_since: DateTime<Utc>,
}

/// Totals that were measured before those already known: they change nothing, and are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateUsageReported {
    /// The calendar month they belong to.
    pub month: Month,
    /// Totals by component that differ from the known ones, beside the ones that stand.
    pub amounts: SmallMap<String, LateAmount>,
    /// When they were read from the accounting.
    pub measured_at: DateTime<Utc>,
}

/// A late total, as far as it has to be recognised when it comes again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateTotal {
    /// Calendar month.
    pub month: Month,
    /// Component type.
    pub component: String,
    /// The total that was reported.
    pub amount: Decimal,
    /// When it was measured.
    pub measured_at: DateTime<Utc>,
}

/// One user's share of a component in a month. The user's name is in the directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserUsageReported {
    /// Calendar month.
    pub month: Month,
    /// Component type.
    pub component: String,
    /// Month-to-date totals by opaque user id.
    pub amounts: BTreeMap<UserId, Decimal>,
}

/// A policy was evaluated on the resource: every input and the outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyEvaluated {
    /// The policy.
    pub policy: PolicyId,
    /// Its version.
    pub policy_version: u64,
    /// Why now.
    pub trigger: Trigger,
    /// The period that is counted.
    pub period: Period,
    /// The month whose usage is given below.
    pub month: Month,
    /// Terms that seldom change.
    pub basis: Recorded<Arc<RecordedBasis>>,
    /// Usage of the running month.
    pub usage: Recorded<MonthUsage>,
    /// Notices given before.
    pub notices: NoticeTerms,
    /// The policy's holds before.
    #[serde(with = "flag_words", skip_serializing_if = "no_flags", default)]
    pub held: Flags,
    /// Restrictions of the resource before.
    #[serde(with = "flag_words", skip_serializing_if = "no_flags", default)]
    pub before: Flags,
    /// Restrictions of the resource after.
    #[serde(with = "flag_words", skip_serializing_if = "no_flags", default)]
    pub after: Flags,
    /// What was decided.
    pub outcome: Outcome,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn no_flags(flags: &Flags) -> bool {
    !flags.any()
}

/// An evaluation could not be carried out; nothing changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationFailed {
    /// The policy.
    pub policy: PolicyId,
    /// Its version.
    pub policy_version: u64,
    /// Why it ran.
    pub trigger: Trigger,
    /// The period.
    pub period: Period,
    /// What went wrong.
    pub error: String,
    /// Restrictions in force, unchanged.
    #[serde(skip_serializing_if = "no_flags", default)]
    pub flags: Flags,
}

/// Why a policy ceased to bear on a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithdrawReason {
    /// The policy was deleted.
    Deleted,
    /// The policy was disabled.
    Disabled,
    /// The customer is no longer in scope.
    OutOfScope,
    /// The resource is gone.
    Terminated,
}

/// A policy ceased to bear on the resource; its holds are released with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyWithdrawn {
    /// The policy.
    pub policy: PolicyId,
    /// Why.
    pub reason: WithdrawReason,
    /// Holds it had.
    #[serde(skip_serializing_if = "no_flags", default)]
    pub released: Flags,
}

/// What a manual hold does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldKind {
    /// Pauses.
    Pause,
    /// Slows down.
    Downscale,
    /// Lifts every restriction.
    Exemption,
}

impl HoldKind {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Downscale => "downscale",
            Self::Exemption => "exemption",
        }
    }

    /// The kind of a word; `slowdown` is another name of `downscale`.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "pause" => Some(Self::Pause),
            "downscale" | "slowdown" => Some(Self::Downscale),
            "exemption" => Some(Self::Exemption),
            _ => None,
        }
    }
}

/// An operator's hold; no policy releases it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldPlaced {
    /// The hold.
    pub hold: HoldId,
    /// What it does.
    pub kind: HoldKind,
    /// Why.
    pub reason: String,
    /// Ticket it refers to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ticket: Option<String>,
    /// When it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was placed.
    pub placed_at: DateTime<Utc>,
    /// The people of the resource may read the reason and the ticket.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub public: bool,
}

/// A manual hold ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldReleased {
    /// The hold.
    pub hold: HoldId,
    /// It ran out by itself.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub expired: bool,
}

/// The restrictions in force on the resource changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestrictionChanged {
    /// Before.
    pub from: Flags,
    /// After.
    pub to: Flags,
    /// Policies whose decision it was, oldest first; empty if an operator's.
    pub policies: Vec<PolicyId>,
}

/// The month's book is sealed; the next one continues it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BooksClosed {
    /// The month of the book that continues.
    pub successor: Month,
}

/// The month's book begins with what the previous one left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BooksOpened {
    /// The month of the sealed book.
    pub previous: Month,
    /// What it left.
    pub carried: Carried,
}

/// Instants of measurement by calendar month and component.
pub type MeasuredAt = SmallMap<Month, SmallMap<String, DateTime<Utc>>>;

/// What one book hands to the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    /// What the resource is.
    pub facts: ResourceFacts,
    /// What its limits were before; older versions of Sluice kept none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit_history: Option<LimitHistory>,
    /// Usage by month.
    #[serde(skip_serializing_if = "SmallMap::is_empty", default)]
    pub usage: UsageByMonth,
    /// When the totals of a month and component were measured, where that is known.
    #[serde(skip_serializing_if = "SmallMap::is_empty", default)]
    pub measured: MeasuredAt,
    /// Late totals, the newest ones, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub late: Vec<LateTotal>,
    /// What becomes of months without a report, by component.
    #[serde(skip_serializing_if = "SmallMap::is_empty", default)]
    pub missing_usage: SmallMap<String, MissingTerm>,
    /// The month in which the resource ended, if it has.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended: Option<Month>,
    /// What each policy left.
    #[serde(skip_serializing_if = "SmallMap::is_empty", default)]
    pub policies: SmallMap<PolicyId, CarriedPolicy>,
    /// Manual holds.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub holds: Vec<HoldPlaced>,
    /// Restrictions in force.
    #[serde(skip_serializing_if = "no_flags", default)]
    pub flags: Flags,
    /// What the agent was told last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub commanded: Option<Commanded>,
    /// The last reset of the raw-usage counter.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reset: Option<CounterReset>,
    /// The same as the agent was handed it last, where that is another one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub handed_reset: Option<CounterReset>,
    /// Dispatches that may still be answered, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub dispatches: Vec<OpenDispatch>,
    /// What the site said last of class of service and limits.
    #[serde(skip_serializing_if = "SiteAnswers::is_empty", default)]
    pub answers: SiteAnswers,
    /// Events that later ones come of.
    #[serde(skip_serializing_if = "Chains::is_empty", default)]
    pub chains: Chains,
}

/// What a policy leaves for the next book.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CarriedPolicy {
    /// Highest version seen.
    pub version: u64,
    /// The period last evaluated.
    pub period: Period,
    /// Base allocation last seen: a raise over it re-arms notices.
    #[serde(skip_serializing_if = "SmallMap::is_empty", default)]
    pub base: Amounts,
    /// Notices given in that period.
    #[serde(default)]
    pub notices: NoticeTerms,
    /// Its holds.
    #[serde(skip_serializing_if = "no_flags", default)]
    pub held: Flags,
    /// QoS name of the rung it stands on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub qos: Option<String>,
    /// It applies no more; its notices stay known.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub withdrawn: bool,
}

event_family! {
    /// The events of allocation books.
    AllocationEvent {
        /// A book begins.
        BooksOpened(Box<BooksOpened>) = "books_opened.v1",
        /// A book is sealed.
        BooksClosed(BooksClosed) = "books_closed.v1",
        /// A resource exists.
        ResourceRegistered(Box<ResourceRegistered>) = "resource_registered.v1",
        /// Limits were set.
        LimitsChanged(LimitsChanged) = "limits_changed.v1",
        /// Name or account changed.
        ResourceDetailsChanged(ResourceDetailsChanged) = "resource_details_changed.v1",
        /// State at the site changed.
        ResourceStateChanged(ResourceStateChanged) = "resource_state_changed.v1",
        /// Usage was reported.
        UsageReported(UsageReported) = "usage_reported.v1",
        /// Usage was reported that was measured before what is known.
        LateUsageReported(LateUsageReported) = "late_usage_reported.v1",
        /// A month ended without a report, and got a total all the same.
        MissingUsageFilled(MissingUsageFilled) = "missing_usage_filled.v1",
        /// Per-user usage was reported.
        UserUsageReported(UserUsageReported) = "user_usage_reported.v1",
        /// A policy was evaluated.
        PolicyEvaluated(Box<PolicyEvaluated>) = "policy_evaluated.v1",
        /// An evaluation failed.
        EvaluationFailed(EvaluationFailed) = "evaluation_failed.v1",
        /// A policy ceased to bear on the resource.
        PolicyWithdrawn(PolicyWithdrawn) = "policy_withdrawn.v1",
        /// An operator placed a hold.
        HoldPlaced(HoldPlaced) = "hold_placed.v1",
        /// A manual hold ended.
        HoldReleased(HoldReleased) = "hold_released.v1",
        /// Restrictions changed.
        RestrictionChanged(RestrictionChanged) = "restriction_changed.v1",
        /// The agent is to be told.
        SettingsCommanded(Box<SettingsCommanded>) = "settings_commanded.v2" | "settings_commanded.v1",
        /// A queue took messages to the agent.
        StompMessageSent(StompMessageSent) = "stomp_message_sent.v1",
        /// No queue took them.
        StompMessageFailed(StompMessageFailed) = "stomp_message_failed.v1",
        /// Nobody answered in time.
        DispatchUnanswered(DispatchUnanswered) = "dispatch_unanswered.v1",
        /// An operator has a dispatch sent again.
        DispatchResendRequested(DispatchResendRequested) = "dispatch_resend_requested.v1",
        /// An operator has the message about restrictions sent again.
        RestrictionResendRequested(RestrictionResendRequested) = "restriction_resend_requested.v1",
        /// Somebody freed an account that the resource had left restricted.
        AccountFreed(AccountFreed) = "account_freed.v1",
        /// The agent reported on a dispatch.
        CommandResultReported(CommandResultReported) = "command_result_reported.v1",
        /// The agent reported on nothing known.
        CommandResultUnmatched(CommandResultUnmatched) = "command_result_unmatched.v1",
        /// The agent says which class of service the account has.
        QosConfirmed(QosConfirmed) = "qos_confirmed.v1",
        /// The agent read limits back.
        LimitsEchoed(LimitsEchoed) = "limits_echoed.v1",
        /// The agent has looked after the resource's account.
        ResourceSynced(ResourceSynced) = "resource_synced.v1",
        /// A notice was handed over.
        NoticeSent(NoticeSent) = "notice_sent.v1",
        /// A notice was given up.
        NoticeFailed(NoticeFailed) = "notice_failed.v1",
        /// An operator has a notice sent again.
        NoticeResent(NoticeResent) = "notice_resent.v1",
    }
}
