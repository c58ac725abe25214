//! What the reads of a reconcile add to its state, and which reads it needs.

use std::time::Duration;

use crate::api::conditions::Reason;
use crate::api::{annotation, same_id};
use crate::channel::binding::{self, AttemptId, Binding, ObjectBinding};
use crate::channel::consistency::{self, Consistency};
use crate::channel::freshness;
use crate::channel::in_memory_state::{CACHE_LAG, REVERT_HORIZON};
use crate::channel::model::{Claims, DesiredCredentials, Observed, Predecessor, Remote, WorkspaceAccess};
use crate::channel::notice::Notice;
use crate::channel::plan::delete::claims::{note, waiting_message};
use crate::channel::plan::delete::{self, WorkspaceProbe};
use crate::channel::plan::existing;
use crate::channel::spec;
use crate::channel::state::{Now, State};
use crate::channel::triggers::Triggers;
use crate::classify::{ApiError, CallError, ErrorKind};
use crate::failure::{Failure, Retry};
use crate::index::Shown;
use crate::remote::{Id, RemoteChannel};
use crate::secret::Redactor;

/// The most candidates that a message names.
const MAX_CANDIDATES: usize = 3;

/// What a reconcile of a living object reads from oHallo.
#[derive(Clone, Debug, PartialEq)]
pub enum RemoteRead {
    Nothing,
    /// The channel was active, and only a Secret has changed since the last read.
    Skip {
        next_look: Duration,
    },
    /// The channel that the object is bound to or adopts.
    Channel(Id),
    /// Channels that an unresolved create may have created.
    Candidates,
    /// The channel that a create returned while the manifest now names another: once it is deleted, the named one is
    /// bound.
    AnsweredChannel(Id),
}

// === impl State ===

impl State {
    /// Begins the reads: with the workspace, and the redactor of its API key.
    pub fn see_workspace(
        &mut self,
        workspace: Result<WorkspaceAccess, Failure>,
        workspace_suspended: bool,
        redactor: Option<Redactor>,
    ) {
        self.observed = Observed::unread(workspace, workspace_suspended);
        if let Some(redactor) = redactor {
            self.redactor = redactor;
        }
    }

    /// The id that the object is bound to, or that a living one adopts.
    pub fn own_id(&self, now: Now) -> Option<String> {
        self.input(now).binding().channel_id()
    }

    /// Which reads of this id may be older than a write.
    pub fn see_window(&mut self, id: &str, consistency: &Consistency, now: Now) {
        self.take_window(id, consistency, now);
    }

    /// Whether the object or its workspace is suspended: nothing is read from oHallo.
    pub fn is_suspended(&self) -> bool {
        self.object.spec.suspend == Some(true) || self.observed.workspace_suspended
    }

    pub fn see_credentials(&mut self, credentials: DesiredCredentials) {
        self.observed.credentials = credentials;
    }

    /// What to read from oHallo. `began`: the inputs at the start of this reconcile.
    pub fn remote_read(&self, began: &Triggers, now: Now) -> RemoteRead {
        if self.observed.workspace.is_err() {
            return RemoteRead::Nothing;
        }
        let ObjectBinding::Living(binding) = self.input(now).binding() else { return RemoteRead::Nothing };
        match binding {
            Binding::Bound(id) | Binding::Adopt(id) if self.identity_holds() => {
                match (self.skipped_read(began, now), Id::parse(&id)) {
                    (Some(next_look), _) => RemoteRead::Skip { next_look },
                    (None, Some(id)) => RemoteRead::Channel(id),
                    (None, None) => RemoteRead::Nothing,
                }
            }
            Binding::UnresolvedCreate(_) => RemoteRead::Candidates,
            Binding::ConflictingIds { answered, .. } => {
                Id::parse(&answered).map_or(RemoteRead::Nothing, RemoteRead::AnsweredChannel)
            }
            Binding::Bound(_)
            | Binding::Adopt(_)
            | Binding::InFlight
            | Binding::Record { .. }
            | Binding::StatusOfOtherObject(_)
            | Binding::NotCreated
            | Binding::Create { .. } => RemoteRead::Nothing,
        }
    }

    /// A rotated Secret requires no new read of a channel that was active a moment ago: one call for each Channel, not
    /// two.
    fn skipped_read(&self, began: &Triggers, now: Now) -> Option<Duration> {
        let cooldown = self.memory.cooldown.as_ref().filter(|_| existing::known_active(&self.input(now)))?;
        cooldown.remaining(now.instant, |was| was.changed_but_secrets(began))
    }

