//! What one replica keeps: its cache, its memory, and what it is doing.

use crate::objects::{Intent, Object, Status};
use crate::state::{Epoch, IDS, Id, NAMES, Place, UIDS, Uid, Value, Version};
use crate::windows::{Window, Windows};
pub use ohallo_core::channel::effect::Cursor;
pub use ohallo_core::channel::model::DeletionOutcome;
use ohallo_core::channel::state::{AttemptChange, UserChange};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Replica {
    pub epoch: Epoch,
    pub cache: [Option<Object>; NAMES],
    pub memory: [Memory; UIDS],
    pub claims: [Option<Uid>; IDS],
    /// What the reconciles of this process have shown of each object.
    pub shown: [Shown; UIDS],
    pub windows: Windows,
    pub reconciles: [Option<Reconcile>; 3],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    pub epoch: Epoch,
    pub written: Version,
    pub attempt: Option<Attempt>,
    pub deleted: bool,
    pub absent: Absent,
    /// The absence was met by a DELETE.
    pub absent_to_delete: bool,
    /// A status that binds the object was sent, and its answer was lost.
    pub binding_unsure: bool,
    pub wait: Option<Wait>,
    /// Since when it waits for claims of another namespace to show their right.
    pub asked: Absent,
    /// The binding as the API server last showed it, and the status that it did not keep whole.
    pub binding: Option<Binding>,
    pub unstored: Option<Status>,
    /// What it did not keep last.
    pub lost: Option<Strip>,
    /// This process bound the channel.
    pub bound_here: bool,
    /// A reconcile has ended, and the manifest that the first one found was newer than the status.
    pub seen: bool,
    pub doubted: bool,
    /// The value that was last sent, and how often oHallo then had another.
    pub sent: Option<Value>,
    pub reverts: Reverts,
}

/// What binds an object to its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Binding {
    pub id: Id,
    pub workspace: Option<u8>,
    pub adopted: Option<bool>,
}

/// What an admission plugin takes out of a write, or an older CustomResourceDefinition prunes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strip {
    Intent,
    Finalizer,
    Id,
    BoundUid,
}

/// The operator's own `Reverts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reverts {
    pub count: u8,
    pub read: bool,
    pub contested: bool,
}

/// A deletion that waits for claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wait {
    pub beside: bool,
    /// Since when nobody of the same namespace claims the id, and since when nobody does.
    pub beside_free: Absent,
    pub free: Absent,
}

/// What a reconcile has shown of the id that an object names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Shown {
    #[default]
    Unasked,
    Nothing,
    /// It reads the id, and would not adopt it now.
    Right,
    Able,
}

/// Who else claims the id of a terminating object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Claims {
    pub heir: bool,
    pub outranked: bool,
    pub beside: bool,
    /// `None`: not asked for.
    pub elsewhere: Option<Elsewhere>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Elsewhere {
    Nobody,
    Named,
    Shown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    pub number: u8,
    pub outcome: Outcome,
    /// The channel as the create was answered.
    pub look: Look,
    /// The intent that it wrote, and the one before.
    pub intent: Option<Intent>,
    pub after: Option<Intent>,
    /// That intent is known to have stood, and this replica has led ever since.
    pub last: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    InFlight,
    Answered(Id),
    Rejected,
    NotSent,
    Unknown,
}

/// When something was first so: the absence of a channel, or of claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Absent {
    #[default]
    Never,
    Now,
    LongAgo,
}

/// A reconcile, or the task that its create continues in: a compact `State`, and the next effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reconcile {
    pub object: Object,
    pub status: Status,
    pub memory: Memory,
    pub attempt_change: AttemptChange,
    pub epoch: Epoch,
    pub place: Place,
    pub read: Read,
    pub owner: bool,
    /// Whether the channel that it takes over was adopted.
    pub predecessor: Option<bool>,
    pub claims: Option<Claims>,
    /// As it was when the channel was read or last written.
    pub window: Window,
    /// It has already sent an update.
    pub updated: bool,
    pub intent_written: Option<u8>,
    /// It only resends the status that was not stored.
    pub resends: bool,
    /// What a person changed meanwhile.
    pub user_change: UserChange,
    /// When its DELETE was decided, the object wanted its channel kept.
    pub retained: bool,
    pub before: Before,
    /// The reconcile that waits for this task timed out: nothing follows when it is done.
    pub detached: bool,
    pub at: At,
}

/// What a step sent, and what the state held before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Before {
    pub attempt: Option<Attempt>,
    pub status: Option<Status>,
    pub intent: Option<Intent>,
    pub record: Option<Status>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Read {
    Unread,
    Found(Look),
    /// A 404 that may be older than a write.
    Stale,
    Absent {
        proven: bool,
    },
}

/// A channel as oHallo describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Look {
    pub value: Value,
    pub failing: bool,
}

/// The next thing that it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    /// The next effect of a step, in the operator's own order.
    Effect { step: Step, cursor: Cursor },
    /// The create was sent.
    Waiting { step: Step, cursor: Cursor },
    /// The status is written.
    Write { settled: bool, loss: bool },
    /// The status that reports a loss is written.
    WriteLoss,
    /// Nothing: it found a create in flight, and remembers what it knew of it when it began.
    Rest,
}

/// The operator's `Step`, in small values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    WriteIntent { number: u8 },
    PostCreate { number: u8 },
    RecordId { number: u8 },
    Adopt(Id),
    RestoreMetadata,
    Update { id: Id, drift: bool },
    Retry { id: Id, attempts: u8, request: u8 },
    Test { id: Id, request: u8 },
    Delete(Id),
    RemoveFinalizer(DeletionOutcome),
}

// === impl Absent ===

impl Absent {
    pub fn pass_time(&mut self) {
        if *self == Self::Now {
            *self = Self::LongAgo;
        }
    }
}

// === impl Replica ===

impl Replica {
    pub fn memory(&self, uid: Uid) -> Memory {
        self.memory[usize::from(uid) - 1]
    }

    pub fn shown(&self, uid: Uid) -> Shown {
        self.shown[usize::from(uid) - 1]
    }

    pub fn memory_mut(&mut self, uid: Uid) -> &mut Memory {
        &mut self.memory[usize::from(uid) - 1]
    }
}
