//! Connections of the HTTP server, limited in number, time and size. No client can exhaust memory, displace a
//! probe or delay the exit.

use std::collections::VecDeque;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// The most concurrent connections. Another one closes the oldest: a probe gets its response at once, and an
/// idle client loses its connection.
const MAX_CONNECTIONS: usize = 256;

/// How long a client may take to send the headers of its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest duration of a connection, response included. It serves one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(20);

/// The most bytes of a request's headers.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// How long responses in flight may take after the shutdown begins.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// The wait after the listener failed to accept, as it does without free file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

pub struct Connections {
    routes: Router,
    http: http1::Builder,
    /// The timeout of a whole connection.
    timeout: Duration,
    tasks: JoinSet<()>,
    /// The oldest first; some have already ended.
    open: VecDeque<AbortHandle>,
}

// === impl Connections ===

impl Connections {
    pub fn new(routes: Router) -> Self {
        Self::with_timeouts(routes, HEADER_TIMEOUT, CONNECTION_TIMEOUT)
    }

    fn with_timeouts(routes: Router, headers: Duration, connection: Duration) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(headers)
            .max_buf_size(MAX_HEADER_BYTES)
            .keep_alive(false);
        Self { routes, http, timeout: connection, tasks: JoinSet::new(), open: VecDeque::new() }
    }

    /// Accepts connections until `shutdown` resolves.
    pub async fn serve(mut self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        self.admit(stream);
                        // Data that has arrived on it is read before another connection may close it.
                        tokio::task::yield_now().await;
                    }
                    Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
                },
                Some(_) = self.tasks.join_next() => {}
            }
        }
        drop(listener);
        // Dropping the set aborts the connections that are still open.
        let answered = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, answered).await.is_err() {
            tracing::debug!("closing HTTP connections that did not end");
        }
    }

    fn admit(&mut self, stream: TcpStream) {
        if self.open.len() >= MAX_CONNECTIONS {
            self.open.retain(|connection| !connection.is_finished());
        }
        if self.open.len() >= MAX_CONNECTIONS
            && let Some(oldest) = self.open.pop_front()
        {
            oldest.abort();
        }
        let service = TowerToHyperService::new(self.routes.clone());
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        let connection = tokio::time::timeout(self.timeout, connection);
        // The operator ignores a client that breaks off, sends no HTTP or takes too long.
        let task = self.tasks.spawn(async move { drop(connection.await) });
        self.open.push_back(task);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::LazyLock;

    use axum::body::Bytes;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;
    use ohallo_client::clock;

    /// How soon a probe must get its response: the default timeout of the kubelet is one second.
    const PROBE: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_secs(30);

    /// More than the buffers of a connection hold.
    async fn large() -> Bytes {
        static LARGE: LazyLock<Bytes> = LazyLock::new(|| vec![b'x'; 64 << 20].into());
        LARGE.clone()
    }

    async fn started() -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let routes = Router::new().route("/livez", get(async || "ok\n")).route("/large", get(large));
        let server = Connections::new(routes).serve(listener, async { _ = stopped.await });
        (addr, stop, tokio::spawn(server))
    }

    async fn send(addr: SocketAddr, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let _ = stream.write_all(bytes).await;
        stream
    }

    async fn probe(addr: SocketAddr) -> String {
        let probe = async {
            let mut stream = send(addr, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            answer
        };
        tokio::time::timeout(PROBE, probe).await.expect("the probe got no response in time")
    }

    #[tokio::test]
    async fn f62_a_probe_gets_its_response_despite_any_number_of_idle_clients() {
        let (addr, stop, server) = started().await;
        let mut clients = Vec::new();
        for number in 0..2 * MAX_CONNECTIONS {
            clients.push(match number % 4 {
                0 => send(addr, b"").await,
                1 => send(addr, b"GET /livez HTTP/1.1\r\nX: ").await,
                2 => send(addr, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await,
                _ => send(addr, b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\nx").await,
            });
            if number % MAX_CONNECTIONS == 7 {
                assert!(probe(addr).await.ends_with("ok\n"));
            }
        }
        assert!(probe(addr).await.ends_with("ok\n"));
        stop.send(()).unwrap();
        let began = clock::instant();
        tokio::time::timeout(2 * SHUTDOWN_TIMEOUT, server)
            .await
            .expect("clients keep it from ending")
            .unwrap();
        assert!(began.elapsed() < 2 * SHUTDOWN_TIMEOUT);
    }

    #[tokio::test]
    async fn f62_endless_headers_and_incomplete_requests_are_closed() {
        let (addr, _stop, _server) = started().await;
        let mut endless = TcpStream::connect(addr).await.unwrap();
        let _ = endless.write_all(b"GET /livez HTTP/1.1\r\n").await;
        let line = format!("X-Header: {}\r\n", "x".repeat(1000));
        let mut sent = 0;
        while endless.write_all(line.as_bytes()).await.is_ok() {
            sent += line.len();
            assert!(sent < 64 << 20, "headers are read without end");
            tokio::task::yield_now().await;
        }
        let mut second =
            send(addr, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut answer = String::new();
        let _ = second.read_to_string(&mut answer).await;
        assert_eq!(answer.matches("200 OK").count(), 1, "a connection serves one request: {answer}");
    }

    #[tokio::test]
    async fn f62_a_client_that_is_slow_to_send_or_to_read_is_closed() {
        let (headers, connection) = (Duration::from_millis(200), Duration::from_millis(600));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let routes = Router::new().route("/large", get(large));
        let server = Connections::with_timeouts(routes, headers, connection);
        tokio::spawn(server.serve(listener, std::future::pending()));
        for request in ["", "GET /large HTTP/1.1\r\nX: "] {
            let mut slow = send(addr, request.as_bytes()).await;
            let closed = tokio::time::timeout(PATIENCE, slow.read_to_end(&mut Vec::new())).await;
            assert!(closed.is_ok(), "{request:?} is waited for");
        }
        // It reads a byte now and then, and never reads all of them.
        let mut slow = send(addr, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let closed = async { while slow.read_u8().await.is_ok() && slow.write_u8(b' ').await.is_ok() {} };
        assert!(tokio::time::timeout(PATIENCE, closed).await.is_ok(), "it is served for ever");
    }
}
