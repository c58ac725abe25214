//! Which edits and faults are explored together, and how many of each.

use crate::state::{
    Ghost, IDS, Kube, Lease, Left, OHallo, Object, Place, Policy, Remote, Replica, State, Value, Windows,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    Create,
    Conflicts,
    Edits,
    Copies,
    Ownership,
    HandOver,
    Tenants,
    Absence,
    Blind,
    Deletion,
    Requests,
    Retries,
    Replicas,
    Lag,
    LagValues,
    LagRetries,
    LagReplicas,
    Stripped,
    Forged,
    Borrowed,
}

/// What a person may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Recreate,
    /// With the annotations of the object that went, as `kubectl get -o yaml` prints them.
    Reapply,
    /// With its status too, as a backup tool does it.
    Restore,
    Delete,
    SetId,
    Retain,
    PolicyDelete,
    RemoveIntent,
    Replace,
    ForceFinalizer,
    CreateAgain,
    Release,
    Label,
    Test,
    Retry,
    SwapKey,
    SwapWorkspace,
    DeleteRemote,
    SecondAdopts,
    SecondCopies,
    SecondElsewhere,
    SecondSuspended,
    Confirm,
    /// The second Channel names what the first is bound to.
    SecondNames,
    /// The manifest declares the other of two values.
    Declare,
    /// Somebody writes a third value in the dashboard.
    Drift,
    /// oHallo's provisioning fails.
    Fail,
    /// The status says that the attempt was not sent.
    ForgeOutcome,
    DropId,
    DropStatus,
    /// The status gets id and boundUid of the other Channel.
    CopyBinding,
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: Name,
    pub covers: &'static str,
    pub edits: &'static [Kind],
    pub left: Left,
    pub replicas: usize,
    /// The first Channel names the channel that was always there.
    pub adopts: bool,
    /// The first Channel has `deletionPolicy: Delete`.
    pub deletes: bool,
    /// The key may read workspaces.
    pub reads_workspaces: bool,
    /// oHallo refuses a second channel of one name with 409.
    pub unique_names: bool,
    /// oHallo reports its channels as failed.
    pub failing: bool,
    /// `provisioningRetry.limit`. Of the retries that are due at once the status counts how many were sent.
    pub retries: u8,
    /// oHallo's reads may lag behind its writes.
    pub lags: bool,
    /// Values, what was applied of them, and Ready are looked at.
    pub values: bool,
    /// What the API server keeps of a write is looked at, and what a person makes of a status.
    pub kept: bool,
}

// === impl Name ===

impl Name {
    pub const ALL: [Self; 20] = [
        Self::Create,
        Self::Conflicts,
        Self::Edits,
        Self::Copies,
        Self::Ownership,
        Self::HandOver,
        Self::Tenants,
        Self::Absence,
        Self::Blind,
        Self::Deletion,
        Self::Requests,
        Self::Retries,
        Self::Replicas,
        Self::Lag,
        Self::LagValues,
        Self::LagRetries,
        Self::LagReplicas,
        Self::Stripped,
        Self::Forged,
        Self::Borrowed,
    ];
}

// === impl Scenario ===

