//! The operator's metrics, in a separate registry: one [`Metrics`] for each operator, no globals, no object
//! names. Every label except the namespace has a small, fixed set of values.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use ohallo_core::api::ObjectKind;
use ohallo_core::api::values::{ChannelType, ReconcileResult};
use ohallo_core::channel::declared;
use ohallo_core::channel::notice::CallResult;
use ohallo_core::shortage::Shortage;

mod scrape;

pub use crate::telemetry::metrics::scrape::{
    Census, ChannelLabels, ConditionLabels, InfoLabels, ObjectLabels, WorkspaceLabels,
};

/// Every metric of one operator instance.
pub struct Metrics {
    registry: Registry,
    census: Arc<scrape::CensusSource>,
    reconciles: Family<Labels<2>, Counter>,
    reconciles_active: Family<Labels<1>, Gauge>,
    reconciles_deferred: Family<Labels<1>, Counter>,
    reconcile_seconds: Timings<1>,
    workqueue_adds: Family<Labels<1>, Counter>,
    workqueue_seconds: Timings<1>,
    workqueue_retries: Family<Labels<1>, Counter>,
    api_requests: Family<Labels<2>, Counter>,
    api_seconds: Timings<1>,
    api_rate_limited: Counter,
    limiter_wait_seconds: Timings<1>,
    time_to_ready_seconds: Timings<1>,
    drift_detected: Family<Labels<1>, Counter>,
    credential_pushes: Family<Labels<1>, Counter>,
    connectivity_tests: Family<Labels<2>, Counter>,
    provisioning_retries: Family<Labels<1>, Counter>,
    ids_unrecorded: Gauge,
    ids_orphaned: Counter,
    status_rejected: Counter,
    writes_not_stored: Family<Labels<1>, Counter>,
    crd_fields_missing: Gauge,
    panics: Counter,
    leader: Gauge,
    watch_restarts: Family<Labels<1>, Counter>,
    events_dropped: Counter,
}

/// A reconcile in progress; counted until it is dropped.
pub struct Active(Gauge);

