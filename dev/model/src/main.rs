//! Explores every scenario, then switches each guard off and wants its counterexample.

use std::io::Write;

use clap::Parser;
use ohallo_model::guards::Guard;
use ohallo_model::scenarios::{BOUNDS, Name, Scenario};
use ohallo_model::trace::{Found, check};

/// Checks the protocol's decisions state by state.
#[derive(Parser)]
struct Args {
    /// Doubles each bound in turn, and says what changed.
    #[arg(long)]
    doubled: bool,
    /// Prints the tables of docs/contributing/model.md and explores nothing.
    #[arg(long)]
    tables: bool,
    /// Prints the counterexample of every guard.
    #[arg(long)]
    traces: bool,
    /// Only the scenarios and guards whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Another value of a bound, as in edits=3.
    #[arg(long = "set", value_name = "BOUND=VALUE")]
    sets: Vec<String>,
    /// How many threads explore.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut out = std::io::stdout().lock();
    if args.tables {
        for scenario in Name::ALL.map(Scenario::of) {
            writeln!(out, "{}", scenario.row())?;
        }
        for guard in Guard::ALL {
            writeln!(out, "{}", guard.row())?;
        }
        return Ok(());
    }
    let mut failures = 0;
    let wanted = |name: &str| name.to_lowercase().contains(&args.only.to_lowercase());
    for name in Name::ALL.into_iter().filter(|name| wanted(&format!("{name:?}"))) {
        let mut scenario = Scenario::of(name);
        for (bound, value) in args.sets.iter().filter_map(|set| set.split_once('=')) {
            let bound = scenario.bound(bound).ok_or_else(|| anyhow::anyhow!("no bound is named {bound}"))?;
            *bound = value.parse()?;
        }
        let found = check(scenario.clone(), None, args.threads);
        writeln!(
            out,
            "{:<22} {:>9} states {:>6.1} s",
            format!("{name:?}"),
            found.states,
            found.took.as_secs_f64()
        )?;
        failures += told(&mut out, &found, true)?;
        if args.doubled {
            failures += doubled(&mut out, &scenario, args.threads)?;
        }
    }
    if !args.doubled {
        for &guard in Guard::ALL.iter().filter(|guard| wanted(&guard.to_string())) {
            let found = check(Scenario::of(guard.scenario()), Some(guard), args.threads);
            let says = found.broken.as_ref().map_or("no counterexample", |(invariant, _)| invariant);
            writeln!(
                out,
                "without {:<20} {:>9} states {:>6.1} s  {says}",
                guard.to_string(),
                found.states,
                found.took.as_secs_f64()
            )?;
            if found.broken.is_none() {
                writeln!(out, "  nothing breaks without it: it is no guard")?;
                failures += 1;
            }
            if args.traces {
                told(&mut out, &found, false)?;
            }
        }
    }
    anyhow::ensure!(failures == 0, "{failures} checks failed");
    Ok(())
}

/// Doubles each bound in turn; how much is wrong.
fn doubled(out: &mut impl Write, scenario: &Scenario, threads: usize) -> anyhow::Result<usize> {
    let mut failures = 0;
    for bound in BOUNDS {
        let mut doubled = scenario.clone();
        match doubled.bound(bound) {
            Some(value) if *value > 0 => *value *= 2,
            _ => continue,
        }
        let found = check(doubled, None, threads);
        let seconds = found.took.as_secs_f64();
        writeln!(out, "  {bound:<20} {:>9} states {seconds:>6.1} s", found.states)?;
        if scenario.known(bound) {
            let broken = found.broken.as_ref().map_or("nothing was broken", |(says, _)| says);
            writeln!(out, "  as is known: {broken}")?;
            failures += usize::from(found.broken.is_none());
        } else {
            failures += told(out, &found, true)?;
        }
    }
    Ok(failures)
}

/// Prints what is wrong; how much is.
fn told(out: &mut impl Write, found: &Found, whole: bool) -> anyhow::Result<usize> {
    if let Some((invariant, trace)) = &found.broken {
        writeln!(out, "  broken: {invariant}")?;
        for (number, sentence) in trace.iter().enumerate() {
            writeln!(out, "    {:>2} {sentence}", number + 1)?;
        }
        return Ok(1);
    }
    for missing in found.missing.iter().filter(|_| whole) {
        writeln!(out, "  never happened: {missing}")?;
    }
    Ok(if whole { found.missing.len() } else { 0 })
}
