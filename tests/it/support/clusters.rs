//! A cluster of a test's own, without CRDs and without an operator.

use testbed::{ControlPlane, Options, User};

use crate::support::harness::{self, CRDS, kubectl_as};
use crate::support::helm::output_text;
use crate::support::{canary, leaks};

/// A control plane with nothing of ours. It ends with the tests' process.
pub async fn empty() -> &'static ControlPlane {
    let plane = Box::leak(Box::new(ControlPlane::start(Options::default()).await.unwrap()));
    leaks::follow(plane);
    plane
}

/// Ends it when all that it holds is scanned; a harness's end does the same for what came before.
pub async fn end(plane: &ControlPlane) {
    leaks::up_to_now(plane).await;
    canary::nothing_leaked();
    plane.kill().unwrap();
}

pub fn kubectl(plane: &ControlPlane, args: &[&str]) -> String {
    let output = kubectl_as(plane, User::Admin, args, None);
    assert!(output.status.success(), "kubectl {args:?}: {}", output_text(&output));
    String::from_utf8(output.stdout).unwrap()
}

pub fn established(plane: &ControlPlane) {
    harness::established(plane, &CRDS);
}
