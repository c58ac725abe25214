//! The chart, by the real Helm.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use testbed::{ControlPlane, User};

use crate::support::harness::kubectl_as;

pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/helm/ohallo-operator");
pub const RELEASE: &str = "ohallo-operator";
pub const OPERATOR_NAMESPACE: &str = "ohallo-system";

/// Keeps Helm from the user's folders and settings.
pub fn isolate(command: &mut Command, home: &Path) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HELM_") {
            command.env_remove(name);
        }
    }
    for folder in ["CACHE", "CONFIG", "DATA"] {
        command.env(format!("HELM_{folder}_HOME"), home.join(folder));
    }
}

fn helm() -> Command {
    static FOLDERS: OnceLock<(tempfile::TempDir, std::path::PathBuf)> = OnceLock::new();
    let (home, program) =
        FOLDERS.get_or_init(|| (tempfile::tempdir().unwrap(), testbed::tool("helm").unwrap()));
    let mut command = Command::new(program);
    isolate(&mut command, home.path());
    command.env_remove("KUBECONFIG").stdin(Stdio::null());
    command
}

pub fn output_text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Helm without a cluster.
pub fn without_cluster(args: &[&str]) -> Output {
    helm().args(args).output().unwrap()
}

/// Helm as an administrator of a cluster; it must succeed.
pub fn on(plane: &ControlPlane, args: &[&str]) -> String {
    let output = helm().arg("--kubeconfig").arg(plane.kubeconfig(User::Admin)).args(args).output().unwrap();
    assert!(output.status.success(), "helm {args:?}: {}", output_text(&output));
    output_text(&output)
}

/// What the chart renders with these `--set-json` values, or Helm's error.
pub fn render(values: &[&str]) -> Result<Vec<Value>, String> {
    render_as(RELEASE, OPERATOR_NAMESPACE, values)
}

pub fn render_as(release: &str, namespace: &str, values: &[&str]) -> Result<Vec<Value>, String> {
    let mut args = vec!["template", release, CHART, "--namespace", namespace];
    values.iter().for_each(|value| args.extend(["--set-json", value]));
    let output = without_cluster(&args);
    if !output.status.success() {
        return Err(output_text(&output));
    }
    Ok(documents(&String::from_utf8(output.stdout).unwrap()))
}

pub fn documents(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    documents.into_iter().filter(|object| !object.is_null()).collect()
}

/// The objects of a kind.
pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The operator's arguments in a Deployment, without the command itself.
pub fn arguments(deployment: &Value) -> Vec<String> {
    let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
    let args: Vec<_> = args.iter().map(|arg| arg.as_str().unwrap().to_owned()).collect();
    assert_eq!(args[0], "run");
    args[1..].to_vec()
}

/// The same of the Deployment that is in the cluster.
pub fn stored_arguments(plane: &ControlPlane) -> Vec<String> {
    let get = ["get", "deployment", RELEASE, "-n", OPERATOR_NAMESPACE, "-o", "json"];
    let output = kubectl_as(plane, User::Admin, &get, None);
    arguments(&serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", output_text(&output))))
}

/// A copy of the chart to be changed.
pub fn copy() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_folder(Path::new(CHART), copy.path());
    copy
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
