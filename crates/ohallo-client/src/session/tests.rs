use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::{Client, Options, SetupError};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 11\r\n\r\n{\"id\":\"c1\"}";

pub(super) fn options(url: &str) -> Options {
    Options {
        api_url: url.parse().unwrap(),
        create_path: "/api/workspaces/{workspaceId}/channels".into(),
        request_timeout: Duration::from_millis(800),
        create_timeout: Duration::from_millis(800),
        requests_per_second: 0.0,
        burst: 20,
        total_requests_per_second: 0.0,
        ca_pem: None,
        proxy: None,
        allow_insecure: false,
        read_only: false,
    }
}

/// Answers every connection with these bytes and keeps it open for `open`; passes on the requests, and ends when the
/// receiver is dropped.
pub(super) async fn server(
    answer: Vec<u8>,
    open: Duration,
) -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, asks) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok((mut stream, _))) =
            tokio::select! { next = listener.accept() => Some(next), () = asked.closed() => None }
        {
            let (answer, asked) = (answer.clone(), asked.clone());
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap_or(0);
                let _ = asked.send(String::from_utf8_lossy(&request[..length]).into_owned());
                let _ = stream.write_all(&answer).await;
                tokio::time::sleep(open).await;
            });
        }
    });
    (url, asks)
}

fn caller(namespace: &str, priority: Priority) -> Caller {
    let workspace = WorkspaceKey { namespace: Some(namespace.into()), name: "default".into() };
    Caller { namespace: Some(namespace.into()), workspace, priority }
}

pub(super) fn session(options: Options) -> Session {
    let client = Client::new(options, Arc::new(crate::NoObserver)).unwrap_or_else(|error| panic!("{error}"));
    client.session(ApiKey::new("sf_test_v1_secret".into()), caller("a", Priority::Interactive), None)
}

pub(super) fn id() -> Id {
    Id::parse("c1").unwrap()
}

pub(super) async fn get(
    answer: impl Into<Vec<u8>>,
    open: u64,
) -> Result<(), (Class, ErrorKind, Option<u16>)> {
    let (url, _asks) = server(answer.into(), Duration::from_millis(open)).await;
    match session(options(&url)).get_channel(&id()).await {
        Ok(_) => Ok(()),
        Err(CallError::Failed(error)) => Err((error.class, error.kind, error.status)),
        Err(CallError::Deferred(wait)) => panic!("deferred {wait:?}"),
    }
}

#[test]
fn urls_that_would_leak_or_mislead_are_refused() {
    let observer = || Arc::new(crate::NoObserver);
    for (url, fit) in [
        ("https://api.ohallo.eu", true),
        ("https://api.ohallo.eu/prefix/", true),
        ("http://127.0.0.1:8080", true),
        ("http://127.1.2.3", true),
        ("http://[::1]:80", true),
        ("http://localhost:80", true),
        ("http://api.ohallo.eu", false),
        ("http://10.0.0.1", false),
        ("http://localhost.evil.example", false),
        ("https://user@api.ohallo.eu", false),
        ("https://:pw@api.ohallo.eu", false),
        ("https://api.ohallo.eu/?a=b", false),
        ("https://api.ohallo.eu/#a", false),
        ("ftp://api.ohallo.eu", false),
        ("mailto:a@b", false),
    ] {
        assert_eq!(Client::new(options(url), observer()).is_ok(), fit, "{url}");
    }
    assert!(Client::new(Options { allow_insecure: true, ..options("http://10.0.0.1") }, observer()).is_ok());
    let ca_pem = Some(b"no pem".to_vec());
    assert!(matches!(
        Client::new(Options { ca_pem, ..options("https://a") }, observer()),
        Err(SetupError::Ca)
    ));
    for (path, fit) in [
        ("/api/workspaces/{workspaceId}/channels", true),
        ("/x/{workspaceId}", true),
        ("api/{workspaceId}", false),
        ("/api/channels", false),
        ("/api/{workspaceId}/../channels", false),
        ("/api/{workspaceId}/channels?x=y", false),
        ("/api/{workspaceId}/{workspaceId}", false),
        ("/api/ws-{workspaceId}", false),
        ("/api//{workspaceId}", false),
        ("/api/%2e%2e/{workspaceId}", false),
    ] {
        let options = Options { create_path: path.into(), ..options("https://a") };
        assert_eq!(Client::new(options, observer()).is_ok(), fit, "{path}");
    }
}

