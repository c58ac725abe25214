//! `import` and `export`: channels that exist get manifests, and a move to another cluster creates none.

use std::collections::BTreeMap;
use std::process::Output;

use ohallo_sim::{Behaviour, Config, ConfigUpdate, NewChannel, Switch};
use serde_json::json;

use crate::cli::support::program::{in_namespace, with_stdin};
use crate::support::harness::{Harness, WORKSPACE, id_of};
use crate::support::helm::output_text;

const TYPES: [&str; 4] = ["email", "chat", "whatsapp", "voice"];

fn run(harness: &Harness, args: &[&str], stdin: &str) -> Output {
    let mut command = in_namespace(harness);
    command.args(args);
    with_stdin(command, stdin)
}

fn printed(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", output_text(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn with_behaviour(behaviour: Behaviour) -> Config {
    Config { behaviour, ..Config::default() }
}

/// A channel of each type, made in the dashboard.
fn made_by_hand(harness: &Harness) -> Vec<String> {
    let config = json!({"fromName": "yes", "on": "0123", "port": 25, "hours": {"from": "08:00", "days": ["Mo", "Tu"]}, "empty": ""});
    TYPES
        .iter()
        .map(|channel_type| {
            let mut new = NewChannel::new(WORKSPACE, channel_type, &format!("Nordic: {channel_type} #1"));
            new.config = Some(config.as_object().unwrap().clone());
            harness.sim.insert_channel(new)
        })
        .collect()
}

/// What was written to oHallo since: the calls that are no GET.
fn written(before: &BTreeMap<String, usize>, after: &BTreeMap<String, usize>) -> Vec<String> {
    let changed = after.iter().filter(|(name, count)| before.get(*name) != Some(*count));
    changed
        .map(|(name, _)| name.clone())
        .filter(|name| !name.starts_with("Get") && !name.starts_with("List"))
        .collect()
}

async fn imported_as_they_are(update: ConfigUpdate) {
    let behaviour = Behaviour { config_update: update, ..Behaviour::default() };
    let harness = Harness::with(with_behaviour(behaviour), &[]).await;
    let ids = made_by_hand(&harness);
    let before = harness.calls();
    let url = format!("--api-url={}", harness.sim.url());
    let (first, rest) = ids.split_first().unwrap();
    let manifests = printed(&run(&harness, &["import", first, "-", &url], &rest.join("\n")), 0);
    let valid = run(&harness, &["validate", "-"], &manifests);
    assert!(printed(&valid, 0).contains("4 valid"), "{}", output_text(&valid));

    // Observed first, as docs/adopt.md says, and then managed.
    let observing = manifests.replace("\nspec:\n", "\nspec:\n  managementPolicy: Observe\n");
    harness.kubectl_ok(&["apply", "-f", "-"], &observing);
    for channel_type in TYPES {
        let observed = harness.reason(&format!("nordic-{channel_type}-1"), "Observed").await;
        let planned = observed.status.unwrap().planned_changes;
        assert_eq!(planned, [] as [String; 0], "{channel_type}");
    }
    harness.kubectl_ok(&["apply", "-f", "-"], &manifests);
    for (channel_type, id) in TYPES.iter().zip(&ids) {
        let adopted = harness.reason(&format!("nordic-{channel_type}-1"), "Available").await;
        assert_eq!(id_of(&adopted), *id);
    }
    assert_eq!(written(&before, &harness.calls()), [] as [&str; 0]);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn imported_manifests_change_nothing_where_a_patch_merges() {
    imported_as_they_are(ConfigUpdate::Merge).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn imported_manifests_change_nothing_where_a_patch_replaces() {
    imported_as_they_are(ConfigUpdate::Replace).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_channels_are_imported_where_ohallo_lists_them() {
    let harness =
        Harness::with(with_behaviour(Behaviour { list: Switch::On, ..Behaviour::default() }), &[]).await;
    let ids = made_by_hand(&harness);
    let url = format!("--api-url={}", harness.sim.url());
    let manifests = printed(&run(&harness, &["import", "--all", &url], ""), 0);
    assert!(ids.iter().all(|id| manifests.contains(id.as_str())), "{manifests}");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_an_import_from_an_answer_is_one_sentence_and_a_code() {
    let harness = Harness::start().await;
    let id = made_by_hand(&harness).remove(0);
    let url = format!("--api-url={}", harness.sim.url());
    let missing = "00000000-0000-4000-8000-000000000000";
    for (args, code, part) in [
        (vec!["import"], 64, "<ID|--from <FILE>|--all>"),
        (vec!["import", "a/b", &url], 64, "is no id of a channel"),
        (vec!["import", "-", &url], 64, "there is no id"),
        (vec!["import", "--from=/missing", &url], 2, "/missing can't be read"),
        (vec!["import", &id, &url, "--workspace=none"], 1, "does not exist"),
        (vec!["import", &id, &url, "--kind=Channel"], 64, "say Workspace or ClusterWorkspace"),
        (vec!["import", &id, "--api-url=nowhere"], 64, "--api-url is no URL"),
        (vec!["import", &id, "--api-url=http://127.0.0.1:1"], 2, "can't be read"),
        (vec!["import", "--all", &url], 2, "name their ids"),
        (vec!["import", &id, missing, &url], 1, missing),
    ] {
        let output = run(&harness, &args, "");
        let reported = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(code) && reported.contains(part),
            "{args:?}: {}",
            output_text(&output)
        );
    }
    // What exists is printed all the same.
    let partly = run(&harness, &["import", &id, missing, &url], "");
    assert!(printed(&partly, 1).contains(&id));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_to_another_cluster_creates_and_deletes_nothing() {
    let mut old = Harness::start().await;
    old.secret("keys", &[("apiKey", "moved-credential-value")]).await;
    for channel_type in TYPES {
        let spec = json!({
            "channelType": channel_type, "enabled": true, "config": {"greeting": "Hi"},
            "credentials": [{"secretRef": {"name": "keys"}}],
        });
        old.ready(channel_type, spec).await;
    }
    // One that has no channel would be created elsewhere.
    old.create("unbound", json!({"workspaceRef": {"name": "missing"}})).await;
    old.reason("unbound", "WorkspaceNotFound").await;
    let output = run(&old, &["export"], "");
    let manifests = printed(&output, 0);
    let note = String::from_utf8_lossy(&output.stderr);
    assert!(note.contains(&format!("{}/unbound", old.namespace)), "{note}");
    let ids: BTreeMap<_, _> = {
        let mut ids = BTreeMap::new();
        for name in TYPES {
            ids.insert(name, id_of(&old.get(name).await));
        }
        ids
    };
    // The old operator stops first.
    old.stop_operator().await;

    let mut new = Harness::bare(Config::default(), &[&format!("--api-url={}", old.sim.url())]).await;
    new.key.clone_from(&old.key);
    new.begin().await;
    new.secret("keys", &[("apiKey", "moved-credential-value")]).await;
    let before = old.calls();
    new.kubectl_ok(&["apply", "-f", "-"], &manifests.replace(&old.namespace, &new.namespace));
    for name in TYPES {
        let moved = new.reason(name, "Available").await;
        assert_eq!(id_of(&moved), ids[name]);
        // Created there, and deleted with its object as before, although it is adopted here.
        assert_eq!(moved.status.unwrap().deletion_policy.as_deref(), Some("Delete"));
    }
    let wrote = written(&before, &old.calls());
    assert!(
        wrote.iter().all(|call| ["UpdateChannel", "StoreCredentials"].contains(&call.as_str())),
        "{wrote:?}"
    );
    old.finish().await;
    new.finish().await;
}