impl Scenario {
    pub fn of(name: Name) -> Self {
        let base = Self {
            name,
            covers: "",
            edits: &[],
            left: Left::default(),
            replicas: 1,
            adopts: false,
            deletes: false,
            reads_workspaces: true,
            unique_names: false,
            failing: false,
            retries: 0,
            lags: false,
            values: false,
            kept: false,
        };
        match name {
            Name::Create => Self {
                covers: "create, record, unresolved create, create-again, adopt during a create, delete, recreate",
                edits: &[
                    Kind::Delete,
                    Kind::Recreate,
                    Kind::SetId,
                    Kind::CreateAgain,
                    Kind::Release,
                    Kind::PolicyDelete,
                ],
                left: Left {
                    edits: 2,
                    crashes: 1,
                    lost: 1,
                    faults: 1,
                    timeouts: 1,
                    posts: 3,
                    ..Left::default()
                },
                ..base
            },
            Name::Conflicts => Self {
                covers: "create-again while the first create is still in flight, where oHallo rejects a second channel of the same name",
                edits: &[Kind::CreateAgain, Kind::Delete],
                left: Left { edits: 2, crashes: 1, lost: 1, timeouts: 1, posts: 3, ..Left::default() },
                unique_names: true,
                ..base
            },
            Name::Edits => Self {
                covers: "intent or finalizer removed, kubectl replace, labels, forced deletion",
                edits: &[Kind::RemoveIntent, Kind::Replace, Kind::ForceFinalizer, Kind::Label, Kind::Delete],
                left: Left { edits: 3, crashes: 1, lost: 1, faults: 1, posts: 3, ..Left::default() },
                ..base
            },
            Name::Copies => Self {
                covers: "statuses and intents that were copied or restored",
                edits: &[Kind::SecondCopies, Kind::Reapply, Kind::Restore, Kind::Delete, Kind::Retain],
                left: Left { edits: 4, crashes: 1, lost: 1, posts: 2, ..Left::default() },
                ..base
            },
            Name::Ownership => Self {
                covers: "two Channels that name one id",
                edits: &[Kind::SecondAdopts, Kind::SetId, Kind::Delete, Kind::Test],
                left: Left { edits: 4, crashes: 1, ..Left::default() },
                ..base
            },
            Name::HandOver => Self {
                covers: "a renamed manifest with a pinned id: the second names the channel of the first, and either is deleted",
                edits: &[Kind::SecondAdopts, Kind::Delete, Kind::ForceFinalizer],
                left: Left { edits: 3, lost: 1, ..Left::default() },
                adopts: true,
                deletes: true,
                ..base
            },
            Name::Tenants => Self {
                covers: "a Channel of another namespace, or one that can't use the id, names the channel that the first is bound to or adopts",
                edits: &[Kind::SecondElsewhere, Kind::SecondSuspended, Kind::Delete, Kind::Confirm],
                left: Left { edits: 3, crashes: 1, ..Left::default() },
                adopts: true,
                deletes: true,
                ..base
            },
            Name::Absence => Self {
                covers: "404 under a swapped key or Workspace, false 404, channels deleted in oHallo's dashboard",
                edits: &[Kind::Delete, Kind::DeleteRemote, Kind::SwapKey, Kind::SwapWorkspace, Kind::Release],
                left: Left {
                    edits: 4,
                    crashes: 1,
                    lost: 1,
                    faults: 1,
                    lies: 1,
                    swaps: 2,
                    posts: 1,
                    ..Left::default()
                },
                ..base
            },
            Name::Blind => Self {
                covers: "the same with API keys that can't read workspaces",
                edits: &[Kind::Delete, Kind::DeleteRemote, Kind::SwapKey],
                left: Left {
                    edits: 4,
                    crashes: 1,
                    lost: 1,
                    faults: 1,
                    lies: 1,
                    swaps: 2,
                    posts: 1,
                    ..Left::default()
                },
                reads_workspaces: false,
                ..base
            },
            Name::Deletion => Self {
                covers: "policies that change around the deletion",
                edits: &[Kind::Delete, Kind::Retain, Kind::PolicyDelete, Kind::Label],
                left: Left { edits: 4, crashes: 1, lost: 1, faults: 1, posts: 1, ..Left::default() },
                ..base
            },
            Name::Requests | Name::Retries => Self {
                covers: if name == Name::Requests {
                    "connectivity tests, at most one per request, by two replicas"
                } else {
                    "provisioning retries, at most one per request, by two replicas"
                },
                edits: if name == Name::Requests {
                    &[Kind::Test, Kind::Label]
                } else {
                    &[Kind::Retry, Kind::Label]
                },
                left: Left { edits: 2, crashes: 1, lost: 1, takeovers: 1, ..Left::default() },
                adopts: true,
                replicas: 2,
                failing: name == Name::Retries,
                ..base
            },
            Name::Replicas => Self {
                covers: "two replicas: leaders deposed with requests in flight, takeover, create-again, replace",
                edits: &[Kind::CreateAgain, Kind::Replace, Kind::Delete],
                left: Left { edits: 1, lost: 1, faults: 1, takeovers: 2, posts: 2, ..Left::default() },
                replicas: 2,
                ..base
            },
            Name::Lag => Self {
                covers: "reads and calls that lag behind a create or a DELETE: 404, or a channel that is deleted",
                edits: &[Kind::Delete, Kind::DeleteRemote, Kind::SecondNames],
                left: Left { edits: 2, crashes: 1, lies: 1, posts: 1, ..Left::default() },
                lags: true,
                values: true,
                ..base
            },
            Name::LagValues => Self {
                covers: "reads that lag behind a PATCH, with manifests that change back and with values changed in the dashboard",
                edits: &[Kind::Declare, Kind::Drift],
                left: Left { edits: 3, crashes: 1, faults: 1, ..Left::default() },
                adopts: true,
                lags: true,
                values: true,
                ..base
            },
            Name::LagRetries => Self {
                covers: "reads that lag behind a provisioning retry, of which one is allowed",
                edits: &[Kind::Fail],
                left: Left { edits: 2, crashes: 1, lost: 1, faults: 1, ..Left::default() },
                adopts: true,
                failing: true,
                retries: 1,
                lags: true,
                values: true,
                ..base
            },
            Name::LagReplicas => Self {
                covers: "the same with two replicas, of which either acquires the Lease, and continues with its memory",
                edits: &[Kind::Declare],
                left: Left { edits: 2, takeovers: 2, ..Left::default() },
                adopts: true,
                replicas: 2,
                lags: true,
                values: true,
                ..base
            },
            Name::Stripped => Self {
                covers: "writes of which the API server does not store the intent, the finalizer, the id or the boundUid",
                edits: &[Kind::Delete, Kind::Release, Kind::SetId],
                left: Left { edits: 2, crashes: 1, faults: 1, posts: 2, strips: 2, ..Left::default() },
                values: true,
                kept: true,
                ..base
            },
            Name::Forged => Self {
                covers: "a status that was edited: the outcome of an attempt, the id, or all of it",
                edits: &[Kind::ForgeOutcome, Kind::DropId, Kind::DropStatus, Kind::Delete],
                left: Left { edits: 3, crashes: 1, faults: 1, posts: 2, ..Left::default() },
                kept: true,
                ..base
            },
            Name::Borrowed => Self {
                covers: "the binding of another Channel, copied into a status",
                edits: &[Kind::SecondAdopts, Kind::CopyBinding, Kind::Delete],
                left: Left { edits: 3, crashes: 1, posts: 1, ..Left::default() },
                kept: true,
                ..base
            },
        }
    }