    /// Whether the workspace is still the one in which the channel was bound: no call is made in another.
    fn identity_holds(&self) -> bool {
        let recorded = self.status.workspace_id.as_deref();
        let place = self.observed.workspace.as_ref();
        place.is_ok_and(|place| recorded.is_none_or(|id| same_id(id, place.workspace_id.as_str())))
    }

    pub fn skip_read(&mut self, next_look: Duration) {
        self.observed.remote = Remote::SkippedRead { next_look };
    }

    /// Which of the listed channels an unresolved create of this object may have created. `is_owned`: another Channel
    /// holds the id.
    pub fn candidates(
        &self,
        listed: &[RemoteChannel],
        is_owned: impl Fn(&str) -> bool,
        now: Now,
    ) -> Vec<String> {
        let recorded = self.status.create.as_ref().and_then(|create| create.sent_at.as_deref());
        let view = self.input(now);
        let intent = view.annotation(annotation::CREATE_INTENT);
        let sent_at = recorded.or(intent.and_then(|intent| AttemptId::time_of(intent)));
        let spec = view.spec();
        let fits = |remote: &&RemoteChannel| {
            remote.channel_type == spec.channel_type
                && remote.display_name == spec.display_name
                && binding::could_originate_from(sent_at, remote.created_at.as_deref(), now.wall)
                && !is_owned(remote.id.as_str())
        };
        listed.iter().filter(fits).take(MAX_CANDIDATES).map(|remote| remote.id.to_string()).collect()
    }

    /// Records the candidates. Their list is undocumented: a rejection is remembered for the workspace.
    pub fn see_candidates(&mut self, listed: Result<Vec<String>, CallError>) {
        let unsupported = |error: &ApiError| {
            matches!(error.kind, ErrorKind::NotFound | ErrorKind::Unsupported | ErrorKind::Forbidden)
        };
        if matches!(&listed, Err(CallError::Failed(error)) if unsupported(error)) {
            self.notices.push(Notice::ListUnsupported);
        }
        self.observed.candidates = listed.unwrap_or_default();
    }

    /// Records the channel as oHallo returned it.
    pub fn found(&mut self, remote: RemoteChannel, now: Now) {
        if self.input(now).reconcile_requested() {
            self.memory.last_update_digest = None;
        }
        // A partly read manifest can't be compared, nor can a read that may be older than the last write.
        let window = &self.observed.window;
        if self.object.spec.left_out.is_none() && window.values.is_none() && window.began.is_none() {
            let differs = self.input(now).differences(&remote);
            let digest = self.input(now).digest();
            let horizon = REVERT_HORIZON.max(self.interval * 4);
            let paths = differs.iter().map(|differs| differs.path.as_str());
            self.memory.note_differences(paths, &digest, now.instant, horizon);
        }
        if let Ok(place) = &mut self.observed.workspace
            && !std::mem::replace(&mut place.has_read, true)
        {
            self.notices.push(Notice::KeyReads);
        }
        self.memory.absence = None;
        self.memory.last_read_at = Some(now.instant);
        self.observed.remote = Remote::Found(Box::new(remote));
    }

    /// Records a 404 to a read. Inside a consistency window it means nothing; otherwise returns `true`: the workspace
    /// must be read, to learn whether the API key belongs to it.
    pub fn not_found(&mut self, now: Now) -> bool {
        match self.stale_absence(now) {
            Some(remote) => {
                self.observed.remote = remote;
                false
            }
            None => true,
        }
    }

    /// Records what the read of the workspace showed after a 404 for this id. An absence counts when it is seen twice.
    pub fn probed(&mut self, id: &Id, probe: WorkspaceProbe, now: Now) {
        self.observed.remote = if self.proves_absence(probe) {
            let again = freshness::note_absence(&mut self.memory, id.as_str(), false, now.instant);
            again.map_or(Remote::Absent { proven: true }, |again| Remote::Stale { again })
        } else {
            self.memory.absence = None;
            Remote::Absent { proven: false }
        };
    }

    /// The state of a channel whose 404 may be older than a write; `None` outside a consistency window.
    pub(super) fn stale_absence(&self, now: Now) -> Option<Remote> {
        let end = self.observed.window.absence?;
        let again = consistency::next_stale_poll(self.memory.stale_reads, end, now.instant);
        Some(Remote::Stale { again })
    }

