//! `cargo bench-channels`: what N Channels cost the operator, compared with a minimal client that sends the same calls.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod baseline;
mod environment;
mod failover;
mod latency;
mod process;
mod report;
mod round;

/// Creates, idles, restarts and deletes Channels with the real operator and with a minimal client.
#[derive(Parser)]
#[command(name = "cargo bench-channels", version)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    size: Size,
}

#[derive(clap::Args, Clone)]
struct Size {
    /// Channels in a round
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    channels: u32,
    /// Rounds; each has a fresh namespace for the operator and one for the baseline, alternating
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long the operator is watched doing nothing, in seconds
    #[arg(long, default_value_t = 10)]
    idle: u64,
    /// Only measure the time from apply to Ready, of 200 Channels one by one, with and without a concurrent sweep of reads
    #[arg(long)]
    latency: bool,
    /// Only measure so many failovers by SIGKILL and as many by SIGTERM
    #[arg(long, value_name = "COUNT", num_args = 0..=1, default_missing_value = "20",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    failover: Option<u32>,
}

#[derive(Subcommand)]
enum Command {
    /// The raw client; the benchmark starts it itself
    #[command(hide = true)]
    Baseline(baseline::Settings),
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let ended = match Args::parse() {
        Args { command: Some(Command::Baseline(settings)), .. } => baseline::run(settings).await,
        Args { size, .. } => bench(&size).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-channels: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn bench(size: &Size) -> Result<()> {
    let mut environment = environment::Environment::start().await?;
    if size.latency {
        return latency::run(&mut environment).await;
    }
    if let Some(failovers) = size.failover {
        return failover::run(&mut environment, failovers).await;
    }
    let mut rounds = Vec::new();
    for number in 0..size.rounds {
        // In turns, so that what grows with time (the audit log, etcd) favours neither.
        let order = if number % 2 == 0 {
            [round::Who::Baseline, round::Who::Operator]
        } else {
            [round::Who::Operator, round::Who::Baseline]
        };
        for who in order {
            eprintln!("round {} of {}: {who:?}, {} Channels…", number + 1, size.rounds, size.channels);
            rounds.push(round::run(&mut environment, who, size).await?);
        }
    }
    report::print(size.channels, &rounds)
}
