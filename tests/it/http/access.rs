//! Who may call what: every route against nobody and everybody, and the order of the checks.

use std::sync::Arc;

use reqwest::Method;
use serde_json::json;
use sluice::http::{Access, rules};

use crate::support::server::{POLICIES, RESOURCES, TestServer, USAGES, Who, id, resource_path};

const NOWHERE: &str = "7e500000000040008000000000000001";

fn admitted(access: Access, who: Who) -> bool {
    match access {
        Access::Public | Access::SignedIn => true,
        Access::Staff => who == Who::Staff,
        Access::Support => matches!(who, Who::Staff | Who::Support),
        Access::Reporting => matches!(who, Who::Staff | Who::Agent | Who::OtherAgent),
    }
}

#[tokio::test]
async fn every_route_asks_for_a_token_and_checks_the_role_before_the_object() {
    let server = TestServer::start().await;
    let rules = rules(Arc::clone(&server.app));
    assert!(rules.len() > 50, "{} routes", rules.len());
    for rule in rules {
        let path = rule.path.replace("{uuid}", NOWHERE).replace("{hold_uuid}", NOWHERE);
        let method: Method = rule.method.parse().unwrap();
        let body = (method != Method::GET).then(|| "{}".to_owned());
        let anonymous = server.send(Who::Anonymous, method.clone(), &path, &[], body.clone()).await;
        if rule.access == Access::Public {
            anonymous.expect(200);
            continue;
        }
        assert_eq!(
            anonymous.expect(401),
            json!({"detail": "Authentication credentials were not provided."}),
            "{rule:?}"
        );
        assert_eq!(anonymous.header("www-authenticate"), "Token");
        for who in Who::KNOWN {
            // The live tail answers without end; its own test reads it.
            if rule.path == "/api/events/stream/" && admitted(rule.access, who) {
                continue;
            }
            let answer = server.send(who, method.clone(), &path, &[], body.clone()).await;
            if admitted(rule.access, who) {
                assert!(answer.status.as_u16() < 405, "{rule:?} {who:?}: {} {}", answer.status, answer.text);
            } else {
                answer.expect(403);
            }
            if rule.path.contains("{uuid}") && answer.status != 403 {
                answer.expect(404);
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn tokens_are_read_in_both_spellings_and_refused_otherwise() {
    let server = TestServer::start().await;
    let me = "/api/users/me/";
    let key = "00000000000000000000000000000000000root0";
    for header in [format!("Token {key}"), format!("Bearer {key}"), format!("token {key}")] {
        let answer =
            server.send(Who::Anonymous, Method::GET, me, &[("authorization", &header)], None).await.expect(200);
        assert_eq!((&answer["username"], &answer["is_staff"]), (&json!("root"), &json!(true)));
    }
    for (header, detail) in [
        ("Token nonsense", "Invalid token."),
        ("Token", "Invalid token header. No credentials provided."),
        ("Token a b", "Invalid token header. Token string should not contain spaces."),
        ("Basic cm9vdDpyb290", "Authentication credentials were not provided."),
    ] {
        let answer = server.send(Who::Anonymous, Method::GET, me, &[("authorization", header)], None).await;
        assert_eq!(answer.expect(401)["detail"], detail, "{header}");
    }
    server.stop().await;
}

#[tokio::test]
async fn policies_are_seen_by_their_provider_and_changed_by_its_owners() {
    let server = TestServer::start().await;
    let (path, policy) = server.policy(|_| ()).await;
    let uuid = policy["uuid"].as_str().unwrap();
    for who in Who::KNOWN {
        let seen = matches!(who, Who::Staff | Who::Support | Who::Alice | Who::Agent);
        let listed = server.get(who, POLICIES).await.ids();
        assert_eq!(listed, if seen { vec![uuid.to_owned()] } else { Vec::new() }, "{who:?}");
        server.get(who, &path).await.expect(if seen { 200 } else { 404 });
        let changes = matches!(who, Who::Staff | Who::Alice);
        let expected = if changes {
            200
        } else if seen {
            403
        } else {
            404
        };
        server.patch(who, &path, &json!({"grace_ratio": 0.25})).await.expect(expected);
        let created = server.post(who, POLICIES, &server.policy_body()).await;
        if changes {
            let made = created.expect(201);
            server.delete(who, &format!("{POLICIES}{}/", made["uuid"].as_str().unwrap())).await.expect(204);
        } else {
            created.refusal("scope");
            server.delete(who, &path).await.expect(expected);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn owners_of_a_resource_read_its_evaluations_and_no_others() {
    let server = TestServer::start().await;
    let (path, _) = server.policy(|_| ()).await;
    server.report("climate-hpc1", "10", "2026-03-01").await;
    server.report("bio-hpc1", "20", "2026-03-01").await;
    for list in ["evaluation-logs/", "command-history/"] {
        let rows = server.get(Who::Bea, &format!("{path}{list}")).await.expect(200);
        let rows = rows.as_array().unwrap();
        assert!(!rows.is_empty(), "{list}");
        assert!(rows.iter().all(|row| row["resource_uuid"] == id("resource", "bio-hpc1")), "{list}");
        server.get(Who::Carl, &format!("{path}{list}")).await.expect(404);
        server.get(Who::OtherAgent, &format!("{path}{list}")).await.expect(404);
    }
    let status = server.get(Who::Bea, &format!("{path}status/")).await.expect(200);
    assert_eq!((status["resources"].as_array().unwrap().len(), status.get("paused")), (1, None));
    server.stop().await;
}

#[tokio::test]
async fn agents_report_for_their_own_offering_only() {
    let server = TestServer::start().await;
    let (path, _) = server.policy(|_| ()).await;
    let usage = json!({"usages": [{"type": "node_hours", "amount": "1.00"}], "resource": id("resource", "climate-hpc1"), "date": "2026-03-01"});
    let result = json!({"resource_uuid": id("resource", "climate-hpc1"), "success": true});
    for (who, reported, answered) in [
        (Who::Agent, 201, 200),
        (Who::Staff, 201, 200),
        (Who::OtherAgent, 400, 404),
        (Who::Alice, 403, 403),
        (Who::Support, 403, 403),
    ] {
        server.post(who, &format!("{USAGES}set_usage/"), &usage).await.expect(reported);
        server.post(who, &format!("{path}report-command-result/"), &result).await.expect(answered);
    }
    // A resource of another offering is none of this policy's, whoever says so.
    let foreign = json!({"name": "climate on hpc2", "offering": "hpc2", "project": "climate"});
    let foreign = server.post(Who::Staff, RESOURCES, &foreign).await.expect(201)["uuid"].clone();
    let before = server.app.store.head().await.unwrap();
    let result = json!({"resource_uuid": foreign, "success": true});
    for who in [Who::Agent, Who::Staff] {
        server.post(who, &format!("{path}report-command-result/"), &result).await.refusal("resource_uuid");
    }
    let usage = json!({"usages": [{"type": "cpu", "amount": "1.00"}], "resource": foreign, "date": "2026-03-01"});
    let message = server.post(Who::Agent, &format!("{USAGES}set_usage/"), &usage).await.refusal("resource");
    assert!(message.contains("does not exist"), "as one that there is not: {message}");
    assert_eq!(server.app.store.head().await.unwrap(), before, "nothing of it is recorded");
    server.stop().await;
}

#[tokio::test]
async fn resources_are_seen_by_those_concerned() {
    let server = TestServer::start().await;
    for (who, climate, bio) in [
        (Who::Staff, 200, 200),
        (Who::Support, 200, 200),
        (Who::Alice, 200, 200),
        (Who::Agent, 200, 200),
        (Who::Bea, 404, 200),
        (Who::Bob, 200, 404),
        (Who::Carl, 404, 404),
        (Who::OtherAgent, 404, 404),
    ] {
        server.get(who, &resource_path("climate-hpc1")).await.expect(climate);
        server.get(who, &resource_path("bio-hpc1")).await.expect(bio);
        let seen = [climate, bio].into_iter().filter(|status| *status == 200).count();
        assert_eq!(server.get(who, "/api/marketplace-provider-resources/").await.ids().len(), seen, "{who:?}");
    }
    server.patch(Who::Bea, &resource_path("bio-hpc1"), &json!({"limits": {"node_hours": 9000}})).await.expect(403);
    server.patch(Who::Carl, &resource_path("bio-hpc1"), &json!({"limits": {"node_hours": 9000}})).await.expect(404);
    server.stop().await;
}