    /// The workspace whose read shows whether a 404 proves an absence: the one that the channel was bound in.
    pub fn workspace_to_probe(&self) -> Option<Id> {
        let place = self.observed.workspace.as_ref().ok()?;
        let recorded = self.status.workspace_id.as_deref().and_then(Id::parse);
        Some(recorded.unwrap_or_else(|| place.workspace_id.clone()))
    }

    /// A 404 alone proves nothing: the key must also show that it belongs to the channel's workspace.
    pub(super) fn proves_absence(&self, probe: WorkspaceProbe) -> bool {
        let place = self.observed.workspace.as_ref();
        place.is_ok_and(|place| delete::absence_is_proven(&self.status, place, probe))
    }

    /// Concludes the read of [`RemoteRead::AnsweredChannel`]: the channel of the create concerns this object only until it
    /// is deleted.
    ///
    /// # Errors
    /// A deferral: the read may be stale, or the object is decided on again without the create.
    pub fn resolve_conflicting_ids(&mut self) -> Result<(), Failure> {
        match std::mem::replace(&mut self.observed.remote, Remote::Unread) {
            Remote::Stale { again } => Err(Failure::deferred(again)),
            Remote::Absent { proven: true } => {
                self.attempt_recorded();
                self.memory.attempt = None;
                Err(Failure::deferred(Duration::from_secs(1)))
            }
            Remote::Unread
            | Remote::SkippedRead { .. }
            | Remote::Found(_)
            | Remote::Absent { proven: false } => Ok(()),
        }
    }

    /// What this reconcile learned about the id, for the ranks of the Channels that name it; `None` where it learned
    /// nothing. `failure`: of the reads.
    pub fn shown(&self, failure: Option<&Failure>, now: Now) -> Option<Shown> {
        let view = self.input(now);
        let fits = match &view.observed.remote {
            Remote::Found(remote) => existing::identity_mismatch(&view, remote).is_none(),
            Remote::SkippedRead { .. } => true,
            Remote::Stale { .. } => return None,
            Remote::Unread | Remote::Absent { .. } => false,
        };
        let adopts =
            !view.observing() && view.bound_id().is_none() && spec::invalid_spec(view.spec()).is_none();
        match failure.or(view.observed.workspace.as_ref().err()) {
            // Nothing was read.
            Some(Failure { retry: Retry::Deferred(_), .. }) => None,
            Some(Failure { reason: Reason::WorkspaceNotAllowed, .. }) => Some(Shown::Denied),
            Some(_) => Some(Shown::Nothing),
            None if fits && adopts => Some(Shown::Able),
            None if fits => Some(Shown::Reads),
            None => Some(Shown::Nothing),
        }
    }

    /// Whether it matters which other Channel holds the id: only a Channel that can read the channel learns that.
    pub fn asks_for_owner(&self, shown: Shown) -> bool {
        !self.object.spec.is_observe() && matches!(shown, Shown::Able | Shown::Reads)
    }

    /// Records the Channel that hands the id over, and the one that holds it: its name, unless it is in another namespace.
    pub fn see_owner(&mut self, predecessor: Option<Predecessor>, owner: Option<Option<String>>) {
        self.observed.owner = owner.filter(|_| predecessor.is_none());
        self.observed.predecessor = predecessor;
    }

    /// Ends the reservation of a DELETE whose answer was lost long ago.
    pub fn forget_lost_delete(&mut self, now: Now) {
        let lost = self.memory.delete_unsure;
        if lost.is_some_and(|at| now.instant.saturating_duration_since(at) >= CACHE_LAG) {
            self.release_id();
        }
    }

    pub(super) fn release_id(&mut self) {
        self.memory.delete_unsure = None;
        self.notices.push(Notice::ReleaseId);
    }

    /// Whether the deletion already waits for claims of other Channels, so that all namespaces are checked.
    pub fn waits_for_claims(&self) -> bool {
        self.memory.wait.is_some() || waiting_message(&self.status).is_some()
    }

    /// Records the claims of other Channels.
    pub fn see_claims(&mut self, claims: Claims, now: Now) {
        let waited = self.memory.wait.is_some();
        note(&mut self.memory, waiting_message(&self.status), &claims, now.instant);
        self.observed.claims = Some(claims);
        if !waited && self.memory.wait.is_some() {
            self.notices.push(Notice::WaitsForClaims);
        }
    }
}
