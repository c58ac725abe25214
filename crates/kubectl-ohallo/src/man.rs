//! Manual pages, for the archives of a release.

use std::path::PathBuf;

use crate::failure::Failure;

#[derive(clap::Args)]
pub struct Args {
    /// The folder to write the pages to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// # Errors
/// The folder can't be written.
pub fn run(args: &Args, command: clap::Command) -> Result<(), Failure> {
    let command = command.name("kubectl-ohallo").bin_name("kubectl-ohallo");
    let written =
        std::fs::create_dir_all(&args.out).and_then(|()| clap_mangen::generate_to(command, &args.out));
    written.map_err(|error| Failure::undecided(format!("{} can't be written: {error}", args.out.display())))
}
