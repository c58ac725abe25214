//! The published JSON schemas: as generated, and as kubeconform uses them.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::cli::support::program::run;
use crate::misoperation::channels::bases;
use crate::misoperation::mutations::mutations;
use crate::misoperation::support::schema::{paths, spec_of};

const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/schemas");
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/samples");

#[test]
fn the_committed_schemas_are_what_the_program_writes_and_prints() {
    let folder = tempfile::tempdir().unwrap();
    assert!(run(&["schema", "--out", folder.path().to_str().unwrap()]).status.success());
    let files = |root: &Path| {
        let mut found = Vec::new();
        for group in std::fs::read_dir(root).unwrap() {
            for file in std::fs::read_dir(group.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.push((name, std::fs::read_to_string(path).unwrap()));
            }
        }
        found.sort();
        found
    };
    let committed = files(Path::new(SCHEMAS));
    assert!(files(folder.path()) == committed, "kubectl ohallo schema --out deploy/schemas");
    for kind in ["channel", "Workspace", "clusterworkspace"] {
        let printed = String::from_utf8(run(&["schema", kind]).stdout).unwrap();
        let name = format!("ohallo.eu/{}_v1alpha1.json", kind.to_lowercase());
        assert!(committed.contains(&(name, printed)), "{kind}");
    }
    assert_eq!(run(&["schema", "secret"]).status.code(), Some(64));
}

fn kubeconform(place: &Path) -> Value {
    let location = format!("{SCHEMAS}/{{{{.Group}}}}/{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json");
    let mut command = Command::new(testbed::tool("kubeconform").unwrap());
    command.args(["-schema-location", &location, "-skip=Secret,Kustomization", "-output=json", "-verbose"]);
    let output = command.arg(place).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn kubeconform_accepts_the_samples_and_refuses_what_a_schema_can_see() {
    let report = kubeconform(Path::new(SAMPLES));
    let of = |report: &Value, status: &str| {
        let all = report["resources"].as_array().unwrap();
        all.iter().filter(|resource| resource["status"] == status).count()
    };
    assert_eq!((of(&report, "statusValid"), of(&report, "statusSkipped")), (5, 6), "{report:#}");
    // Every mutation that the schema of its field refuses, but for nulls: the API server removes those.
    let folder = tempfile::tempdir().unwrap();
    let spec = &bases()[1].spec;
    let whole = json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": "a"}, "spec": spec});
    let all = mutations(&spec_of("channels"), &json!({"spec": spec}), &[]);
    let wrong = all
        .iter()
        .filter(|mutation| !mutation.fits && mutation.value.as_ref().is_none_or(|value| !value.is_null()));
    let mut count = 0;
    let mut seen = std::collections::BTreeSet::new();
    for mutation in wrong {
        let object = mutation.apply(&whole).unwrap();
        std::fs::write(folder.path().join(format!("{count}.json")), object.to_string()).unwrap();
        seen.insert(mutation.path.clone());
        count += 1;
    }
    assert!(count > 200 && paths("spec", &spec_of("channels")).iter().all(|path| seen.contains(path)));
    let report = kubeconform(folder.path());
    let valid: Vec<_> = report["resources"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|resource| resource["status"] == "statusValid")
        .collect();
    assert!(valid.is_empty(), "{} of {count}: {valid:#?}", valid.len());
    assert_eq!(of(&report, "statusInvalid"), count);
}
