// pure
//! What one replica keeps: its cache, its memory, and what it is doing.

use crate::objects::{Intent, Object, Status};
use crate::state::{Epoch, IDS, Id, NAMES, Place, UIDS, Uid, Version};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Replica {
    pub epoch: Epoch,
    pub cache: [Option<Object>; NAMES],
    pub memory: [Memory; UIDS],
    pub claims: [Option<Uid>; IDS],
    pub runs: [Option<Pass>; 3],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    pub epoch: Epoch,
    pub written: Version,
    pub attempt: Option<Attempt>,
    pub deleted: bool,
    pub absent: Absent,
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

/// When the channel's absence was first proven.
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
    /// The pass that waits for this task took too long: nothing follows when it is done.
    pub detached: bool,
    pub at: At,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Read {
    Unread,
    Found,
    Absent { proven: bool },
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
    WriteAhead(Ask),
    Send(Ask),
    Write {
        settled: bool,
    },
    /// Nothing: it found a create under way, and remembers what it knew of it when it began.
    Rest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Parting {
    NothingThere,
    Deleted,
    Retained,
    Released,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    Test,
    Retry,
}

// === impl Replica ===

impl Replica {
    pub fn memory(&self, uid: Uid) -> Memory {
        self.memory[usize::from(uid) - 1]
    }

    pub fn memory_mut(&mut self, uid: Uid) -> &mut Memory {
        &mut self.memory[usize::from(uid) - 1]
    }
}
