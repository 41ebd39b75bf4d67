//! Every field of every body of the API's description: what refers to an object, with one that belongs to others, by every
//! role; and what does not, with a text that cannot be seen.
//!
//! The table (`tests/golden/references.txt`) is written by hand and says what each field is: a field without a line fails, and
//! so does a line without a field.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::server::{POLICIES, RESOURCES, TestServer, Who, dashed, id};

const EXPECTED: &str = include_str!("../../golden/references.txt");

/// Everybody who is not staff.
const CALLERS: [Who; 7] = [Who::Support, Who::Alice, Who::Bea, Who::Carl, Who::Bob, Who::Agent, Who::OtherAgent];

/// A text that nobody can have meant.
const NASTY: &str = "a\u{202e}b\u{1b}[2J";

/// What a field is, by the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A text, number, date or word: what cannot be seen is refused.
    Plain,
    /// What a tool of an agent printed: kept with marks.
    Cleaned,
    /// Read and not kept.
    Unread,
    /// An object of others, by each of its spellings.
    Reference(&'static str),
    /// The id or slug that something new is to have, or has: of that kind there is one with it. Names are unique, so the
    /// answer says that it is taken.
    Own(&'static str),
}

impl Kind {
    /// The kind of object that it names.
    fn named(self) -> Option<&'static str> {
        match self {
            Self::Reference(kind) | Self::Own(kind) => Some(kind),
            Self::Plain | Self::Cleaned | Self::Unread => None,
        }
    }

    fn read(word: &str) -> Option<Self> {
        let kinds = [
            "customer",
            "project",
            "offering",
            "resource",
            "group",
            "user",
            "dispatch",
            "policy",
            "agent",
            "component",
        ];
        Some(match word {
            "plain" => Self::Plain,
            "cleaned" => Self::Cleaned,
            "unread" => Self::Unread,
            word => match word.strip_prefix("own:") {
                Some(word) => Self::Own(kinds.into_iter().find(|kind| *kind == word)?),
                None => Self::Reference(kinds.into_iter().find(|kind| *kind == word)?),
            },
        })
    }
}

/// A line of the table.
struct Line {
    operation: String,
    field: String,
    kind: Kind,
}

fn table() -> Vec<Line> {
    let lines = EXPECTED.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let read = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [method, path, field, kind] = &words[..] else {
            panic!("{line}: a method, a path, a field and a kind are expected")
        };
        let kind = Kind::read(kind).unwrap_or_else(|| panic!("{line}: there is no kind {kind}"));
        Line { operation: format!("{method} {path}"), field: (*field).to_owned(), kind }
    };
    lines.map(read).collect()
}

/// The leaves of a schema, as paths: `owners[].username`.
fn leaves(schema: &Value, all: &Value, path: &str, found: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        return leaves(&all["components"]["schemas"][name.rsplit('/').next().unwrap()], all, path, found);
    }
    let mut parts = false;
    for word in ["oneOf", "anyOf", "allOf"] {
        for part in schema[word].as_array().into_iter().flatten().filter(|part| part["type"] != "null") {
            parts = true;
            leaves(part, all, path, found);
        }
    }
    if let Some(properties) = schema["properties"].as_object() {
        for (name, schema) in properties {
            let dot = if path.is_empty() { "" } else { "." };
            leaves(schema, all, &format!("{path}{dot}{name}"), found);
        }
    } else if schema.get("items").is_some() {
        leaves(&schema["items"], all, &format!("{path}[]"), found);
    } else if schema["additionalProperties"].is_object() {
        leaves(&schema["additionalProperties"], all, &format!("{path}{{}}"), found);
    } else if !parts && !path.is_empty() && !of_numbers(schema) {
        found.insert(path.to_owned());
    }
}

/// Numbers and truth values refer to nothing and hold no text.
fn of_numbers(schema: &Value) -> bool {
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => return false,
    };
    types.iter().all(|kind| ["number", "integer", "boolean", "null"].contains(kind))
}

/// Every operation with a body, and the leaves of it.
async fn described(server: &TestServer) -> BTreeMap<String, BTreeSet<String>> {
    let schema = server.get(Who::Anonymous, "/api/schema/").await.expect(200);
    let mut found = BTreeMap::new();
    for (path, item) in schema["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            for content in operation["requestBody"]["content"].as_object().into_iter().flat_map(|c| c.values()) {
                let mut fields = BTreeSet::new();
                leaves(&content["schema"], &schema, "", &mut fields);
                found.insert(format!("{} {path}", method.to_uppercase()), fields);
            }
        }
    }
    found
}

