// I/O
//! What the documents tell to apply is taken by the API server.

use ohallo_sim::Config;
use serde_json::Value;

use super::pages;
use crate::helm::documents;
use crate::rig::Rig;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifests_of_the_documents_are_taken_by_the_api_server() {
    let rig = Rig::bare(Config::default(), &[]).await;
    let mut seen = 0;
    for (path, text) in pages::all() {
        for block in pages::yaml(&text) {
            for object in documents(&block).iter().filter(|object| ours(object)) {
                let apply = ["apply", "--dry-run=server", "-f", "-"];
                let output = rig.kubectl(&apply, Some(&object.to_string()));
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success() && said.is_empty(), "{path}: {said}\n{object:#}");
                seen += 1;
            }
        }
    }
    assert!(seen > 3, "{seen}");
    rig.finish().await;
}

/// A whole object of a kind that is there in every cluster that has the operator.
fn ours(object: &Value) -> bool {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    version == "v1" || version.starts_with("ohallo.eu/") || version.starts_with("rbac.authorization.k8s.io/")
}
