//! Each kind of trigger begins a chain that is whole: from what set it off, over the evaluation, to the message, the agent's
//! answer, the class of service it confirms and the notice. The kinds are those of the type itself.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::value::Error as Unread;
use serde::de::{Deserializer, Error, Visitor};
use serde_json::{Value, json};
use sluice::domain::evaluate::Trigger;
use sluice::store::address::Database;

use super::chains::chain;
use super::support::{RESET, Site};
use crate::cli::bare;
use crate::support::server::{USAGES, Who, id, resource_path};

/// Takes down the variants that a type asks for, and gives it none.
struct Variants<'a>(&'a mut Vec<&'static str>);

impl<'de> Deserializer<'de> for Variants<'_> {
    type Error = Unread;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Unread> {
        Err(Unread::custom("no enum"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Unread> {
        self.0.extend(variants);
        Err(Unread::custom("only asked"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq
        tuple tuple_struct map struct identifier ignored_any
    }
}

#[test]
fn every_kind_of_trigger_is_walked() {
    let mut kinds = Vec::new();
    Trigger::deserialize(Variants(&mut kinds)).unwrap_err();
    let walked: BTreeSet<&str> = WALKED.iter().copied().collect();
    assert_eq!(walked, kinds.into_iter().collect::<BTreeSet<&str>>(), "a walk for each, below");
}

/// What a chain that changes restrictions and settings leads to.
const ALL: &[&str] = &[
    "policy_evaluated",
    "restriction_changed",
    "settings_commanded",
    "stomp_message_sent",
    "command_result_reported",
    "qos_confirmed",
    "notice_sent",
];
/// The same where the limits stay as they are.
const RESTRICTIONS: &[&str] =
    &["policy_evaluated", "restriction_changed", "stomp_message_sent", "qos_confirmed", "notice_sent"];
/// The same where the restrictions do.
const SETTINGS: &[&str] = &["policy_evaluated", "settings_commanded", "stomp_message_sent", "command_result_reported"];
/// Where nothing changes.
const EVALUATION: &[&str] = &["policy_evaluated"];

/// A site whose `climate` has used 1900 of 1000 node-hours, is paused, and has confirmed that.
struct Walk {
    site: Site,
    trigger: &'static str,
    resource: String,
    since: String,
}

impl Walk {
    async fn of(trigger: &'static str) -> Self {
        let site = Site::new().await;
        let mut walk = Self { site, trigger, resource: id("resource", "climate-hpc1"), since: String::new() };
        walk.site.answer("climate-hpc1", true, &RESET).await;
        walk.site.answer("bio-hpc1", true, &RESET).await;
        let body = json!({"carryover_enabled": false});
        walk.site.server.patch(Who::Staff, &walk.site.policy, &body).await.expect(200);
        // Answers are taken for the oldest message that has none.
        walk.carried_through().await;
        walk.report(json!("1900")).await;
        walk.carried_through().await;
        walk
    }

    async fn report(&self, amount: Value) {
        let usage = json!({"usages": [{"type": "node_hours", "amount": amount}], "date": "2026-03-01T00:00:00Z",
            "resource": id("resource", "climate-hpc1")});
        self.site.server.post(Who::Agent, &format!("{USAGES}set_usage/"), &usage).await.expect(201);
    }

    /// The agent does what it is told and says so, and notices go out.
    async fn carried_through(&mut self) {
        self.site.server.app.settle().await.unwrap();
        let climate = id("resource", "climate-hpc1");
        let commanded = format!("/api/events/?type=settings_commanded&resource_uuid={climate}");
        let commanded = self.site.server.get(Who::Support, &commanded).await.expect(200);
        let resets = commanded.as_array().unwrap().last().unwrap()["payload"].to_string().contains("RawUsage=0");
        self.site.answer("climate-hpc1", true, if resets { &RESET } else { &[] }).await;
        let path = resource_path("climate-hpc1");
        let shown = self.site.server.get(Who::Staff, &path).await.expect(200);
        let qos = match (&shown["paused"], &shown["downscaled"]) {
            (Value::Bool(true), _) => "blocked",
            (_, Value::Bool(true)) => "slowdown",
            _ => "normal",
        };
        self.site.say_qos("climate-hpc1", qos).await;
        self.site.pass(5).await;
        self.begins().await;
    }

    /// The walk begins here.
    async fn begins(&mut self) {
        self.site.server.app.settle().await.unwrap();
        self.since = self.site.server.app.store.head().await.unwrap().to_string();
    }

    /// The newest evaluation since the walk began that ran for the trigger.
    async fn evaluated(&self) -> Value {
        self.site.server.app.settle().await.unwrap();
        let path = format!(
            "/api/events/?page_size=100&type=policy_evaluated&resource_uuid={}&after={}",
            self.resource, self.since
        );
        let events = self.site.server.get(Who::Support, &path).await.expect(200);
        let found = events.as_array().unwrap().iter().rfind(|event| event["payload"]["trigger"] == self.trigger);
        found.cloned().unwrap_or_else(|| panic!("no evaluation for {} in {events}", self.trigger))
    }

    /// One chain holds the evaluation and what it led to, and each event of it leads back to `root`.
    async fn leads_from(mut self, root: &str, to: &[&str]) {
        let since = self.since.clone();
        // Let the evaluation come first, then carry out what it calls for.
        let evaluated = self.evaluated().await;
        if to != EVALUATION {
            self.carried_through().await;
            self.since = since;
        }
        let events = chain(&self.site.server, &evaluated["correlation_id"], 100).await;
        let known: BTreeMap<&str, &Value> =
            events.iter().map(|event| (event["uuid"].as_str().unwrap(), event)).collect();
        let bare_type = |event: &Value| event["type"].as_str().unwrap().split('.').next().unwrap().to_owned();
        let mut reached = BTreeSet::new();
        // The run of a job leads to events of other resources too.
        for event in events.iter().filter(|event| event["resource_uuid"] == self.resource.as_str()) {
            let (mut at, mut steps) = (event, Vec::new());
            while let Some(cause) = at["causation_id"].as_str() {
                steps.push(bare_type(at));
                at = known.get(cause).unwrap_or_else(|| panic!("{cause} is not in the chain of {event}"));
            }
            assert_eq!(bare_type(at), root, "{} leads back over {steps:?}", event["type"]);
            reached.insert(bare_type(event));
        }
        for kind in to {
            assert!(reached.contains(*kind), "no {kind} in the chain of {root}: {reached:?}");
        }
        self.site.server.stop().await;
    }

    /// The program on the server's database, as another process.
    async fn command(&self, arguments: &[&str], input: String) -> Value {
        let mut command = bare(&[arguments, &["--format", "json"]].concat());
        command.env("SLUICE_DATA_DIR", self.site.server.folder());
        let options = &self.site.server.app.options;
        if let Database::Postgres(url) = &options.database {
            command.env("SLUICE_DATABASE", url);
        }
        if let Some(address) = &options.event_store {
            command.env("SLUICE_EVENT_STORE", address.to_string());
        }
        let ran = tokio::task::spawn_blocking(move || command.write_stdin(input).assert().success());
        serde_json::from_slice(&ran.await.unwrap().get_output().stdout).unwrap()
    }
}

macro_rules! walks {
    ($($name:ident for $trigger:literal: $scenario:expr;)*) => {
        /// The triggers whose chains are walked.
        const WALKED: &[&str] = &[$($trigger),*];
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let scenario = $scenario;
                scenario(Walk::of($trigger).await).await;
            }
        )*
    };
}

walks! {
    a_report_over_http for "usage_reported": async |walk: Walk| {
        walk.report(json!("900")).await;
        walk.leads_from("usage_reported", ALL).await;
    };
    an_import_by_another_process for "usage_reported": async |walk: Walk| {
        let rows = "JobID|Account|State|Start|End|ElapsedRaw|AllocTRES\n\
                    1|hpc_climate|COMPLETED|2026-03-01T00:00:00|2026-03-01T10:00:00|36000|cpu=64,node=90\n";
        let import = ["import", "sacct", "-", "--offering", "hpc1", "--month", "2026-03", "--restate"];
        let document = walk.command(&import, rows.to_owned()).await;
        assert_eq!(document["totals"][0]["amount"], "900", "{document}");
        walk.leads_from("usage_reported", ALL).await;
    };
    a_limit for "limits_changed": async |walk: Walk| {
        walk.site.limit("climate-hpc1", 10_000).await;
        walk.leads_from("limits_changed", ALL).await;
    };
    another_account for "resource_changed": async |walk: Walk| {
        let body = json!({"backend_id": "hpc_weather"});
        walk.site.server.patch(Who::Staff, &resource_path("climate-hpc1"), &body).await.expect(200);
        walk.leads_from("resource_details_changed", SETTINGS).await;
    };
    a_new_resource for "resource_changed": async |mut walk: Walk| {
        walk.resource = walk.site.register("new", "hpc_new").await;
        walk.leads_from("resource_registered", &["policy_evaluated", "settings_commanded", "stomp_message_sent"]).await;
    };
    a_policy for "policy_changed": async |walk: Walk| {
        let body = json!({"grace_ratio": 1.0});
        walk.site.server.patch(Who::Staff, &walk.site.policy, &body).await.expect(200);
        walk.leads_from("policy_changed", ALL).await;
    };
    an_offering for "policy_changed": async |walk: Walk| {
        let path = format!("/api/marketplace-provider-offerings/{}/", id("offering", "hpc1"));
        walk.site.server.patch(Who::Staff, &path, &json!({"name": "Another name"})).await.expect(200);
        walk.leads_from("offering_changed", EVALUATION).await;
    };
    a_setting for "policy_changed": async |walk: Walk| {
        walk.site.server.patch(Who::Staff, "/api/settings/", &json!({"fairshare_divisor": "4"})).await.expect(200);
        walk.leads_from("setting_changed", SETTINGS).await;
    };
    a_customer_that_joins_a_group for "scope_changed": async |mut walk: Walk| {
        let customer = format!("/api/customers/{}/", id("customer", "uni-a"));
        let groups = json!([id("organization_group", "research")]);
        let body = json!({"apply_to_all": false, "organization_groups": groups});
        walk.site.server.patch(Who::Staff, &walk.site.policy, &body).await.expect(200);
        walk.site.server.patch(Who::Staff, &customer, &json!({"organization_groups": []})).await.expect(200);
        walk.carried_through().await;
        walk.site.server.patch(Who::Staff, &customer, &json!({"organization_groups": groups})).await.expect(200);
        walk.leads_from("customer_changed", RESTRICTIONS).await;
    };
    a_hold for "hold_changed": async |walk: Walk| {
        let hold = json!({"kind": "exemption", "reason": "a deadline"});
        let path = format!("{}holds/", resource_path("climate-hpc1"));
        walk.site.server.post(Who::Staff, &path, &hold).await.expect(201);
        walk.leads_from("hold_placed", RESTRICTIONS).await;
    };
    a_hold_whose_time_is_over for "hold_changed": async |mut walk: Walk| {
        let hold = json!({"kind": "exemption", "reason": "a deadline", "expires_at": "2026-03-15T13:00:00Z"});
        let path = format!("{}holds/", resource_path("climate-hpc1"));
        walk.site.server.post(Who::Staff, &path, &hold).await.expect(201);
        walk.carried_through().await;
        walk.site.pass(60).await;
        walk.leads_from("hold_released", RESTRICTIONS).await;
    };
    a_request_over_http for "requested": async |walk: Walk| {
        let body = json!({"resource_uuid": id("resource", "climate-hpc1")});
        walk.site.server.post(Who::Staff, &format!("{}evaluate/", walk.site.policy), &body).await.expect(200);
        walk.leads_from("policy_evaluated", EVALUATION).await;
    };
    a_request_that_another_process_queues for "requested": async |walk: Walk| {
        let document = walk.command(&["evaluate_slurm_policy"], String::new()).await;
        assert_eq!(document["policies"].as_array().unwrap().len(), 1, "{document}");
        walk.leads_from("evaluation_requested", EVALUATION).await;
    };
    an_evaluation_by_another_process for "requested": async |walk: Walk| {
        walk.command(&["evaluate_slurm_policy", "--sync"], String::new()).await;
        walk.leads_from("policy_evaluated", EVALUATION).await;
    };
    a_reset_by_another_process for "requested": async |walk: Walk| {
        let reset = ["reset_raw_usage", "--resource", "climate-hpc1", "--reason", "the counter was lost"];
        walk.command(&reset, String::new()).await;
        walk.leads_from("policy_evaluated", SETTINGS).await;
    };
    a_forced_reset_of_the_period for "forced_period_reset": async |mut walk: Walk| {
        let hold = json!({"kind": "pause", "reason": "an incident"});
        walk.site.server.post(Who::Staff, &format!("{}holds/", resource_path("bio-hpc1")), &hold).await.expect(201);
        walk.begins().await;
        walk.resource = id("resource", "bio-hpc1");
        walk.site.server.post(Who::Staff, &format!("{}force-period-reset/", walk.site.policy), &json!({})).await.expect(200);
        walk.leads_from("policy_evaluated", EVALUATION).await;
    };
    the_night for "scheduled": async |walk: Walk| {
        walk.site.server.app.advance_clock("2026-03-16T03:30:00Z".parse().unwrap()).await.unwrap();
        walk.leads_from("policy_evaluated", EVALUATION).await;
    };
    the_first_instant_of_a_period for "period_boundary": async |walk: Walk| {
        walk.site.server.app.advance_clock("2026-04-01T00:30:00Z".parse().unwrap()).await.unwrap();
        walk.leads_from("policy_evaluated", ALL).await;
    };
    a_month_without_a_report for "missing_usage": async |mut walk: Walk| {
        let usage = json!({"usages": [{"type": "node_hours", "amount": "2600", "missing_usage_policy": "reuse"}],
            "date": "2026-03-01T00:00:00Z", "resource": id("resource", "climate-hpc1")});
        walk.site.server.post(Who::Agent, &format!("{USAGES}set_usage/"), &usage).await.expect(201);
        walk.site.server.app.advance_clock("2026-04-01T00:30:00Z".parse().unwrap()).await.unwrap();
        walk.carried_through().await;
        walk.site.server.app.advance_clock("2026-05-01T00:30:00Z".parse().unwrap()).await.unwrap();
        walk.leads_from("missing_usage_filled", RESTRICTIONS).await;
    };
}
