//! What GitOps tools make of every set of conditions that the operator writes, by the tools' own code. The sets come
//! from the code that writes statuses.

mod agreement;
mod argo;
pub mod channels;
mod workspaces;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};
use strum::VariantArray;

use ohallo_core::api;
use ohallo_core::api::conditions::Reason;

const FLUX: &str = include_str!("../deploy/flux/channels.yaml");
const ARGOCD: &str = include_str!("../deploy/argocd/argocd-cm.yaml");

/// kstatus, Argo CD, and Flux with its health check expressions.
pub type Tools = [&'static str; 3];

pub const DONE: Tools = ["Current", "Healthy", "Current"];
pub const GOES_ON: Tools = ["InProgress", "Progressing", "InProgress"];
pub const NEEDS_SOMEBODY: Tools = ["Failed", "Degraded", "Failed"];
pub const RESTS: Tools = ["Current", "Suspended", "Current"];
/// Suspended, and was not Ready.
pub const NOT_READY: Tools = ["InProgress", "Suspended", "InProgress"];

/// An object that shows this condition with this reason, or none yet, and what the tools are to make of it.
pub struct Set {
    pub shows: Option<(&'static str, Reason)>,
    pub object: Value,
    pub tools: Tools,
}

/// What the tools say of one object.
#[derive(Deserialize, Debug)]
struct Verdict {
    kstatus: String,
    flux: String,
    argo: argo::Shown,
}

fn sets() -> Vec<Set> {
    channels::sets().into_iter().chain(workspaces::sets()).collect()
}

/// What has no conditions: as the API server makes them of manifests, and what is deleted before anything was said of it.
fn unseen() -> Vec<Set> {
    let made = ["Channel", "Workspace", "ClusterWorkspace"].map(|kind| {
        let object = json!({
            "apiVersion": "ohallo.eu/v1alpha1", "kind": kind,
            "metadata": {"name": "new", "generation": 1}, "status": api::unseen(),
        });
        Set { shows: None, object, tools: GOES_ON }
    });
    made.into_iter().chain([channels::deleted_unseen()]).collect()
}

/// Asks the tools.
fn judge(objects: &[Value]) -> Vec<Verdict> {
    let argocd: Value = serde_yaml_ng::from_str(ARGOCD).unwrap();
    let flux =
        serde_yaml_ng::Deserializer::from_str(FLUX).map(|document| Value::deserialize(document).unwrap());
    let kustomization = flux.into_iter().find(|object| object["kind"] == "Kustomization").unwrap();
    let flux = &kustomization["spec"]["healthCheckExprs"];
    let request = json!({"argocd": argocd, "flux": flux, "objects": objects});
    let mut asked = Command::new(testbed::tool("gitops").unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    asked.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
    let answer = asked.wait_with_output().unwrap();
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    serde_json::from_slice(&answer.stdout).unwrap()
}

#[test]
fn every_reason_is_in_a_set_and_each_set_shows_what_it_says() {
    let sets = sets();
    for set in &sets {
        let conditions = set.object["status"]["conditions"].as_array().unwrap();
        let (kind, reason) = set.shows.unwrap();
        let found = conditions.iter().find(|condition| condition["type"] == kind);
        let found = found.unwrap_or_else(|| panic!("no {kind}: {}", set.object));
        assert_eq!(found["reason"], reason.as_str(), "{kind} of {}", set.object);
    }
    let shown: BTreeSet<_> = sets.iter().filter_map(|set| set.shows).map(|shown| shown.1).collect();
    assert_eq!(shown, Reason::VARIANTS.iter().copied().collect());
}

#[test]
#[ignore = "builds Argo CD's Lua and Flux's health checks for minutes, once; .ci/full runs it"]
fn each_set_means_to_the_tools_what_it_means_to_us() {
    let mut sets = sets();
    sets.extend(unseen());
    let objects: Vec<_> = sets.iter_mut().map(|set| set.object.take()).collect();
    let verdicts = judge(&objects);
    assert_eq!(verdicts.len(), sets.len());
    let judged = || sets.iter().zip(&objects).zip(&verdicts);
    let wrong: Vec<_> = judged()
        .filter(|((set, _), said)| [&said.kstatus, &said.argo.health, &said.flux] != set.tools)
        .map(|((set, object), said)| {
            format!("{} {:?}: {said:?}, not {:?}", object["kind"], set.shows, set.tools)
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let disagreements: Vec<_> =
        judged().filter_map(|((_, object), said)| agreement::disagreement(object, said)).collect();
    assert!(disagreements.is_empty(), "{disagreements:#?}");
    judged().for_each(|((set, object), said)| argo::check(set, object, &said.argo));
}
