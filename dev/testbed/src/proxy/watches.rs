//! The streams of watches: event by event, withheld, doubled or ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::channel::mpsc;
use futures::stream::BoxStream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::serve::Body;

type Events = mpsc::UnboundedSender<Result<Frame<Bytes>>>;

#[derive(Debug, Default)]
pub(super) struct Watches {
    mode: watch::Sender<Mode>,
    open: Arc<Mutex<Open>>,
}

#[derive(Clone, Debug, Default)]
struct Mode {
    /// Parts of the paths that are withheld.
    withheld: Vec<String>,
    repeat: usize,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// The path of each stream, and what ends it.
    streams: HashMap<u64, (String, CancellationToken)>,
    /// Paths whose next watch is answered 410.
    expired: Vec<String>,
}

// === impl Watches ===

impl Watches {
    pub fn withhold(&self, path: &str) {
        self.mode.send_modify(|mode| mode.withheld.push(path.to_owned()));
    }

    pub fn release(&self) {
        self.mode.send_modify(|mode| mode.withheld.clear());
    }

    pub fn repeat(&self, times: usize) {
        self.mode.send_modify(|mode| mode.repeat = times);
    }

    pub fn expire(&self, part: &str) -> usize {
        let mut open = lock(&self.open);
        let fits = open.streams.values().filter(|(path, _)| path.contains(part));
        let ended: Vec<_> = fits.cloned().collect();
        for (path, end) in &ended {
            end.cancel();
            open.expired.push(path.clone());
        }
        ended.len()
    }

    /// Whether this watch is to be answered 410: once.
    pub fn refused(&self, target: &str) -> bool {
        let mut open = lock(&self.open);
        let at = open.expired.iter().position(|path| path == path_of(target));
        at.map(|at| open.expired.swap_remove(at)).is_some()
    }

    /// The stream as the client gets it.
    pub fn pass(&self, target: &str, chunks: BoxStream<'static, Result<Bytes>>) -> Body {
        let path = path_of(target).to_owned();
        let end = CancellationToken::new();
        let (to, events) = mpsc::unbounded();
        let number = {
            let mut open = lock(&self.open);
            open.next += 1;
            let number = open.next;
            open.streams.insert(number, (path.clone(), end.clone()));
            number
        };
        let (mode, open) = (self.mode.subscribe(), Arc::clone(&self.open));
        tokio::spawn(async move {
            end.run_until_cancelled(copy(&path, chunks, &to, mode)).await;
            lock(&open).streams.remove(&number);
        });
        StreamBody::new(events).boxed_unsync()
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

async fn copy(
    path: &str,
    mut chunks: BoxStream<'static, Result<Bytes>>,
    to: &Events,
    mut mode: watch::Receiver<Mode>,
) {
    let mut rest = BytesMut::new();
    while let Some(Ok(chunk)) = chunks.next().await {
        rest.extend_from_slice(&chunk);
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            let line = rest.split_to(at + 1).freeze();
            let free = |mode: &Mode| !mode.withheld.iter().any(|part| path.contains(part));
            let Ok(times) = mode.wait_for(free).await.map(|mode| mode.repeat.max(1)) else { return };
            for _ in 0..times {
                if to.unbounded_send(Ok(Frame::data(line.clone()))).is_err() {
                    return;
                }
            }
        }
    }
}
