//! Assembles the operator and runs it until it is stopped.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::kubernetes::events::{Events, Publisher};
use crate::kubernetes::leader::replica;
use crate::kubernetes::reflectors::Watches;
use crate::kubernetes::{api_server, authorities, guard};
use crate::settings::{SHUTDOWN_GRACE, Settings};
use crate::startup::{crds, permissions};
use crate::stores::stores;
use crate::telemetry::calls::Calls;
use crate::telemetry::http_server::{self, Readiness};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::snapshot::count_objects;
use crate::{channel, controller, kinds, orphan_reports};

/// How often the in-memory state of deleted objects is swept.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// How often, during shutdown, an id is resent that the API server did not store.
const RECORD_RETRY: Duration = Duration::from_secs(2);

/// Why the operator can't run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Client(#[from] api_server::SetupError),
    #[error("the oHallo client can't be set up: {0}")]
    Ohallo(#[from] ohallo_client::SetupError),
    #[error("--ca-file can't be read: {0}")]
    CaFile(#[source] std::io::Error),
    #[error(transparent)]
    Bind(#[from] http_server::BindError),
}

/// Runs the operator until `shutdown` resolves, then drains.
///
/// # Errors
/// Only what prevents the start; later failures appear in statuses, in the log and in `/readyz`.
pub async fn run(
    settings: Settings,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    let listener = http_server::bind(settings.http_addr).await?;
    let client = api_server::client(&settings).await?;
    run_guarded(settings, client, listener, shutdown).await
}

/// As [`run`], with an existing client and listener.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    settings: Settings,
    client: Client,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    run_guarded(settings, guard::before(client, guard::REQUEST_TIMEOUT), listener, shutdown).await
}

async fn run_guarded(
    settings: Settings,
    client: Client,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    let metrics = Arc::new(Metrics::new());
    let options = options(&settings)?;
    let authorities = options.ca_pem.clone().zip(settings.ca_file.clone());
    let ohallo = ohallo_client::Client::new(options, Arc::new(Calls(Arc::clone(&metrics))))?;
    let following = {
        let ohallo = ohallo.clone();
        async move {
            match authorities {
                Some((pem, path)) => authorities::follow(&ohallo, &path, pem).await,
                None => std::future::pending().await,
            }
        }
    };
    let readiness = Readiness::default();
    readiness.set("CustomResourceDefinitions", Err("not checked yet".into()));
    let stop = CancellationToken::new();
    let serving = {
        let (metrics, readiness, stop) = (Arc::clone(&metrics), readiness.clone(), stop.clone());
        tokio::spawn(
            async move { http_server::serve(listener, metrics, readiness, stop.cancelled_owned()).await },
        )
    };
    let work = operate(settings, client, ohallo, metrics, readiness, stop.child_token());
    let running = async {
        tokio::pin!(work, shutdown);
        tokio::select! {
            () = &mut work => {}
            () = &mut shutdown => {
                tracing::info!("stopping: no new reconciles start, those in progress finish");
                stop.cancel();
                work.await;
            }
        }
    };
    tokio::select! {
        () = running => {}
        () = following => {}
    }
    stop.cancel();
    if let Ok(Err(error)) = serving.await {
        tracing::warn!(%error, "the HTTP server ended with an error");
    }
    tracing::info!("stopped");
    Ok(())
}

fn options(settings: &Settings) -> Result<ohallo_client::Options, RunError> {
    let ca_pem = settings.ca_file.as_ref().map(std::fs::read).transpose().map_err(RunError::CaFile)?;
    Ok(ohallo_client::Options {
        api_url: settings.api_url.clone(),
        create_path: settings.create_path.clone(),
        request_timeout: settings.request_timeout,
        create_timeout: settings.create_timeout,
        requests_per_second: settings.requests_per_second,
        burst: settings.burst,
        total_requests_per_second: settings.total_rate().unwrap_or_default(),
        ca_pem,
        proxy: settings.proxy_url(),
        allow_insecure: settings.allow_insecure_api,
        read_only: false,
    })
}

async fn operate(
    settings: Settings,
    client: Client,
    ohallo: ohallo_client::Client,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    stop: CancellationToken,
) {
    let able = async {
        crds::wait_for_crds(&client, &settings, &readiness).await;
        permissions::wait_for_permissions(&client, &settings, &readiness).await;
    };
    if stop.run_until_cancelled(able).await.is_none() {
        return;
    }
    let (stores, writers) = stores();
    let events = Events::default();
    let counted = Arc::clone(&metrics);
    let publisher =
        Publisher::new(events.clone(), client.clone(), move |dropped| counted.events_dropped(dropped));
    let published = CancellationToken::new();
    let publishing = tokio::spawn(publisher.run(published.clone()));
    let (candidate, leadership) = replica::candidate(&client, &settings);
    let mut ctx = Context::new(client, settings, ohallo, metrics, events, stores);
    ctx.leadership = leadership;
    let ctx = Arc::new(ctx);
    let counted = Arc::downgrade(&ctx);
    ctx.metrics
        .on_scrape(Box::new(move || counted.upgrade().map(|ctx| count_objects(&ctx)).unwrap_or_default()));

    ctx.settings.kinds().for_each(|kind| ctx.listed.expect(kind.plural()));
    if ctx.settings.serves_cluster_workspaces() {
        ctx.listed.expect("namespaces");
    }
    let over = CancellationToken::new();
    let electing = replica::elect(candidate, &ctx, &readiness, over.clone());
    let schema = readiness.clone();
    let watches = Watches { ctx: &ctx, readiness };
    let sweeping = async {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            ctx.sweep();
            // A standby does not reconcile, and no other process knows these ids.
            if ctx.leadership.epoch().is_none() {
                channel::record_unrecorded(&ctx).await;
            }
        }
    };
    let sweeping = async { tokio::join!(sweeping, crds::follow(&ctx, &schema)) };
    let reporting = orphan_reports::run(&ctx);
    let helpers = async { tokio::join!(kinds::watch(&watches, writers), sweeping, reporting) };
    let work = controller::run(&ctx, &stop);
    tokio::select! {
        () = drained(work, &stop) => {}
        _ = helpers => {}
    }
    ctx.tasks.close();
    if tokio::time::timeout(SHUTDOWN_GRACE, recorded(&ctx)).await.is_err() {
        let ids = ctx.metrics.ids_unrecorded();
        tracing::error!(
            ids,
            "the shutdown grace period ended with a create in flight or an id that is not stored"
        );
        ctx.ended.cancel();
    }
    orphan_reports::finish(&ctx).await;
    // Last: after that, another replica may act.
    over.cancel();
    if let Err(error) = electing.await {
        tracing::error!(%error, "the lease was not released");
    }
    published.cancel();
    if let Err(error) = publishing.await {
        tracing::warn!(%error, "the event publisher failed");
    }
}

/// Waits until every create has ended and every id that oHallo returned is in a status.
async fn recorded(ctx: &Arc<Context>) {
    ctx.tasks.wait().await;
    while channel::record_unrecorded(ctx).await > 0 {
        tokio::time::sleep(RECORD_RETRY).await;
    }
}

/// Waits for the work; after the stop, at most for the grace period.
async fn drained(work: impl Future<Output = ()>, stop: &CancellationToken) {
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    };
    tokio::select! {
        () = work => {}
        () = late => tracing::warn!("reconciles were still running when the shutdown grace period ended"),
    }
}
