//! Completion in shells: `kubectl_complete-ohallo` asks `__complete`, which also knows the names in the cluster.

use std::ffi::OsString;
use std::fmt::Write;

use clap_complete::{Shell, generate};

use crate::failure::Failure;
use crate::names;
use crate::output::Output;

/// After the candidates: the shell adds no names of files.
const NO_FILES: &str = ":4";

const HELP: &str = "\
Examples:
  source <(kubectl ohallo completion bash)
  kubectl ohallo completion zsh > \"${fpath[1]}/_kubectl-ohallo\"

This script completes `kubectl-ohallo`. For `kubectl ohallo`, put the file kubectl_complete-ohallo of the release on the PATH:
kubectl's own completion asks it, and it also completes names of Channels.

Exit codes: 0 success, 64 wrong usage.";

#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Script {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(clap::Args)]
pub struct Words {
    /// What follows `kubectl ohallo`; the last word is completed
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// # Errors
/// stdout can't be written.
pub fn script(args: &Script, mut command: clap::Command, output: &mut Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut command, "kubectl-ohallo", &mut script);
    output.print(&String::from_utf8_lossy(&script))
}

/// Answers as kubectl asks a plugin: a line for each candidate, and a directive.
///
/// # Errors
/// stdout can't be written.
pub fn candidates(args: &Words, mut command: clap::Command, output: &mut Output) -> Result<(), Failure> {
    let mut words = vec![OsString::from("kubectl-ohallo")];
    words.extend(args.words.iter().cloned());
    if args.words.is_empty() {
        words.push(OsString::new());
    }
    names::look_where(command.clone(), &words);
    let last = words.len() - 1;
    let mut text = String::new();
    // An unknown command has no candidates.
    let found = clap_complete::engine::complete(&mut command, words, last, None).unwrap_or_default();
    for candidate in found.iter().filter(|candidate| !candidate.is_hide_set()) {
        let value = candidate.get_value().to_string_lossy();
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        let help = help.lines().next().unwrap_or_default();
        _ = writeln!(text, "{}\t{}", ohallo_core::text::escape(&value), ohallo_core::text::escape(help));
    }
    _ = writeln!(text, "{NO_FILES}");
    output.print(&text)
}
