//! The proxy before the API server: what it forwards, what it breaks, and when.

#![expect(clippy::unwrap_used, reason = "functions that tests share are tests")]

use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use testbed::{Act, ControlPlane, Options, Proxy, Rule, User, When};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(30);
/// How long a test waits before it concludes that something does not come.
const QUIET: Duration = Duration::from_millis(300);

async fn start() -> (ControlPlane, Proxy, Api<ConfigMap>, Api<ConfigMap>) {
    let plane = ControlPlane::start(Options { audit: false, ..Options::default() }).await.unwrap();
    let proxy = Proxy::start(&plane, User::Admin).await.unwrap();
    let file = Kubeconfig::read_from(proxy.kubeconfig()).unwrap();
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    let through = Api::default_namespaced(Client::try_from(config).unwrap());
    let direct = Api::default_namespaced(plane.client(User::Admin).unwrap());
    (plane, proxy, through, direct)
}

async fn create(api: &Api<ConfigMap>, name: &str) -> Result<ConfigMap, kube::Error> {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    api.create(&PostParams::default(), &ConfigMap { metadata, ..ConfigMap::default() }).await
}

fn code(error: &kube::Error) -> u16 {
    if let kube::Error::Api(status) = error { status.code } else { 0 }
}

async fn there(api: &Api<ConfigMap>, name: &str) -> bool {
    api.get_opt(name).await.unwrap().is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_writes_and_breaks_the_chosen_one_before_or_after_it_took_effect() {
    let (plane, proxy, api, direct) = start().await;
    create(&api, "passed-on").await.unwrap();
    assert!(there(&api, "passed-on").await);
    assert_eq!(proxy.writes(), 1, "a read is no write");

    for (number, (when, took_effect)) in [(When::Before, false), (When::After, true)].into_iter().enumerate()
    {
        let name = |what: &str| format!("{what}-{number}");
        let dropped = proxy.add(Rule::write(when, Act::Drop));
        assert_eq!(code(&create(&api, &name("dropped")).await.unwrap_err()), 0);
        assert_eq!((dropped.met(), there(&direct, &name("dropped")).await), (1, took_effect));
        for status in [409, 500, 503, 504] {
            let act = Act::Answer { code: status, body: String::new() };
            let _rule = proxy.add(Rule::write(when, act).method("POST").part("configmaps"));
            assert_eq!(code(&create(&api, &name(&status.to_string())).await.unwrap_err()), status);
            assert_eq!(there(&direct, &name(&status.to_string())).await, took_effect);
        }
        let held = proxy.add(Rule::write(when, Act::Hold).skip(1));
        create(&api, &name("first")).await.unwrap();
        let second = name("second");
        let sent = tokio::spawn({
            let api = api.clone();
            let name = second.clone();
            async move { create(&api, &name).await }
        });
        held.reached().await.unwrap();
        assert_eq!(there(&direct, &second).await, took_effect);
        assert!(!sent.is_finished());
        held.release();
        sent.await.unwrap().unwrap();
        // A client that goes away takes what was not sent along.
        let held = proxy.add(Rule::write(when, Act::Hold));
        let gone = name("gone");
        assert!(timeout(QUIET, create(&api, &gone)).await.is_err());
        held.reached().await.unwrap();
        held.left().await.unwrap();
        held.release();
        tokio::time::sleep(QUIET).await;
        assert_eq!(there(&direct, &gone).await, took_effect);
    }
    proxy.freeze();
    assert!(timeout(QUIET, api.get("passed-on")).await.is_err());
    proxy.thaw();
    api.get("passed-on").await.unwrap();
    tokio::task::spawn_blocking(|| plane.stop()).await.unwrap();
}

/// The name in the next event.
async fn next(events: &mut (impl Stream<Item = kube::Result<WatchEvent<ConfigMap>>> + Unpin)) -> String {
    match timeout(SOON, events.next()).await.unwrap() {
        Some(Ok(WatchEvent::Added(object))) => object.name_any(),
        Some(Ok(WatchEvent::Error(status))) => format!("{} {}", status.code, status.reason),
        Some(Ok(other)) => format!("{other:?}"),
        Some(Err(error)) => code(&error).to_string(),
        None => "end".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn withholds_doubles_and_expires_watches() {
    let (plane, proxy, api, direct) = start().await;
    let from = direct.list(&Default::default()).await.unwrap().metadata.resource_version.unwrap();
    let mut events = api.watch(&WatchParams::default(), &from).await.unwrap().boxed();
    create(&direct, "a").await.unwrap();
    assert_eq!(next(&mut events).await, "a");
    proxy.withhold("secrets");
    create(&direct, "b").await.unwrap();
    assert_eq!(next(&mut events).await, "b", "another kind is withheld");
    proxy.withhold("configmaps");
    create(&direct, "c").await.unwrap();
    create(&direct, "d").await.unwrap();
    assert!(timeout(QUIET, events.next()).await.is_err());
    proxy.repeat(2);
    proxy.release();
    for name in ["c", "c", "d", "d"] {
        assert_eq!(next(&mut events).await, name);
    }
    assert_eq!(proxy.expire_watches("configmaps"), 1);
    assert_ne!(next(&mut events).await, "e");
    let mut again = api.watch(&WatchParams::default(), &from).await.unwrap().boxed();
    assert_eq!(next(&mut again).await, "410 Expired");
    proxy.repeat(1);
    let mut events = api.watch(&WatchParams::default(), &from).await.unwrap().boxed();
    assert_eq!(next(&mut events).await, "a");
    tokio::task::spawn_blocking(|| plane.stop()).await.unwrap();
}
