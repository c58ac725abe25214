//! The way to the API server: proxies, credentials, and errors that give none of them away.

use std::process::Output;

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use testbed::User;

use crate::cli::support::program::command;
use crate::support::connect_proxy::ConnectProxy;
use crate::support::harness::Harness;

/// What no error may show.
const CANARY: &str = "canary-7f3a";

/// The kubeconfig of an administrator after a change.
fn kubeconfig(harness: &Harness, change: impl FnOnce(&mut Value, &mut Value)) -> NamedTempFile {
    let text = std::fs::read_to_string(harness.plane.kubeconfig(User::Admin)).unwrap();
    let mut all: Value = serde_saphyr::from_str(&text).unwrap();
    let (mut cluster, mut user) = (all["clusters"][0]["cluster"].take(), all["users"][0]["user"].take());
    change(&mut cluster, &mut user);
    all["clusters"][0]["cluster"] = cluster;
    all["users"][0]["user"] = user;
    let file = NamedTempFile::new().unwrap();
    std::fs::write(&file, all.to_string()).unwrap();
    file
}

fn status(harness: &Harness, file: &NamedTempFile, variables: &[(&str, &str)]) -> Output {
    let mut command = command();
    for name in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "RUST_BACKTRACE"] {
        command.env_remove(name);
    }
    command.arg("--kubeconfig").arg(file.path()).args(["--namespace", &harness.namespace, "status"]);
    command.envs(variables.iter().copied()).output().unwrap()
}

/// An exec plugin that is this shell script.
fn plugin(script: &str) -> Value {
    json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "interactiveMode": "Never",
                    "args": ["-c", script, CANARY]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_names_what_is_wrong_and_shows_no_credential() {
    let harness = Harness::bare(Default::default(), &[]).await;
    let proxy = format!("socks5://user:{CANARY}@proxy.example:1080");
    let is_user = |user: Value| move |_: &mut Value, own: &mut Value| *own = user;
    let credential = |status: Value| {
        let answer = json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status});
        plugin(&format!("printf '%s' '{answer}'"))
    };
    let broken = format!("{CANARY}\n{CANARY}");
    let users = [
        ("ended with code 3", plugin(&format!("echo {CANARY}; echo {CANARY} >&2; exit 3"))),
        ("printed no valid ExecCredential", plugin(&format!("echo 'status: [{CANARY}'"))),
        ("printed no valid ExecCredential", plugin("echo '{}'")),
        ("can't be started", json!({"exec": {"command": "/missing/plugin", "args": [CANARY]}})),
        ("has a line break", credential(json!({"token": broken}))),
        (
            "has a line break",
            credential(json!({"token": broken, "expirationTimestamp": "2999-01-01T00:00:00Z"})),
        ),
        ("has a line break", json!({"token": broken})),
        ("has a line break", json!({"auth-provider": {"name": "oidc", "config": {"id-token": broken}}})),
        ("not supported", json!({"auth-provider": {"name": CANARY, "config": {}}})),
        ("log in again", json!({"token": CANARY})),
        ("HTTP can't carry", json!({"token": "t", "as": broken})),
    ];
    let mut tried: Vec<_> =
        users.into_iter().map(|(part, user)| (part, kubeconfig(&harness, is_user(user)), vec![])).collect();
    let plain = || kubeconfig(&harness, |cluster, _| cluster["server"] = "https://api.example:6443".into());
    let named = kubeconfig(&harness, |cluster, _| cluster["proxy-url"] = proxy.as_str().into());
    tried.push(("must be an http:// or https:// URL", named, vec![]));
    tried.push(("must be an http:// or https:// URL", plain(), vec![("HTTPS_PROXY", proxy.as_str())]));
    let nowhere = format!("http://user:{CANARY}@127.0.0.1:1");
    tried.push(("can't be reached", plain(), vec![("HTTPS_PROXY", nowhere.as_str())]));
    let odd = NamedTempFile::new().unwrap();
    std::fs::write(&odd, format!("clusters: [{{token: {CANARY}")).unwrap();
    tried.push(("the kubeconfig can't be read", odd, vec![]));
    for (part, file, variables) in &tried {
        let output = status(&harness, file, variables);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && output.stdout.is_empty(), "{part}: {error}");
        assert!(error.contains(part) && error.lines().count() == 1, "{part}: {error}");
        assert!(!error.contains(CANARY), "{part}: {error}");
    }
    // A file that ends with a line break, as most do, has a token that kubectl uses.
    let token = NamedTempFile::new().unwrap();
    let file = kubeconfig(&harness, |_, user| {
        std::fs::write(&token, format!("{}\n", user["token"].as_str().unwrap())).unwrap();
        *user = json!({"tokenFile": token.path()});
    });
    let output = status(&harness, &file, &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_of_the_environment_or_of_the_kubeconfig_is_used_as_kubectl_does() {
    let harness = Harness::bare(Default::default(), &[]).await;
    let mut server = String::new();
    let elsewhere = kubeconfig(&harness, |cluster, _| {
        server = cluster["server"].as_str().unwrap().trim_start_matches("https://").to_owned();
        cluster["server"] = "https://api.example.invalid:6443".into();
        cluster["tls-server-name"] = "127.0.0.1".into();
    });
    let proxy = ConnectProxy::to(server).await;
    let url = format!("http://user:pass%40word@{}", proxy.address);
    let output = status(&harness, &elsewhere, &[("HTTPS_PROXY", &url), ("NO_PROXY", "<local>,10.0.0.0/8")]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let asked = proxy.newly_asked();
    assert!(asked[0].starts_with("CONNECT api.example.invalid:6443 "), "{asked:?}");
    // user:pass@word
    assert!(asked[0].to_lowercase().contains("proxy-authorization: basic dxnlcjpwyxnzqhdvcmq="), "{asked:?}");
    // Without the proxy there is no such host.
    let output = status(&harness, &elsewhere, &[("HTTPS_PROXY", &url), ("NO_PROXY", ".example.invalid")]);
    assert_eq!((output.status.code(), proxy.newly_asked()), (Some(2), vec![]), "{output:?}");
    // Go sends nothing for this machine through a proxy of the environment; one of the kubeconfig it does.
    let here = kubeconfig(&harness, |_, _| {});
    let output = status(&harness, &here, &[("HTTPS_PROXY", &url)]);
    assert_eq!((output.status.code(), proxy.newly_asked()), (Some(0), vec![]), "{output:?}");
    let named = kubeconfig(&harness, |cluster, _| cluster["proxy-url"] = url.as_str().into());
    let output = status(&harness, &named, &[("NO_PROXY", "*")]);
    assert_eq!((output.status.code(), proxy.newly_asked().is_empty()), (Some(0), false), "{output:?}");
    harness.finish().await;
}
