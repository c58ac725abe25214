//! What docs/gitops.md shows is what is shipped and tested, and the API server takes it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::helm::documents;
use crate::rig::Rig;

const PAGE: &str = include_str!("../../../docs/gitops.md");
const FLUX: &str = include_str!("../../../deploy/flux/channels.yaml");

fn shown() -> Vec<Value> {
    let blocks = PAGE.split("```yaml\n").skip(1);
    blocks.flat_map(|rest| documents(rest.split("```").next().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_what_is_shipped_and_what_the_api_server_takes() {
    let rig = Rig::bare(Default::default(), &[]).await;
    let mut kinds = BTreeSet::new();
    for object in shown() {
        let kind = object["kind"].as_str().unwrap();
        kinds.insert(kind.to_owned());
        if kind == "Kustomization" {
            assert!(documents(FLUX).contains(&object), "not what deploy/flux/channels.yaml says");
            continue;
        }
        let taken = rig.kubectl(&["apply", "--dry-run=server", "-f", "-"], Some(&object.to_string()));
        assert!(taken.status.success(), "{object}: {}", String::from_utf8_lossy(&taken.stderr));
    }
    assert_eq!(kinds, ["Channel", "Kustomization", "Workspace"].map(str::to_owned).into());
    rig.finish().await;
}