/// A site on which each owner has something of every kind, and `uni-x`, with which no caller has anything to do.
async fn furnished() -> TestServer {
    let server = TestServer::start().await;
    let make = async |path: &str, body: Value| server.post(Who::Staff, path, &body).await.expect(201);
    let owners = json!([{"username": "xena", "email": "xena@uni-x.example", "full_name": "Xena X"}]);
    make("/api/customers/", json!({"name": "uni-x", "owners": owners})).await;
    make("/api/organization-groups/", json!({"name": "secret"})).await;
    make("/api/projects/", json!({"name": "xprob", "customer": "uni-x"})).await;
    make("/api/projects/", json!({"name": "carbon", "customer": "uni-c"})).await;
    let component = json!([{"type": "node_hours"}]);
    make("/api/marketplace-provider-offerings/", json!({"name": "hpcx", "customer": "uni-x", "components": component}))
        .await;
    make(RESOURCES, json!({"name": "x-hpcx", "offering": "hpcx", "project": "xprob"})).await;
    make(RESOURCES, json!({"name": "carbon-hpc2", "offering": "hpc2", "project": "carbon"})).await;
    for offering in ["hpc1", "hpc2", "hpcx"] {
        let mut body = server.policy_body();
        body["scope"] = json!(offering);
        body["slug"] = json!(format!("on-{offering}"));
        make(POLICIES, body).await;
    }
    server.report("climate-hpc1", "10", "2026-03-01").await;
    let later = json!({"now": "2026-03-15T12:10:00Z"});
    server.put(Who::Staff, "/api/simulation/clock/", &later).await.expect(200);
    let path = format!("/api/projects/{}/", id("project", "climate"));
    server.patch(Who::Alice, &path, &json!({"members": ["bob", "nobody", "nobody-else"]})).await.expect(200);
    let identity = json!({"offering": id("offering", "hpc1"), "name": "agent"});
    let identity = server.post(Who::Agent, "/api/marketplace-site-agent-identities/", &identity).await.expect(201);
    let place = format!("/api/marketplace-site-agent-identities/{}/", identity["uuid"].as_str().unwrap());
    server.post(Who::Agent, &format!("{place}register_service/"), &json!({"name": "report"})).await.expect(201);
    let subscription = json!({"observable_object_type": "resource"});
    server.post(Who::Agent, &format!("{place}register_event_subscription/"), &subscription).await.expect(201);
    make("/api/marketplace-site-agent-identities/", json!({"offering": "hpcx", "name": "agent"})).await;
    // Nobody listens there; what is sent waits.
    make("/api/event-consumers/register_webhook/", json!({"webhook_url": "http://127.0.0.1:9/"})).await;
    server
}

/// What a caller works with: their own where they own something, else the provider's.
fn own(who: Who) -> [(&'static str, &'static str); 5] {
    match who {
        Who::Bea => [
            ("customer", "uni-b"),
            ("project", "bio"),
            ("offering", "hpc1"),
            ("resource", "bio-hpc1"),
            ("policy", "on-hpc1"),
        ],
        Who::Carl | Who::OtherAgent => [
            ("customer", "uni-c"),
            ("project", "carbon"),
            ("offering", "hpc2"),
            ("resource", "carbon-hpc2"),
            ("policy", "on-hpc2"),
        ],
        _ => [
            ("customer", "uni-a"),
            ("project", "climate"),
            ("offering", "hpc1"),
            ("resource", "climate-hpc1"),
            ("policy", "on-hpc1"),
        ],
    }
}

fn own_slug(who: Who, kind: &str) -> &'static str {
    own(who).into_iter().find(|(known, _)| *known == kind).map(|(_, slug)| slug).unwrap()
}

