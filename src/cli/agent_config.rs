//! `sluice agent-config`: a configuration for the site agent that fits the current offering.
//!
//! The text is YAML with the reasons as comments. It contains no key: a placeholder marks the place of the token.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Args;
use rust_decimal::Decimal;
use serde_json::json;

use super::output::Out;
use super::session::{CliError, Session};
use crate::commands::allocation::PolicyInForce;
use crate::config::{BrokerConfig, BrokerKind};
use crate::domain::policy::LimitType;
use crate::domain::tres::{Weights, is_slurm_tres};
use crate::events::registry::{Component, OfferingFacts};

/// The placeholder for the token.
const TOKEN: &str = "REPLACE-WITH-THE-TOKEN-OF-THE-AGENT";

/// Options of `agent-config`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The offering, by id or slug
    #[arg(long, value_name = "SLUG")]
    offering: String,
    /// Address under which the agent reaches this service, without `/api`; the address that `serve` listens on without it
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Host of the broker's WebSocket; the service's own, or with a `RabbitMQ` that of `broker.stomp_host`
    #[arg(long, value_name = "HOST")]
    stomp_host: Option<String>,
    /// Port of the broker's WebSocket; the service's own, or with a `RabbitMQ` 15674, with TLS 15673
    #[arg(long, value_name = "PORT")]
    stomp_port: Option<u16>,
    /// Path of the broker's WebSocket; `/rmqws-stomp`, or with a `RabbitMQ` `/ws`
    #[arg(long, value_name = "PATH")]
    stomp_path: Option<String>,
    /// Folder of sacctmgr and sacct on the agent's machine
    #[arg(long, value_name = "DIR", default_value = "/usr/bin")]
    slurm_bin_path: String,
}

/// Where something is reached.
struct Address {
    url: String,
    host: String,
    port: u16,
    tls: bool,
}

impl Address {
    fn read(url: &str) -> Result<Self, CliError> {
        let wrong = || {
            CliError::Usage(format!(
                "--url: {url:?} is no address; http://HOST[:PORT] or https://HOST[:PORT] is expected"
            ))
        };
        let bare = url.trim_end_matches('/');
        let bare = bare.strip_suffix("/api").unwrap_or(bare);
        let uri: axum::http::Uri = bare.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        if !uri.path().trim_end_matches('/').is_empty() || uri.query().is_some() {
            return Err(wrong());
        }
        let host = uri.host().ok_or_else(wrong)?.to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        // The agent cuts `/`, `a`, `p` and `i` off the end of its address; a port keeps the host's name whole.
        Ok(Self { url: format!("{}://{host}:{port}", if tls { "https" } else { "http" }), host, port, tls })
    }
}

/// Where the agent's WebSocket to the broker is.
struct WebSocket {
    host: String,
    port: u16,
    path: String,
    tls: bool,
}

impl WebSocket {
    /// From the options, else from the configured broker.
    fn of(options: &Options, broker: &BrokerConfig, api: &Address) -> Self {
        let (host, port, path, tls) = match broker.kind {
            BrokerKind::Builtin => (&api.host, api.port, "/rmqws-stomp", api.tls),
            // The plugin's own ports and path; `broker.stomp_port` is that of plain STOMP, which the agent does not speak.
            BrokerKind::Rabbitmq => (&broker.stomp_host, if broker.tls { 15_673 } else { 15_674 }, "/ws", broker.tls),
        };
        Self {
            host: options.stomp_host.as_ref().unwrap_or(host).clone(),
            port: options.stomp_port.unwrap_or(port),
            path: options.stomp_path.as_deref().unwrap_or(path).to_owned(),
            tls,
        }
    }
}

/// The inputs of the configuration.
struct Made<'a> {
    offering: &'a OfferingFacts,
    policies: &'a [std::sync::Arc<PolicyInForce>],
    zone: &'a str,
    api: Address,
    broker: WebSocket,
    options: &'a Options,
}

