//! What a release publishes beside the image: packaged, and rendered as a user pulls it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::helm::{documents, of_kind, output_text, without_cluster};

const IMAGE: &str = "ghcr.io/ohallo/ohallo-operator";
const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const SIMULATOR_DIGEST: &str = "sha256:fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
const REPOSITORY: &str = "https://github.com/ohallo/ohallo-operator";
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn package(image: &str, digest: &str, folder: &Path) -> std::process::Output {
    let helm = testbed::tool("helm").unwrap();
    let path = format!("{}:{}", helm.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut package = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/release/package"));
    package.args([image, digest, SIMULATOR_DIGEST]).arg(folder).env("PATH", path).output().unwrap()
}

fn packaged(image: &str, folder: &Path) -> String {
    let output = package(image, DIGEST, folder);
    assert!(output.status.success(), "{}", output_text(&output));
    folder.join(format!("ohallo-operator-{VERSION}.tgz")).to_str().unwrap().to_owned()
}

/// The image that the operator's Deployment has.
fn image(yaml: &str) -> String {
    let objects = documents(yaml);
    let pod = &of_kind(&objects, "Deployment")[0]["spec"]["template"]["spec"];
    pod["containers"][0]["image"].as_str().unwrap().to_owned()
}

fn rendered(chart: &str, values: &str) -> String {
    let output = without_cluster(&["template", "ohallo", chart, "--set", values]);
    assert!(output.status.success(), "{}", output_text(&output));
    image(&String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_published_chart_and_manifests_name_the_image_by_registry_version_and_digest() {
    let folder = tempfile::tempdir().unwrap();
    let chart = packaged(IMAGE, folder.path());
    let published = format!("{IMAGE}:{VERSION}@{DIGEST}");
    assert_eq!(rendered(&chart, "replicas=1"), published);
    assert_eq!(image(&std::fs::read_to_string(folder.path().join("install.yaml")).unwrap()), published);
    // A mirror has the same content; another tag or repository has not.
    assert_eq!(
        rendered(&chart, "global.imageRegistry=mirror.example"),
        format!("mirror.example/ohallo/ohallo-operator:{VERSION}@{DIGEST}")
    );
    assert_eq!(rendered(&chart, "image.tag=v9"), format!("{IMAGE}:v9"));
    let own = "image.repository=registry.example/ohallo-operator";
    assert_eq!(rendered(&chart, own), format!("registry.example/ohallo-operator:{VERSION}"));
    let crds = documents(&std::fs::read_to_string(folder.path().join("crds.yaml")).unwrap());
    assert_eq!(of_kind(&crds, "CustomResourceDefinition").len(), 3);
    let schemas = folder.path().join(format!("ohallo-schemas-{VERSION}.tgz"));
    let listed = Command::new("tar").arg("-tzf").arg(schemas).output().unwrap();
    assert!(output_text(&listed).contains("./ohallo.eu/channel_v1alpha1.json"), "{}", output_text(&listed));
}

#[test]
fn the_artifact_for_flux_has_the_paths_of_the_repository_and_the_published_image() {
    let folder = tempfile::tempdir().unwrap();
    packaged(IMAGE, folder.path());
    let layout = tempfile::tempdir().unwrap();
    let unpack = |archive: &Path, to: &Path| {
        let done = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(to).status().unwrap();
        assert!(done.success(), "{}", archive.display());
    };
    unpack(&folder.path().join(format!("ohallo-operator-manifests-{VERSION}.oci.tar")), layout.path());
    let read = |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let path = layout.path().join("blobs/sha256").join(digest);
        assert_eq!(path.metadata().unwrap().len(), descriptor["size"].as_u64().unwrap());
        path
    };
    let index = read(&layout.path().join("index.json"));
    let manifest = read(&blob(&index["manifests"][0]));
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.cncf.flux.config.v1+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.cncf.flux.content.v1.tar+gzip");
    read(&blob(&manifest["config"]));
    let content = tempfile::tempdir().unwrap();
    unpack(&blob(&manifest["layers"][0]), content.path());
    let rendered = Command::new("kubectl")
        .arg("kustomize")
        .arg(content.path().join("deploy/kustomize/base"))
        .output()
        .unwrap();
    let published = std::fs::read(folder.path().join("install.yaml")).unwrap();
    assert!(rendered.stdout == published, "{}", output_text(&rendered));
    let simulator =
        std::fs::read_to_string(content.path().join("deploy/kustomize/overlays/try/simulator.yaml"));
    let image = format!("image: ghcr.io/ohallo/ohallo-sim:{VERSION}@{SIMULATOR_DIGEST}");
    assert!(simulator.unwrap().contains(&image));
}

#[test]
fn flux_follows_this_minor_version_and_verifies_the_release_workflow() {
    let objects = documents(include_str!("../../../deploy/flux/operator.yaml"));
    let spec = &of_kind(&objects, "OCIRepository")[0]["spec"];
    let minor = VERSION.rsplit_once('.').unwrap().0;
    assert_eq!(spec["ref"]["semver"], format!("~{minor}.0"));
    let subject = spec["verify"]["matchOIDCIdentity"][0]["subject"].as_str().unwrap();
    let repository = REPOSITORY.replace('.', r"\.");
    assert_eq!(subject, format!(r"^{repository}/\.github/workflows/release\.yaml@refs/tags/v.*$"));
}

#[test]
fn the_release_of_a_fork_names_its_own_registry() {
    let folder = tempfile::tempdir().unwrap();
    let chart = packaged("registry.example/team/operator", folder.path());
    let published = format!("registry.example/team/operator:{VERSION}@{DIGEST}");
    assert_eq!(rendered(&chart, "replicas=1"), published);
    assert_eq!(image(&std::fs::read_to_string(folder.path().join("install.yaml")).unwrap()), published);
}

#[test]
fn an_image_without_a_registry_and_a_wrong_digest_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (image, digest, sentence) in [
        ("ohallo-operator", DIGEST, "ohallo-operator names no registry"),
        (IMAGE, "sha256:abc", "sha256:abc is no digest"),
    ] {
        let output = package(image, digest, folder.path());
        assert!(
            !output.status.success() && output_text(&output).contains(sentence),
            "{}",
            output_text(&output)
        );
    }
}

#[test]
fn the_chart_lists_what_artifact_hub_shows_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let chart = packaged(IMAGE, folder.path());
    let shown = without_cluster(&["show", "chart", &chart]);
    let metadata = &documents(&String::from_utf8(shown.stdout).unwrap())[0];
    let annotation = |name: &str| -> Value {
        let text = metadata["annotations"][format!("artifacthub.io/{name}")].as_str();
        serde_saphyr::from_str(text.unwrap_or_else(|| panic!("{name}"))).unwrap()
    };
    assert_eq!(annotation("images")[0]["image"], format!("{IMAGE}:{VERSION}@{DIGEST}"));
    let kinds: Vec<_> =
        annotation("crds").as_array().unwrap().iter().map(|crd| crd["kind"].clone()).collect();
    assert_eq!(kinds, ["Channel", "Workspace", "ClusterWorkspace"]);
    // Those of this version in the changelog.
    let entry = include_str!("../../../CHANGELOG.md").split("\n## ").nth(1).unwrap();
    let (entry, _) = entry.split_once("### Upgrade").unwrap();
    let bullets = entry.lines().filter(|line| line.starts_with("- ")).count();
    let changes = annotation("changes");
    assert_eq!(changes.as_array().unwrap().len(), bullets);
    assert!(changes.as_array().unwrap().iter().all(|change| change["description"].is_string()));
    for example in annotation("crdsExamples").as_array().unwrap() {
        assert_eq!(example["apiVersion"], "ohallo.eu/v1alpha1");
    }
}

#[test]
fn the_commands_that_verify_a_release_name_its_workflow_and_this_version() {
    let page = include_str!("../../../docs/verify.md");
    let workflow = include_str!("../../../.github/workflows/release.yaml");
    assert!(workflow.contains("cosign sign") && workflow.contains("actions/attest@"));
    let identity = format!("{REPOSITORY}/.github/workflows/release.yaml@refs/tags/v{VERSION}");
    assert_eq!(page.matches(&identity).count(), 3);
    for line in page.lines().filter(|line| line.contains("ghcr.io/ohallo/")) {
        assert!(line.contains(&format!("ohallo-operator:{VERSION}")), "{line}");
    }
}
