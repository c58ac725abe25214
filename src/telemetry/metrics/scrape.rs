//! Metrics that are computed at each scrape.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// How many objects of each kind exist, counted from the caches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Channels by namespace, type and the state of their Ready condition.
    pub channels: BTreeMap<ChannelLabels, i64>,
    /// Workspaces and ClusterWorkspaces by the state of their Ready condition.
    pub workspaces: BTreeMap<WorkspaceLabels, i64>,
    /// Channels whose deletion is blocked, by the reason of `DeletionBlocked`.
    pub deletions_blocked: BTreeMap<String, i64>,
    /// Claims of other Channels that delay deletions, by the claimant's namespace.
    pub deletions_claimed: BTreeMap<String, i64>,
    /// Objects in the work queue that wait to run, by kind and priority.
    pub queued: BTreeMap<(&'static str, &'static str), i64>,
    /// What waits, by queue: objects for their reconcile, events for their publication.
    pub waiting: BTreeMap<&'static str, i64>,
    /// Entries of the in-memory state between reconciles, by cache.
    pub cached: BTreeMap<&'static str, i64>,
    /// Each Channel, only with `--object-metrics`; the value is always 1.
    pub infos: BTreeMap<InfoLabels, i64>,
    /// Each condition of each Channel, only with `--object-metrics`; the value is always 1.
    pub conditions: BTreeMap<ConditionLabels, i64>,
}

/// The labels of `ohallo_channels`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChannelLabels {
    /// The object's namespace.
    pub namespace: String,
    /// `spec.channelType`; unknown ones are counted as `other`.
    pub channel_type: String,
    /// `True`, `False` or `Unknown`.
    pub ready: String,
    /// The reason of Ready; empty before the first reconcile.
    pub reason: String,
}

/// The labels of `ohallo_workspaces`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkspaceLabels {
    /// `True`, `False` or `Unknown`.
    pub ready: String,
    /// The reason of Ready; empty before the first reconcile.
    pub reason: String,
}

/// Names one Channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectLabels {
    pub namespace: String,
    pub name: String,
}

/// The labels of `ohallo_channel_info`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct InfoLabels {
    pub object: ObjectLabels,
    /// `spec.channelType`.
    pub channel_type: String,
    /// The id in oHallo; empty before it is known.
    pub channel_id: String,
    /// The state of the channel, in oHallo's word.
    pub state: String,
}

/// The labels of `ohallo_channel_condition`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConditionLabels {
    pub object: ObjectLabels,
    /// The condition's type, like `Ready`.
    pub condition: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    pub reason: String,
}

/// Holds the closure that counts objects; empty until the operator has its caches.
#[derive(Default)]
pub(super) struct CensusSource(OnceLock<Box<dyn Fn() -> Census + Send + Sync>>);

/// The process's own metrics, under their usual names.
#[derive(Debug)]
pub(super) struct Process {
    started: i64,
}

// === impl CensusSource ===

impl CensusSource {
    pub(super) fn set(&self, census: Box<dyn Fn() -> Census + Send + Sync>) {
        self.0.get_or_init(|| census);
    }
}

impl fmt::Debug for CensusSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CensusSource")
    }
}

