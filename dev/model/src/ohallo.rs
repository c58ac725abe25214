//! oHallo: creates that land early, late or never, answers that are lost, 404 under another tenant's key.

use crate::guards::Guard;
use crate::lag::ABSENT;
use crate::properties::Invariant;
use crate::run::Run;
use crate::state::*;
use crate::{rules, say};
use ohallo_core::channel::binding;
use ohallo_core::channel::consistency::Write;
use ohallo_core::classify::{ApiError, Class, ErrorKind};

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
    pub fn send_create(&mut self, replica: usize, pass: Pass, number: u8) -> bool {
        let Some(free) = self.state.ohallo.posts.iter().position(Option::is_none) else { return false };
        if self.state.left.posts == 0 {
            return false;
        }
        self.state.left.posts -= 1;
        let intent = pass.object.intent.map(|intent| intent.of);
        if self.scenario.kept && intent != Some(Named { uid: pass.object.uid, number }) {
            self.broken(Invariant::I25);
        }
        let of = Named { uid: pass.object.uid, number };
        let Place { tenant, workspace, .. } = pass.place;
        let post = Post { of, tenant, workspace, to: Some(replica), made: None };
        self.state.ohallo.posts[free] = Some(post);
        say!(self, "replica {replica} sends the POST of uid-{}/{number}", of.uid);
        self.put(replica, TASK, pass, At::Waiting { number });
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
                self.answered(to, id);
            }
            Turn::Refuse => {
                say!(self, "oHallo refuses the POST of {named}");
                self.state.ohallo.posts[at] = None;
                if let Some(to) = post.to {
                    self.not_created(to, &error(Class::Rejected, 422));
                }
            }
            Turn::Conflict => {
                say!(self, "oHallo answers the POST of {named} with 409: there is one of this name");
                self.state.ohallo.posts[at] = None;
                self.state.ghost.conflicted = true;
                if let Some(to) = post.to {
                    self.not_created(to, &error(Class::Rejected, 409));
                }
            }
            Turn::LoseAnswer => {
                let Some(to) = post.to else { return false };
                say!(self, "the answer to the POST of {named} is lost");
                let kept = Post { to: None, ..post };
                self.state.ohallo.posts[at] = Some(kept).filter(|post| post.made.is_none());
                self.not_created(to, &error(Class::Ambiguous, 504));
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

    fn waiting(&self, replica: usize) -> Option<(Pass, u8)> {
        let pass = self.state.replicas[replica].runs[TASK]?;
        match pass.at {
            At::Waiting { number } => Some((pass, number)),
            _ => None,
        }
    }

    fn answered(&mut self, replica: usize, id: Id) {
        let Some((mut pass, number)) = self.waiting(replica) else { return };
        self.outcome(&mut pass, number, Outcome::Answered(id));
        self.knows(pass.object.uid, id);
        if self.scenario.values {
            pass.memory = rules::sent(&pass.memory, pass.object.value);
        }
        if self.scenario.lags {
            let answer = rules::answered(&self.facts(&pass), id);
            self.note(id, Wrote::Made);
            self.wrote(replica, &mut pass, id, Write::Values(answer));
        }
        self.remember(replica, &pass);
        self.put(replica, TASK, pass, At::Record { number, id });
    }

    /// `born::not_created`.
    pub fn not_created(&mut self, replica: usize, error: &ApiError) {
        let Some((mut pass, number)) = self.waiting(replica) else { return };
        let again = pass.object.create_again.is_some() && !self.is_off(Guard::ConflictAfterCreateAgain);
        let (outcome, word) = match binding::classify_create_error(error, again) {
            Class::NotSent => (Outcome::NotSent, Word::NotSent),
            Class::Rejected => (Outcome::Rejected, Word::Rejected),
            Class::Ambiguous => (Outcome::Unknown, Word::Unknown),
        };
        self.outcome(&mut pass, number, outcome);
        pass.status.create = Some((number, word));
        self.remember(replica, &pass);
        if outcome == Outcome::Unknown {
            self.after_task(replica, pass, |run, slot| {
                run.go_on(replica, slot, pass);
            });
        } else {
            self.after_task(replica, pass, |run, slot| run.fail(replica, slot, pass));
        }
    }

    /// Notes what the attempt came to.
    pub fn outcome(&mut self, pass: &mut Pass, number: u8, outcome: Outcome) {
        pass.owns_attempt = true;
        let own = pass.memory.attempt.filter(|own| own.number == number);
        let own = own.unwrap_or(Attempt { number, outcome, intent: None, after: None, last: false });
        pass.memory.attempt = Some(Attempt { outcome, ..own });
    }

    /// What a call that changes something may not do.
    pub fn judge_call(&mut self, pass: &Pass, id: Id) {
        let remote = self.state.ohallo.channels[usize::from(id)];
        if remote.is_some_and(|remote| remote.tenant != pass.place.workspace) {
            self.broken(Invariant::I7);
        }
        let current = self.current(pass).filter(|object| object.status.id == Some(id));
        if current.is_some_and(|object| self.owned_by_another(&object)) {
            self.broken(Invariant::I9);
        }
        let kept = remote.is_some_and(|remote| remote.kept);
        if kept && pass.object.spec_id != Some(id) {
            self.broken(Invariant::I2);
        }
    }
}

pub fn error(class: Class, status: u16) -> ApiError {
    ApiError { status: Some(status), ..ApiError::new(class, ErrorKind::Invalid, "") }
}
