//! The Channels page line by line. Each comment quotes it.

use ohallo_sim::{Behaviour, READ, WRITE};
use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::rig::{CHANNEL, Got, Rig, SECRET, WORKSPACE, path};

// "Required scope: channels:read for GET endpoints, channels:write for write endpoints."
#[tokio::test]
async fn reading_needs_channels_read_and_writing_needs_channels_write() {
    let rig = Rig::new().await;
    let scopes = |scope: &str| rig.sim.edit_key(SECRET, |key| key.scopes = [scope.to_owned()].into());
    let name = json!({"displayName": "New"});
    scopes(READ);
    rig.get(&path(CHANNEL)).await.done(200);
    rig.patch(&path(CHANNEL), name.clone()).await.refused(403);
    rig.delete(&path(CHANNEL)).await.refused(403);
    rig.create("New").await.refused(403);
    for action in ["credentials", "test", "retry-provisioning"] {
        rig.post(&format!("{}/{action}", path(CHANNEL)), json!({})).await.refused(403);
    }
    scopes(WRITE);
    rig.get(&path(CHANNEL)).await.refused(403);
    rig.patch(&path(CHANNEL), name).await.done(200);
}

// "Retrieve full details for a single channel." with the page's response example
#[tokio::test]
async fn get_answers_the_example_of_the_page_field_by_field() {
    let rig = Rig::new().await;
    let mut got = rig.get(&path(CHANNEL)).await;
    assert_eq!(got.status, 200);
    // "createdAt | string | ISO 8601 timestamp", as in 2026-01-10T08:00:00.000Z
    let created = got.body.as_object_mut().unwrap().remove("createdAt").unwrap();
    let shape: String =
        created.as_str().unwrap().chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z");
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
    let rig = Rig::new().await;
    rig.post(&format!("{}/credentials", path(CHANNEL)), json!({"apiKey": "hush-hush"})).await.done(200);
    let patched = rig.patch(&path(CHANNEL), json!({"enabled": false})).await;
    for got in [patched, rig.get(&path(CHANNEL)).await] {
        assert_eq!(got.body.as_object().unwrap().len(), 7);
        let text = got.body.to_string();
        assert!(!text.contains("enabled") && !text.contains("hush"), "{text}");
    }
    assert!(!rig.sim.channel(CHANNEL).unwrap().enabled);
}

#[tokio::test]
async fn get_of_an_unknown_id_is_not_found() {
    let rig = Rig::new().await;
    rig.get(&path("no-such")).await.refused(404);
    rig.get(&path(&CHANNEL.to_uppercase())).await.refused(404);
}

// "Update channel settings. Only the fields you include in the request body are changed."
#[tokio::test]
async fn patch_changes_only_the_fields_it_includes() {
    let rig = Rig::new().await;
    rig.patch(&path(CHANNEL), json!({"displayName": "Customer Support Email"})).await.done(200);
    let channel = rig.sim.channel(CHANNEL).unwrap();
    assert_eq!(channel.display_name, "Customer Support Email");
    assert_eq!(channel.config.unwrap()["fromName"], "Nordic Parts Support");
    assert!(channel.enabled);
    rig.patch(&path(CHANNEL), json!({"enabled": false})).await.done(200);
    rig.patch(&path(CHANNEL), json!({})).await.done(200);
    let channel = rig.sim.channel(CHANNEL).unwrap();
    assert_eq!((channel.display_name.as_str(), channel.enabled), ("Customer Support Email", false));
}

// The page's own PATCH example, and "Response: Returns the full updated channel object."
#[tokio::test]
async fn patch_answers_the_full_updated_channel() {
    let rig = Rig::new().await;
    let body = json!({
        "displayName": "Customer Support Email",
        "config": {"fromName": "Nordic Parts Customer Support"},
        "enabled": true
    });
    let got = rig.patch(&path(CHANNEL), body).await;
    let channel = got.done(200);
    assert_eq!(channel["displayName"], "Customer Support Email");
    assert_eq!(channel["config"]["fromName"], "Nordic Parts Customer Support");
    assert_eq!(channel["config"]["inboundAddress"], "support@nordic-parts.dk");
    assert_eq!(*channel, rig.get(&path(CHANNEL)).await.body);
}

