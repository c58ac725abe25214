//! A proxy before the API server, so that a test can break what happens between it and a client: hold, drop or
//! answer a request before or after it took effect, and withhold, double or break watches. Plain HTTP on loopback;
//! whoever connects acts as the user that it was started for.

mod rules;
mod serve;
mod watches;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use kube::Client;
use rules::Rules;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use watches::Watches;

use crate::control_plane::ControlPlane;
use crate::user::User;

pub use rules::{Act, Rule, When};

/// The longest time that [`Held::reached`] waits.
const REACHED_WITHIN: Duration = Duration::from_secs(120);

/// A running proxy. Dropping it closes every connection.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    kubeconfig: PathBuf,
}

/// A rule that was put in: what it has met so far.
#[derive(Clone, Debug)]
pub struct Held {
    met: watch::Receiver<u32>,
    left: watch::Receiver<u32>,
    open: CancellationToken,
}

struct Shared {
    client: Client,
    stop: CancellationToken,
    /// While `true` no request proceeds.
    frozen: watch::Sender<bool>,
    writes: AtomicUsize,
    rules: Mutex<Rules>,
    watches: Watches,
}

// === impl Proxy ===

impl Proxy {
    /// Starts one; it is ready when this returns. Its file lies in the control plane's folder.
    ///
    /// # Errors
    /// No port, or the folder can't be written.
    pub async fn start(plane: &ControlPlane, user: User) -> Result<Self> {
        let mut config = plane.client_config(user);
        config.default_retry = false;
        let client = crate::ready::client(config)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no port for the proxy")?;
        let address = listener.local_addr()?;
        let kubeconfig = plane.write_proxy_kubeconfig(user, address.port())?;
        let shared = Arc::new(Shared {
            client,
            stop: CancellationToken::new(),
            frozen: watch::Sender::new(false),
            writes: AtomicUsize::new(0),
            rules: Mutex::default(),
            watches: Watches::default(),
        });
        let stop = shared.stop.clone();
        let accepting = serve::accept(listener, Arc::clone(&shared));
        tokio::spawn(async move { stop.run_until_cancelled(accepting).await });
        Ok(Self { shared, address, kubeconfig })
    }

    /// For `--kubeconfig`.
    #[must_use]
    pub fn kubeconfig(&self) -> &std::path::Path {
        &self.kubeconfig
    }

    /// `http://127.0.0.1:<port>`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests that change something have arrived, events apart.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.shared.writes.load(Ordering::SeqCst)
    }

    /// Puts a rule in. Of several that fit a request the oldest acts, alone.
    #[must_use]
    pub fn add(&self, rule: Rule) -> Held {
        self.shared.rules().add(rule)
    }

    /// Forgets every rule; what is held proceeds.
    pub fn clear(&self) {
        self.shared.rules().clear();
    }

    /// From now on connections stay open and no request proceeds, watches included.
    pub fn freeze(&self) {
        self.shared.frozen.send_replace(true);
        self.shared.watches.withhold("");
    }

    /// Ends a freeze.
    pub fn thaw(&self) {
        self.shared.watches.release();
        self.shared.frozen.send_replace(false);
    }

    /// Keeps the events of watches whose path holds this (empty: all) until [`Self::release`].
    pub fn withhold(&self, path: &str) {
        self.shared.watches.withhold(path);
    }

    /// Sends what was withheld, in order, and stops withholding.
    pub fn release(&self) {
        self.shared.watches.release();
    }

    /// From now on each event is sent so many times.
    pub fn repeat(&self, times: usize) {
        self.shared.watches.repeat(times);
    }

    /// Ends every watch whose path holds this, and forgets what is withheld of it; the next one of each is answered
    /// 410. Returns how many there were.
    #[must_use]
    pub fn expire_watches(&self, path: &str) -> usize {
        self.shared.watches.expire(path)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        drop(std::fs::remove_file(&self.kubeconfig));
    }
}

// === impl Held ===

impl Held {
    /// How many requests the rule has met.
    #[must_use]
    pub fn met(&self) -> u32 {
        *self.met.borrow()
    }

    /// Waits until it has met one. With [`When::After`] that one has taken effect by then.
    ///
    /// # Errors
    /// None came in time.
    pub async fn reached(&self) -> Result<()> {
        let mut met = self.met.clone();
        let waited = tokio::time::timeout(REACHED_WITHIN, met.wait_for(|met| *met > 0)).await;
        waited.context("no request met the rule in time")?.map(drop).or(Ok(()))
    }

    /// Waits until no matched request is held.
    ///
    /// # Errors
    /// One still is.
    pub async fn left(&self) -> Result<()> {
        let (met, mut left) = (self.met(), self.left.clone());
        let waited = tokio::time::timeout(REACHED_WITHIN, left.wait_for(|left| *left >= met)).await;
        waited.context("a request is still held")?.map(drop).or(Ok(()))
    }

    /// Releases what it holds, and stops matching.
    pub fn release(&self) {
        self.open.cancel();
    }
}

// === impl Shared ===

impl Shared {
    fn rules(&self) -> std::sync::MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("writes", &self.writes).finish_non_exhaustive()
    }
}
