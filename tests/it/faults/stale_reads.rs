//! F68–F71: reads of oHallo that are older than the operator's own writes.

use std::collections::BTreeSet;
use std::time::Duration;

use ohallo_core::api::channel::Channel;
use ohallo_sim::{Config, Operation};
use serde_json::json;

use crate::support::harness::{Harness, WAIT_TIMEOUT, condition, id_of};
use crate::support::steps::reconcile_now;

const RETRY: &str = "ohallo.eu/retry-requested-at";

/// The reasons that a decision from an older read would give.
const FALSE: [&str; 5] =
    ["ChannelNotFound", "NotConverging", "ProvisioningFailed", "DriftDetected", "AbsenceNotProven"];

const WINDOW: Duration = Duration::from_secs(60);

/// What one story came to.
#[derive(Debug, PartialEq)]
struct LagReport {
    /// Creates, updates, retries, deletes.
    writes: [usize; 4],
    verdicts: BTreeSet<String>,
}

struct Lagging {
    harness: Harness,
    lag: Duration,
    restarts: bool,
    reconciles: usize,
}

impl Lagging {
    async fn start(lag: Duration, writes_lag: bool, restarts: bool) -> Self {
        // After a restart a DELETE that was answered before meets a 404 until the window ends.
        let window =
            if restarts { "--consistency-window-seconds=10" } else { "--consistency-window-seconds=60" };
        let harness = Harness::with(Config::default(), &[window]).await;
        harness.sim.set(|behaviour| {
            behaviour.read_lag_ms = u64::try_from(lag.as_millis()).unwrap();
            behaviour.writes_lag = writes_lag;
        });
        Self { harness, lag, restarts, reconciles: 0 }
    }

    /// Reads the channel again and again until no read is older than now.
    async fn catch_up(&mut self, name: &str) {
        if self.restarts {
            self.harness.kill_operator();
            self.harness.start_operator().await;
        }
        let until = self.harness.sim.elapsed_ms() + u64::try_from(self.lag.as_millis()).unwrap();
        loop {
            let over = self.harness.sim.elapsed_ms() > until;
            self.reconciles += 1;
            reconcile_now(&self.harness, name, &self.reconciles.to_string()).await;
            if over {
                return;
            }
            tokio::time::sleep(self.lag / 6).await;
        }
    }

    /// Every reason that Ready, Stalled, Drifted or DeletionBlocked had on the way, and every event about drift.
    async fn verdicts(&self, since: usize, name: &str) -> BTreeSet<String> {
        let kinds = ["Ready", "Stalled", "Drifted", "DeletionBlocked"];
        let of = |channel: &Channel| {
            let reason = |kind: &&str| condition(channel, kind).map(|found| found.2.to_owned());
            kinds.iter().filter_map(reason).collect::<Vec<_>>()
        };
        let seen = self.harness.history.seen();
        let about =
            seen.iter().skip(since).filter(|seen| seen.channel.metadata.name.as_deref() == Some(name));
        let events = self.harness.events(name).await.into_iter().map(|event| event.0);
        about
            .flat_map(|seen| of(&seen.channel))
            .chain(events.filter(|reason| reason.starts_with("Drift")))
            .collect()
    }
}

/// Create, update, retry and delete of one channel, with reads in between.
async fn run_with_lag(lag: Duration, writes_lag: bool, restarts: bool) -> LagReport {
    let mut it = Lagging::start(lag, writes_lag, restarts).await;
    let id = id_of(&it.harness.ready("a", json!({"config": {"a": 1}})).await);
    it.catch_up("a").await;
    it.harness.edit("a", json!({"spec": {"config": {"a": 2}, "displayName": "Newer"}})).await;
    it.harness
        .until("a", "applied", |channel| {
            let ready = condition(channel, "Ready");
            ready.is_some_and(|ready| ready.1 == "True" && ready.3 == channel.metadata.generation)
        })
        .await;
    it.catch_up("a").await;
    let mut verdicts = it.verdicts(0, "a").await;

    it.harness.edit("a", json!({"spec": {"provisioningRetry": {"limit": 1}}})).await;
    it.harness.sim.edit_channel(&id, |channel| channel.status = "error".into());
    let failed = async {
        loop {
            let asked = it.harness.sim.elapsed_ms().to_string();
            let channel = reconcile_now(&it.harness, "a", &asked).await;
            if condition(&channel, "Ready").is_some_and(|ready| ready.2 == "ProvisioningFailed") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200) + lag / 20).await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT + lag, failed).await.expect("the failure never shows");
    let since = it.harness.history.seen().len();
    it.harness.annotate("a", RETRY, "1").await;
    let retried = |sim: &ohallo_sim::Sim| sim.count(Operation::RetryProvisioning) == 1;
    it.harness.sim.wait_until(retried, WAIT_TIMEOUT).await.unwrap();
    it.catch_up("a").await;
    it.harness.reason("a", "Available").await;
    // The first failure stays until the first success.
    let stalled = it
        .harness
        .history
        .seen()
        .into_iter()
        .skip(since)
        .any(|seen| condition(&seen.channel, "Stalled").is_some());
    assert!(!stalled || lag > WINDOW, "the retry was reported as without effect");

    let since = it.harness.history.seen().len();
    it.harness.delete("a").await;
    if restarts {
        it.harness.kill_operator();
        it.harness.start_operator().await;
    }
    it.harness.wait_deleted("a").await;
    verdicts.extend(it.verdicts(since, "a").await);
    // Only the process that sent the DELETE knows of it.
    it.restarts = false;
    it.harness.create("b", json!({"channelId": id})).await;
    it.catch_up("b").await;
    let adopted = it.harness.get("b").await.status.unwrap().channel_id;
    assert!(adopted.is_none() || lag > WINDOW, "what was deleted is adopted");
    verdicts.extend(it.verdicts(since, "b").await);
    let operations = [
        Operation::CreateChannel,
        Operation::UpdateChannel,
        Operation::RetryProvisioning,
        Operation::DeleteChannel,
    ];
    let committed = |operation| {
        let ledger = it.harness.sim.ledger();
        ledger.iter().filter(|entry| entry.operation == operation && entry.committed).count()
    };
    let writes = operations.map(committed);
    eprintln!(
        "reads older by {lag:?}, writes as well: {writes_lag}, restarts: {restarts}: {:?}, {} of the reads asked for; {verdicts:?}",
        it.harness.calls(),
        it.reconciles
    );
    it.harness.delete("b").await;
    it.harness.wait_deleted("b").await;
    it.harness.finish().await;
    LagReport { writes, verdicts }
}

