//! The Channels page line by line. Each comment quotes it.

use ohallo_sim::{Behaviour, READ, WRITE};
use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::harness::{CHANNEL, Got, Harness, SECRET, WORKSPACE, path};

// "Required scope: channels:read for GET endpoints, channels:write for write endpoints."
#[tokio::test]
async fn reading_needs_channels_read_and_writing_needs_channels_write() {
    let harness = Harness::new().await;
    let scopes = |scope: &str| harness.sim.edit_key(SECRET, |key| key.scopes = [scope.to_owned()].into());
    let name = json!({"displayName": "New"});
    scopes(READ);
    harness.get(&path(CHANNEL)).await.done(200);
    harness.patch(&path(CHANNEL), name.clone()).await.refused(403);
    harness.delete(&path(CHANNEL)).await.refused(403);
    harness.create("New").await.refused(403);
    for action in ["credentials", "test", "retry-provisioning"] {
        harness.post(&format!("{}/{action}", path(CHANNEL)), json!({})).await.refused(403);
    }
    scopes(WRITE);
    harness.get(&path(CHANNEL)).await.refused(403);
    harness.patch(&path(CHANNEL), name).await.done(200);
}

// "Retrieve full details for a single channel." with the page's response example
#[tokio::test]
async fn get_answers_the_example_of_the_page_field_by_field() {
    let harness = Harness::new().await;
    let mut got = harness.get(&path(CHANNEL)).await;
    assert_eq!(got.status, 200);
    // "createdAt | string | ISO 8601 timestamp", as in 2026-01-10T08:00:00.000Z
    let created = got.body.as_object_mut().unwrap().remove("createdAt").unwrap();
    let schema: String =
        created.as_str().unwrap().chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(schema, "0000-00-00T00:00:00.000Z");
    let rest = json!({
        "id": CHANNEL,
        "workspaceId": WORKSPACE,
        "channelType": "email",
        "displayName": "Support Email",
        "status": "active",
        "config": {"inboundAddress": "support@nordic-parts.dk", "fromName": "Nordic Parts Support"},
    });
    assert_eq!(got.body, rest);
}

// "config | object | Channel-specific configuration (non-sensitive settings only)"
#[tokio::test]
async fn enabled_and_credentials_are_never_readable() {
    let harness = Harness::new().await;
    harness.post(&format!("{}/credentials", path(CHANNEL)), json!({"apiKey": "hush-hush"})).await.done(200);
    let patched = harness.patch(&path(CHANNEL), json!({"enabled": false})).await;
    for got in [patched, harness.get(&path(CHANNEL)).await] {
        assert_eq!(got.body.as_object().unwrap().len(), 7);
        let text = got.body.to_string();
        assert!(!text.contains("enabled") && !text.contains("hush"), "{text}");
    }
    assert!(!harness.sim.channel(CHANNEL).unwrap().enabled);
}

#[tokio::test]
async fn get_of_an_unknown_id_is_not_found() {
    let harness = Harness::new().await;
    harness.get(&path("no-such")).await.refused(404);
    harness.get(&path(&CHANNEL.to_uppercase())).await.refused(404);
}

// "Update channel settings. Only the fields you include in the request body are changed."
#[tokio::test]
async fn patch_changes_only_the_fields_it_includes() {
    let harness = Harness::new().await;
    harness.patch(&path(CHANNEL), json!({"displayName": "Customer Support Email"})).await.done(200);
    let channel = harness.sim.channel(CHANNEL).unwrap();
    assert_eq!(channel.display_name, "Customer Support Email");
    assert_eq!(channel.config.unwrap()["fromName"], "Nordic Parts Support");
    assert!(channel.enabled);
    harness.patch(&path(CHANNEL), json!({"enabled": false})).await.done(200);
    harness.patch(&path(CHANNEL), json!({})).await.done(200);
    let channel = harness.sim.channel(CHANNEL).unwrap();
    assert_eq!((channel.display_name.as_str(), channel.enabled), ("Customer Support Email", false));
}

// The page's own PATCH example, and "Response: Returns the full updated channel object."
#[tokio::test]
async fn patch_answers_the_full_updated_channel() {
    let harness = Harness::new().await;
    let body = json!({
        "displayName": "Customer Support Email",
        "config": {"fromName": "Nordic Parts Customer Support"},
        "enabled": true
    });
    let got = harness.patch(&path(CHANNEL), body).await;
    let channel = got.done(200);
    assert_eq!(channel["displayName"], "Customer Support Email");
    assert_eq!(channel["config"]["fromName"], "Nordic Parts Customer Support");
    assert_eq!(channel["config"]["inboundAddress"], "support@nordic-parts.dk");
    assert_eq!(*channel, harness.get(&path(CHANNEL)).await.body);
}

