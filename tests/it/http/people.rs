//! People are objects with owners: who sees whom, who may name whom, and what becomes of strangers that somebody names.

use serde_json::{Value, json};

use crate::support::server::{RESOURCES, TestServer, Who, id, resource_path};

fn project(slug: &str) -> String {
    format!("/api/projects/{}/", id("project", slug))
}

fn names(people: &Value) -> Vec<(&str, &str, Option<&str>, bool)> {
    people
        .as_array()
        .unwrap()
        .iter()
        .map(|p| {
            let known = |key: &str| p[key].as_str();
            (known("username").unwrap(), known("full_name").unwrap(), known("email"), p["pending"] == json!(true))
        })
        .collect()
}

/// Carl's own project, with a resource of his.
async fn with_carbon() -> TestServer {
    let server = TestServer::start().await;
    let carbon = json!({"name": "carbon", "customer": "uni-c"});
    server.post(Who::Carl, "/api/projects/", &carbon).await.expect(201);
    server
}

#[tokio::test]
async fn a_stranger_who_is_named_becomes_pending_and_shows_nothing() {
    let server = with_carbon().await;
    let wanted = json!({"members": ["bob", "bea", "nobody-at-all", "carl"]});
    let changed = server.patch(Who::Carl, &project("carbon"), &wanted).await.expect(200);
    assert_eq!(
        names(&changed["members"]),
        [
            ("bea", "", None, true),
            ("bob", "", None, true),
            ("carl", "Carl C", Some("carl@uni-c.example"), false),
            ("nobody-at-all", "", None, true)
        ]
    );
    let read = server.get(Who::Carl, &project("carbon")).await.expect(200);
    assert_eq!(read["members"], changed["members"]);
    // They have neither the project nor its resources, and are not on its team.
    server.get(Who::Bob, &project("carbon")).await.expect(404);
    let resource = json!({"name": "carbon-hpc2", "offering": "hpc2", "project": "carbon"});
    server.post(Who::Carl, RESOURCES, &resource).await.expect(201);
    let team = server.get(Who::OtherAgent, &format!("{}team/", resource_path("carbon-hpc2"))).await.expect(200);
    assert_eq!(team.as_array().unwrap().iter().map(|p| p["username"].as_str().unwrap()).collect::<Vec<_>>(), ["carl"]);
    // What was read may be sent back, and changes nothing.
    let again = server.patch(Who::Carl, &project("carbon"), &json!({"members": read["members"]})).await;
    let again = again.expect(200);
    assert_eq!(again["members"], read["members"]);
    let staff = server.patch(Who::Staff, &project("carbon"), &json!({"members": read["members"]})).await.expect(200);
    assert!(staff["members"].as_array().unwrap().iter().any(|p| p["username"] == "bob" && p["pending"] == true));
    server.stop().await;
}

#[tokio::test]
async fn a_pending_membership_counts_once_the_person_or_staff_confirms() {
    let server = with_carbon().await;
    server.patch(Who::Carl, &project("carbon"), &json!({"members": ["bob", "bea", "sam"]})).await.expect(200);
    let list = "/api/pending-memberships/";
    let row = async |who: Who, username: &str| {
        let rows = server.get(who, list).await.expect(200);
        let row = rows.as_array().unwrap().iter().find(|row| row["username"] == username).cloned();
        row.map(|row| (row["uuid"].as_str().unwrap().to_owned(), row))
    };
    let (bobs, shown) = row(Who::Bob, "bob").await.unwrap();
    assert_eq!(
        (&shown["project_name"], &shown["customer_name"], &shown["role"]),
        (&json!("carbon"), &json!("University C"), &json!("member"))
    );
    assert!(row(Who::Bob, "bea").await.is_none() && row(Who::Alice, "bob").await.is_none());
    assert!(row(Who::Carl, "bea").await.is_some() && row(Who::Support, "sam").await.is_some());
    let confirm = |uuid: &str| format!("{list}{uuid}/confirm/");
    server.post(Who::Carl, &confirm(&bobs), &json!({})).await.expect(403);
    server.post(Who::Alice, &confirm(&bobs), &json!({})).await.expect(404);
    server.post(Who::Support, &confirm(&bobs), &json!({})).await.expect(403);
    server.post(Who::Bob, &confirm(&bobs), &json!({})).await.expect(200);
    server.get(Who::Bob, &project("carbon")).await.expect(200);
    server.post(Who::Bob, &confirm(&bobs), &json!({})).await.expect(404);
    let (beas, _) = row(Who::Bea, "bea").await.unwrap();
    server.post(Who::Bea, &format!("{list}{beas}/decline/"), &json!({})).await.expect(204);
    let (sams, _) = row(Who::Staff, "sam").await.unwrap();
    server.post(Who::Staff, &confirm(&sams), &json!({"reason": "asked by phone"})).await.expect(200);
    let members = server.get(Who::Carl, &project("carbon")).await.expect(200);
    let now: Vec<_> = names(&members["members"])
        .into_iter()
        .map(|(name, _, email, pending)| (name.to_owned(), email.is_some(), pending))
        .collect();
    assert_eq!(now, [("bob".to_owned(), false, false), ("sam".to_owned(), false, false)]);
    server.stop().await;
}

