//! Calls that are counted before they are sent, because they must not be repeated: retries and tests.

use crate::api::conditions::Reason;
use crate::api::values::TestResult;
use crate::channel::consistency::{Consistency, Write};
use crate::channel::effect::{Answer, Answered, Applied, EffectError, Next};
use crate::channel::model::Step;
use crate::channel::notice::{CallResult, Notice};
use crate::channel::state::{Now, State, StatusWrite};
use crate::channel::transition::{changed, is_ambiguous, unexpected};
use crate::channel::{stored, write_ahead};
use crate::classify::{CallError, Class};
use crate::event::{EventReason, PendingEvent};
use crate::failure::Failure;
use crate::text::seconds;

// === impl State ===

impl State {
    pub(super) fn count_ahead(&mut self, step: &Step, now: Now) {
        // The write may be repeated on a newer version.
        if self.before.status.is_none() {
            self.before.status = Some(Box::new(self.status.clone()));
            if let Step::Retry { attempts, request, .. } = step {
                let counted = write_ahead::retry(&self.input(now), *attempts, request.clone());
                self.status.provisioning = Some(counted);
            }
            if let Step::Test { request, .. } = step {
                self.status.test = Some(write_ahead::test(&self.input(now), request.clone()));
            }
        }
        self.memory.binding_unsure |= self.newly_binds(&self.status);
    }

    pub(super) fn counted_ahead(&mut self, answer: Answered, now: Now) -> Applied {
        let failure = match answer {
            Ok(answer) => {
                let sent = std::mem::take(&mut self.status);
                let written = self.status_answered(&sent, answer, now);
                self.status = sent;
                match written {
                    StatusWrite::Applied => return Ok(Next::Effect),
                    StatusWrite::Repeat => return Ok(Next::Repeat),
                    StatusWrite::NotStored(lost) => stored::failure(&lost),
                    StatusWrite::ObjectGone | StatusWrite::Conflict => changed(),
                }
            }
            error => self.failed(error),
        };
        // Nothing was sent.
        if let Some(before) = self.before.status.take() {
            self.status = *before;
        }
        Err(failure)
    }

    /// A retry that is counted but not sent costs one attempt. That is better than one attempt too many.
    pub(super) fn retry_answered(
        &mut self,
        step: &Step,
        answer: Answered,
        consistency: &mut Consistency,
        now: Now,
    ) -> Applied {
        let Step::Retry { id, .. } = step else { return Err(unexpected()) };
        let error = match answer {
            Ok(Answer::Done) => None,
            Err(EffectError::Call(error)) => Some(error),
            other => return Err(self.failed(other)),
        };
        // A 404 that may be older than a write does not show the outcome of the retry either.
        let unknown = error.as_ref().is_some_and(|error| is_ambiguous(error) || self.is_stale(error, now));
        if unknown || error.is_none() {
            self.wrote(id, Write::Retry, consistency, now);
        }
        let result = match &error {
            None => CallResult::Success,
            Some(_) if unknown => CallResult::Unknown,
            Some(_) => CallResult::Error,
        };
        self.notices.push(Notice::RetrySent(result));
        match error {
            None => {
                let text = "Asked oHallo to provision the channel again.";
                self.event(PendingEvent::normal(EventReason::ProvisioningRetried, text));
                Ok(Next::Requeue)
            }
            // oHallo may have accepted it, and it is counted: the next poll shows the outcome.
            Some(_) if unknown => Ok(Next::Requeue),
            Some(error) => Err(self.refused(error)),
        }
    }

    pub(super) fn test_answered(
        &mut self,
        step: &Step,
        answer: Answered,
        consistency: &mut Consistency,
        now: Now,
    ) -> Applied {
        let Step::Test { id, .. } = step else { return Err(unexpected()) };
        let mut refusal = None;
        let result = match answer {
            Ok(Answer::TestPassed(passed)) => {
                self.wrote(id, Write::Other, consistency, now);
                if passed { TestResult::Passed } else { TestResult::Failed }
            }
            Err(EffectError::Call(error)) if self.is_stale(&error, now) => TestResult::Unknown,
            Err(EffectError::Call(CallError::Failed(error))) => match error.class {
                Class::NotSent => {
                    if let Some(before) = self.before.status.take() {
                        self.status.test = before.test;
                    }
                    return Err(error.into());
                }
                Class::Rejected => {
                    refusal = Some(Failure::from(error).message);
                    TestResult::Unknown
                }
                Class::Ambiguous => {
                    self.wrote(id, Write::Other, consistency, now);
                    TestResult::Unknown
                }
            },
            Err(EffectError::Call(CallError::Deferred(_))) => TestResult::Unknown,
            other => return Err(self.failed(other)),
        };
        self.memory.test_due = false;
        if let Some(test) = &mut self.status.test {
            test.result = Some(result.as_str().into());
            test.finished_at = Some(seconds(now.wall));
        }
        self.notices.push(Notice::TestSent(result));
        self.event(match result {
            TestResult::Passed => PendingEvent::normal(Reason::TestPassed, "The connectivity test passed."),
            TestResult::Failed => PendingEvent::warning(Reason::TestFailed, "The connectivity test failed."),
            TestResult::Unknown => PendingEvent::warning(
                Reason::TestOutcomeUnknown,
                refusal.unwrap_or_else(|| "A connectivity test was sent and its response was lost.".into()),
            ),
        });
        Ok(Next::Plan)
    }
}
