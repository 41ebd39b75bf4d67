//! Organisations, groups, projects, offerings, providers.

use serde_json::json;

use crate::support::server::{TestServer, Who, dashed, id};

#[tokio::test]
async fn staff_register_a_whole_site_over_http() {
    let server = TestServer::start().await;
    let group =
        server.post(Who::Staff, "/api/organization-groups/", &json!({"name": "Research Consortium"})).await.expect(201);
    assert_eq!(
        (&group["slug"], &group["uuid"]),
        (&json!("research-consortium"), &json!(id("organization_group", "research-consortium")))
    );
    let customer = json!({"name": "University D", "slug": "uni-d", "organization_groups": [group["url"]], "owners": [{"username": "dora", "email": "dora@uni-d.example"}]});
    let customer = server.post(Who::Staff, "/api/customers/", &customer).await.expect(201);
    assert_eq!(customer["organization_groups"][0]["name"], "Research Consortium");
    assert_eq!(
        (&customer["owners"][0]["username"], &customer["owners"][0]["email"]),
        (&json!("dora"), &json!("dora@uni-d.example"))
    );
    let project = server
        .post(
            Who::Staff,
            "/api/projects/",
            &json!({"name": "Physics", "customer": customer["url"], "members": ["dora"]}),
        )
        .await
        .expect(201);
    assert_eq!((&project["customer_slug"], &project["members"][0]["username"]), (&json!("uni-d"), &json!("dora")));
    let offering = json!({"slug": "hpc9", "name": "Nine", "customer": "uni-d", "components": [{"type": "cpu", "limit_period": "month", "minutes_per_unit": "30"}], "qos": {"paused": "stop"}, "slurm_clusters": ["nine", "ten"]});
    let offering = server.post(Who::Staff, "/api/marketplace-provider-offerings/", &offering).await.expect(201);
    assert_eq!(
        (&offering["components"][0]["type"], &offering["components"][0]["minutes_per_unit"]),
        (&json!("cpu"), &json!(30))
    );
    assert_eq!(offering["qos"], json!({"default": "normal", "downscaled": "slowdown", "paused": "stop"}));
    assert_eq!(offering["slurm_clusters"], json!(["nine", "ten"]));
    let path = format!("/api/marketplace-provider-offerings/{}/", id("offering", "hpc9"));
    let changed = server.patch(Who::Staff, &path, &json!({"slurm_clusters": ["nine"]})).await.expect(200);
    assert_eq!(changed["slurm_clusters"], json!(["nine"]));
    for wrong in [json!(["a", "A"]), json!(["all"]), json!(["a b"]), json!("nine"), json!([""])] {
        server.patch(Who::Staff, &path, &json!({"slurm_clusters": wrong})).await.refusal("slurm_clusters");
    }
    let emptied = server.patch(Who::Staff, &path, &json!({"slurm_clusters": []})).await.expect(200);
    assert_eq!(emptied["slurm_clusters"], json!([]));
    let resource = json!({"name": "physics on nine", "offering": offering["uuid"], "project": project["url"], "limits": {"cpu": 12.5}, "backend_id": "phys"});
    let resource = server.post(Who::Staff, "/api/marketplace-provider-resources/", &resource).await.expect(201);
    assert_eq!(
        (&resource["limits"], &resource["customer_uuid"], &resource["state"]),
        (&json!({"cpu": 12.5}), &customer["uuid"], &json!("OK"))
    );
    for (path, body, field) in [
        ("/api/customers/", json!({"name": "University D", "slug": "uni-d"}), "slug"),
        ("/api/customers/", json!({}), "name"),
        ("/api/projects/", json!({"name": "X", "customer": "nobody"}), "customer"),
        (
            "/api/marketplace-provider-offerings/",
            json!({"name": "X", "customer": "uni-d", "components": [{"type": "a", "limit_period": "weekly"}]}),
            "components",
        ),
        (
            "/api/marketplace-provider-resources/",
            json!({"name": "X", "offering": "hpc9", "project": "climate", "limits": {"gpu": 1}}),
            "limits",
        ),
        ("/api/organization-groups/", json!({"name": "", "slug": "a b"}), "slug"),
    ] {
        server.post(Who::Staff, path, &body).await.refusal(field);
    }
    server.stop().await;
}

#[tokio::test]
async fn owners_change_what_is_theirs() {
    let server = TestServer::start().await;
    let customer = format!("/api/customers/{}/", dashed("customer", "uni-a"));
    assert_eq!(
        server.patch(Who::Alice, &customer, &json!({"name": "University Alpha"})).await.expect(200)["name"],
        "University Alpha"
    );
    server.patch(Who::Alice, &customer, &json!({"organization_groups": []})).await.expect(403);
    server.patch(Who::Bob, &customer, &json!({"name": "Mine"})).await.expect(403);
    server.patch(Who::Bea, &customer, &json!({"name": "Mine"})).await.expect(404);
    let offering = format!("/api/marketplace-provider-offerings/{}/", id("offering", "hpc1"));
    assert_eq!(
        server.patch(Who::Alice, &offering, &json!({"name": "Cluster One"})).await.expect(200)["name"],
        "Cluster One"
    );
    server.patch(Who::Agent, &offering, &json!({"name": "Mine"})).await.expect(403);
    server
        .post(Who::Alice, "/api/projects/", &json!({"name": "Elsewhere", "customer": "uni-b"}))
        .await
        .refusal("customer");
    server.post(Who::Alice, "/api/projects/", &json!({"name": "At home", "customer": "uni-a"})).await.expect(201);
    server.patch(Who::Alice, &customer, &json!({"slug": "other"})).await.refusal("slug");
    server.stop().await;
}

