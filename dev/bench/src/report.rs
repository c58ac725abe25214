//! The medians of all rounds, operator and baseline, with the goals.

use std::io::Write;

use anyhow::{Context, Result};

use crate::round::{Phase, Round, Who};

pub fn print(channels: u32, rounds: &[Round]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let number = f64::from(channels);
    let of = |who: Who, pick: &dyn Fn(&Round) -> f64| {
        median(rounds.iter().filter(|round| round.who == who).map(pick))
    };
    writeln!(out, "\n{channels} Channels, medians of {} rounds", rounds.len() / 2)?;
    writeln!(out, "{:<26}{:>10}{:>10}{:>9}   goal", "", "operator", "baseline", "ratio")?;
    type Row<'a> = (&'a str, &'a dyn Fn(&Round) -> f64, &'a str);
    let rows: [Row<'_>; 8] = [
        ("create, s", &|round| round.create.seconds, "≤ 1.15×"),
        ("create, CPU s", &|round| round.create.cpu, "≤ 1.3×"),
        ("delete, s", &|round| round.delete.seconds, ""),
        ("delete, CPU s", &|round| round.delete.cpu, ""),
        ("restart to listed, s", &|round| round.restart.seconds, "≤ 1.3×"),
        ("idle, % of a core", &|round| 100.0 * round.idle.cpu / round.idle.seconds, ""),
        ("idle, resident MiB", &|round| round.idle_mib, "≤ 24"),
        ("peak, resident MiB", &|round| round.peak_mib, ""),
    ];
    for (name, pick, goal) in rows {
        let (operator, baseline) = (of(Who::Operator, pick)?, of(Who::Baseline, pick)?);
        let ratio = if baseline > 0.0 { format!("{:.2}×", operator / baseline) } else { "–".to_owned() };
        writeln!(out, "{name:<26}{operator:>10.2}{baseline:>10.2}{ratio:>9}   {goal}")?;
    }
    writeln!(out, "\nper Channel (operator)        writes    events     calls   goal")?;
    type Line<'a> = (&'a str, &'a dyn Fn(&Round) -> Phase, &'a str);
    let lines: [Line<'_>; 5] = [
        ("create", &|round| round.create, "2 writes, 1 call"),
        ("update", &|round| round.update, "1 write, 2 calls"),
        ("delete", &|round| round.delete, "1 write, 1 call"),
        ("idle", &|round| round.idle, "0 writes"),
        ("restart", &|round| round.restart, "0 writes, 0 calls"),
    ];
    for (name, pick, goal) in lines {
        let each = |count: &dyn Fn(Phase) -> usize| {
            of(Who::Operator, &|round| {
                f64::from(u32::try_from(count(pick(round))).unwrap_or(u32::MAX)) / number
            })
        };
        let (writes, events, calls) =
            (each(&|phase| phase.writes)?, each(&|phase| phase.events)?, each(&|phase| phase.calls)?);
        writeln!(out, "{name:<26}{writes:>10.3}{events:>10.3}{calls:>10.3}   {goal}")?;
    }
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> Result<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().context("no round")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert!((median([3.0, 1.0, 2.0].into_iter()).unwrap() - 2.0).abs() < f64::EPSILON);
        assert!(median(std::iter::empty()).is_err());
    }
}
