// I/O
//! Events: published one at a time, beside the passes. In a burst they would cost the API server as much again as
//! the work that they tell of; so they may come a little later, and none holds a pass.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::context::MANAGER;

/// What waits to be published; more is dropped and counted, as the status says the same.
const WAITING: usize = 1000;

/// How many times as long as an event took the next one waits while there is room.
const YIELD: f64 = 4.0;

/// The longest that the API server may take for one event.
const LONGEST: Duration = Duration::from_secs(10);

/// How long the process waits for what it has not published at its end.
const PARTING: Duration = Duration::from_secs(3);

/// An event to be published once the status stands.
#[derive(Clone, Debug)]
pub struct Note {
    pub warning: bool,
    pub reason: String,
    pub text: String,
}

/// Where passes leave their events.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<(ObjectReference, Note)>,
}

/// What publishes them.
pub struct Publisher {
    queue: mpsc::Receiver<(ObjectReference, Note)>,
}

pub fn events() -> (Events, Publisher) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Events { queue: sender }, Publisher { queue: receiver })
}

// === impl Note ===

impl Note {
    pub fn normal(reason: &str, text: impl Into<String>) -> Self {
        Self { warning: false, reason: reason.into(), text: text.into() }
    }

    pub fn warning(reason: &str, text: impl Into<String>) -> Self {
        Self { warning: true, reason: reason.into(), text: text.into() }
    }
}

// === impl Events ===

impl Events {
    /// Leaves events to be published; how many there was no room for.
    pub fn leave<K: Resource<DynamicType = ()>>(&self, object: &K, notes: Vec<Note>) -> u64 {
        let mut dropped = 0;
        for note in notes {
            dropped += u64::from(self.queue.try_send((object.object_ref(&()), note)).is_err());
        }
        dropped
    }

    /// How many wait to be published.
    pub fn waiting(&self) -> i64 {
        let waiting = self.queue.max_capacity().saturating_sub(self.queue.capacity());
        i64::try_from(waiting).unwrap_or(i64::MAX)
    }
}

// === impl Publisher ===

impl Publisher {
    /// Publishes until the stop, and then what is left.
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
        if tokio::time::timeout(PARTING, rest).await.is_err() {
            tracing::warn!("the time to stop was over with events unpublished");
        }
    }

    /// Events give way to the work that they tell of, the less the fuller their queue is.
    fn rest(&self, took: Duration) -> Duration {
        let waiting = self.queue.len();
        if waiting == 0 {
            return Duration::ZERO;
        }
        let room = WAITING.saturating_sub(waiting) as f64 / WAITING as f64;
        took.mul_f64(YIELD * room).min(LONGEST)
    }
}

/// What can't be published (a terminating namespace takes none) is dropped: the status says the same.
async fn publish(client: &Client, object: &ObjectReference, note: Note) {
    // One recorder each: its cache of series would keep every event in memory, and events come on changes only.
    let recorder = Recorder::new(client.clone(), Reporter::from(MANAGER));
    let event = Event {
        type_: if note.warning { EventType::Warning } else { EventType::Normal },
        reason: note.reason,
        note: Some(note.text),
        action: "Reconcile".into(),
        secondary: None,
    };
    let reason = event.reason.clone();
    match tokio::time::timeout(LONGEST, recorder.publish(&event, object)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(reason, %error, "event not published"),
        Err(_) => tracing::debug!(reason, "event not published in time"),
    }
}
