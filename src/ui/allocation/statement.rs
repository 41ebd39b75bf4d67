//! The statement of an allocation: one page of A4 that says what was used in a period, what was allowed, and why.

use askama::Template;
use axum::extract::Path;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Deserialize;

use super::picture::{self, Picture};
use super::why::{self, Why};
use super::{Figure, chosen, encoded, figures, resource};
use crate::domain::period::Period;
use crate::ui::frame::{Frame, Section};
use crate::ui::problem::Problem;
use crate::ui::read::AllocationState;
use crate::ui::standing::{self, Tone};
use crate::ui::visit::{Shown, Visit, page};
use crate::ui::words::{self, Moment};

#[derive(Deserialize)]
struct ResourceRead {
    provider_name: String,
}

#[derive(Deserialize)]
struct EvaluationRead {
    evaluated_at: DateTime<Utc>,
    explanation: String,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    usage_percentage: Decimal,
}

/// What was decided last in a period that is over.
struct Last {
    at: Moment,
    sentence: String,
}

/// The statement.
#[derive(Template)]
#[template(path = "statement.html")]
struct StatementPage {
    frame: Frame,
    provider: String,
    period: String,
    as_of: String,
    name: String,
    /// How it stands; of a period that is over, nothing.
    state: Option<Tone>,
    project: String,
    customer: String,
    account: String,
    offering: String,
    policy: Option<String>,
    figures: Vec<Figure>,
    picture: Option<Picture>,
    why: Option<Why>,
    last: Option<Last>,
    /// Where the statement of the period before is.
    before: Option<(String, String)>,
    back: String,
}

/// The last evaluation of a period, which says how it ended.
async fn last(visit: &Visit, of: &AllocationState, period: &str) -> Result<Option<EvaluationRead>, Problem> {
    let Some(policy) = &of.policy_uuid else { return Ok(None) };
    let path = format!(
        "/api/marketplace-slurm-periodic-usage-policies/{policy}/evaluation-logs/?resource_uuid={}&billing_period={}&page_size=1",
        of.resource_uuid,
        encoded(period)
    );
    Ok(visit.api.list_if_allowed(&path).await?.rows.into_iter().next())
}

/// Figures of a period that is over.
fn past_figures(picture: Option<&Picture>, last: Option<&EvaluationRead>) -> Vec<Figure> {
    let newest = picture.and_then(|picture| picture.chart.twin.first());
    let figure = |label: &str, value: String, below: String| Figure {
        label: label.to_owned(),
        value,
        beside: String::new(),
        below,
        stale: false,
    };
    let mut all = Vec::new();
    if let Some(newest) = newest {
        all.push(figure("Used", newest.used.clone(), format!("of {} that could be used", newest.may_use)));
    }
    if let Some(last) = last {
        let at = Moment::of(last.evaluated_at).short;
        all.push(figure("Usage", words::percent(last.usage_percentage), format!("evaluated {at} UTC")));
    }
    all
}

/// The period that is asked for, if it is another one than the one that is counted now.
fn past(visit: &Visit, now: Option<&Period>) -> Result<Option<Period>, Problem> {
    let Some(text) = visit.query.get("period") else { return Ok(None) };
    let asked = text.parse::<Period>().map_err(|_| {
        let sentence =
            format!("period: {text:?} is not valid. Allowed: a period such as 2026-03, 2026-Q1, 2026 or total.");
        Problem::new(axum::http::StatusCode::BAD_REQUEST, sentence)
    })?;
    Ok(Some(asked).filter(|asked| Some(asked) != now))
}

/// The statement of an allocation for a period, the present one unless another is asked for.
pub async fn show(visit: Visit, Path(key): Path<String>) -> Shown {
    let known = resource(&visit, &key).await?;
    let path = format!("/api/allocation-states/?resource_uuid={}&page_size=20", known.uuid);
    let found = visit.api.list::<AllocationState>(&path).await?;
    let (of, _) = chosen(found.rows, visit.query.get("policy")).ok_or_else(Problem::not_found)?;
    let now = of.billing_period.as_deref().and_then(|text| text.parse::<Period>().ok());
    let past = past(&visit, now.as_ref())?;
    let read: ResourceRead = visit.api.get(&format!("/api/marketplace-provider-resources/{}/", known.uuid)).await?;
    let picture = picture::in_period(&visit, &of, past.as_ref()).await?;
    let (figures, why, last) = match &past {
        None => (figures(&of, visit.now), why::of(&visit, &of).await?, None),
        Some(period) => {
            let last = last(&visit, &of, &period.to_string()).await?;
            let shown = past_figures(picture.as_ref(), last.as_ref());
            (
                shown,
                None,
                last.map(|last| Last {
                    at: Moment::of(last.evaluated_at),
                    sentence: last.explanation.replace("->", "\u{2192}"),
                }),
            )
        }
    };
    let period = past.as_ref().or(now.as_ref());
    let back = format!("/allocations/{}", encoded(of.key()));
    let before = period.copied().and_then(Period::previous).map(|before| {
        let text = before.to_string();
        (format!("{back}/statement?period={}", encoded(&text)), text)
    });
    let frame = Frame::of(&visit, "Statement", Section::Allocations).await;
    page(&StatementPage {
        frame: frame.under("/allocations", "Allocations").under(&back, &of.resource_name),
        provider: read.provider_name,
        period: period.map(ToString::to_string).unwrap_or_default(),
        as_of: Moment::of(visit.now).full,
        name: of.resource_name.clone(),
        state: past.is_none().then(|| standing::state(&of.state)),
        policy: of.policy_slug.clone().zip(of.policy_version).map(|(slug, version)| format!("{slug} v{version}")),
        project: of.project_name,
        customer: of.customer_name,
        account: of.backend_id,
        offering: of.offering_name,
        figures,
        picture,
        why,
        last,
        before,
        back,
    })
}
