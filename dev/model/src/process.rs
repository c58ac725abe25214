//! What one replica keeps: its cache, its memory, and what it is doing.

use crate::objects::{Intent, Object, Status};
use crate::state::{Epoch, IDS, Id, NAMES, Place, UIDS, Uid, Value, Version};
use crate::windows::{Window, Windows};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Replica {
    pub epoch: Epoch,
    pub cache: [Option<Object>; NAMES],
    pub memory: [Memory; UIDS],
    pub claims: [Option<Uid>; IDS],
    /// What the passes of this process have shown of each object.
    pub shown: [Shown; UIDS],
    pub windows: Windows,
    pub runs: [Option<Pass>; 3],
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
    /// A pass has reported, and what the first one found was of a newer manifest than the status.
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

/// What a pass has shown of the id that an object names.
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

/// A pass, or the task that a create goes on in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pass {
    pub object: Object,
    pub status: Status,
    pub memory: Memory,
    pub owns_attempt: bool,
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
    /// It only sends the status again that was not kept.
    pub resends: bool,
    /// The pass that waits for this task took too long: nothing follows when it is done.
    pub detached: bool,
    pub at: At,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Read {
    Unread,
    Found(Look),
    /// A 404 that says nothing yet.
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
    Intent {
        number: u8,
    },
    Post {
        number: u8,
    },
    Waiting {
        number: u8,
    },
    Record {
        number: u8,
        id: Id,
    },
    Adopt {
        id: Id,
    },
    RestoreMarks,
    ReadFresh {
        id: Id,
    },
    Delete {
        id: Id,
        retained: bool,
    },
    LetGo(Parting),
    Patch {
        id: Id,
    },
    WriteAhead(Ask),
    Send(Ask),
    Write {
        settled: bool,
    },
    /// What is said of a status that was not kept.
    WriteUnstored,
    /// Nothing: it found a create under way, and remembers what it knew of it when it began.
    Rest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Parting {
    NothingThere,
    Deleted,
    Retained,
    Released,
    HandedOver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    Test,
    Retry { attempts: u8, request: u8 },
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
