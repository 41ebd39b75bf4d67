//! Notices as signed POST requests with a JSON body, free of personal data.
//!
//! The signature is HMAC-SHA256 over `<timestamp>.<body>` with the endpoint's secret; the timestamp prevents the replay
//! of an old call.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use hmac::{Hmac, Mac};
use reqwest::{StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::Number;
use sha2::Sha256;

use super::{Failed, TransportError, reason};
use crate::domain::ids::{CustomerId, EventId, NoticeId, OfferingId, PolicyId, UserId};
use crate::domain::period::Period;
use crate::egress::Caller;
use crate::events::notice::NoticeTemplate;
use crate::notify::content::{NamedView, NoticeView, ResourceView};
use crate::notify::{Endpoint, NotifyOptions};

/// Seconds since 1970 at which the call was made.
pub const TIMESTAMP_HEADER: &str = "sluice-timestamp";

/// `v1=` and the signature in hex.
pub const SIGNATURE_HEADER: &str = "sluice-signature";

/// The id of the notice; a repeated call has the same.
const NOTICE_HEADER: &str = "sluice-notice";

/// The shortest secret that is accepted.
const SECRET_BYTES_MIN: usize = 16;

/// What a call says: the notice with its numbers as numbers.
#[derive(Debug, Serialize)]
struct Call<'a> {
    notice: NoticeId,
    version: u32,
    #[serde(rename = "type")]
    kind: NoticeTemplate,
    event: EventId,
    occurred_at: DateTime<Utc>,
    resource: &'a ResourceView,
    offering: &'a NamedView<OfferingId>,
    customer: &'a NamedView<CustomerId>,
    policy: Option<&'a NamedView<PolicyId>>,
    manual: bool,
    thresholds: Vec<Number>,
    period: Option<Period>,
    percentage: Option<Number>,
    used: Option<Number>,
    allocated: Option<Number>,
    explanation: Option<&'a str>,
    next: Vec<Step<'a>>,
    error: Option<&'a str>,
    link: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Step<'a> {
    percent: Option<Number>,
    amount: Option<Number>,
    effect: &'a str,
    date: Option<NaiveDate>,
}

/// The body of a call.
pub fn body(notice: NoticeId, view: &NoticeView) -> Result<Vec<u8>, serde_json::Error> {
    // The texts are decimals that were just printed.
    let number = |text: &String| text.parse::<Number>().ok();
    serde_json::to_vec(&Call {
        notice,
        version: 1,
        kind: view.kind,
        event: view.event,
        occurred_at: view.occurred_at,
        resource: &view.resource,
        offering: &view.offering,
        customer: &view.customer,
        policy: view.policy.as_ref(),
        manual: view.manual,
        thresholds: view.thresholds.iter().filter_map(number).collect(),
        period: view.period,
        percentage: view.percentage.as_ref().and_then(number),
        used: view.used.as_ref().and_then(number),
        allocated: view.allocated.as_ref().and_then(number),
        explanation: view.explanation.as_deref(),
        next: view
            .next
            .iter()
            .map(|s| Step { percent: number(&s.percent), amount: number(&s.amount), effect: s.code, date: s.date })
            .collect(),
        error: view.error.as_deref(),
        link: view.link.as_deref(),
    })
}

/// The endpoints of the site.
pub struct Webhooks {
    caller: Caller,
    endpoints: BTreeMap<UserId, (Url, Option<SecretString>)>,
}

