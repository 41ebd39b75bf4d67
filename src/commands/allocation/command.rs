//! Commands on an allocation, the reasons to refuse them, and the context of a decision.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;

use crate::clock::IdSource;
use crate::domain::carryover::CarryoverBase;
use crate::domain::evaluate::{EvaluationTerms, Trigger};
use crate::domain::ids::{DispatchId, HoldId, PolicyId, UserId};
use crate::domain::period::{Month, Period, PeriodKind, site_date};
use crate::domain::tres::{Amounts, TresMapping};
use crate::events::allocation::{CommandReport, HoldKind, MissingUsage, ResourceFacts, ResourceState, WithdrawReason};
use crate::events::dispatch::{
    AccountFreed, DispatchResendRequested, DispatchUnanswered, RestrictionResendRequested, StompMessageFailed,
    StompMessageSent,
};
use crate::events::envelope::Cause;
use crate::events::notice::Notice;
use crate::events::registry::{Component, OfferingFacts, PolicyFacts};

/// Something asked of one allocation.
#[derive(Debug, Clone, PartialEq)]
pub enum AllocationCommand {
    /// Make it exist.
    Register(Box<ResourceFacts>),
    /// Set its limits, the whole set.
    ChangeLimits(Amounts),
    /// Change its name or SLURM account.
    ChangeDetails {
        /// New display name.
        name: Option<String>,
        /// New SLURM account.
        backend_id: Option<String>,
    },
    /// Change its state at the site.
    ChangeState(ResourceState),
    /// Month-to-date totals of some components.
    ReportUsage(UsageReport),
    /// Give months that ended without a report the totals that the last reports ask for.
    FillMissingUsage,
    /// Month-to-date totals of one component by user.
    ReportUserUsage {
        /// Calendar month.
        month: Month,
        /// Component type.
        component: String,
        /// Totals by opaque user id.
        amounts: BTreeMap<UserId, Decimal>,
    },
    /// Evaluate one policy, or all that apply; one that does not apply is withdrawn if it once did.
    Evaluate {
        /// The policy; none = all.
        policy: Option<PolicyId>,
        /// Why.
        trigger: Trigger,
    },
    /// Place a manual hold.
    PlaceHold {
        /// Its id.
        hold: HoldId,
        /// What it does.
        kind: HoldKind,
        /// Why.
        reason: String,
        /// Ticket.
        ticket: Option<String>,
        /// When it ends by itself.
        expires_at: Option<DateTime<Utc>>,
        /// The people of the resource may read reason and ticket.
        public: bool,
    },
    /// End a manual hold.
    ReleaseHold {
        /// Its id.
        hold: HoldId,
        /// It ran out by itself.
        expired: bool,
    },
    /// Decide by hand that raw usage starts again: what was counted so far becomes the baseline.
    ResetRawUsage,
    /// What the agent says of a dispatch.
    ReportCommandResult {
        /// The policy it is reported under.
        policy: PolicyId,
        /// The dispatch, where the agent names it.
        dispatch: Option<DispatchId>,
        /// What it says.
        report: CommandReport,
    },
    /// What the agent says of the account's class of service.
    ConfirmQos {
        /// The name in SLURM.
        qos: String,
    },
    /// Limits that the agent read back from SLURM; they change nothing.
    EchoLimits(Amounts),
    /// The agent came to the end of looking after the account.
    NoteSync,
    /// How the delivery of a notice ended.
    RecordNotice {
        /// Which notice.
        notice: Box<Notice>,
        /// Why it was given up, if it was; free of addresses.
        error: Option<String>,
    },
    /// A given-up notice must be resent.
    ResendNotice(Box<Notice>),
    /// What became of a message to the agent.
    RecordDispatch(DispatchRecord),
    /// The newest message is about to be handed over: recompute it if its inputs have changed.
    RenewSettings,
}

/// Month-to-date totals of some components, as somebody measured them.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageReport {
    /// Calendar month.
    pub month: Month,
    /// Totals by component, component units.
    pub amounts: Amounts,
    /// When they were read from the accounting; none = just now, and newer than anything that is known.
    pub measured_at: Option<DateTime<Utc>>,
    /// What becomes of later months without a report, by component; nothing where nothing is said.
    pub missing_usage: BTreeMap<String, MissingUsage>,
}

impl UsageReport {
    /// Totals of a month, measured now.
    pub fn new(month: Month, amounts: Amounts) -> Self {
        Self { month, amounts, measured_at: None, missing_usage: BTreeMap::new() }
    }

    /// The same, measured then.
    #[must_use]
    pub fn measured_at(self, at: DateTime<Utc>) -> Self {
        Self { measured_at: Some(at), ..self }
    }
}

