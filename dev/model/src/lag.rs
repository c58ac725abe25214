//! oHallo's reads lag behind its writes.

use crate::properties::Invariant;
use crate::run::Run;
use crate::say;
use crate::state::*;

/// What a read is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    Now,
    /// What the channel was: a [`Remote::shape`].
    Older(u8),
    /// 404, though nothing has lagged.
    Lie,
}

/// The shape of a channel that is not there.
pub const ABSENT: u8 = 0;

// === impl Remote ===

impl Remote {
    /// What a read shows of it, as a number.
    pub fn shape(&self) -> u8 {
        if self.live { 1 + 2 * self.value + u8::from(self.failing) } else { ABSENT }
    }

    /// Whether a read may show that shape, which is not the true one.
    pub fn may_show(&self, shape: u8) -> bool {
        self.old & (1 << shape) != 0
    }
}

fn look(shape: u8) -> Option<Look> {
    let shape = shape.checked_sub(1)?;
    Some(Look { value: shape / 2, failing: shape % 2 == 1 })
}

// === impl Run ===

impl Run<'_> {
    /// What a read of the channel shows. `None`: it can't be answered so.
    pub fn sees(&mut self, place: Place, id: Id, seen: Seen) -> Option<Option<Look>> {
        let remote = self.state.ohallo.channels[usize::from(id)];
        let remote = remote.filter(|remote| remote.tenant == place.tenant);
        match seen {
            Seen::Now => Some(remote.and_then(|remote| look(remote.shape()))),
            Seen::Older(shape) => remote.filter(|remote| remote.may_show(shape)).map(|_| look(shape)),
            Seen::Lie => {
                remote.filter(|remote| remote.live)?;
                self.state.left.lies = self.state.left.lies.checked_sub(1)?;
                Some(None)
            }
        }
    }

    /// Changes a channel. Where reads lag, they may go on to show what it was.
    pub fn change(&mut self, id: Id, change: impl FnOnce(&mut Remote)) {
        let lags = self.scenario.lags;
        let Some(remote) = &mut self.state.ohallo.channels[usize::from(id)] else { return };
        let was = remote.shape();
        change(remote);
        if lags {
            remote.old = (remote.old | 1 << was) & !(1 << remote.shape());
        }
    }

    /// The windows of an id, as this process has them.
    pub fn window(&self, replica: usize, id: Id) -> Window {
        self.state.replicas[replica].windows.of(id)
    }

    /// The operator's write was answered: until the window ends reads may be older.
    pub fn note(&mut self, id: Id, wrote: Wrote) {
        if self.scenario.lags
            && let Some(remote) = &mut self.state.ohallo.channels[usize::from(id)]
        {
            remote.wrote = Some(wrote);
        }
    }

    /// A step or a conclusion that contradicts the operator's own last write.
    pub fn contradicts(&mut self, id: Option<Id>, is: impl Fn(&Remote) -> bool) {
        let remote = id.and_then(|id| self.state.ohallo.channels[usize::from(id)]);
        if remote.is_some_and(|remote| is(&remote)) {
            self.broken(Invariant::I24);
        }
    }

    /// As long as a window: every read is current, and every window has ended.
    pub fn end_windows(&mut self) -> bool {
        for remote in self.state.ohallo.channels.iter_mut().flatten() {
            (remote.old, remote.wrote, remote.helped) = (0, None, false);
        }
        for replica in &mut self.state.replicas {
            replica.windows.end();
            for memory in &mut replica.memory {
                memory.absent.pass_time();
            }
        }
        say!(self, "a minute passes: every window has ended, and reads are current");
        true
    }
}
