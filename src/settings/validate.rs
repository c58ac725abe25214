//! Validates values of flags, each with the sentence that rejects it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;

use ohallo_core::api::is_name;
use ohallo_core::lease::{LeaseDurations, MAX_DURATION};

/// Settings that contradict each other, or an unusable file.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Plain HTTP would send API keys over the network unencrypted.
    #[error(
        "--api-url is plain http:// to {0}, which would send API keys unencrypted; \
         use https:// or set --allow-insecure-api"
    )]
    Insecure(String),
    /// `--proxy` is not a URL. The error does not quote it, because it may hold a password.
    #[error("--proxy must be a URL like http://proxy.example:3128")]
    Proxy,
    /// `--ca-file` can't be read.
    #[error("--ca-file {0} can't be read: {1}")]
    CaUnreadable(PathBuf, #[source] std::io::Error),
    /// `--ca-file` holds no certificate.
    #[error("--ca-file {0} has no PEM certificate in it (no line BEGIN CERTIFICATE)")]
    CaEmpty(PathBuf),
    /// A create is the slowest call: with a shorter timeout than other calls, the operator would lose its
    /// responses.
    #[error("--create-timeout must not be shorter than --request-timeout")]
    CreateTimeout,
    /// The leader must have stopped before a standby takes over, and must be able to miss a renewal.
    #[error(
        "--lease-duration-seconds must be longer than --lease-renew-deadline-seconds, \
         and --lease-renew-deadline-seconds longer than --lease-retry-seconds"
    )]
    Lease,
}

pub(super) fn api_url(text: &str) -> Result<Url, &'static str> {
    // The parser drops some of these and takes others for a slash: the parsed URL would differ from the text.
    if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err("it must hold no white space, no control characters and no \\");
    }
    let url = Url::parse(text).map_err(|_| "write an address like https://api.ohallo.eu")?;
    if !is_http(&url) {
        return Err("it must begin with https:// (or http://) and name a host");
    }
    if holds_login(&url) {
        return Err("it must hold no user or password; API keys come from Secrets");
    }
    if goes_on(&url) {
        return Err("it must have no ? and no #");
    }
    Ok(url)
}

pub(super) fn collector(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "write an address like http://collector:4318")?;
    if !is_http(&url) {
        return Err("it must begin with http:// or https:// and name a host");
    }
    if holds_login(&url) || goes_on(&url) {
        return Err("it must hold no user, password, ? or #; headers go into OTEL_EXPORTER_OTLP_HEADERS");
    }
    Ok(url)
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "https" | "http") && url.has_host()
}

fn holds_login(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Whether something follows the path.
fn goes_on(url: &Url) -> bool {
    url.query().is_some() || url.fragment().is_some()
}

pub(super) fn create_path(text: &str) -> Result<String, &'static str> {
    if !text.starts_with('/') {
        return Err("it must begin with /");
    }
    if text.split('/').filter(|segment| *segment == "{workspaceId}").count() != 1 {
        return Err("it must contain {workspaceId} once, between slashes");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    let fits =
        |part: &str| part == "{workspaceId}" || (part.chars().all(plain) && !matches!(part, "" | "." | ".."));
    let whole = text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(fits));
    if whole {
        Ok(text.to_owned())
    } else {
        Err("each part must be letters, digits or -._~, and not empty, . or ..")
    }
}

pub(super) fn namespace(text: &str) -> Result<String, &'static str> {
    if is_name(text) && text.len() <= 63 && !text.contains('.') {
        Ok(text.to_owned())
    } else {
        Err("a namespace is 1 to 63 of a-z, 0-9 and -, with no - at the ends")
    }
}

pub(super) fn rate(text: &str) -> Result<f64, &'static str> {
    let rate = text.parse().ok().filter(|rate| (0.0..=1000.0).contains(rate));
    rate.filter(|rate| *rate == 0.0 || *rate >= 0.01)
        .ok_or("write a number from 0.01 to 1000, or 0 for no limit")
}

pub(super) fn total_rate(text: &str) -> Result<f64, &'static str> {
    let rate = text.parse().ok().filter(|rate| (0.0..=10_000.0).contains(rate));
    rate.filter(|rate| *rate == 0.0 || *rate >= 0.01)
        .ok_or("write a number from 0.01 to 10000, or 0 for no limit")
}

pub(super) fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().filter(|seconds| (1..=600).contains(seconds));
    seconds.map(Duration::from_secs).ok_or("write whole seconds from 1 to 600, without a unit")
}

pub(super) fn lease_seconds(text: &str) -> Result<Duration, &'static str> {
    let longest = MAX_DURATION.as_secs();
    let seconds = text.parse().ok().filter(|seconds| (1..=longest).contains(seconds));
    seconds.map(Duration::from_secs).ok_or("write whole seconds from 1 to 3600, without a unit")
}

pub(super) fn window(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().filter(|seconds| (0..=900).contains(seconds));
    seconds.map(Duration::from_secs).ok_or("write whole seconds from 0 to 900, without a unit")
}

pub(super) fn lease_name(text: &str) -> Result<String, &'static str> {
    namespace(text).map_err(|_| "a Lease name is 1 to 63 of a-z, 0-9 and -, with no - at the ends")
}

pub(super) fn lease(terms: &LeaseDurations) -> Result<(), SettingsError> {
    let fits = terms.duration > terms.deadline && terms.deadline > terms.retry;
    if fits { Ok(()) } else { Err(SettingsError::Lease) }
}

pub(super) fn http_addr(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "write an IP address and a port, like 0.0.0.0:8080 or [::]:8080")
}

/// safety.md §7: plain HTTP only to this machine, or with `--allow-insecure-api`.
pub(super) fn transport(url: &Url, allow_insecure: bool) -> Result<(), SettingsError> {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    let loopback = host == "localhost" || address.is_ok_and(|ip| ip.is_loopback());
    let fine = url.scheme() == "https" || loopback || allow_insecure;
    if fine { Ok(()) } else { Err(SettingsError::Insecure(host.to_owned())) }
}

pub(super) fn proxy(text: &str) -> Result<(), SettingsError> {
    let url = Url::parse(text).map_err(|_| SettingsError::Proxy)?;
    if is_http(&url) { Ok(()) } else { Err(SettingsError::Proxy) }
}

pub(super) fn ca_file(path: &Path) -> Result<(), SettingsError> {
    let pem = std::fs::read(path).map_err(|error| SettingsError::CaUnreadable(path.to_owned(), error))?;
    let mark = b"-----BEGIN CERTIFICATE-----";
    let found = pem.windows(mark.len()).any(|window| window == mark);
    if found { Ok(()) } else { Err(SettingsError::CaEmpty(path.to_owned())) }
}