/// The signature of a call, in hex: HMAC-SHA256 with the secret over the timestamp, a dot and the body.
///
/// # Panics
/// Never: HMAC takes a key of any length.
pub fn sign(secret: &str, timestamp: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(format!("{timestamp}.").as_bytes());
    mac.update(body);
    let bytes = mac.finalize().into_bytes();
    bytes.iter().fold(String::with_capacity(64), |mut hex, byte| {
        use std::fmt::Write as _;
        // Writing to a String does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

impl Webhooks {
    /// A client for the endpoints of the options.
    pub fn new(options: &NotifyOptions) -> Result<Self, TransportError> {
        let caller = Caller::new(options.egress.clone(), options.webhook_timeout)
            .map_err(|error| TransportError::Client { what: "webhooks", source: error.into() })?;
        let mut endpoints = BTreeMap::new();
        for endpoint in &options.endpoints {
            endpoints.insert(endpoint.id(), (address(endpoint)?, endpoint.secret.clone()));
        }
        if endpoints.len() < options.endpoints.len() {
            let problem = "two endpoints have the same name".to_owned();
            let name = options.endpoints.iter().map(|e| e.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(TransportError::Endpoint { name, problem });
        }
        Ok(Self { caller, endpoints })
    }

    /// Calls an endpoint. `real_now` is the machine's clock.
    pub async fn call(
        &self,
        endpoint: UserId,
        notice: NoticeId,
        body: Vec<u8>,
        real_now: DateTime<Utc>,
    ) -> Result<(), Failed> {
        let Some((url, secret)) = self.endpoints.get(&endpoint) else {
            return Err(Failed::Never("the endpoint is no longer configured".to_owned()));
        };
        let Some(secret) = secret else {
            return Err(Failed::Later("this process does not know the endpoint's secret".to_owned()));
        };
        let timestamp = real_now.timestamp();
        let signature = sign(secret.expose_secret(), timestamp, &body);
        // What is denied now may be allowed, or be another address, before the notice is given up.
        let request = self.caller.post(url.clone()).map_err(|denied| Failed::Later(denied.to_string()))?;
        let sent = request
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .header(TIMESTAMP_HEADER, timestamp)
            .header(SIGNATURE_HEADER, format!("v1={signature}"))
            .header(NOTICE_HEADER, notice.to_string())
            .body(body)
            .send()
            .await;
        match sent {
            Ok(answer) => judged(answer.status()),
            // The address may hold a key; it stays out of the log.
            Err(error) => Err(Failed::Later(reason(&error.without_url()))),
        }
    }
}

fn judged(status: StatusCode) -> Result<(), Failed> {
    let said = format!("the endpoint answered {status}");
    match status {
        _ if status.is_success() => Ok(()),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => Err(Failed::Later(said)),
        _ if status.is_server_error() => Err(Failed::Later(said)),
        _ => Err(Failed::Never(said)),
    }
}

fn address(endpoint: &Endpoint) -> Result<Url, TransportError> {
    let refused = |problem: String| TransportError::Endpoint { name: endpoint.name.clone(), problem };
    let url = Url::parse(&endpoint.url).map_err(|error| refused(format!("its url is not valid: {error}")))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(refused("its url begins with neither https:// nor http://".to_owned()));
    }
    if endpoint.secret.as_ref().is_some_and(|secret| secret.expose_secret().len() < SECRET_BYTES_MIN) {
        return Err(refused("its secret is shorter than 16 characters".to_owned()));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_that_openssl_makes() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 'a secret of sixteen'
        assert_eq!(
            sign("a secret of sixteen", 1_700_000_000, br#"{"a":1}"#),
            "fbd8ce753f0c0643c2d4fef4959c30b175367059e6f5453bddeb7b24a3d1ae24"
        );
    }

    #[test]
    fn an_answer_is_judged_by_its_status() {
        for (status, verdict) in
            [(200, "sent"), (204, "sent"), (302, "never"), (401, "never"), (429, "later"), (503, "later")]
        {
            let judged = match judged(StatusCode::from_u16(status).unwrap()) {
                Ok(()) => "sent",
                Err(Failed::Later(_)) => "later",
                Err(Failed::Never(_)) => "never",
                Err(Failed::Unreachable(_)) => "unreachable",
            };
            assert_eq!(judged, verdict, "{status}");
        }
    }
}
