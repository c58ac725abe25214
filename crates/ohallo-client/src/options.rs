//! How to reach oHallo.

use std::time::Duration;

use reqwest::Url;

/// How to reach oHallo.
#[derive(Clone)]
pub struct Options {
    /// `https://`, or `http://` to loopback; to elsewhere only with `allow_insecure`.
    pub api_url: Url,
    /// Where channels are created (a guess: no page says it), with `{workspaceId}` as one segment. Reads there
    /// list the channels of a workspace, where oHallo can.
    pub create_path: String,
    /// Longest time of one call, the answer's body included.
    pub request_timeout: Duration,
    /// The same of a create.
    pub create_timeout: Duration,
    /// For each key; 0 = no limit.
    pub requests_per_second: f64,
    pub burst: u32,
    /// Of all keys together; 0 = no limit.
    pub total_requests_per_second: f64,
    /// Roots to trust, PEM, instead of the system's.
    pub ca_pem: Option<Vec<u8>>,
    pub proxy: Option<Url>,
    pub allow_insecure: bool,
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("the API's URL must be https:// and a host")]
    Scheme,
    #[error("the API's URL is plain http:// to another machine, which would show API keys to the network")]
    Insecure,
    #[error("the API's URL must hold no user name, password, query or fragment")]
    UrlParts,
    #[error("the create path must look like /api/workspaces/{{workspaceId}}/channels")]
    CreatePath,
    #[error("the proxy's URL is not understood")]
    Proxy,
    #[error("the file of certificate authorities holds no readable PEM certificate")]
    Ca,
    #[error("the HTTP client can't be set up: {0}")]
    Http(String),
}
