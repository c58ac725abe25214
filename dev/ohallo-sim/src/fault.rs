//! Faults: which calls they meet, how often, and what they do.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::ledger::Operation;

/// Names a fault that was put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FaultId(pub u64);

/// What to do to which calls. Of several faults that fit a call the oldest acts, alone.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// `None`: any.
    #[serde(default)]
    pub operation: Option<Operation>,
    /// The id in the path: a channel's, or for create, list and get workspace the workspace's. `None`: any.
    #[serde(default)]
    pub channel: Option<String>,
    /// A key's secret or name. `None`: any, also calls without a key.
    #[serde(default)]
    pub key: Option<String>,
    /// Lets the first n calls that fit go.
    #[serde(default)]
    pub skip: u32,
    /// Acts so many times; `None`: for ever.
    #[serde(default)]
    pub times: Option<u32>,
    pub action: Action,
}

/// `commit` is whether the call takes effect before its answer is spoilt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Action {
    /// Another status. Without a body: `{"error": …}`.
    Status {
        code: u16,
        #[serde(default)]
        body: Option<String>,
        #[serde(default)]
        headers: Vec<(String, String)>,
        #[serde(default)]
        commit: bool,
    },
    /// The connection is reset without a byte of answer.
    Reset {
        #[serde(default)]
        commit: bool,
    },
    /// No answer, ever; the connection stays open.
    Hang {
        #[serde(default)]
        commit: bool,
    },
    /// The connection is reset now; the call, with the rights it had on arrival, takes effect later.
    LateCommit {
        #[serde(rename = "afterMillis", with = "millis")]
        after: Duration,
    },
    /// 200 with the content type of JSON and a body that is not.
    Garbage {
        #[serde(default)]
        commit: bool,
    },
    /// Any body.
    Body {
        code: u16,
        body: String,
        content_type: String,
        #[serde(default)]
        commit: bool,
    },
    /// Takes effect; 200 with the beginning of an endless-looking JSON text, streamed.
    Huge { bytes: u64 },
    /// The same without an end, under this status.
    Endless { code: u16 },
    /// Takes effect; 200 with 64 MiB of JSON text in 416 KiB of gzip.
    GzipBomb,
    /// Takes effect; the right answer, its body trickling.
    Slow { bytes_per_second: u64 },
    /// Does not take effect.
    Redirect { code: u16, location: String },
    /// Holds the call until `Sim::release`. It continues then even if the client has left.
    Hold {
        #[serde(default)]
        commit_first: bool,
    },
    /// Takes effect at once, answers after so many milliseconds.
    NoAnswerDelay { millis: u64 },
}

#[derive(Debug)]
pub(crate) struct Faults {
    rules: Vec<(FaultId, Fault)>,
    gates: HashMap<FaultId, Gate>,
    next: u64,
}

/// Where held calls wait. Dropping the fault opens it.
#[derive(Debug)]
struct Gate {
    open: watch::Sender<bool>,
    unresolved_create: watch::Sender<u32>,
}

/// A held call's side of the gate.
#[derive(Debug, Clone)]
pub(crate) struct Pass {
    open: watch::Receiver<bool>,
    unresolved_create: watch::Sender<u32>,
}

/// What faults match.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Met<'a> {
    pub operation: Operation,
    pub target: Option<&'a str>,
    pub secret: Option<&'a str>,
    pub key_name: Option<&'a str>,
}

/// More rules than any test needs; beyond it the oldest go.
const MAX_RULES: usize = 100_000;

// === impl Fault ===

impl Fault {
    /// Acts on one operation.
    pub fn on(operation: Operation, action: Action) -> Self {
        Fault { operation: Some(operation), ..Fault::any(action) }
    }

    /// Acts on every call.
    pub fn any(action: Action) -> Self {
        Fault { operation: None, channel: None, key: None, skip: 0, times: None, action }
    }