// "displayName | string | No | (minimum 1 character)", "config | object | No", "enabled | boolean | No"
#[tokio::test]
async fn patch_refuses_wrong_types_and_unknown_fields_and_changes_nothing() {
    let rig = Rig::new().await;
    let before = rig.get(&path(CHANNEL)).await.body;
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
        rig.patch(&path(CHANNEL), wrong).await.refused(400);
    }
    assert_eq!(rig.get(&path(CHANNEL)).await.body, before);
    rig.patch(&path("no-such"), json!({"enabled": true})).await.refused(404);
}

// "Permanently delete a channel." Response: { "ok": true }
#[tokio::test]
async fn delete_answers_ok_once_and_not_found_from_then_on() {
    let rig = Rig::new().await;
    assert_eq!(*rig.delete(&path(CHANNEL)).await.done(200), json!({"ok": true}));
    rig.delete(&path(CHANNEL)).await.refused(404);
    rig.get(&path(CHANNEL)).await.refused(404);
    assert!(rig.sim.channels().is_empty());
}

// "Store or replace the credentials"; the response's credentialsRef as in the example
#[tokio::test]
async fn credentials_are_replaced_as_a_whole_and_answered_with_a_fixed_reference() {
    let rig = Rig::new().await;
    let to = format!("{}/credentials", path(CHANNEL));
    let first = json!({"apiKey": "whatsapp_api_key_abc123", "webhookSecret": "whsec_def456ghi789"});
    let reference = format!("channels/{WORKSPACE}/{CHANNEL}");
    let expected = json!({"ok": true, "credentialsRef": reference});
    assert_eq!(*rig.post(&to, first).await.done(200), expected);
    assert_eq!(*rig.post(&to, json!({"apiKey": "second"})).await.done(200), expected);
    let channel = rig.sim.channel(CHANNEL).unwrap();
    assert_eq!(channel.credentials, [("apiKey".to_owned(), "second".to_owned())].into());
    assert_eq!(channel.credential_pushes, 2);
    assert!(!format!("{channel:?}").contains("second"));
}

// "Request body: A flat object of string key-value pairs."
#[tokio::test]
async fn credentials_refuse_what_is_no_flat_object_of_strings() {
    let rig = Rig::new().await;
    let to = format!("{}/credentials", path(CHANNEL));
    for wrong in [json!({"a": 1}), json!({"a": {"b": "c"}}), json!({"a": null}), json!(["a"]), json!("a")] {
        rig.post(&to, wrong).await.refused(400);
    }
    assert_eq!(rig.sim.channel(CHANNEL).unwrap().credential_pushes, 0);
    rig.post(&format!("{}/credentials", path("no-such")), json!({"a": "b"})).await.refused(404);
}

// "For email channels this sends a test message" … { "ok": true } … "If the test fails" { "ok": false }
#[tokio::test]
async fn test_answers_ok_or_not_and_sends_mail_for_email_channels_only() {
    let rig = Rig::new().await;
    let to = format!("{}/test", path(CHANNEL));
    assert_eq!(*rig.call(&to).await.done(200), json!({"ok": true}));
    rig.sim.edit_channel(CHANNEL, |channel| channel.test_result = Some(false));
    assert_eq!(*rig.call(&to).await.done(200), json!({"ok": false}));
    assert_eq!(rig.sim.channel(CHANNEL).unwrap().test_mails, 2);

    let voice = rig.sim.insert_channel(ohallo_sim::NewChannel::new(WORKSPACE, "voice", "Phone"));
    rig.call(&format!("{}/test", path(&voice))).await.done(200);
    let voice = rig.sim.channel(&voice).unwrap();
    assert_eq!((voice.tests, voice.test_mails), (1, 0));
    rig.call(&format!("{}/test", path("no-such"))).await.refused(404);
}

// "Retry the provisioning process for a channel that is in error status."
#[tokio::test]
async fn retry_provisioning_works_in_error_status_only() {
    let rig = Rig::new().await;
    let to = format!("{}/retry-provisioning", path(CHANNEL));
    for state in ["active", "pending_dns", "provisioning"] {
        rig.sim.edit_channel(CHANNEL, |channel| channel.status = state.to_owned());
        rig.call(&to).await.refused(409);
    }
    rig.sim.edit_channel(CHANNEL, |channel| channel.status = "error".to_owned());
    assert_eq!(*rig.call(&to).await.done(200), json!({"ok": true}));
    assert_eq!(rig.get(&path(CHANNEL)).await.body["status"], "active");
    rig.call(&format!("{}/retry-provisioning", path("no-such"))).await.refused(404);
}

