//! The guards of the protocol. The test switches each off, and the model must then break an invariant.

use std::fmt;

use crate::properties::Invariant;

macro_rules! guards {
    ($($guard:ident $scenario:ident $breaks:ident $says:literal $gist:literal)*) => {
        /// One guard of the protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Guard { $(#[doc = $says] $guard),* }

        impl Guard {
            pub const ALL: &'static [Self] = &[$(Self::$guard),*];

            /// The scenario in which it is switched off.
            pub fn scenario(self) -> crate::scenarios::Name {
                match self { $(Self::$guard => crate::scenarios::Name::$scenario),* }
            }

            /// The property that fails without it.
            pub fn breaks(self) -> Invariant {
                match self { $(Self::$guard => Invariant::$breaks),* }
            }

            /// The guard, in one sentence.
            pub fn says(self) -> &'static str {
                match self { $(Self::$guard => $says),* }
            }

            /// The counterexample without it.
            pub fn gist(self) -> &'static str {
                match self { $(Self::$guard => $gist),* }
            }
        }
    };
}

guards! {
    IntentFirst Create I1 "The intent is written before the POST."
        "POST, crash, and the object does not record it: POST again"
    IntentVersion Replicas I1 "The intent's patch has the resourceVersion of the object that it is based on."
        "a new leader whose cache has no intent writes its own over the old one: two POSTs"
    FinalizerWithIntent Create I2 "The finalizer is set in the same patch as the intent."
        "the object is deleted while its POST is in flight, and disappears immediately"
    UnknownNeverPosts Create I1 "While a create is unresolved, no create is sent."
        "the response is lost, the next attempt is sent, the first takes effect late"
    AnsweredFirst Create AnswersAreRecorded "A remembered response takes precedence over the object."
        "the id is known, and a reconcile reports an unresolved create"
    OwnIntentOnly Replicas I1 "What a process remembers of an attempt counts only for its own intent."
        "two leaders write an intent of the same number, and the response to one is lost: it remembers the create as not sent, and sends the next"
    LastAttemptOnly Replicas I1 "Where the intent was removed, memory counts only if the process has been the leader ever since."
        "a deposed leader remembers that attempt 1 was not sent; the other leader sent attempt 2, and its intent was removed: the create is sent again"
    RecordWithoutIntent Edits I1 "A record of an attempt without its intent is an unresolved create."
        "crash, recorded as unknown, `kubectl replace` removes the intent: created again"
    UnresolvedIsRecorded Edits I1 "An unresolved create is recorded in the status, also by a process that only finds its intent."
        "crash before the status, a new process finds only the intent, the intent is removed: created again"
    ConflictAfterCreateAgain Conflicts I2 "A conflict after create-again may be with the channel of the abandoned attempt."
        "the abandoned attempt takes effect, the next one gets 409 and counts as without effect: the deletion leaves the channel"
    ManifestWins Create ManifestNames "An id is not bound to a manifest that names another."
        "`spec.channelId` is set during the POST, and the object is bound to the response's id"
    ResultOutlivesReconcile Create AttemptsEnd "A reconcile does not overwrite the result of a create in flight."
        "a reconcile that began during the POST ends after it and overwrites the result: the create counts as in flight for ever"
    StatusVersion Replicas IdsAreKept "The status write has the resourceVersion of the object that it was computed from."
        "an old leader writes its id to the status, then the new one overwrites it"
    StatusUnchanged Replicas IdsAreKept "A status is applied to a newer version only where its status is unchanged."
        "an old leader writes its id to the status after a 409 and a fresh read, and the new one overwrites it"
    SameManifestId Ownership ManifestNames "A status is applied to a newer version only where the manifest names the same id."
        "`spec.channelId` is corrected during the adoption, and the old one is bound"
    RecordUnfenced Replicas AnswersAreRecorded "An id is written to the status whoever is the leader."
        "the response arrives after the Lease was lost: the id is never recorded"
    EpochFence Replicas I1 "An effect starts only in the epoch of its decision."
        "intent, paused, another leader; a user sets create-again; the paused one continues: two POSTs"
    BoundUid Copies I2 "An id in the status is trusted only for the object that it was bound to."
        "the first object retains its channel and is deleted; a copy with its status is deleted, and deletes the channel"
    Claims Ownership I9 "An id is reserved while it is being bound."
        "both read the cache before either has bound the id"
    UnsureKeepsClaim HandOver I9 "A reservation remains while a status that binds its object may have been stored."
        "the response to the adoption is lost, the next reconcile gets a conflict, and another Channel adopts the id"
    Owner Ownership I9 "Of two Channels that name one id only the owner acts."
        "the second adopts the channel that the first is bound to"
    ClaimsHold HandOver I23 "A living Channel of the same namespace that names the id blocks the DELETE."
        "the manifest is renamed with its id pinned, and the deletion of the old object deletes the channel"
    LastCheck HandOver I23 "Claims are checked again right before the DELETE."
        "the reconcile starts, the renamed manifest is applied, and DELETE is sent"
    DeleteReserves HandOver I9 "A DELETE reserves its id from the last check."
        "the id is unclaimed, another Channel adopts it, and DELETE is sent"
    HandOver HandOver I9 "A terminating Channel is removed without a DELETE while a living one is bound."
        "the renamed manifest is bound, and the deletion of the old object deletes the channel"
    HeirAfresh HandOver I17 "The heir is read from the API server before the old finalizer is removed."
        "the cache still shows the heir, which is deleted: the old object is removed, and the channel remains"
    OwnersConfirmation Tenants I23 "A claim of another namespace makes the deletion wait for its owner's confirmation."
        "a Channel of another namespace reads the id, and the owner's deletion deletes the channel"
    OwnNamespace Tenants I9 "A channel is handed over only inside its namespace."
        "a Channel of another namespace names the id of one that is being deleted, and takes it over"
    ShownRanks Tenants Ranks "A Channel without a successful read of the id has no rank."
        "an older Channel that is suspended names the id, and its owner is rejected"
    TerminatingAdoptsNothing Ownership I9 "A terminating Channel adopts nothing."
        "the adoption is written after the deletion began, when another Channel already adopts the id"
    Proof Absence I8 "A 404 counts only where a later read confirms that the API key belongs to the workspace."
        "a key of another tenant answers 404, and the channel counts as deleted"
    ReadWith Blind I8 "Where the API key can't read workspaces, only the key that last read the channel proves the absence."
        "a key of another tenant, which can't read workspaces either, answers 404"
    AbsenceTwice Absence I8 "An absence must be proven twice, with an interval."
        "one false 404 removes the finalizer"
    WorkspaceRecorded Absence I7 "The workspace that a channel was bound in is recorded and compared."
        "the Workspace is recreated and names another workspace: the DELETE is sent there"
    FreshRead Deletion I2 "The object is read again right before the DELETE."
        "the policy becomes Retain after the cache's version: DELETE is sent"
    RemovalVersion Deletion I17 "The finalizer removal has the resourceVersion of the object that it is based on."
        "the policy becomes Delete after the decision to retain"
    RemovalDecidedAgain Deletion I17 "Where the manifest has changed, the finalizer removal is planned again."
        "the policy becomes Delete after the decision to retain, and the removal is repeated after a 409 and a fresh read"
    FinalizerRestored Edits I2 "A removed finalizer is restored."
        "the finalizer is removed and a reconcile does not restore it; then the object is deleted"
    WriteAhead Requests I13 "A test or retry is counted in the status before it is sent."
        "the test is sent, the leader changes or the process ends, and it is sent again"
    AbsenceWindow Lag I24 "Within the window of a write a 404 has no effect."
        "two reads are older than the create: the channel is reported as deleted"
    DeleteWindow Lag I8 "Within the window of a write a 404 to the DELETE has no effect."
        "two DELETEs reach a replica without the create yet: the object is removed, and the channel remains"
    StartAbsence Lag I24 "After a start a 404 has no effect either, because an earlier process may have written."
        "created and recorded, crash, and two reads of the new process are older than the create"
    NotFoundTwice Lag I8 "For a living object too, an absence must be read twice, with an interval."
        "one false 404 reports the channel as deleted"
    DeletedWindow Lag I24 "A channel that was just deleted is not adopted, although a read still shows it."
        "the DELETE succeeds, the object is removed, and another Channel adopts the deleted id"
    StartDeleted Lag I24 "Shortly after a start no channel is adopted from a terminating object."
        "the DELETE succeeds, crash, and the Channel that takes over still reads the deleted channel"
    ValuesWindow LagValues I24 "Within the window of an update older values are no drift."
        "an old value is read after the PATCH, which is sent again, and is reported as a drift correction"
    RevertsAfterwards LagValues Converges "Within the window of an update older values count as no reverts."
        "an old value is read after each of three PATCHes, and oHallo is reported to revert them"
    SentWhole LagValues I15 "Where a read may be older than the last update, a newer manifest is sent whole."
        "the manifest is changed back, a read still shows that value, and the Channel is Ready while oHallo has the other"
    StartValues LagValues I24 "Shortly after a start older values are no drift either."
        "PATCH and status are written, crash, and the new process reads the old value"
    StartAdopted LagValues I15 "Shortly after a start, no read is trusted for an adoption that an earlier process may have started."
        "adopted and updated, crash before the status, the manifest is changed back, and a read still shows that value"
    StartGeneration LagValues I15 "Shortly after a start, no read is trusted if the manifest is newer than the status."
        "the manifest is changed and sent, crash before the status, it is changed back, and a read still shows that value"
    LostIsSentAgain LagValues I15 "An update whose response was lost is sent again, whatever a read shows."
        "the manifest is changed back, the update to it is lost, and a read still shows the old value"
    AppliedWhenSure LagValues I15 "A doubtful read does not confirm values as applied."
        "the update is lost, a read still shows the old value, the status reports it as applied, crash, and the new process trusts that status"
    RetryWindow LagRetries I24 "Within the window of a retry the state `error` has no effect."
        "the last retry succeeds, the read still shows the failure, and the retries are reported as failed"
    StartRetry LagRetries I24 "Shortly after a start the state `error` has no effect, unless the status announces the first retry."
        "the retry succeeds and its count is removed, crash, and the read still shows the failure"
    IntentShown Stripped I1 "A POST is sent only where the returned object shows the intent."
        "the intent is not stored, POST, crash, and the object does not record it: POST again"
    FinalizerShown Stripped I2 "A POST is sent only where the returned object shows the finalizer."
        "it is not stored, POST, and the object is deleted and disappears immediately"
    IdShown Stripped I25 "An id is bound only where the returned status shows it."
        "the id is not stored, and the object is Ready with an id that no status holds"
    IdInMemory Forged AnswersAreRecorded "A binding that the status lost is written again from memory."
        "the id is removed from the status, and the reconcile that knew it reports an unknown outcome"
    MemoryFirst Forged I1 "What a process remembers of its attempt takes precedence over a status that reports its end."
        "the response is lost, a user writes NotSent, the next attempt is sent, and the first takes effect late"
    FenceRightBeforePost Replicas I1 "The fence stands right before the POST, not only before the intent."
        "the intent is written, another leader finds it, a user sets create-again, and both POST"
    FreshReadAfterWait Deletion I2 "The object is read again after the wait for the rate limit."
        "the object is read, the policy becomes Retain during the wait, and DELETE is sent"
    ClaimsAfterWait HandOver I23 "Claims are checked after the wait and after the fresh read."
        "the claims are checked, the renamed manifest is applied during the wait, and DELETE is sent"
    ReserveBeforeDelete HandOver I9 "The id is reserved before the DELETE is sent, not after it."
        "DELETE is sent, and another Channel adopts the id before the reservation"
    CountBeforeRetry Retries I13 "A retry is counted before it is sent, not after it."
        "the retry is sent, the process ends before it is counted, and the next one sends it again"
    CountBeforeTest Requests I13 "A test is counted before it is sent, not after it."
        "the test is sent, the process ends before it is counted, and the next one sends it again"
    FenceAfterWait LagReplicas I15 "The fence of an update stands after the wait for the rate limit."
        "the old leader waits, the new one sends a newer manifest, and the old one sends its own over it"
    CacheLag Create NothingInVain "A reconcile of an older version than this process wrote does nothing."
        "the intent is stored and the cache does not have it yet: the next reconcile writes another, which only its resourceVersion rejects"
}

// === impl Guard ===

impl Guard {
    /// Its row in docs/contributing/model.md.
    pub fn row(self) -> String {
        let says = self.says().trim_end_matches('.');
        format!("| {self} | {says} | {:?} | {:?} | {} |", self.scenario(), self.breaks(), self.gist())
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
