//! The baseline: for each Channel one metadata patch, one create, one status update, and at its end one delete and
//! one finalizer patch, over one watch. It remembers nothing over a crash and retries no error.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Config, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::environment::{RawChannel, RawCondition, RawStatus, WORKSPACE, channels};

const FINALIZER: &str = "ohallo.eu/channel";
const CREATE_INTENT: &str = "ohallo.eu/create-intent";
/// As many as the operator works on at a time.
const CONCURRENCY: usize = 16;
/// Any moment will do.
const THEN: &str = "2026-01-01T00:00:00Z";

#[derive(clap::Args)]
pub struct Settings {
    #[arg(long)]
    kubeconfig: PathBuf,
    #[arg(long)]
    namespace: String,
    #[arg(long)]
    api_url: String,
    #[arg(long)]
    key: String,
    /// Written when every object is listed and decoded
    #[arg(long)]
    ready_file: PathBuf,
}

struct Baseline {
    api: Api<RawChannel>,
    http: reqwest::Client,
    url: String,
    key: String,
}

pub async fn run(settings: Settings) -> Result<()> {
    // Fails only where a provider is there already, which is as good.
    _ = rustls::crypto::ring::default_provider().install_default();
    let file = Kubeconfig::read_from(&settings.kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    let client = Client::try_from(config)?;
    let baseline = Arc::new(Baseline {
        api: channels(&client, &settings.namespace),
        http: reqwest::Client::builder().no_proxy().build()?,
        url: settings.api_url,
        key: settings.key,
    });
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        ended = baseline.work(&settings.ready_file) => ended,
        _ = terminate.recv() => Ok(()),
    }
}

// === impl Baseline ===

impl Baseline {
    async fn work(self: Arc<Self>, ready_file: &std::path::Path) -> Result<()> {
        let mut events = watcher(self.api.clone(), watcher::Config::default()).default_backoff().boxed();
        let workers = Arc::new(Semaphore::new(CONCURRENCY));
        let (mut created, mut ended) = (HashSet::new(), HashSet::new());
        while let Some(event) = events.try_next().await? {
            let channel = match event {
                watcher::Event::Apply(channel) | watcher::Event::InitApply(channel) => channel,
                watcher::Event::InitDone => {
                    std::fs::write(ready_file, "")?;
                    continue;
                }
                _ => continue,
            };
            let name = channel.name_any();
            let going = channel.metadata.deletion_timestamp.is_some();
            let bound = channel.status.as_ref().is_some_and(|status| status.channel_id.is_some());
            let todo = if going { ended.insert(name) } else { !bound && created.insert(name) };
            if todo {
                let permit = Arc::clone(&workers).acquire_owned().await?;
                let baseline = Arc::clone(&self);
                tokio::spawn(async move {
                    let done =
                        if going { baseline.end(channel).await } else { baseline.create(channel).await };
                    if let Err(error) = done {
                        eprintln!("baseline: {error:#}");
                    }
                    drop(permit);
                });
            }
        }
        Ok(())
    }

    async fn create(&self, channel: RawChannel) -> Result<()> {
        let name = channel.name_any();
        let uid = channel.uid().unwrap_or_default();
        let metadata = json!({"metadata": {
            "resourceVersion": channel.resource_version(),
            "finalizers": [FINALIZER],
            "annotations": {CREATE_INTENT: format!("{uid}/1/{THEN}")},
        }});
        let mut channel = self.api.patch(&name, &PatchParams::default(), &Patch::Merge(metadata)).await?;
        let body = json!({
            "channelType": channel.spec.channel_type,
            "displayName": channel.spec.display_name,
            "config": channel.spec.config,
        });
        let url = format!("{}/api/workspaces/{WORKSPACE}/channels", self.url);
        let answer =
            self.http.post(url).bearer_auth(&self.key).json(&body).send().await?.error_for_status()?;
        let created: Value = answer.json().await?;
        let id = created.get("id").and_then(Value::as_str).context("a create without an id")?;
        channel.status = Some(ready(id, channel.metadata.generation));
        self.api.replace_status(&name, &PostParams::default(), &channel).await?;
        Ok(())
    }

    async fn end(&self, channel: RawChannel) -> Result<()> {
        let name = channel.name_any();
        if let Some(id) = channel.status.and_then(|status| status.channel_id) {
            let url = format!("{}/api/channels/{id}", self.url);
            self.http.delete(url).bearer_auth(&self.key).send().await?.error_for_status()?;
        }
        let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        self.api.patch(&name, &PatchParams::default(), &patch).await?;
        Ok(())
    }
}

fn ready(id: &str, generation: Option<i64>) -> RawStatus {
    let condition = RawCondition {
        kind: "Ready".to_owned(),
        status: "True".to_owned(),
        reason: "Available".to_owned(),
        message: "The channel is active.".to_owned(),
        last_transition_time: THEN.to_owned(),
        observed_generation: generation,
    };
    RawStatus {
        channel_id: Some(id.to_owned()),
        observed_generation: generation,
        conditions: vec![condition],
    }
}
