//! The HTTP layer of the calls: two clients, their options, and bounded reads of responses.

use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{
    Certificate, ClientBuilder, Method, Proxy, RequestBuilder, Response, Url, redirect, retry, tls,
};
use secrecy::zeroize::Zeroizing;

use crate::heavy::{self, HeavySlot};
use crate::observer::ResponseClass;
use crate::options::{Options, SetupError};
use ohallo_core::channel::config;
use ohallo_core::classify::{ApiError, BodyFault, Class, ErrorKind, Raw};
use ohallo_core::decoded_size::Meter;
use ohallo_core::remote::Id;
use ohallo_core::secret::ApiKey;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const BODY_MAX: usize = 1024 * 1024;
/// The maximum memory of a decoded response, in bytes: one and a half times the largest config that is sent.
const DECODED_MAX: u64 = 3 * config::MAX_DECODED / 2;
/// How long the response to a write waits for the heavy-work permit.
const ROOM_TIMEOUT: Duration = Duration::from_secs(10);
const PLACEHOLDER: &str = "{workspaceId}";

pub(super) struct Http {
    /// Replaced when the trusted authorities change.
    clients: RwLock<Clients>,
    base: Url,
    create_path: Vec<String>,
    read_only: bool,
}

struct Clients {
    pooled: reqwest::Client,
    /// For calls that must never be sent twice: on a reused connection the library may repeat a request that it
    /// considers unsent.
    fresh: reqwest::Client,
}

/// The result of a request, before its classification.
pub(super) enum Reply {
    NotConnected(String),
    Untrusted(String),
    Broken(String),
    TimedOut,
    /// The response is large, and another large one is in memory.
    NoRoom,
    Answered {
        status: u16,
        retry_after: Option<String>,
        body: Result<Vec<u8>, BodyFault>,
    },
}

/// The memory budget of a response.
struct Room<'a> {
    slot: &'a HeavySlot,
    returns: bool,
    success: bool,
}

// === impl Room ===

impl Room<'_> {
    async fn has(&self, bytes: u64) -> bool {
        match bytes {
            0..=heavy::LIGHT => true,
            // The text of an error is truncated in any case.
            _ if !self.success => false,
            _ if self.returns => self.slot.try_take(),
            _ => tokio::time::timeout(ROOM_TIMEOUT, self.slot.take()).await.is_ok(),
        }
    }
}

// === impl Clients ===

impl Clients {
    fn new(options: &Options) -> Result<Self, SetupError> {
        Ok(Self {
            pooled: builder(options)?.build().map_err(SetupError::http)?,
            fresh: builder(options)?.pool_max_idle_per_host(0).build().map_err(SetupError::http)?,
        })
    }
}

// === impl Http ===

impl Http {
    pub(super) fn new(options: &Options) -> Result<Self, SetupError> {
        check_url(options)?;
        // reqwest panics without one. An error means that a provider is already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            clients: RwLock::new(Clients::new(options)?),
            base: options.api_url.clone(),
            create_path: create_path(&options.create_path)?,
            read_only: options.read_only,
        })
    }

    /// Trusts the certificate authorities of these options from the next connection on.
    pub(super) fn replace(&self, options: &Options) -> Result<(), SetupError> {
        let clients = Clients::new(options)?;
        *self.clients.write().unwrap_or_else(PoisonError::into_inner) = clients;
        Ok(())
    }

    /// Every request begins here.
    ///
    /// # Errors
    /// The client only reads, and the method is not GET.
    pub(super) fn request(&self, method: Method, url: Url, reuse: bool) -> Result<RequestBuilder, ApiError> {
        if self.read_only && method != Method::GET {
            let text = "the request is not sent, because this client only reads";
            return Err(ApiError::new(Class::NotSent, ErrorKind::Refused, text));
        }
        let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner);
        let client = if reuse { &clients.pooled } else { &clients.fresh };
        Ok(client.request(method, url))
    }

    /// `…/api/{segments}`, each encoded as exactly one segment.
    pub(super) fn url<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.base.clone();
        // Only a URL that can't be a base has none; `check_url` accepts http and https only.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// Where channels of a workspace are created and, if at all, listed.
    pub(super) fn channels_url(&self, workspace: &Id) -> Url {
        self.url(
            self.create_path
                .iter()
                .map(|segment| if segment == PLACEHOLDER { workspace.as_str() } else { segment.as_str() }),
        )
    }
}

fn builder(options: &Options) -> Result<ClientBuilder, SetupError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("ohallo-operator/", env!("CARGO_PKG_VERSION")))
        .http1_only()
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(retry::never())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .tls_version_min(tls::Version::TLS_1_2)
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .no_proxy();
    if let Some(proxy) = &options.proxy {
        builder = builder.proxy(Proxy::all(proxy.clone()).map_err(|_| SetupError::Proxy)?);
    }
    if let Some(pem) = &options.ca_pem {
        let roots = Certificate::from_pem_bundle(pem).map_err(|_| SetupError::Ca)?;
        if roots.is_empty() {
            return Err(SetupError::Ca);
        }
        builder = builder.tls_certs_only(roots);
    }
    Ok(builder)
}

fn check_url(options: &Options) -> Result<(), SetupError> {
    let url = &options.api_url;
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(SetupError::UrlParts);
    }
    let host = url.host_str().ok_or(SetupError::Scheme)?;
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => Ok(()),
        "http" if loopback || options.allow_insecure => Ok(()),
        "http" => Err(SetupError::Insecure),
        _ => Err(SetupError::Scheme),
    }
}

