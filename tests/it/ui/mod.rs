//! The web interface as a black box: who gets in and for how long, who sees which page, and what a page may hold.

mod files;
mod pages;
mod policies;
mod sessions;
mod work;

use reqwest::{Method, StatusCode};

use crate::support::server::{Answer, TestServer, Who};

/// A browser: it keeps a cookie, follows nothing, and asks for pages.
pub struct Browser<'a> {
    server: &'a TestServer,
    cookie: Option<String>,
}

/// What browsers accept.
const ACCEPT: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

impl<'a> Browser<'a> {
    /// A browser of somebody who is not signed in.
    pub fn new(server: &'a TestServer) -> Self {
        Self { server, cookie: None }
    }

    /// A browser of somebody who is signed in.
    pub async fn of(server: &'a TestServer, who: Who) -> Self {
        let mut browser = Self::new(server);
        let answer = browser.sign_in(who.key().unwrap()).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
        browser
    }

    /// The address of the server, as a page's origin.
    pub fn origin(&self) -> String {
        format!("http://{}", self.server.address)
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        form: Option<&[(&str, &str)]>,
    ) -> Answer {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let mut request = client.request(method, format!("{}{path}", self.origin())).header(ACCEPT.0, ACCEPT.1);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        if let Some(form) = form {
            let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
            request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        if let Some(set) = headers.get("set-cookie").map(|set| set.to_str().unwrap().to_owned())
            && set.contains("session=")
        {
            let pair = set.split(';').next().unwrap();
            self.cookie = (!pair.ends_with('=')).then(|| pair.to_owned());
        }
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    /// Opens a page.
    pub async fn open(&mut self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], None).await
    }

    /// Sends a form as the page of an origin would.
    pub async fn send(&mut self, path: &str, origin: &str, form: &[(&str, &str)]) -> Answer {
        self.ask(Method::POST, path, &[("origin", origin)], Some(form)).await
    }

    /// Sends a form as a page of this service does, with the token that the page has.
    pub async fn submit(&mut self, path: &str, form: &[(&str, &str)]) -> Answer {
        let page = self.open("/sessions").await;
        let csrf = value_of(&page.text, "csrf");
        let mut form = form.to_vec();
        form.push(("csrf", &csrf));
        let origin = self.origin();
        self.send(path, &origin, &form).await
    }

    /// Signs in with a key.
    pub async fn sign_in(&mut self, key: &str) -> Answer {
        let origin = self.origin();
        self.send("/login", &origin, &[("token", key)]).await
    }
}

/// The value of a hidden field.
pub fn value_of(page: &str, field: &str) -> String {
    let rest =
        page.split(&format!("name=\"{field}\" value=\"")).nth(1).unwrap_or_else(|| panic!("no {field} in {page}"));
    rest.split('"').next().unwrap().to_owned()
}
