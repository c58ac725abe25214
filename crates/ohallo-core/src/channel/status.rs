//! The result of a reconcile: one match from its outcome to conditions, requeue time and events.

pub mod fallback;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::annotation;
use crate::api::channel::{AppliedStatus, ChannelStatus, Difference, TestStatus};
use crate::api::conditions::{Reason, kind};
use crate::api::values::{Origin, ReconcileResult, RemoteState, TestResult};
use crate::backoff;
use crate::channel::binding;
use crate::channel::model::{Conclusion, ConclusionKind, DesiredCredentials, Outcome, PlanInput, Remote};
use crate::channel::plan::{delete, existing, update};
use crate::classify::Class;
use crate::conditions::{self, Progress, Status, Writer};
use crate::failure::{Failure, Retry};
use crate::secret::Redactor;
use crate::text::{self, cut_request, seconds};

/// The status to write, with the events and the requeue time.
#[derive(Clone, Debug)]
pub struct Summary {
    pub status: ChannelStatus,
    /// The requeue time; `None` where nothing is left to reconcile.
    pub wake: Option<Duration>,
    /// Warning events for reasons that are new in this status.
    pub warnings: Vec<(Reason, String)>,
    /// One of the warnings is about claims of other Channels.
    pub warns_of_claims: bool,
    /// Transient failures in a row.
    pub failures: u32,
    /// oHallo has not finished with the channel.
    pub busy: bool,
    /// Stale reads in a row.
    pub stale: u32,
    /// The status is not written.
    pub silent: bool,
    /// The result for logs and metrics.
    pub result: ReconcileResult,
}

/// What a summary needs besides the plan input.
pub struct SummaryInput<'a> {
    /// 0 to 1.
    pub random: f64,
    /// Redacts the API key that the values from oHallo were read with.
    pub redactor: &'a Redactor,
    /// The effective interval.
    pub interval: Duration,
}

/// The requeue time after an executed step.
const REQUEUE_SOON: Duration = Duration::from_secs(1);

const NOTHING_CALLED: &str = "The operator made no calls for this Channel yet.";

const NOT_READ_LATELY: &str = "The channel was not read for two intervals, because of the rate limit of its API key or because the API key is not loaded yet; the operator reads it as soon as the limit allows.";

/// Summarizes a reconcile.
pub fn summarize(view: &PlanInput, outcome: &Outcome, setting: &SummaryInput) -> Summary {
    let mut writing = StatusBuilder {
        view,
        setting,
        status: view.status.clone(),
        failures: 0,
        busy: false,
        stale: 0,
        lapsed: false,
    };
    writing.facts();
    let (wake, result) = match outcome {
        Outcome::Settled(verdict) => writing.conclusion(verdict),
        Outcome::Failed(failure) | Outcome::PushFailed(failure) => writing.failure(failure),
        Outcome::More => writing.step_done(),
    };
    writing.secondary_conditions(outcome);
    let wake = wake.map(|wake| {
        [writing.next_resend(), writing.ready_expiry()].into_iter().flatten().fold(wake, Duration::min)
    });
    let silent = outcome.silent() && !writing.lapsed;
    let StatusBuilder { mut status, failures, busy, stale, .. } = writing;
    cut(&mut status, setting.redactor);
    let mut warnings = warnings(&view.status.conditions, &status.conditions);
    let claimed = delete::claims::waiting_message(&status).filter(|_| delete::claims::warning_due(view));
    warnings.extend(claimed.map(|message| (Reason::ClaimedByAnother, message.to_owned())));
    let warns_of_claims = claimed.is_some();
    Summary { status, wake, warnings, warns_of_claims, failures, busy, stale, silent, result }
}

struct StatusBuilder<'a> {
    view: &'a PlanInput<'a>,
    setting: &'a SummaryInput<'a>,
    status: ChannelStatus,
    failures: u32,
    busy: bool,
    stale: u32,
    /// Ready has expired, so the status is written although the outcome is silent.
    lapsed: bool,
}

// === impl StatusBuilder ===

