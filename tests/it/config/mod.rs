//! The configuration: its sources, their order, and what is refused.

use std::path::{Path, PathBuf};

use sluice::config::{Config, ConfigError, Database, Sources};
use tempfile::NamedTempFile;

fn environment(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("written");
    file
}

fn with_file(text: &str) -> (NamedTempFile, Sources) {
    let file = file(text);
    let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
    (file, sources)
}

fn refused(sources: &Sources) -> String {
    Config::load(sources).expect_err("refused").to_string()
}

#[test]
fn the_sample_names_every_setting_with_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config/sluice.toml");
    let sample = Config::load(&Sources { file: Some(path.clone()), ..Sources::default() }).expect("the sample loads");
    assert_eq!(sample, Config::default());

    // What has no default is there as a comment; take the marks away and every key is set.
    let text = std::fs::read_to_string(path).expect("read");
    let all: String = text
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| is_setting(rest)).unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    let all: config::Value = config::Config::builder()
        .add_source(config::File::from_str(&all, config::FileFormat::Toml))
        .build()
        .expect("valid")
        .cache;
    let known = serde_json::to_value(Config::default()).expect("serialisable");
    for (key, value) in known.as_object().expect("an object") {
        let sections = all.clone().into_table().expect("a table");
        let found = sections.get(key).unwrap_or_else(|| panic!("{key} is not in the sample"));
        for inner in value.as_object().into_iter().flat_map(serde_json::Map::keys) {
            let section = found.clone().into_table().expect("a section");
            assert!(section.contains_key(inner), "{key}.{inner} is not in the sample");
        }
    }
}

/// `key = value`, and no sentence.
fn is_setting(line: &str) -> bool {
    line.split_once(" = ").is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
}

#[test]
fn flags_go_over_the_environment_and_that_over_the_file() {
    let (_file, mut sources) = with_file("retention_days = 10\nno_answer_minutes = 20\ndispatch_window = 30\n");
    sources.environment = environment(&[("SLUICE_RETENTION_DAYS", "11"), ("SLUICE_NO_ANSWER_MINUTES", "21")]);
    sources.flags = vec![("retention_days", "12".to_owned())];
    let config = Config::load(&sources).expect("valid");
    assert_eq!((config.retention_days, config.no_answer_minutes, config.dispatch_window), (12, 21, 30));
}

#[test]
fn the_environment_names_the_file_and_keys_in_sections() {
    let file = file("[log]\nformat = \"json\"\n");
    let path = file.path().to_str().expect("plain").to_owned();
    let variables = [
        ("SLUICE_CONFIG", path.as_str()),
        ("SLUICE_LOG__LEVEL", "debug"),
        ("SLUICE_SIMULATED_CLOCK", "2026-03-01T00:00:00Z"),
        ("SLUICE_STAFF_TOKEN", "a variable of the site's own"),
    ];
    let config = Config::load(&Sources { environment: environment(&variables), ..Sources::default() }).expect("valid");
    assert_eq!((config.log.format, config.log.level.as_str()), (sluice::config::LogFormat::Json, "debug"));
    assert_eq!(config.simulated_clock, Some("2026-03-01T00:00:00Z".parse().expect("an instant")));
}

#[test]
fn the_database_is_where_it_is_said_to_be_else_in_the_data_directory() {
    let load = |variables: &[(&str, &str)]| {
        let sources = Sources { environment: environment(variables), ..Sources::default() };
        Config::load(&sources).expect("valid").database()
    };
    let home = ("HOME", "/home/ops");
    for (variables, path) in [
        (vec![home], "/home/ops/.local/share/sluice/sluice.db"),
        (vec![home, ("XDG_DATA_HOME", "/data")], "/data/sluice/sluice.db"),
        (vec![home, ("SLUICE_DATA_DIR", "/srv/sluice")], "/srv/sluice/sluice.db"),
        (vec![home, ("SLUICE_DATA_DIR", "/srv"), ("SLUICE_DATABASE", "sqlite:///x/y.db")], "/x/y.db"),
        (vec![("SLUICE_DATABASE", "sqlite:here.db")], "here.db"),
    ] {
        let database = load(&variables).expect("a place");
        assert_eq!(database, Database::Sqlite(PathBuf::from(path)), "{variables:?}");
    }
    assert!(matches!(load(&[]), Err(ConfigError::NoDataDir)));
}

