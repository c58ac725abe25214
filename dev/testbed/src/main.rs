//! Starts a control plane for as long as Ctrl-C lets it, and prints its kubeconfig's path, alone, to stdout.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use testbed::{
    Binaries, ControlPlane, Missing, Node, Options, Programs, User, isolated, pause_image, prerequisites,
    tool, tools,
};
use tokio::task::spawn_blocking;

/// Of `node check`: this machine can't run a node, for a reason that is printed.
const NO_NODE: u8 = 3;

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
    /// A node, so that pods run: needs root, in network, mount and process namespaces of its own
    #[command(subcommand)]
    Node(NodeCommand),
}

#[derive(Subcommand)]
enum NodeCommand {
    /// Install missing packages; exit with 3 and one sentence if no node can run on this machine
    Check,
    /// Build what a node needs (minutes, once)
    Build,
    /// Run a command in the namespaces; without one, start a node until Ctrl-C and print its kubeconfig's path
    Run {
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// Start a node, in the namespaces
    #[command(hide = true)]
    Serve,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    match Args::parse().command {
        Some(Command::Build) => spawn_blocking(|| Binaries::find(true).and_then(|_| tools())).await??,
        Some(Command::Tool { name }) => print(spawn_blocking(move || tool(&name)).await??)?,
        Some(Command::Node(command)) => return node(command).await,
        None => serve().await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn node(command: NodeCommand) -> Result<ExitCode> {
    match command {
        NodeCommand::Check => {
            if let Err(missing) = check().await? {
                eprintln!("{missing}");
                return Ok(ExitCode::from(NO_NODE));
            }
        }
        NodeCommand::Build => {
            check().await??;
            spawn_blocking(build_node).await??;
        }
        NodeCommand::Run { command } => return run(command).await,
        NodeCommand::Serve => serve_node().await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn check() -> Result<Result<(), Missing>> {
    Ok(spawn_blocking(prerequisites).await?)
}

/// All that can't be built in the namespaces, which have no network.
fn build_node() -> Result<()> {
    Binaries::find(true)?;
    Programs::find()?;
    pause_image()?;
    tools()
}

async fn run(mut command: Vec<OsString>) -> Result<ExitCode> {
    check().await??;
    spawn_blocking(build_node).await??;
    if command.is_empty() {
        let own = std::env::current_exe()?;
        command.extend([own.into_os_string(), "node".into(), "serve".into()]);
    }
    // The command gets Ctrl-C as well and decides what to do; this process waits for it.
    let ended = spawn_blocking(move || isolated(&command));
    tokio::pin!(ended);
    let status = loop {
        tokio::select! {
            status = &mut ended => break status??,
            interrupted = tokio::signal::ctrl_c() => interrupted?,
        }
    };
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map(ExitCode::from).context("the command was killed")
}

async fn serve_node() -> Result<()> {
    let node = Node::start().await?;
    print(node.control_plane().kubeconfig(User::Admin))?;
    eprintln!("testbed: node {} is ready; Ctrl-C ends it", node.name());
    tokio::signal::ctrl_c().await?;
    Ok(())
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
