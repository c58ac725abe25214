//! The flags that every command has.

use std::path::PathBuf;

use clap::Args;

/// The flags that every command has, as in kubectl.
#[derive(Args)]
pub struct Global {
    /// Namespace. Default: that of the context, then "default"
    #[arg(short, long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,

    /// Kubeconfig file. Default: $KUBECONFIG, then ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig. Default: its current context
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,

    /// Never use colors. Default: colors on a terminal, unless $NO_COLOR is set
    #[arg(long, global = true)]
    pub no_color: bool,
}
