//! What happens to a channel between its creation and `active`. Nothing runs in the background: the state is
//! computed from the time at each read.

use serde::{Deserialize, Serialize};

/// The workflow each new channel (and each retry) goes through. The default is `active` at once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Provisioning {
    /// The states, in order, in order. `pending_dns` is left out for channels that are not email.
    pub steps: Vec<Step>,
    /// The first n runs of every channel end in `error`, later ones in `active`.
    pub fail_times: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub state: String,
    pub until: Until,
}

/// When a step is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Until {
    Millis(u64),
    /// So many GETs of the channel show it.
    Polls(u32),
    /// `Sim::resolve_dns` was called.
    Advanced,
}

/// Where one channel is in the workflow.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    steps: Vec<Step>,
    at: usize,
    entered_ms: u64,
    polls: u32,
    advanced: bool,
    end: Option<&'static str>,
}

// === impl Provisioning ===

impl Provisioning {
    /// `provisioning` for so many milliseconds, then `active`.
    pub fn millis(millis: u64) -> Self {
        Provisioning::default().step("provisioning", Until::Millis(millis))
    }

    /// Adds a step.
    pub fn step(mut self, state: &str, until: Until) -> Self {
        self.steps.push(Step { state: state.to_owned(), until });
        self
    }

    /// The first `n` runs of every channel end in `error`.
    pub fn failing(mut self, n: u32) -> Self {
        self.fail_times = n;
        self
    }

    /// The `attempt`-th run (from 1) of a channel of this type.
    pub(crate) fn run(&self, channel_type: &str, attempt: u32, now_ms: u64) -> Run {
        let fits = |step: &&Step| step.state != "pending_dns" || channel_type == "email";
        Run {
            steps: self.steps.iter().filter(fits).cloned().collect(),
            entered_ms: now_ms,
            end: Some(if attempt <= self.fail_times { "error" } else { "active" }),
            ..Run::default()
        }
    }
}

// === impl Run ===

impl Run {
    /// The state now; `None` when no workflow is going on and the state is what it was.
    pub(crate) fn poll(&mut self, now_ms: u64) -> Option<String> {
        let end = self.end?;
        while let Some(step) = self.steps.get(self.at) {
            let (over, next_from) = match step.until {
                Until::Millis(ms) => {
                    let due = self.entered_ms.saturating_add(ms);
                    (now_ms >= due, due)
                }
                Until::Polls(n) => (self.polls >= n, now_ms),
                Until::Advanced => (self.advanced, now_ms),
            };
            if !over {
                return Some(step.state.clone());
            }
            self.at += 1;
            self.entered_ms = next_from;
            self.polls = 0;
            self.advanced = false;
        }
        *self = Run::default();
        Some(end.to_owned())
    }

    /// The channel was read over the API.
    pub(crate) fn polled(&mut self) {
        self.polls = self.polls.saturating_add(1);
    }

    /// What a [`Until::Advanced`] step waits for has happened.
    pub(crate) fn advance(&mut self) {
        if self.steps.get(self.at).is_some_and(|step| step.until == Until::Advanced) {
            self.advanced = true;
        }
    }
}