#[tokio::test]
async fn a_request_has_authorization_and_path() {
    let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 14\r\n\r\n{\"id\":\"a~b.c\"}";
    let (url, mut asks) = server(answer.into(), Duration::ZERO).await;
    let mut session = session(options(&format!("{url}/prefix/")));
    session.get_channel(&Id::parse("a~b.c").unwrap()).await.unwrap();
    let asked = asks.recv().await.unwrap().to_lowercase();
    assert!(asked.starts_with("get /prefix/api/channels/a~b.c http/1.1\r\n"), "{asked}");
    assert!(asked.contains("\r\nauthorization: bearer sf_test_v1_secret\r\n"));
    assert!(asked.contains(concat!("\r\nuser-agent: ohallo-operator/", env!("CARGO_PKG_VERSION"))));
    assert!(!asked.contains("accept-encoding"));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (elsewhere, mut asks) = server(OK.into(), Duration::ZERO).await;
    for (status, class) in [(301, Class::Rejected), (303, Class::Ambiguous), (307, Class::Rejected)] {
        let answer = format!("HTTP/1.1 {status} X\r\nlocation: {elsewhere}/\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(get(answer, 0).await, Err((class, ErrorKind::Unexpected, Some(status))));
    }
    assert!(asks.try_recv().is_err());
}

#[tokio::test]
async fn answers_that_do_not_end_well_have_their_class() {
    let unexpected = Err((Class::Ambiguous, ErrorKind::Unexpected, Some(200)));
    assert_eq!(get(OK, 0).await, Ok(()));
    assert_eq!(get("HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n{", 500).await, unexpected);
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.resize(3 << 20, b' ');
    assert_eq!(get(endless, 500).await, unexpected);
    let gzip = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x08\x08\x08";
    assert_eq!(get(gzip, 0).await, unexpected);
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{\"id\"";
    assert_eq!(get(cut, 0).await, Err((Class::Ambiguous, ErrorKind::Broken, Some(200))));
    assert_eq!(
        get("HTTP/1.1 404 X\r\ncontent-length: 50\r\n\r\n{", 0).await,
        Err((Class::Rejected, ErrorKind::NotFound, Some(404)))
    );
    assert_eq!(get("", 0).await, Err((Class::Ambiguous, ErrorKind::Broken, None)));
    assert_eq!(get("garbage\r\n\r\n", 0).await, Err((Class::Ambiguous, ErrorKind::Broken, None)));
    assert_eq!(get("", 3000).await, Err((Class::Ambiguous, ErrorKind::TimedOut, None)));
}

/// A channel whose config has this number of small objects.
fn wide(objects: usize) -> Vec<u8> {
    let config = serde_json::json!({"a": vec![serde_json::json!({"": 0}); objects]});
    let body = serde_json::json!({"id": "c1", "config": config}).to_string();
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into()
}

#[tokio::test]
async fn an_answer_counts_with_what_it_takes_once_it_is_decoded() {
    assert_eq!(get(wide(3000), 0).await, Ok(()));
    assert_eq!(get(wide(5000), 0).await, Err((Class::Ambiguous, ErrorKind::Unexpected, Some(200))));
}

#[tokio::test]
async fn one_large_response_at_a_time_is_in_memory_and_a_read_is_repeated() {
    let (url, _asks) = server(wide(1000), Duration::ZERO).await;
    let client =
        Client::new(options(&url), Arc::new(crate::NoObserver)).unwrap_or_else(|error| panic!("{error}"));
    let session = || client.session(ApiKey::new("key".into()), caller("a", Priority::Interactive), None);
    let other = client.heavy().slot();
    assert!(other.try_take());
    assert!(matches!(session().get_channel(&id()).await, Err(CallError::Deferred(_))));
    // The result of a write must not be lost: it waits.
    let changes = Changes::default();
    let waiting = async { session().update(&id(), &changes).await };
    let freeing = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(other);
    };
    assert!(tokio::join!(waiting, freeing).0.is_ok());
    let holding = session().with_slot(client.heavy().slot());
    assert!(session().get_channel(&id()).await.is_ok());
    drop(holding);
    // A small response does not take the permit.
    let other = client.heavy().slot();
    assert!(other.try_take());
    let (url, _asks) = server(OK.into(), Duration::ZERO).await;
    let small =
        Client::new(options(&url), Arc::new(crate::NoObserver)).unwrap_or_else(|error| panic!("{error}"));
    let session = small.session(ApiKey::new("key".into()), caller("a", Priority::Interactive), None);
    assert!(session.with_slot(other).get_channel(&id()).await.is_ok());
}

#[tokio::test]
async fn what_never_left_is_not_sent() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = session(options(&format!("http://{closed}"))).get_channel(&id()).await;
    let tls = session(options(&server(OK.into(), Duration::ZERO).await.0.replace("http", "https")))
        .get_channel(&id())
        .await;
    let name = session(options("https://no-such-host.invalid")).get_channel(&id()).await;
    for (result, kind) in
        [(refused, ErrorKind::NotConnected), (tls, ErrorKind::Untrusted), (name, ErrorKind::NotConnected)]
    {
        let Err(CallError::Failed(error)) = result else { panic!("{result:?}") };
        assert_eq!((error.class, error.kind), (Class::NotSent, kind), "{error:?}");
        assert!(!error.text.contains("channels"), "no URL: {error}");
    }
    let mut session = session(options("https://a.invalid"));
    session.key = ApiKey::new("sf_live_v1\nx".into());
    let Err(CallError::Failed(error)) = session.get_channel(&id()).await else { panic!() };
    assert_eq!((error.class, error.kind), (Class::NotSent, ErrorKind::Unauthorized));
    assert!(!error.text.contains("sf_live"));
}

#[tokio::test]
async fn a_429_pauses_the_key_and_not_others() {
    let answer = "HTTP/1.1 429 X\r\nconnection: close\r\nretry-after: 600\r\ncontent-length: 0\r\n\r\n";
    let (url, mut asks) = server(answer.into(), Duration::ZERO).await;
    let client =
        Client::new(options(&url), Arc::new(crate::NoObserver)).unwrap_or_else(|error| panic!("{error}"));
    let session =
        |key: &str| client.session(ApiKey::new(key.into()), caller("a", Priority::Background), None);
    let Err(CallError::Failed(error)) = session("one").get_channel(&id()).await else { panic!() };
    assert_eq!((error.kind, error.retry_after), (ErrorKind::RateLimited, Some(Duration::from_secs(600))));
    let Err(CallError::Deferred(wait)) = session("one").get_channel(&id()).await else { panic!() };
    assert!(wait > Duration::from_secs(590));
    assert!(matches!(session("two").get_channel(&id()).await, Err(CallError::Failed(_))));
    assert!(asks.recv().await.is_some() && asks.recv().await.is_some() && asks.try_recv().is_err());
}

#[tokio::test]
async fn a_reconcile_deferred_at_its_third_call_gets_past_it_with_the_needed_tokens() {
    let (url, _asks) = server(OK.into(), Duration::ZERO).await;
    let options = Options { requests_per_second: 1.0, burst: 2, ..options(&url) };
    let client = Client::new(options, Arc::new(crate::NoObserver)).unwrap_or_else(|error| panic!("{error}"));
    let key = ApiKey::new("one".into());
    let session = |permit| client.session(key.clone(), caller("a", Priority::Interactive), permit);
    let caller_of_queue = caller("a", Priority::Interactive);
    let mut first = session(None);
    for _ in 0..2 {
        first.get_channel(&id()).await.unwrap();
    }
    assert_eq!(first.needed(), 0);
    let Err(CallError::Deferred(wait)) = first.get_channel(&id()).await else { panic!() };
    assert_eq!(first.needed(), 3);
    assert!(wait > Duration::from_millis(200), "{wait:?}");
    drop(first);
    // More than the burst: a full bucket is enough.
    let refused = client.permit(key.id(), &caller_of_queue, 3, clock::instant());
    let Err(NotYet::Key(refusal)) = refused else { panic!() };
    tokio::time::sleep(refusal.wait).await;
    let permit = client.permit(key.id(), &caller_of_queue, 3, clock::instant()).ok();
    let mut again = session(permit);
    for _ in 0..3 {
        again.get_channel(&id()).await.unwrap();
    }
}

#[tokio::test]
async fn unused_tokens_of_a_permit_are_refunded_and_another_key_does_not_use_them() {
    let options = Options { requests_per_second: 0.01, burst: 1, ..options("https://a.invalid") };
    let client = Client::new(options, Arc::new(crate::NoObserver)).unwrap_or_else(|error| panic!("{error}"));
    let (key, of_queue) = (ApiKey::new("one".into()), caller("a", Priority::Interactive));
    let permit = || client.permit(key.id(), &of_queue, 1, clock::instant());
    let taken = permit().ok();
    assert!(taken.is_some() && matches!(permit(), Err(NotYet::Key(_))));
    drop(client.session(key.clone(), caller("a", Priority::Interactive), taken));
    let taken = permit().ok();
    assert!(taken.is_some());
    let mut rotated = client.session(ApiKey::new("two".into()), caller("a", Priority::Interactive), taken);
    assert!(rotated.permit_create().is_ok(), "the tokens went back to the Workspace");
    assert!(matches!(rotated.permit_create(), Err(CallError::Deferred(_))));
}

#[tokio::test]
async fn creates_run_one_by_one_after_one_with_an_unknown_outcome() {
    let body =
        NewChannel { channel_type: "email".into(), display_name: "A".into(), config: None, enabled: None };
    let (url, mut asks) =
        server(b"HTTP/1.1 502 X\r\ncontent-length: 2\r\n\r\n{}".into(), Duration::ZERO).await;
    let client =
        Client::new(options(&url), Arc::new(crate::NoObserver)).unwrap_or_else(|error| panic!("{error}"));
    let mut session = client.session(ApiKey::new("one".into()), caller("a", Priority::Interactive), None);
    let workspace = Id::parse("w1").unwrap();
    let one = session.permit_create().unwrap();
    drop(session.permit_create().unwrap());
    let error = one.create(&workspace, &body, "uid/1").await.unwrap_err();
    assert_eq!((error.class, error.status), (Class::Ambiguous, Some(502)));
    let asked = asks.recv().await.unwrap().to_lowercase();
    assert!(asked.starts_with("post /api/workspaces/w1/channels http/1.1\r\n"), "{asked}");
    assert!(asked.contains("\r\nidempotency-key: uid/1\r\n"), "{asked}");

    session.rates.key.answered_well(clock::instant());
    assert!(session.fresh(clock::instant()) && session.must_preflight(clock::instant()));
    let alone = session.permit_create().unwrap();
    assert!(matches!(session.permit_create(), Err(CallError::Deferred(_))), "another is under way");
    drop(alone);
    let cancelled = session.permit_create().unwrap();
    session.rates.key.clear_ambiguity();
    let sent = cancelled.create(&workspace, &body, "uid/2");
    assert!(futures::FutureExt::now_or_never(sent).is_none());
    assert!(session.rates.key.ambiguous_since().is_some(), "a dropped create is unknown");
}

#[tokio::test]
async fn a_key_is_fresh_for_30_seconds_after_a_good_answer_and_a_read_is_the_preflight() {
    for (answer, good) in [
        ("HTTP/1.1 200 X\r\ncontent-length: 11\r\n\r\n{\"id\":\"w1\"}", true),
        ("HTTP/1.1 403 X\r\ncontent-length: 13\r\n\r\n{\"error\":\"x\"}", true),
        ("HTTP/1.1 403 X\r\ncontent-length: 6\r\n\r\n<html>", false),
        ("HTTP/1.1 429 X\r\ncontent-length: 13\r\n\r\n{\"error\":\"x\"}", false),
        ("HTTP/1.1 500 X\r\ncontent-length: 13\r\n\r\n{\"error\":\"x\"}", false),
        ("HTTP/1.1 302 X\r\ncontent-length: 2\r\n\r\n{}", false),
    ] {
        let (url, _asks) = server(answer.into(), Duration::ZERO).await;
        let mut session = session(options(&url));
        assert!(session.must_preflight(clock::instant()));
        let _ = session.get_workspace(&Id::parse("w1").unwrap()).await;
        let now = clock::instant();
        assert_eq!((session.fresh(now), session.must_preflight(now)), (good, !good), "{answer}");
        assert!(!session.fresh(now + Duration::from_secs(31)));
    }
}

#[tokio::test]
async fn a_client_that_only_reads_sends_nothing_but_get() {
    let (url, mut asks) = server(OK.into(), Duration::ZERO).await;
    let mut session = session(Options { read_only: true, ..options(&url) });
    let id = Id::parse("c1").unwrap();
    let credentials = Credentials::from_map([("a".to_owned(), "b".into())].into());
    let body =
        NewChannel { channel_type: "chat".into(), display_name: "A".into(), config: None, enabled: None };
    let refused = |result: Result<(), CallError>| match result {
        Err(CallError::Failed(error)) => {
            assert_eq!((error.class, error.kind, error.status), (Class::NotSent, ErrorKind::Refused, None));
        }
        other => panic!("{other:?}"),
    };
    refused(session.update(&id, &Changes::default()).await.map(drop));
    refused(session.store_credentials(&id, &credentials).await);
    refused(session.delete(&id).await);
    refused(session.test(&id).await.map(drop));
    refused(session.retry_provisioning(&id).await);
    let permit = session.permit_create().unwrap();
    refused(permit.create(&id, &body, "uid/1").await.map(drop).map_err(CallError::Failed));
    assert!(session.rates.key.ambiguous_since().is_none(), "no create is unresolved");
    session.get_channel(&id).await.unwrap();
    session.get_workspace(&id).await.unwrap();
    let _ = session.list_channels(&id).await;
    for _ in 0..3 {
        let asked = asks.recv().await.unwrap();
        assert!(asked.starts_with("GET /api/"), "{asked}");
    }
    assert!(asks.try_recv().is_err(), "nothing else was sent");
}
