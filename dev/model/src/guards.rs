//! What the protocol rests on. Each can be switched off in the model, which must then break an invariant.

use std::fmt;

use crate::properties::Invariant;

macro_rules! guards {
    ($($guard:ident $scenario:ident $breaks:ident $says:literal $gist:literal)*) => {
        /// One guard of the protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Guard { $(#[doc = $says] $guard),* }

        impl Guard {
            pub const ALL: &'static [Self] = &[$(Self::$guard),*];

            /// In which scenario it is switched off.
            pub fn scenario(self) -> crate::scenarios::Name {
                match self { $(Self::$guard => crate::scenarios::Name::$scenario),* }
            }

            /// What is broken without it.
            pub fn breaks(self) -> Invariant {
                match self { $(Self::$guard => Invariant::$breaks),* }
            }

            /// What it is, in one sentence.
            pub fn says(self) -> &'static str {
                match self { $(Self::$guard => $says),* }
            }

            /// What happens without it.
            pub fn gist(self) -> &'static str {
                match self { $(Self::$guard => $gist),* }
            }
        }
    };
}

guards! {
    IntentFirst Create I1 "The intent is written before the POST."
        "POST, crash, and the object says nothing of it: POST again"
    IntentVersion Replicas I1 "The intent carries the version of the object that it was decided on."
        "a new leader whose cache has no intent writes its own over the old one: two POSTs"
    FinalizerWithIntent Create I2 "The finalizer is set in the same patch as the intent."
        "the object is deleted while its POST is under way, and is gone at once"
    UnknownNeverPosts Create I1 "While the outcome of an attempt is unknown nothing is sent."
        "the answer is lost, the next attempt is sent, the first lands late"
    AnsweredFirst Create AnswersAreRecorded "An answer that is remembered goes before what the object says."
        "the id is known, yet a pass parks the object as of unknown outcome"
    OwnIntentOnly Replicas I1 "What a process remembers of an attempt counts for the intent that it wrote itself."
        "the write of an intent meets another leader's of the same number and is not answered: remembered as not sent, so the next is sent"
    LastAttemptOnly Replicas I1 "Where the intent was removed, what a process remembers counts only while it has led ever since."
        "a deposed leader remembers that attempt 1 was not sent; the other sent attempt 2, whose intent was removed: sent anew"
    RecordWithoutIntent Edits I1 "A record of an attempt whose intent was removed parks."
        "crash, recorded as unknown, `kubectl replace` takes the intent: created anew"
    ParkedIsRecorded Edits I1 "A parked attempt is recorded in the status, also by a process that only finds its intent."
        "crash before the status, a new process parks on the intent alone, the intent is removed: created anew"
    ConflictAfterCreateAgain Conflicts I2 "A conflict after create-again may be with the channel of the attempt given up."
        "the attempt given up lands, the next is refused with 409 and counts as nothing made: the deletion leaves the channel"
    ManifestWins Create ManifestNames "An id is not bound to a manifest that names another."
        "`spec.channelId` is set during the POST, and the answer is bound all the same"
    TaskTellsOfItself Create AttemptsEnd "A pass leaves what a create under way knows as it is."
        "a pass that began during the POST ends after it, and for ever says that it is under way"
    StatusVersion Replicas IdsAreKept "The status carries the version of the object that it was computed from."
        "an old leader writes its id down, then the new one its own status over it"
    StatusUnchanged Replicas IdsAreKept "A status is laid over a newer version only where the status there is still the same."
        "the same, after a 409 and a fresh read"
    SameManifestId Ownership ManifestNames "A status is laid over a newer version only where the manifest names the same id."
        "`spec.channelId` is corrected during the adoption, and the old one is bound"
    RecordUnfenced Replicas AnswersAreRecorded "An id is written down whoever leads."
        "the answer comes after the lease went: nobody ever learns the id"
    EpochFence Replicas I1 "An effect begins only in the epoch that it was decided in."
        "intent, paused, another leads; a person looks and says create-again; the paused one goes on: two POSTs"
    BoundUid Copies I2 "An id in the status is believed only for the object that it was bound to."
        "the first object retains its channel and goes; a copy with its status is deleted, and deletes it"
    Claims Ownership I9 "An id is reserved while it is being bound."
        "both pass over the cache before either has bound the id"
    UnsureKeepsClaim HandOver I9 "A reservation stays while a status that binds its object may have been stored."
        "the answer to the adoption is lost, the next pass meets a conflict, and another Channel adopts the id"
    Owner Ownership I9 "Of two Channels that name one id only the owner acts."
        "the second adopts what the status of the first holds"
    ClaimsHold HandOver I23 "A living Channel of the same namespace that names the id holds the DELETE back."
        "the manifest is renamed with its id pinned, and the old object's deletion takes the channel along"
    LastCheck HandOver I23 "Claims are asked for once more, right before the DELETE."
        "the pass begins, the renamed manifest is applied, and DELETE is sent"
    DeleteReserves HandOver I9 "A DELETE reserves its id from the last check on."
        "nobody claims the id, another Channel adopts it, and DELETE is sent"
    HandOver HandOver I9 "A terminating Channel goes without a DELETE while a living one is bound."
        "the renamed manifest is bound, and the old object's deletion takes the channel along"
    HeirAfresh HandOver I17 "Who takes a channel over is read afresh before the old finalizer goes."
        "the cache still shows the heir, which is deleted: the old object goes, and the channel stays"
    OwnersWord Tenants I23 "A claim of another namespace makes the deletion wait for its owner's word."
        "a Channel of another namespace reads the id, and the owner's deletion takes the channel along"
    OwnNamespace Tenants I9 "A channel is handed over inside its namespace only."
        "a Channel of another namespace names the id of one that is being deleted, and takes it over"
    ShownRanks Tenants Ranks "Who was not shown to read an id ranks nowhere."
        "an older Channel that is suspended names the id, and its true owner is refused"
    DyingAdoptsNothing Ownership I9 "What is being deleted meanwhile adopts nothing."
        "the adoption is written after the deletion began, when another Channel already adopts the id"
    Proof Absence I8 "A 404 counts only where the key is shown to be the tenant's after it."
        "a key of another tenant answers 404, and the channel counts as gone"
    ReadWith Blind I8 "Where the key may not read workspaces, only the key that last read the channel proves."
        "a key of another tenant, which may not read workspaces either, answers 404"
    AbsenceTwice Absence I8 "An absence must be proven twice, some time apart."
        "one 404 that is not true takes the finalizer off"
    WorkspaceRecorded Absence I7 "The workspace that a channel was bound in is recorded and compared."
        "the Workspace is made anew and names another workspace: DELETE goes there"
    FreshRead Deletion I2 "The object is read again right before the DELETE."
        "the policy becomes Retain after the cache's version: DELETE is sent"
    PartingVersion Deletion I17 "The finalizer is taken off with the version of the object that it was decided on."
        "the policy becomes Delete after the decision to retain"
    PartingDecidedAgain Deletion I17 "Where the manifest changed meanwhile the parting is decided again."
        "the same, after a 409 and a fresh read"
    FinalizerPutBack Edits I2 "A finalizer that was removed is put back."
        "the finalizer is removed and a pass is content; then the object is deleted"
    WriteAhead Requests I13 "A test or retry is counted in the status before it is sent."
        "the test is sent, another leads or the process dies, and it is sent again"
    AbsenceWindow Lag I24 "Within the window of a write a 404 says nothing."
        "two reads are older than the create: the channel is said not to be there"
    DeleteWindow Lag I8 "Within the window of a write a 404 to the DELETE says nothing."
        "two DELETEs are answered by who does not know of the create yet: the object goes, and the channel stays"
    StartAbsence Lag I24 "The same after a start, when an earlier process may have written."
        "created and recorded, crash, and two reads of the new process are older than the create"
    NotFoundTwice Lag I8 "Also of a living object an absence must be read twice, some time apart."
        "one 404 that is not true says that the channel is not there"
    DeletedWindow Lag I24 "What was deleted a moment ago is not adopted, though a read still shows it."
        "the DELETE is answered ok, the object goes, and another Channel adopts the id that is no more"
    StartDeleted Lag I24 "Shortly after a start nothing is adopted from an object that is being deleted."
        "the DELETE is answered ok, crash, and the Channel that takes over still reads what is no more"
    ValuesWindow LagValues I24 "Within the window of an update older values are no drift."
        "an old value is read after the PATCH, which is sent again, and is said to correct a drift"
    RevertsAfterwards LagValues Converges "Within the window of an update older values count as no reverts."
        "an old value is read after each of three PATCHes, and oHallo is said not to keep them"
    SentWhole LagValues I15 "Where a read may be older than the last update, a newer manifest is sent whole."
        "the manifest is changed back, a read still shows that very value, and it is Ready while oHallo has the other"
    StartValues LagValues I24 "Shortly after a start older values are no drift either."
        "PATCH and status are written, crash, and the new process reads the value of before"
    StartAdopted LagValues I15 "Nor is a read believed of an adoption that an earlier process may have begun."
        "adopted and updated, crash before the status, the manifest is changed back, and a read still shows that very value"
    StartGeneration LagValues I15 "Nor where the manifest is newer than the status."
        "the manifest is changed and sent, crash before the status, it is changed back, and a read still shows that very value"
    LostIsSentAgain LagValues I15 "An update whose answer was lost is sent again, whatever a read shows."
        "the manifest is changed back, the update to it is lost, and a read still shows the value of before"
    AppliedWhenSure LagValues I15 "What a read in doubt shows does not count as applied."
        "the same, the status says that it was applied, crash, and the new process believes that status"
    RetryWindow LagRetries I24 "Within the window of a retry a failed provisioning is not judged."
        "the last retry helps, the read still shows the failure, and retries are said to have failed"
    StartRetry LagRetries I24 "Nor is it shortly after a start, but where the status announces the first retry."
        "the retry helps and is counted no more, crash, and the read still shows the failure"
    IntentShown Stripped I1 "A POST is sent only where the returned object shows the intent."
        "the intent is not kept, POST, crash, and the object says nothing of it: POST again"
    FinalizerShown Stripped I2 "And the finalizer."
        "it is not kept, POST, and the object is deleted and gone at once"
    IdShown Stripped I25 "An id is bound where the returned status shows it."
        "the id is not kept, and the object is Ready with an id that no status holds"
    IdInMemory Forged AnswersAreRecorded "A binding that the status lost is written again from memory."
        "the id is taken out of the status, and the pass that knew it says that the outcome is unknown"
    OwnWordFirst Forged I1 "What a process remembers of its attempt goes before a status that says that it is over."
        "the answer is lost, a person writes NotSent, the next attempt is sent, and the first lands late"
    CacheLag Create NothingInVain "A pass over an older version than this process wrote does nothing."
        "the intent stands and the cache still has none: the next pass writes another, which only its version refuses"
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