impl Collector for CensusSource {
    fn encode(&self, mut to: DescriptorEncoder) -> fmt::Result {
        let census = self.0.get().map(|count| count()).unwrap_or_default();
        gauges(&mut to, "channels", "Channels by readiness", &census.channels, |labels| {
            [
                ("namespace", bounded(&labels.namespace)),
                ("type", crate::telemetry::metrics::known_type(&labels.channel_type)),
                ("ready", bounded(&labels.ready)),
                ("reason", bounded(&labels.reason)),
            ]
        })?;
        let help = "Workspaces and ClusterWorkspaces by readiness";
        gauges(&mut to, "workspaces", help, &census.workspaces, |labels| {
            [("ready", bounded(&labels.ready)), ("reason", bounded(&labels.reason))]
        })?;
        let help = "Channels whose deletion is blocked, by reason";
        gauges(&mut to, "deletions_blocked", help, &census.deletions_blocked, |reason| {
            [("reason", bounded(reason))]
        })?;
        let help = "Deletions that wait for a claim of another Channel, by the claimant's namespace";
        gauges(&mut to, "deletions_claimed", help, &census.deletions_claimed, |namespace| {
            [("namespace", bounded(namespace))]
        })?;
        let help = "Objects that wait for a reconcile, by kind and priority";
        gauges(&mut to, "workqueue_depth", help, &census.queued, |(kind, priority)| {
            [("kind", *kind), ("priority", *priority)]
        })?;
        let help = "Deprecated, use ohallo_workqueue_depth: objects and events that wait, by queue";
        gauges(&mut to, "queue_depth", help, &census.waiting, |queue| [("queue", queue)])?;
        let help = "Entries kept in memory between reconciles, by cache";
        gauges(&mut to, "cache_entries", help, &census.cached, |cache| [("cache", cache)])?;
        gauges(&mut to, "channel_info", "Each Channel (with --object-metrics)", &census.infos, |labels| {
            [
                ("namespace", bounded(&labels.object.namespace)),
                ("name", fitting(&labels.object.name)),
                ("type", crate::telemetry::metrics::known_type(&labels.channel_type)),
                ("channel_id", fitting(&labels.channel_id)),
                ("state", bounded(&labels.state)),
            ]
        })?;
        let help = "Each condition of each Channel (with --object-metrics)";
        gauges(&mut to, "channel_condition", help, &census.conditions, |labels| {
            [
                ("namespace", bounded(&labels.object.namespace)),
                ("name", fitting(&labels.object.name)),
                ("condition", bounded(&labels.condition)),
                ("status", bounded(&labels.status)),
                ("reason", bounded(&labels.reason)),
            ]
        })
    }
}

fn gauges<'a, K: Ord, const N: usize>(
    to: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    counts: &'a BTreeMap<K, i64>,
    labels: impl Fn(&'a K) -> [(&'static str, &'a str); N],
) -> fmt::Result
where
    [(&'static str, &'a str); N]: EncodeLabelSet,
{
    // Keys that become equal as labels are summed, so that each series is unique.
    let mut merged: BTreeMap<[(&'static str, &'a str); N], i64> = BTreeMap::new();
    for (key, count) in counts {
        *merged.entry(labels(key)).or_default() += count;
    }
    if merged.is_empty() {
        return Ok(());
    }
    let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, count) in &merged {
        ConstGauge::new(*count).encode(family.encode_family(labels)?)?;
    }
    Ok(())
}

/// A user with write access to a status can forge its values: any other value becomes `other`.
fn bounded(value: &str) -> &str {
    let fits = value.len() <= 64 && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if fits { value } else { "other" }
}

/// The name of an object, or an id, in the syntax of Kubernetes and oHallo.
fn fitting(value: &str) -> &str {
    let fits = value.len() <= 253 && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
    if fits { value } else { "other" }
}

// === impl Process ===

impl Process {
    pub(super) fn started_now() -> Self {
        Self { started: ohallo_client::clock::now().as_second() }
    }
}

impl Collector for Process {
    fn encode(&self, mut to: DescriptorEncoder) -> fmt::Result {
        let proc = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        gauge(&mut to, "process_start_time_seconds", "Start time of the operator", self.started)?;
        if let Some(bytes) = resident_bytes(&proc("status")) {
            gauge(&mut to, "process_resident_memory_bytes", "Resident memory", bytes)?;
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            let open = i64::try_from(entries.count()).unwrap_or(i64::MAX);
            gauge(&mut to, "process_open_fds", "Open file descriptors", open)?;
        }
        if let Some(seconds) = cpu_seconds(&proc("stat")) {
            let counter = ConstCounter::new(seconds);
            let help = "CPU time (user and system)";
            counter.encode(to.encode_descriptor(
                "process_cpu_seconds",
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

fn gauge(to: &mut DescriptorEncoder, name: &str, help: &str, value: i64) -> fmt::Result {
    ConstGauge::new(value).encode(to.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

/// From `/proc/self/status`, which needs no page size.
pub(super) fn resident_bytes(status: &str) -> Option<i64> {
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    kib.trim().strip_suffix(" kB")?.trim().parse::<i64>().ok()?.checked_mul(1024)
}

/// From `/proc/self/stat`: fields 14 and 15, in the 100 ticks a second that Linux shows user space.
pub(super) fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut ticks = after_name.split_whitespace().skip(11).map(str::parse::<u32>);
    let user = ticks.next()?.ok()?;
    let system = ticks.next()?.ok()?;
    Some((f64::from(user) + f64::from(system)) / 100.0)
}
