//! Who sees which page, and what every page is sent with.

use serde_json::json;

use super::Browser;
use crate::support::server::{POLICIES, RESOURCES, TestServer, USAGES, Who, id};

/// A policy on `hpc1`, and something used on both of its allocations.
pub async fn lived(server: &TestServer) {
    let policy = json!({"slug": "quarterly", "scope": "hpc1", "apply_to_all": true, "tres_billing_enabled": false,
        "actions": "notify_organization_owners,request_slurm_resource_downscaling,request_slurm_resource_pausing",
        "component_limits_set": [], "carryover_enabled": false});
    server.post(Who::Staff, POLICIES, &policy).await.expect(201);
    for (slug, amount) in [("climate-hpc1", "1043.2"), ("bio-hpc1", "410")] {
        let report = json!({"resource": id("resource", slug), "usages": [{"type": "node_hours", "amount": amount}]});
        server.post(Who::Agent, &format!("{USAGES}set_usage/"), &report).await.expect(201);
    }
    server.app.settle().await.unwrap();
}

/// Pages, with who sees each of them: staff, support, Alice who owns the provider and `climate`, Bea who owns `bio`, Carl who has
/// nothing to do with either, Bob who is a member of `climate`.
const PAGES: [(&str, [u16; 6]); 20] = [
    ("/", [200, 200, 200, 303, 200, 303]),
    ("/?tab=restricted", [200, 200, 200, 303, 200, 303]),
    ("/allocations", [200, 200, 200, 200, 200, 200]),
    ("/allocations/climate-hpc1", [200, 200, 200, 404, 404, 200]),
    ("/allocations/climate-hpc1?tab=commands", [200, 200, 200, 404, 404, 200]),
    ("/allocations/bio-hpc1", [200, 200, 200, 200, 404, 404]),
    ("/allocations/climate-hpc1/statement", [200, 200, 200, 404, 404, 200]),
    ("/allocations/climate-hpc1/statement?period=2025-Q4", [200, 200, 200, 404, 404, 200]),
    ("/allocations/there-is-none", [404, 404, 404, 404, 404, 404]),
    ("/policies", [200, 200, 200, 200, 200, 200]),
    ("/policies/quarterly", [200, 200, 200, 404, 404, 404]),
    ("/policies/quarterly/evaluate", [200, 404, 404, 404, 404, 404]),
    ("/policies/new", [200, 404, 200, 404, 200, 404]),
    ("/policies/new?preset=annual-grant", [200, 404, 200, 404, 200, 404]),
    ("/policies/quarterly/edit", [200, 404, 200, 404, 404, 404]),
    ("/policies/quarterly/versions", [200, 200, 200, 404, 404, 404]),
    ("/policies/quarterly/disable", [200, 404, 200, 404, 404, 404]),
    ("/policies/quarterly/delete", [200, 404, 200, 404, 404, 404]),
    ("/sessions", [200, 200, 200, 200, 200, 200]),
    ("/allocations/export/allocations.csv", [200, 200, 200, 200, 200, 200]),
];

#[tokio::test]
async fn every_page_answers_each_role_as_the_api_does() {
    let server = TestServer::start().await;
    lived(&server).await;
    let roles = [Who::Staff, Who::Support, Who::Alice, Who::Bea, Who::Carl, Who::Bob];
    for (at, who) in roles.into_iter().enumerate() {
        let mut browser = Browser::of(&server, who).await;
        for (path, expected) in PAGES {
            let answer = browser.open(path).await;
            assert_eq!(answer.status.as_u16(), expected[at], "{path} as {who:?}: {}", answer.text);
        }
    }
    let mut nobody = Browser::new(&server);
    for (path, _) in PAGES {
        assert_eq!(nobody.open(path).await.status, 303, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_page_loads_nothing_of_others_and_the_api_stays_what_it_was() {
    let server = TestServer::start().await;
    lived(&server).await;
    let mut staff = Browser::of(&server, Who::Staff).await;
    for (path, expected) in PAGES {
        let page = staff.open(path).await;
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("cache-control"), "no-store", "{path}");
        if expected[0] == 200 && !path.contains("export") {
            assert!(page.header("content-type").starts_with("text/html"), "{path}");
            for word in ["<style", "style=", " onclick", " onload", "javascript:", "hx-on", "http://"] {
                assert!(!page.text.contains(word), "{path} holds {word}");
            }
        }
    }
    // Whoever does not ask for a page gets the root of the API, as before.
    let root = server.get(Who::Anonymous, "/").await.expect(200);
    assert_eq!(root["api"], "/api/");
    // The cookie opens pages, not the API.
    assert_eq!(staff.open(RESOURCES).await.status, 401);
    server.stop().await;
}

#[tokio::test]
async fn figures_of_pages_are_those_of_the_api() {
    let server = TestServer::start().await;
    lived(&server).await;
    let mut staff = Browser::of(&server, Who::Staff).await;
    let page = staff.open("/allocations/climate-hpc1").await.text.replace('\u{a0}', " ");
    let states = server.get(Who::Staff, "/api/allocation-states/?q=climate").await.expect(200);
    assert_eq!((&states[0]["used"], &states[0]["usage_percentage"]), (&json!(1043.2), &json!(104.32)));
    for figure in ["1,043.2", "104.3 %", "Slowed down", "104.32 %", "1,000.00", "80 % = 800", "120 % = 1,200"] {
        assert!(page.contains(figure), "{figure} in {page}");
    }
    let own = Browser::of(&server, Who::Bea).await.open("/allocations/bio-hpc1").await.text.replace('\u{a0}', " ");
    assert!(own.contains("Your allocation has used <b>410 of 500</b>"), "{own}");
    assert!(!own.contains("climate"), "Bea sees nothing of others");
    let list = staff.open("/allocations?q=bio").await.text;
    assert!(list.contains("bio on hpc1") && !list.contains("climate on hpc1"), "{list}");
    let bad = staff.open("/allocations?sort=colour").await;
    assert!(bad.status == 400 && bad.text.contains("Allowed: name, organisation"), "{}", bad.text);
    assert_eq!(staff.open("/allocations?page=0").await.status, 400);
    let file = staff.open("/allocations/export/allocations.csv").await.text;
    assert_eq!(file.lines().count(), 3, "{file}");
    server.stop().await;
}

#[tokio::test]
async fn an_evaluation_is_tried_first_and_recorded_when_it_is_asked_for() {
    let server = TestServer::start().await;
    lived(&server).await;
    let mut staff = Browser::of(&server, Who::Staff).await;
    let log = "/policies/quarterly";
    let count = |page: &str| {
        page.split("Evaluation history <span class=\"n\">").nth(1).unwrap().split('<').next().unwrap().to_owned()
    };
    let before = count(&staff.open(log).await.text);
    let dry = staff.open("/policies/quarterly/evaluate").await.text.replace('\u{a0}', " ");
    assert!(dry.contains("Nothing has been changed or recorded"), "{dry}");
    assert_eq!(count(&staff.open(log).await.text), before, "a dry run is not recorded");
    let done = staff.submit("/policies/quarterly/evaluate", &[]).await;
    assert!(done.status == 200 && done.text.contains("The evaluation is recorded"), "{}", done.text);
    assert_ne!(count(&staff.open(log).await.text), before);
    let mut support = Browser::of(&server, Who::Support).await;
    assert_eq!(support.submit("/policies/quarterly/evaluate", &[]).await.status, 404);
    server.stop().await;
}