async fn same_as_without_lag(lag: Duration, restarts: bool) {
    for writes_lag in [false, true] {
        let run_with_lag = run_with_lag(lag, writes_lag, restarts).await;
        assert_eq!(run_with_lag.writes, [1, 1, 1, 1], "the writes of a run without lag");
        // A DELETE whose answer the kill took away meets a true absence, which is seen twice.
        let ends = |reason: &&String| restarts && *reason == "AbsenceNotProven";
        let wrong =
            run_with_lag.verdicts.iter().filter(|reason| FALSE.contains(&reason.as_str()) && !ends(reason));
        let wrong: Vec<_> = wrong.collect();
        assert!(wrong.is_empty(), "{run_with_lag:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f68_f69_f70_f71_reads_older_than_each_kind_of_write_by_a_second_lead_to_no_false_reason() {
    same_as_without_lag(Duration::from_secs(1), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f68_f69_f70_f71_reads_older_by_three_seconds_with_restarts_between_lead_to_no_false_reason() {
    same_as_without_lag(Duration::from_secs(3), true).await;
}

/// The digest of what the status calls applied.
fn applied(channel: &Channel) -> Option<String> {
    channel.status.as_ref()?.applied.as_ref()?.digest.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f69_an_update_that_ohallo_ignores_is_not_applied_and_ends_in_not_converging() {
    let harness = Harness::with(Config::default(), &["--consistency-window-seconds=2"]).await;
    let before = harness.ready("a", json!({"config": {"a": 1, "b": 1}})).await;
    harness.sim.set(|behaviour| behaviour.ignored_keys = ["a".to_owned()].into());
    harness.edit("a", json!({"spec": {"config": {"a": 2, "b": 2}}})).await;
    let channel = harness.reason("a", "NotConverging").await;
    assert_eq!(applied(&channel), applied(&before), "the status calls it applied");
    let again = harness.count(Operation::UpdateChannel);
    assert_eq!(again, 3, "sent once, and again after each of two windows");
    let updated: Vec<_> =
        harness.events("a").await.into_iter().filter(|event| event.0 == "Updated").collect();
    let named = updated.iter().any(|event| event.1.contains("config.a"));
    assert!(!named && updated.iter().any(|event| event.1.contains("config.b")), "{updated:?}");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f69_an_answer_that_is_older_than_its_update_is_no_success_until_a_read_shows_it() {
    let harness = Harness::with(Config::default(), &["--consistency-window-seconds=60"]).await;
    let before = harness.ready("a", json!({"config": {"a": 1}})).await;
    harness.sim.set(|behaviour| (behaviour.answers_lag, behaviour.read_lag_ms) = (true, 2000));
    harness.edit("a", json!({"spec": {"config": {"a": 2}}})).await;
    let channel = harness.until("a", "reconciled", |channel| {
        channel.status.as_ref().is_some_and(|status| status.observed_generation == Some(2))
    });
    assert_eq!(applied(&channel.await), applied(&before), "the answer has the old value");
    let channel = harness.until("a", "applied", |channel| applied(channel) != applied(&before)).await;
    assert_eq!(condition(&channel, "Ready").map(|ready| (ready.1, ready.3)), Some(("True", Some(2))));
    assert_eq!(harness.count(Operation::UpdateChannel), 1, "it is sent once");
    harness.finish().await;
}

/// Beyond the window a lag is taken at face value; what must not happen twice does not, and no message advises to
/// delete before a check of the dashboard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; .ci/full stale_reads"]
async fn f68_f69_f70_f71_reasons_calls_and_writes_by_lag() {
    for seconds in [0, 1, 3, 10, 90] {
        let run_with_lag = run_with_lag(Duration::from_secs(seconds), false, false).await;
        assert_eq!(
            (run_with_lag.writes[0], run_with_lag.writes[3]),
            (1, 1),
            "one create and one DELETE: {run_with_lag:?}"
        );
        if seconds < WINDOW.as_secs() {
            assert_eq!(run_with_lag.writes, [1, 1, 1, 1], "{seconds} s");
        }
    }
}
