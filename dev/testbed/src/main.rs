// I/O
//! Starts a control plane for as long as Ctrl-C lets it, and prints its kubeconfig's path, alone, to stdout.

use anyhow::Result;
use clap::{Parser, Subcommand};
use testbed::{Binaries, ControlPlane, Options, User};

#[derive(Parser)]
#[command(about = "A real Kubernetes control plane on this machine, until Ctrl-C")]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Only build what is missing (minutes, once)
    Build,
}

#[tokio::main]
async fn main() -> Result<()> {
    match Args::parse().command {
        Some(Command::Build) => tokio::task::spawn_blocking(Binaries::find).await?.map(drop),
        None => serve().await,
    }
}

#[expect(clippy::print_stdout, reason = "the path is what the caller wants")]
async fn serve() -> Result<()> {
    let control_plane = ControlPlane::start(Options::default()).await?;
    println!("{}", control_plane.kubeconfig(User::Admin).display());
    eprintln!("testbed: {} is ready; Ctrl-C ends it", control_plane.url());
    tokio::signal::ctrl_c().await?;
    control_plane.stop();
    Ok(())
}
