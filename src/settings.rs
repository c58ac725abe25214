//! All settings, each with a flag and an `OHALLO_*` variable, a default and a unit.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgAction::Set;

use crate::telemetry::logs::LogFormat;
use ohallo_core::api::ObjectKind;
use ohallo_core::lease::LeaseDurations;
use ohallo_core::rights::Served;

mod selector;
mod validate;

pub use crate::settings::validate::SettingsError;

/// How long a stopping operator may take to finish and record in-flight work.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(30);

/// The default rate of all API keys together, in requests a second.
const DEFAULT_TOTAL_RATE: f64 = 100.0;

/// The settings of `ohallo-operator run`. [`Settings::checked`] validates what clap can't check for a single
/// flag.
///
/// It has no `Debug`, because a proxy's URL may hold a password.
#[derive(clap::Args, Clone)]
pub struct Settings {
    /// Kubeconfig file. Default: $KUBECONFIG, then ~/.kube/config, then the pod's service account
    #[arg(long, env = "OHALLO_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig. Default: its current context
    #[arg(long, env = "OHALLO_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,

    /// URL of the oHallo API
    #[arg(long, env = "OHALLO_API_URL", value_name = "URL", default_value = "https://api.ohallo.eu",
          value_parser = validate::api_url)]
    pub api_url: reqwest::Url,

    /// Path of the request that creates a channel, relative to --api-url
    #[arg(long, env = "OHALLO_CREATE_PATH", value_name = "PATH",
          default_value = "/api/workspaces/{workspaceId}/channels", value_parser = validate::create_path)]
    pub create_path: String,

    /// Namespace to serve; repeat the flag or separate names with commas. Default: all
    #[arg(long = "namespace", env = "OHALLO_NAMESPACE", value_name = "NAMESPACE", value_delimiter = ',',
          value_parser = validate::namespace)]
    pub namespaces: Vec<String>,

    /// Namespace of the ClusterWorkspaces' Secrets and of the Lease. Default: $POD_NAMESPACE, then
    /// ohallo-system
    #[arg(long, env = "OHALLO_OPERATOR_NAMESPACE", value_name = "NAMESPACE",
          default_value_t = pod_namespace(), hide_default_value = true, value_parser = validate::namespace)]
    pub operator_namespace: String,

    /// Whether to serve ClusterWorkspaces. Default: true if all namespaces are served, else false
    #[arg(long, env = "OHALLO_CLUSTER_WORKSPACES", value_name = "BOOL", num_args = 0..=1,
          default_missing_value = "true")]
    pub cluster_workspaces: Option<bool>,

    /// Elect a leader among the replicas by a Lease in the operator's namespace. Default: false
    #[arg(long, env = "OHALLO_LEADER_ELECT", value_name = "BOOL", action = Set, num_args = 0..=1,
          default_value_t = false, default_missing_value = "true", hide_default_value = true)]
    pub leader_elect: bool,

    /// How long a standby waits before it takes over a Lease that is not renewed, in seconds (2-3600)
    #[arg(long, env = "OHALLO_LEASE_DURATION_SECONDS", value_name = "SECONDS", default_value = "60",
          value_parser = validate::lease_seconds)]
    pub lease_duration_seconds: Duration,

    /// How long a leader that can't renew its Lease continues to start work, in seconds (1-3599)
    #[arg(long, env = "OHALLO_LEASE_RENEW_DEADLINE_SECONDS", value_name = "SECONDS", default_value = "40",
          value_parser = validate::lease_seconds)]
    pub lease_renew_deadline_seconds: Duration,

    /// How often the leader renews its Lease, in seconds (1-3598)
    #[arg(long, env = "OHALLO_LEASE_RETRY_SECONDS", value_name = "SECONDS", default_value = "5",
          value_parser = validate::lease_seconds)]
    pub lease_retry_seconds: Duration,

    /// Name of the Lease: one for each group of replicas that elect a leader
    #[arg(long, env = "OHALLO_LEASE_NAME", value_name = "NAME", default_value = "ohallo-operator",
          value_parser = validate::lease_name)]
    pub lease_name: String,

    /// Maximum concurrent reconciles (1-1000); one namespace gets at most three quarters of them
    #[arg(long, env = "OHALLO_CONCURRENCY", value_name = "COUNT", default_value_t = 16,
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub concurrency: u16,

    /// Rate limit of requests to oHallo for each API key, per second (0-1000; 0 = no limit)
    #[arg(long, env = "OHALLO_REQUESTS_PER_SECOND", value_name = "RATE", default_value_t = 10.0,
          value_parser = validate::rate)]
    pub requests_per_second: f64,

    /// Rate limit of requests to oHallo for all API keys together, per second (0-10000; 0 = no limit). Default:
    /// 100, or no limit if --requests-per-second is 0
    #[arg(long, env = "OHALLO_TOTAL_REQUESTS_PER_SECOND", value_name = "RATE", value_parser = validate::total_rate)]
    pub total_requests_per_second: Option<f64>,

    /// Requests that an idle API key may send at once (1-10000)
    #[arg(long, env = "OHALLO_BURST", value_name = "COUNT", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub burst: u32,

    /// Timeout of one request to oHallo, in seconds (1-600)
    #[arg(long, env = "OHALLO_REQUEST_TIMEOUT", value_name = "SECONDS", default_value = "20",
          value_parser = validate::seconds)]
    pub request_timeout: Duration,

    /// Timeout of the request that creates a channel, in seconds (1-600)
    #[arg(long, env = "OHALLO_CREATE_TIMEOUT", value_name = "SECONDS", default_value = "60",
          value_parser = validate::seconds)]
    pub create_timeout: Duration,

    /// How long after a write a read of oHallo may be stale, in seconds (0-900; 0 = never)
    #[arg(long = "consistency-window-seconds", env = "OHALLO_CONSISTENCY_WINDOW_SECONDS", value_name = "SECONDS",
          default_value = "60", value_parser = validate::window)]
    pub consistency_window: Duration,

    /// Label selector of the Channels to serve, like 'tier=gold,env in (a,b)'. Default: all
    #[arg(long, env = "OHALLO_CHANNEL_SELECTOR", value_name = "SELECTOR", value_parser = selector::valid)]
    pub channel_selector: Option<String>,

    /// Label selector of the Workspaces and ClusterWorkspaces to serve. Default: all
    #[arg(long, env = "OHALLO_WORKSPACE_SELECTOR", value_name = "SELECTOR", value_parser = selector::valid)]
    pub workspace_selector: Option<String>,

    /// Address and port of /livez, /readyz and /metrics
    #[arg(long, env = "OHALLO_HTTP_ADDR", value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8080",
          value_parser = validate::http_addr)]
    pub http_addr: SocketAddr,

    /// Export one series for each Channel and condition (ohallo_channel_info, ohallo_channel_condition).
    /// Default: false
    #[arg(long, env = "OHALLO_OBJECT_METRICS", value_name = "BOOL", action = Set, num_args = 0..=1,
          default_value_t = false, default_missing_value = "true", hide_default_value = true)]
    pub object_metrics: bool,

    /// Format of the log. Default: human if stderr is a terminal, else json
    #[arg(long, env = "OHALLO_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// URL of an OpenTelemetry collector for OTLP over HTTP, like http://collector:4318. Default: no traces
    #[arg(long, env = "OHALLO_OTLP_ENDPOINT", value_name = "URL", value_parser = validate::collector)]
    pub otlp_endpoint: Option<reqwest::Url>,

    /// PEM file of the certificate authorities to trust for oHallo; reread when it changes. Default: the
    /// system's
    #[arg(long, env = "OHALLO_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// URL of the HTTP proxy for requests to oHallo. Default: none; HTTPS_PROXY is ignored
    #[arg(long, env = "OHALLO_PROXY", value_name = "URL", hide_env_values = true)]
    pub proxy: Option<String>,

    /// Allow a plain http:// --api-url to another machine: API keys then travel unencrypted. Default: false
    #[arg(long, env = "OHALLO_ALLOW_INSECURE_API", value_name = "BOOL", action = Set, num_args = 0..=1,
          default_value_t = false, default_missing_value = "true", hide_default_value = true)]
    pub allow_insecure_api: bool,
}