/// A body that the operation takes, about what the caller works with; `no` makes new things new.
fn body(operation: &str, who: Who, no: usize) -> Value {
    let mine = |kind| own_slug(who, kind);
    let name = format!("new-{no}");
    match operation {
        "POST /api/customers/"
        | "POST /api/organization-groups/"
        | "POST /api/marketplace-site-agent-identities/{uuid}/register_service/" => json!({"name": name}),
        "POST /api/projects/" => json!({"name": name, "customer": mine("customer")}),
        "POST /api/marketplace-provider-offerings/" => {
            json!({"name": name, "customer": mine("customer"), "components": [{"type": "node_hours"}]})
        }
        "POST /api/marketplace-provider-resources/" => {
            json!({"name": name, "offering": mine("offering"), "project": mine("project")})
        }
        "POST /api/marketplace-provider-resources/{uuid}/holds/" => json!({"kind": "exemption", "reason": "audit"}),
        "POST /api/marketplace-provider-resources/{uuid}/set_backend_metadata/" => json!({"backend_metadata": {}}),
        "POST /api/marketplace-site-agent-identities/" => json!({"offering": mine("offering"), "name": name}),
        "PUT /api/marketplace-site-agent-identities/{uuid}/" => json!({"offering": mine("offering"), "name": "agent"}),
        "POST /api/marketplace-site-agent-identities/{uuid}/register_event_subscription/" => {
            json!({"observable_object_type": "resource"})
        }
        "POST /api/marketplace-site-agent-identities/{uuid}/register_queue/" => json!({"object_types": ["resource"]}),
        "POST /api/marketplace-site-agent-services/{uuid}/register_processor/" => {
            json!({"name": name, "backend_type": "slurm"})
        }
        "POST /api/event-subscriptions/{uuid}/create_queue/" => {
            json!({"object_type": "resource", "offering_uuid": id("offering", mine("offering"))})
        }
        "POST /api/marketplace-component-usages/set_usage/" => {
            json!({"resource": id("resource", mine("resource")), "usages": [{"type": "node_hours", "amount": "1"}]})
        }
        "POST /api/marketplace-component-usages/{uuid}/set_user_usages/"
        | "POST /api/marketplace-component-usages/{uuid}/set_user_usage/" => {
            json!({"usages": [{"username": "bob", "usage": "1"}]})
        }
        "POST /api/marketplace-slurm-periodic-usage-policies/"
        | "PUT /api/marketplace-slurm-periodic-usage-policies/{uuid}/" => {
            json!({"scope": mine("offering"), "actions": "notify_organization_owners", "apply_to_all": true,
                "component_limits_set": []})
        }
        "POST /api/marketplace-slurm-periodic-usage-policies/{uuid}/report-command-result/" => {
            json!({"resource_uuid": id("resource", mine("resource")), "success": true})
        }
        "POST /api/marketplace-provider-offerings/{uuid}/create_offering_component/" => json!({"type": name}),
        "POST /api/marketplace-provider-offerings/{uuid}/update_offering_component/" => {
            json!({"uuid": id("component", &format!("{}/node_hours", id("offering", mine("offering"))))})
        }
        "POST /api/marketplace-site-agent-logs/" => {
            let agent = id("agent", &format!("{}/agent", id("offering", mine("offering"))));
            json!([{"agent_identity_uuid": agent, "timestamp": 1_773_576_000, "level": "INFO", "message": "m", "module": "x"}])
        }
        "POST /api/accounts-left-restricted/freed/" => {
            json!({"offering_uuid": id("offering", mine("offering")), "account": "acct"})
        }
        "POST /api/event-consumers/register_webhook/" => json!({"webhook_url": "http://127.0.0.1:9/"}),
        "PUT /api/simulation/clock/" => json!({"now": "2026-03-15T12:10:00Z"}),
        "POST /api/tokens/" => json!({"username": "somebody", "role": "member"}),
        _ => json!({}),
    }
}

/// Puts a value at a path of a body, where others stand beside it as they were.
fn put(body: &mut Value, path: &str, value: &Value) {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let (name, form) = match first.find(['[', '{']) {
        Some(at) => first.split_at(at),
        None => (first, ""),
    };
    let place = if name.is_empty() { body } else { &mut body[name] };
    match (form, rest) {
        ("[]", "") => *place = json!([value]),
        ("[]", rest) => {
            if !place[0].is_object() {
                *place = json!([{}]);
            }
            put(&mut place[0], rest, value);
        }
        ("{}", _) => *place = json!({"node_hours": value}),
        (_, "") => *place = value.clone(),
        (_, rest) => {
            if !place.is_object() {
                *place = json!({});
            }
            put(place, rest, value);
        }
    }
}

/// What has to stand beside a field for a body to be whole.
fn whole(body: &mut Value, field: &str, who: Who) {
    for list in ["owners", "members"] {
        if field.starts_with(list) && body[list][0].is_object() && body[list][0]["username"].is_null() {
            body[list][0]["username"] = json!("bob");
        }
    }
    // Who gives up an organisation has nothing to change any more.
    let me = match who {
        Who::Alice => "alice",
        Who::Bea => "bea",
        _ => "carl",
    };
    if let Some(owners) = body["owners"].as_array().filter(|_| field.starts_with("owners")) {
        body["owners"] = owners.iter().cloned().chain([json!(me)]).collect();
    }
    if body["components"][0].is_object() && body["components"][0]["type"].is_null() {
        body["components"][0]["type"] = json!("node_hours");
    }
    if field == "offering" && body["role"] == "member" {
        body["role"] = json!("agent");
    }
    if field.starts_with("organization_groups") {
        body["apply_to_all"] = json!(false);
    }
}

