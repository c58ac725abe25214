//! A connection through a proxy.

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::Config;
use kube::client::{Body, ConfigExt};
use tower::util::BoxService;
use tower::{BoxError, Layer, Service, ServiceExt};

use crate::choice::Proxy;

/// A service to build a `kube::Client` on.
pub type Tunneled = BoxService<Request<Body>, Response<Incoming>, BoxError>;

/// Reaches the API server through a tunnel of the proxy.
///
/// # Errors
/// The certificates or the credentials of the configuration can't be used.
pub fn through(config: &Config, proxy: &Proxy) -> kube::Result<Tunneled> {
    let mut direct = HttpConnector::new();
    direct.enforce_http(false);
    if proxy.uri().scheme_str() == Some("https") {
        // The cluster's certificate authorities do not apply to the proxy's certificate.
        let to_proxy = Config::new(proxy.uri().clone()).rustls_https_connector_with_connector(direct)?;
        tunnel(config, proxy, to_proxy)
    } else {
        tunnel(config, proxy, direct)
    }
}

fn tunnel<C>(config: &Config, proxy: &Proxy, connector: C) -> kube::Result<Tunneled>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Unpin + Send + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    let mut tunnel = Tunnel::new(proxy.uri().clone(), connector);
    if let Some(auth) = proxy.basic_auth() {
        tunnel = tunnel.with_auth(auth.clone());
    }
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tunnel)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    let http = HttpClient::builder(TokioExecutor::new()).build(connector);
    let service = config.extra_headers_layer()?.layer(http.map_err(BoxError::from));
    let base = config.base_uri_layer();
    Ok(match config.auth_layer()? {
        Some(auth) => BoxService::new(base.layer(auth.layer(service))),
        None => BoxService::new(base.layer(service)),
    })
}