impl StatusBuilder<'_> {
    fn conditions(&mut self) -> Writer<'_> {
        Writer::new(&mut self.status.conditions, self.view.generation(), self.view.now)
    }

    /// The facts that do not depend on the outcome.
    fn facts(&mut self) {
        let view = self.view;
        self.restore_binding();
        // Before `observedGeneration` changes: the policy depends on the generation of the last reconcile.
        let policy = delete::policy_in_force(view.channel, &self.status);
        self.status.observed_generation = Some(view.generation());
        self.status.last_handled_reconcile_at =
            view.annotation(annotation::RECONCILE_REQUESTED).map(cut_request);
        self.status.deletion_policy = Some(policy.as_str().into());
        if self.status.channel_id.is_some() {
            self.status.create = None;
        }
        if let Some(attempt) = view.binding().unresolved_create() {
            let intent = view.annotation(annotation::CREATE_INTENT);
            self.status.create = Some(binding::unresolved(self.status.create.as_ref(), &attempt, intent));
        }
        if !view.observing() {
            self.status.planned_changes.clear();
        }
        // A reconcile sends a test and records its result; without a result the process ended in between.
        if let Some(test) = &mut self.status.test {
            test.result.get_or_insert_with(|| TestResult::Unknown.as_str().into());
        }
        let Remote::Found(remote) = &view.observed.remote else { return };
        self.status.state = remote.status.clone();
        self.status.created_at = remote.created_at.clone().or(self.status.created_at.take());
        self.status.read_with = view.observed.workspace.as_ref().ok().map(|place| place.read_with.clone());
        if remote.state() == RemoteState::Active
            && let Some(provisioning) = &mut self.status.provisioning
        {
            let handled_request = provisioning.handled_request.take();
            self.status.provisioning =
                handled_request.map(|handled| crate::api::channel::ProvisioningStatus {
                    handled_request: Some(handled),
                    ..Default::default()
                });
        }
        let asked = view.annotation(annotation::RETRY_REQUESTED).map(cut_request);
        if asked.is_some() && remote.state() != RemoteState::Error && !view.observing() {
            self.status.provisioning.get_or_insert_default().handled_request = asked;
        }
        let bound = self.status.channel_id.is_some() && !view.observing();
        let applied = if bound { update::is_applied(view, remote) } else { Some(false) };
        if applied != Some(false) {
            // The next process must not trust a doubtful read either.
            let digest = applied.map(|_| view.digest());
            let enabled = self.status.applied.as_ref().and_then(|applied| applied.enabled);
            self.status.applied = Some(AppliedStatus { enabled, digest });
        }
    }

    /// Restores fields of the binding that were removed while no operator ran, from other evidence.
    fn restore_binding(&mut self) {
        let view = self.view;
        if self.status.bound_to(view.channel.metadata.uid.as_deref().unwrap_or_default()).is_none() {
            return;
        }
        if self.status.origin().is_none() {
            let origin = if view.has_own_intent() { Origin::Created } else { Origin::Adopted };
            self.status.origin = Some(origin.as_str().into());
        }
        if let (None, Remote::Found(remote), Ok(place)) =
            (&self.status.workspace_id, &view.observed.remote, &view.observed.workspace)
            && remote.workspace_id.as_deref() == Some(place.workspace_id.as_str())
        {
            self.status.workspace_id.clone_from(&remote.workspace_id);
        }
    }

    fn conclusion(&mut self, verdict: &Conclusion) -> (Option<Duration>, ReconcileResult) {
        let message = sentence(&verdict.message);
        let reason = verdict.reason;
        let looked = matches!(self.view.observed.remote, Remote::Found(_) | Remote::Absent { proven: true })
            && !matches!(verdict.kind, ConclusionKind::Stale { .. });
        if looked {
            self.drift(&verdict.drift);
        }
        if self.view.observing() && (looked || reason == Reason::NotCreated) {
            self.status.planned_changes.clone_from(&verdict.planned);
        }
        match verdict.kind {
            ConclusionKind::InSync => {
                self.conditions().ready(Status::True, Progress::Done, reason, &message);
                let wake = match self.view.observed.remote {
                    Remote::SkippedRead { next_look } => next_look,
                    _ => backoff::jitter(self.setting.interval, self.setting.random),
                };
                (Some(wake), ReconcileResult::InSync)
            }
            ConclusionKind::WaitingForRemote { longest } => {
                let status = if reason == Reason::Progressing { Status::Unknown } else { Status::False };
                self.conditions().ready(status, Progress::Reconciling, reason, &message);
                self.busy = true;
                (Some(backoff::poll(self.elapsed(), longest)), ReconcileResult::Waiting)
            }
            ConclusionKind::Stale { again } => {
                self.failures = self.view.memory.failures;
                self.busy = self.view.memory.waiting_since.is_some();
                self.stale = self.view.memory.stale_reads.saturating_add(1);
                self.stale_read(reason, &message);
                (Some(again), ReconcileResult::Waiting)
            }
            ConclusionKind::RetryIn(rest) => {
                let now = self.view.now;
                let past = self.status.provisioning.get_or_insert_default();
                let due = now.saturating_add(rest).unwrap_or(now);
                // The stored time is rounded to whole seconds.
                let latest = due.saturating_add(REQUEUE_SOON).unwrap_or(due);
                let stored = past.next_attempt_at.as_deref().and_then(|at| at.parse::<Timestamp>().ok());
                if stored.is_none_or(|stored| stored > latest) {
                    past.next_attempt_at = Some(seconds(due));
                }
                self.conditions().ready(Status::False, Progress::Reconciling, reason, &message);
                (Some(rest.max(REQUEUE_SOON)), ReconcileResult::Waiting)
            }
            ConclusionKind::Failed(need) => self.retry(need, reason, &message),
            ConclusionKind::Suspended => {
                self.conditions().set(kind::SUSPENDED, Status::True, reason, &message);
                self.keep_ready();
                (Some(backoff::STALLED_INTERVAL), ReconcileResult::Suspended)
            }
            ConclusionKind::Blocked { again } => {
                self.conditions().set(kind::DELETION_BLOCKED, Status::True, reason, &message);
                self.keep_ready();
                (Some(again), ReconcileResult::Blocked)
            }
            ConclusionKind::InFlight => (Some(REQUEUE_SOON), ReconcileResult::InFlight),
            ConclusionKind::Finished => (None, ReconcileResult::Gone),
        }
    }

    fn failure(&mut self, failure: &Failure) -> (Option<Duration>, ReconcileResult) {
        let message = sentence(&failure.message);
        if !self.view.terminating() || matches!(failure.retry, Retry::Deferred(_)) {
            return self.retry(failure.retry, failure.reason, &message);
        }
        let reason = match failure.reason {
            Reason::StatusNotStored => Reason::StatusNotStored,
            Reason::AuthenticationFailed => Reason::KeyUnavailable,
            Reason::PermissionDenied => Reason::PermissionDenied,
            Reason::AbsenceNotProven => Reason::AbsenceNotProven,
            _ if failure.class == Some(Class::Rejected) && failure.reason != Reason::RateLimited => {
                Reason::Rejected
            }
            _ => Reason::ApiUnavailable,
        };
        self.failures = self.view.memory.failures.saturating_add(1);
        if failure.reason != Reason::RateLimited {
            self.conditions().set(kind::DELETION_BLOCKED, Status::True, reason, &message);
        }
        let wake = match failure.retry {
            Retry::RetryAfter(after) => after,
            Retry::UserAction | Retry::MissingInput => backoff::MISSING_INPUT_INTERVAL,
            _ => backoff::backoff(self.failures, self.setting.random),
        };
        (Some(wake), ReconcileResult::Blocked)
    }

    /// The table of retries.
    fn retry(&mut self, need: Retry, reason: Reason, message: &str) -> (Option<Duration>, ReconcileResult) {
        match need {
            Retry::UserAction => {
                self.conditions().ready(Status::False, Progress::Stalled, reason, message);
                (
                    Some(backoff::jitter(backoff::STALLED_INTERVAL, self.setting.random)),
                    ReconcileResult::Stalled,
                )
            }
            Retry::ClusterAction => {
                self.failures = self.view.memory.failures.saturating_add(1);
                self.conditions().ready(Status::False, Progress::Stalled, reason, message);
                (Some(backoff::backoff(self.failures, self.setting.random)), ReconcileResult::Stalled)
            }
            Retry::MissingInput => {
                let known = reason != Reason::NotCreated
                    && !(reason == Reason::WorkspaceNotReady && self.status.channel_id.is_some());
                let status = if known { Status::False } else { Status::Unknown };
                self.conditions().ready(status, Progress::Reconciling, reason, message);
                (
                    Some(backoff::jitter(backoff::MISSING_INPUT_INTERVAL, self.setting.random)),
                    ReconcileResult::InputMissing,
                )
            }
            Retry::Backoff => {
                self.failures = self.view.memory.failures.saturating_add(1);
                let patient = self.failures <= backoff::TRANSIENT_TOLERANCE;
                self.unknown_unless_kept(patient, reason, message);
                (Some(backoff::backoff(self.failures, self.setting.random)), ReconcileResult::Transient)
            }
            Retry::RetryAfter(after) => {
                self.failures = self.view.memory.failures;
                self.unknown_unless_kept(true, reason, message);
                (Some(after), ReconcileResult::RateLimited)
            }
            Retry::Deferred(wait) => {
                self.failures = self.view.memory.failures;
                self.busy = self.view.memory.waiting_since.is_some();
                let foreign = self.is_foreign();
                if self.lapsed() {
                    let (reason, message) = if foreign {
                        (Reason::Progressing, NOTHING_CALLED)
                    } else {
                        (Reason::RateLimited, NOT_READ_LATELY)
                    };
                    self.conditions().ready(Status::Unknown, Progress::Reconciling, reason, message);
                    self.lapsed = true;
                }
                (Some(wait), ReconcileResult::Deferred)
            }
        }
    }

    fn step_done(&mut self) -> (Option<Duration>, ReconcileResult) {
        self.failures = self.view.memory.failures;
        let message = "The declared values are being applied.";
        self.unknown_unless_kept(true, Reason::Progressing, message);
        (Some(REQUEUE_SOON), ReconcileResult::Progressing)
    }

    /// Ready keeps its value while it describes this generation and has not expired; otherwise it becomes Unknown.
    fn unknown_unless_kept(&mut self, keep: bool, reason: Reason, message: &str) {
        let current = self.conditions().ready_is_current();
        if !(keep && current) || self.lapsed() {
            // A rejected request certainly had no effect, so Ready is False.
            let status = if reason == Reason::Rejected { Status::False } else { Status::Unknown };
            self.conditions().ready(status, Progress::Reconciling, reason, message);
        }
    }

    /// A stale read changes nothing that was reported for this generation.
    fn stale_read(&mut self, reason: Reason, message: &str) {
        if !self.view.terminating() && (!self.conditions().ready_is_current() || self.lapsed()) {
            self.conditions().ready(Status::Unknown, Progress::Reconciling, reason, message);
        }
    }

    /// Ready is True for this generation, as confirmed by the last read of the channel.
    fn ready_is_fresh(&mut self) -> bool {
        conditions::is_true(&self.status.conditions, kind::READY)
            && self.conditions().ready_is_current()
            && !self.view.terminating()
            && !conditions::is_true(&self.status.conditions, kind::SUSPENDED)
    }

    /// How long the last read still confirms Ready: two intervals from the read.
    fn time_until_read(&self) -> Option<Duration> {
        let age = self.view.memory.last_read_at.map(|at| self.view.instant.saturating_duration_since(at));
        let rest = (self.setting.interval * 2).checked_sub(age.unwrap_or_default());
        rest.filter(|rest| !rest.is_zero())
    }

    fn lapsed(&mut self) -> bool {
        self.is_foreign() || (self.ready_is_fresh() && self.time_until_read().is_none())
    }

    /// Ready was reported for another object: this one is bound to nothing.
    fn is_foreign(&self) -> bool {
        let uid = self.view.channel.metadata.uid.as_deref().unwrap_or_default();
        conditions::is_true(&self.status.conditions, kind::READY)
            && !self.view.observing()
            && self.status.bound_to(uid).is_none()
    }

    /// When Ready expires unless the channel is read before.
    fn ready_expiry(&mut self) -> Option<Duration> {
        self.ready_is_fresh().then(|| self.time_until_read()).flatten()
    }

    /// Removes Reconciling and Stalled; Ready keeps its value, or becomes Unknown where it is missing.
    fn keep_ready(&mut self) {
        if conditions::find(&self.status.conditions, kind::READY).is_none() || self.is_foreign() {
            self.conditions().set(kind::READY, Status::Unknown, Reason::Progressing, NOTHING_CALLED);
        }
        self.conditions().progress(Progress::Done, Reason::Progressing, "");
    }

    /// When values that can't be read back are sent again.
    fn next_resend(&self) -> Option<Duration> {
        let memory = self.view.memory;
        // An overdue time is ignored: whatever blocked the call has its own requeue time, and a zero wait would spin.
        let ahead =
            |due: Instant| due.checked_duration_since(self.view.instant).filter(|rest| !rest.is_zero());
        let rests =
            memory.resend_credentials_at.into_iter().chain(memory.resend_enabled_at).filter_map(ahead);
        rests.min().map(|rest| rest.max(REQUEUE_SOON))
    }

    fn elapsed(&self) -> Duration {
        if let Some(since) = self.view.memory.waiting_since {
            return self.view.instant.saturating_duration_since(since);
        }
        let ready = conditions::find(&self.view.status.conditions, kind::READY);
        let since =
            ready.filter(|ready| Status::of(ready) != Status::True).map(|ready| ready.last_transition_time.0);
        since
            .and_then(|since| Duration::try_from(self.view.now.duration_since(since)).ok())
            .unwrap_or_default()
    }

    fn drift(&mut self, drift: &[Difference]) {
        self.status.drift = drift.to_vec();
        let names: Vec<_> = drift.iter().take(4).map(|entry| entry.path.as_str()).collect();
        let message = format!("The channel in oHallo differs from the manifest: {}.", names.join(", "));
        let message = sentence(&message);
        self.conditions()
            .set_while(kind::DRIFTED, (!drift.is_empty()).then_some((Reason::DriftDetected, &message)));
    }

    /// The conditions besides Ready.
    fn secondary_conditions(&mut self, outcome: &Outcome) {
        let is = |wanted: fn(&ConclusionKind) -> bool| matches!(outcome, Outcome::Settled(verdict) if wanted(&verdict.kind));
        if outcome.silent() {
            return;
        }
        if !is(|is| *is == ConclusionKind::Suspended) {
            self.conditions().remove(kind::SUSPENDED);
        }
        if !self.view.terminating() {
            self.conditions().remove(kind::DELETION_BLOCKED);
        }
        self.credentials_applied(outcome);
        self.connected_condition();
    }

    fn credentials_applied(&mut self, outcome: &Outcome) {
        let view = self.view;
        if view.spec().credentials.is_empty() || view.observing() {
            self.conditions().remove(kind::CREDENTIALS_APPLIED);
            if view.spec().credentials.is_empty() && !view.terminating() {
                self.status.credentials = None;
            }
            return;
        }
        let push_failure = match outcome {
            Outcome::PushFailed(failure) => Some(failure),
            Outcome::Settled(_) | Outcome::Failed(_) | Outcome::More => None,
        };
        let said = match (push_failure, &view.observed.credentials) {
            (Some(failure), _) => Some((Status::False, Reason::PushFailed, sentence(&failure.message))),
            (None, DesiredCredentials::Invalid(failure)) => {
                Some((Status::False, failure.reason, sentence(&failure.message)))
            }
            (None, DesiredCredentials::Ready { .. })
                if self.status.credentials.is_some() && !existing::push_due(view) =>
            {
                Some((
                    Status::True,
                    Reason::Applied,
                    "The declared credentials were sent to oHallo.".to_owned(),
                ))
            }
            (None, DesiredCredentials::Ready { .. } | DesiredCredentials::None) => None,
        };
        if let Some((status, reason, message)) = said {
            self.conditions().set(kind::CREDENTIALS_APPLIED, status, reason, &message);
        }
    }

    fn connected_condition(&mut self) {
        // A reconcile that sends a test records its result; without a result the process ended in between.
        if let Some(test) = self.status.test.as_mut().filter(|test| test.request.is_some()) {
            test.result.get_or_insert_with(|| TestResult::Unknown.as_str().into());
        }
        let Some(result) = self.status.test.as_ref().and_then(TestStatus::result) else { return };
        let (status, reason, message) = match result {
            TestResult::Passed => (Status::True, Reason::TestPassed, "The last connectivity test passed."),
            TestResult::Failed => (
                Status::False,
                Reason::TestFailed,
                "The last connectivity test failed: check the credentials and the settings at the provider, then request another test.",
            ),
            TestResult::Unknown => (
                Status::Unknown,
                Reason::TestOutcomeUnknown,
                "A connectivity test was sent and its response was lost; it is not repeated automatically: request another test.",
            ),
        };
        let old = conditions::find(&self.status.conditions, kind::CONNECTED);
        if old.is_none_or(|old| old.status != status.as_str() || old.reason != reason.as_str()) {
            self.conditions().set(kind::CONNECTED, status, reason, message);
        }
    }
}

