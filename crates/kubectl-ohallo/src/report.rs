//! `report`: what a bug report needs, in one archive. It reads no Secret, and masks what a manifest configures.

mod archive;
mod mask;

use std::fmt::Write;
use std::path::PathBuf;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{Api, ListParams, LogParams};
use ohallo_core::api::ObjectKind;
use serde::Serialize;
use serde_json::Value;

use crate::check;
use crate::cluster::{Cluster, block_on, failed, list_if_allowed};
use crate::failure::{Failure, SUCCESS};
use crate::global::Global;
use crate::installed::{self, LABEL, Operator};
use crate::output::{self, Output};
use crate::report::archive::Archive;

const HELP: &str = "\
Examples:
  kubectl ohallo report
  kubectl ohallo report --all-namespaces --file incident.tar.gz

The archive has the objects of ohallo.eu, their Events, the findings of `check`, and the operators' Deployments, pods, logs and
metrics, as far as you may read them. It has no Secret. Values of spec.config, annotations of others, environment variables,
headers of probes and arguments are masked, but for the operator's own flags. Names, display names, ids and messages are not: read the archive before you share it.

Exit codes: 0 written, 2 no answer, 64 wrong usage.";

/// Of a log, the last lines.
const LOG_LINES: i64 = 5000;
const LOG_BYTES: i64 = 4 * 1024 * 1024;

#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Collect the objects of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    /// The archive to write. It must not exist
    #[arg(short, long, value_name = "FILE", default_value = "ohallo-report.tar.gz")]
    file: PathBuf,
}

/// # Errors
/// The API server does not answer, or the file can't be written.
pub fn run(args: &Args, global: &Global, output: &mut Output) -> Result<u8, Failure> {
    let archive = Archive::create(&args.file)?;
    let files = block_on(async {
        let cluster = Cluster::connect(global).await?;
        let mut report = Report::default();
        report.collect(&cluster, args.all_namespaces).await?;
        Ok(report.files())
    })
    .and_then(|files| archive.write(&files).map(|()| files.len()))
    // An archive without contents misleads.
    .inspect_err(|_| _ = std::fs::remove_file(&args.file))?;
    output
        .print(&format!("wrote {} with {files} files: read it before you share it\n", args.file.display()))?;
    Ok(SUCCESS)
}

/// The files of the archive, by name.
#[derive(Default)]
struct Report {
    files: Vec<(String, String)>,
    /// What the user may not read.
    left_out: Vec<String>,
}

// === impl Report ===

impl Report {
    async fn collect(&mut self, cluster: &Cluster, all: bool) -> Result<(), Failure> {
        for kind in ObjectKind::ALL {
            let listed = cluster.list_if_allowed(kind, all).await?;
            let what = format!("{}s", kind.name());
            self.objects(&format!("{}.yaml", kind.plural()), &what, listed.as_deref())?;
        }
        let events: Api<Event> = if all {
            Api::all(cluster.client.clone())
        } else {
            Api::namespaced(cluster.client.clone(), &cluster.namespace)
        };
        let events = list_if_allowed(&events, &ListParams::default()).await;
        let events = events.map_err(|error| failed("the Events can't be read", &error))?;
        let ours = events.map(|events| events.into_iter().filter(is_ours).collect::<Vec<_>>());
        self.objects("events.yaml", "Events", ours.as_deref())?;
        self.file("check.json", output::json(&check::findings(cluster).await?)?);
        self.file("version.txt", format!("kubectl-ohallo {}\n", env!("CARGO_PKG_VERSION")));
        match installed::operators(cluster).await? {
            None => self.left_out.push("Deployments".to_owned()),
            Some(operators) => {
                for operator in &operators {
                    self.operator(cluster, operator).await?;
                }
            }
        }
        Ok(())
    }

