//! F78: proxies of the environment, authorities that are rotated, IPv6.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use ohallo_core::api::channel::Channel;
use ohallo_sim::Config;
use serde_json::json;
use tempfile::NamedTempFile;
use testbed::User;
use tokio::net::{TcpListener, TcpStream};

use crate::support::connect_proxy::ConnectProxy;
use crate::support::harness::{Harness, id_of};
use crate::support::program::Program;
use crate::support::steps::{state, state_of};
use crate::support::tls::{Certificate, Front};

async fn prepare() -> Harness {
    let harness = Harness::bare(Config::default(), &[]).await;
    harness
        .put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": harness.key}}))
        .await;
    harness.workspace("default", "ohallo-api-key").await;
    harness
}

fn flags(harness: &Harness, api: &str) -> Vec<String> {
    vec![
        format!("--api-url={api}"),
        format!("--namespace={}", harness.namespace),
        "--requests-per-second=0".to_owned(),
    ]
}

/// A kubeconfig without a user: for the proxy of the test bed.
fn kubeconfig(server: &str, authority: &Path) -> NamedTempFile {
    let cluster = json!({"server": server, "certificate-authority": authority});
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": cluster}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
    });
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text.to_string()).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f78_a_proxy_of_the_environment_leads_to_the_api_server_unless_no_proxy_names_it_and_never_to_ohallo()
{
    let harness = prepare().await;
    let proxy = ConnectProxy::start().await;
    let server = harness.plane.url().trim_start_matches("https://").to_owned();
    let url = format!("http://someone:some%20word@{}", proxy.address);
    let flags = flags(&harness, &harness.sim.url());
    let start = |https: &str, no: &str| {
        let variables = [("HTTPS_PROXY", https), ("HTTP_PROXY", https), ("NO_PROXY", no)];
        Program::in_environment(&harness.plane.kubeconfig(User::Operator), &variables, &flags)
    };
    let program = start(&url, "example.org,10.0.0.0/8");
    harness.ready("a", json!({})).await;
    let asked = proxy.asked();
    assert!(!asked.is_empty());
    for head in &asked {
        assert!(head.starts_with(&format!("CONNECT {server} HTTP/1.1\r\n")), "{head}");
        // someone:some word
        let auth = "proxy-authorization: basic c29tzw9uztpzb21lihdvcmq=";
        assert!(head.to_lowercase().contains(auth), "{head}");
    }
    assert!(!program.log().contains("some%20word"));
    drop(program);
    for (https, no) in [
        (url.as_str(), "example.org, 127.0.0.0/8"),
        // Nobody listens there, and not every entry means something.
        ("http://127.0.0.1:9", ",<local>,127.0.0.1,"),
        ("http://127.0.0.1:9", "*"),
        // It can't reach this machine.
        ("http://192.0.2.1:3128", ""),
    ] {
        let before = proxy.asked().len();
        let program = start(https, no);
        let name = format!("b{}", harness.sim.channel_count());
        harness.ready(&name, json!({})).await;
        assert_eq!(proxy.asked().len(), before, "{https} {no}");
        drop(program);
    }
    let mut program = start("socks5://127.0.0.1:9", "");
    assert_eq!(program.ended().await.0, Some(1));
    assert!(program.log().contains("HTTPS_PROXY"), "{}", program.log());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f78_rotated_authorities_of_ohallo_and_of_the_api_server_are_trusted_without_a_restart() {
    let mut harness = prepare().await;
    harness.put_proxy().await;
    let (ohallo, server) = (
        Front::start(&harness.sim.url(), Certificate::Good).await,
        Front::start(&harness.proxy().url(), Certificate::Good).await,
    );
    let mut flags = flags(&harness, &ohallo.url());
    flags.push(format!("--ca-file={}", ohallo.authority().display()));
    let file = kubeconfig(&server.url(), server.authority());
    let mut program = Program::logging(file.path(), "info", &flags);
    harness.ready("a", json!({})).await;
    ohallo.rotate();
    server.rotate();
    harness.create("b", json!({})).await;
    // The file of the kubeconfig is read again once a minute.
    let ready = |channel: &Channel| state_of(channel, "Ready") == state("True", "Available");
    harness.until_within(Duration::from_secs(150), "b", "available", ready).await;
    assert!(program.log().contains("--ca-file changed"));
    // What is no certificate replaces nothing.
    std::fs::write(ohallo.authority(), "nonsense").unwrap();
    harness
        .eventually("a complaint", || async { program.log().contains("can't be used").then_some(()) })
        .await;
    harness.ready("c", json!({})).await;
    program.kill();
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f78_ohallo_the_api_server_and_the_probes_are_reached_over_ipv6() {
    let mut harness = prepare().await;
    harness.put_proxy().await;
    let here = IpAddr::from(Ipv6Addr::LOCALHOST);
    let ohallo = Front::start_at(here, &harness.sim.url(), Certificate::Good).await;
    let server = Front::start_at(here, &harness.proxy().url(), Certificate::Good).await;
    assert!(ohallo.url().starts_with("https://[::1]:"));
    let port = TcpListener::bind((here, 0)).await.unwrap().local_addr().unwrap().port();
    for (number, host) in ["[::1]", "[::]"].into_iter().enumerate() {
        let mut flags = flags(&harness, &ohallo.url());
        flags.push(format!("--ca-file={}", ohallo.authority().display()));
        let file = kubeconfig(&server.url(), server.authority());
        let program = Program::at(file.path(), &format!("{host}:{port}"), &flags);
        let id = id_of(&harness.ready(&format!("a{number}"), json!({})).await);
        assert!(harness.sim.channel(&id).is_some());
        let answer = reqwest::get(format!("http://[::1]:{port}/readyz")).await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{host}");
        drop(program);
    }
    // Without TLS only to this machine, which ::1 is.
    let plain = forward(here, harness.sim.url()).await;
    let program =
        Program::logging(harness.proxy().kubeconfig(), "info", &flags(&harness, &format!("http://{plain}")));
    harness.ready("plain", json!({})).await;
    drop(program);
    harness.finish().await;
}

async fn forward(host: IpAddr, to: String) -> std::net::SocketAddr {
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut inner, _)) = listener.accept().await {
            let to = to.trim_start_matches("http://").to_owned();
            tokio::spawn(async move {
                let mut outer = TcpStream::connect(to).await.ok()?;
                tokio::io::copy_bidirectional(&mut inner, &mut outer).await.ok()
            });
        }
    });
    address
}
