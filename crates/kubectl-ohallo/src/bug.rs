//! What a bug of this program prints: one sentence, unless `RUST_BACKTRACE` asks for more.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, set_hook, take_hook};

use crate::output::Output;

thread_local! {
    /// Whether the caller explains a panic itself.
    static IS_EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Replaces what Rust prints about a panic.
pub fn install(no_color: bool) {
    let default = take_hook();
    let is_verbose = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    set_hook(Box::new(move |info| {
        if IS_EXPECTED.get() {
            return;
        }
        if is_verbose {
            default(info);
        }
        Output::new(no_color).error(&sentence(info.location()));
    }));
}

/// Without the message of the panic, which may quote a value.
fn sentence(at: Option<&Location<'_>>) -> String {
    let place = at.map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "this is a bug of kubectl-ohallo {version}{place}: please report it with the command that you ran"
    )
}

/// The result of a function that panics on certain values of a user; `None` if it does.
pub fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    IS_EXPECTED.set(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    IS_EXPECTED.set(false);
    result.ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Set in a process of this test that panics.
    const PANICS: &str = "OHALLO_TEST_PANICS";

    #[test]
    fn a_bug_is_one_sentence_without_values_and_an_expected_panic_is_none() {
        if std::env::var_os(PANICS).is_some() {
            install(true);
            assert_eq!(caught(|| panic!("canary")), None::<()>);
            panic!("canary");
        }
        let name = std::thread::current().name().unwrap().to_owned();
        let run = |verbose: &str| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", &name, "--nocapture"]).env(PANICS, "1");
            command.env("RUST_BACKTRACE", verbose).output().unwrap()
        };
        let quiet = String::from_utf8(run("0").stderr).unwrap();
        assert!(
            quiet.starts_with("error: this is a bug of kubectl-ohallo ") && quiet.lines().count() == 1,
            "{quiet}"
        );
        assert!(quiet.contains("src/bug.rs:") && !quiet.contains("canary"), "{quiet}");
        let verbose = String::from_utf8(run("1").stderr).unwrap();
        assert!(verbose.contains("canary") && verbose.contains("stack backtrace"), "{verbose}");
    }
}
