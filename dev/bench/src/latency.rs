// I/O
//! The time from apply to Ready of one Channel while nothing else goes on.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

use crate::round::{Running, Who, observe, until};
use crate::world::World;

const SAMPLES: usize = 200;
/// Between two samples, so that one's last write does not meet the next one's first.
const PAUSE: Duration = Duration::from_millis(20);

pub async fn run(world: &mut World) -> Result<()> {
    let namespace = world.namespace().await?;
    let (seen, watching) = observe(world, &namespace);
    let running = Running::start(world, Who::Operator, &namespace).await?;
    let mut times = Vec::new();
    for number in 0..SAMPLES {
        let begun = Instant::now();
        world.create(&namespace, &format!("c{number}")).await?;
        until(&seen, |seen| seen.ready > number).await?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        sleep(PAUSE).await;
    }
    watching.abort();
    running.process.terminate(Duration::from_secs(35)).await?;
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times.get((times.len() - 1) * share / 100).copied().context("no sample");
    writeln!(
        std::io::stdout().lock(),
        "apply to Ready, {SAMPLES} Channels one by one: p50 {:.1} ms, p99 {:.1} ms, slowest {:.1} ms",
        at(50)?,
        at(99)?,
        at(100)?
    )?;
    Ok(())
}
