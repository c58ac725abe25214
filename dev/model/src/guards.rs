// pure
//! What the protocol rests on. Each can be switched off in the model, which must then break an invariant.

use std::fmt;

macro_rules! guards {
    ($($guard:ident $scenario:ident $says:literal)*) => {
        /// One guard of the protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Guard { $(#[doc = $says] $guard),* }

        impl Guard {
            pub const ALL: &'static [Self] = &[$(Self::$guard),*];

            /// In which scenario it is switched off.
            pub fn scenario(self) -> crate::scenarios::Name {
                match self { $(Self::$guard => crate::scenarios::Name::$scenario),* }
            }

            /// What it is, in one sentence.
            pub fn says(self) -> &'static str {
                match self { $(Self::$guard => $says),* }
            }
        }
    };
}

guards! {
    IntentFirst Create "The intent is written before the POST."
    IntentVersion Replicas "The intent carries the version of the object that it was decided on."
    FinalizerWithIntent Create "The finalizer is set in the same patch as the intent."
    UnknownNeverPosts Create "While the outcome of an attempt is unknown nothing is sent."
    AnsweredFirst Create "An answer that is remembered goes before what the object says."
    OwnIntentOnly Replicas "What a process remembers of an attempt counts for the intent that it wrote itself."
    RecordWithoutIntent Edits "A record of an attempt whose intent was removed parks."
    ParkedIsRecorded Edits "A parked attempt is recorded in the status, also by a process that only finds its intent."
    ConflictAfterCreateAgain Conflicts "A conflict after create-again may be with the channel of the attempt given up."
    ManifestWins Create "An id is not bound to a manifest that names another."
    TaskTellsOfItself Create "A pass leaves what a create under way knows as it is."
    StatusVersion Edits "The status carries the version of the object that it was computed from."
    StatusUnchanged Replicas "A status is laid over a newer version only where the status there is still the same."
    SameManifestId Ownership "A status is laid over a newer version only where the manifest names the same id."
    RecordUnfenced Replicas "An id is written down whoever leads."
    EpochFence Replicas "An effect begins only in the epoch that it was decided in."
    BoundUid Copies "An id in the status is believed only for the object that it was bound to."
    Claims Ownership "An id is reserved while it is being bound."
    Owner Ownership "Of two Channels that name one id only the owner acts."
    Proof Absence "A 404 counts only where the key is shown to be the tenant's after it."
    AbsenceTwice Absence "An absence must be proven twice, some time apart."
    WorkspaceRecorded Absence "The workspace that a channel was bound in is recorded and compared."
    FreshRead Deletion "The object is read again right before the DELETE."
    PartingVersion Deletion "The finalizer is taken off with the version of the object that it was decided on."
    PartingDecidedAgain Deletion "Where the manifest changed meanwhile the parting is decided again."
    FinalizerPutBack Edits "A finalizer that was removed is put back."
    WriteAhead Requests "A test or retry is counted in the status before it is sent."
    CacheLag Create "A pass over an older version than this process wrote does nothing."
}

// === impl Guard ===

impl Guard {
    /// Why no counterexample is expected: what the others leave for it to do is not about these invariants.
    pub fn redundant(self) -> Option<&'static str> {
        match self {
            Self::CacheLag => Some(
                "whatever a lagging pass decides meets a version: the intent, the count and the finalizer are refused, and a DELETE reads afresh; the rule saves the calls of a pass that would be in vain",
            ),
            _ => None,
        }
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
