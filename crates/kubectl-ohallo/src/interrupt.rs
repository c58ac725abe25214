//! Ctrl-C in a command that only reads.

use crate::failure::Failure;
use crate::output::Output;

/// As a shell reports a process that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

/// From now on Ctrl-C ends the process with one sentence, whatever it is doing: it may wait for stdin, which nothing can
/// interrupt. Nothing is left behind, because the command writes nothing but its result.
///
/// # Errors
/// The system gives no thread.
pub fn ends_with_a_sentence(no_color: bool) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::undecided(format!("no thread can be started: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (ready, is_ready) = std::sync::mpsc::channel();
    let wait = async move {
        let signal = tokio::signal::ctrl_c();
        tokio::pin!(signal);
        // The first poll registers it.
        let first =
            std::future::poll_fn(|context| std::task::Poll::Ready(signal.as_mut().poll(context))).await;
        // Nobody waits any more if the command has ended.
        _ = ready.send(());
        if first.is_ready() || signal.await.is_ok() {
            let failure = Failure::undecided("interrupted: nothing was written").with_code(INTERRUPTED);
            std::process::exit(Output::new(no_color).fail(&failure).into());
        }
    };
    std::thread::Builder::new().spawn(move || runtime.block_on(wait)).map_err(failed)?;
    // Without a signal handler, Ctrl-C ends the process without a sentence.
    _ = is_ready.recv();
    Ok(())
}