// -H "Authorization: Bearer …"
#[tokio::test]
async fn every_call_needs_a_known_living_bearer_key() {
    let rig = Rig::new().await;
    let url = format!("{}{}", rig.sim.url(), path(CHANNEL));
    Got::of(rig.http.get(&url)).await.refused(401);
    Got::of(rig.http.get(&url).bearer_auth("sf_test_v1_unknown")).await.refused(401);
    Got::of(rig.http.get(&url).header(header::AUTHORIZATION, SECRET)).await.refused(401);
    rig.sim.revoke_key(SECRET);
    rig.get(&path(CHANNEL)).await.refused(401);
    rig.sim.restore_key(SECRET);
    rig.get(&path(CHANNEL)).await.done(200);
    rig.sim.edit_key(SECRET, |key| key.expired = true);
    rig.get(&path(CHANNEL)).await.refused(401);
}

// -H "Content-Type: application/json"
#[tokio::test]
async fn bodies_must_be_json_and_say_so() {
    let rig = Rig::new().await;
    let patch = || rig.request(Method::PATCH, &path(CHANNEL)).body(r#"{"enabled": true}"#);
    Got::of(patch()).await.refused(415);
    Got::of(patch().header(header::CONTENT_TYPE, "text/plain")).await.refused(415);
    Got::of(patch().header(header::CONTENT_TYPE, "application/json; charset=utf-8")).await.done(200);
    let broken = rig.request(Method::PATCH, &path(CHANNEL)).header(header::CONTENT_TYPE, "application/json");
    Got::of(broken.body("{")).await.refused(400);
}

#[tokio::test]
async fn a_body_over_one_mebibyte_is_too_large() {
    let rig = Rig::new().await;
    let to = format!("{}/credentials", path(CHANNEL));
    let of = |len: usize| json!({"a": "x".repeat(len)});
    rig.post(&to, of(1024 * 1024 - 8)).await.done(200);
    rig.post(&to, of(1024 * 1024 - 7)).await.refused(413);
    rig.post(&to, of(3 * 1024 * 1024)).await.refused(413);
}

#[tokio::test]
async fn ids_are_percent_decoded_once() {
    let rig = Rig::new().await;
    let odd = |id: &str| ohallo_sim::NewChannel {
        id: Some(id.to_owned()),
        ..ohallo_sim::NewChannel::new(WORKSPACE, "chat", id)
    };
    rig.sim.insert_channel(odd("a b%20c"));
    rig.sim.insert_channel(odd("a/test"));
    assert_eq!(rig.get("/api/channels/a%20b%2520c").await.done(200)["id"], "a b%20c");
    assert_eq!(rig.get("/api/channels/a%2Ftest").await.done(200)["id"], "a/test");
    rig.get("/api/channels/a%252Ftest").await.refused(404);
    rig.get("/api/channels/%FF").await.refused(404);
}

#[tokio::test]
async fn unknown_routes_and_methods_are_not_found() {
    let rig = Rig::new().await;
    for unknown in ["/", "/api", "/api/channels", "/api/channels/", "/api/brands", "/api/channels/x/y/z"] {
        rig.get(unknown).await.refused(404);
    }
    Got::of(rig.request(Method::PUT, &path(CHANNEL))).await.refused(404);
    rig.get(&format!("{}/test", path(CHANNEL))).await.refused(404);
}

#[tokio::test]
async fn workspaces_are_a_bare_array_and_one_has_the_documented_fields() {
    let rig = Rig::new().await;
    let one = rig.get(&format!("/api/workspaces/{WORKSPACE}")).await;
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
    assert_eq!(*rig.get("/api/workspaces").await.done(200), Value::Array(vec![one.body]));
    rig.get("/api/workspaces/no-such").await.refused(404);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_ids_in_the_form_of_uuids() {
    let ids = async || {
        let rig = Rig::with(Behaviour::default()).await;
        [rig.create("A").await.body["id"].clone(), rig.create("B").await.body["id"].clone()]
    };
    let first = ids().await;
    assert_eq!(first, ids().await);
    assert_ne!(first[0], first[1]);
    let id = first[0].as_str().unwrap();
    let groups: Vec<usize> = id.split('-').map(str::len).collect();
    assert_eq!((groups, &id[14..15]), (vec![8, 4, 4, 4, 12], "4"));
    assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "{id}");
}
