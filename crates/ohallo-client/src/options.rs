//! The options of the client.

use std::time::Duration;

use reqwest::Url;

/// The options of the client.
#[derive(Clone)]
pub struct Options {
    /// `https://`, or `http://` to loopback; `http://` to other hosts only with `allow_insecure`.
    pub api_url: Url,
    /// The path to create channels (inferred, not documented by oHallo), with `{workspaceId}` as one segment. A GET
    /// lists the channels of a workspace, where oHallo supports it.
    pub create_path: String,
    /// The timeout of one call, including the response body.
    pub request_timeout: Duration,
    /// The timeout of a create.
    pub create_timeout: Duration,
    /// For each API key; 0 means no limit.
    pub requests_per_second: f64,
    pub burst: u32,
    /// For all API keys together; 0 means no limit.
    pub total_requests_per_second: f64,
    /// Root certificates to trust instead of the system's, as PEM.
    pub ca_pem: Option<Vec<u8>>,
    pub proxy: Option<Url>,
    pub allow_insecure: bool,
    /// Send nothing but GET.
    pub read_only: bool,
}

/// Why a client can't be created.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("the API's URL must be https:// and a host")]
    Scheme,
    #[error("the API's URL is plain http:// to another host, which would expose API keys to the network")]
    Insecure,
    #[error("the API's URL must not contain a user name, password, query or fragment")]
    UrlParts,
    #[error("the create path must look like /api/workspaces/{{workspaceId}}/channels")]
    CreatePath,
    #[error("the proxy's URL is invalid")]
    Proxy,
    #[error("the file of certificate authorities contains no readable PEM certificate")]
    Ca,
    #[error("the HTTP client can't be created: {0}")]
    Http(String),
}