    async fn operator(&mut self, cluster: &Cluster, operator: &Operator) -> Result<(), Failure> {
        let Operator { namespace, name, .. } = operator;
        let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), namespace);
        let named = ListParams::default().fields(&format!("metadata.name={name}"));
        let deployment = list_if_allowed(&deployments, &named).await;
        let deployment = deployment.map_err(|error| failed("the Deployments can't be read", &error))?;
        let folder = format!("operators/{namespace}/{name}");
        self.objects(&format!("{folder}/deployment.yaml"), "Deployments", deployment.as_deref())?;
        let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
        let what = format!("pods of namespace {namespace}");
        let listed = list_if_allowed(&pods, &ListParams::default().labels(LABEL)).await;
        let listed = listed.map_err(|error| failed(&format!("the {what} can't be read"), &error))?;
        self.objects(&format!("{folder}/pods.yaml"), &what, listed.as_deref())?;
        for pod in listed.iter().flatten() {
            self.pod(cluster, operator, &pods, &pod.name_any(), &folder).await;
        }
        Ok(())
    }

    /// The log of this container and of the one before it, and the metrics.
    async fn pod(
        &mut self,
        cluster: &Cluster,
        operator: &Operator,
        pods: &Api<Pod>,
        name: &str,
        folder: &str,
    ) {
        // Without a name, the API server refuses a pod that has several.
        let params = LogParams {
            container: Some(operator.container.clone()),
            tail_lines: Some(LOG_LINES),
            limit_bytes: Some(LOG_BYTES),
            ..LogParams::default()
        };
        let log = pods.logs(name, &params).await;
        self.text(&format!("{folder}/{name}.log"), &format!("the log of pod {name}"), log);
        let before = LogParams { previous: true, ..params };
        // A container that was never restarted has none.
        if let Ok(log) = pods.logs(name, &before).await {
            self.file(&format!("{folder}/{name}.previous.log"), log);
        }
        let Operator { namespace, http_port, .. } = operator;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{http_port}/proxy/metrics");
        let metrics = match http::Request::get(path).body(Vec::new()) {
            Ok(request) => cluster.client.request_text(request).await,
            Err(error) => Err(kube::Error::HttpError(error)),
        };
        self.text(&format!("{folder}/{name}.metrics"), &format!("the metrics of pod {name}"), metrics);
    }

    fn file(&mut self, name: &str, content: String) {
        self.files.push((name.to_owned(), content));
    }

    fn text(&mut self, name: &str, what: &str, answer: kube::Result<String>) {
        match answer {
            Ok(text) => self.file(name, text),
            Err(error) => self.left_out.push(format!("{what} ({})", failed("no answer", &error))),
        }
    }

    fn objects<K: Serialize>(
        &mut self,
        file: &str,
        what: &str,
        objects: Option<&[K]>,
    ) -> Result<(), Failure> {
        let Some(objects) = objects else {
            self.left_out.push(what.to_owned());
            return Ok(());
        };
        let mut text = String::new();
        for object in objects {
            let mut object: Value = serde_json::to_value(object).map_err(Failure::undecided)?;
            mask::mask(&mut object);
            _ = writeln!(text, "---");
            text.push_str(&output::yaml(&object)?);
        }
        self.file(file, text);
        Ok(())
    }

    /// With a page that says what is in it and what is not.
    fn files(mut self) -> Vec<(String, String)> {
        let mut page = "A report of kubectl ohallo. It holds no Secret.\nMasked: values of spec.config, drifted values, annotations of others, environment variables, headers of probes, arguments that are no flags of the operator, passwords in URLs.\n".to_owned();
        if !self.left_out.is_empty() {
            page.push_str("\nLeft out, because it may not be read:\n");
            for what in &self.left_out {
                _ = writeln!(page, "- {what}");
            }
        }
        self.files.insert(0, ("README.txt".to_owned(), page));
        self.files
    }
}

fn is_ours(event: &Event) -> bool {
    let version = event.regarding.as_ref().and_then(|about| about.api_version.as_deref());
    version.is_some_and(|version| version.starts_with("ohallo.eu/"))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kube::client::Body;

    use super::*;

    #[tokio::test]
    async fn the_log_is_that_of_the_operators_container() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            log.lock().unwrap().push(request.uri().to_string());
            async { Ok::<_, std::io::Error>(http::Response::new(Body::from(b"a line\n".to_vec()))) }
        });
        let client = kube::Client::new(service, "home");
        let cluster = Cluster { client: client.clone(), namespace: "home".to_owned() };
        let deployment = serde_json::json!({
            "metadata": {"name": "op", "namespace": "home"},
            "spec": {"selector": {}, "template": {"spec": {"containers": [
                {"name": "vault", "image": "vault:1"}, {"name": "operator", "image": "ohallo-operator:1"}]}}},
        });
        let operator = Operator::of(&serde_json::from_value(deployment).unwrap());
        let mut report = Report::default();
        report.pod(&cluster, &operator, &Api::namespaced(client, "home"), "pod", "folder").await;
        assert!(report.left_out.is_empty(), "{:?}", report.left_out);
        let asked = asked.lock().unwrap();
        let logs: Vec<_> = asked.iter().filter(|uri| uri.contains("/log?")).collect();
        assert!(logs.len() == 2 && logs.iter().all(|uri| uri.contains("container=operator&")), "{asked:?}");
    }
}
