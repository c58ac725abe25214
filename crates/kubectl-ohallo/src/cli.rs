//! The commands.

use clap::builder::styling::Styles;
use clap::{Parser, Subcommand};

use crate::global::Global;
use crate::{
    check, completion, export, import, man, plan, report, schema, status, validate, verbs, version, why,
};

const HELP: &str = "\
Exit codes: 0 success, 1 a negative answer, 2 no answer, 64 wrong usage. Each command lists its own.";

/// Validate, explain and operate oHallo channels
///
/// Works as `kubectl ohallo` and as `kubectl-ohallo`.
#[derive(Parser)]
#[command(name = "kubectl ohallo", bin_name = "kubectl ohallo", version, about, after_help = HELP,
          styles = Styles::plain(), disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Judge manifests as the API server would, without a cluster
    Validate(validate::Args),
    /// Show what an apply of manifests would do in oHallo
    Plan(plan::Args),
    /// Print or write JSON schemas for editors and other validators
    Schema(schema::Args),
    /// Show Workspaces, their Channels and Secrets, with reasons
    Status(status::Args),
    /// Explain the reason of an object, and what to do
    Why(why::Args),
    Reconcile(verbs::Reconcile),
    Test(verbs::Test),
    Retry(verbs::Retry),
    Suspend(verbs::Suspend),
    Resume(verbs::Resume),
    Release(verbs::Release),
    ConfirmDeletion(verbs::ConfirmDeletion),
    CreateAgain(verbs::CreateAgain),
    Adopt(verbs::Adopt),
    /// Print manifests of channels that exist in oHallo
    Import(import::Args),
    /// Print the manifests of the bound Channels, with their ids pinned
    Export(export::Args),
    /// Check whether the cluster has what an operator needs
    Check(check::Args),
    /// Collect what a bug report needs, without Secrets and without configuration values
    Report(report::Args),
    /// Print a script that completes commands in a shell
    Completion(completion::Script),
    /// Candidates for kubectl's own completion
    #[command(name = "__complete", hide = true)]
    Complete(completion::Words),
    /// Write manual pages
    #[command(hide = true)]
    Man(man::Args),
    /// Compare the versions of this program, the operators and the CustomResourceDefinitions
    Version(version::Args),
}
