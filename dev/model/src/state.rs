//! What the model keeps: small values that can be hashed. The real ones are built from them in `real.rs`.

pub use crate::objects::*;
pub use crate::process::*;
pub use crate::windows::*;

pub type Uid = u8;
pub type Id = u8;
pub type Version = u8;
pub type Epoch = u8;
pub type Generation = u8;
/// A `displayName`, of which there are three.
pub type Value = u8;

/// The number of Channel names, and the slot of a create's task beside the reconcile of each name.
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OHallo {
    pub channels: [Option<Remote>; IDS],
    /// Creates that were sent and not yet done with.
    pub posts: [Option<Post>; 3],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Remote {
    pub live: bool,
    pub tenant: u8,
    pub of: Option<Named>,
    /// An object of this one's was let go while it should stay.
    pub kept: bool,
    pub value: Value,
    /// Its provisioning failed.
    pub failing: bool,
    /// What a read may show beside the truth: a bit for each [`Remote::shape`].
    pub old: u8,
    /// What the operator's last write was answered with while nobody else has changed the channel since, and reads may be
    /// older than that write.
    pub wrote: Option<Wrote>,
    /// The same of a provisioning retry, which helped.
    pub helped: bool,
    /// A person changed the value since the operator last wrote it.
    pub drifted: bool,
}

/// An answer that reads may be older than.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrote {
    Made,
    Value(Value),
    Deleted,
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
    /// Writes of the operator's that are not kept whole.
    pub strips: u8,
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
    /// How often each request of each name was sent.
    pub tests: [[u8; 3]; NAMES],
    pub retries: [[u8; 3]; NAMES],
    /// A person gave up an attempt that was still under way.
    pub hasty: bool,
    /// A create was then answered with 409.
    pub conflicted: bool,
    /// A replica other than the first one wrote an id down, or let an object go.
    pub second: bool,
    /// The id that the living process knows each object to be bound to, where edits and losses are looked at.
    pub known: [Option<Id>; UIDS],
    /// A person wrote over the outcome of an attempt.
    pub forged: bool,
    /// How often a person changed a channel's value.
    pub drifts: u8,
    /// The object that claimed the id of each name's object when its deletion began.
    pub claimed: [Option<Uid>; NAMES],
    /// The invariants that were broken, one bit each.
    pub broken: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gone {
    /// Deleted while our finalizer was not on it.
    Unmarked,
    Forced,
    Kept,
    Removed(DeletionOutcome),
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
            && self.replicas.iter().all(|replica| replica.reconciles.iter().all(Option::is_none))
    }

    /// Versions matter only relative to each other: they are renumbered from 1. What a process wrote matters only until
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
            for reconcile in replica.reconciles.iter_mut().flatten() {
                forget_shown(&mut reconcile.memory, shown(reconcile.object.uid));
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
            let reconciles = replica.reconciles.iter_mut().flatten();
            let of_reconciles = reconciles
                .flat_map(|reconcile| [&mut reconcile.object.version, &mut reconcile.memory.written]);
            let of_memory = replica.memory.iter_mut().map(|memory| &mut memory.written);
            let of_cache = replica.cache.iter_mut().flatten().map(|object| &mut object.version);
            of_reconciles.chain(of_memory).chain(of_cache)
        });
        let stored = self.kube.objects.iter_mut().flatten().map(|object| &mut object.version);
        cached.chain(stored).for_each(&mut each);
    }
}

fn forget_shown(memory: &mut Memory, shown: Option<Version>) {
    memory.absent_to_delete &= memory.absent != Absent::Never;
    if shown.is_some_and(|shown| memory.written <= shown) {
        memory.written = 0;
    }
}
