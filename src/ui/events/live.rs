//! That something new stands in the log, as server-sent events: the page counts them, and moves nothing that is read.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use futures::StreamExt;
use secrecy::{ExposeSecret, SecretString};

use crate::ui::Ui;
use crate::ui::problem::Problem;
use crate::ui::sheet;
use crate::ui::visit::{self, Shown, Visit};

/// A live tail of a page: it ends with the session.
struct Tail {
    ui: Ui,
    key: SecretString,
    events: axum::body::BodyDataStream,
}

/// Whether the session still lasts. A directory that does not answer turns nobody out.
async fn goes_on(ui: &Ui, key: &SecretString) -> bool {
    let found = ui.app.directory.session(key.expose_secret(), ui.app.clock.now()).await;
    found.map_or(true, |session| session.is_some())
}

impl Tail {
    /// What is sent next: of each event that it came, and where it stands.
    async fn next(mut self) -> Option<(Result<String, std::io::Error>, Self)> {
        let within = self.ui.app.options.limits.token_check;
        loop {
            let next = tokio::time::timeout(within, self.events.next()).await;
            if !goes_on(&self.ui, &self.key).await {
                return None;
            }
            let Ok(next) = next else { continue };
            let bytes = next?.ok()?;
            let text = String::from_utf8_lossy(&bytes);
            let mut told = String::new();
            for id in text.lines().filter(|line| line.starts_with("id:")) {
                told.push_str(id);
                told.push_str("\ndata: new\n\n");
            }
            // A comment keeps the connection open.
            let told = if told.is_empty() { ":\n\n".to_owned() } else { told };
            return Some((Ok(told), self));
        }
    }
}

/// Tells of each new event that is asked for, that it came.
pub async fn show(State(ui): State<Ui>, headers: HeaderMap, visit: Visit) -> Shown {
    if !visit.reads_log() {
        return Err(Problem::not_found());
    }
    let asked = sheet::asked(
        &visit,
        &[("type", "type"), ("allocation", "resource_uuid"), ("actor", "actor"), ("correlation", "correlation_id")],
    );
    let key = visit::key_of(&headers).ok_or_else(Problem::not_found)?;
    let events = visit.api.stream(&format!("/api/events/stream/?{asked}")).await?.into_data_stream();
    let tail = Tail { ui, key: key.into(), events };
    let body = Body::from_stream(futures::stream::unfold(tail, Tail::next));
    let mut response = (StatusCode::OK, body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(response)
}