    pub fn channel(mut self, id: &str) -> Self {
        self.channel = Some(id.to_owned());
        self
    }

    pub fn key(mut self, secret_or_name: &str) -> Self {
        self.key = Some(secret_or_name.to_owned());
        self
    }

    pub fn skip(mut self, n: u32) -> Self {
        self.skip = n;
        self
    }

    pub fn times(mut self, n: u32) -> Self {
        self.times = Some(n);
        self
    }

    fn fits(&self, met: Met<'_>) -> bool {
        let key = |key: &String| met.secret == Some(key) || met.key_name == Some(key);
        self.operation.is_none_or(|operation| operation == met.operation)
            && self.channel.as_ref().is_none_or(|id| met.target == Some(id))
            && self.key.as_ref().is_none_or(key)
    }
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fault")
            .field("operation", &self.operation)
            .field("channel", &self.channel)
            .field("skip", &self.skip)
            .field("times", &self.times)
            .field("action", &self.action)
            .finish_non_exhaustive()
    }
}

// === impl Action ===

impl Action {
    /// A status with oHallo's error body, the call without effect.
    pub fn status(code: u16) -> Self {
        Action::Status { code, body: None, headers: Vec::new(), commit: false }
    }

    /// The same with a `Retry-After` of any kind.
    pub fn retry_after(code: u16, value: &str) -> Self {
        let headers = vec![("Retry-After".to_owned(), value.to_owned())];
        Action::Status { code, body: None, headers, commit: false }
    }
}

// === impl Faults ===

impl Faults {
    pub fn new() -> Self {
        Faults { rules: Vec::new(), gates: HashMap::new(), next: 1 }
    }

    pub fn add(&mut self, fault: Fault) -> FaultId {
        let id = FaultId(self.next);
        self.next += 1;
        if self.rules.len() >= MAX_RULES {
            self.remove_at(0);
        }
        let gate = Gate { open: watch::Sender::new(false), unresolved_create: watch::Sender::new(0) };
        self.gates.insert(id, gate);
        self.rules.push((id, fault));
        id
    }

    pub fn remove(&mut self, id: FaultId) {
        self.rules.retain(|(other, _)| *other != id);
        self.gates.remove(&id);
    }

    pub fn clear(&mut self) {
        self.rules.clear();
        self.gates.clear();
    }

    pub fn rules(&self) -> &[(FaultId, Fault)] {
        &self.rules
    }

    /// The fault that meets this call, counted down.
    pub fn meet(&mut self, met: Met<'_>) -> Option<(FaultId, Action)> {
        for (id, rule) in &mut self.rules {
            if rule.times == Some(0) || !rule.fits(met) {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            if let Some(times) = &mut rule.times {
                *times -= 1;
            }
            return Some((*id, rule.action.clone()));
        }
        None
    }

    pub fn pass(&self, id: FaultId) -> Option<Pass> {
        let gate = self.gates.get(&id)?;
        Some(Pass { open: gate.open.subscribe(), unresolved_create: gate.unresolved_create.clone() })
    }

    pub fn open(&self, id: FaultId) {
        if let Some(gate) = self.gates.get(&id) {
            gate.open.send_replace(true);
        }
    }

    pub fn unresolved_create(&self, id: FaultId) -> Option<watch::Receiver<u32>> {
        self.gates.get(&id).map(|gate| gate.unresolved_create.subscribe())
    }

    fn remove_at(&mut self, at: usize) {
        if let Some((id, _)) = self.rules.get(at) {
            self.gates.remove(id);
            self.rules.remove(at);
        }
    }
}

// === impl Pass ===

impl Pass {
    /// Counts the call as held and waits until the gate opens.
    pub async fn wait(mut self) {
        self.unresolved_create.send_modify(|n| *n = n.saturating_add(1));
        // An error means the fault was removed, which opens the gate too.
        let _ = self.open.wait_for(|open| *open).await;
    }
}

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}
