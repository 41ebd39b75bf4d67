//! A book's page about one policy: the terms of its last decision, its notices and its holds.

use std::sync::Arc;

use crate::domain::evaluate::{Flags, MonthUsage, NoticeTerms};
use crate::domain::period::Period;
use crate::domain::tres::Amounts;
use crate::events::allocation::RecordedBasis;

/// What a policy has decided on the resource so far.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyPage {
    /// Highest version seen; a lower one is refused.
    pub version: u64,
    /// Period last evaluated.
    pub period: Period,
    /// Basis last recorded, with the stream version of the event that has it in full.
    pub basis: Option<(Arc<RecordedBasis>, u64)>,
    /// Stream version of the event that has the running month's usage in full, with that usage.
    pub usage: Option<(MonthUsage, u64)>,
    /// Base allocation last seen.
    pub base: Amounts,
    /// Notices given in the period.
    pub notices: NoticeTerms,
    /// Its holds.
    pub held: Flags,
    /// QoS name of the rung it stands on.
    pub qos: Option<String>,
    /// It applies no more. What it noticed stays known, so that its return within the period does not repeat a notice.
    pub withdrawn: bool,
}

impl PolicyPage {
    pub(super) fn new(period: Period) -> Self {
        Self {
            version: 0,
            period,
            basis: None,
            usage: None,
            base: Amounts::new(),
            notices: NoticeTerms::default(),
            held: Flags::default(),
            qos: None,
            withdrawn: false,
        }
    }
}
