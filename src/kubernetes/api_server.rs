//! The client of the API server: which cluster, through which proxy, trusting which certificate authorities.

use std::net::IpAddr;
use std::path::PathBuf;

use http::Uri;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use ohallo_kubeconfig::{Environment, Proxy, ProxyError, is_in, selected, take_proxy, through};
use tower::Layer;

use crate::kubernetes::guard::{GuardLayer, REQUEST_TIMEOUT};
use crate::settings::Settings;

const GUARD: GuardLayer = GuardLayer(REQUEST_TIMEOUT);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("the cluster configuration can't be loaded: {0}")]
    Kubeconfig(String),
    #[error("the client of the API server can't be set up: {0}")]
    Client(#[source] kube::Error),
    /// The error omits the URL, which may hold a password.
    #[error(
        "the proxy of the API server (proxy-url of the kubeconfig, or {0}) must be an http:// or https:// URL"
    )]
    Proxy(&'static str),
}

/// The client, guarded: see [`GuardLayer`].
///
/// # Errors
/// No cluster is configured, or the proxy can't be used.
pub async fn client(settings: &Settings) -> Result<Client, SetupError> {
    let (mut config, proxy) = config(settings).await?;
    // Hidden retries would repeat a POST and outlive a reconcile; the work queue retries.
    config.default_retry = false;
    config.proxy_url = None;
    match proxy_of(&config.cluster_url, proxy.as_deref(), &Environment::read())? {
        Some(proxy) => {
            let service = through(&config, &proxy).map_err(SetupError::Client)?;
            Ok(Client::new(GUARD.layer(service), config.default_namespace))
        }
        None => Ok(ClientBuilder::try_from(config).map_err(SetupError::Client)?.with_layer(&GUARD).build()),
    }
}

