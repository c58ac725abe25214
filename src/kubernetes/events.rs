//! Publishes events apart from the reconciles, which none delays. [`EventQueue`] decides which event is next and when.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::kubernetes::object_store::has_code;
use ohallo_client::clock;
use ohallo_core::api::MANAGER;
use ohallo_core::event::PendingEvent;
use ohallo_core::event_queue::{Answer, EventQueue, Next, Occurrence};
use ohallo_core::text;

/// The longest duration of one event's requests.
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
#[derive(Clone, Default)]
pub struct Events(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<EventQueue>,
    pushed: Notify,
}

/// Publishes the queued events.
pub struct Publisher {
    events: Events,
    client: Client,
    /// Counts dropped events.
    dropped: Box<dyn Fn(u64) + Send + Sync>,
}

// === impl Events ===

impl Events {
    /// Queues events to be published. Returns how many were dropped because the queue was full.
    pub fn leave<K: Resource<DynamicType = ()>>(&self, object: &K, notes: Vec<PendingEvent>) -> u64 {
        if notes.is_empty() {
            return 0;
        }
        let object = object.object_ref(&());
        let mut queue = self.queue();
        let push = |note: PendingEvent| {
            let note = PendingEvent { text: text::cut_bytes(note.text, MAX_NOTE_BYTES), ..note };
            queue.push(object.clone(), note, clock::now())
        };
        let dropped = notes.into_iter().map(push).sum();
        self.0.pushed.notify_one();
        dropped
    }

    /// How many events wait to be published.
    pub fn waiting(&self) -> i64 {
        i64::try_from(self.queue().len()).unwrap_or(i64::MAX)
    }

    fn queue(&self) -> MutexGuard<'_, EventQueue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Publisher ===

impl Publisher {
    /// `dropped` counts events that are dropped because the API server does not answer.
    pub fn new(events: Events, client: Client, dropped: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self { events, client, dropped: Box::new(dropped) }
    }

    /// Publishes until the stop, then publishes the rest.
    pub async fn run(self, stop: CancellationToken) {
        let mut in_flight = FuturesUnordered::new();
        while !stop.is_cancelled() {
            let wait = match self.next(false) {
                Next::Publish(occurrence) => {
                    in_flight.push(self.publish(*occurrence));
                    continue;
                }
                Next::Wait(until) => until,
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.events.0.pushed.notified() => {}
                () = at(wait) => {}
                Some(()) = in_flight.next() => {}
            }
        }
        let rest = async {
            loop {
                let wait = match self.next(true) {
                    Next::Publish(occurrence) => {
                        in_flight.push(self.publish(*occurrence));
                        continue;
                    }
                    Next::Wait(None) if in_flight.is_empty() => break,
                    Next::Wait(until) => until,
                };
                tokio::select! {
                    () = at(wait) => {}
                    Some(()) = in_flight.next() => {}
                }
            }
        };
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, rest).await.is_err() {
            tracing::warn!("the shutdown grace period ended with unpublished events");
        }
    }

    fn next(&self, drain: bool) -> Next {
        self.events.queue().next(clock::instant(), drain)
    }

    /// Publishes one event, and reports the answer to the queue.
    async fn publish(&self, occurrence: Occurrence) {
        let began = clock::instant();
        let answer = tokio::time::timeout(PUBLISH_TIMEOUT, send(&self.client, &occurrence)).await;
        let now = clock::instant();
        let answer = match answer {
            Ok(Ok(())) => Answer::Stored(now.saturating_duration_since(began)),
            Ok(Err(error)) => {
                tracing::debug!(reason = occurrence.event.reason.as_str(), %error, "event not published");
                refusal(&occurrence, &error)
            }
            Err(_) => {
                tracing::debug!(reason = occurrence.event.reason.as_str(), "event not published in time");
                Answer::Busy(None)
            }
        };
        (self.dropped)(self.events.queue().answered(occurrence, answer, now));
    }
}

/// Sleeps until then; without a time, for ever.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep(time.saturating_duration_since(clock::instant())).await,
        None => std::future::pending().await,
    }
}

/// Whether the API server may store the event later. An event that it will not store (as in a terminating namespace) is
/// dropped: the status shows the same.
fn refusal(occurrence: &Occurrence, error: &kube::Error) -> Answer {
    match error {
        kube::Error::Api(status) if matches!(status.code, 429 | 503 | 504) => {
            let after = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
            Answer::Busy((after > 0).then(|| Duration::from_secs(after.into())))
        }
        // The API server deletes events, by default after an hour, and an old role may not allow to patch them. Whatever
        // the reason: a new event does not continue the series.
        kube::Error::Api(status) if occurrence.repeats.is_some() && (400..500).contains(&status.code) => {
            Answer::SeriesEnded
        }
        kube::Error::Api(_) => Answer::Refused,
        _ => Answer::Busy(None),
    }
}

/// Stores a new event, or continues the series of a published one.
async fn send(client: &Client, occurrence: &Occurrence) -> kube::Result<()> {
    let namespace = occurrence.object.namespace.as_deref().unwrap_or(CLUSTER_NAMESPACE);
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    if occurrence.repeats.is_none() {
        match api.create(&PostParams::default(), &event(occurrence)).await {
            // An earlier request has stored it, and its answer was lost.
            Err(error) if has_code(&error, 409) => {}
            created => return created.map(drop),
        }
    }
    let Some(series) = series(occurrence) else { return Ok(()) };
    let patch = Patch::Merge(json!({ "series": series }));
    api.patch(&name(occurrence), &PatchParams::default(), &patch).await.map(drop)
}

