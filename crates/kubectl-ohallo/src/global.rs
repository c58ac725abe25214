//! The flags that every command has.

use clap::Args;

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
