//! Settings of notices: secrets from the environment, and what keeps the server from starting.

use sluice::app::{App, AppOptions};
use sluice::config::{Config, Sources};
use sluice::notify::MailTransportOptions;
use tempfile::{NamedTempFile, TempDir};

const FILE: &str = r#"
public_url = "https://sluice.site.example/"
[mail]
transport = "smtp"
username = "sluice"
password_env = "SLUICE_MAIL_PASSWORD"
[webhooks]
endpoints = [{ name = "portal", url = "https://portal.site.example/?key=hunter3", secret_env = "PORTAL_SECRET" }]
"#;

fn config(variables: &[(&str, &str)]) -> Config {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), FILE).unwrap();
    let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::load(&Sources { file: Some(file.path().to_owned()), environment, flags: Vec::new() }).unwrap()
}

fn options(variables: &[(&str, &str)], folder: &TempDir, serving: bool) -> AppOptions {
    let options = config(variables);
    let options = Config { data_dir: Some(folder.path().to_owned()), ..options };
    AppOptions { serving, ..options.app_options().unwrap() }
}

#[tokio::test]
async fn secrets_come_from_the_environment_and_are_never_shown() {
    let set = [("SLUICE_MAIL_PASSWORD", "hunter2 hunter2"), ("PORTAL_SECRET", "hunter2 hunter2 hunter2")];
    let folder = TempDir::new().unwrap();
    let options = options(&set, &folder, true);
    let MailTransportOptions::Smtp(smtp) = &options.notify.mail.transport else { panic!("{options:?}") };
    assert_eq!(smtp.credentials.as_ref().unwrap().0, "sluice");
    let shown = format!("{:?} {options:?} {}", config(&set), serde_json::to_string(&config(&set)).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(!format!("{:?} {options:?}", config(&set)).contains("hunter3"), "an address may hold a key");
    let link = "https://sluice.site.example/api/marketplace-provider-resources/{uuid}/";
    assert_eq!(options.notify.mail.link.as_deref(), Some(link));
    App::open(options).await.unwrap();
}

#[tokio::test]
async fn the_server_does_not_start_without_a_secret_and_a_command_does() {
    let folder = TempDir::new().unwrap();
    let set = [("PORTAL_SECRET", "hunter2 hunter2 hunter2")];
    let Err(error) = App::open(options(&set, &folder, true)).await else { panic!("it started") };
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(why.contains("SLUICE_MAIL_PASSWORD is not set"), "{why}");
    App::open(options(&set, &folder, false)).await.unwrap();
}

#[tokio::test]
async fn a_template_that_fails_keeps_it_from_starting_and_says_where() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("restored.html"), "<p>\n{{ notice.ressource.name }}</p>").unwrap();
    let mut options = crate::support::database::options(folder.path());
    options.notify.mail.templates_dir = Some(folder.path().to_owned());
    let Err(error) = App::open(options).await else { panic!("it started") };
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(why.contains("restored.html, line 2: undefined value"), "{why}");
}

#[test]
fn half_a_login_is_refused() {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[mail]\nusername = \"sluice\"\n").unwrap();
    let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
    assert!(Config::load(&sources).unwrap_err().to_string().contains("mail.password_env"));
}
