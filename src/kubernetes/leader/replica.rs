//! This replica's part in the election: it requeues objects on leadership, and updates the probes and metrics.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use kube::Client;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::context::Context;
use crate::kubernetes::leader::{Candidate, LeaderEvent, Leadership};
use crate::settings::Settings;
use crate::telemetry::http_server::Readiness;

/// Returns the candidate, if replicas elect a leader, and the leadership.
pub fn candidate(client: &Client, settings: &Settings) -> (Option<Candidate>, Leadership) {
    if !settings.leader_elect {
        return (None, Leadership::always());
    }
    let lease = (settings.operator_namespace.clone(), settings.lease_name.clone());
    let (candidate, leadership) =
        Candidate::new(client.clone(), lease, identity(), settings.lease_durations());
    (Some(candidate), leadership)
}

/// The pod's name, with a random suffix that distinguishes a restarted process of the same name.
fn identity() -> String {
    let pod = std::env::var("POD_NAME").ok();
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = pod.filter(|name| !name.is_empty()).or_else(host).unwrap_or_default();
    format!("{}_{:016x}", name.trim(), rand::random::<u64>())
}

/// Takes part in the election once every kind is listed: a process that can't work must not lead. Releases the
/// lease when `over` is cancelled.
pub fn elect(
    candidate: Option<Candidate>,
    ctx: &Arc<Context>,
    readiness: &Readiness,
    over: CancellationToken,
) -> AbortOnDropHandle<()> {
    let (ctx, readiness) = (Arc::clone(ctx), readiness.clone());
    ctx.metrics.leader(candidate.is_none());
    AbortOnDropHandle::new(tokio::spawn(async move {
        let Some(candidate) = candidate else { return };
        readiness.role("standby");
        if over.run_until_cancelled(ctx.listed.wait()).await.is_none() {
            return;
        }
        let silent = AtomicBool::new(false);
        candidate.run(over, |event| take_in(event, &ctx, &readiness, &silent)).await;
    }))
}

fn take_in(event: LeaderEvent<'_>, ctx: &Context, readiness: &Readiness, silent: &AtomicBool) {
    match event {
        LeaderEvent::Leads => {
            ctx.metrics.leader(true);
            readiness.role("leader");
            ctx.orphans.leads();
            ctx.requeue_all();
        }
        LeaderEvent::Follows => {
            ctx.metrics.leader(false);
            readiness.role("standby");
        }
        LeaderEvent::OtherLeads(leads) => ctx.orphans.other_leads(leads),
        LeaderEvent::Reachable => {
            silent.store(false, Relaxed);
            readiness.set("lease", Ok(()));
        }
        LeaderEvent::Unreachable { why, refused } => {
            // An unreachable API server makes no replica less ready than the others.
            if refused {
                readiness.set("lease", Err(format!("it can't be read or written: {why}")));
            }
            if !silent.swap(true, Relaxed) {
                tracing::warn!(why, "the lease can't be read or written; the operator retries");
            }
        }
    }
}
