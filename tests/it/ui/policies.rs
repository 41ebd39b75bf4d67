//! Policies by their pages: made from a preset, changed, switched off and deleted, with what each comes to before it is done.

use serde_json::json;

use super::Browser;
use crate::support::server::{POLICIES, TestServer, USAGES, Who, id};

/// The form as its page has it: every field with its value, as a browser would send it.
pub fn form_of(page: &str) -> Vec<(String, String)> {
    let unescaped =
        |text: &str| text.replace("&#38;", "&").replace("&#60;", "<").replace("&#34;", "\"").replace("&#39;", "'");
    let attribute = |tag: &str, name: &str| {
        let rest = tag.split(&format!(" {name}=\"")).nth(1)?;
        Some(unescaped(rest.split('"').next()?))
    };
    let form = page.split("<form").find(|part| part.contains("policy-form")).unwrap().split("</form>").next().unwrap();
    let mut fields = Vec::new();
    for tag in form.split("<input").skip(1).map(|rest| rest.split('>').next().unwrap()) {
        let boxed = tag.contains("type=\"checkbox\"");
        if !boxed || tag.contains(" checked") {
            fields.push((attribute(tag, "name").unwrap(), attribute(tag, "value").unwrap_or_default()));
        }
    }
    for select in form.split("<select").skip(1).map(|rest| rest.split("</select>").next().unwrap()) {
        let options: Vec<&str> = select.split("<option").skip(1).collect();
        let chosen = options.iter().find(|option| option.contains(" selected")).or(options.first()).unwrap();
        fields
            .push((attribute(select.split('>').next().unwrap(), "name").unwrap(), attribute(chosen, "value").unwrap()));
    }
    for area in form.split("<textarea").skip(1) {
        let (tag, rest) = area.split_once('>').unwrap();
        fields.push((attribute(tag, "name").unwrap(), unescaped(rest.split("</textarea>").next().unwrap())));
    }
    fields
}

/// The form with some of its fields set to something else.
fn with(fields: &[(String, String)], changes: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut fields = fields.to_vec();
    for (name, value) in changes {
        fields.retain(|(known, _)| known != name);
        fields.push(((*name).to_owned(), (*value).to_owned()));
    }
    fields
}

async fn submit(browser: &mut Browser<'_>, path: &str, fields: &[(String, String)]) -> crate::support::server::Answer {
    let fields: Vec<(&str, &str)> =
        fields.iter().filter(|(name, _)| name != "csrf").map(|(name, value)| (name.as_str(), value.as_str())).collect();
    browser.submit(path, &fields).await
}

fn plain(text: &str) -> String {
    text.replace('\u{a0}', " ").replace("&#38;", "&").replace("&#39;", "'").replace("&#34;", "\"")
}

#[tokio::test]
async fn a_policy_is_made_from_a_preset_and_its_effect_is_shown_first() {
    let server = TestServer::start().await;
    let report =
        json!({"resource": id("resource", "climate-hpc1"), "usages": [{"type": "node_hours", "amount": "1043.2"}]});
    server.post(Who::Agent, &format!("{USAGES}set_usage/"), &report).await.expect(201);
    let mut staff = Browser::of(&server, Who::Staff).await;
    let presets = plain(&staff.open("/policies/new").await.text);
    for says in [
        "Quarterly research",
        "Monthly strict",
        "Annual grant",
        "Tracking only",
        "Warn at 80 %, Slow down at 100 %, Pause at 120 %",
    ] {
        assert!(presets.contains(says), "{says} in {presets}");
    }
    let unknown = staff.open("/policies/new?preset=weekly").await;
    assert!(unknown.status == 400 && unknown.text.contains("Allowed: quarterly-research"), "{}", unknown.text);
    let page = staff.open("/policies/new?preset=quarterly-research&offering=hpc1").await.text;
    let fields =
        with(&form_of(&page), &[("slug", "research"), ("tres_billing_enabled", ""), ("carryover_enabled", "")]);
    assert!(fields.contains(&("period".to_owned(), "3".to_owned())), "{fields:?}");
    let tried = plain(&submit(&mut staff, "/policies/new", &with(&fields, &[("do", "try")])).await.text);
    assert!(tried.contains("1 allocation would be slowed down"), "{tried}");
    assert!(tried.contains("Nothing has been changed or recorded."), "{tried}");
    assert!(server.get(Who::Staff, POLICIES).await.expect(200).as_array().unwrap().is_empty(), "nothing was made");
    // What the API says of a field stands at the field, with what was entered.
    let bad = [("do", "save"), ("grace_ratio", "7"), ("notification_threshold", "80, many")];
    let refused = plain(&submit(&mut staff, "/policies/new", &with(&fields, &bad)).await.text);
    let at = |field: &str| {
        refused.split(&format!("id=\"{field}-help\"")).nth(1).unwrap().split("</div>").next().unwrap().to_owned()
    };
    assert!(at("notification_threshold").contains("A valid number is required: \"many\" was given."), "{refused}");
    assert!(refused.contains("name=\"grace_ratio\" value=\"7\""), "{refused}");
    let refused = plain(&submit(&mut staff, "/policies/new", &with(&fields, &bad[..2])).await.text);
    let at = refused.split("id=\"grace_ratio-help\"").nth(1).unwrap().split("</div>").next().unwrap();
    assert!(at.contains("class=\"wrong\""), "{refused}");
    let monthly =
        plain(&submit(&mut staff, "/policies/new", &with(&fields, &[("do", "save"), ("period", "2")])).await.text);
    let at = monthly.split("id=\"period-help\"").nth(1).unwrap().split("</div>").next().unwrap();
    assert!(at.contains("does not match the limit period"), "{monthly}");
    let made = submit(&mut staff, "/policies/new", &with(&fields, &[("do", "save"), ("reason", "a new year")])).await;
    assert_eq!((made.status.as_u16(), made.header("location")), (303, "/policies/research"), "{}", made.text);
    let policy = &server.get(Who::Staff, POLICIES).await.expect(200)[0];
    assert_eq!(
        (&policy["slug"], &policy["period"], &policy["carryover_factor"]),
        (&json!("research"), &json!(3), &json!(50))
    );
    server.stop().await;
}