#[tokio::test]
async fn lists_show_what_concerns_the_caller() {
    let server = TestServer::start().await;
    let slugs = async |who, path: &str| -> Vec<String> {
        let rows = server.get(who, path).await.expect(200);
        rows.as_array().unwrap().iter().map(|row| row["slug"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(slugs(Who::Staff, "/api/customers/").await, ["uni-a", "uni-b", "uni-c"]);
    assert_eq!(slugs(Who::Bea, "/api/customers/").await, ["uni-b"]);
    assert_eq!(slugs(Who::Bob, "/api/customers/").await, ["uni-a"]);
    assert_eq!(slugs(Who::Staff, "/api/customers/?name=university%20b").await, ["uni-b"]);
    assert_eq!(slugs(Who::Bob, "/api/projects/").await, ["climate"]);
    assert_eq!(slugs(Who::Bea, "/api/marketplace-provider-offerings/").await, [] as [&str; 0]);
    assert_eq!(slugs(Who::Agent, "/api/marketplace-provider-offerings/").await, ["hpc1"]);
    assert_eq!(slugs(Who::Carl, "/api/organization-groups/").await, ["research"]);
    let head = server.head(Who::Staff, "/api/customers/?page_size=1").await;
    assert_eq!((head.header("x-result-count"), head.text.as_str()), ("3", ""));
    let providers = server
        .get(
            Who::Agent,
            &format!("/api/marketplace-service-providers/?customer_uuid={}&field=uuid", dashed("customer", "uni-a")),
        )
        .await
        .expect(200);
    assert_eq!((providers.as_array().unwrap().len(), providers[0].as_object().unwrap().len()), (1, 1));
    server.stop().await;
}

#[tokio::test]
async fn a_component_is_added_and_changed_on_its_own_and_an_agent_may_say_what_is_so() {
    let server = TestServer::start().await;
    let offering = format!("/api/marketplace-provider-offerings/{}/", id("offering", "hpc1"));
    let (create, update) =
        (format!("{offering}create_offering_component/"), format!("{offering}update_offering_component/"));
    let components = async || server.get(Who::Staff, &offering).await.expect(200)["components"].clone();
    let before = components().await;
    let known = &before[0];
    // What the agent's own command sends, with what its configuration says: it accounts by usage.
    let said = json!({
        "uuid": known["uuid"], "billing_type": "usage", "type": known["type"], "name": known["name"],
        "measured_unit": known["measured_unit"], "limit_amount": null, "limit_period": known["limit_period"],
        "is_boolean": false, "description": "", "unit_factor": 1,
    });
    let answer = server.post(Who::Agent, &update, &said).await.expect(200);
    assert_eq!((&answer["status"], &answer["component"]), (&json!("nothing changes"), known));
    let mut other = said.clone();
    other["name"] = json!("Core hours");
    other["measured_unit"] = json!("days");
    let refused = server.post(Who::Agent, &update, &other).await.expect(403)["detail"].clone();
    assert!(refused.as_str().unwrap().contains("(measured_unit, name)"), "{refused}");
    let new = json!({"type": "gpu", "name": "GPU", "billing_type": "limit", "measured_unit": "hours", "slurm_tres": "gres/gpu"});
    server.post(Who::Agent, &create, &new).await.expect(403);
    assert_eq!(components().await, before);

    // Whoever offers it changes it, with a reason that stays.
    other["billing_type"] = json!("limit");
    other["reason"] = json!("a better name");
    let changed = server.post(Who::Alice, &update, &other).await.expect(200);
    assert_eq!((&changed["status"], &changed["component"]["name"]), (&json!("changed"), &json!("Core hours")));
    assert_eq!(changed["component"]["slurm_tres"], known["slurm_tres"], "what is left out stays");
    let made = server.post(Who::Alice, &create, &new).await.expect(201);
    assert_eq!((&made["status"], &made["component"]["slurm_tres"]), (&json!("added"), &json!("gres/gpu")));
    let after = components().await;
    assert_eq!(after.as_array().unwrap().len(), before.as_array().unwrap().len() + 1);
    assert_eq!(&after[0], &changed["component"]);
    let log = server.get(Who::Staff, "/api/events/?type=offering_changed").await.expect(200);
    assert_eq!(log[0]["reason"], "a better name");

    // What would be lost, and what cannot be, is refused by name.
    for (field, value) in [
        ("limit_amount", json!(10)),
        ("max_value", json!(5.5)),
        ("is_prepaid", json!(true)),
        ("description", json!("words")),
        ("unit_factor", json!(60)),
        ("surprise", json!("x")),
        ("billing_type", json!("weekly")),
        ("limit_period", json!("weekly")),
        ("type", json!("other")),
        ("uuid", json!(dashed("offering", "hpc1"))),
    ] {
        let mut body = said.clone();
        body[field] = value;
        server.post(Who::Alice, &update, &body).await.refusal(field);
    }
    server.post(Who::Alice, &update, &json!({"name": "x"})).await.refusal("uuid");
    server.post(Who::Alice, &create, &new).await.refusal("type");
    server.post(Who::Alice, &create, &json!({"name": "x"})).await.refusal("type");
    assert_eq!(components().await, after);
    server.stop().await;
}

#[tokio::test]
async fn limits_have_no_more_decimal_places_than_their_component_allows() {
    let server = TestServer::start().await;
    let offerings = "/api/marketplace-provider-offerings/";
    let body = |places: serde_json::Value| json!({"slug": "whole", "name": "Whole", "customer": "uni-a", "components": [{"type": "cpu", "limit_decimal_places": places}]});
    for (places, part) in [(json!(-1), "0 to 12"), (json!(13), "13"), (json!(1.5), "1.5"), (json!("two"), "two")] {
        let message = server.post(Who::Staff, offerings, &body(places)).await.refusal("components");
        assert!(message.contains("limit_decimal_places") && message.contains(part), "{message}");
    }
    let offering = server.post(Who::Staff, offerings, &body(json!(1))).await.expect(201);
    assert_eq!(offering["components"][0]["limit_decimal_places"], 1);
    // What an answer showed may be sent back.
    let same = json!({"components": offering["components"]});
    let path = format!("{offerings}{}/", offering["uuid"].as_str().unwrap());
    assert_eq!(server.patch(Who::Staff, &path, &same).await.expect(200)["components"], offering["components"]);
    let strange = json!({"components": [{"type": "cpu", "limit_decimals": 1}]});
    let message = server.patch(Who::Staff, &path, &strange).await.refusal("components");
    assert!(message.contains("limit_decimals") && message.contains("limit_decimal_places"), "{message}");
    let resources = "/api/marketplace-provider-resources/";
    let resource = |limit: &str| json!({"name": "r", "slug": "r-whole", "offering": "whole", "project": "climate", "limits": {"cpu": limit}});
    let message = server.post(Who::Staff, resources, &resource("10.25")).await.text;
    assert!(message.contains("10.25") && message.contains("limit_decimal_places"), "{message}");
    let made = server.post(Who::Staff, resources, &resource("10.50")).await.expect(201);
    let path = format!("{resources}{}/", made["uuid"].as_str().unwrap());
    assert_eq!(server.patch(Who::Staff, &path, &json!({"limits": {"cpu": "0.125"}})).await.status, 400);
    server.patch(Who::Staff, &path, &json!({"limits": {"cpu": "0.1"}})).await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn an_id_is_that_of_one_object_whatever_its_kind() {
    let server = TestServer::start().await;
    let collections = [
        ("/api/organization-groups/", json!({"name": "X"})),
        ("/api/customers/", json!({"name": "X"})),
        ("/api/projects/", json!({"name": "X", "customer": "uni-a"})),
        ("/api/marketplace-provider-offerings/", json!({"name": "X", "customer": "uni-a"})),
        ("/api/marketplace-provider-resources/", json!({"name": "X", "project": "climate", "offering": "hpc1"})),
    ];
    let taken = [
        ("organization_group", "research"),
        ("customer", "uni-a"),
        ("project", "climate"),
        ("offering", "hpc1"),
        ("resource", "climate-hpc1"),
    ];
    for (path, body) in &collections {
        for (kind, slug) in taken {
            let mut body = body.clone();
            body["uuid"] = json!(dashed(kind, slug));
            let refused = server.post(Who::Staff, path, &body).await.expect(400);
            let said = refused["uuid"].as_array().or(refused["slug"].as_array()).unwrap_or_else(|| panic!("{refused}"));
            assert!(said[0].as_str().unwrap().contains(&id(kind, slug)), "{path} {kind}: {refused}");
        }
    }
    let policy = json!({"uuid": dashed("offering", "hpc1"), "scope": "hpc1", "apply_to_all": true,
        "actions": "notify_organization_owners", "component_limits_set": []});
    let said = server.post(Who::Staff, crate::support::server::POLICIES, &policy).await.refusal("uuid");
    assert!(said.contains("is the id of another object already"), "{said}");
    for (path, _) in collections {
        server.get(Who::Staff, path).await.expect(200);
    }
    // Nor does it change; whoever sends back what they were shown changes nothing.
    let path = format!("/api/projects/{}/", id("project", "climate"));
    let shown = server.get(Who::Staff, &path).await.expect(200);
    server.patch(Who::Staff, &path, &json!({"uuid": shown["uuid"], "slug": shown["slug"]})).await.expect(200);
    let other = json!({"uuid": dashed("project", "bio")});
    let said = server.patch(Who::Staff, &path, &other).await.refusal("uuid");
    assert!(said.contains("An id does not change"), "{said}");
    server.stop().await;
}
