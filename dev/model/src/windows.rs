//! The operator's own `Consistency`: built from small values, asked, and read back.

use std::sync::LazyLock;
use std::time::Duration;

use crate::real::{self, BEGAN};
use crate::state::{Epoch, Id, Look, Value};
use ohallo_core::channel::consistency::{self, Answer, Consistency, Values, Write};
use ohallo_core::channel::{config, declared};
use ohallo_core::lease::election;

const LENGTH: Duration = Duration::from_secs(60);

/// The windows of a process, as far as they are open. Only the first three channels are written to where reads lag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Windows {
    pub epoch: Epoch,
    pub began: bool,
    pub ids: [Writes; 3],
}

/// Those of one id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Window {
    pub began: bool,
    pub writes: Writes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Writes {
    pub any: bool,
    pub values: Option<Sent>,
    pub retry: bool,
    pub deleted: bool,
}

/// The value that was declared, and the one answered; `None`: the answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sent {
    pub declared: Value,
    pub answered: Option<Value>,
}

/// [`config::digest`] of each value, and [`declared::answer_digest`] of a channel that has it.
static DIGESTS: LazyLock<[String; 3]> =
    LazyLock::new(|| [0, 1, 2].map(|value| config::digest(&real::display_name(value), None, None)));
static ANSWERED: LazyLock<[String; 3]> = LazyLock::new(|| {
    [0, 1, 2].map(|value| declared::answer_digest(&real::found(0, 1, Look { value, failing: false })))
});

/// The digest of what is declared, and back.
pub fn digest(value: Value) -> String {
    DIGESTS[usize::from(value)].clone()
}

pub fn value_of(digest: &str) -> Option<Value> {
    position(&DIGESTS, digest)
}

fn position(digests: &[String; 3], digest: &str) -> Option<Value> {
    digests.iter().position(|known| known == digest).map(|at| at as Value)
}

// === impl Windows ===

impl Windows {
    pub fn of(&self, id: Id) -> Window {
        let writes = self.ids.get(usize::from(id)).copied().unwrap_or_default();
        Window { began: self.began, writes }
    }

    pub fn any_open(&self) -> bool {
        self.began || self.ids.iter().any(|writes| *writes != Writes::default())
    }

    /// All of them have ended.
    pub fn end(&mut self) {
        *self = Self { epoch: self.epoch, ..Self::default() };
    }

    /// `Consistency::enter`.
    pub fn enter(&mut self, epoch: Epoch) {
        if std::mem::replace(&mut self.epoch, epoch) == epoch {
            return;
        }
        for at in 0..self.ids.len() {
            let mut entered = self.of(at as Id).consistency(at as Id);
            let epoch = election::Epoch { term: epoch.into(), transitions: epoch.into() };
            // Not at the same instant as a write: the two are told apart by their ends.
            entered.enter(epoch, *BEGAN - Duration::from_secs(1));
            self.ids[at] = Window::read_back(&entered, at as Id).writes;
        }
        self.began = true;
    }

    /// The operator's own windows, of this id.
    pub fn consistency(&self, id: Id, lags: bool) -> Consistency {
        if lags { self.of(id).consistency(id) } else { Consistency::new(Duration::ZERO, *BEGAN) }
    }

    /// Reads the windows of this id back; whether they have changed.
    pub fn read_back(&mut self, id: Id, real: &Consistency) -> bool {
        let Some(writes) = self.ids.get_mut(usize::from(id)) else { return false };
        let new = Window::read_back(real, id).writes;
        std::mem::replace(writes, new) != new
    }
}

// === impl Window ===

impl Window {
    fn consistency(&self, id: Id) -> Consistency {
        let ago = if self.began { Duration::from_secs(1) } else { LENGTH };
        let mut built = Consistency::new(LENGTH, *BEGAN - ago);
        let Writes { any, values, retry, deleted } = self.writes;
        let writes = [
            deleted.then_some(Write::Delete),
            any.then_some(Write::Other),
            values.map(|sent| Write::Values(sent.real())),
            retry.then_some(Write::Retry),
        ];
        for write in writes.into_iter().flatten() {
            built.wrote(real::channel_id(id).as_str(), write, *BEGAN);
        }
        built
    }

    /// As the operator's functions are handed it.
    pub fn real(&self) -> consistency::Window {
        self.consistency(0).window(real::channel_id(0).as_str(), *BEGAN)
    }

    fn read_back(real: &Consistency, id: Id) -> Self {
        let window = real.window(real::channel_id(id).as_str(), *BEGAN);
        let writes = Writes {
            any: window.absence == Some(*BEGAN + LENGTH),
            values: window.values.map(|(_, values)| Sent::read_back(&values)),
            retry: window.retry.is_some(),
            deleted: window.deleted.is_some(),
        };
        Self { began: window.began.is_some(), writes }
    }
}

// === impl Sent ===

impl Sent {
    fn real(self) -> Values {
        let answer = self.answered.map_or(Answer::Lost, |value| {
            let digest = ANSWERED[usize::from(value)].clone();
            if value == self.declared { Answer::Shows(digest) } else { Answer::Differs(digest) }
        });
        Values { declared: digest(self.declared), answer }
    }

    fn read_back(values: &Values) -> Self {
        let answered = match &values.answer {
            Answer::Shows(digest) | Answer::Differs(digest) => position(&ANSWERED, digest),
            Answer::Lost => None,
        };
        Self { declared: value_of(&values.declared).unwrap_or_default(), answered }
    }
}
