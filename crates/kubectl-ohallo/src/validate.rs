//! `validate`: judges manifests as the API server would, without a cluster.

mod format;
mod judge;
mod notes;
mod parallel;
mod report;

use std::path::PathBuf;

use clap::ValueEnum;

use crate::failure::Failure;
use crate::global::Global;
use crate::judge::Kinds;
use crate::manifest::{Base, Source, read};
use crate::output::Output;
use crate::validate::judge::Context;
use crate::validate::parallel::map_in_order;
use crate::validate::report::{Collector, Report};

pub use crate::validate::report::{VERSION, schema};

const HELP: &str = "\
Examples:
  kubectl ohallo validate channels/
  kustomize build overlays/prod | kubectl ohallo validate -
  helm template my-app | kubectl ohallo validate - --output junit
  kubectl ohallo validate channels/ --base origin/main

Objects of other kinds are counted and not judged.

Exit codes: 0 all are valid, 1 some are invalid, 2 some can't be judged, 64 wrong usage.";

#[cfg(test)]
mod tests;

#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Files, directories (with everything below them), or - for stdin
    #[arg(required = true, value_name = "FILE|DIR|-")]
    places: Vec<PathBuf>,

    /// The manifests before a change: a file, a directory or a Git revision. Judges what may not change, too
    #[arg(long, value_name = "FILE|DIR|REVISION")]
    base: Option<String>,

    /// Format of the report
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Format,
}

/// The formats of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One line for each finding, for people
    Text,
    /// Everything, with a version
    Json,
    /// A test suite for each file, for CI systems
    Junit,
    /// Annotations of GitHub Actions
    Github,
    /// SARIF 2.1.0, for code scanning
    Sarif,
}

/// # Errors
/// The base can't be read, or the report can't be written.
pub fn run(args: &Args, global: &Global, output: &mut Output) -> Result<u8, Failure> {
    let report = judge(args, global.namespace.as_deref().unwrap_or("default"))?;
    let text = match args.output {
        Format::Text => format::text(&report),
        Format::Json => format::json(&report)?,
        Format::Junit => format::junit(&report)?,
        Format::Github => format::github(&report),
        Format::Sarif => format::sarif(&report)?,
    };
    output.print(&text)?;
    Ok(report.exit_code())
}

fn judge(args: &Args, namespace: &str) -> Result<Report, Failure> {
    let kinds = Kinds::embedded().map_err(Failure::undecided)?;
    let base = args.base.as_deref().map(|base| Base::read(base, &args.places, namespace)).transpose()?;
    let context = Context { kinds: &kinds, base: &base.unwrap_or_default(), namespace };
    let mut collector = Collector::default();
    let sources = read(&args.places).filter(Source::is_manifest);
    map_in_order(sources, |source| context.file(source), |file| collector.append(file))
        .map_err(Failure::undecided)?;
    Ok(collector.finish())
}
