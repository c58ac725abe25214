//! What is seen of objects, of requests and of calls, and waiting for it.

use k8s_openapi::api::core::v1::ConfigMap;

use super::*;

impl Harness {
    /// Waits until the Channel is so.
    pub async fn until(&self, name: &str, what: &str, holds: impl Fn(&Channel) -> bool) -> Channel {
        self.until_within(WAIT_TIMEOUT, name, what, holds).await
    }

    /// The same for what takes longer.
    pub async fn until_within(
        &self,
        patience: Duration,
        name: &str,
        what: &str,
        holds: impl Fn(&Channel) -> bool,
    ) -> Channel {
        let events =
            watcher(self.channels(), watcher::Config::default().fields(&format!("metadata.name={name}")));
        let mut last = None;
        let found = tokio::time::timeout(patience, async {
            let mut channels = events.default_backoff().applied_objects().boxed();
            while let Some(event) = channels.next().await {
                let Ok(channel) = event else { continue };
                if holds(&channel) {
                    return channel;
                }
                last = Some(channel);
            }
            unreachable!("the watch ended")
        })
        .await;
        found.unwrap_or_else(|_| {
            let status = last.map(|channel| json!({"metadata": {"annotations": channel.annotations(), "finalizers": channel.finalizers(), "generation": channel.metadata.generation}, "status": channel.status}));
            panic!("{name} never became {what}; it is {}\nledger: {:#?}", serde_json::to_string_pretty(&status).unwrap(), self.sim.ledger().iter().rev().take(12).collect::<Vec<_>>())
        })
    }

    /// Waits until Ready has this reason and speaks of the current generation.
    pub async fn reason(&self, name: &str, reason: &str) -> Channel {
        self.until(name, reason, |channel| {
            condition(channel, "Ready")
                .is_some_and(|ready| ready.2 == reason && ready.3 == channel.metadata.generation)
        })
        .await
    }

    /// Waits until a condition has this reason.
    pub async fn has(&self, name: &str, kind: &str, reason: &str) -> Channel {
        self.until(name, &format!("{kind}/{reason}"), |channel| {
            condition(channel, kind).is_some_and(|found| found.2 == reason)
        })
        .await
    }

