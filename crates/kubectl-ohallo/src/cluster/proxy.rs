//! What `NO_PROXY` means to kubectl.

use std::net::IpAddr;

use http::Uri;

/// Whether Go's HTTP client uses no proxy of the environment for this server.
pub fn is_direct(server: &Uri, no_proxy: &str) -> bool {
    let host = server.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_lowercase();
    let address = host.parse::<IpAddr>().ok();
    let port = server.port_u16().unwrap_or(if server.scheme_str() == Some("http") { 80 } else { 443 });
    let is_local = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    is_local || no_proxy.split(',').any(|entry| names(&entry.trim().to_lowercase(), &host, address, port))
}

/// Whether an entry of `NO_PROXY` names this host.
fn names(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    if let Some((network, bits)) = entry.split_once('/') {
        return address.is_some_and(|address| is_in(address, network, bits));
    }
    // An entry may have a port; an IPv6 address has colons of its own.
    let (name, named_port) = match entry.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, port.parse::<u16>().ok()),
        _ => (entry, None),
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let fits = match (address, name.parse::<IpAddr>()) {
        (Some(address), Ok(named)) => address == named,
        (None, Err(_)) if !name.is_empty() => match name.strip_prefix('*').unwrap_or(name) {
            domain if domain.starts_with('.') => host.ends_with(domain),
            name => host == name || host.strip_suffix(name).is_some_and(|sub| sub.ends_with('.')),
        },
        _ => false,
    };
    fits && named_port.is_none_or(|named| named == port)
}

/// Whether an address is in a network such as 10.0.0.0/8.
fn is_in(address: IpAddr, network: &str, bits: &str) -> bool {
    let Some((network, bits)) = network.parse::<IpAddr>().ok().zip(bits.parse::<u32>().ok()) else {
        return false;
    };
    let same = |one: u128, other: u128, width: u32| {
        bits <= width && (one ^ other).checked_shr(width - bits).unwrap_or_default() == 0
    };
    match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => same(one.to_bits().into(), other.to_bits().into(), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => same(one.to_bits(), other.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use ohallo_kubeconfig::{Environment, ProxyError, proxy_of};

    use super::*;

    fn chosen(server: &str, named: Option<&str>, set: [&str; 3]) -> Result<Option<String>, ProxyError> {
        let [http, https, no] = set.map(|value| Some(value.to_owned()).filter(|value| !value.is_empty()));
        let found = proxy_of(&server.parse().unwrap(), named, &Environment { http, https, no }, is_direct)?;
        Ok(found.map(|proxy| proxy.uri().to_string()))
    }

    #[test]
    fn the_proxy_is_the_one_that_kubectl_uses() {
        let (server, proxy) = ("https://k8s.example.com:6443", "http://proxy.example:3128");
        for (what, server, named, set, is_used) in [
            ("no proxy", server, None, ["", "", ""], false),
            ("HTTPS_PROXY", server, None, ["http://other", proxy, ""], true),
            ("without a scheme", server, None, ["", "proxy.example:3128", ""], true),
            ("HTTP_PROXY for http", "http://k8s.example.com", None, [proxy, "http://other", ""], true),
            ("HTTP_PROXY is not for https", server, None, [proxy, "", ""], false),
            ("the kubeconfig's", server, Some(proxy), ["", "http://other", "*"], true),
            ("the kubeconfig's to this machine", "https://127.0.0.1:1", Some(proxy), ["", "", ""], true),
            ("all", server, None, ["", proxy, " * "], false),
            ("one of all", server, None, ["", proxy, "a.example,*"], false),
            ("the host", server, None, ["", proxy, "K8s.example.com"], false),
            ("its domain", server, None, ["", proxy, "example.com"], false),
            ("its domain with a dot", server, None, ["", proxy, ".example.com"], false),
            ("its domain with a star", server, None, ["", proxy, "*.example.com"], false),
            ("a domain with a dot is not the host", server, None, ["", proxy, ".k8s.example.com"], true),
            ("another host", server, None, ["", proxy, "s.example.com,example.org"], true),
            ("the port", server, None, ["", proxy, "k8s.example.com:6443"], false),
            ("another port", server, None, ["", proxy, "k8s.example.com:443"], true),
            ("the port by the scheme", "https://10.0.0.1", None, ["", proxy, "10.0.0.1:443"], false),
            ("odd entries", server, None, ["", proxy, ",, <local>,a b,:,k8s.example.com,"], false),
            ("odd entries alone", server, None, ["", proxy, ",<local>,:443,[,/,1/2"], true),
            ("an address", "https://10.0.0.1", None, ["", proxy, "10.0.0.1"], false),
            ("a range", "https://10.0.0.1:6443", None, ["", proxy, "192.168.0.0/16,10.0.0.0/8"], false),
            ("the range of all", "https://10.0.0.1", None, ["", proxy, "0.0.0.0/0"], false),
            ("another range", "https://10.0.0.1", None, ["", proxy, "192.168.0.0/16,10.0.0.0/33"], true),
            ("IPv6", "https://[fd00::1]:6443", None, ["", proxy, "fd00::1"], false),
            ("IPv6 in brackets", "https://[fd00::1]:6443", None, ["", proxy, "[fd00::1]:6443"], false),
            ("an IPv6 range", "https://[fd00::1]:6443", None, ["", proxy, "fd00::/8"], false),
            ("another IPv6 address", "https://[fd00::1]:6443", None, ["", proxy, "fd00::2,::1"], true),
            ("a server on this machine", "https://127.0.0.1:6443", None, ["", proxy, ""], false),
            ("by its name", "https://localhost:6443", None, ["", proxy, ""], false),
        ] {
            let expected = is_used.then(|| "http://proxy.example:3128/".to_owned());
            assert_eq!(chosen(server, named, set).unwrap(), expected, "{what}");
        }
        for unusable in ["socks5://user:canary@proxy:1080", "ftp://canary", "http://", "a b canary"] {
            let error = chosen(server, None, ["", unusable, ""]).unwrap_err().to_string();
            assert!(error.contains("HTTPS_PROXY") && !error.contains("canary"), "{error}");
        }
    }
}
