//! Every version of every Channel of a namespace, as the API server showed it: what must hold at every moment is
//! searched for in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use ohallo_core::api::channel::Channel;
use ohallo_operator::kubernetes::response_sanitizer;

use crate::support::kstatus;

/// A config above this is not kept, in bytes of JSON.
const LARGE: usize = 16 * 1024;

#[derive(Clone)]
pub struct Seen {
    pub channel: Channel,
    pub deleted: bool,
}

#[derive(Clone, Default)]
pub struct History(Arc<Mutex<Vec<Seen>>>);

// === impl History ===

impl History {
    pub fn watch(client: Client, namespace: &str) -> Self {
        let api: Api<Channel> = Api::namespaced(response_sanitizer::readable(client), namespace);
        let history = Self::default();
        let seen = history.clone();
        tokio::spawn(async move {
            let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
            while let Some(event) = events.next().await {
                let (mut channel, deleted) = match event {
                    Ok(Event::Apply(channel) | Event::InitApply(channel)) => (channel, false),
                    Ok(Event::Delete(channel)) => (channel, true),
                    Ok(_) | Err(_) => continue,
                };
                // No invariant is about what is so large, and all versions of thousands of it take all memory.
                channel.spec.config.take_if(|config| serde_json::to_vec(config).unwrap().len() > LARGE);
                seen.0.lock().unwrap().push(Seen { channel, deleted });
            }
        });
        history
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }

    /// The last version of the Channel of this name.
    pub fn newest(&self, name: &str) -> Option<serde_json::Value> {
        let seen = self.0.lock().unwrap();
        let last = seen.iter().rev().find(|seen| seen.channel.metadata.name.as_deref() == Some(name))?;
        Some(serde_json::to_value(&last.channel).unwrap())
    }

    /// The last version of each object, by uid.
    pub fn last(&self) -> BTreeMap<String, Seen> {
        self.seen().into_iter().map(|seen| (seen.channel.uid().unwrap_or_default(), seen)).collect()
    }

    /// Waits until it has come as far as this list.
    pub async fn until_complete(&self, listed: &[Channel]) {
        let version = |channel: &Channel| channel.resource_version().unwrap_or_default();
        for _ in 0..100 {
            let last = self.last();
            let there = last.values().filter(|seen| !seen.deleted);
            let mut there: Vec<_> = there.map(|seen| version(&seen.channel)).collect();
            let mut wanted: Vec<_> = listed.iter().map(version).collect();
            there.sort();
            wanted.sort();
            if there == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The rules of kstatus that any version broke.
    pub fn against_kstatus(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for Seen { channel, .. } in self.seen() {
            let status = serde_json::to_string(&channel.status).unwrap();
            let name = channel.name_any();
            broken.extend(
                kstatus::broken(&channel).into_iter().map(|rule| format!("{name}: {rule}: {status}")),
            );
        }
        broken
    }
}
