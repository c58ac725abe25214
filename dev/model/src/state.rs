// pure
//! What the model keeps: small values that can be hashed. The real ones are built from them in `real.rs`.

pub type Uid = u8;
pub type Id = u8;
pub type Version = u8;
pub type Epoch = u8;

/// The names of the two Channels, and of what runs in a replica: a pass for each, and the task of a create.
pub const NAMES: usize = 2;
pub const TASK: usize = 2;
/// Objects that ever exist: two of the first name, one of the second.
pub const UIDS: usize = 3;
/// Channels in oHallo that ever exist. The first two were always there.
pub const IDS: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub kube: Kube,
    pub ohallo: OHallo,
    pub replicas: [Replica; 2],
    pub lease: Lease,
    pub left: Left,
    pub ghost: Ghost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    pub holder: usize,
    pub epoch: Epoch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kube {
    pub objects: [Option<Object>; NAMES],
    pub place: Place,
    /// What a backup of the first object holds.
    pub backup: Option<Object>,
}

/// The Workspace: which one it names, and whose key its Secret holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub workspace: u8,
    pub tenant: u8,
    pub reads_workspaces: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Object {
    pub uid: Uid,
    pub version: Version,
    pub terminating: bool,
    pub finalizer: bool,
    pub intent: Option<Intent>,
    pub create_again: Option<Named>,
    pub release: Option<Release>,
    pub spec_id: Option<Id>,
    pub policy: Policy,
    pub test: u8,
    pub retry: u8,
    pub status: Status,
}

/// One attempt to create.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Named {
    pub uid: Uid,
    pub number: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Intent {
    pub of: Named,
    /// Who wrote it: the time in the real one, which no two have in common.
    pub by: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Release {
    Id(Id),
    Attempt(Named),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    #[default]
    Unset,
    Delete,
    Retain,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Status {
    pub id: Option<Id>,
    pub bound_uid: Option<Uid>,
    pub workspace: Option<u8>,
    pub adopted: Option<bool>,
    pub create: Option<(u8, Word)>,
    pub read_with: Option<(u8, bool)>,
    /// The request of the last test, and the one handled.
    pub test: Option<(u8, u8)>,
    pub retry: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    Rejected,
    NotSent,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OHallo {
    pub channels: [Option<Remote>; IDS],
    /// Creates that were sent and not yet done with.
    pub posts: [Option<Post>; 3],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Remote {
    pub live: bool,
    pub tenant: u8,
    pub of: Option<Named>,
    /// An object of this one's was let go while it should stay.
    pub kept: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Post {
    pub of: Named,
    pub tenant: u8,
    pub workspace: u8,
    /// Who waits for the answer.
    pub to: Option<usize>,
    pub made: Option<Id>,
}

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

/// How many faults and edits may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Left {
    pub edits: u8,
    pub crashes: u8,
    /// Answers of the API server that are lost.
    pub lost: u8,
    /// Creates that are refused, not sent, or whose answer is lost; other calls whose answer is lost.
    pub faults: u8,
    /// Answers of 404 that are not true.
    pub lies: u8,
    pub swaps: u8,
    pub takeovers: u8,
    /// Passes that take too long while their create goes on.
    pub timeouts: u8,
    pub posts: u8,
}

/// What nobody in the model knows, but the properties ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// The last pass found nothing to write at this very version of the object.
    pub settled: [bool; NAMES],
    /// A person took our finalizer off, and no pass has settled since.
    pub forced: [bool; NAMES],
    /// How each object went.
    pub gone: [Option<Gone>; UIDS],
    /// How often each request was sent.
    pub tests: [u8; 3],
    pub retries: [u8; 3],
    /// A person gave up an attempt that was still under way.
    pub hasty: bool,
    /// A create was then answered with 409.
    pub conflicted: bool,
    /// A replica other than the first one wrote an id down, or let an object go.
    pub second: bool,
    /// The invariants that were broken, one bit each.
    pub broken: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gone {
    /// Deleted while our finalizer was not on it.
    Unmarked,
    Forced,
    Kept,
    LetGo(Parting),
}

// === impl Object ===

impl Object {
    pub fn name(&self) -> usize {
        name_of(self.uid)
    }

    /// The attempt that the object speaks of.
    pub fn attempt(&self) -> Option<Named> {
        let recorded = self.status.create.map(|(number, _)| Named { uid: self.uid, number });
        self.intent.map(|intent| intent.of).or(recorded)
    }
}

/// The name of the object with this uid.
pub fn name_of(uid: Uid) -> usize {
    usize::from(uid == 3)
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

// === impl State ===

impl State {
    /// Whether this replica leads, in this epoch.
    pub fn leads(&self, replica: usize, epoch: Epoch) -> bool {
        self.lease.holder == replica && self.lease.epoch == epoch && self.replicas[replica].epoch == epoch
    }

    /// Nothing is under way.
    pub fn quiet(&self) -> bool {
        self.ohallo.posts.iter().all(Option::is_none)
            && self.replicas.iter().all(|replica| replica.runs.iter().all(Option::is_none))
    }

    /// Versions matter only beside each other: they are counted anew from 1. What a process wrote matters only until
    /// its cache shows it.
    pub fn normalize(&mut self) {
        if self.left.edits == 0 {
            // Only people's edits ask for these.
            (self.ghost.settled, self.ghost.forced) = Default::default();
            self.kube.backup = None;
        }
        for replica in &mut self.replicas {
            let cache = replica.cache;
            let shown = |uid: Uid| cache[name_of(uid)].filter(|object| object.uid == uid).map(|o| o.version);
            for (at, memory) in replica.memory.iter_mut().enumerate() {
                forget_shown(memory, shown(at as Uid + 1));
            }
            for pass in replica.runs.iter_mut().flatten() {
                forget_shown(&mut pass.memory, shown(pass.object.uid));
            }
        }
        let mut used = [false; 256];
        self.versions(|version| used[usize::from(*version)] = true);
        let mut ranks = [0; 256];
        let mut rank = 0;
        for (version, used) in used.iter().enumerate().skip(1) {
            rank += u8::from(*used);
            ranks[version] = rank;
        }
        self.versions(|version| *version = ranks[usize::from(*version)]);
    }

    /// A version newer than every other.
    pub fn next_version(&mut self) -> Version {
        let mut newest = 0;
        self.versions(|version| newest = newest.max(*version));
        newest + 1
    }

    fn versions(&mut self, mut each: impl FnMut(&mut Version)) {
        let cached = self.replicas.iter_mut().flat_map(|replica| {
            let runs = replica.runs.iter_mut().flatten();
            let of_runs = runs.flat_map(|pass| [&mut pass.object.version, &mut pass.memory.written]);
            let of_memory = replica.memory.iter_mut().map(|memory| &mut memory.written);
            let of_cache = replica.cache.iter_mut().flatten().map(|object| &mut object.version);
            of_runs.chain(of_memory).chain(of_cache)
        });
        let stored = self.kube.objects.iter_mut().flatten().map(|object| &mut object.version);
        cached.chain(stored).for_each(&mut each);
    }
}

fn forget_shown(memory: &mut Memory, shown: Option<Version>) {
    if shown.is_some_and(|shown| memory.written <= shown) {
        memory.written = 0;
    }
}
