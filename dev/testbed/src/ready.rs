//! Waits until etcd and the API server can be used.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::core::v1::Namespace;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::layout::Layout;
use crate::process_reaper::Process;
use crate::user::User;

/// A start takes 3 s on an idle machine; a busy one is no reason to fail.
const READY_WITHIN: Duration = Duration::from_secs(120);
pub(crate) const POLL: Duration = Duration::from_millis(50);

pub(crate) async fn etcd_listens(etcd: &mut Process, port: u16) -> Result<()> {
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        etcd.check()?;
        sleep(POLL).await;
    }
    Ok(())
}

pub(crate) async fn ready(apiserver: &mut Process, layout: &Layout) -> Result<Config> {
    let mut last = anyhow!("never asked");
    let answer = timeout(READY_WITHIN, async {
        loop {
            apiserver.check()?;
            match probe(layout).await {
                Ok(config) => return Ok(config),
                Err(error) => last = error,
            }
            sleep(POLL).await;
        }
    });
    match answer.await {
        Ok(result) => result,
        Err(_) => Err(last
            .context(format!("kube-apiserver is not ready; its log ends with:\n{}", apiserver.log_tail()))),
    }
}

async fn probe(layout: &Layout) -> Result<Config> {
    let kubeconfig = Kubeconfig::read_from(layout.file(&User::Admin.file_name()))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let mut once = config.clone();
    once.default_retry = false;
    once.read_timeout = Some(Duration::from_secs(10));
    let client = client(once)?;
    client.request_text(http::Request::get("/readyz").body(Vec::new())?).await?;
    Api::<Namespace>::all(client).get("default").await?;
    Ok(config)
}

pub(crate) fn client(config: Config) -> Result<Client> {
    // An error means that the process has one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::try_from(config).context("no client for the control plane")
}

pub(crate) async fn within<T>(name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(READY_WITHIN, work).await.with_context(|| format!("{name} did not start in time"))?
}