// "displayName | string | No | (minimum 1 character)", "config | object | No", "enabled | boolean | No"
#[tokio::test]
async fn patch_refuses_wrong_types_and_unknown_fields_and_changes_nothing() {
    let harness = Harness::new().await;
    let before = harness.get(&path(CHANNEL)).await.body;
    for wrong in [
        json!({"displayName": ""}),
        json!({"displayName": 7}),
        json!({"displayName": null}),
        json!({"config": "x"}),
        json!({"config": null}),
        json!({"config": []}),
        json!({"enabled": "true"}),
        json!({"enabled": null}),
        json!({"channelType": "chat"}),
        json!({"workspaceId": WORKSPACE}),
        json!({"displayName": "Good", "status": "active"}),
        json!({"displayName": "Good", "enabled": 1}),
        json!([]),
        json!("x"),
    ] {
        harness.patch(&path(CHANNEL), wrong).await.refused(400);
    }
    assert_eq!(harness.get(&path(CHANNEL)).await.body, before);
    harness.patch(&path("no-such"), json!({"enabled": true})).await.refused(404);
}

// "Permanently delete a channel." Response: { "ok": true }
#[tokio::test]
async fn delete_answers_ok_once_and_not_found_from_then_on() {
    let harness = Harness::new().await;
    assert_eq!(*harness.delete(&path(CHANNEL)).await.done(200), json!({"ok": true}));
    harness.delete(&path(CHANNEL)).await.refused(404);
    harness.get(&path(CHANNEL)).await.refused(404);
    assert!(harness.sim.channels().is_empty());
}

// "Store or replace the credentials"; the response's credentialsRef as in the example
#[tokio::test]
async fn credentials_are_replaced_as_a_whole_and_answered_with_a_fixed_reference() {
    let harness = Harness::new().await;
    let to = format!("{}/credentials", path(CHANNEL));
    let first = json!({"apiKey": "whatsapp_api_key_abc123", "webhookSecret": "whsec_def456ghi789"});
    let reference = format!("channels/{WORKSPACE}/{CHANNEL}");
    let expected = json!({"ok": true, "credentialsRef": reference});
    assert_eq!(*harness.post(&to, first).await.done(200), expected);
    assert_eq!(*harness.post(&to, json!({"apiKey": "second"})).await.done(200), expected);
    let channel = harness.sim.channel(CHANNEL).unwrap();
    assert_eq!(channel.credentials, [("apiKey".to_owned(), "second".to_owned())].into());
    assert_eq!(channel.credential_pushes, 2);
    assert!(!format!("{channel:?}").contains("second"));
}

// "Request body: A flat object of string key-value pairs."
#[tokio::test]
async fn credentials_refuse_what_is_no_flat_object_of_strings() {
    let harness = Harness::new().await;
    let to = format!("{}/credentials", path(CHANNEL));
    for wrong in [json!({"a": 1}), json!({"a": {"b": "c"}}), json!({"a": null}), json!(["a"]), json!("a")] {
        harness.post(&to, wrong).await.refused(400);
    }
    assert_eq!(harness.sim.channel(CHANNEL).unwrap().credential_pushes, 0);
    harness.post(&format!("{}/credentials", path("no-such")), json!({"a": "b"})).await.refused(404);
}

// "For email channels this sends a test message" … { "ok": true } … "If the test fails" { "ok": false }
#[tokio::test]
async fn test_answers_ok_or_not_and_sends_mail_for_email_channels_only() {
    let harness = Harness::new().await;
    let to = format!("{}/test", path(CHANNEL));
    assert_eq!(*harness.call(&to).await.done(200), json!({"ok": true}));
    harness.sim.edit_channel(CHANNEL, |channel| channel.test_result = Some(false));
    assert_eq!(*harness.call(&to).await.done(200), json!({"ok": false}));
    assert_eq!(harness.sim.channel(CHANNEL).unwrap().test_mails, 2);

    let voice = harness.sim.insert_channel(ohallo_sim::NewChannel::new(WORKSPACE, "voice", "Phone"));
    harness.call(&format!("{}/test", path(&voice))).await.done(200);
    let voice = harness.sim.channel(&voice).unwrap();
    assert_eq!((voice.tests, voice.test_mails), (1, 0));
    harness.call(&format!("{}/test", path("no-such"))).await.refused(404);
}

// "Retry the provisioning process for a channel that is in error status."
#[tokio::test]
async fn retry_provisioning_works_in_error_status_only() {
    let harness = Harness::new().await;
    let to = format!("{}/retry-provisioning", path(CHANNEL));
    for state in ["active", "pending_dns", "provisioning"] {
        harness.sim.edit_channel(CHANNEL, |channel| channel.status = state.to_owned());
        harness.call(&to).await.refused(409);
    }
    harness.sim.edit_channel(CHANNEL, |channel| channel.status = "error".to_owned());
    assert_eq!(*harness.call(&to).await.done(200), json!({"ok": true}));
    assert_eq!(harness.get(&path(CHANNEL)).await.body["status"], "active");
    harness.call(&format!("{}/retry-provisioning", path("no-such"))).await.refused(404);
}

