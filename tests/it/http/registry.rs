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
    let offering = json!({"slug": "hpc9", "name": "Nine", "customer": "uni-d", "components": [{"type": "cpu", "limit_period": "month", "minutes_per_unit": "30"}], "qos": {"paused": "stop"}});
    let offering = server.post(Who::Staff, "/api/marketplace-provider-offerings/", &offering).await.expect(201);
    assert_eq!(
        (&offering["components"][0]["type"], &offering["components"][0]["minutes_per_unit"]),
        (&json!("cpu"), &json!(30))
    );
    assert_eq!(offering["qos"], json!({"default": "normal", "downscaled": "slowdown", "paused": "stop"}));
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
