//! The test bed itself: real, complete, and removed afterwards.

#![expect(clippy::panic, clippy::unwrap_used, reason = "functions that tests share are tests")]

use std::fs;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::{Api, Client};
use testbed::{AuditEvent, ControlPlane, Options, User};
use tokio::time::{sleep, timeout};

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let poll = async {
        while !holds().await {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(60), poll).await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn named<K: Default>(name: &str, set: impl Fn(&mut K, ObjectMeta)) -> K {
    let mut object = K::default();
    set(&mut object, ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() });
    object
}

async fn create_namespace_and_config_map(client: &Client) {
    let namespace = named("shop", |object: &mut Namespace, metadata| object.metadata = metadata);
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    let config_map = named("prices", |object: &mut ConfigMap, metadata| object.metadata = metadata);
    Api::namespaced(client.clone(), "shop").create(&PostParams::default(), &config_map).await.unwrap();
}

fn has(events: &[AuditEvent], user: User, verb: &str, resource: &str, code: u16) -> bool {
    events.iter().any(|event| {
        (event.user.as_str(), event.verb.as_str(), event.resource.as_str(), event.code)
            == (user.name().as_str(), verb, resource, code)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn is_a_control_plane_with_rights_an_audit_log_and_controllers() {
    let control_plane = ControlPlane::start(Options::default()).await.unwrap();
    let admin = control_plane.client(User::Admin).unwrap();
    let mut read = 0;
    create_namespace_and_config_map(&admin).await;

    for user in [User::Tenant, User::Operator, User::Spare(User::SPARES)] {
        let config_maps: Api<ConfigMap> = Api::namespaced(control_plane.client(user).unwrap(), "shop");
        let kube::Error::Api(status) = config_maps.get("prices").await.unwrap_err() else {
            panic!("no answer of the API server")
        };
        assert_eq!(status.code, 403, "{user:?}");
        assert!(status.message.contains(&user.name()), "{}", status.message);
    }

    let mut events = Vec::new();
    eventually("the audit log has both", async || {
        events.extend(control_plane.audit_since(&mut read).unwrap());
        has(&events, User::Admin, "create", "configmaps", 201)
            && has(&events, User::Tenant, "get", "configmaps", 403)
    })
    .await;
    // The API server creates config maps too.
    let of_admin = |event: &&AuditEvent| event.user == "admin" && event.resource == "configmaps";
    let created = events.iter().find(of_admin).unwrap();
    assert_eq!(created.namespace.as_deref(), Some("shop"));
    assert_eq!(created.name.as_deref(), Some("prices"));
    assert!(control_plane.audit_events().unwrap().len() >= events.len());

    let namespaces: Api<Namespace> = Api::all(admin);
    namespaces.delete("shop", &DeleteParams::default()).await.unwrap();
    eventually("the namespace is deleted", async || namespaces.get_opt("shop").await.unwrap().is_none())
        .await;

    let folder = control_plane.logs_dir().parent().unwrap().to_owned();
    control_plane.stop();
    assert!(!folder.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn its_api_server_can_be_frozen_and_restarted() {
    let mut control_plane =
        ControlPlane::start(Options { audit: false, ..Options::default() }).await.unwrap();
    let mut config = control_plane.client_config(User::Admin);
    config.default_retry = false;
    let client = Client::try_from(config).unwrap();
    create_namespace_and_config_map(&client).await;
    let config_maps: Api<ConfigMap> = Api::namespaced(client, "shop");

    control_plane.pause_apiserver().await.unwrap();
    assert!(
        timeout(Duration::from_secs(1), config_maps.get("prices")).await.is_err(),
        "a frozen server answered"
    );
    control_plane.resume_apiserver().await.unwrap();
    config_maps.get("prices").await.unwrap();

    control_plane.kill_apiserver().await;
    config_maps.get("prices").await.unwrap_err();
    let url = control_plane.url().to_owned();
    control_plane.restart_apiserver().await.unwrap();
    assert_eq!(control_plane.url(), url);
    config_maps.get("prices").await.unwrap();
    assert!(control_plane.audit_events().unwrap().is_empty());
}

/// The processes whose working directory is the folder: all of a control plane's programs, and no others.
fn processes_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    entries
        .filter(|process| fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_nothing_behind_when_its_owner_is_killed() {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_testbed"))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let kubeconfig = PathBuf::from(line.trim());
    let folder = kubeconfig.parent().unwrap();
    assert!(kubeconfig.is_file());
    let processes = processes_in(folder);
    assert_eq!(processes.len(), 3, "{processes:?}");

    owner.kill().unwrap();
    owner.wait().unwrap();

    eventually("the folder is deleted", async || !folder.exists()).await;
    // A process that has ended has no executable, even where nobody collects it.
    eventually("the processes have ended", async || {
        processes.iter().all(|process| fs::read_link(process.join("exe")).is_err())
    })
    .await;
}
