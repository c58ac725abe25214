//! The flags of every command.

use clap::builder::styling::Styles;
use clap::{Args, Parser, Subcommand};

use crate::validate;

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

/// The flags that every command has, as in kubectl.
#[derive(Args)]
pub struct Global {
    /// Namespace of objects that name none. Default: that of the context, then "default"
    #[arg(short, long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,

    /// Never use colors. Default: colors on a terminal, unless $NO_COLOR is set
    #[arg(long, global = true)]
    pub no_color: bool,
}

#[derive(Subcommand)]
pub enum Command {
    /// Judge manifests as the API server would, without a cluster
    Validate(validate::Args),
}
