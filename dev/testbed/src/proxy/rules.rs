//! Which requests a rule meets, and what it does to them.

use http::Method;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Held;

/// On which side of its effect a request is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The API server never sees it, unless it is held and released.
    Before,
    /// The API server has answered it; the client has not heard that.
    After,
}

/// What is done to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// It waits until [`Held::release`]; a client that goes away meanwhile takes a request that was met before along.
    Hold,
    /// The connection is closed without a byte of answer.
    Drop,
    /// Another answer. An empty body becomes a Kubernetes `Status` with this code.
    Answer { code: u16, body: String },
}

/// Acts on some requests; watches are met as reads.
#[derive(Clone, Debug)]
pub struct Rule {
    pub when: When,
    pub act: Act,
    /// Only what changes something, events apart.
    pub writes_only: bool,
    /// Empty: any.
    pub method: String,
    /// Part of path and query; empty: any.
    pub part: String,
    /// Lets the first n that fit go.
    pub skip: usize,
    /// Acts so many times; `None`: for ever.
    pub times: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Rules(Vec<Put>);

#[derive(Debug)]
struct Put {
    rule: Rule,
    met: watch::Sender<u32>,
    left: watch::Sender<u32>,
    open: CancellationToken,
}

/// What is to be done to the request.
pub(super) struct Met {
    pub when: When,
    pub act: Act,
    met: watch::Sender<u32>,
    left: watch::Sender<u32>,
    open: CancellationToken,
}

// === impl Rule ===

impl Rule {
    /// Acts on the next write.
    #[must_use]
    pub fn write(when: When, act: Act) -> Self {
        Self { writes_only: true, times: Some(1), ..Self::any(when, act) }
    }

    /// Acts on every request.
    #[must_use]
    pub fn any(when: When, act: Act) -> Self {
        let (method, part) = (String::new(), String::new());
        Self { when, act, writes_only: false, method, part, skip: 0, times: None }
    }

    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    #[must_use]
    pub fn part(mut self, part: &str) -> Self {
        part.clone_into(&mut self.part);
        self
    }

    #[must_use]
    pub fn skip(mut self, n: usize) -> Self {
        self.skip = n;
        self
    }

    #[must_use]
    pub fn times(mut self, n: usize) -> Self {
        self.times = Some(n);
        self
    }

    fn fits(&self, method: &Method, target: &str) -> bool {
        (!self.writes_only || is_write(method, target))
            && (self.method.is_empty() || self.method == method.as_str())
            && target.contains(&self.part)
    }
}

/// Whether the request changes something; an event is about a change and none itself, and a review is a question.
pub(super) fn is_write(method: &Method, target: &str) -> bool {
    let silent = ["/events.k8s.io/", "/authorization.k8s.io/"];
    *method != Method::GET && !silent.iter().any(|part| target.contains(part))
}

// === impl Rules ===

impl Rules {
    pub fn add(&mut self, rule: Rule) -> Held {
        let (met, left) = (watch::Sender::new(0), watch::Sender::new(0));
        let put = Put { rule, met, left, open: CancellationToken::new() };
        let held = Held { met: put.met.subscribe(), left: put.left.subscribe(), open: put.open.clone() };
        self.0.push(put);
        held
    }

    pub fn clear(&mut self) {
        self.0.drain(..).for_each(|put| put.open.cancel());
    }

    /// The rule that meets this request, counted down.
    pub fn meet(&mut self, method: &Method, target: &str) -> Option<Met> {
        for Put { rule, met, left, open } in &mut self.0 {
            if rule.times == Some(0) || open.is_cancelled() || !rule.fits(method, target) {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            if let Some(times) = &mut rule.times {
                *times -= 1;
            }
            let (met, left, open) = (met.clone(), left.clone(), open.clone());
            return Some(Met { when: rule.when, act: rule.act.clone(), met, left, open });
        }
        None
    }
}

// === impl Met ===

impl Met {
    pub fn tell(&self) {
        self.met.send_modify(|met| *met += 1);
    }

    pub async fn opened(&self) {
        self.open.cancelled().await;
    }
}

/// It was acted on, or its client has disconnected.
impl Drop for Met {
    fn drop(&mut self) {
        self.left.send_modify(|left| *left += 1);
    }
}