/// The cluster, and the proxy from its kubeconfig.
async fn config(settings: &Settings) -> Result<(Config, Option<String>), SetupError> {
    let said = |error: &dyn std::error::Error| SetupError::Kubeconfig(error.to_string());
    let options = KubeConfigOptions { context: settings.context.clone(), ..KubeConfigOptions::default() };
    let file = match &settings.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let named = settings.kubeconfig.is_some() || settings.context.is_some();
    let from_file = match file {
        Ok(file) => from_kubeconfig(file, &options).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match from_file {
        Ok(found) => Ok(found),
        Err(error) if named => Err(SetupError::Kubeconfig(error)),
        Err(error) => match Config::incluster() {
            // kube rereads the certificate authorities when they change.
            Ok(config) => Ok((config, None)),
            Err(other) => Err(SetupError::Kubeconfig(format!("{}; {error}", said(&other)))),
        },
    }
}

async fn from_kubeconfig(
    mut file: Kubeconfig,
    options: &KubeConfigOptions,
) -> Result<(Config, Option<String>), kube::config::KubeconfigError> {
    let authorities = selected(&file, options).and_then(|cluster| {
        let inline = cluster.certificate_authority_data.is_some();
        cluster.certificate_authority.as_ref().filter(|_| !inline).map(PathBuf::from)
    });
    let proxy = take_proxy(&mut file, options);
    let mut config = Config::from_custom_kubeconfig(file, options).await?;
    // Reread when the file changes.
    config.root_cert_file = authorities;
    Ok((config, proxy))
}

/// The proxy to this server: the kubeconfig's, else the environment's.
fn proxy_of(server: &Uri, named: Option<&str>, env: &Environment) -> Result<Option<Proxy>, SetupError> {
    let proxy = ohallo_kubeconfig::proxy_of(server, named, env, is_left_out);
    let proxy = proxy.map_err(|ProxyError(variable)| SetupError::Proxy(variable))?;
    // A proxy on another machine can't reach a server on this one.
    let is_out_of_reach = |proxy: &Proxy| is_loopback(server) && !is_loopback(proxy.uri());
    Ok(proxy.filter(|proxy| named.is_some() || !is_out_of_reach(proxy)))
}

/// Whether `NO_PROXY` names the server.
fn is_left_out(server: &Uri, no_proxy: &str) -> bool {
    let port = server.port_u16().unwrap_or(if server.scheme_str() == Some("http") { 80 } else { 443 });
    let mut hosts = Vec::new();
    for entry in no_proxy.split(',').map(str::trim) {
        // An entry may have a port; an IPv6 address has colons of its own.
        let host = match entry.rsplit_once(':').map(|(host, digits)| (host, digits.parse::<u16>())) {
            Some((host, Ok(named))) if !host.contains(':') || host.ends_with(']') => {
                if named == port {
                    host
                } else {
                    continue;
                }
            }
            _ => entry,
        };
        if host == "*" {
            return true;
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        hosts.push(host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host));
    }
    is_in(server, hosts.join(","))
}

fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen_proxy(server: &str, named: Option<&str>, env: [&str; 3]) -> Result<Option<String>, SetupError> {
        let [http, https, no] = env.map(|value| Some(value.to_owned()).filter(|value| !value.is_empty()));
        let found = proxy_of(&server.parse().unwrap(), named, &Environment { http, https, no })?;
        Ok(found.map(|proxy| proxy.uri().to_string()))
    }

    #[test]
    fn f78_the_proxy_of_the_kubeconfig_or_of_the_environment_is_used_unless_no_proxy_names_the_server() {
        let (server, proxy) = ("https://k8s.example.com:6443", "http://proxy.example:3128");
        let uri = Some("http://proxy.example:3128/".to_owned());
        for (what, server, named, env, expected) in [
            ("no proxy", server, None, ["", "", ""], &None),
            ("HTTPS_PROXY", server, None, ["http://other", proxy, ""], &uri),
            ("without a scheme", server, None, ["", "proxy.example:3128", ""], &uri),
            ("HTTP_PROXY for http", "http://k8s.example.com", None, [proxy, "http://other", ""], &uri),
            ("HTTP_PROXY is not for https", server, None, [proxy, "", ""], &None),
            ("the kubeconfig's", server, Some(proxy), ["", "http://other", "*"], &uri),
            ("all", server, None, ["", proxy, " * "], &None),
            ("one of all", server, None, ["", proxy, "a.example,*"], &None),
            ("the host", server, None, ["", proxy, "k8s.example.com"], &None),
            ("its domain", server, None, ["", proxy, ".example.com"], &None),
            ("its domain, with a star", server, None, ["", proxy, "*.example.com"], &None),
            ("another host", server, None, ["", proxy, "s.example.com,example.org"], &uri),
            ("the port", server, None, ["", proxy, "k8s.example.com:6443"], &None),
            ("another port", server, None, ["", proxy, "k8s.example.com:443"], &uri),
            ("the port by the scheme", "https://10.0.0.1", None, ["", proxy, "10.0.0.1:443"], &None),
            ("odd entries", server, None, ["", proxy, ",, <local>,a b,:,k8s.example.com,"], &None),
            ("odd entries alone", server, None, ["", proxy, ",<local>,:443,[,"], &uri),
            ("an address", "https://10.0.0.1", None, ["", proxy, "10.0.0.1"], &None),
            ("a range", "https://10.0.0.1:6443", None, ["", proxy, "192.168.0.0/16,10.0.0.0/8"], &None),
            ("another range", "https://10.0.0.1", None, ["", proxy, "192.168.0.0/16"], &uri),
            ("IPv6", "https://[fd00::1]:6443", None, ["", proxy, "fd00::1"], &None),
            ("IPv6 in brackets", "https://[fd00::1]:6443", None, ["", proxy, "[fd00::1]:6443"], &None),
            ("an IPv6 range", "https://[fd00::1]:6443", None, ["", proxy, "fd00::/8"], &None),
            ("another IPv6 address", "https://[fd00::1]:6443", None, ["", proxy, "fd00::2,::1"], &uri),
            ("a server on this machine", "https://127.0.0.1:6443", None, ["", proxy, ""], &None),
            (
                "and its proxy",
                "https://[::1]:6443",
                None,
                ["", "http://localhost:3128", ""],
                &Some("http://localhost:3128/".to_owned()),
            ),
        ] {
            assert_eq!(chosen_proxy(server, named, env).unwrap(), *expected, "{what}");
        }
        for unusable in ["socks5://proxy:1080", "ftp://proxy", "http://", "a b"] {
            let error = chosen_proxy(server, None, ["", unusable, ""]).unwrap_err().to_string();
            assert!(error.contains("HTTPS_PROXY") && !error.contains("1080"), "{error}");
        }
    }

    #[tokio::test]
    async fn f78_the_proxy_and_the_authorities_file_of_a_kubeconfig_are_those_of_the_selected_context() {
        let text = "
clusters:
- {name: a, cluster: {server: 'https://a.example', proxy-url: 'http://proxy-a', certificate-authority-data: ''}}
- {name: b, cluster: {server: 'https://[fd00::1]:6443', certificate-authority: /nowhere/ca.crt}}
contexts:
- {name: one, context: {cluster: a, user: u}}
- {name: two, context: {cluster: b, user: u}}
users: [{name: u, user: {}}]
current-context: one
";
        let read = || Kubeconfig::from_yaml(text).unwrap();
        let options =
            |context: &str| KubeConfigOptions { context: Some(context.to_owned()), ..Default::default() };
        let name = |found: Option<&kube::config::Cluster>| found.and_then(|cluster| cluster.server.clone());
        assert_eq!(
            name(selected(&read(), &KubeConfigOptions::default())).as_deref(),
            Some("https://a.example")
        );
        assert_eq!(name(selected(&read(), &options("two"))).as_deref(), Some("https://[fd00::1]:6443"));
        assert_eq!(name(selected(&read(), &options("three"))), None);
        let (config, proxy) = from_kubeconfig(read(), &KubeConfigOptions::default()).await.unwrap();
        assert_eq!((proxy.as_deref(), config.root_cert_file), (Some("http://proxy-a"), None));
        let missing = from_kubeconfig(read(), &options("two")).await;
        assert!(missing.is_err(), "the file is read at the start");
    }
}
