//! Updates of values, and credentials.

use crate::api::channel::{AppliedStatus, CredentialsStatus};
use crate::channel::consistency::{self, Consistency, Write};
use crate::channel::declared;
use crate::channel::effect::{Answer, Answered, Applied, EffectError, Next};
use crate::channel::in_memory_state::CACHE_LAG;
use crate::channel::model::{Cause, DesiredCredentials, Remote, Step};
use crate::channel::notice::{CallResult, Notice};
use crate::channel::plan::update::{self, MAX_DIFFERENCES};
use crate::channel::state::{Now, State};
use crate::channel::transition::{is_ambiguous, unexpected};
use crate::classify::CallError;
use crate::event::{EventReason, PendingEvent};
use crate::failure::Failure;
use crate::remote::{Changes, Id, RemoteChannel};
use crate::text::{self, seconds};

// === impl State ===

impl State {
    pub(super) fn update_answered(
        &mut self,
        step: &Step,
        answer: Answered,
        consistency: &mut Consistency,
        now: Now,
    ) -> Applied {
        let Step::Update { id, changes, fields, cause } = step else { return Err(unexpected()) };
        match answer {
            Ok(Answer::Channel(remote)) => {
                self.updated((id, changes, fields, *cause), *remote, consistency, now);
                Ok(Next::Plan)
            }
            Err(EffectError::Call(error)) => self.not_updated((id, changes), error, consistency, now),
            other => Err(self.failed(other)),
        }
    }

    fn updated(
        &mut self,
        (id, changes, fields, cause): (&Id, &Changes, &[String], Cause),
        remote: RemoteChannel,
        consistency: &mut Consistency,
        now: Now,
    ) {
        let digest = self.input(now).digest();
        let values = declared::has_values(changes);
        if changes.enabled.is_some() {
            let first = !self.memory.bound_by_this_process && self.memory.last_update_digest.is_none();
            let ahead = self.memory.resend_enabled_at.filter(|due| *due > now.instant);
            self.memory.resend_enabled_at = ahead.or(first.then(|| now.instant + CACHE_LAG));
        }
        let ignored = if values { self.ignored(&remote, now) } else { Vec::new() };
        let answer = update::answer_values(&self.input(now), &remote);
        let past = self.status.applied.take().unwrap_or_default();
        self.status.applied = Some(AppliedStatus {
            enabled: changes.enabled.or(past.enabled),
            digest: if values && ignored.is_empty() { Some(digest.clone()) } else { past.digest },
        });
        if values {
            self.memory.note_update(digest);
        }
        self.wrote(id, if values { Write::Values(answer) } else { Write::Other }, consistency, now);
        self.memory.test_due |= changes.config.is_some() && cause == Cause::Manifest && ignored.is_empty();
        self.observed.remote = Remote::Found(Box::new(remote));
        // The answer to a change of `enabled` alone may be older than the last update of the values.
        self.observed.updated = values;
        let applied: Vec<_> =
            fields.iter().map(String::as_str).filter(|field| !ignored.iter().any(|it| it == field)).collect();
        self.note_update(&applied, cause);
    }

    /// The paths at which an update returned the previous value: oHallo ignored the update.
    fn ignored(&self, answer: &RemoteChannel, now: Now) -> Vec<String> {
        let Remote::Found(before) = &self.observed.remote else { return Vec::new() };
        let view = self.input(now);
        let before = view.differences(before);
        // Report-only fields were not sent.
        let kept = update::split_by_drift_policy(&view, &view.differences(answer)).0;
        kept.into_iter().filter(|differs| before.contains(differs)).map(|differs| differs.path).collect()
    }

    fn note_update(&mut self, fields: &[&str], cause: Cause) {
        if fields.is_empty() {
            return;
        }
        match cause {
            Cause::Manifest => {
                let names = text::list(fields.iter().copied(), MAX_DIFFERENCES);
                self.event(PendingEvent::normal(EventReason::Updated, format!("Updated {names}.")));
            }
            Cause::Drift => {
                // `enabled` can't be read: it is sent along with every correction, so it is not reported as drift.
                let drifted: Vec<_> = fields.iter().copied().filter(|field| *field != "enabled").collect();
                let names = text::list(drifted.iter().copied(), MAX_DIFFERENCES);
                let text = format!("Reverted {names}, changed in oHallo.");
                self.event(PendingEvent::normal(EventReason::DriftCorrected, text));
                self.notices.extend(drifted.into_iter().map(|path| Notice::Drift(path.to_owned())));
            }
        }
    }

    fn not_updated(
        &mut self,
        (id, changes): (&Id, &Changes),
        error: CallError,
        consistency: &mut Consistency,
        now: Now,
    ) -> Applied {
        if self.is_stale(&error, now) {
            return Ok(Next::Plan);
        }
        if is_ambiguous(&error) {
            let values = declared::has_values(changes);
            let declared = self.input(now).values_digest();
            let lost = consistency::Values { declared, answer: consistency::Answer::Lost };
            self.wrote(id, if values { Write::Values(lost) } else { Write::Other }, consistency, now);
            if changes.enabled.is_some() {
                self.memory.resend_enabled_at = Some(now.instant + CACHE_LAG);
                // `enabled` can't be read back, and a later process knows of no call in flight.
                if let Some(applied) = &mut self.status.applied {
                    applied.enabled = None;
                }
            }
        }
        Err(self.refused(error))
    }

    pub(super) fn credentials_answered(
        &mut self,
        step: &Step,
        answer: Answered,
        consistency: &mut Consistency,
        now: Now,
    ) -> Applied {
        let Step::PushCredentials { id } = step else { return Err(unexpected()) };
        let DesiredCredentials::Ready { digest, keys, sources } = self.observed.credentials.clone() else {
            return Ok(Next::Requeue);
        };
        let error = match answer {
            Ok(Answer::Done) => {
                self.wrote(id, Write::Other, consistency, now);
                self.notices.push(Notice::CredentialsSent(CallResult::Success));
                let changed = self.memory.last_push_digest != Some(digest);
                let first = !self.memory.bound_by_this_process && self.memory.last_push_digest.is_none();
                let ahead = self.memory.resend_credentials_at.filter(|due| *due > now.instant);
                self.memory.resend_credentials_at = ahead.or(first.then(|| now.instant + CACHE_LAG));
                self.memory.last_push_digest = Some(digest);
                if changed {
                    self.memory.test_due = true;
                    let sent = text::list(keys.iter().map(String::as_str), MAX_DIFFERENCES);
                    let text = format!("Sent the credentials {sent}.");
                    self.event(PendingEvent::normal(EventReason::CredentialsPushed, text));
                }
                let pushed_at = Some(seconds(now.wall));
                self.status.credentials = Some(CredentialsStatus { keys, pushed_at, sources });
                return Ok(Next::Plan);
            }
            Err(EffectError::Call(error)) => error,
            other => return Err(self.failed(other)),
        };
        if self.is_stale(&error, now) {
            return Ok(Next::Plan);
        }
        if is_ambiguous(&error) {
            self.wrote(id, Write::Other, consistency, now);
            self.memory.last_push_digest = None;
            self.memory.resend_credentials_at = Some(now.instant + CACHE_LAG);
        }
        if !matches!(error, CallError::Deferred(_)) {
            self.notices.push(Notice::CredentialsSent(CallResult::Error));
        }
        let message = Failure::of_credentials(error.clone(), &keys).message;
        Err(Failure { message, ..self.refused(error) })
    }
}
