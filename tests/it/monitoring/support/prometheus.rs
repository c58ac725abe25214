//! A real Prometheus with the shipped scrape job and alerts, each second instead of each half minute.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::monitoring::{file, scrape, text, yaml};
use crate::support::harness::WAIT_TIMEOUT;
use crate::support::ports;

pub const JOB: &str = "ohallo-operator";

/// Killed when dropped.
pub struct Prometheus {
    child: Child,
    url: String,
    folder: tempfile::TempDir,
}

/// One series over time: its labels, and a value for each second that has one.
#[derive(Clone, Debug)]
pub struct Series {
    pub labels: BTreeMap<String, String>,
    /// Seconds since the epoch, and the value.
    pub points: Vec<(f64, f64)>,
}

// === impl Prometheus ===

impl Prometheus {
    /// Scrapes these addresses from now on.
    pub async fn start(targets: &[String]) -> Self {
        // For reqwest, which wants one without TLS as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("prometheus.yaml");
        std::fs::write(&config, ohallo_operator::manifest::yaml(&configuration(targets)).unwrap()).unwrap();
        let [port] = ports::free();
        let program = tokio::task::spawn_blocking(|| testbed::tool("prometheus").unwrap()).await.unwrap();
        let child = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=warn")
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let this = Self { child, url: format!("http://127.0.0.1:{port}"), folder };
        let up = async {
            while this.up().await != targets.len() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        if tokio::time::timeout(WAIT_TIMEOUT, up).await.is_err() {
            panic!("Prometheus scrapes nothing: {}", this.log());
        }
        this
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// How many targets its last scrapes reached.
    async fn up(&self) -> usize {
        let Ok(answer) = reqwest::get(format!("{}/api/v1/targets", self.url)).await else { return 0 };
        let answer: Value = answer.json().await.unwrap_or_default();
        let targets = answer["data"]["activeTargets"].as_array().into_iter().flatten();
        targets.filter(|target| target["health"] == "up").count()
    }

    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let url = reqwest::Url::parse_with_params(&format!("{}/api/v1/{path}", self.url), query).unwrap();
        let answer: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        assert_eq!(answer["status"], "success", "{query:?}: {answer}\n{}", self.log());
        answer["data"].clone()
    }

    /// What a query was answered from then until then, each `step` seconds; what is no number is left out.
    pub async fn range(&self, query: &str, (start, end): (f64, f64), step: u32) -> Vec<Series> {
        let (start, end, step) = (start.to_string(), end.to_string(), step.to_string());
        let query = [("query", query), ("start", &start), ("end", &end), ("step", &step)];
        let data = self.ask("query_range", &query).await;
        let all = data["result"].as_array().unwrap().iter().map(series);
        all.filter(|series| !series.points.is_empty()).collect()
    }

    /// The alerts that have gone off, and each rule's complaint.
    pub async fn alerts(&self) -> BTreeMap<String, (String, String)> {
        let data = self.ask("rules", &[]).await;
        let groups = data["groups"].as_array().unwrap().iter();
        let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        rules.map(|rule| (word(&rule["name"]), (word(&rule["state"]), word(&rule["lastError"])))).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The shipped job, whose pods are found here by their addresses.
fn configuration(targets: &[String]) -> Value {
    let mut config = yaml(scrape::CONFIG);
    config["global"] = json!({"evaluation_interval": "1s"});
    config["rule_files"] = json!([file("deploy/helm/ohallo-operator/files/alerts.yaml")]);
    let job = config["scrape_configs"][0].as_object_mut().unwrap();
    assert_eq!(job["job_name"], JOB);
    for key in ["kubernetes_sd_configs", "relabel_configs"] {
        assert!(job.remove(key).is_some(), "{key}: {}", text(scrape::CONFIG));
    }
    job.insert("scrape_interval".into(), "1s".into());
    job.insert("scrape_timeout".into(), "1s".into());
    let pods = targets.iter().enumerate().map(|(n, target)| {
        // The Prometheus operator gives each pod its namespace.
        let labels = json!({"instance": format!("pod-{n}"), "namespace": "ohallo-system"});
        json!({"targets": [target], "labels": labels})
    });
    job.insert("static_configs".into(), pods.collect());
    config
}

fn series(answer: &Value) -> Series {
    let labels = answer["metric"].as_object().unwrap().iter();
    let points = answer["values"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| (point[0].as_f64().unwrap(), point[1].as_str().unwrap().parse::<f64>().unwrap()));
    Series {
        labels: labels.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect(),
        points: points.filter(|point| point.1.is_finite()).collect(),
    }
}