#[test]
fn unknown_keys_are_refused_by_name() {
    for (text, says) in [
        ("colour = \"red\"\n", "there is no setting \"colour\""),
        ("[log]\ncolour = \"red\"\n", "there is no setting \"log.colour\"; known here: format, level"),
        ("[logging]\nlevel = \"info\"\n", "there is no setting \"logging\""),
    ] {
        let (_file, sources) = with_file(text);
        let message = refused(&sources);
        assert!(message.contains(says), "{message}");
    }
    for (name, says) in [
        ("SLUICE_LOG__COLOUR", "SLUICE_LOG__COLOUR: there is no setting \"log.colour\"; known here: format, level"),
        ("SLUICE_DATBASE", "did you mean SLUICE_DATABASE?"),
    ] {
        let message = refused(&Sources { environment: environment(&[(name, "x")]), ..Sources::default() });
        assert!(message.contains(says), "{message}");
    }
}

#[test]
fn values_that_do_not_fit_are_refused_with_their_key() {
    for (text, says) in [
        ("listen = \"somewhere\"\n", "listen"),
        ("retention_days = 0\n", "retention_days: 0 is out of range"),
        ("time_zone = \"Mars/Olympus\"\n", "time_zone"),
        ("fairshare_divisor = 0\n", "fairshare_divisor"),
        ("[schedule]\nretention = \"at night\"\n", "\"at night\" is no schedule"),
        ("[schedule]\nreplay = \"never\"\n", "\"off\" is allowed too"),
        ("database = \"mysql://root:secret@db/x\"\n", "\"mysql\" is no database that Sluice knows"),
        ("listen = \n", "cannot be read"),
    ] {
        let (_file, sources) = with_file(text);
        let message = refused(&sources);
        assert!(message.contains(says), "{text}: {message}");
        assert!(!message.contains("secret"), "{message}");
    }
}

#[test]
fn networks_are_lists_in_the_file_and_texts_in_the_environment() {
    let (_file, mut sources) = with_file("[webhooks]\nallow = [\"10.0.0.0/8\"]\n");
    let variables = [("SLUICE_WEBHOOKS__DENY", "10.9.0.0/16, fd00::/8")];
    sources.environment = environment(&variables);
    let egress = Config::load(&sources).expect("valid").webhooks.egress();
    assert!(egress.check("10.1.0.1".parse().expect("an address")).is_ok());
    assert!(egress.check("10.9.0.1".parse().expect("an address")).is_err());
    for (text, says) in [
        ("[webhooks]\ndeny = [\"10.0.0.1/8\"]\n", "\"10.0.0.1/8\" is no network: it sets bits behind its prefix"),
        ("[webhooks]\nallow = 7\n", "webhooks.allow"),
        (
            "[webhooks]\nendpoints = [{ name = \"x\", url = \"http://169.254.169.254/?key=hunter2\", secret_env = \"X\" }]\n",
            "the url of \"x\": 169.254.169.254 lies in 169.254.0.0/16, which webhooks.deny holds",
        ),
    ] {
        let (_file, sources) = with_file(text);
        let message = refused(&sources);
        assert!(message.contains(says) && !message.contains("hunter2"), "{text}: {message}");
    }
}

#[test]
fn a_password_is_never_shown() {
    let database: Database = "postgres://ops:hunter2@db.example/sluice".parse().expect("a URL");
    assert_eq!(database.to_string(), "postgres://ops@db.example/sluice");
    assert!(!format!("{database:?}").contains("hunter2"));
}