// === impl Settings ===

impl Settings {
    /// Validates what clap can't check for a single flag: combinations, files, and values that may hold a
    /// secret and must not be quoted. Returns the namespaces sorted, without duplicates.
    pub fn checked(mut self) -> Result<Self, SettingsError> {
        validate::transport(&self.api_url, self.allow_insecure_api)?;
        self.proxy.as_deref().map_or(Ok(()), validate::proxy)?;
        self.ca_file.as_deref().map_or(Ok(()), validate::ca_file)?;
        if self.create_timeout < self.request_timeout {
            return Err(SettingsError::CreateTimeout);
        }
        validate::lease(&self.lease_durations())?;
        let namespaces: BTreeSet<String> = self.namespaces.into_iter().collect();
        self.namespaces = namespaces.into_iter().collect();
        Ok(self)
    }

    /// The durations of the Lease.
    pub fn lease_durations(&self) -> LeaseDurations {
        LeaseDurations {
            duration: self.lease_duration_seconds,
            deadline: self.lease_renew_deadline_seconds,
            retry: self.lease_retry_seconds,
        }
    }

    /// The kinds that are served.
    pub fn kinds(&self) -> impl Iterator<Item = ObjectKind> {
        let cluster = self.serves_cluster_workspaces();
        ObjectKind::ALL.into_iter().filter(move |kind| kind.is_namespaced() || cluster)
    }

    /// Whether ClusterWorkspaces are served: as set, else only if all namespaces are watched.
    pub fn serves_cluster_workspaces(&self) -> bool {
        self.cluster_workspaces.unwrap_or(self.namespaces.is_empty())
    }

    /// What the operator serves, for its permissions.
    pub fn served(&self) -> Served {
        Served {
            namespaces: self.namespaces.clone(),
            operator_namespace: self.operator_namespace.clone(),
            cluster_workspaces: self.serves_cluster_workspaces(),
            lease: self.leader_elect.then(|| self.lease_name.clone()),
        }
    }

    /// The rate of all API keys together, in requests a second; `None` means no limit.
    pub fn total_rate(&self) -> Option<f64> {
        let default = if self.requests_per_second > 0.0 { DEFAULT_TOTAL_RATE } else { 0.0 };
        Some(self.total_requests_per_second.unwrap_or(default)).filter(|rate| *rate > 0.0)
    }

    /// The proxy's URL.
    pub fn proxy_url(&self) -> Option<reqwest::Url> {
        self.proxy.as_deref().and_then(|url| url.parse().ok())
    }

    /// The log format: as set, else by whether stderr is a terminal.
    pub fn log_format(&self, terminal: bool) -> LogFormat {
        self.log_format.unwrap_or(if terminal { LogFormat::Human } else { LogFormat::Json })
    }
}

fn pod_namespace() -> String {
    std::env::var("POD_NAMESPACE")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "ohallo-system".to_owned())
}

#[cfg(test)]
pub(crate) mod tests;
