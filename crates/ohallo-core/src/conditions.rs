//! Conditions as kstatus reads them: written only when they change, `lastTransitionTime` moving with `status` only.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use strum::{EnumString, IntoStaticStr};

use crate::api::conditions::{Reason, kind};

/// The maximum length of a message, in characters.
pub const MESSAGE: usize = 1024;

/// The three values of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr)]
pub enum Status {
    True,
    False,
    Unknown,
}

/// The progress towards Ready that the conditions report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Done,
    Reconciling,
    Stalled,
}

/// Writes a list of conditions for one generation, with one time.
pub struct Writer<'a> {
    list: &'a mut Vec<Condition>,
    generation: i64,
    now: Timestamp,
}

/// The condition of this type.
pub fn find<'a>(list: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    list.iter().find(|condition| condition.type_ == kind)
}

/// Whether the condition of this type is True.
pub fn is_true(list: &[Condition], kind: &str) -> bool {
    find(list, kind).is_some_and(|condition| Status::of(condition) == Status::True)
}

/// What readers of conditions act on: type, status, reason and generation, sorted. The order and the messages are
/// ignored: a long message may come back truncated.
pub fn facts(list: &[Condition]) -> Vec<(&str, &str, &str, Option<i64>)> {
    let mut facts: Vec<_> = list
        .iter()
        .map(|one| (one.type_.as_str(), one.status.as_str(), one.reason.as_str(), one.observed_generation))
        .collect();
    facts.sort_unstable();
    facts
}

// === impl Status ===

impl Status {
    /// A word that Kubernetes does not define counts as `Unknown`.
    pub fn of(condition: &Condition) -> Self {
        condition.status.parse().unwrap_or(Self::Unknown)
    }

    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

// === impl Writer ===

impl<'a> Writer<'a> {
    pub fn new(list: &'a mut Vec<Condition>, generation: i64, now: Timestamp) -> Self {
        // Kubernetes keeps whole seconds: a finer time would differ from the value that is read back.
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        Self { list, generation, now }
    }

    pub fn set(&mut self, kind: &str, status: Status, reason: Reason, message: &str) {
        let mut next = Condition {
            type_: kind.into(),
            status: status.as_str().into(),
            reason: reason.as_str().into(),
            message: message.chars().take(MESSAGE).collect(),
            observed_generation: Some(self.generation),
            last_transition_time: Time(self.now),
        };
        match self.list.iter_mut().find(|condition| condition.type_ == kind) {
            Some(old) => {
                if old.status == next.status {
                    next.last_transition_time = old.last_transition_time.clone();
                }
                *old = next;
            }
            None => self.list.push(next),
        }
    }

    pub fn remove(&mut self, kind: &str) {
        self.list.retain(|condition| condition.type_ != kind);
    }

    /// A condition that is present only while True.
    pub fn set_while(&mut self, kind: &str, holds: Option<(Reason, &str)>) {
        match holds {
            Some((reason, message)) => self.set(kind, Status::True, reason, message),
            None => self.remove(kind),
        }
    }

    /// Ready, and Reconciling or Stalled beside it with the same reason.
    pub fn ready(&mut self, status: Status, progress: Progress, reason: Reason, message: &str) {
        self.set(kind::READY, status, reason, message);
        self.progress(progress, reason, message);
    }

    /// Reconciling or Stalled or neither, never both.
    pub fn progress(&mut self, progress: Progress, reason: Reason, message: &str) {
        self.set_while(kind::RECONCILING, (progress == Progress::Reconciling).then_some((reason, message)));
        self.set_while(kind::STALLED, (progress == Progress::Stalled).then_some((reason, message)));
    }

    /// Whether there is a condition of this type.
    pub fn has(&self, kind: &str) -> bool {
        find(self.list, kind).is_some()
    }

    /// Whether Ready already describes this generation.
    pub fn ready_is_current(&self) -> bool {
        find(self.list, kind::READY).is_some_and(|ready| ready.observed_generation == Some(self.generation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let mut list = Vec::new();
        Writer::new(&mut list, 1, at(1)).set(kind::READY, Status::False, Reason::Provisioning, "a");
        Writer::new(&mut list, 2, at(2)).set(kind::READY, Status::False, Reason::WaitingForDns, "b");
        let ready = find(&list, kind::READY).unwrap();
        assert_eq!((ready.last_transition_time.0, ready.observed_generation), (at(1), Some(2)));
        Writer::new(&mut list, 2, at(3)).set(kind::READY, Status::True, Reason::Available, "c");
        assert_eq!(find(&list, kind::READY).unwrap().last_transition_time.0, at(3));
    }

    #[test]
    fn a_status_is_decoded_as_it_is_written_and_an_undefined_word_to_unknown() {
        let mut list = Vec::new();
        for status in [Status::True, Status::False, Status::Unknown] {
            Writer::new(&mut list, 1, at(1)).set(kind::READY, status, Reason::Available, "a");
            assert_eq!(find(&list, kind::READY).map(Status::of), Some(status));
        }
        for (word, status) in [("True", Status::True), ("true", Status::Unknown), ("", Status::Unknown)] {
            list[0].status = word.into();
            assert_eq!(Status::of(&list[0]), status, "{word:?}");
        }
    }

    #[test]
    fn a_condition_is_present_from_its_set_until_its_removal() {
        let mut list = Vec::new();
        let mut writer = Writer::new(&mut list, 1, at(1));
        assert!(!writer.has(kind::READY));
        writer.set(kind::READY, Status::False, Reason::Provisioning, "a");
        assert!(writer.has(kind::READY) && !writer.has(kind::STALLED));
        writer.remove(kind::READY);
        assert!(!writer.has(kind::READY));
    }

    #[test]
    fn reconciling_and_stalled_are_never_both_present() {
        let mut list = Vec::new();
        for progress in [Progress::Reconciling, Progress::Stalled, Progress::Reconciling, Progress::Done] {
            Writer::new(&mut list, 1, at(1)).ready(Status::False, progress, Reason::Progressing, "x");
            assert_eq!(is_true(&list, kind::RECONCILING), progress == Progress::Reconciling);
            assert_eq!(is_true(&list, kind::STALLED), progress == Progress::Stalled);
        }
    }
}