    /// Waits until the object is deleted.
    pub async fn wait_deleted(&self, name: &str) {
        let wait_deleted = async {
            while self.channels().get_opt(name).await.unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(WAIT_TIMEOUT, wait_deleted).await.is_err() {
            panic!("{name} is still there: {}", serde_json::to_string_pretty(&self.get(name).await).unwrap());
        }
    }

    /// Waits until a Workspace's Ready has this reason.
    pub async fn workspace_reason(&self, name: &str, reason: &str) -> Workspace {
        let api: Api<Workspace> = Api::namespaced(self.admin.clone(), &self.namespace);
        self.eventually(&format!("Workspace {name} {reason}"), || async {
            let found = api.get(name).await.unwrap();
            let ready =
                found.status.iter().flat_map(|status| &status.conditions).find(|c| c.type_ == "Ready");
            ready.is_some_and(|ready| ready.reason == reason).then_some(found.clone())
        })
        .await
    }

    /// Waits until `probe` returns something.
    pub async fn eventually<T, F: Future<Output = Option<T>>>(&self, what: &str, probe: impl Fn() -> F) -> T {
        let found = async {
            loop {
                if let Some(found) = probe().await {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(WAIT_TIMEOUT, found).await.unwrap_or_else(|_| {
            panic!("never: {what}; calls: {:?}; writes: {:?}", self.calls(), self.writes())
        })
    }

    /// The reasons and notes of the events about an object, oldest first; a repeated one as often as it occurred.
    pub async fn events(&self, name: &str) -> Vec<(String, String)> {
        let api: Api<Event> = Api::namespaced(self.admin.clone(), &self.namespace);
        let listed = api.list(&ListParams::default()).await.unwrap();
        let about = |event: &&Event| {
            event.regarding.as_ref().is_some_and(|object| object.name.as_deref() == Some(name))
        };
        let mut found: Vec<_> = listed.items.iter().filter(about).collect();
        found.sort_by_key(|event| event.event_time.clone());
        let words = |event: &Event| {
            let count = event.series.as_ref().map_or(1, |series| series.count);
            let words = (event.reason.clone().unwrap_or_default(), event.note.clone().unwrap_or_default());
            vec![words; usize::try_from(count).unwrap()]
        };
        found.into_iter().flat_map(words).collect()
    }

    /// Waits until there is an event with this reason about the object; its note.
    pub async fn event(&self, name: &str, reason: &str) -> String {
        self.eventually(&format!("event {reason} about {name}"), || async {
            self.events(name).await.into_iter().find(|event| event.0 == reason).map(|event| event.1)
        })
        .await
    }

    /// Changes a Channel twice in the same way: the second event continues the series of the first.
    pub async fn repeat_event(&self, name: &str) {
        for times in [1, 2] {
            self.edit(name, json!({"spec": {"displayName": format!("Changed {times}")}})).await;
            self.eventually("the event of each change", || async {
                let updated = self.events(name).await.into_iter().filter(|event| event.0 == "Updated");
                (updated.count() == times).then_some(())
            })
            .await;
        }
    }

    /// The requests in this namespace, by any user.
    pub fn audited(&self) -> Vec<AuditEvent> {
        let mut audited = self.audited.lock().unwrap();
        let mut offset = self.audit_from.lock().unwrap();
        let here = |event: &AuditEvent| event.namespace.as_deref() == Some(&self.namespace);
        audited.extend(self.plane.audit_since(&mut offset).unwrap().into_iter().filter(here));
        audited.clone()
    }

    /// Waits until the audit log has what was answered by now: it is written a moment after the answer.
    pub async fn caught_up(&self) {
        let name = format!("marker-{}", self.audited().len());
        let api: kube::Api<ConfigMap> = kube::Api::namespaced(self.admin.clone(), &self.namespace);
        assert!(api.get_opt(&name).await.unwrap().is_none());
        self.eventually("the audit log has caught up", || async {
            self.audited().iter().any(|event| event.name.as_deref() == Some(&name)).then_some(())
        })
        .await;
    }

    /// The operator's requests in this namespace that change something, events apart.
    pub fn audited_writes(&self) -> Vec<AuditEvent> {
        let mut audited = self.audited();
        audited.retain(|event| {
            event.user == User::Operator.name()
                && event.resource != "events"
                && !matches!(event.verb.as_str(), "get" | "list" | "watch")
        });
        audited
    }

    /// The same in words: verb and resource.
    pub fn writes(&self) -> Vec<String> {
        let ours = self.audited_writes();
        ours.iter()
            .map(|event| {
                format!("{} {} {}", kind(event), event.name.as_deref().unwrap_or_default(), event.code)
            })
            .collect()
    }

    /// The writes about one Channel.
    pub fn writes_of(&self, name: &str) -> Vec<String> {
        let word = format!(" {name} ");
        self.writes().into_iter().filter(|write| write.contains(&word)).collect()
    }

    /// How often the simulator was called for each operation, in the order of the ledger's operations.
    pub fn calls(&self) -> BTreeMap<String, usize> {
        let mut calls = BTreeMap::new();
        for entry in self.sim.ledger() {
            *calls.entry(format!("{:?}", entry.operation)).or_default() += 1;
        }
        calls
    }

    pub fn count(&self, operation: Operation) -> usize {
        self.sim.count(operation)
    }

    /// Deletes a Channel and waits until it is deleted.
    pub async fn delete_and_wait(&self, name: &str) {
        self.delete(name).await;
        self.wait_deleted(name).await;
    }
}

/// `patch channels/status`.
pub fn kind(event: &AuditEvent) -> String {
    let part = event.subresource.as_deref().map(|name| format!("/{name}")).unwrap_or_default();
    format!("{} {}{part}", event.verb, event.resource)
}

/// type, status, reason, observedGeneration.
pub fn condition<'a>(channel: &'a Channel, kind: &str) -> Option<(&'a str, &'a str, &'a str, Option<i64>)> {
    let conditions = channel.status.iter().flat_map(|status| &status.conditions);
    let found = conditions.into_iter().find(|condition| condition.type_ == kind)?;
    Some((&found.type_, &found.status, &found.reason, found.observed_generation))
}

/// A condition's message.
pub fn message<'a>(channel: &'a Channel, kind: &str) -> &'a str {
    let conditions = channel.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().find(|condition| condition.type_ == kind).map_or("", |found| &found.message)
}

/// The id a Channel is bound to.
pub fn bound(channel: &Channel) -> Option<String> {
    channel.status.as_ref()?.channel_id.clone()
}

/// The id of one that is bound.
pub fn id_of(channel: &Channel) -> String {
    bound(channel).expect("the channel is bound")
}
