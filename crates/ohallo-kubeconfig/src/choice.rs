//! Which proxy leads to a server.

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

pub use hyper_util::client::proxy::matcher::Intercept as Proxy;

/// Stands for any proxy.
const SOME: &str = "http://proxy.invalid";

/// A proxy that is no URL of HTTP. The error omits the URL, which may hold a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proxy (proxy-url of the kubeconfig, or {0}) must be an http:// or https:// URL")]
pub struct ProxyError(pub &'static str);

/// The environment variables that choose a proxy.
#[derive(Debug, Default)]
pub struct Environment {
    pub http: Option<String>,
    pub https: Option<String>,
    pub no: Option<String>,
}

/// The proxy to this server: the kubeconfig's, else the environment's, unless `is_direct` finds the server in `NO_PROXY`.
///
/// # Errors
/// It is no URL of HTTP.
pub fn proxy_of(
    server: &Uri,
    named: Option<&str>,
    environment: &Environment,
    is_direct: impl Fn(&Uri, &str) -> bool,
) -> Result<Option<Proxy>, ProxyError> {
    let (variable, set) = match server.scheme_str() {
        Some("http") => ("HTTP_PROXY", &environment.http),
        _ => ("HTTPS_PROXY", &environment.https),
    };
    // NO_PROXY is about the environment's only.
    let no_proxy = environment.no.as_deref().unwrap_or_default();
    let Some(found) = named.or(set.as_deref().filter(|_| !is_direct(server, no_proxy))) else {
        return Ok(None);
    };
    let proxy = Matcher::builder().all(found.to_owned()).build().intercept(server);
    let usable = proxy.filter(|proxy| matches!(proxy.uri().scheme_str(), Some("http" | "https")));
    usable.map(Some).ok_or(ProxyError(variable))
}

/// Whether hyper's own rules find the server in these entries of `NO_PROXY`.
pub fn is_in(server: &Uri, entries: String) -> bool {
    Matcher::builder().all(SOME).no(entries).build().intercept(server).is_none()
}

// === impl Environment ===

impl Environment {
    /// The variables in upper case, else those in lower case. One that is blank is not set.
    pub fn read() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let either = |name: &str| set(name).or_else(|| set(&name.to_lowercase()));
        Self { http: either("HTTP_PROXY"), https: either("HTTPS_PROXY"), no: either("NO_PROXY") }
    }
}
