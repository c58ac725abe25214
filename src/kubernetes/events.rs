//! Events: published one at a time, apart from the reconciles. Published at once, a burst would cost the API
//! server as much again as the reconciles. Events may come a little later instead, and none delays a reconcile.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Resource};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use ohallo_client::clock;
use ohallo_core::api::MANAGER;
use ohallo_core::event::PendingEvent;
use ohallo_core::text;

/// The most events that wait to be published. More are dropped and counted, because the status shows the same.
const MAX_WAITING: usize = 1000;

/// While the queue has room, the next event waits this many times the duration of the previous one.
const YIELD_FACTOR: f64 = 4.0;

/// The longest duration of one event's request, and the longest wait after it.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);

/// The namespace of events about cluster-scoped objects.
const CLUSTER_NAMESPACE: &str = "default";

/// The longest note that the API server accepts, in bytes.
const MAX_NOTE_BYTES: usize = 1024;

/// The longest name of an event, and the longest reporting instance, in bytes.
const MAX_NAME_BYTES: usize = 253;
const MAX_INSTANCE_BYTES: usize = 128;

/// How long the process waits at shutdown for unpublished events.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// The queue that reconciles add their events to.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<(ObjectReference, PendingEvent)>,
}

/// Publishes the queued events.
pub struct Publisher {
    queue: mpsc::Receiver<(ObjectReference, PendingEvent)>,
}

pub fn events() -> (Events, Publisher) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (Events { queue: sender }, Publisher { queue: receiver })
}

// === impl Events ===

impl Events {
    /// Queues events to be published. Returns how many were dropped because the queue was full.
    pub fn leave<K: Resource<DynamicType = ()>>(&self, object: &K, notes: Vec<PendingEvent>) -> u64 {
        let mut dropped = 0;
        for note in notes {
            let note = PendingEvent { text: text::cut_bytes(note.text, MAX_NOTE_BYTES), ..note };
            dropped += u64::from(self.queue.try_send((object.object_ref(&()), note)).is_err());
        }
        dropped
    }

    /// How many events wait to be published.
    pub fn waiting(&self) -> i64 {
        let waiting = self.queue.max_capacity().saturating_sub(self.queue.capacity());
        i64::try_from(waiting).unwrap_or(i64::MAX)
    }
}

// === impl Publisher ===

impl Publisher {
    /// Publishes until the stop, then publishes the rest.
    pub async fn run(mut self, client: Client, stop: CancellationToken) {
        while let Some(Some((object, note))) = stop.run_until_cancelled(self.queue.recv()).await {
            let begun = clock::instant();
            publish(&client, &object, note).await;
            let rest = self.rest(clock::instant().saturating_duration_since(begun));
            let _stopped = stop.run_until_cancelled(tokio::time::sleep(rest)).await;
        }
        self.queue.close();
        let rest = async {
            while let Some((object, note)) = self.queue.recv().await {
                publish(&client, &object, note).await;
            }
        };
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, rest).await.is_err() {
            tracing::warn!("the shutdown grace period ended with unpublished events");
        }
    }

    /// Events yield to the reconciles that they report; the fuller their queue is, the less they yield.
    fn rest(&self, took: Duration) -> Duration {
        let waiting = self.queue.len();
        if waiting == 0 {
            return Duration::ZERO;
        }
        let room = MAX_WAITING.saturating_sub(waiting) as f64 / MAX_WAITING as f64;
        took.mul_f64(YIELD_FACTOR * room).min(PUBLISH_TIMEOUT)
    }
}

/// Publishes one event. An event that can't be published (as in a terminating namespace) is dropped: the status
/// shows the same.
async fn publish(client: &Client, object: &ObjectReference, note: PendingEvent) {
    let event = event(object, note, clock::now());
    let reason = event.reason.clone();
    let api: Api<Event> =
        Api::namespaced(client.clone(), event.metadata.namespace.as_deref().unwrap_or(CLUSTER_NAMESPACE));
    match tokio::time::timeout(PUBLISH_TIMEOUT, api.create(&PostParams::default(), &event)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(reason, %error, "event not published"),
        Err(_) => tracing::debug!(reason, "event not published in time"),
    }
}

/// Builds the event without kube's recorder. The recorder makes too long names for objects with long names. It
/// also keeps every event in memory for series, which never occur because events follow changes only.
fn event(object: &ObjectReference, note: PendingEvent, now: Timestamp) -> Event {
    let suffix = format!(".{:x}", now.as_nanosecond());
    let name = object.name.as_deref().unwrap_or(MANAGER);
    let name = name.split_at(name.floor_char_boundary(MAX_NAME_BYTES.saturating_sub(suffix.len()))).0;
    // Each part of a name must end in a letter or a digit.
    let name = format!("{}{suffix}", name.trim_end_matches(['-', '.']));
    let namespace = object.namespace.clone().unwrap_or_else(|| CLUSTER_NAMESPACE.into());
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..ObjectMeta::default() },
        event_time: Some(MicroTime(now)),
        type_: Some(note.kind.as_str().into()),
        reason: Some(note.reason.as_str().into()),
        note: Some(note.text),
        action: Some("Reconcile".into()),
        regarding: Some(object.clone()),
        reporting_controller: Some(MANAGER.into()),
        reporting_instance: Some(text::cut_bytes(instance(), MAX_INSTANCE_BYTES)),
        ..Event::default()
    }
}

/// The name of this replica.
fn instance() -> String {
    let named = |variable| std::env::var(variable).ok().filter(|name: &String| !name.is_empty());
    named("POD_NAME").or_else(|| named("HOSTNAME")).unwrap_or_else(|| MANAGER.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ohallo_core::api::conditions::Reason;
    use ohallo_core::event::EventReason;

    #[test]
    fn f79_an_event_keeps_the_limits_of_the_api_server_however_long_name_and_text_are() {
        let now: Timestamp = "2026-01-10T08:00:00.123456789Z".parse().unwrap();
        for name in [
            "a".to_owned(),
            "a".repeat(237),
            format!("{}-{}", "a".repeat(235), "b".repeat(17)),
            "a.".repeat(126) + "b",
        ] {
            let object = ObjectReference {
                name: Some(name.clone()),
                namespace: Some("t".into()),
                ..Default::default()
            };
            let event = event(&object, PendingEvent::normal(EventReason::Created, "x"), now);
            let derived = event.metadata.name.unwrap();
            assert!(derived.len() <= MAX_NAME_BYTES && ohallo_core::api::is_name(&derived), "{derived}");
            assert!(derived.split('.').all(|label| !label.ends_with('-')), "{derived}");
            assert_eq!(event.regarding.unwrap().name, Some(name), "it is about the object by its whole name");
        }
        let (events, mut publisher) = events();
        let object = ohallo_core::api::channel::Channel::default();
        for text in ["α".repeat(660), "ไ".repeat(256), "a".repeat(2000), "short".to_owned()] {
            events.leave(&object, vec![PendingEvent::warning(Reason::ValidationFailed, text.clone())]);
            let (_, note) = publisher.queue.try_recv().unwrap();
            assert!(note.text.len() <= MAX_NOTE_BYTES && (text.len() > MAX_NOTE_BYTES || note.text == text));
        }
    }
}
