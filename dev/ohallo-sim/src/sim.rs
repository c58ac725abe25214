//! The simulator as a test sees it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::watch;

use crate::behaviour::{Behaviour, Config};
use crate::fault::{Fault, FaultId};
use crate::ledger::{Entry, Ledger, Operation};
use crate::model::{Channel, Key, NewChannel};
use crate::routes::{self, Shared};
use crate::server::{Cut, Listening, Port};
use crate::store::Store;
use crate::{admin, clock};

/// Longest time [`Sim::held`] waits.
const HELD_LIMIT: Duration = Duration::from_secs(60);
/// Pause between two checks of [`Sim::wait_for`], so that a busy simulator is not slowed by who watches it.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// A running simulator. Dropping it closes the port and resets every connection.
#[derive(Debug)]
pub struct Sim {
    shared: Arc<Shared>,
    address: SocketAddr,
    listening: watch::Sender<Listening>,
}

// === life ===

impl Sim {
    /// Starts on the address of the config, on the running tokio runtime. It is ready when this returns.
    ///
    /// # Errors
    /// The port can't be taken.
    pub async fn start(config: Config) -> anyhow::Result<Sim> {
        let store = Store::new(config.seed, config.behaviour);
        let shared = Arc::new(Shared::new(store, Ledger::new(config.ledger_cap)));
        let (listening, mode) = watch::channel(Listening::Accept);
        let socket = (config.address, config.port).into();
        let port = Port::bind(socket, mode, shared.stop.clone());
        let port = port.await.with_context(|| format!("taking {socket}"))?;
        let address = port.address();
        let mut router = routes::router(Arc::clone(&shared));
        if config.admin {
            router = router.nest("/_admin", admin::router(Arc::clone(&shared)));
        }
        let server = axum::serve(port, router.into_make_service_with_connect_info::<Cut>());
        let stop = shared.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(server.into_future()).await });
        Ok(Sim { shared, address, listening })
    }

    /// `http://<address>:<port>`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Opens, mutes or closes the port; the state is kept. It takes effect a moment later.
    pub fn set_listening(&self, listening: Listening) {
        self.listening.send_replace(listening);
    }

    fn now(&self) -> clock::Now {
        self.shared.clock.now()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

// === tenants and keys ===

impl Sim {
    /// Adds a workspace, or renames it and moves it to another tenant (its channels stay with theirs).
    pub fn add_workspace(&self, tenant: &str, id: &str, name: &str) {
        self.shared.store().add_workspace(tenant, id, name);
    }

    /// Adds a key, or replaces the one with the same secret.
    pub fn add_key(&self, key: Key) {
        self.shared.store().add_key(key);
    }

    /// Changes a key; `false` when there is none with this secret.
    pub fn edit_key(&self, secret: &str, edit: impl FnOnce(&mut Key)) -> bool {
        self.shared.store().keys.get_mut(secret).map(edit).is_some()
    }

    /// From now on the key gets 401.
    pub fn revoke_key(&self, secret: &str) {
        self.edit_key(secret, |key| key.revoked = true);
    }

    /// Undoes [`Sim::revoke_key`], which oHallo can't.
    pub fn restore_key(&self, secret: &str) {
        self.edit_key(secret, |key| key.revoked = false);
    }
}

// === the dashboard ===

impl Sim {
    /// Every live channel, oldest first.
    pub fn channels(&self) -> Vec<Channel> {
        self.shared.store().all(self.now())
    }

    /// How many live channels there are.
    pub fn channel_count(&self) -> usize {
        self.shared.store().channels.len()
    }

    pub fn channel(&self, id: &str) -> Option<Channel> {
        let now = self.now();
        let mut store = self.shared.store();
        let found = store.channels.get_mut(id)?;
        found.settle(now.ms);
        Some(found.clone())
    }

    /// Creates a channel and returns its id. One with the same id is replaced.
    pub fn insert_channel(&self, new: NewChannel) -> String {
        self.shared.store().insert_in_dashboard(new, self.now())
    }

    /// Changes a channel; `false` when there is none. Id, workspace and tenant stay; a changed `status` ends
    /// the provisioning workflow. `edit` must not call the simulator.
    pub fn edit_channel(&self, id: &str, edit: impl FnOnce(&mut Channel)) -> bool {
        let now = self.now();
        self.shared.store().change_in_dashboard(id, now, |store| store.edit(id, now, edit))
    }

    /// Removes a channel; `false` when there is none.
    pub fn remove_channel(&self, id: &str) -> bool {
        let now = self.now();
        self.shared.store().change_in_dashboard(id, now, |store| store.remove(id))
    }

    /// Ends a [`crate::Until::Advanced`] step the channel is in.
    pub fn resolve_dns(&self, id: &str) {
        let now = self.now();
        self.shared.store().edit(id, now, |channel| channel.run.advance());
    }
}

// === behaviour and faults ===

impl Sim {
    /// Changes how the simulator answers, from the next call on. `change` must not call the simulator.
    pub fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.store().behaviour);
    }

    pub fn behaviour(&self) -> Behaviour {
        self.shared.store().behaviour.clone()
    }

    pub fn add_fault(&self, fault: Fault) -> FaultId {
        self.shared.faults().add(fault)
    }

    /// Removes a fault. Calls it holds go on; those it hangs do not.
    pub fn remove_fault(&self, id: FaultId) {
        self.shared.faults().remove(id);
    }

    /// Removes every fault, as [`Sim::remove_fault`] does.
    pub fn clear_faults(&self) {
        self.shared.faults().clear();
    }

    /// Lets the calls go that this fault holds, and those it would hold.
    pub fn release(&self, id: FaultId) {
        self.shared.faults().open(id);
    }

    /// Waits until this fault holds a call or has held one; with `commit_first` it has taken effect by then.
    ///
    /// # Errors
    /// The fault is removed, or 60 s have passed.
    pub async fn held(&self, id: FaultId) -> anyhow::Result<()> {
        self.held_calls(id, 1).await
    }

    /// Waits until this fault has held `n` calls.
    ///
    /// # Errors
    /// As [`Sim::held`].
    pub async fn held_calls(&self, id: FaultId, n: u32) -> anyhow::Result<()> {
        let unresolved_create = self.shared.faults().unresolved_create(id);
        let mut unresolved_create = unresolved_create.with_context(|| format!("no fault {}", id.0))?;
        let waited = tokio::time::timeout(HELD_LIMIT, unresolved_create.wait_for(|count| *count >= n)).await;
        waited.context("no call was held in time")?.context("the fault was removed")?;
        Ok(())
    }
}