/// An id that no status holds yet; counted until it is dropped.
#[derive(Debug)]
pub struct Unrecorded(Gauge);

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Timings<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, registered and at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            census: Arc::default(),
            reconciles: Family::default(),
            reconciles_active: Family::default(),
            reconciles_deferred: Family::default(),
            reconcile_seconds: Family::new_with_constructor(reconcile_buckets),
            workqueue_adds: Family::default(),
            workqueue_seconds: Family::new_with_constructor(wait_buckets),
            workqueue_retries: Family::default(),
            api_requests: Family::default(),
            api_seconds: Family::new_with_constructor(call_buckets),
            api_rate_limited: Counter::default(),
            limiter_wait_seconds: Family::new_with_constructor(wait_buckets),
            time_to_ready_seconds: Family::new_with_constructor(ready_buckets),
            drift_detected: Family::default(),
            credential_pushes: Family::default(),
            connectivity_tests: Family::default(),
            provisioning_retries: Family::default(),
            ids_unrecorded: Gauge::default(),
            ids_orphaned: Counter::default(),
            status_rejected: Counter::default(),
            writes_not_stored: Family::default(),
            crd_fields_missing: Gauge::default(),
            panics: Counter::default(),
            leader: Gauge::default(),
            watch_restarts: Family::default(),
            events_dropped: Counter::default(),
        };
        metrics.registry = metrics.registered();
        metrics.at_zero();
        metrics
    }

    /// Registers counters at zero. Prometheus sees no increase of a counter that first appears with its first
    /// event, so the counters of alerts must exist from the start.
    fn at_zero(&self) {
        for field in declared::FIELDS {
            drop(self.drift_detected.get_or_create(&[("field", field)]));
        }
        for kind in ObjectKind::ALL {
            drop(self.writes_not_stored.get_or_create(&[("kind", kind.name())]));
        }
        for shortage in Shortage::ALL {
            drop(self.reconciles_deferred.get_or_create(&[("why", shortage.as_str())]));
        }
        for result in [CallResult::Success, CallResult::Error] {
            drop(self.credential_pushes.get_or_create(&[("result", result.as_str())]));
        }
        for result in CallResult::ALL {
            drop(self.provisioning_retries.get_or_create(&[("result", result.as_str())]));
        }
    }

    /// The metrics as OpenMetrics text, with `# EOF`.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::with_capacity(16 * 1024);
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }

    /// The metrics in the Prometheus text format 0.0.4, for scrapers that don't ask for OpenMetrics.
    pub fn encode_plain(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::with_capacity(16 * 1024);
        prometheus_text::encode(&mut out, &self.registry)?;
        Ok(out)
    }

    /// Sets the closure that counts objects at each scrape. Later calls have no effect.
    pub fn on_scrape(&self, census: Box<dyn Fn() -> Census + Send + Sync>) {
        self.census.set(census);
    }

    /// Counts one call to oHallo by its operation and result class, and its duration.
    pub fn api_request(&self, operation: &'static str, class: &'static str, took: Duration) {
        self.api_requests.get_or_create(&[("operation", operation), ("class", class)]).inc();
        self.api_seconds.get_or_create(&[("operation", operation)]).observe(took.as_secs_f64());
    }

    /// Counts a 429 response of oHallo.
    pub fn rate_limited(&self) {
        self.api_rate_limited.inc();
    }

    /// Records how long the operator's rate limit delayed a call.
    pub fn limiter_wait(&self, lane: &'static str, wait: Duration) {
        self.limiter_wait_seconds.get_or_create(&[("lane", lane)]).observe(wait.as_secs_f64());
    }

    /// Counts one reconcile of one object.
    pub fn reconciled(&self, kind: &'static str, result: ReconcileResult, took: Duration) {
        self.reconciles.get_or_create(&[("kind", kind), ("result", result.as_str())]).inc();
        self.reconcile_seconds.get_or_create(&[("kind", kind)]).observe(took.as_secs_f64());
    }

    /// Counts a reconcile that started and could make no call, or no further one.
    pub fn deferred(&self, shortage: Shortage) {
        self.reconciles_deferred.get_or_create(&[("why", shortage.as_str())]).inc();
    }

    /// Counts an object that was added to the work queue.
    pub fn workqueue_add(&self, kind: &'static str) {
        self.workqueue_adds.get_or_create(&[("kind", kind)]).inc();
    }

    /// Records how long an object waited in the work queue after it could run.
    pub fn workqueue_waited(&self, kind: &'static str, waited: Duration) {
        self.workqueue_seconds.get_or_create(&[("kind", kind)]).observe(waited.as_secs_f64());
    }

    /// Counts a requeue after a failure.
    pub fn workqueue_retry(&self, kind: &'static str) {
        self.workqueue_retries.get_or_create(&[("kind", kind)]).inc();
    }

    /// Counts a reconcile as active until the returned value is dropped.
    pub fn reconciling(&self, kind: &'static str) -> Active {
        let gauge = self.reconciles_active.get_or_create_owned(&[("kind", kind)]);
        gauge.inc();
        Active(gauge)
    }

    /// Records the time from the object's creation to its first `Ready=True`.
    pub fn time_to_ready(&self, channel_type: &str, took: Duration) {
        self.time_to_ready_seconds
            .get_or_create(&[("type", known_type(channel_type))])
            .observe(took.as_secs_f64());
    }

    /// Counts drift at a declared path: `displayName`, or one below `config`.
    pub fn drift_detected(&self, path: &str) {
        self.drift_detected.get_or_create(&[("field", declared::field_of(path))]).inc();
    }

    /// Counts a push of credentials.
    pub fn credential_push(&self, result: &'static str) {
        self.credential_pushes.get_or_create(&[("result", result)]).inc();
    }

    /// Counts a connectivity test.
    pub fn connectivity_test(&self, channel_type: &str, result: &'static str) {
        let labels = [("type", known_type(channel_type)), ("result", result)];
        self.connectivity_tests.get_or_create(&labels).inc();
    }

    /// Counts a retry of a failed provisioning.
    pub fn provisioning_retry(&self, result: &'static str) {
        self.provisioning_retries.get_or_create(&[("result", result)]).inc();
    }

    /// Counts a channel id that oHallo returned and no status holds yet.
    pub fn id_unrecorded(&self) -> Unrecorded {
        self.ids_unrecorded.inc();
        Unrecorded(self.ids_unrecorded.clone())
    }

    /// How many such ids exist.
    pub fn ids_unrecorded(&self) -> i64 {
        self.ids_unrecorded.get()
    }

    /// Counts a write that the API server accepted but did not store in full.
    pub fn write_not_stored(&self, kind: &'static str) {
        self.writes_not_stored.get_or_create(&[("kind", kind)]).inc();
    }

    /// Sets how many fields of this version the served CustomResourceDefinitions lack.
    pub fn crd_fields_missing(&self, count: usize) {
        self.crd_fields_missing.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts an object that disappeared and may leave a channel in oHallo.
    pub fn id_orphaned(&self) {
        self.ids_orphaned.inc();
    }

    /// Counts a status that the API server rejected (422).
    pub fn status_rejected(&self) {
        self.status_rejected.inc();
    }

    /// Counts a caught panic of a reconcile.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// Sets whether this process leads.
    pub fn leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Counts a watch that failed and was restarted.
    pub fn watch_restarted(&self, kind: &'static str) {
        self.watch_restarts.get_or_create(&[("kind", kind)]).inc();
    }

    /// Counts events that were dropped because the queue was full.
    pub fn events_dropped(&self, count: u64) {
        self.events_dropped.inc_by(count);
    }

    /// Clones share their values, so the registry and this struct hold the same metrics.
    fn registered(&self) -> Registry {
        let mut all = Registry::default();
        all.register_collector(Box::new(scrape::Process::started_now()));
        let ours = all.sub_registry_with_prefix("ohallo");
        self.register_work(ours);
        self.register_calls(ours);
        self.register_state(ours);
        all
    }

    fn register_work(&self, to: &mut Registry) {
        let help = "Objects added to the work queue by an event or a changed input, by kind";
        add(to, "workqueue_adds", help, &self.workqueue_adds);
        let help = "Time an object waits in the work queue after it can run, by kind";
        add(to, "workqueue_queue_duration_seconds", help, &self.workqueue_seconds);
        add(to, "workqueue_retries", "Requeues after a failure, by kind", &self.workqueue_retries);
        add(to, "reconcile", "Reconciles of one object, by kind and result", &self.reconciles);
        add(to, "reconcile_active", "Reconciles in progress, by kind", &self.reconciles_active);
        let help = "Reconciles that ended for want of a slot, a token or an API key";
        add(to, "reconcile_deferred", help, &self.reconciles_deferred);
        add(to, "reconcile_duration_seconds", "Duration of a reconcile", &self.reconcile_seconds);
        let help = "Time from a Channel's creation to its first Ready=True";
        add(to, "channel_time_to_ready_seconds", help, &self.time_to_ready_seconds);
        let help = "Declared values that differed in oHallo, by field";
        add(to, "drift_detected", help, &self.drift_detected);
        add(to, "credential_pushes", "Credentials sent to oHallo", &self.credential_pushes);
        add(to, "connectivity_tests", "Connectivity tests run", &self.connectivity_tests);
        add(to, "provisioning_retries", "Failed provisionings retried", &self.provisioning_retries);
        let help = "Channel ids that oHallo returned and no status holds yet";
        add(to, "ids_unrecorded", help, &self.ids_unrecorded);
        let help = "oHallo channels whose object disappeared without a deletion by the operator";
        add(to, "channel_ids_orphaned", help, &self.ids_orphaned);
        let help = "Statuses that the API server rejected as invalid";
        add(to, "status_rejected", help, &self.status_rejected);
        let help = "Writes that the API server accepted but did not store in full, by kind";
        add(to, "writes_not_stored", help, &self.writes_not_stored);
        let help = "Fields of this version that the served CustomResourceDefinitions lack";
        add(to, "crd_fields_missing", help, &self.crd_fields_missing);
    }

    fn register_calls(&self, to: &mut Registry) {
        let help = "Calls to oHallo, by operation and result class";
        add(to, "api_requests", help, &self.api_requests);
        add(to, "api_request_duration_seconds", "Duration of a call to oHallo", &self.api_seconds);
        add(to, "api_rate_limited", "429 responses of oHallo", &self.api_rate_limited);
        let help = "Time that the operator's rate limit delays a call, by lane";
        add(to, "api_limiter_wait_seconds", help, &self.limiter_wait_seconds);
        add(to, "watch_restarts", "Kubernetes watches restarted after an error", &self.watch_restarts);
    }

    fn register_state(&self, to: &mut Registry) {
        add(
            to,
            "events_dropped",
            "Kubernetes events dropped because the queue was full",
            &self.events_dropped,
        );
        add(to, "panics", "Caught panics of reconciles", &self.panics);
        add(to, "leader", "1 while this process leads", &self.leader);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        to.register("build", "Version of the running operator", build);
        to.register_collector(Box::new(Arc::clone(&self.census)));
    }
}

// === impl Active ===

impl Drop for Active {
    fn drop(&mut self) {
        self.0.dec();
    }
}

// === impl Unrecorded ===

impl Drop for Unrecorded {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// All guards are equal: they do not distinguish create attempts.
impl PartialEq for Unrecorded {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

fn add<M: Metric + Clone>(to: &mut Registry, name: &str, help: &str, metric: &M) {
    to.register(name, help, metric.clone());
}

/// One of the four types of the API; any other becomes `other`, so that no manifest adds label values.
fn known_type(channel_type: &str) -> &'static str {
    channel_type.parse().map_or("other", ChannelType::as_str)
}

fn reconcile_buckets() -> Histogram {
    Histogram::new([0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0, 60.0, 120.0])
}

fn call_buckets() -> Histogram {
    Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0])
}

fn wait_buckets() -> Histogram {
    Histogram::new([0.001, 0.01, 0.05, 0.2, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0])
}

fn ready_buckets() -> Histogram {
    Histogram::new([0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1800.0, 3600.0])
}

#[cfg(test)]
mod tests;
