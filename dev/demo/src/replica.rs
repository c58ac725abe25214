//! One operator process, as a Deployment would run it in a pod.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use testbed::{ControlPlane, Process};

/// What the operator itself allows for its end, and a little more.
const STOP_WITHIN: Duration = Duration::from_secs(35);
const READY_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// How every replica is run.
pub struct Template {
    pub program: PathBuf,
    pub kubeconfig: PathBuf,
    pub flags: Vec<String>,
}

/// Where one runs: its name, which its log has too, and its host and port.
pub struct Place {
    name: &'static str,
    address: String,
}

pub struct Replica {
    place: Place,
    process: Process,
}

// === impl Template ===

impl Template {
    pub fn start(&self, plane: &ControlPlane, place: Place) -> Result<Replica> {
        let mut arguments = vec![
            "run".to_owned(),
            format!("--kubeconfig={}", self.kubeconfig.display()),
            format!("--http-addr={}", place.address),
            "--log-format=human".to_owned(),
        ];
        arguments.extend_from_slice(&self.flags);
        let process = plane.spawn(place.name, &self.program, &arguments)?;
        Ok(Replica { place, process })
    }
}

// === impl Place ===

impl Place {
    pub fn new(name: &'static str) -> Result<Self> {
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.to_string();
        Ok(Self { name, address })
    }
}

// === impl Replica ===

impl Replica {
    /// Whether it runs.
    pub fn check(&mut self) -> Result<()> {
        self.process.check()
    }

    pub fn metrics(&self) -> String {
        format!("http://{}/metrics", self.place.address)
    }

    /// Waits until its readiness probe succeeds with this text.
    pub async fn prints(&self, part: &str) -> Result<()> {
        let url = format!("http://{}/readyz", self.place.address);
        let prints = async {
            loop {
                if let Ok(answer) = reqwest::get(&url).await
                    && answer.status().is_success()
                    && answer.text().await.is_ok_and(|text| text.contains(part))
                {
                    return;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let line = tokio::time::timeout(READY_WITHIN, prints).await;
        line.with_context(|| format!("{} did not answer {part:?} on /readyz", self.place.name))
    }

    pub fn log(&self, plane: &ControlPlane) -> PathBuf {
        plane.logs_dir().join(format!("{}.log", self.place.name))
    }

    /// Ends it, as a rolling update does, and returns where the next one can run.
    pub async fn end(self) -> Result<Place> {
        self.process.terminate(STOP_WITHIN).await?;
        Ok(self.place)
    }
}