/// How something that belongs to `uni-x` is named, and how something that is not there.
fn spellings(kind: &str, server: &TestServer) -> (Vec<Value>, Vec<Value>) {
    let (slug, collection) = match kind {
        "customer" => ("uni-x", "customers"),
        "project" => ("xprob", "projects"),
        "offering" => ("hpcx", "marketplace-provider-offerings"),
        "resource" => ("x-hpcx", "marketplace-provider-resources"),
        "group" => ("secret", "organization-groups"),
        "policy" => ("on-hpcx", "marketplace-slurm-periodic-usage-policies"),
        "agent" => ("hpcx", "marketplace-site-agent-identities"),
        "component" => ("hpcx", "components"),
        _ => ("xena", "users"),
    };
    let of = |slug: &str| {
        let word = if kind == "group" { "organization_group" } else { kind };
        // These are known by their offering and a name.
        let name = match kind {
            "agent" => format!("{}/agent", id("offering", slug)),
            "component" => format!("{}/node_hours", id("offering", slug)),
            _ => slug.to_owned(),
        };
        let mut named = vec![json!(id(word, &name)), json!(dashed(word, &name))];
        named.push(json!(server.url(&format!("/api/{collection}/{}/", id(word, &name)))));
        if !["resource", "dispatch", "agent", "component"].contains(&kind) {
            named.push(json!(slug));
        }
        named
    };
    (of(slug), of("nothing-of-this-name"))
}

/// The path with the caller's own ids in it.
async fn filled(server: &TestServer, who: Who, path: &str) -> String {
    let mut whole = String::new();
    for part in path.split_inclusive('/') {
        if !part.starts_with('{') {
            whole.push_str(part);
            continue;
        }
        let kind = match whole.as_str() {
            "/api/customers/" => Some("customer"),
            "/api/projects/" => Some("project"),
            "/api/marketplace-provider-offerings/" => Some("offering"),
            RESOURCES => Some("resource"),
            POLICIES => Some("policy"),
            "/api/marketplace-site-agent-identities/" => Some("agent"),
            _ => None,
        };
        let id = match kind {
            Some("agent") => id("agent", &format!("{}/agent", id("offering", own_slug(who, "offering")))),
            Some(kind) => id(kind, own_slug(who, kind)),
            None => {
                let rows = server.get(Who::Staff, &whole).await.text;
                let rows: Value = serde_json::from_str(&rows).unwrap_or_default();
                rows[0]["uuid"].as_str().map_or_else(|| id("nothing", "there"), str::to_owned)
            }
        };
        whole.push_str(&id);
        whole.push_str(part.split_once('}').unwrap().1);
    }
    whole
}

async fn call(server: &TestServer, who: Who, operation: &str, body: &Value) -> (u16, String) {
    let (method, path) = operation.split_once(' ').unwrap();
    let path = filled(server, who, path).await;
    let method: Method = method.parse().unwrap();
    let answer = server.send(who, method, &path, &[], Some(body.to_string())).await;
    (answer.status.as_u16(), answer.text)
}

/// An answer without what was named in it.
fn plain(text: &str, named: &Value) -> String {
    text.replace(named.as_str().unwrap_or_default(), "…")
}

#[tokio::test]
async fn the_table_has_every_field_of_every_body() {
    let server = TestServer::start().await;
    let described = described(&server).await;
    let lines = table();
    let known: BTreeSet<(String, String)> =
        lines.iter().map(|line| (line.operation.clone(), line.field.clone())).collect();
    assert_eq!(known.len(), lines.len(), "a field has one line");
    let mut found = BTreeSet::new();
    for (operation, fields) in described {
        found.extend(fields.into_iter().map(|field| (operation.clone(), field)));
    }
    let missing: Vec<_> = found.difference(&known).collect();
    let gone: Vec<_> = known.difference(&found).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "tests/golden/references.txt does not have the fields of the API.\nWithout a line:\n{missing:#?}\nWithout a field:\n{gone:#?}"
    );
    server.stop().await;
}