#[tokio::test]
async fn a_change_is_tried_saved_as_a_version_and_found_in_the_history() {
    let server = TestServer::start().await;
    super::pages::lived(&server).await;
    let mut alice = Browser::of(&server, Who::Alice).await;
    let page = alice.open("/policies/quarterly/edit").await;
    assert_eq!(page.status, 200, "{}", page.text);
    let fields = form_of(&page.text);
    let changed =
        with(&fields, &[("grace_ratio", "0.02"), ("notification_threshold", "50, 80"), ("reason", "Less <grace>")]);
    let tried = plain(&submit(&mut alice, "/policies/quarterly/edit", &with(&changed, &[("do", "try")])).await.text);
    assert!(tried.contains("1 allocation would be paused"), "{tried}");
    let policy = id("policy", "quarterly");
    let version = async |server: &TestServer| {
        server.get(Who::Staff, &format!("{POLICIES}{policy}/")).await.expect(200)["version"].clone()
    };
    assert_eq!(version(&server).await, json!(1));
    let saved = submit(&mut alice, "/policies/quarterly/edit", &with(&changed, &[("do", "save")])).await;
    assert_eq!((saved.status.as_u16(), saved.header("location")), (303, "/policies/quarterly"), "{}", saved.text);
    assert_eq!(version(&server).await, json!(2));
    let history = plain(&alice.open("/policies/quarterly/versions").await.text);
    for says in [
        "Version 2",
        "by Alice A",
        "Less &#60;grace&#62;",
        "<del>0.2</del>",
        "<ins>0.02</ins>",
        "<ins>50, 80</ins>",
        "The policy was created.",
    ] {
        assert!(history.contains(says), "{says} in {history}");
    }
    let rows = server.get(Who::Staff, &format!("{POLICIES}{policy}/versions/")).await.expect(200);
    assert_eq!(rows[0]["differences"].as_array().unwrap().len(), 2, "{rows}");
    assert_eq!((&rows[0]["reason"], &rows[1]["differences"]), (&json!("Less <grace>"), &json!([])));
    // Nothing that is sent again makes a version.
    let page = alice.open("/policies/quarterly/edit").await.text;
    submit(&mut alice, "/policies/quarterly/edit", &with(&form_of(&page), &[("do", "save")])).await;
    assert_eq!(version(&server).await, json!(2));
    server.stop().await;
}

#[tokio::test]
async fn a_policy_is_disabled_enabled_and_deleted_with_a_reason() {
    let server = TestServer::start().await;
    super::pages::lived(&server).await;
    let mut staff = Browser::of(&server, Who::Staff).await;
    let asked = plain(&staff.open("/policies/quarterly/disable").await.text);
    assert!(asked.contains("1 allocation would be restored") && asked.contains("required"), "{asked}");
    let done = staff.submit("/policies/quarterly/disable", &[("reason", "maintenance")]).await;
    assert_eq!((done.status.as_u16(), done.header("location")), (303, "/policies/quarterly"));
    let page = plain(&staff.open("/policies/quarterly").await.text);
    assert!(page.contains("Disabled") && page.contains("/policies/quarterly/enable"), "{page}");
    assert!(plain(&staff.open("/policies/quarterly/versions").await.text).contains("maintenance"));
    assert_eq!(staff.submit("/policies/quarterly/enable", &[("reason", "over")]).await.status, 303);
    let gone = staff.submit("/policies/quarterly/delete", &[("reason", "replaced")]).await;
    assert_eq!((gone.status.as_u16(), gone.header("location")), (303, "/policies"));
    assert_eq!(staff.open("/policies/quarterly").await.status, 404);
    server.stop().await;
}
