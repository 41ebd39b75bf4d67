//! What a change of the registry leads to, also over a restart in the middle.

use sluice::commands::registry::{RegistryError, stream_name};
use sluice::domain::ids::slug_uuid;
use sluice::domain::policy::PolicyTerms;
use sluice::events::allocation::AllocationEvent;
use sluice::events::envelope::{Actor, Metadata, NewEvent};
use sluice::events::registry::{EvaluationRequested, GroupFacts, RegistryEvent, Scope};
use sluice::store::ExpectedVersion;
use tokio_util::sync::CancellationToken;

use super::{Place, count, is_evaluation, lay_out, log, paused, put_customer, put_policy, run, usage};
use crate::support::fleet::meta;
use crate::support::world::{ALL_THREE, policy_facts, policy_id, resource_id, terms};

#[tokio::test]
async fn a_policy_made_after_the_usage_is_evaluated_on_it_and_a_deleted_one_lets_go() {
    let place = Place::new();
    let app = place.open_at("2026-03-10T12:00:00Z").await;
    lay_out(&app, &["a", "b"]).await;
    run(&app, "a", &usage("2026-03", 1300)).await;
    put_policy(&app, terms(ALL_THREE)).await;
    app.settle().await.unwrap();
    assert!(paused(&app, resource_id("a")).await && !paused(&app, resource_id("b")).await);
    let disabled = PolicyTerms { enabled: false, ..terms(ALL_THREE) };
    put_policy(&app, disabled).await;
    app.settle().await.unwrap();
    assert!(!paused(&app, resource_id("a")).await);
    put_policy(&app, terms(ALL_THREE)).await;
    app.settle().await.unwrap();
    assert!(paused(&app, resource_id("a")).await);
    app.registry_commands.delete_policy(policy_id("main"), &meta()).await.unwrap();
    app.settle().await.unwrap();
    assert!(!paused(&app, resource_id("a")).await);
    let withdrawn = |e: &AllocationEvent| matches!(e, AllocationEvent::PolicyWithdrawn(_));
    assert_eq!(count(&app, withdrawn).await, 4, "two resources, disabled and deleted");
}

#[tokio::test]
async fn a_customer_that_leaves_the_group_is_let_go() {
    let place = Place::new();
    let app = place.open_at("2026-03-10T12:00:00Z").await;
    lay_out(&app, &["a"]).await;
    let group = GroupFacts {
        group: slug_uuid("organization_group", "research").into(),
        slug: "research".into(),
        name: "Research".into(),
        retired: false,
    };
    app.registry_commands.put_group(group.group, &meta(), |_| Ok(group.clone())).await.unwrap();
    put_customer(&app, "uni-a", &["research"]).await;
    let mut facts = policy_facts("main", terms(ALL_THREE));
    facts.scope = Scope::Groups([group.group].into());
    app.registry_commands.put_policy(facts.policy, &meta(), &|_| Ok(facts.clone())).await.unwrap();
    app.settle().await.unwrap();
    run(&app, "a", &usage("2026-03", 1300)).await;
    assert!(paused(&app, resource_id("a")).await);
    put_customer(&app, "uni-a", &[]).await;
    app.settle().await.unwrap();
    assert!(!paused(&app, resource_id("a")).await);
    put_customer(&app, "uni-a", &["research"]).await;
    app.settle().await.unwrap();
    assert!(paused(&app, resource_id("a")).await);
}

#[tokio::test]
async fn a_restart_goes_on_with_what_was_written_down() {
    let place = Place::new();
    let app = place.open_at("2026-03-10T12:00:00Z").await;
    lay_out(&app, &["a", "b", "c"]).await;
    put_policy(&app, terms(ALL_THREE)).await;
    app.consumers.settle().await.unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    assert_eq!(app.reactions.work(&stop).await.unwrap(), 0, "told to stop before the first batch");
    assert_eq!(app.reactions.pending().await.unwrap()[0].total, Some(3));
    assert_eq!(count(&app, is_evaluation).await, 0);
    drop(app);
    let app = place.again().await;
    app.settle().await.unwrap();
    assert_eq!(count(&app, is_evaluation).await, 3);
    assert_eq!(app.reactions.pending().await.unwrap(), []);
    app.settle().await.unwrap();
    assert_eq!(count(&app, is_evaluation).await, 3, "once");
}

#[tokio::test]
async fn a_request_for_a_resource_that_is_none_holds_up_nobody() {
    let place = Place::new();
    let app = place.open_at("2026-03-10T12:00:00Z").await;
    lay_out(&app, &["a"]).await;
    put_policy(&app, terms(ALL_THREE)).await;
    app.settle().await.unwrap();
    let before = log(&app).await.len();
    let (commands, meta) = (&app.registry_commands, meta());
    let refused = commands.request_evaluation(policy_id("main"), Some(resource_id("nobody")), &meta).await;
    assert!(matches!(refused, Err(RegistryError::Missing("resource"))));
    // One that got into the log all the same, say from a registry that knew more.
    let stray = RegistryEvent::EvaluationRequested(EvaluationRequested {
        request: slug_uuid("request", "stray").into(),
        policy: policy_id("main"),
        resource: Some(resource_id("nobody")),
    });
    let event = NewEvent {
        event_id: slug_uuid("event", "stray"),
        event_type: stray.event_type(),
        occurred_at: app.clock.now(),
        metadata: Metadata {
            actor: Actor::SYSTEM,
            correlation_id: slug_uuid("request", "stray"),
            causation_id: None,
            reason: None,
        },
        payload: stray.to_append().unwrap(),
    };
    let stream = stream_name("evaluation_request", slug_uuid("request", "stray"));
    app.store.append(&stream, ExpectedVersion::NoStream, vec![event]).await.unwrap();
    commands.request_evaluation(policy_id("main"), Some(resource_id("a")), &meta).await.unwrap();
    app.settle().await.unwrap();
    assert_eq!(app.reactions.pending().await.unwrap(), []);
    assert_eq!(log(&app).await.len(), before + 1);
}

#[tokio::test]
async fn a_setting_changed_by_another_process_is_taken_over_and_everybody_told() {
    let place = Place::new();
    let app = place.open_at("2026-03-10T12:00:00Z").await;
    lay_out(&app, &["a", "b"]).await;
    put_policy(&app, terms(ALL_THREE)).await;
    app.settle().await.unwrap();
    let told = async |fairshare: i64| {
        count(&app, |e| matches!(e, AllocationEvent::SettingsCommanded(m) if m.settings.fairshare == fairshare)).await
    };
    assert_eq!((told(333).await, told(250).await), (2, 0));
    let other = place.again().await;
    let change = |name: &str, value: serde_json::Value| [(name.to_owned(), value)].into_iter().collect();
    other.settings.change(&change("fairshare_divisor", 4.into()), &meta()).await.unwrap();
    app.settle().await.unwrap();
    assert_eq!(app.allocations.rules().fairshare_divisor, 4.into());
    assert_eq!((told(333).await, told(250).await), (2, 2));
    let before = count(&app, is_evaluation).await;
    other.settings.change(&change("dispatch_window", 7.into()), &meta()).await.unwrap();
    app.settle().await.unwrap();
    assert_eq!(app.settings.current().dispatch_window, 7);
    assert_eq!(count(&app, is_evaluation).await, before, "nobody is told anything else for that");
    assert_eq!(app.reactions.pending().await.unwrap(), []);
}
