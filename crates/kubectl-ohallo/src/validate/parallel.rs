//! Work by several threads, with its results in the order of the items.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use crate::manifest::STACK;

/// Calls `collect` with what `work` makes of each item.
///
/// # Errors
/// A thread can't be started.
pub fn map_in_order<Item, Made: Send>(
    items: impl Iterator<Item = Item> + Send,
    work: impl Fn(Item) -> Made + Sync,
    mut collect: impl FnMut(Made),
) -> io::Result<()> {
    let most = items.size_hint().1.unwrap_or(usize::MAX);
    // The allocator of musl has one lock: two threads that parse take five times as long as one.
    let threads = match thread::available_parallelism() {
        Ok(threads) if cfg!(not(target_env = "musl")) => threads.get().min(most),
        _ => 1,
    };
    if threads < 2 {
        items.map(work).for_each(collect);
        return Ok(());
    }
    let items = Mutex::new(items.enumerate());
    // Bounded: few results are in memory at once.
    let (sender, receiver) = mpsc::sync_channel(threads);
    thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, items, work) = (sender.clone(), &items, &work);
            // A document may be as deep as the API server takes it.
            let thread = thread::Builder::new().stack_size(STACK);
            thread.spawn_scoped(scope, move || {
                loop {
                    let next = items.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((at, item)) = next else { return };
                    if sender.send((at, work(item))).is_err() {
                        return;
                    }
                }
            })?;
        }
        drop(sender);
        let (mut early, mut due) = (BTreeMap::new(), 0);
        for (at, made) in receiver {
            early.insert(at, made);
            while let Some(made) = early.remove(&due) {
                collect(made);
                due += 1;
            }
        }
        Ok(())
    })
}