/// A message, escaped and truncated for a condition.
fn sentence(message: &str) -> String {
    text::sanitize(message, conditions::MESSAGE)
}

/// Escapes every external text and truncates it to the limit of its field: one longer value would make the API server
/// reject the whole status. Only values from oHallo (`actual`) are redacted; the manifest's values are public already.
fn cut(status: &mut ChannelStatus, redactor: &Redactor) {
    let sanitize = |text: &mut Option<String>, max| {
        if let Some(text) = text {
            *text = text::sanitize(text, max);
        }
    };
    sanitize(&mut status.state, 128);
    sanitize(&mut status.created_at, 64);
    for entry in &mut status.drift {
        entry.path = text::sanitize(&entry.path, update::MAX_PATH_CHARS);
        sanitize(&mut entry.declared, 128);
        entry.actual = entry.actual.take().map(|text| redactor.clean(&text, 128));
    }
    for line in &mut status.planned_changes {
        *line = text::sanitize(line, 256);
    }
}

/// Failure reasons that were not in the old conditions.
fn warnings(old: &[Condition], new: &[Condition]) -> Vec<(Reason, String)> {
    const QUIET: [Reason; 8] = [
        // It has its own Warning event.
        Reason::ClaimedByAnother,
        Reason::Provisioning,
        Reason::WaitingForDns,
        Reason::Progressing,
        Reason::NotCreated,
        Reason::RateLimited,
        Reason::WorkspaceNotReady,
        Reason::Suspended,
    ];
    let began = |kind: &str| {
        let now = conditions::find(new, kind)?;
        let bad = (kind == kind::READY) == (Status::of(now) != Status::True);
        let same = conditions::find(old, kind).is_some_and(|old| old.reason == now.reason);
        let quiet = Reason::of(now).is_some_and(|reason| QUIET.contains(&reason));
        (bad && !same && !quiet).then_some(now)
    };
    let found = [began(kind::READY), began(kind::DELETION_BLOCKED)];
    let blocked_credentials = conditions::find(new, kind::CREDENTIALS_APPLIED).filter(|now| {
        let ready = conditions::find(new, kind::READY).map(|ready| ready.reason.as_str());
        Status::of(now) == Status::False
            && ready != Some(now.reason.as_str())
            && conditions::find(old, kind::CREDENTIALS_APPLIED).is_none_or(|old| old.reason != now.reason)
    });
    let all = found.into_iter().flatten().chain(blocked_credentials);
    // Conditions that are new have a reason of this version.
    all.filter_map(|new| Some((Reason::of(new)?, new.message.clone()))).collect()
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