/// What became of a message to the agent, or is to become of it.
#[derive(Debug, Clone, PartialEq)]
pub enum DispatchRecord {
    /// A queue took it.
    Sent(StompMessageSent),
    /// No queue did.
    Failed(StompMessageFailed),
    /// Nobody answered.
    Unanswered(DispatchUnanswered),
    /// It must be resent.
    ResendRequested(DispatchResendRequested),
    /// The message about restrictions is.
    RestrictionResendRequested(RestrictionResendRequested),
    /// No message is needed: somebody freed an account that the resource had left restricted.
    AccountFreed(AccountFreed),
}

impl AllocationCommand {
    /// Whether it records what somebody did or said, who may not say it again: it is taken even where nothing can be decided.
    pub fn is_record(&self) -> bool {
        matches!(
            self,
            Self::ReportCommandResult { .. }
                | Self::ConfirmQos { .. }
                | Self::EchoLimits(_)
                | Self::NoteSync
                | Self::RecordNotice { .. }
                | Self::ResendNotice(_)
                | Self::RecordDispatch(_)
        )
    }

    /// What it is, in one word for metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Register(_) => "register",
            Self::ChangeLimits(_) => "change_limits",
            Self::ChangeDetails { .. } => "change_details",
            Self::ChangeState(_) => "change_state",
            Self::ReportUsage(_) => "report_usage",
            Self::FillMissingUsage => "fill_missing_usage",
            Self::ReportUserUsage { .. } => "report_user_usage",
            Self::Evaluate { .. } => "evaluate",
            Self::PlaceHold { .. } => "place_hold",
            Self::ReleaseHold { .. } => "release_hold",
            Self::ResetRawUsage => "reset_raw_usage",
            Self::ReportCommandResult { .. } => "report_command_result",
            Self::RecordDispatch(_) => "record_dispatch",
            Self::RenewSettings => "renew_settings",
            Self::ConfirmQos { .. } => "confirm_qos",
            Self::EchoLimits(_) => "echo_limits",
            Self::NoteSync => "note_sync",
            Self::RecordNotice { .. } => "record_notice",
            Self::ResendNotice(_) => "resend_notice",
        }
    }
}

/// Why a command was refused. Nothing was recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Usage of a month that has not begun.
    #[error("{month} has not begun: it is {today} at the site")]
    FutureMonth {
        /// The month.
        month: Month,
        /// The site's date.
        today: chrono::NaiveDate,
    },
    /// Usage of a month that is too long ago.
    #[error("{month} is too early: usage is taken from {first} on{because}")]
    MonthTooEarly {
        /// The month.
        month: Month,
        /// The first month that is taken.
        first: Month,
        /// Why, with what can be changed about it.
        because: String,
    },
    /// Usage of a month after the end of the resource.
    #[error("{month} is too late: the resource ended in {ended}, and usage is taken until then")]
    MonthAfterEnd {
        /// The month.
        month: Month,
        /// The month in which it ended.
        ended: Month,
    },
    /// A measurement that is yet to come.
    #[error("{measured_at} is in the future: it is {now}, and a clock may run ahead by {minutes} minutes")]
    MeasuredInFuture {
        /// The instant.
        measured_at: DateTime<Utc>,
        /// The present one.
        now: DateTime<Utc>,
        /// How far ahead a measurement may be.
        minutes: i64,
    },
    /// A measurement from before the month that it is of.
    #[error("{measured_at} is before {month} begins at the site, at {begins}")]
    MeasuredBeforeMonth {
        /// The instant.
        measured_at: DateTime<Utc>,
        /// The month.
        month: Month,
        /// When it begins.
        begins: DateTime<Utc>,
    },
    /// A component that the offering does not have.
    #[error("component type {component:?} is unknown to the offering; it has {known}")]
    UnknownComponent {
        /// The type.
        component: String,
        /// What there is.
        known: String,
    },
    /// A negative or absurdly large amount.
    #[error("{component}: {complaint}")]
    AmountOutOfRange {
        /// The component.
        component: String,
        /// What is wrong with the amount and what is allowed.
        complaint: String,
    },
    /// The registry behind the decision is older than the book.
    #[error("the registry is behind: policy {policy} is known to the book in version {seen}")]
    StaleRegistry {
        /// The policy.
        policy: PolicyId,
        /// Version in the book.
        seen: u64,
    },
    /// No such hold.
    #[error("there is no hold {0} on this resource")]
    NoSuchHold(HoldId),
    /// A hold that would end before it begins.
    #[error("the hold would end at {expires_at}, which is not after now")]
    HoldInThePast {
        /// The given end.
        expires_at: DateTime<Utc>,
    },
    /// The resource is gone.
    #[error("the resource is {0}")]
    NotLive(&'static str),
    /// A reset of raw usage where nothing is compared with it.
    #[error("no enabled policy applies to the resource, so nothing is compared with its raw usage")]
    NoPolicy,
    /// It exists already.
    #[error("the resource exists already")]
    Exists,
    /// It does not exist.
    #[error("the resource does not exist")]
    Missing,
}

