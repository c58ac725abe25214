//! The health that GitOps tools derive from every set of conditions that the operator writes, by the tools' own code.
//! The sets come from the code that writes statuses.

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

const FLUX: &str = include_str!("../../../deploy/flux/channels.yaml");
const ARGOCD: &str = include_str!("../../../deploy/argocd/argocd-cm.yaml");

/// kstatus, Argo CD, and Flux with its health check expressions.
pub type Tools = [&'static str; 3];

pub const DONE: Tools = ["Current", "Healthy", "Current"];
pub const IN_PROGRESS: Tools = ["InProgress", "Progressing", "InProgress"];
pub const NEEDS_USER: Tools = ["Failed", "Degraded", "Failed"];
pub const SUSPENDED: Tools = ["Current", "Suspended", "Current"];
/// Suspended, and was not Ready.
pub const SUSPENDED_NOT_READY: Tools = ["InProgress", "Suspended", "InProgress"];

/// An object that shows this condition with this reason, or none yet, and the health that each tool is to derive.
pub struct Set {
    pub shows: Option<(&'static str, Reason)>,
    pub object: Value,
    pub tools: Tools,
}

/// The health of one object, by tool.
#[derive(Deserialize, Debug)]
struct Health {
    kstatus: String,
    flux: String,
    argo: argo::Shown,
}

fn sets() -> Vec<Set> {
    channels::sets().into_iter().chain(workspaces::sets()).collect()
}

/// Objects without conditions: as the API server stores a manifest, and one that is deleted before its first status.
fn unseen() -> Vec<Set> {
    let created = ["Channel", "Workspace", "ClusterWorkspace"].map(|kind| {
        let object = json!({
            "apiVersion": "ohallo.eu/v1alpha1", "kind": kind,
            "metadata": {"name": "new", "generation": 1}, "status": api::unseen(),
        });
        Set { shows: None, object, tools: IN_PROGRESS }
    });
    created.into_iter().chain([channels::deleted_unseen()]).collect()
}

/// Runs the tools.
fn assess(objects: &[Value]) -> Vec<Health> {
    let argocd: Value = serde_saphyr::from_str(ARGOCD).unwrap();
    let flux: Vec<Value> = serde_saphyr::from_multiple(FLUX).unwrap();
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
fn every_reason_is_in_a_set_and_each_set_shows_its_reason() {
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
fn each_set_gets_the_expected_health_from_every_tool() {
    let mut sets = sets();
    sets.extend(unseen());
    let objects: Vec<_> = sets.iter_mut().map(|set| set.object.take()).collect();
    let healths = assess(&objects);
    assert_eq!(healths.len(), sets.len());
    let assessed = || sets.iter().zip(&objects).zip(&healths);
    let wrong: Vec<_> = assessed()
        .filter(|((set, _), health)| [&health.kstatus, &health.argo.health, &health.flux] != set.tools)
        .map(|((set, object), health)| {
            format!("{} {:?}: {health:?}, not {:?}", object["kind"], set.shows, set.tools)
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let disagreements: Vec<_> =
        assessed().filter_map(|((_, object), health)| agreement::disagreement(object, health)).collect();
    assert!(disagreements.is_empty(), "{disagreements:#?}");
    assessed().for_each(|((set, object), health)| argo::check(set, object, &health.argo));
}