/// Builds the event without kube's recorder, which makes too long names for objects with long names.
fn event(occurrence: &Occurrence) -> Event {
    let Occurrence { object, event, first, .. } = occurrence;
    let namespace = object.namespace.clone().unwrap_or_else(|| CLUSTER_NAMESPACE.into());
    Event {
        metadata: ObjectMeta {
            name: Some(name(occurrence)),
            namespace: Some(namespace),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(*first)),
        series: series(occurrence),
        type_: Some(event.kind.as_str().into()),
        reason: Some(event.reason.as_str().into()),
        note: Some(event.text.clone()),
        action: Some("Reconcile".into()),
        regarding: Some(object.clone()),
        reporting_controller: Some(MANAGER.into()),
        reporting_instance: Some(text::cut_bytes(instance(), MAX_INSTANCE_BYTES)),
        ..Event::default()
    }
}

/// The name of the event, or of that whose series it continues: the same at each attempt.
fn name(occurrence: &Occurrence) -> String {
    let suffix = format!(".{:x}", occurrence.series().first.as_nanosecond());
    let name = occurrence.object.name.as_deref().unwrap_or(MANAGER);
    let name = name.split_at(name.floor_char_boundary(MAX_NAME_BYTES.saturating_sub(suffix.len()))).0;
    // Each part of a name must end in a letter or a digit.
    format!("{}{suffix}", name.trim_end_matches(['-', '.']))
}

/// `None` for what occurred once.
fn series(occurrence: &Occurrence) -> Option<EventSeries> {
    let count = occurrence.series().count;
    let last_observed_time = MicroTime(occurrence.last);
    (count > 1).then_some(EventSeries { count, last_observed_time })
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

    fn next(events: &Events) -> Occurrence {
        let Next::Publish(next) = events.queue().next(clock::instant(), true) else {
            panic!("nothing waits")
        };
        events.queue().answered((*next).clone(), Answer::Stored(Duration::ZERO), clock::instant());
        *next
    }

    #[test]
    fn f79_an_event_keeps_the_limits_of_the_api_server_however_long_name_and_text_are() {
        let events = Events::default();
        for name in [
            "a".to_owned(),
            "a".repeat(237),
            format!("{}-{}", "a".repeat(235), "b".repeat(17)),
            "a.".repeat(126) + "b",
        ] {
            let object = ohallo_core::api::channel::Channel::new(&name, Default::default());
            events.leave(&object, vec![PendingEvent::warning(Reason::ValidationFailed, "x")]);
            let event = event(&next(&events));
            let derived = event.metadata.name.unwrap();
            assert!(derived.len() <= MAX_NAME_BYTES && ohallo_core::api::is_name(&derived), "{derived}");
            assert!(derived.split('.').all(|label| !label.ends_with('-')), "{derived}");
            assert_eq!(event.regarding.unwrap().name, Some(name), "it is about the object by its whole name");
        }
        let object = ohallo_core::api::channel::Channel::default();
        for text in ["α".repeat(660), "ไ".repeat(256), "a".repeat(2000), "short".to_owned()] {
            events.leave(&object, vec![PendingEvent::warning(Reason::ValidationFailed, text.clone())]);
            let note = next(&events).event.text;
            assert!(note.len() <= MAX_NOTE_BYTES && (text.len() > MAX_NOTE_BYTES || note == text));
        }
    }

    #[test]
    fn a_repeated_event_has_a_series_and_the_name_of_the_first() {
        let (events, object) = (Events::default(), ohallo_core::api::channel::Channel::default());
        let leave = |times| {
            let note = PendingEvent::warning(Reason::ValidationFailed, "x");
            assert_eq!(events.leave(&object, vec![note; times]), 0);
        };
        leave(1);
        let once = next(&events);
        assert_eq!(series(&once), None);
        leave(2);
        let again = next(&events);
        assert_eq!((series(&again).unwrap().count, name(&again)), (3, name(&once)));
    }

    #[test]
    fn what_the_api_server_answers_decides_whether_an_event_is_sent_again() {
        let (events, object) = (Events::default(), ohallo_core::api::channel::Channel::default());
        let mut occurrences = [1, 2].map(|_| {
            events.leave(&object, vec![PendingEvent::warning(Reason::ValidationFailed, "x")]);
            next(&events)
        });
        let [new, repeated] = &mut occurrences;
        let status = |code| kube::Error::Api(Box::new(kube::core::Status::failure("", "").with_code(code)));
        for (code, first, again) in [
            (429, Answer::Busy(None), Answer::Busy(None)),
            (503, Answer::Busy(None), Answer::Busy(None)),
            (403, Answer::Refused, Answer::SeriesEnded),
            (404, Answer::Refused, Answer::SeriesEnded),
            (422, Answer::Refused, Answer::SeriesEnded),
            (500, Answer::Refused, Answer::Refused),
        ] {
            assert_eq!(
                (refusal(new, &status(code)), refusal(repeated, &status(code))),
                (first, again),
                "{code}"
            );
        }
        assert_eq!(refusal(new, &kube::Error::LinesCodecMaxLineLengthExceeded), Answer::Busy(None));
    }
}
