//! An HTTP proxy that takes CONNECT alone.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

pub struct ConnectProxy {
    pub address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

// === impl ConnectProxy ===

impl ConnectProxy {
    /// Connects to whatever it is asked for.
    pub async fn start() -> Self {
        Self::leading_to(None).await
    }

    /// Connects to this address, whatever it is asked for.
    pub async fn to(server: String) -> Self {
        Self::leading_to(Some(server)).await
    }

    async fn leading_to(server: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, server) = (Arc::clone(&log), server.clone());
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if stream.read_line(&mut head).await.ok()? == 0 {
                            return None;
                        }
                    }
                    log.lock().unwrap().push(head.clone());
                    let named = head.strip_prefix("CONNECT ")?.split(' ').next()?;
                    let mut outer = TcpStream::connect(server.as_deref().unwrap_or(named)).await.ok()?;
                    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
                    tokio::io::copy_bidirectional(&mut stream, &mut outer).await.ok()
                });
            }
        });
        Self { address, asked }
    }

    /// The heads of all requests.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Those since the last time.
    pub fn newly_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}
