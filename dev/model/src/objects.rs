//! A Channel object, as far as the protocol looks at it.

use crate::state::{Generation, Id, Uid, Value, Version};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Object {
    pub uid: Uid,
    pub version: Version,
    pub terminating: bool,
    pub finalizer: bool,
    pub intent: Option<Intent>,
    pub create_again: Option<Named>,
    pub release: Option<Release>,
    /// The owner's word on this object: delete what it is bound to, whatever other namespaces claim.
    pub confirmed: bool,
    pub suspended: bool,
    /// It is in another namespace than the first object.
    pub elsewhere: bool,
    pub spec_id: Option<Id>,
    pub policy: Policy,
    /// The declared value, and how often it was declared.
    pub value: Value,
    pub declared: u8,
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
    /// The request handled, and how many retries were sent.
    pub retry: Option<(u8, u8)>,
    /// The generation that it speaks of, and the one that is Ready. 0: none.
    pub observed: Generation,
    pub ready: Generation,
    /// The value that was last applied.
    pub applied: Option<Value>,
    /// Its deletion waits for a claim; whether one of its own namespace.
    pub waits: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    Rejected,
    NotSent,
    Unknown,
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