// === the ledger ===

impl Sim {
    /// Every call since the start or the last [`Sim::clear_ledger`], by arrival.
    pub fn ledger(&self) -> Vec<Entry> {
        self.ledger_since(0)
    }

    /// The calls whose `seq` is at least this.
    pub fn ledger_since(&self, seq: u64) -> Vec<Entry> {
        self.shared.ledger().since(seq)
    }

    /// How many calls of this kind have arrived, answered or not.
    pub fn count(&self, operation: Operation) -> usize {
        self.shared.ledger().count(operation)
    }

    pub fn clear_ledger(&self) {
        self.shared.ledger().clear();
    }

    /// Milliseconds since the start, as in [`Entry::at_ms`].
    pub fn elapsed_ms(&self) -> u64 {
        self.shared.clock.ms()
    }

    /// Waits until the ledger fits. Each check copies the ledger: for very many calls use [`Sim::wait_until`].
    ///
    /// # Errors
    /// It did not within `timeout`.
    pub async fn wait_for(&self, fits: impl Fn(&[Entry]) -> bool, timeout: Duration) -> anyhow::Result<()> {
        self.wait_until(|sim| fits(&sim.ledger()), timeout).await
    }

    /// Waits until anything about the simulator holds; checks after every call and every 100 ms.
    ///
    /// # Errors
    /// It did not within `timeout`.
    pub async fn wait_until(&self, fits: impl Fn(&Sim) -> bool, timeout: Duration) -> anyhow::Result<()> {
        let mut changed = self.shared.ledger().watch();
        let look = async {
            while !fits(self) {
                tokio::time::sleep(LOOK_PAUSE).await;
                let _ = tokio::time::timeout(Duration::from_millis(95), changed.changed()).await;
            }
        };
        if tokio::time::timeout(timeout, look).await.is_err() && !fits(self) {
            let last: Vec<Entry> = self.ledger().into_iter().rev().take(10).collect();
            bail!("not within {timeout:?}; the last calls, newest first: {last:#?}");
        }
        Ok(())
    }
}
