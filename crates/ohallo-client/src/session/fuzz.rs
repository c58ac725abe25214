//! Any server response and any id, through the real client and a real connection.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::Options;
use crate::session::tests::{get, id, options, session};
use ohallo_core::fuzz::{body, config, text};

/// More than the client reads plus the kernel's buffers of both ends of a connection.
const TAKEN_MAX: usize = 24 << 20;

/// Ids that some library, server or proxy parses as several path segments, or as none.
const IDS: [&str; 22] = [
    ".",
    "..",
    "../workspaces",
    "../../admin",
    "a/../../b",
    "a/b",
    "/",
    "//evil.example/x",
    "http://evil.example/x",
    "https://user:pw@evil.example",
    "@evil.example",
    ":80@evil.example",
    "a?enabled=false",
    "?",
    "a#b",
    "#",
    "%2e%2e",
    "%2e%2e%2fadmin",
    "a\\..\\b",
    "a;b=c",
    "a\r\nHost: evil.example",
    "a\u{0}b",
];

/// Sends `head`, then `piece` again and again; counts the accepted bytes.
async fn endless(head: &'static str, piece: Vec<u8>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(head.as_bytes()).await;
        let mut at = 0;
        while let Ok(length) = stream.write(&piece[at..]).await {
            count.fetch_add(length, Ordering::Relaxed);
            at = (at + length) % piece.len();
        }
    });
    (url, taken)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_answer_without_end_no_more_is_read_than_the_bound() {
    let filling = || vec![b' '; 64 << 10];
    let chunk = [b"10000\r\n".to_vec(), filling(), b"\r\n".to_vec()].concat();
    let header = [b"x: ".to_vec(), vec![b'a'; 1000], b"\r\n".to_vec()].concat();
    for (head, piece, class, kind) in [
        ("HTTP/1.1 200 OK\r\n\r\n", filling(), Class::Ambiguous, ErrorKind::Unexpected),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            chunk.clone(),
            Class::Ambiguous,
            ErrorKind::Unexpected,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffff\r\n",
            filling(),
            Class::Ambiguous,
            ErrorKind::Unexpected,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1099511627776\r\n\r\n",
            filling(),
            Class::Ambiguous,
            ErrorKind::Unexpected,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n",
            filling(),
            Class::Ambiguous,
            ErrorKind::Unexpected,
        ),
        ("HTTP/1.1 404 No\r\n\r\n", filling(), Class::Rejected, ErrorKind::NotFound),
        (
            "HTTP/1.1 429 No\r\nretry-after: 7\r\ntransfer-encoding: chunked\r\n\r\n",
            chunk,
            Class::Rejected,
            ErrorKind::RateLimited,
        ),
        ("HTTP/1.1 503 No\r\n\r\n", filling(), Class::Ambiguous, ErrorKind::Unavailable),
        ("HTTP/1.1 200 OK\r\n", header, Class::Ambiguous, ErrorKind::Broken),
        ("HTTP/1.1 200 ", filling(), Class::Ambiguous, ErrorKind::Broken),
        ("", filling(), Class::Ambiguous, ErrorKind::Broken),
    ] {
        let (url, taken) = endless(head, piece).await;
        // The size limit ends the read, not the timeout.
        let patient = Options { request_timeout: Duration::from_secs(60), ..options(&url) };
        let Err(CallError::Failed(error)) = session(patient).get_channel(&id()).await else {
            panic!("{head}")
        };
        assert_eq!((error.class, error.kind), (class, kind), "{head:?}: {error:?}");
        let taken = taken.load(Ordering::Relaxed);
        assert!(taken < TAKEN_MAX, "{head:?}: {taken} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_never_begins_ends_with_the_time_of_the_call() {
    let early = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(100);
    let (url, _) = endless("", early).await;
    let Err(CallError::Failed(error)) = session(options(&url)).get_channel(&id()).await else { panic!() };
    assert_eq!((error.class, error.kind), (Class::Ambiguous, ErrorKind::TimedOut), "{error:?}");
}

#[tokio::test]
async fn a_response_about_another_channel_is_unexpected() {
    let answer =
        |id: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{{\"id\":{id:?}}}", id.len() + 9);
    assert_eq!(get(answer("c1"), 0).await, Ok(()));
    for other in ["c2", "C1", "c1 ", "..", ""] {
        let Err((class, kind, _)) = get(answer(other), 0).await else { panic!("{other}") };
        assert_eq!((class, kind), (Class::Ambiguous, ErrorKind::Unexpected), "{other}");
    }
    let (url, _asks) = crate::session::tests::server(answer("c2").into(), Duration::ZERO).await;
    let changes = Changes { enabled: Some(true), ..Changes::default() };
    let Err(CallError::Failed(error)) = session(options(&url)).update(&id(), &changes).await else {
        panic!()
    };
    assert_eq!((error.class, error.kind), (Class::Ambiguous, ErrorKind::Unexpected));
}

/// A response on the wire: whole or broken, with misleading headers.
fn wire() -> impl Strategy<Value = (u16, Vec<u8>)> {
    const STATUSES: [u16; 22] = [
        100, 101, 199, 200, 201, 204, 226, 299, 301, 303, 304, 307, 400, 401, 404, 408, 429, 500, 501, 503,
        599, 999,
    ];
    const NAMES: [&str; 11] = [
        "content-length",
        "transfer-encoding",
        "content-encoding",
        "content-type",
        "retry-after",
        "location",
        "connection",
        "upgrade",
        "set-cookie",
        "trailer",
        "x",
    ];
    const VALUES: [&str; 10] = [
        "0",
        "1",
        "-1",
        "11",
        "99999999999999999999",
        "chunked",
        "gzip",
        "close",
        "http://evil.example/",
        "7, 8",
    ];
    let header = (select(&NAMES[..]), prop_oneof![select(&VALUES[..]).prop_map(str::to_owned), text()]);
    let header = header.prop_map(|(name, value)| format!("{name}: {value}\r\n"));
    let version = select(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2", "ICY"][..]);
    let status = prop_oneof![Just(200), select(&STATUSES[..])];
    let plain = select(&["{\"id\":\"c1\"}", "{\"id\":\"c2\"}"][..]).prop_map(|body| body.as_bytes().to_vec());
    let body = prop_oneof![body(), plain];
    (status, version, prop::collection::vec(header, 0..4), body, any::<bool>()).prop_map(
        |(status, version, headers, body, length)| {
            let length = if length { format!("content-length: {}\r\n", body.len()) } else { String::new() };
            let head = format!("{version} {status} X\r\n{length}{}\r\n", headers.concat());
            (status, [head.into_bytes(), body].concat())
        },
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_sent_back_has_a_class_and_never_more_than_its_status_allows() {
    let config = config(200);
    let (cases, mut runner) = (config.cases, TestRunner::new(config));
    let mut done = 0;
    for _ in 0..cases {
        let (status, answer) = wire().new_tree(&mut runner).unwrap().current();
        let shown = String::from_utf8_lossy(&answer).into_owned();
        let (url, _asks) = crate::session::tests::server(answer, Duration::ZERO).await;
        match session(options(&url)).get_channel(&id()).await {
            Ok(found) => {
                assert!((200..300).contains(&status) && found.id == id(), "{shown}");
                done += 1;
            }
            Err(CallError::Deferred(wait)) => panic!("{wait:?}: {shown}"),
            Err(CallError::Failed(error)) => {
                assert!(error.class != Class::NotSent, "it was sent: {shown}");
                assert!(error.status.is_none_or(|found| found == status), "{error:?}: {shown}");
                let wait = error.retry_after.unwrap_or(Duration::from_secs(1));
                assert!((Duration::from_secs(1)..=Duration::from_secs(900)).contains(&wait), "{shown}");
                assert!(error.text.len() <= 2048 && !error.text.contains("sf_test"), "{shown}");
            }
        }
    }
    assert!(done > 0, "none of {cases} was whole");
}

#[test]
fn no_segment_escapes_its_position_and_no_such_id_is_valid() {
    let options =
        Options { create_path: "/x/{workspaceId}/y".into(), ..options("https://api.example/prefix") };
    let http = crate::http::Http::new(&options).unwrap_or_else(|error| panic!("{error}"));
    for hostile in IDS {
        assert_eq!(Id::parse(hostile), None, "{hostile:?}");
        let url = http.url(["api", "channels", hostile, "test"]);
        assert_eq!(url.origin(), options.api_url.origin(), "{hostile:?}");
        assert!(url.query().is_none() && url.fragment().is_none() && url.username().is_empty(), "{url}");
        let segments: Vec<_> = url.path_segments().unwrap().collect();
        // The library removes these two segments, so neither is a valid id.
        let left_out = matches!(hostile, "." | "..");
        assert_eq!(segments.len(), if left_out { 4 } else { 5 }, "{url}");
        assert_eq!(
            (segments[..3].join("/"), segments.last()),
            ("prefix/api/channels".into(), Some(&"test")),
            "{url}"
        );
    }
    for fit in ["a", "a..", "~", "-.-", &"x".repeat(128)] {
        let id = Id::parse(fit).unwrap();
        assert_eq!(http.url(["api", "channels", id.as_str()]).path(), format!("/prefix/api/channels/{fit}"));
        assert_eq!(http.channels_url(&id).path(), format!("/prefix/x/{fit}/y"));
    }
}
