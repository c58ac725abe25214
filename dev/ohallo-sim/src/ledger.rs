//! Every call that arrived, in order, without secrets and bodies.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::fault::FaultId;

/// The route of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Operation {
    GetChannel,
    UpdateChannel,
    DeleteChannel,
    StoreCredentials,
    TestChannel,
    RetryProvisioning,
    CreateChannel,
    ListChannels,
    GetWorkspace,
    ListWorkspaces,
    /// Any other method or path.
    Other,
}

/// One call. It is entered when its head arrives and completed as it proceeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// From 0, never reused, also not after the ledger was cleared.
    pub seq: u64,
    /// Milliseconds from the start of the simulator to the arrival.
    pub at_ms: u64,
    /// When the answer was handed out or the connection cut; `None` while it proceeds or hangs.
    pub ended_ms: Option<u64>,
    pub method: String,
    /// As it arrived, percent escapes and query included; only the beginning of a long one.
    pub path: String,
    pub operation: Operation,
    /// From the path; for a create the id of the new channel.
    pub channel: Option<String>,
    /// From the path.
    pub workspace: Option<String>,
    /// The status that was sent; `None` when none was (yet).
    pub status: Option<u16>,
    /// The call changed something: a write that succeeded, answered or not.
    pub committed: bool,
    pub fault: Option<FaultId>,
    /// Of the key; `None` when it is not known.
    pub tenant: Option<String>,
    /// The name of the key, not its secret.
    pub key: Option<String>,
    /// The `Idempotency-Key` header; not honoured.
    pub idempotency_key: Option<String>,
    /// The `traceparent` header.
    pub traceparent: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    entries: VecDeque<Entry>,
    /// `seq` of the first entry kept.
    first: u64,
    cap: usize,
    counts: [u64; Operation::ALL.len()],
    changed: watch::Sender<u64>,
}

// === impl Operation ===

impl Operation {
    pub const ALL: [Operation; 11] = [
        Operation::GetChannel,
        Operation::UpdateChannel,
        Operation::DeleteChannel,
        Operation::StoreCredentials,
        Operation::TestChannel,
        Operation::RetryProvisioning,
        Operation::CreateChannel,
        Operation::ListChannels,
        Operation::GetWorkspace,
        Operation::ListWorkspaces,
        Operation::Other,
    ];

    /// Whether oHallo may change something because of it.
    pub fn is_write(self) -> bool {
        !matches!(
            self,
            Operation::GetChannel
                | Operation::ListChannels
                | Operation::GetWorkspace
                | Operation::ListWorkspaces
                | Operation::Other
        )
    }

    /// Whether the id in its path is a workspace's.
    pub(crate) fn on_workspace(self) -> bool {
        matches!(self, Operation::CreateChannel | Operation::ListChannels | Operation::GetWorkspace)
    }
}

// === impl Ledger ===

impl Ledger {
    pub fn new(cap: usize) -> Self {
        Ledger {
            entries: VecDeque::new(),
            first: 0,
            cap: cap.max(1),
            counts: Default::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// Enters a call; `seq` is set here and returned.
    pub fn open(&mut self, mut entry: Entry) -> u64 {
        let seq = self.first.saturating_add(self.entries.len() as u64);
        entry.seq = seq;
        if let Some(count) = self.counts.get_mut(entry.operation as usize) {
            *count += 1;
        }
        self.entries.push_back(entry);
        if self.entries.len() > self.cap {
            self.entries.pop_front();
            self.first += 1;
        }
        self.touch();
        seq
    }

    /// Changes a call that is still remembered.
    pub fn update(&mut self, seq: u64, change: impl FnOnce(&mut Entry)) {
        let at = seq.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some(entry) = at.and_then(|at| self.entries.get_mut(at)) {
            change(entry);
        }
        self.touch();
    }

    /// The calls from `seq` on.
    pub fn since(&self, seq: u64) -> Vec<Entry> {
        let skip = usize::try_from(seq.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.entries.iter().skip(skip).cloned().collect()
    }

    pub fn count(&self, operation: Operation) -> usize {
        let count = self.counts.get(operation as usize).copied().unwrap_or_default();
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// Forgets every call. Those under way are not entered again.
    pub fn clear(&mut self) {
        self.first = self.first.saturating_add(self.entries.len() as u64);
        self.entries.clear();
        self.counts = Default::default();
        self.touch();
    }

    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn touch(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }
}
