//! `ohallo-operator run` and `ohallo-operator crd`.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};

use ohallo_operator::manifest;
use ohallo_operator::settings::Settings;
use ohallo_operator::telemetry::logs;

const BAD_USAGE: u8 = 2;

/// A Kubernetes operator for oHallo channels.
#[derive(Parser)]
#[command(name = "ohallo-operator", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator until SIGTERM
    Run(Box<Settings>),
    /// Print the CustomResourceDefinitions as YAML
    Crd {
        /// Write one file for each CustomResourceDefinition into this directory instead
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    // Fails only if another provider is installed, which serves equally well.
    _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match cli.command {
        Command::Run(settings) => run(*settings),
        Command::Crd { out } => ended(crd(out.as_deref())),
    }
}

fn run(settings: Settings) -> ExitCode {
    let settings = match settings.checked() {
        Ok(settings) => settings,
        Err(error) => return refused(&error.to_string()),
    };
    let format = settings.log_format(std::io::stderr().is_terminal());
    match logs::init(format, settings.otlp_endpoint.as_ref()) {
        // Dropped after the work: the drop sends the remaining spans.
        Ok(_traces) => ended(operate(settings)),
        Err(error) => refused(&error.to_string()),
    }
}

fn operate(settings: Settings) -> anyhow::Result<()> {
    // One thread: most of the time is spent waiting, and a second thread costs more in switches and memory than
    // it saves.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime could not be started")?;
    runtime.block_on(async {
        let terminate = signal(SignalKind::terminate()).context("the SIGTERM handler can't be installed")?;
        let interrupt = signal(SignalKind::interrupt()).context("the SIGINT handler can't be installed")?;
        Ok(ohallo_operator::run(settings, stop(terminate, interrupt)).await?)
    })
}

/// Resolves at the first signal; after that, a second signal exits the process immediately.
async fn stop(mut terminate: Signal, mut interrupt: Signal) {
    let name = one_of(&mut terminate, &mut interrupt).await.0;
    tracing::info!(
        signal = name,
        "stopping after in-flight work is recorded; a second signal exits immediately"
    );
    tokio::spawn(async move {
        let (name, code) = one_of(&mut terminate, &mut interrupt).await;
        tracing::warn!(signal = name, "exited immediately; in-flight work may be unrecorded");
        std::process::exit(code);
    });
}

/// The received signal, and the exit code that a shell gives it.
async fn one_of(terminate: &mut Signal, interrupt: &mut Signal) -> (&'static str, i32) {
    tokio::select! {
        _ = terminate.recv() => ("SIGTERM", 143),
        _ = interrupt.recv() => ("SIGINT", 130),
    }
}

fn crd(out: Option<&Path>) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    for crd in ohallo_core::api::crds() {
        let yaml = manifest::yaml(&crd)?;
        let Some(dir) = out else {
            writeln!(stdout, "---\n{}", yaml.trim_end()).context("stdout can't be written")?;
            continue;
        };
        let name = crd.metadata.name.context("a CRD has no name")?;
        let file = dir.join(format!("{name}.yaml"));
        std::fs::create_dir_all(dir).with_context(|| format!("{} can't be created", dir.display()))?;
        std::fs::write(&file, yaml).with_context(|| format!("{} can't be written", file.display()))?;
    }
    Ok(())
}

fn ended(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn refused(sentence: &str) -> ExitCode {
    complain(sentence);
    ExitCode::from(BAD_USAGE)
}

/// `--help` and `--version` as clap prints them; any other error as one sentence.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(BAD_USAGE));
    }
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or(&text);
    let sentence = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let sentence = sentence.strip_prefix("error: ").unwrap_or(&sentence);
    refused(&format!("{sentence}{}", variable(error).unwrap_or_default()))
}

/// clap names the flag even if the value came from its variable.
fn variable(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(arg)) = error.get(ContextKind::InvalidArg) else { return None };
    let flag = arg.split(' ').next()?;
    let name = format!("OHALLO_{}", flag.strip_prefix("--")?.replace('-', "_").to_uppercase());
    let given = |arg: OsString| arg.to_string_lossy().split('=').next() == Some(flag);
    let from_variable = std::env::var_os(&name).is_some() && !std::env::args_os().any(given);
    from_variable.then(|| format!(" (from the variable {name})"))
}

fn complain(sentence: &str) {
    _ = writeln!(std::io::stderr(), "ohallo-operator: {sentence}");
}
