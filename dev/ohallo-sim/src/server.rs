//! Connections that can be cut at any moment, and a port that can stop listening.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// What the port does to new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Listening {
    Accept,
    /// Nobody accepts: a client connects (the kernel answers for a while) and hears nothing.
    Ignore,
    /// The port is closed and every open connection is reset.
    Refuse,
}

/// Lets a route cut the connection it answers on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cut(Arc<AtomicBool>);

/// The port.
#[derive(Debug)]
pub(crate) struct Port {
    socket: Option<TcpListener>,
    address: SocketAddr,
    mode: watch::Receiver<Listening>,
    /// Cancelled: every connection accepted since the last time is reset.
    open: CancellationToken,
    stop: CancellationToken,
}

/// A connection. Once it is cut or its server has stopped it is reset at the next check.
pub(crate) struct Wire {
    stream: Option<TcpStream>,
    cut: Cut,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
}

// === impl Cut ===

impl Cut {
    /// The answer that is returned after this is not sent: the connection is reset instead.
    pub fn now(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Connected<IncomingStream<'_, Port>> for Cut {
    fn connect_info(stream: IncomingStream<'_, Port>) -> Self {
        stream.remote_addr().clone()
    }
}

// === impl Port ===

impl Port {
    pub async fn bind(
        address: SocketAddr,
        mode: watch::Receiver<Listening>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Port { socket: Some(socket), address, mode, open: stop.child_token(), stop })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the mode changes; for ever when it can't any more.
    async fn changed(&mut self) {
        if self.mode.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl Listener for Port {
    type Io = Wire;
    type Addr = Cut;

    async fn accept(&mut self) -> (Wire, Cut) {
        loop {
            let mode = *self.mode.borrow_and_update();
            if mode == Listening::Refuse {
                self.socket = None;
                self.open.cancel();
                self.open = self.stop.child_token();
            }
            if mode != Listening::Accept {
                self.changed().await;
                continue;
            }
            let Some(socket) = &self.socket else {
                self.socket = TcpListener::bind(self.address).await.ok();
                if self.socket.is_none() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                continue;
            };
            tokio::select! {
                biased;
                changed = self.mode.changed() => if changed.is_err() { std::future::pending().await },
                accepted = socket.accept() => match accepted {
                    Ok((stream, _)) => {
                        // Without it small answers wait for the client's delayed acknowledgement.
                        let _ = stream.set_nodelay(true);
                        let cut = Cut::default();
                        let stopped = Box::pin(self.open.clone().cancelled_owned());
                        return (Wire { stream: Some(stream), cut: cut.clone(), stopped }, cut);
                    }
                    // Too many open files, or the client has disconnected already.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<Cut> {
        Ok(Cut::default())
    }
}

// === impl Wire ===

impl Wire {
    fn stream(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        if self.stream.is_some() && (self.cut.is_set() || self.stopped.as_mut().poll(cx).is_ready()) {
            self.reset();
        }
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::ConnectionReset.into())
    }

    fn reset(&mut self) {
        if let Some(stream) = self.stream.take() {
            // Closing with a linger of zero sends a reset instead of an orderly end.
            let _ = stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.stream(cx) {
            Ok(stream) => stream.poll_read(cx, buf),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.stream(cx) {
            Ok(stream) => stream.poll_write(cx, buf),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream(cx) {
            Ok(stream) => stream.poll_flush(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream(cx) {
            Ok(stream) => stream.poll_shutdown(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}
