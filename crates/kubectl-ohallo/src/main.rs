//! `kubectl ohallo`: the command line of the ohallo-operator, for people and pipelines.

mod bug;
mod check;
mod cli;
mod cluster;
mod completion;
mod conditions;
mod explain;
mod export;
mod failure;
mod global;
mod import;
mod installed;
mod interrupt;
mod judge;
mod man;
mod manifest;
mod names;
mod ohallo;
mod output;
mod plan;
mod report;
mod schema;
mod status;
mod target;
mod validate;
mod verbs;
mod version;
mod why;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command};
use crate::failure::{BAD_USAGE, Failure, NEGATIVE, SUCCESS, UNDECIDED};
use crate::manifest::STACK;
use crate::output::Output;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { BAD_USAGE } else { 0 };
            // There is nobody to report to if this fails.
            _ = error.print();
            return ExitCode::from(code);
        }
    };
    bug::install(cli.global.no_color);
    let mut output = Output::new(cli.global.no_color);
    // For plan, 2 and 3 are answers.
    let crashed = if matches!(cli.command, Command::Plan(_)) { NEGATIVE } else { UNDECIDED };
    let work = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        let ended = run(&cli, &mut output);
        ended.unwrap_or_else(|failure| output.fail(&failure))
    });
    let ended = match work {
        // The bug is on stderr.
        Ok(thread) => thread.join().unwrap_or(crashed),
        Err(error) => {
            let failure = Failure::undecided(format!("no thread can be started: {error}"));
            Output::new(true).fail(&failure);
            crashed
        }
    };
    ExitCode::from(ended)
}

/// Runs the command; its exit code.
fn run(cli: &Cli, output: &mut Output) -> Result<u8, Failure> {
    let global = &cli.global;
    match &cli.command {
        Command::Validate(args) => validate::run(args, global, output),
        Command::Plan(args) => plan::run(args, global, output),
        Command::Schema(args) => schema::run(args, output).map(|()| SUCCESS),
        Command::Status(args) => status::run(args, global, output),
        Command::Why(args) => why::run(args, global, output),
        Command::Reconcile(args) => verbs::run(args, global, output),
        Command::Test(args) => verbs::run(args, global, output),
        Command::Retry(args) => verbs::run(args, global, output),
        Command::Suspend(args) => verbs::run(args, global, output),
        Command::Resume(args) => verbs::run(args, global, output),
        Command::Release(args) => verbs::run(args, global, output),
        Command::ConfirmDeletion(args) => verbs::run(args, global, output),
        Command::CreateAgain(args) => verbs::run(args, global, output),
        Command::Adopt(args) => verbs::run(args, global, output),
        Command::Import(args) => import::run(args, global, output),
        Command::Export(args) => export::run(args, global, output),
        Command::Check(args) => check::run(args, global, output),
        Command::Report(args) => report::run(args, global, output),
        Command::Completion(args) => completion::script(args, Cli::command(), output).map(|()| SUCCESS),
        Command::Complete(args) => completion::candidates(args, Cli::command(), output).map(|()| SUCCESS),
        Command::Man(args) => man::run(args, Cli::command()).map(|()| SUCCESS),
        Command::Version(args) => version::run(args, global, output),
    }
}
