//! Webhooks: what is posted, how it is signed, and what an endpoint's answer leads to.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use sluice::notify::{Endpoint, MailTransportOptions, NotifyOptions, SIGNATURE_HEADER, TIMESTAMP_HEADER};

use super::support::{Site, impatient};
use crate::support::world::terms;

const SECRET: &str = "a secret of sixteen";

type Calls = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

#[derive(Clone)]
struct Receiver {
    calls: Calls,
    answers: Arc<Mutex<Vec<u16>>>,
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    receiver.calls.lock().unwrap().push((headers, body));
    let next = receiver.answers.lock().unwrap().pop().unwrap_or(204);
    StatusCode::from_u16(next).unwrap()
}

/// An endpoint that gives these answers, last first, and then 204.
async fn endpoint(answers: &[u16]) -> (Receiver, NotifyOptions) {
    let receiver = Receiver { calls: Arc::default(), answers: Arc::new(Mutex::new(answers.to_vec())) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/sluice", listener.local_addr().unwrap());
    let router = Router::new().route("/sluice", post(receive)).with_state(receiver.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut options = impatient();
    options.mail.transport = MailTransportOptions::None;
    options.endpoints = vec![Endpoint { name: "portal".into(), url, secret: Some(SECRET.to_owned().into()) }];
    (receiver, options)
}

#[tokio::test]
async fn a_call_is_signed_and_says_what_happened_without_personal_data() {
    let (receiver, options) = endpoint(&[]).await;
    let site = Site::new(terms("notify_organization_owners"), options).await;
    site.report("climate", "810.5").await;
    let calls = receiver.calls.lock().unwrap().clone();
    assert_eq!(calls.len(), 1, "no digest: each call at once");
    let (headers, body) = &calls[0];
    let timestamp = headers[TIMESTAMP_HEADER].to_str().unwrap();
    let age = sluice::clock::real_now().timestamp() - timestamp.parse::<i64>().unwrap();
    assert!((0..60).contains(&age), "{age}");
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(&[timestamp.as_bytes(), b".", body].concat());
    let signature = headers[SIGNATURE_HEADER].to_str().unwrap().strip_prefix("v1=").unwrap();
    let bytes: Vec<u8> =
        (0..signature.len()).step_by(2).map(|at| u8::from_str_radix(&signature[at..at + 2], 16).unwrap()).collect();
    mac.verify_slice(&bytes).expect("the signature is that of the body and the time");

    let said: serde_json::Value = serde_json::from_slice(body).unwrap();
    assert_eq!(said["type"], "threshold_reached");
    assert_eq!((said["percentage"].as_f64(), said["used"].as_f64()), (Some(81.0), Some(810.5)));
    assert_eq!(said["resource"]["slug"], "climate");
    assert_eq!(said["thresholds"], serde_json::json!([80]));
    assert!(!String::from_utf8_lossy(body).contains("alice"));
    let sent = site.outcomes().await.remove(0).unwrap();
    assert_eq!(said["notice"], sent.notice.notice.to_string());
    assert_eq!(sent.notice.recipients, [Endpoint::id_of("portal")]);
}

#[tokio::test]
async fn an_endpoint_in_trouble_is_called_again_and_one_that_refuses_is_not() {
    let (receiver, options) = endpoint(&[503]).await;
    let site = Site::new(terms("notify_organization_owners"), options).await;
    site.report("climate", "810").await;
    site.app.settle().await.unwrap();
    assert_eq!(receiver.calls.lock().unwrap().len(), 2);
    assert_eq!(site.outcomes().await.remove(0).unwrap().notice.attempt, 2);

    let (receiver, options) = endpoint(&[400]).await;
    let site = Site::new(terms("notify_organization_owners"), options).await;
    site.report("climate", "810").await;
    site.app.settle().await.unwrap();
    assert_eq!(receiver.calls.lock().unwrap().len(), 1);
    assert!(site.outcomes().await.remove(0).unwrap_err().error.contains("400"));
}
