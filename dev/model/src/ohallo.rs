//! oHallo: creates that land early, late or never, answers that are lost, 404 under another tenant's key.

use crate::lag::ABSENT;
use crate::properties::Invariant;
use crate::run::Run;
use crate::state::*;
use crate::{real, say};
use ohallo_core::channel::effect::{self, Answer, Effect, EffectError, Next};
use ohallo_core::classify::{ApiError, CallError, Class, ErrorKind};

/// What becomes of a create that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Turn {
    Land,
    Answer,
    Refuse,
    Conflict,
    LoseAnswer,
    Vanish,
}

// === impl Run ===

impl Run<'_> {
    pub fn send_create(
        &mut self,
        replica: usize,
        reconcile: Reconcile,
        (step, cursor): (Step, Cursor),
    ) -> bool {
        let Step::PostCreate { number } = step else { return false };
        let Some(free) = self.state.ohallo.posts.iter().position(Option::is_none) else { return false };
        if self.state.left.posts == 0 {
            return false;
        }
        self.state.left.posts -= 1;
        let intent = reconcile.object.intent.map(|intent| intent.of);
        if self.scenario.kept && intent != Some(Named { uid: reconcile.object.uid, number }) {
            self.broken(Invariant::I25);
        }
        let of = Named { uid: reconcile.object.uid, number };
        let Place { tenant, workspace, .. } = reconcile.place;
        let post = Post { of, tenant, workspace, to: Some(replica), made: None };
        self.state.ohallo.posts[free] = Some(post);
        say!(self, "replica {replica} sends the POST of uid-{}/{number}", of.uid);
        self.put(replica, TASK, reconcile, At::Waiting { step, cursor });
        true
    }

    pub fn turn(&mut self, at: usize, turn: Turn) -> bool {
        let Some(post) = self.state.ohallo.posts[at] else { return false };
        let named = format!("uid-{}/{}", post.of.uid, post.of.number);
        match turn {
            Turn::Land => return self.land(at, post, &named),
            Turn::Answer => {
                let (Some(id), Some(to)) = (post.made, post.to) else { return false };
                say!(self, "oHallo answers the POST of {named}: it made c{id}");
                self.state.ohallo.posts[at] = None;
                if self.scenario.lags {
                    self.note(id, Wrote::Made);
                }
                let waiting = self.state.replicas[to].reconciles[TASK];
                let value = waiting.map_or(0, |reconcile| reconcile.object.value);
                if let Some(reconcile) = waiting {
                    self.knows(reconcile.object.uid, id);
                }
                let remote = real::found(id, post.workspace, Look { value, failing: false });
                self.create_answered(to, Ok(Answer::Channel(Box::new(remote))));
            }
            Turn::Refuse => {
                say!(self, "oHallo refuses the POST of {named}");
                self.state.ohallo.posts[at] = None;
                if let Some(to) = post.to {
                    self.create_answered(to, Err(error(Class::Rejected, 422)));
                }
            }
            Turn::Conflict => {
                say!(self, "oHallo answers the POST of {named} with 409: there is one of this name");
                self.state.ohallo.posts[at] = None;
                self.state.ghost.conflicted = true;
                if let Some(to) = post.to {
                    self.create_answered(to, Err(error(Class::Rejected, 409)));
                }
            }
            Turn::LoseAnswer => {
                let Some(to) = post.to else { return false };
                say!(self, "the answer to the POST of {named} is lost");
                let kept = Post { to: None, ..post };
                self.state.ohallo.posts[at] = Some(kept).filter(|post| post.made.is_none());
                self.create_answered(to, Err(error(Class::Ambiguous, 504)));
            }
            Turn::Vanish => {
                say!(self, "the POST of {named} never arrives");
                self.state.ohallo.posts[at] = None;
            }
        }
        true
    }

    fn land(&mut self, at: usize, post: Post, named: &str) -> bool {
        let Some(id) = self.state.ohallo.channels.iter().position(Option::is_none) else { return false };
        let old = u8::from(self.scenario.lags) << ABSENT;
        self.state.ohallo.channels[id] =
            Some(Remote { live: true, tenant: post.tenant, of: Some(post.of), old, ..Remote::default() });
        let id = id as Id;
        say!(self, "oHallo makes c{id} for the POST of {named}");
        let post = Post { made: Some(id), ..post };
        self.state.ohallo.posts[at] = Some(post).filter(|post| post.to.is_some());
        if self.state.made(post.of.uid).count() > 1 && !self.state.ghost.hasty {
            self.broken(Invariant::I1);
        }
        true
    }

    /// Whether a channel that stands in the way of this create is there.
    pub fn conflicts(&self, post: &Post) -> bool {
        self.scenario.unique_names && self.state.made(post.of.uid).count() > 0
    }

    /// oHallo answers the create that this replica waits for.
    fn create_answered(&mut self, replica: usize, answer: effect::Answered) {
        let Some(mut reconcile) = self.state.replicas[replica].reconciles[TASK] else { return };
        let At::Waiting { step, mut cursor } = reconcile.at else { return };
        let mut next = self.apply(replica, &mut reconcile, (step, Effect::PostChannel), answer, None);
        if let Ok(Next::Then(effect)) = next {
            cursor.advance(Next::Then(effect));
            let listed = Ok(Answer::Candidates(Vec::new()));
            next = self.apply(replica, &mut reconcile, (step, effect), listed, None);
        }
        self.step_ended(replica, TASK, reconcile, next);
    }

    /// What a call that changes something may not do.
    pub fn judge_call(&mut self, reconcile: &Reconcile, id: Id) {
        let remote = self.state.ohallo.channels[usize::from(id)];
        if remote.is_some_and(|remote| remote.tenant != reconcile.place.workspace) {
            self.broken(Invariant::I7);
        }
        let current = self.current(reconcile).filter(|object| object.status.id == Some(id));
        if current.is_some_and(|object| self.owned_by_another(&object)) {
            self.broken(Invariant::I9);
        }
        let kept = remote.is_some_and(|remote| remote.kept);
        if kept && reconcile.object.spec_id != Some(id) {
            self.broken(Invariant::I2);
        }
    }
}

fn error(class: Class, status: u16) -> EffectError {
    let error = ApiError { status: Some(status), ..ApiError::new(class, ErrorKind::Invalid, "") };
    EffectError::Call(CallError::Failed(error))
}
