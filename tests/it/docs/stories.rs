//! The pages that are one procedure, each run from its text alone.

use std::collections::BTreeMap;

use ohallo_sim::{Key, Listening, NewChannel, Operation};
use serde_json::{Value, json};
use testbed::{ControlPlane, User};

use crate::support::clusters::{empty, end, established};
use crate::support::harness::{Harness, TENANT, WORKSPACE, id_of, kubectl_as};
use crate::support::helm::arguments;
use crate::support::own_cluster::Own;
use crate::support::pages;
use crate::support::shell::Shell;
use crate::support::steps::state_of;
use crate::support::{canary, leaks};

const ADOPT: &str = include_str!("../../../docs/adopt.md");
const ROTATE: &str = include_str!("../../../docs/rotate-key.md");
const BACKUP: &str = include_str!("../../../docs/backup.md");
const OPERATORS: &str = include_str!("../../../docs/several-operators.md");

/// Name and `status.readWith` of each Channel in a list that the page saves.
fn read_with(shell: &Shell, list: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(shell.file(list)).unwrap();
    let rows = text.lines().skip(1).filter_map(|line| line.split_once(' '));
    rows.map(|(name, hash)| (name.to_owned(), hash.trim().to_owned())).collect()
}

/// The commands of a page, but for those of `kubectl ohallo`, which `cli::transfer` runs.
fn steps(page: &str) -> Vec<String> {
    let mut commands = pages::commands(page);
    commands.retain(|command| !command.starts_with("kubectl ohallo "));
    commands
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_steps_that_rotate_an_api_key_end_with_every_channel_read_by_the_new_one() {
    let harness = Harness::start().await;
    let first = harness.ready("a", json!({})).await;
    harness.ready("b", json!({})).await;
    let new = "sf_test_v1_canary-rotated-by-the-page";
    canary::register(new);
    harness.sim.add_key(Key { name: "new".into(), ..Key::new(new, TENANT) });
    let mut shell = Shell::new(harness.plane, &harness.namespace);
    shell.key = new.to_owned();
    let commands = pages::commands(ROTATE);
    let [before, secret, test, wait, get, read, after, last] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    let run = |command: &str| {
        let command = command.replace("-n NAMESPACE", &format!("-n {}", harness.namespace));
        shell.run(&command.replace("workspace NAME", "workspace default"))
    };
    for command in [before, secret, test, wait, get, read] {
        run(command);
    }
    let old = read_with(&shell, "before.txt");
    assert_eq!(old.len(), 2, "{old:?}");
    harness
        .eventually("read with the new API key", || async {
            run(after);
            let now = read_with(&shell, "after.txt");
            old.iter().all(|(name, hash)| now.get(name).is_some_and(|is| is != hash)).then_some(())
        })
        .await;
    harness.sim.revoke_key(&harness.key);
    run(last);
    harness.edit("a", json!({"spec": {"displayName": "Renamed"}})).await;
    harness.reason("a", "Available").await;
    assert_eq!(harness.sim.channel(&id_of(&first)).unwrap().display_name, "Renamed");
    let ledger = harness.sim.ledger();
    assert!(ledger.iter().all(|entry| entry.status != Some(401)), "the old API key is not used any more");
    let update = ledger.iter().rfind(|entry| entry.operation == Operation::UpdateChannel).unwrap();
    assert_eq!(update.key.as_deref(), Some("new"));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_steps_that_adopt_a_channel_list_each_change_before_it_is_sent() {
    let harness = Harness::start().await;
    let shell = Shell::new(harness.plane, &harness.namespace);
    let (shown, commands) = (pages::yaml(ADOPT), steps(ADOPT));
    let ([manifest], [list]) = (shown.as_slice(), commands.as_slice()) else {
        panic!("{shown:?} {commands:?}")
    };
    let id = harness.sim.insert_channel(NewChannel::new(WORKSPACE, "email", "Old name"));
    std::fs::write(shell.file("channel.yaml"), manifest.replace("7c9e6679-7425-40de-944b-e07fc1f90ae7", &id))
        .unwrap();
    shell.run("kubectl apply -f channel.yaml");
    harness.reason("support-email", "Observed").await;
    assert_eq!(shell.run(list), r#"["update displayName","update config.fromName"]"#);
    let kept = json!({"displayName": "Old name", "config": null, "enabled": true});
    harness.edit("support-email", json!({"spec": kept})).await;
    let only_what_ohallo_does_not_return = r#"["set enabled to true"]"#;
    harness
        .eventually("compared", || async {
            (shell.run(list) == only_what_ohallo_does_not_return).then_some(())
        })
        .await;
    assert_eq!(harness.count(Operation::UpdateChannel), 0);
    harness.edit("support-email", json!({"spec": {"managementPolicy": "Manage"}})).await;
    let adopted = harness.reason("support-email", "Available").await.status.unwrap();
    assert_eq!(
        (adopted.origin.as_deref(), adopted.deletion_policy.as_deref()),
        (Some("Adopted"), Some("Retain"))
    );
    assert_eq!(harness.count(Operation::UpdateChannel), 1);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rehearsal_with_the_kustomization_of_the_page_shows_what_a_restore_would_do_and_writes_nothing() {
    let harness = Harness::start().await;
    let id = id_of(&harness.ready("original", json!({})).await);
    let shell = Shell::new(harness.plane, &harness.namespace);
    let write = |file: &str, text: String| std::fs::write(shell.file(file), text).unwrap();
    std::fs::create_dir(shell.file("channels")).unwrap();
    for (name, spec) in
        [("pinned", json!({"channelId": id, "deletionPolicy": "Delete"})), ("plain", json!({}))]
    {
        write(&format!("channels/{name}.yaml"), harness.manifest(name, spec).to_string());
    }
    write("channels/kustomization.yaml", json!({"resources": ["pinned.yaml", "plain.yaml"]}).to_string());
    let shown = pages::yaml(BACKUP);
    let [kustomization] = shown.as_slice() else { panic!("{shown:?}") };
    write("kustomization.yaml", kustomization.clone());
    let calls = harness.sim.ledger().len();
    shell.run("kubectl apply -k .");
    harness.reason("pinned", "Observed").await;
    harness.reason("plain", "NotCreated").await;
    shell.run("kubectl delete channels.ohallo.eu pinned plain --timeout=60s");
    let reads = [Operation::GetChannel, Operation::GetWorkspace];
    let ledger = harness.sim.ledger();
    assert!(ledger.iter().skip(calls).all(|entry| reads.contains(&entry.operation)), "{ledger:#?}");
    assert!(harness.sim.channel(&id).is_some());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_steps_that_restore_an_etcd_snapshot_create_no_second_channel() {
    let commands = steps(BACKUP);
    let [list, patch, stop, start] = commands.as_slice() else { panic!("{commands:?}") };
    let mut own = Own::start().await;
    let shell = Shell::new(&own.plane, "default");
    let replicas = "kubectl -n ohallo-system get deployment ohallo-operator -o jsonpath='{.spec.replicas}'";
    own.ready("before").await;
    own.kill_operator();
    own.create("after").await;
    let snapshot = own.plane.back_up().await.unwrap();
    own.restart_operator();
    let created_after = own.available("after").await;
    // What happens only in the cluster does not survive the restore.
    shell.run(stop);

    own.sim.set_listening(Listening::Refuse);
    leaks::dump(&own.plane).await;
    own.plane.restore(&snapshot).await.unwrap();
    assert_eq!(shell.run(replicas), "1", "the Deployment starts the operator again");
    own.restart_operator();
    own.until("after", "reconciled", |channel| state_of(channel, "Ready").is_some()).await;
    shell.run(stop);
    own.kill_operator();
    assert_eq!(shell.run(replicas), "0");
    let listed = shell.run(list);
    let id = |name: &str| {
        let row = listed.lines().find(|row| row.split_whitespace().nth(1) == Some(name));
        row.and_then(|row| row.split_whitespace().last()).map(str::to_owned)
    };
    assert!(id("before").is_some_and(|id| own.sim.channel(&id).is_some()), "{listed}");
    assert_eq!(id("after").as_deref(), Some("<none>"), "{listed}");
    shell.run(&patch.replace("NAME", "after").replace("\"ID\"", &format!("{created_after:?}")));
    own.sim.set_listening(Listening::Accept);
    shell.run(start);
    own.restart_operator();
    assert_eq!(own.available("after").await, created_after);
    own.available("before").await;
    assert_eq!((own.sim.count(Operation::CreateChannel), own.sim.channel_count()), (2, 2));
    own.finish().await;
}

/// The commands of a section of the page, without those that need a kubelet.
fn section(heading: &str) -> Vec<String> {
    let (_, text) = OPERATORS.split_once(&format!("## {heading}\n")).unwrap();
    let mut commands = pages::commands(text.split("\n## ").next().unwrap());
    commands.retain(|command| !command.contains(" rollout status "));
    commands
}

/// The arguments of each operator of the cluster, by its namespace.
fn operators(plane: &ControlPlane) -> BTreeMap<String, Vec<String>> {
    let get = ["get", "deployment", "-A", "-o", "json", "-l", "app.kubernetes.io/name=ohallo-operator"];
    let found: Value = serde_json::from_slice(&kubectl_as(plane, User::Admin, &get, None).stdout).unwrap();
    let items = found["items"].as_array().unwrap().iter();
    items.map(|it| (it["metadata"]["namespace"].as_str().unwrap().to_owned(), arguments(it))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_for_one_operator_for_each_team_divide_the_namespaces() {
    let plane = empty().await;
    let shell = Shell::new(plane, "default");
    for namespace in ["team-a", "team-b", "team-c"] {
        shell.run(&format!("kubectl create namespace {namespace}"));
    }
    let commands = section("One operator for each team");
    let [install_a, install_b, yes, no, shrink, grow] = commands.as_slice() else { panic!("{commands:?}") };
    shell.run(install_a);
    established(plane);
    shell.run(install_b);
    shell.run(yes);
    shell.run(&format!("! {no}"));
    let serves = |plane, operator: &str, namespace: &str| {
        operators(plane)[operator].contains(&format!("--namespace={namespace}"))
    };
    assert!(serves(plane, "ohallo-a", "team-a") && serves(plane, "ohallo-b", "team-b"));
    shell.run(shrink);
    assert!(!serves(plane, "ohallo-a", "team-a"));
    shell.run(grow);
    assert!(serves(plane, "ohallo-b", "team-a") && serves(plane, "ohallo-b", "team-b"));
    // As before, with the answers exchanged.
    shell.run(no);
    end(plane).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_for_a_canary_divide_the_objects_by_their_label() {
    let plane = empty().await;
    let shell = Shell::new(plane, "default");
    let commands = section("A canary in the same namespaces");
    let [stable, canary, remove] = commands.as_slice() else { panic!("{commands:?}") };
    shell.run(stable);
    established(plane);
    shell.run(canary);
    let all = operators(plane);
    for (operator, selector) in [("ohallo-stable", "track!=canary"), ("ohallo-canary", "track=canary")] {
        for flag in ["channel", "workspace"] {
            let wanted = format!("--{flag}-selector={selector}");
            assert!(all[operator].contains(&wanted), "{operator}: {:?}", all[operator]);
        }
    }
    shell.run(remove);
    assert_eq!(operators(plane).keys().collect::<Vec<_>>(), ["ohallo-stable"]);
    end(plane).await;
}