pub(super) fn run(session: &Session, options: &Options, out: &Out) -> Result<(), CliError> {
    let offering = session.offering(&options.offering)?;
    let (facts, policies) = {
        let state = session.app.registry.read();
        let facts = state.offering(offering).map(|o| o.facts.facts.clone());
        let enabled = state.policies_on(offering).filter(|p| p.facts.terms.enabled).cloned();
        (facts, enabled.collect::<Vec<_>>())
    };
    let facts = facts.ok_or_else(|| CliError::Failed(format!("there is no offering {:?}", options.offering)))?;
    let listen = format!("http://{}", session.config.listen);
    let api = Address::read(options.url.as_deref().unwrap_or(&listen))?;
    let made = Made {
        offering: &facts,
        policies: &policies,
        zone: session.config.time_zone.name(),
        broker: WebSocket::of(options, &session.config.broker, &api),
        api,
        options,
    };
    let notes = notes(&made);
    let text = document(&made, &notes);
    out.text(text.trim_end());
    out.json(&json!({ "offering_uuid": facts.offering, "configuration": text, "notes": notes }));
    Ok(())
}

/// A YAML scalar: JSON's quoting is YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn number(value: Decimal) -> String {
    value.normalize().to_string()
}

/// What an operator should know before using it.
fn notes(made: &Made<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let mut counted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for component in &made.offering.components {
        counted.entry(component.tres()).or_default().push(&component.component_type);
        if !is_slurm_tres(component.tres()) {
            notes.push(format!(
                "{:?} is no TRES of SLURM: the component {:?} needs slurm_tres before the agent can report it.",
                component.tres(),
                component.component_type
            ));
        }
    }
    for (tres, components) in counted.iter().filter(|(_, components)| components.len() > 1) {
        notes.push(format!("{} are all counted from the TRES {tres}.", components.join(" and ")));
    }
    if mapped(made.offering) {
        notes.push(
            "A component that is not named like its TRES makes this agent report whole units only; named like it, two decimals."
                .to_owned(),
        );
    }
    if made.policies.iter().any(|p| p.facts.terms.limit_type == LimitType::GrpTres) {
        notes.push("This agent ignores limits of the type GrpTRES; it reports success all the same.".to_owned());
    }
    if ["localhost", "127.0.0.1", "::1"].contains(&made.broker.host.as_str()) && made.api.host != made.broker.host {
        let host = &made.broker.host;
        notes.push(format!(
            "The broker is {host} as Sluice sees it; --stomp-host says what the agent's machine calls it."
        ));
    }
    notes
}

/// Whether components have to be mapped to TRES; then all of them are, since the agent's factors work one way or the other.
fn mapped(offering: &OfferingFacts) -> bool {
    offering.components.iter().any(|component| component.tres() != component.component_type)
}

fn component(text: &mut String, component: &Component, mapped: bool) -> std::fmt::Result {
    let unit = number(component.minutes_per_unit);
    writeln!(text, "      {}:", quoted(&component.component_type))?;
    writeln!(text, "        measured_unit: {}", quoted(&component.measured_unit))?;
    writeln!(text, "        label: {}", quoted(&component.name))?;
    writeln!(text, "        accounting_type: \"usage\"     # limits come from here, as periodic limits")?;
    if mapped {
        writeln!(text, "        unit_factor: 1")?;
        writeln!(text, "        target_components:           # TRES minutes in one unit")?;
        writeln!(text, "          {}: {{factor: {unit}}}", quoted(component.tres()))
    } else {
        writeln!(text, "        unit_factor: {unit}             # TRES minutes in one unit")
    }
}

fn policies(text: &mut String, made: &Made<'_>) -> std::fmt::Result {
    for policy in made.policies {
        let terms = &policy.facts.terms;
        let weights = Weights::effective(terms.tres_billing_enabled, &terms.tres_billing_weights);
        let weighed: Vec<String> = made
            .offering
            .components
            .iter()
            .map(|c| format!("{}={}", c.component_type, number(weights.of(&c.component_type))))
            .collect();
        let slug = if policy.facts.slug.is_empty() { policy.id().to_string() } else { policy.facts.slug.clone() };
        writeln!(
            text,
            "# Policy {slug}: {} by {}, grace {} %, weights {}",
            terms.limit_type.wire_name(),
            policy.period.name(),
            number(terms.grace_ratio.saturating_mul(Decimal::ONE_HUNDRED)),
            weighed.join(", "),
        )?;
    }
    Ok(())
}