#[tokio::test]
async fn pending_owners_neither_own_nor_are_told() {
    let server = TestServer::start().await;
    let customer = format!("/api/customers/{}/", id("customer", "uni-c"));
    let changed = server.patch(Who::Carl, &customer, &json!({"owners": ["carl", "bea"]})).await.expect(200);
    assert_eq!(names(&changed["owners"])[0], ("bea", "", None, true));
    server.get(Who::Bea, &customer).await.expect(404);
    server.get(Who::Bea, &format!("/api/marketplace-provider-offerings/{}/", id("offering", "hpc2"))).await.expect(404);
    // A file is the word of staff.
    let owners = server
        .app
        .registry
        .read()
        .customer(sluice::domain::ids::slug_uuid("customer", "uni-c").into())
        .map(|c| c.facts.clone());
    let facts = owners.unwrap();
    assert_eq!((facts.owners.len(), facts.pending.len()), (1, 1));
    server.stop().await;
}

#[tokio::test]
async fn nobody_but_staff_and_the_person_sets_an_address_or_a_full_name() {
    let server = with_carbon().await;
    let path = project("carbon");
    for (person, says) in [
        (json!({"username": "futurestaff", "email": "carl+steal@uni-c.example"}), "email: Only staff"),
        (json!({"username": "futurestaff", "full_name": "The Director"}), "full_name: Only staff"),
        (json!({"username": "bob", "email": "bob@uni-a.example"}), "email: Only staff"),
        (json!({"username": "bob", "full_name": "Bob"}), "full_name: Only staff"),
    ] {
        let refused = server.patch(Who::Carl, &path, &json!({"members": [person]})).await;
        assert!(refused.refusal("members").contains(says), "{person}: {}", refused.text);
    }
    // Nothing is kept of what was refused, nor of a refused list.
    let mixed = json!({"members": ["just-made", {"username": "x", "email": "x@y.example"}]});
    server.patch(Who::Carl, &path, &mixed).await.refusal("members");
    for name in ["futurestaff", "just-made"] {
        assert_eq!(server.get(Who::Staff, &format!("/api/users/?username={name}")).await.expect(200), json!([]));
    }
    let own = json!({"email": "carl@home.example", "full_name": "Carl C."});
    assert_eq!(server.patch(Who::Carl, "/api/users/me/", &own).await.expect(200)["email"], "carl@home.example");
    let seen = server.get(Who::Support, "/api/users/?username=carl").await.expect(200);
    assert_eq!((&seen[0]["email"], &seen[0]["full_name"]), (&json!(""), &json!("Carl C.")));
    let seen = server.get(Who::Staff, "/api/users/?username=carl").await.expect(200);
    assert_eq!(seen[0]["email"], "carl@home.example");
    server.patch(Who::Bob, "/api/users/me/", &json!({"email": "no address"})).await.refusal("email");
    server.stop().await;
}

