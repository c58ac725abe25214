//! What the operator counts, in its own registry: one [`Metrics`] per operator, no globals, no object names.
//! Every label has a small, fixed set of values, but the namespace.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use ohallo_core::api::values::{ChannelType, ReconcileResult};

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

/// A pass that is under way.
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
            reconcile_seconds: Family::new_with_constructor(pass_buckets),
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

    /// A counter that first appears with its first event shows Prometheus no increase: what alerts look at is there
    /// from the start.
    fn at_zero(&self) {
        for field in ["displayName", "config"] {
            drop(self.drift_detected.get_or_create(&[("field", field)]));
        }
        for kind in ["Channel", "Workspace", "ClusterWorkspace"] {
            drop(self.writes_not_stored.get_or_create(&[("kind", kind)]));
        }
        for result in ["success", "error"] {
            drop(self.credential_pushes.get_or_create(&[("result", result)]));
        }
        for result in ["success", "error", "unknown"] {
            drop(self.provisioning_retries.get_or_create(&[("result", result)]));
        }
    }

    /// OpenMetrics text, `# EOF` included.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::with_capacity(16 * 1024);
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }

    /// The same in the Prometheus text format 0.0.4, for scrapers that don't ask for OpenMetrics.
    pub fn encode_plain(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::with_capacity(16 * 1024);
        prometheus_text::encode(&mut out, &self.registry)?;
        Ok(out)
    }

    /// Says how to count the objects at the time of a scrape. The first closure stays.
    pub fn on_scrape(&self, census: Box<dyn Fn() -> Census + Send + Sync>) {
        self.census.set(census);
    }

    /// One call to oHallo: which, what class its answer had, how long it took.
    pub fn api_request(&self, operation: &'static str, class: &'static str, took: Duration) {
        self.api_requests.get_or_create(&[("operation", operation), ("class", class)]).inc();
        self.api_seconds.get_or_create(&[("operation", operation)]).observe(took.as_secs_f64());
    }

    /// oHallo answered 429.
    pub fn rate_limited(&self) {
        self.api_rate_limited.inc();
    }

    /// What the operator's own limiter imposed on a call before it was sent.
    pub fn limiter_wait(&self, lane: &'static str, wait: Duration) {
        self.limiter_wait_seconds.get_or_create(&[("lane", lane)]).observe(wait.as_secs_f64());
    }

    /// One pass over one object.
    pub fn reconciled(&self, kind: &'static str, result: ReconcileResult, took: Duration) {
        self.reconciles.get_or_create(&[("kind", kind), ("result", result.as_str())]).inc();
        self.reconcile_seconds.get_or_create(&[("kind", kind)]).observe(took.as_secs_f64());
    }

    /// An object was added to the work queue.
    pub fn workqueue_add(&self, kind: &'static str) {
        self.workqueue_adds.get_or_create(&[("kind", kind)]).inc();
    }

    /// How long an object waited in the work queue since it could have run.
    pub fn workqueue_waited(&self, kind: &'static str, waited: Duration) {
        self.workqueue_seconds.get_or_create(&[("kind", kind)]).observe(waited.as_secs_f64());
    }

    /// An object was requeued after a failure.
    pub fn workqueue_retry(&self, kind: &'static str) {
        self.workqueue_retries.get_or_create(&[("kind", kind)]).inc();
    }

    /// A pass begins; it ends when what this gives is dropped.
    pub fn reconciling(&self, kind: &'static str) -> Active {
        let gauge = self.reconciles_active.get_or_create_owned(&[("kind", kind)]);
        gauge.inc();
        Active(gauge)
    }

    /// From the object's creation to its first `Ready=True`.
    pub fn time_to_ready(&self, channel_type: &str, took: Duration) {
        self.time_to_ready_seconds
            .get_or_create(&[("type", known_type(channel_type))])
            .observe(took.as_secs_f64());
    }

    /// What is declared at this path (`displayName`, or one below `config`) had another value in oHallo.
    pub fn drift_detected(&self, path: &str) {
        let field = if path.starts_with("config.") { "config" } else { "displayName" };
        self.drift_detected.get_or_create(&[("field", field)]).inc();
    }

    /// Credentials were sent.
    pub fn credential_push(&self, result: &'static str) {
        self.credential_pushes.get_or_create(&[("result", result)]).inc();
    }

    /// A connectivity test was run.
    pub fn connectivity_test(&self, channel_type: &str, result: &'static str) {
        let labels = [("type", known_type(channel_type)), ("result", result)];
        self.connectivity_tests.get_or_create(&labels).inc();
    }

    /// A failed provisioning was retried.
    pub fn provisioning_retry(&self, result: &'static str) {
        self.provisioning_retries.get_or_create(&[("result", result)]).inc();
    }

    /// A channel id that oHallo answered and no status holds yet.
    pub fn id_unrecorded(&self) -> Unrecorded {
        self.ids_unrecorded.inc();
        Unrecorded(self.ids_unrecorded.clone())
    }

    /// How many such ids there are.
    pub fn ids_unrecorded(&self) -> i64 {
        self.ids_unrecorded.get()
    }

    /// The API server answered a write with an object that does not show it.
    pub fn write_not_stored(&self, kind: &'static str) {
        self.writes_not_stored.get_or_create(&[("kind", kind)]).inc();
    }

    /// How many fields of this version the served CustomResourceDefinitions lack.
    pub fn crd_fields_missing(&self, count: usize) {
        self.crd_fields_missing.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// An object disappeared that stood for an oHallo channel: nobody in this cluster owns it.
    pub fn id_orphaned(&self) {
        self.ids_orphaned.inc();
    }

    /// The API server refused a whole status (422).
    pub fn status_rejected(&self) {
        self.status_rejected.inc();
    }

    /// A pass panicked and was caught.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// Whether this process may act.
    pub fn leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// A watch ended with an error and was started again.
    pub fn watch_restarted(&self, kind: &'static str) {
        self.watch_restarts.get_or_create(&[("kind", kind)]).inc();
    }

    /// Events there was no room for while the API server took none.
    pub fn events_dropped(&self, count: u64) {
        self.events_dropped.inc_by(count);
    }

    /// Clones share their values, so the registry's and ours are the same metrics.
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
        let help = "Objects added to the work queue, by kind; requeue times that came are not counted";
        add(to, "workqueue_adds", help, &self.workqueue_adds);
        let help = "Wait in the work queue from when an object could run to its start, by kind";
        add(to, "workqueue_queue_duration_seconds", help, &self.workqueue_seconds);
        add(to, "workqueue_retries", "Requeues after a failure, by kind", &self.workqueue_retries);
        add(to, "reconcile", "Passes over one object, by kind and result", &self.reconciles);
        add(to, "reconcile_active", "Passes under way, by kind", &self.reconciles_active);
        add(to, "reconcile_duration_seconds", "Duration of a pass", &self.reconcile_seconds);
        let help = "From a Channel's creation to its first Ready=True";
        add(to, "channel_time_to_ready_seconds", help, &self.time_to_ready_seconds);
        let help = "Declared values that oHallo had otherwise, by field";
        add(to, "drift_detected", help, &self.drift_detected);
        add(to, "credential_pushes", "Credentials sent to oHallo", &self.credential_pushes);
        add(to, "connectivity_tests", "Connectivity tests run", &self.connectivity_tests);
        add(to, "provisioning_retries", "Failed provisionings retried", &self.provisioning_retries);
        let help = "Channel ids oHallo answered that no status holds yet";
        add(to, "ids_unrecorded", help, &self.ids_unrecorded);
        let help = "oHallo channels whose object disappeared without a deletion by the operator";
        add(to, "channel_ids_orphaned", help, &self.ids_orphaned);
        let help = "Statuses that the API server refused as invalid";
        add(to, "status_rejected", help, &self.status_rejected);
        let help = "Writes that the API server accepted and did not keep in full, by kind";
        add(to, "writes_not_stored", help, &self.writes_not_stored);
        let help = "Fields of this version that the served CustomResourceDefinitions lack";
        add(to, "crd_fields_missing", help, &self.crd_fields_missing);
    }

    fn register_calls(&self, to: &mut Registry) {
        let help = "Calls to oHallo, by operation and class of answer";
        add(to, "api_requests", help, &self.api_requests);
        add(to, "api_request_duration_seconds", "Duration of a call to oHallo", &self.api_seconds);
        add(to, "api_rate_limited", "Answers 429 of oHallo", &self.api_rate_limited);
        let help = "Wait imposed by the operator's own rate limit, by lane";
        add(to, "api_limiter_wait_seconds", help, &self.limiter_wait_seconds);
        add(to, "watch_restarts", "Kubernetes watches started again after an error", &self.watch_restarts);
    }

    fn register_state(&self, to: &mut Registry) {
        add(to, "events_dropped", "Kubernetes events there was no room for", &self.events_dropped);
        add(to, "panics", "Passes that panicked and were caught", &self.panics);
        add(to, "leader", "1 while this process may act", &self.leader);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        to.register("build", "What is running", build);
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

/// It says nothing of an attempt.
impl PartialEq for Unrecorded {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

fn add<M: Metric + Clone>(to: &mut Registry, name: &str, help: &str, metric: &M) {
    to.register(name, help, metric.clone());
}

/// The four types of the API; anything else is one label value, so that no manifest can grow the set.
fn known_type(channel_type: &str) -> &'static str {
    channel_type.parse().map_or("other", ChannelType::as_str)
}

fn pass_buckets() -> Histogram {
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