fn document(made: &Made<'_>, notes: &[String]) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_document(&mut text, made, notes);
    text
}

fn write_document(text: &mut String, made: &Made<'_>, notes: &[String]) -> std::fmt::Result {
    let (offering, api, options) = (made.offering, &made.api, made.options);
    writeln!(text, "# waldur-site-agent-config.yaml for the offering {}, made by sluice agent-config", offering.slug)?;
    policies(text, made)?;
    for note in notes {
        writeln!(text, "# NOTE: {note}")?;
    }
    writeln!(text, "timezone: {}", quoted(made.zone))?;
    writeln!(text, "offerings:\n  - name: {}", quoted(&offering.name))?;
    writeln!(text, "    waldur_api_url: {}", quoted(&format!("{}/api/", api.url)))?;
    writeln!(
        text,
        "    waldur_api_token: {}   # sluice token create --user agent-{slug} --role agent --offering {slug}",
        quoted(TOKEN),
        slug = offering.slug
    )?;
    writeln!(text, "    waldur_offering_uuid: {}", quoted(&offering.offering.to_string()))?;
    writeln!(text, "    verify_ssl: {}\n", api.tls)?;
    writeln!(text, "    stomp_enabled: true")?;
    writeln!(text, "    stomp_ws_host: {}", quoted(&made.broker.host))?;
    writeln!(text, "    stomp_ws_port: {}", made.broker.port)?;
    writeln!(text, "    stomp_ws_path: {}", quoted(&made.broker.path))?;
    writeln!(text, "    websocket_use_tls: {}\n", made.broker.tls)?;
    writeln!(text, "    backend_type: \"slurm\"")?;
    writeln!(text, "    order_processing_backend: \"slurm\"   # periodic limits take their backend from here")?;
    writeln!(text, "    membership_sync_backend: \"slurm\"    # pausing and slowing down reach SLURM this way")?;
    writeln!(text, "    reporting_backend: \"slurm\"\n")?;
    writeln!(text, "    backend_settings:")?;
    writeln!(text, "      slurm_bin_path: {}", quoted(&options.slurm_bin_path))?;
    writeln!(text, "      default_account: \"root\"")?;
    writeln!(text, "      parent_account: \"root\"            # accounts stay where they are in the tree")?;
    for prefix in ["customer_prefix", "project_prefix", "allocation_prefix"] {
        writeln!(text, "      {prefix}: \"hpc_\"")?;
    }
    writeln!(text, "      enable_user_homedir_account_creation: false")?;
    writeln!(text, "      qos_default: {}", quoted(&offering.qos.default))?;
    writeln!(text, "      qos_downscaled: {}", quoted(&offering.qos.downscaled))?;
    writeln!(text, "      qos_paused: {}", quoted(&offering.qos.paused))?;
    let limit_type = made.policies.first().map_or(LimitType::GrpTresMins, |p| p.facts.terms.limit_type);
    writeln!(text, "      periodic_limits:\n        enabled: true")?;
    writeln!(text, "        limit_type: {}\n", quoted(limit_type.wire_name()))?;
    if offering.components.is_empty() {
        return writeln!(text, "    backend_components: {{}}");
    }
    writeln!(text, "    backend_components:")?;
    let mapped = mapped(offering);
    offering.components.iter().try_for_each(|c| component(text, c, mapped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_their_ends() {
        for (given, url, port, tls) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000", 8000, false),
            ("http://sluice.example/api/", "http://sluice.example:80", 80, false),
            ("https://sluice.example/", "https://sluice.example:443", 443, true),
        ] {
            let read = Address::read(given).unwrap();
            assert_eq!((read.url.as_str(), read.port, read.tls), (url, port, tls));
        }
        for given in ["sluice.example", "ftp://x", "http://", "http://x/y", "http://x?y=1"] {
            assert_eq!(Address::read(given).map_err(|error| error.status()).err(), Some(2), "{given}");
        }
    }

    #[test]
    fn text_that_yaml_would_read_otherwise_is_quoted() {
        assert_eq!(quoted("no: \"yes\"\n"), r#""no: \"yes\"\n""#);
    }
}
