//! The way from a kubeconfig to the API server: the cluster of the selected context, and the proxy that the kubeconfig or the
//! environment names.
//!
//! kube chooses no proxy here. It compares the entries of `NO_PROXY` with the proxy's own address, and fails on an entry that it
//! can't parse.

mod choice;
mod tunnel;

use kube::config::{Cluster, KubeConfigOptions, Kubeconfig};

pub use choice::{Environment, Proxy, ProxyError, is_in, proxy_of};
pub use tunnel::{Tunneled, through};

/// Replaces the proxies of a kubeconfig, so that kube reads neither those nor the environment.
const UNREAD: &str = "http://proxy.invalid";

/// The cluster of the selected context.
pub fn selected<'a>(file: &'a Kubeconfig, options: &KubeConfigOptions) -> Option<&'a Cluster> {
    let name = options.context.as_ref().or(file.current_context.as_ref())?;
    let context = file.contexts.iter().find(|context| context.name == *name)?.context.as_ref()?;
    file.clusters.iter().find(|cluster| cluster.name == context.cluster)?.cluster.as_ref()
}

/// Takes the proxy of the selected context out of the kubeconfig. A `Config` of the rest has a proxy that must be unset.
pub fn take_proxy(file: &mut Kubeconfig, options: &KubeConfigOptions) -> Option<String> {
    let proxy = selected(file, options).and_then(|cluster| cluster.proxy_url.clone());
    for cluster in file.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        cluster.proxy_url = Some(UNREAD.to_owned());
    }
    proxy.filter(|proxy| !proxy.is_empty())
}