impl Refusal {
    /// A stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::FutureMonth { .. } => "future_month",
            Self::MonthTooEarly { .. } => "month_too_early",
            Self::MonthAfterEnd { .. } => "month_after_end",
            Self::MeasuredInFuture { .. } => "measured_in_future",
            Self::MeasuredBeforeMonth { .. } => "measured_before_month",
            Self::UnknownComponent { .. } => "unknown_component",
            Self::AmountOutOfRange { .. } => "amount_out_of_range",
            Self::StaleRegistry { .. } => "stale_registry",
            Self::NoSuchHold(_) => "no_such_hold",
            Self::HoldInThePast { .. } => "hold_in_the_past",
            Self::NotLive(_) => "not_live",
            Self::NoPolicy => "no_policy",
            Self::Exists => "exists",
            Self::Missing => "missing",
        }
    }
}

/// A policy version in the form that decisions read, made once per version and shared.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyInForce {
    /// The policy's facts.
    pub facts: PolicyFacts,
    /// Its version.
    pub version: u64,
    /// When the policy was created: older policies come first.
    pub created: DateTime<Utc>,
    /// What an evaluation reads.
    pub evaluation: Arc<EvaluationTerms>,
    /// The period that is counted: the offering's limit period, else the policy's.
    pub period: PeriodKind,
    /// Its component limits of earlier versions, oldest first.
    pub earlier_limits: Vec<EarlierComponentLimits>,
}

/// Component limits that a policy had for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierComponentLimits {
    /// When others took their place.
    pub until: DateTime<Utc>,
    /// By component.
    pub limits: Amounts,
}

impl PolicyInForce {
    /// The policy's id.
    pub fn id(&self) -> PolicyId {
        self.facts.policy
    }

    /// Its component limits just before an instant; the first ones if it is younger.
    pub fn component_limits_before(&self, instant: DateTime<Utc>) -> &Amounts {
        let earlier = self.earlier_limits.iter().find(|earlier| earlier.until >= instant);
        earlier.map_or(&self.facts.terms.component_limits, |earlier| &earlier.limits)
    }

    /// The last month of the period before the one that holds `month`, if carryover looks at the base of that period.
    pub fn looks_back_to(&self, month: Month) -> Option<Month> {
        let wanted = self.evaluation.carries_over && self.evaluation.formula.base() == CarryoverBase::Previous;
        let previous = Period::of_month(self.period, month).previous().filter(|_| wanted)?;
        previous.end().map(Month::of)
    }
}

/// An offering in the form that decisions read, made once per version and shared.
#[derive(Debug, Clone, PartialEq)]
pub struct OfferingInForce {
    /// The offering's facts.
    pub facts: OfferingFacts,
    /// How its components appear in SLURM.
    pub mapping: BTreeMap<String, TresMapping>,
}

impl OfferingInForce {
    /// The decisions' view of an offering.
    pub fn of(facts: OfferingFacts) -> Self {
        let mapping = |c: &Component| TresMapping { tres: c.tres().to_owned(), minutes_per_unit: c.minutes_per_unit };
        let mapping = facts.components.iter().map(|c| (c.component_type.clone(), mapping(c))).collect();
        Self { facts, mapping }
    }
}

/// Settings of the site that decisions read.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteRules {
    /// The site's time zone.
    pub zone: Tz,
    /// Fairshare = effective hours divided by this.
    pub fairshare_divisor: Decimal,
    /// Reset raw usage at take-over under a `total` policy too.
    pub reset_total_at_takeover: bool,
    /// How long, after a queue first took it, an unanswered reset of raw usage passes to what supersedes it.
    pub reset_resend: TimeDelta,
    /// How many months before the one in which a resource was created its usage is taken.
    pub usage_before_creation_months: u32,
}

impl Default for SiteRules {
    fn default() -> Self {
        Self {
            zone: Tz::UTC,
            fairshare_divisor: Decimal::from(3),
            reset_total_at_takeover: false,
            reset_resend: TimeDelta::hours(1),
            usage_before_creation_months: 24,
        }
    }
}

/// What a decision may look at besides the book.
pub struct DecideContext<'a> {
    /// The present instant.
    pub now: DateTime<Utc>,
    /// The offering of the resource.
    pub offering: &'a OfferingInForce,
    /// Enabled policies whose scope holds the resource's customer, oldest first.
    pub policies: &'a [Arc<PolicyInForce>],
    /// Why a policy that is not in that list does not apply any more.
    pub withdrawn: &'a dyn Fn(PolicyId) -> WithdrawReason,
    /// Site settings.
    pub rules: &'a SiteRules,
    /// Where ids come from.
    pub ids: IdSource,
    /// What led to the command.
    pub origin: Cause,
}

impl DecideContext<'_> {
    /// The running month at the site.
    pub fn month(&self) -> Month {
        Month::of(site_date(self.now, self.rules.zone))
    }
}
