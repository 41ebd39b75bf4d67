//! Registry commands: the same again is nothing, what does not fit is refused by field, writers do not overwrite each other.

use sluice::commands::registry::RegistryError;
use sluice::domain::policy::{LimitType, PolicyTerms};
use sluice::events::registry::{LimitPeriod, PolicyFacts, Scope};

use super::{Place, lay_out, put_policy};
use crate::support::fleet::meta;
use crate::support::world::{ALL_THREE, amounts, dec, offering_facts, policy_facts, policy_id, terms};

fn fields(result: Result<impl std::fmt::Debug, RegistryError>) -> Vec<String> {
    match result {
        Err(RegistryError::Invalid(errors)) => errors.0.into_keys().collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_same_facts_again_are_one_fact_and_a_change_is_the_next_version() {
    let place = Place::new();
    let app = place.open_at("2026-03-10T12:00:00Z").await;
    lay_out(&app, &[]).await;
    let put = |facts: PolicyFacts| {
        let app = app.clone();
        async move { app.registry_commands.put_policy(facts.policy, &meta(), &|_| Ok(facts.clone())).await.unwrap() }
    };
    let first = put(policy_facts("main", terms(ALL_THREE))).await;
    assert!(first.created && first.version == 1 && first.position.is_some());
    let again = put(policy_facts("main", terms(ALL_THREE))).await;
    assert!(!again.created && again.version == 1 && again.position.is_none());
    let next = put(policy_facts("main", PolicyTerms { grace_ratio: dec("0.3"), ..terms(ALL_THREE) })).await;
    assert_eq!((next.created, next.version), (false, 2));
    app.registry_commands.delete_policy(policy_id("main"), &meta()).await.unwrap();
    let gone = app.registry_commands.delete_policy(policy_id("main"), &meta()).await;
    assert!(matches!(gone, Err(RegistryError::Missing("policy"))));
    assert!(app.registry.read().was_deleted(policy_id("main")));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_by_field_and_nothing_is_recorded() {
    let place = Place::new();
    let app = place.open_at("2026-03-10T12:00:00Z").await;
    lay_out(&app, &[]).await;
    put_policy(&app, terms(ALL_THREE)).await;
    let head = app.store.head().await.unwrap();
    let refused = |change: &dyn Fn(&mut PolicyFacts)| {
        let mut facts = policy_facts("second", terms(ALL_THREE));
        change(&mut facts);
        let app = app.clone();
        async move { fields(app.registry_commands.put_policy(facts.policy, &meta(), &|_| Ok(facts.clone())).await) }
    };
    assert_eq!(refused(&|f| f.terms.limit_type = LimitType::GrpTres).await, ["limit_type"]);
    assert_eq!(refused(&|f| f.terms.component_limits = amounts(&[("gpu", "1")])).await, ["component_limits_set"]);
    assert_eq!(refused(&|f| f.scope = Scope::Groups([].into())).await, ["non_field_errors"]);
    let unknown = sluice::domain::ids::slug_uuid("organization_group", "x").into();
    assert_eq!(refused(&|f| f.scope = Scope::Groups([unknown].into())).await, ["organization_groups"]);
    assert_eq!(refused(&|f| f.offering = sluice::domain::ids::slug_uuid("offering", "x").into()).await, ["scope"]);
    assert_eq!(refused(&|f| f.terms.grace_ratio = dec("1.1")).await, ["grace_ratio"]);
    assert_eq!(refused(&|f| f.terms.actions.clear()).await, ["actions"]);
    assert_eq!(app.store.head().await.unwrap(), head);
    let mut quarterly = offering_facts(&["node", "cpu"]);
    quarterly.components[0].limit_period = Some(LimitPeriod::Quarterly);
    app.registry_commands.put_offering(quarterly.offering, &meta(), |_| Ok(quarterly.clone())).await.unwrap();
    assert_eq!(refused(&|_| ()).await, ["period"], "monthly on a quarterly offering");
}

#[tokio::test]
async fn two_writers_do_not_overwrite_each_other() {
    let place = Place::new();
    let one = place.open_at("2026-03-10T12:00:00Z").await;
    lay_out(&one, &[]).await;
    put_policy(&one, terms(ALL_THREE)).await;
    let other = place.again().await;
    let with = |change: fn(&mut PolicyTerms)| {
        move |known: Option<&PolicyFacts>| {
            let mut facts = known.unwrap().clone();
            change(&mut facts.terms);
            Ok(facts)
        }
    };
    let meta = meta();
    let more_grace = with(|t| t.grace_ratio = "0.3".parse().unwrap());
    let carry = with(|t| t.carryover_enabled = true);
    let (a, b) = tokio::join!(
        one.registry_commands.put_policy(policy_id("main"), &meta, &more_grace),
        other.registry_commands.put_policy(policy_id("main"), &meta, &carry),
    );
    assert_eq!([a.unwrap().version, b.unwrap().version].iter().max(), Some(&3));
    one.follower.catch_up().await.unwrap();
    let terms = one.registry.read().policy(policy_id("main")).unwrap().facts.terms.clone();
    assert!(terms.carryover_enabled && terms.grace_ratio == dec("0.3"), "each decided on what the other wrote");
}