    /// The first Channel was just applied.
    pub fn begin(&self) -> State {
        let mut channels = [None; IDS];
        for channel in channels.iter_mut().take(2) {
            *channel = Some(Remote { live: true, tenant: 1, failing: self.failing, ..Remote::default() });
        }
        let spec_id = self.adopts.then_some(0);
        let policy = if self.deletes { Policy::Delete } else { Policy::Unset };
        // Where somebody edits the value the first one is yet to be applied.
        let value = Value::from(self.edits.contains(&Kind::Declare));
        let first = Object { uid: 1, version: 1, spec_id, policy, value, ..Object::default() };
        let objects = [Some(first), None];
        let windows = Windows { epoch: u8::from(self.lags), ..Windows::default() };
        let leader = Replica { epoch: 1, cache: objects, windows, ..Replica::default() };
        State {
            kube: Kube {
                objects,
                place: Place { workspace: 1, tenant: 1, reads_workspaces: self.reads_workspaces },
                backup: None,
            },
            ohallo: OHallo { channels, posts: [None; 3] },
            replicas: [leader, Replica { epoch: 0, windows: Windows::default(), ..leader }],
            lease: Lease { holder: 0, epoch: 1 },
            left: self.left,
            ghost: Ghost::default(),
        }
    }

    /// What is known to break with this bound doubled: two untrue answers of 404 are two absences.
    pub fn known(&self, bound: &str) -> bool {
        bound == "lies"
    }

    /// Its row in docs/contributing/model.md.
    pub fn row(&self) -> String {
        let bounds = BOUNDS.into_iter().filter_map(|bound| {
            let value = *self.clone().bound(bound)?;
            (value > 0).then(|| format!("{value} {bound}"))
        });
        let bounds: Vec<_> = bounds.collect();
        format!("| {:?} | {} | {} |", self.name, self.covers, bounds.join(", "))
    }

    /// Whether a backup is kept of the first object.
    pub fn restores(&self) -> bool {
        self.edits.contains(&Kind::Restore)
    }

    /// The number behind a name of a bound.
    pub fn bound(&mut self, bound: &str) -> Option<&mut u8> {
        let left = &mut self.left;
        Some(match bound {
            "edits" => &mut left.edits,
            "crashes" => &mut left.crashes,
            "lost" => &mut left.lost,
            "faults" => &mut left.faults,
            "lies" => &mut left.lies,
            "swaps" => &mut left.swaps,
            "takeovers" => &mut left.takeovers,
            "timeouts" => &mut left.timeouts,
            "posts" => &mut left.posts,
            "strips" => &mut left.strips,
            _ => return None,
        })
    }
}

/// Every bound that a scenario has.
pub const BOUNDS: [&str; 10] =
    ["edits", "crashes", "lost", "faults", "lies", "swaps", "takeovers", "timeouts", "posts", "strips"];