fn create_path(path: &str) -> Result<Vec<String>, SetupError> {
    let segments: Vec<String> =
        path.strip_prefix('/').ok_or(SetupError::CreatePath)?.split('/').map(str::to_owned).collect();
    let fit = |segment: &String| segment == PLACEHOLDER || Id::parse(segment).is_some();
    let placeholders = segments.iter().filter(|segment| *segment == PLACEHOLDER).count();
    if placeholders == 1 && segments.iter().all(fit) { Ok(segments) } else { Err(SetupError::CreatePath) }
}

/// The Authorization header, marked so that the HTTP library prints it nowhere.
pub(super) fn authorize(request: RequestBuilder, key: &ApiKey) -> Result<RequestBuilder, ApiError> {
    let bearer = Zeroizing::new(format!("Bearer {}", key.expose()));
    let mut value = HeaderValue::from_str(&bearer).map_err(|_| {
        let text =
            "the API key contains a character that is not valid in an HTTP header, such as a line break";
        ApiError::new(Class::NotSent, ErrorKind::Unauthorized, text)
    })?;
    value.set_sensitive(true);
    Ok(request.header(AUTHORIZATION, value))
}

/// Sends, and reads the response until its end, 1 MiB, or the request's timeout. A response that is large, or would be
/// after decoding, takes the heavy-work permit. Without it, a call that can be repeated gives up; others wait.
pub(super) async fn send(request: RequestBuilder, slot: &HeavySlot, returns: bool) -> Reply {
    match request.send().await {
        Ok(mut response) => {
            let status = response.status().as_u16();
            let retry_after = response
                .headers()
                .get(RETRY_AFTER)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            let room = Room { slot, returns, success: (200..300).contains(&status) };
            match read(&mut response, &room).await {
                Err(BodyFault::NoRoom) if returns && room.success => Reply::NoRoom,
                body => Reply::Answered { status, retry_after, body },
            }
        }
        Err(error) if error.is_connect() => match tls_failure(&error) {
            Some(failure) => Reply::Untrusted(failure.to_string()),
            None => Reply::NotConnected(describe(error)),
        },
        // Not sent: the library rejected a header or the URL.
        Err(error) if error.is_builder() => Reply::NotConnected(describe(error)),
        Err(error) if error.is_timeout() => Reply::TimedOut,
        Err(error) => Reply::Broken(describe(error)),
    }
}

async fn read(response: &mut Response, room: &Room<'_>) -> Result<Vec<u8>, BodyFault> {
    if response.content_length().is_some_and(|length| length > BODY_MAX as u64) {
        return Err(BodyFault::TooLarge);
    }
    let (mut body, mut meter) = (Vec::new(), Meter::default());
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > BODY_MAX => return Err(BodyFault::TooLarge),
            Ok(Some(chunk)) => {
                chunk.iter().for_each(|byte| meter.take(*byte));
                if meter.cost() > DECODED_MAX {
                    return Err(BodyFault::TooWide);
                }
                let bytes = meter.cost().max((body.len() + chunk.len()) as u64);
                if !room.has(bytes).await {
                    return Err(BodyFault::NoRoom);
                }
                body.extend_from_slice(&chunk);
            }
            Ok(None) => return Ok(body),
            Err(error) => return Err(BodyFault::Broken(describe(error))),
        }
    }
}

/// The TLS error, where it is the reason of a failed connection.
fn tls_failure(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        // An I/O error returns its inner error only by `get_ref`.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref()).or_else(|| error.downcast_ref());
        if tls.is_some() {
            return tls;
        }
        cause = inner.map(|inner| inner as &dyn std::error::Error).or_else(|| error.source());
    }
    None
}

/// The error and its causes, without the URL.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

// === impl Reply ===

impl Reply {
    pub(super) fn raw(&self) -> Raw<'_> {
        match self {
            Self::NotConnected(text) => Raw::NotConnected(text.clone()),
            Self::Untrusted(text) => Raw::Untrusted(text.clone()),
            Self::Broken(text) => Raw::Broken(text.clone()),
            Self::TimedOut | Self::NoRoom => Raw::TimedOut,
            Self::Answered { status, retry_after, body } => Raw::Answered {
                status: *status,
                retry_after: retry_after.as_deref(),
                body: body.as_deref().map_err(Clone::clone),
            },
        }
    }

    pub(super) fn status(&self) -> Option<u16> {
        if let Self::Answered { status, .. } = self { Some(*status) } else { None }
    }

    pub(super) fn class(&self) -> ResponseClass {
        match self {
            Self::NotConnected(_) | Self::Untrusted(_) => ResponseClass::NotSent,
            Self::Broken(_) => ResponseClass::Broken,
            Self::TimedOut => ResponseClass::Timeout,
            Self::NoRoom => ResponseClass::Success,
            Self::Answered { status, .. } => match status {
                200..=299 => ResponseClass::Success,
                300..=399 => ResponseClass::Redirect,
                400..=499 => ResponseClass::ClientError,
                500..=599 => ResponseClass::ServerError,
                _ => ResponseClass::Broken,
            },
        }
    }

    /// Whether oHallo itself answered and is available: no redirect, no proxy's page, no overload.
    pub(super) fn is_good(&self) -> bool {
        let Self::Answered { status, body: Ok(body), .. } = self else { return false };
        matches!(status, 200..=299 | 400..=499)
            && !matches!(status, 408 | 429)
            && serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
    }
}