#[tokio::test]
async fn people_are_seen_by_their_owners_and_by_who_provides_for_them() {
    let server = TestServer::start().await;
    let climate = server.get(Who::Alice, &project("climate")).await.expect(200);
    assert_eq!(names(&climate["members"]), [("bob", "", None, false)]);
    // Of a resource that alice provides: the owner of the other organisation, without an address.
    let team = format!("{}team/", resource_path("bio-hpc1"));
    let of = |who| server.get(who, &team);
    let seen = of(Who::Alice).await.expect(200);
    assert_eq!(
        (&seen[0]["username"], &seen[0]["full_name"], &seen[0]["email"]),
        (&json!("bea"), &json!("Bea B"), &json!(""))
    );
    assert_eq!(of(Who::Agent).await.expect(200)[0]["email"], "");
    assert_eq!(of(Who::Staff).await.expect(200)[0]["email"], "bea@uni-b.example");
    assert_eq!(of(Who::Bea).await.expect(200)[0]["email"], "bea@uni-b.example");
    // So she may name bea as well.
    let named = server.patch(Who::Alice, &project("climate"), &json!({"members": ["bob", "bea"]})).await.expect(200);
    assert_eq!(names(&named["members"])[0], ("bea", "Bea B", None, false));
    // A member sees themselves.
    let own = server.get(Who::Bob, &project("climate")).await.expect(200);
    assert_eq!(names(&own["members"]), [("bob", "", Some("bob@uni-a.example"), false)]);
    let team = server.get(Who::Bob, &format!("{}team/", resource_path("climate-hpc1"))).await.expect(200);
    assert_eq!(team.as_array().unwrap().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_resource_needs_the_right_on_its_project_and_on_its_offering() {
    let server = with_carbon().await;
    let make = |who, offering: &str, project: &str, name: &str| {
        let body = json!({"name": name, "offering": offering, "project": project});
        let server = &server;
        async move { server.post(who, RESOURCES, &body).await }
    };
    let unknown = "Invalid hyperlink - Object does not exist.";
    assert_eq!(make(Who::Carl, "hpc2", "bio", "a").await.refusal("project"), unknown);
    assert_eq!(make(Who::Carl, "hpc2", &id("project", "climate"), "b").await.refusal("project"), unknown);
    assert_eq!(make(Who::Carl, "hpc1", "carbon", "c").await.refusal("offering"), unknown);
    assert_eq!(make(Who::Alice, "hpc1", "bio", "d").await.refusal("project"), unknown);
    make(Who::Carl, "hpc2", "carbon", "e").await.expect(201);
    make(Who::Staff, "hpc2", "bio", "f").await.expect(201);
    server.stop().await;
}

#[tokio::test]
async fn the_people_of_a_resource_see_that_it_is_held_and_why_where_that_is_public() {
    let server = TestServer::start().await;
    let (policy, _) = server.policy(|_| ()).await;
    server.report("climate-hpc1", "10", "2026-03-01").await;
    server.report("bio-hpc1", "10", "2026-03-01").await;
    let holds = format!("{}holds/", resource_path("bio-hpc1"));
    let internal = json!({"kind": "pause", "reason": "we suspect mining", "ticket": "SEC-17"});
    let hold = server.post(Who::Alice, &holds, &internal).await.expect(201);
    assert_eq!((&hold["reason"], &hold["public"]), (&json!("we suspect mining"), &json!(false)));
    let paths = [holds.clone(), format!("{}timeline/", resource_path("bio-hpc1")), format!("{policy}status/")];
    for path in &paths {
        let own = server.get(Who::Bea, path).await;
        own.expect(200);
        assert!(own.text.contains("pause"), "{path}: {}", own.text);
        assert!(!own.text.contains("mining") && !own.text.contains("SEC-17"), "{path}: {}", own.text);
        for who in [Who::Alice, Who::Support] {
            assert!(server.get(who, path).await.text.contains("mining"), "{path}");
        }
    }
    let uuid = hold["uuid"].as_str().unwrap();
    server.delete(Who::Alice, &format!("{holds}{uuid}/?reason=mining+is+not+it")).await.expect(204);
    assert!(!server.get(Who::Bea, &paths[1]).await.text.contains("mining"));
    let public = json!({"kind": "pause", "reason": "maintenance on Monday", "public": true});
    server.post(Who::Alice, &holds, &public).await.expect(201);
    for path in &paths {
        assert!(server.get(Who::Bea, path).await.text.contains("maintenance on Monday"), "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_question_about_an_organisation_that_one_does_not_see_has_no_answer() {
    let server = TestServer::start().await;
    let ask = |who, offering: &str, customer: &str| {
        let path = format!(
            "/api/marketplace-provider-offerings/{}/creation-allowed/?customer_uuid={}",
            id("offering", offering),
            id("customer", customer)
        );
        let server = &server;
        async move { server.get(who, &path).await }
    };
    ask(Who::Alice, "hpc1", "uni-b").await.expect(200);
    assert_eq!(ask(Who::Alice, "hpc1", "uni-c").await.refusal("customer_uuid"), "There is no such customer.");
    ask(Who::Bea, "hpc1", "uni-b").await.expect(200);
    server.stop().await;
}
