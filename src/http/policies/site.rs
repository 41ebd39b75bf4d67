//! An account as the site says it is, beside what it should be: where both differ, a sentence says so.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::TAG;
use super::logs::AgentResponse;
use crate::domain::ids::PolicyId;
use crate::domain::qos::{QosClass, QosNames};
use crate::http::context::{Context, Id};
use crate::http::error::{ApiResult, ErrorDetail};
use crate::http::number::{Num, amounts};
use crate::http::paging::{Page, PageParams, listed};
use crate::projections::command_history::{UnmatchedFilter, UnmatchedRow, unmatched};
use crate::projections::site_answers::SiteAnswer;
use crate::projections::status_summary::{AgentStatus, StatusRow};

/// An account as the site says it is, beside what it should be.
#[derive(Debug, Serialize, ToSchema)]
pub struct SiteStatus {
    /// The class of service that the restrictions call for, by the site's name.
    qos_expected: String,
    /// The class of service that the account has; null until the site says so.
    qos_confirmed: Option<String>,
    qos_confirmed_at: Option<DateTime<Utc>>,
    /// Limits that were read back from SLURM, in units of components; null until that happens.
    limits_read_back: Option<BTreeMap<String, Num>>,
    limits_read_back_at: Option<DateTime<Utc>>,
    /// Where the account is not as it should be, in sentences; empty where all agrees or nothing is known.
    differences: Vec<String>,
}

impl SiteStatus {
    pub(super) fn of(row: &StatusRow, answer: Option<&SiteAnswer>, names: &QosNames) -> Self {
        let expected = names.of(QosClass::of(row.flags.paused, row.flags.downscaled)).to_owned();
        let answer = answer.cloned().unwrap_or_default();
        let mut differences = answer.differences;
        match &answer.qos {
            Some((qos, _)) if *qos != expected => {
                differences.push(format!("The account has the QoS {qos:?}; {expected:?} is meant."));
            }
            None if row.agent == AgentStatus::Confirmed => differences.push(
                "The settings are confirmed, the class of service never was: does SLURM know the account, and does the agent \
                 synchronise memberships (membership_sync_backend)?"
                    .to_owned(),
            ),
            _ => {}
        }
        if let Some((limits, false, _)) = &answer.limits {
            let limits: Vec<String> = limits.iter().map(|(c, n)| format!("{c}={}", n.normalize())).collect();
            differences.push(format!("The limits read back are not those that were sent: {}.", limits.join(", ")));
        }
        Self {
            qos_expected: expected,
            qos_confirmed: answer.qos.as_ref().map(|(qos, _)| qos.clone()),
            qos_confirmed_at: answer.qos.map(|(_, at)| at),
            limits_read_back: answer.limits.as_ref().map(|(limits, ..)| amounts(limits)),
            limits_read_back_at: answer.limits.map(|(.., at)| at),
            differences,
        }
    }
}

/// A report that answers nothing that was sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnmatchedResult {
    uuid: String,
    policy_uuid: String,
    resource_uuid: String,
    reported_at: DateTime<Utc>,
    #[serde(flatten)]
    response: AgentResponse,
}

impl From<UnmatchedRow> for UnmatchedResult {
    fn from(row: UnmatchedRow) -> Self {
        Self {
            uuid: row.uuid.to_string(),
            policy_uuid: row.policy.to_string(),
            resource_uuid: row.resource.to_string(),
            reported_at: row.at,
            response: row.report.into(),
        }
    }
}

/// Reports that answer nothing that was sent, newest first: a second report on the same commands, or one on commands of old.
#[utoipa::path(get, path = "/api/marketplace-slurm-periodic-usage-policies/{uuid}/unmatched-results/", tag = TAG,
    params(("uuid" = String, Path), PageParams, ("resource_uuid" = Option<String>, Query, description = "On this resource")),
    responses((status = 200, body = [UnmatchedResult]), (status = 404, body = ErrorDetail)))]
pub async fn unmatched_results(ctx: Context, Id(policy): Id<PolicyId>) -> ApiResult {
    super::visible(&ctx, policy)?;
    let filter = UnmatchedFilter { policy: Some(policy), resource: ctx.query.uuid("resource_uuid")? };
    let page = Page::of(&ctx.query)?;
    let (rows, total) = unmatched(&ctx.app.read, &filter, page.of_rows()?).await?;
    let page = page.within(total.unsigned_abs())?;
    listed(&ctx, page, total.unsigned_abs(), &rows.into_iter().map(UnmatchedResult::from).collect::<Vec<_>>())
}