/// What a caller is answered who names something of others, and who names nothing, by each spelling.
async fn answers(server: &TestServer, who: Who, line: &Line, no: &mut usize) -> Vec<[(u16, String); 2]> {
    let (theirs, nothing) = spellings(line.kind.named().unwrap_or_default(), server);
    let mut found = Vec::new();
    for (theirs, nothing) in theirs.iter().zip(&nothing) {
        // What would be made under that name would be there from then on.
        let nothing = if matches!(line.kind, Kind::Own(_)) { theirs } else { nothing };
        let mut pair = Vec::new();
        for named in [theirs, nothing] {
            *no += 1;
            let mut sent = body(&line.operation, who, *no);
            put(&mut sent, &line.field, named);
            whole(&mut sent, &line.field, who);
            let (status, text) = call(server, who, &line.operation, &sent).await;
            assert!(status < 500, "{who:?} {} {}: {text}", line.operation, line.field);
            pair.push((status, plain(&text, named)));
        }
        found.push(pair.try_into().expect("one for theirs and one for nothing"));
    }
    found
}

#[tokio::test]
async fn a_reference_to_what_others_have_is_answered_as_one_to_nothing() {
    let lines: Vec<Line> = table().into_iter().filter(|line| line.kind.named().is_some()).collect();
    let mut wrong = Vec::new();
    for who in CALLERS {
        let (server, mut no) = (furnished().await, 0);
        for line in &lines {
            for [theirs, nothing] in answers(&server, who, line, &mut no).await {
                // Groups are seen by everybody, and support sees everything; that an id or slug is taken is no secret.
                let same = match line.kind {
                    Kind::Reference("group") | Kind::Own(_) => theirs.0 != 500,
                    // Whom one may name whether they exist or not becomes pending; who it is, the answer does not say.
                    Kind::Reference("user") => {
                        theirs.0 == nothing.0 && !theirs.1.contains("Xena") && !theirs.1.contains("xena@")
                    }
                    // Kept as it came, with a report that answers nothing.
                    Kind::Reference("dispatch") => theirs == nothing,
                    // The answer quotes a part of the name.
                    Kind::Reference("component") => theirs.0 >= 400 && theirs.0 == nothing.0,
                    _ if who == Who::Support => theirs.0 != 201,
                    _ => theirs.0 >= 400 && theirs == nothing,
                };
                if !same {
                    wrong.push(format!(
                        "{who:?} {} {}: {theirs:?}, and of nothing {nothing:?}",
                        line.operation, line.field
                    ));
                }
            }
        }
        server.app.settle().await.unwrap();
        server.stop().await;
    }
    assert!(wrong.is_empty(), "a reference opens, or tells, more than it should:\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_staff_names_is_found() {
    // So that what others are refused is refused for what they named, and not for the rest of the body.
    let (server, mut no, mut wrong) = (furnished().await, 0, Vec::new());
    let found_nowhere_else = ["user", "dispatch", "component"];
    // These look in the policy's offering, the agent's, or among accounts that nobody has, and nowhere else.
    let elsewhere = ["/dry-run/", "/evaluate/", "/force-period-reset/", "/create_queue/", "/freed/"];
    for line in table().iter().filter(|line| line.operation.starts_with("POST")) {
        let Kind::Reference(kind) = line.kind else { continue };
        if found_nowhere_else.contains(&kind) || elsewhere.iter().any(|end| line.operation.ends_with(end)) {
            continue;
        }
        let pairs = answers(&server, Who::Staff, line, &mut no).await;
        if pairs.iter().all(|[theirs, nothing]| theirs == nothing) {
            wrong.push(format!("{} {}: {pairs:?}", line.operation, line.field));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    server.app.settle().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn no_field_takes_what_cannot_be_seen() {
    let server = furnished().await;
    let mut wrong = Vec::new();
    for (no, line) in table().iter().enumerate() {
        let mut sent = body(&line.operation, Who::Staff, no);
        put(&mut sent, &line.field, &json!(NASTY));
        whole(&mut sent, &line.field, Who::Staff);
        let (status, text) = call(&server, Who::Staff, &line.operation, &sent).await;
        let fine = match line.kind {
            Kind::Plain | Kind::Reference(_) | Kind::Own(_) => status == 400 && !text.contains(['\u{1b}', '\u{202e}']),
            Kind::Cleaned | Kind::Unread => status < 300,
        };
        if !fine {
            wrong.push(format!("{} {}: {status} {text}", line.operation, line.field));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    server.stop().await;
}
