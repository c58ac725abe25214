//! Every field of a Workspace and of a ClusterWorkspace, wrong in every way that its schema knows of, while a Channel
//! lives on it.

use std::collections::VecDeque;
use std::sync::Mutex;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use ohallo_sim::{Key, Operation};
use serde_json::{Value, json};

use crate::misoperation::mutations::{Mutation, mutations};
use crate::misoperation::support::schema::spec_of;
use crate::misoperation::support::subject::{Subject, Way, is_ready, picture, settled};
use crate::misoperation::support::trial::{End, refused, sentences};
use crate::support::cluster_workspaces;
use crate::support::harness::{Harness, WORKSPACE};

/// How many Workspaces are maltreated at the same time.
const AT_ONCE: usize = 8;
/// A workspace, a key and a Secret of another tenant.
const STRANGER: &str = "stranger";

/// A healthy Workspace and the Channel on it.
struct Home<'a> {
    workspace: Subject<'a>,
    channel: Subject<'a>,
    /// Both as they were at first: taken before each trial, it could show what the last one still does.
    healthy: [Value; 2],
}

fn spec(harness: &Harness, kind: &str) -> Value {
    let mut spec = json!({"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "ohallo-api-key"}});
    if kind == "ClusterWorkspace" {
        let labels = json!({"matchLabels": {"team": "a"}, "matchExpressions": [{"key": "team", "operator": "In", "values": ["a"]}]});
        spec["allowedNamespaces"] = json!({"names": [harness.namespace], "selector": labels});
    }
    spec
}

/// A Workspace with a Channel, both Ready.
async fn home<'a>(harness: &'a Harness, kind: &'static str, number: usize) -> Home<'a> {
    let name = format!("{}-{number}", harness.namespace);
    let metadata = json!({"name": name, "labels": {"test": harness.namespace}});
    let manifest = json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec(harness, kind)});
    let way = if number.is_multiple_of(2) { Way::Apply } else { Way::Replace };
    let workspace = Subject { harness, kind, manifest, way };
    let created = workspace.bring(&workspace.manifest).await.unwrap();
    let manifest = harness.manifest(&name, json!({"workspaceRef": {"kind": kind, "name": name}}));
    let channel = Subject { harness, kind: "Channel", manifest, way };
    channel.bring(&channel.manifest).await.unwrap();
    let ready = channel.until(|seen| settled(seen, &json!(1)) && is_ready(seen)).await;
    let ready = picture(&ready.expect("the Channel is Ready"), true);
    let generation = &created["metadata"]["generation"];
    let in_use = |seen: &Value| {
        let finalizers = seen["metadata"]["finalizers"].as_array();
        settled(seen, generation) && is_ready(seen) && finalizers.is_some_and(|names| !names.is_empty())
    };
    let used = workspace.until(in_use).await.expect("the Workspace is Ready and in use");
    Home { workspace, channel, healthy: [picture(&used, true), ready] }
}

async fn trial(home: &Home<'_>, mutation: &Mutation) -> Result<End, String> {
    let (before, [workspace, channel]) = (home.workspace.get().await, &home.healthy);
    let wrong = mutation.apply(&home.workspace.manifest).ok_or("it can't be applied")?;
    let taken = match home.workspace.bring(&wrong).await {
        Err(refusal) => {
            return refused(&refusal, std::slice::from_ref(mutation)).map(|()| End::Refused);
        }
        Ok(taken) => taken,
    };
    if !mutation.fits && taken["spec"] != before["spec"] {
        return Err(format!("it was accepted: {}", taken["spec"]));
    }
    let generation = &taken["metadata"]["generation"];
    let seen = home.workspace.until(|seen| settled(seen, generation)).await;
    let seen = seen.map_err(|last| format!("it never settled: {}", last["status"]))?;
    sentences(&seen)?;
    let good = home.workspace.bring(&home.workspace.manifest).await;
    let good = good.map_err(|refusal| format!("the good one was refused after it: {}", refusal.message))?;
    let generation = &good["metadata"]["generation"];
    let same = |seen: &Value| settled(seen, generation) && picture(seen, true) == *workspace;
    let last = home.workspace.until(same).await;
    last.map_err(|last| format!("it was {workspace:#} and is {:#}", picture(&last, true)))?;
    let last = home.channel.until(|seen| is_ready(seen) && picture(seen, true) == *channel).await;
    last.map_err(|last| format!("its Channel was {channel:#} and is {:#}", picture(&last, true)))?;
    Ok(if is_ready(&seen) { End::Applied } else { End::Reported })
}

async fn run(kind: &'static str, plural: &str) {
    let harness = cluster_workspaces::harness().await;
    let other = format!("sf_test_v1_other-{}", harness.namespace);
    harness.sim.add_workspace("other tenant", STRANGER, "Not ours");
    harness.sim.add_key(Key::new(&other, "other tenant"));
    harness.secret(STRANGER, &[("apiKey", &other)]).await;
    let words = [STRANGER, "missing", "apiKey"];
    let all = mutations(&spec_of(plural), &json!({"spec": spec(&harness, kind)}), &words);
    let count = all.len();
    let queue = Mutex::new(VecDeque::from(all));
    let (ends, failed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let began = harness.sim.elapsed_ms();
    let work = async |number: usize| {
        let home = home(&harness, kind, number).await;
        let next = || queue.lock().unwrap().pop_front();
        while let Some(mutation) = next() {
            match trial(&home, &mutation).await {
                Ok(end) => ends.lock().unwrap().push(end),
                Err(why) => failed.lock().unwrap().push(format!("{mutation}: {why}")),
            }
        }
        home.channel.until(is_ready).await.expect("the Channel is Ready");
    };
    (0..AT_ONCE).map(work).collect::<FuturesUnordered<_>>().collect::<Vec<()>>().await;
    let (ends, failed) = (ends.into_inner().unwrap(), failed.into_inner().unwrap());
    eprintln!("misoperation: {count} of a {kind} in {} ms", harness.sim.elapsed_ms() - began);
    assert!(failed.is_empty(), "{} failed: {failed:#?}", failed.len());
    for end in [End::Refused, End::Reported, End::Applied] {
        assert!(ends.contains(&end), "none was {end:?}");
    }
    assert_eq!(harness.count(Operation::CreateChannel), AT_ONCE, "each was created once");
    let others = [Operation::DeleteChannel, Operation::UpdateChannel, Operation::StoreCredentials];
    assert_eq!(others.map(|operation| harness.count(operation)), [0; 3]);
    if kind == "ClusterWorkspace" {
        for number in 0..AT_ONCE {
            let name = format!("{}-{number}", harness.namespace);
            harness.delete_and_wait(&name).await;
            cluster_workspaces::delete_and_wait(&harness, &name).await;
        }
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wrong_field_of_a_workspace_is_rejected_or_reported_and_harms_no_channel() {
    run("Workspace", "workspaces").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wrong_field_of_a_clusterworkspace_is_rejected_or_reported_and_harms_no_channel() {
    run("ClusterWorkspace", "clusterworkspaces").await;
}
