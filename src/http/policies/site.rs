//! The site's view of an account compared with the intended one; a sentence describes each difference.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::TAG;
use super::logs::AgentResponse;
use crate::domain::evaluate::Flags;
use crate::domain::ids::PolicyId;
use crate::domain::qos::QosNames;
use crate::http::context::{Context, Id};
use crate::http::error::{ApiResult, ErrorDetail};
use crate::http::number::{Num, amounts};
use crate::http::paging::{Page, PageParams, listed};
use crate::projections::account::{Account, Told};
use crate::projections::command_history::{UnmatchedFilter, UnmatchedRow, unmatched};
use crate::projections::site_answers::SiteAnswer;
use crate::projections::status_summary::AgentStatus;

/// The site's view of an account compared with the intended one.
#[derive(Debug, Serialize, ToSchema)]
pub struct SiteStatus {
    /// The class of service that the restrictions call for, by the site's name.
    qos_expected: String,
    /// `confirmed`, `differs` or `unknown`; while the message is on its way `queued` or `sent`, and `no_answer` after
    /// all automatic resends.
    qos_status: &'static str,
    /// The class of service that the account has; null until the site says so.
    qos_confirmed: Option<String>,
    qos_confirmed_at: Option<DateTime<Utc>>,
    /// Limits that were read back from SLURM, in units of components; null until that happens.
    limits_read_back: Option<BTreeMap<String, Num>>,
    limits_read_back_at: Option<DateTime<Utc>>,
    /// When the agent last came to the end of looking after the account, to ten minutes.
    last_sync_at: Option<DateTime<Utc>>,
    /// Where the account is not as it should be, in sentences; empty where all agrees or nothing is known.
    differences: Vec<String>,
}

impl SiteStatus {
    /// By the restrictions in force and how the newest commands stand.
    pub fn of(
        (flags, agent): (Flags, AgentStatus),
        answer: Option<&SiteAnswer>,
        told: Option<Told>,
        names: &QosNames,
    ) -> Self {
        let account = Account::of(flags, agent, answer, told, names);
        let answer = answer.cloned().unwrap_or_default();
        Self {
            qos_expected: account.qos_expected,
            qos_status: account.qos_status,
            qos_confirmed: answer.qos.as_ref().map(|(qos, _)| qos.clone()),
            qos_confirmed_at: answer.qos.map(|(_, at)| at),
            limits_read_back: answer.limits.as_ref().map(|(limits, ..)| amounts(limits)),
            limits_read_back_at: answer.limits.map(|(.., at)| at),
            last_sync_at: answer.synced_at,
            differences: account.differences,
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
