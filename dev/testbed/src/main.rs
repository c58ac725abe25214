//! Starts a control plane for as long as Ctrl-C lets it, and prints its kubeconfig's path, alone, to stdout.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use testbed::{Binaries, ControlPlane, Options, User, tool, tools};

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
    /// Print the path of a tool that tests run, such as helm; it is built if it is missing
    Tool { name: String },
}

#[tokio::main]
async fn main() -> Result<()> {
    match Args::parse().command {
        Some(Command::Build) => {
            tokio::task::spawn_blocking(|| Binaries::find().and_then(|_| tools())).await?
        }
        Some(Command::Tool { name }) => print(tokio::task::spawn_blocking(move || tool(&name)).await??),
        None => serve().await,
    }
}

#[expect(clippy::print_stdout, reason = "the path is what the caller wants")]
fn print(path: PathBuf) -> Result<()> {
    println!("{}", path.display());
    Ok(())
}

async fn serve() -> Result<()> {
    let control_plane = ControlPlane::start(Options::default()).await?;
    print(control_plane.kubeconfig(User::Admin))?;
    eprintln!("testbed: {} is ready; Ctrl-C ends it", control_plane.url());
    tokio::signal::ctrl_c().await?;
    control_plane.stop();
    Ok(())
}
