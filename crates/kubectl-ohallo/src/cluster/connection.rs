//! From a kubeconfig to a client.

use http::HeaderValue;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use ohallo_kubeconfig::{Environment, proxy_of, take_proxy, through};
use secrecy::{ExposeSecret, SecretString};

use crate::bug;
use crate::cluster::REQUEST_TIMEOUT;
use crate::cluster::proxy::is_direct;
use crate::cluster::sentence::{UNUSABLE_TOKEN, of_kubeconfig, of_request};
use crate::failure::Failure;
use crate::global::Global;

/// A client, and the namespace of the context.
///
/// # Errors
/// There is no kubeconfig, or something in it can't be used.
pub async fn connect(global: &Global) -> Result<(Client, String), Failure> {
    // Fails only if another provider is installed, which serves equally well.
    _ = rustls::crypto::ring::default_provider().install_default();
    let read = match &global.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let mut kubeconfig = read.map_err(|error| {
        Failure::undecided(format!("the kubeconfig can't be read: {}", of_kubeconfig(&error)))
    })?;
    let unusable = |why: &str| Failure::undecided(format!("the kubeconfig can't be used: {why}"));
    let options = KubeConfigOptions { context: global.context.clone(), ..KubeConfigOptions::default() };
    let proxy = take_proxy(&mut kubeconfig, &options);
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let mut config = config.map_err(|error| unusable(&of_kubeconfig(&error)))?;
    config.proxy_url = None;
    config.connect_timeout = Some(REQUEST_TIMEOUT);
    config.read_timeout = Some(REQUEST_TIMEOUT);
    // A command that waits repeats its reads anyway, and a write must not be sent twice.
    config.default_retry = false;
    trim_token_file(&mut config);
    let namespace = config.default_namespace.clone();
    let proxy = proxy_of(&config.cluster_url, proxy.as_deref(), &Environment::read(), is_direct);
    let proxy = proxy.map_err(|error| unusable(&error.to_string()))?;
    // kube panics on a token that HTTP can't carry, wherever it is from.
    let client = bug::caught(|| match proxy {
        Some(proxy) => Ok(Client::new(through(&config, &proxy)?, namespace.clone())),
        None => Client::try_from(config),
    });
    let client = client.ok_or_else(|| unusable(UNUSABLE_TOKEN))?;
    Ok((client.map_err(|error| unusable(&of_request(&error)))?, namespace))
}

/// kubectl ignores blanks around the token of a file, and kube does not.
fn trim_token_file(config: &mut Config) {
    let user = &mut config.auth_info;
    let path = user.token_file.as_ref().filter(|_| user.token.is_none());
    // One that can't be read is kube's error.
    let Some(text) = path.and_then(|path| std::fs::read_to_string(path).ok()).map(SecretString::from) else {
        return;
    };
    // kube rereads the file, unless blanks keep it from using it.
    if HeaderValue::try_from(text.expose_secret()).is_err() {
        user.token = Some(text.expose_secret().trim().into());
    }
}