// -H "Authorization: Bearer …"
#[tokio::test]
async fn every_call_needs_a_known_living_bearer_key() {
    let harness = Harness::new().await;
    let url = format!("{}{}", harness.sim.url(), path(CHANNEL));
    Got::of(harness.http.get(&url)).await.refused(401);
    Got::of(harness.http.get(&url).bearer_auth("sf_test_v1_unknown")).await.refused(401);
    Got::of(harness.http.get(&url).header(header::AUTHORIZATION, SECRET)).await.refused(401);
    harness.sim.revoke_key(SECRET);
    harness.get(&path(CHANNEL)).await.refused(401);
    harness.sim.restore_key(SECRET);
    harness.get(&path(CHANNEL)).await.done(200);
    harness.sim.edit_key(SECRET, |key| key.expired = true);
    harness.get(&path(CHANNEL)).await.refused(401);
}

// -H "Content-Type: application/json"
#[tokio::test]
async fn bodies_must_be_json_and_declare_it() {
    let harness = Harness::new().await;
    let patch = || harness.request(Method::PATCH, &path(CHANNEL)).body(r#"{"enabled": true}"#);
    Got::of(patch()).await.refused(415);
    Got::of(patch().header(header::CONTENT_TYPE, "text/plain")).await.refused(415);
    Got::of(patch().header(header::CONTENT_TYPE, "application/json; charset=utf-8")).await.done(200);
    let broken =
        harness.request(Method::PATCH, &path(CHANNEL)).header(header::CONTENT_TYPE, "application/json");
    Got::of(broken.body("{")).await.refused(400);
}

#[tokio::test]
async fn a_body_over_one_mebibyte_is_too_large() {
    let harness = Harness::new().await;
    let to = format!("{}/credentials", path(CHANNEL));
    let of = |len: usize| json!({"a": "x".repeat(len)});
    harness.post(&to, of(1024 * 1024 - 8)).await.done(200);
    harness.post(&to, of(1024 * 1024 - 7)).await.refused(413);
    harness.post(&to, of(3 * 1024 * 1024)).await.refused(413);
}

#[tokio::test]
async fn ids_are_percent_decoded_once() {
    let harness = Harness::new().await;
    let odd = |id: &str| ohallo_sim::NewChannel {
        id: Some(id.to_owned()),
        ..ohallo_sim::NewChannel::new(WORKSPACE, "chat", id)
    };
    harness.sim.insert_channel(odd("a b%20c"));
    harness.sim.insert_channel(odd("a/test"));
    assert_eq!(harness.get("/api/channels/a%20b%2520c").await.done(200)["id"], "a b%20c");
    assert_eq!(harness.get("/api/channels/a%2Ftest").await.done(200)["id"], "a/test");
    harness.get("/api/channels/a%252Ftest").await.refused(404);
    harness.get("/api/channels/%FF").await.refused(404);
}

#[tokio::test]
async fn unknown_routes_and_methods_are_not_found() {
    let harness = Harness::new().await;
    for unknown in ["/", "/api", "/api/channels", "/api/channels/", "/api/brands", "/api/channels/x/y/z"] {
        harness.get(unknown).await.refused(404);
    }
    Got::of(harness.request(Method::PUT, &path(CHANNEL))).await.refused(404);
    harness.get(&format!("{}/test", path(CHANNEL))).await.refused(404);
}

#[tokio::test]
async fn workspaces_are_a_bare_array_and_one_has_the_documented_fields() {
    let harness = Harness::new().await;
    let one = harness.get(&format!("/api/workspaces/{WORKSPACE}")).await;
    let fields: Vec<&str> = one.done(200).as_object().unwrap().keys().map(String::as_str).collect();
    let mut documented = vec![
        "id",
        "tenantId",
        "brandId",
        "name",
        "country",
        "operatingLanguage",
        "currency",
        "workspaceType",
        "workspaceInstructions",
    ];
    documented.sort_unstable();
    assert_eq!(fields, documented);
    assert_eq!(*harness.get("/api/workspaces").await.done(200), Value::Array(vec![one.body]));
    harness.get("/api/workspaces/no-such").await.refused(404);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_ids_in_the_form_of_uuids() {
    let ids = async || {
        let harness = Harness::with(Behaviour::default()).await;
        [harness.create("A").await.body["id"].clone(), harness.create("B").await.body["id"].clone()]
    };
    let first = ids().await;
    assert_eq!(first, ids().await);
    assert_ne!(first[0], first[1]);
    let id = first[0].as_str().unwrap();
    let groups: Vec<usize> = id.split('-').map(str::len).collect();
    assert_eq!((groups, &id[14..15]), (vec![8, 4, 4, 4, 12], "4"));
    assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "{id}");
}
