//! Leader election. Of several replicas, one holds a Lease; its effects are fenced by the epoch in which it
//! holds the Lease.
//!
//! This replaces `kube-lease-manager` 0.13.1, which judges a lease by the times in its record. It never takes a
//! dead holder's lease with a future time. It takes a live holder's lease at once if the time is moved back,
//! while that holder still leads. Of 150 races for an expired lease, one had two winners.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use ohallo_client::clock;
use ohallo_core::api::MANAGER;
use ohallo_core::lease;
use ohallo_core::lease::election::{Change, Election, LeaseHold, LeaseRequest, LeaseResponse};

pub mod replica;

pub use ohallo_core::lease::LeaseDurations;
pub use ohallo_core::lease::election::Epoch;

/// The longest duration of one request; a holder's request is also limited by the end of its lease hold.
const MAX_REQUEST_TIME: Duration = Duration::from_secs(10);

/// How many times a failed release is retried.
const RELEASE_ATTEMPTS: usize = 3;

/// Whether this process may act, and in which epoch. Clones share the state.
#[derive(Clone)]
pub struct Leadership {
    tenure: watch::Receiver<Option<LeaseHold>>,
    elected: bool,
}

/// Takes part in the election and decides the leadership.
pub struct Candidate {
    pub client: Client,
    pub namespace: String,
    pub name: String,
    pub identity: String,
    pub terms: LeaseDurations,
    tenure: watch::Sender<Option<LeaseHold>>,
}

/// What happened in the election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaderEvent<'a> {
    Leads,
    Follows,
    /// Whether another process was seen to lead.
    OtherLeads(bool),
    /// The lease can't be reached, and why; `refused` if a user has to change something.
    Unreachable {
        why: &'a str,
        refused: bool,
    },
    Reachable,
}

// === impl Leadership ===

impl Leadership {
    /// The leadership of a single process: one epoch that never ends.
    pub fn always() -> Self {
        Self { tenure: watch::channel(None).1, elected: false }
    }

    /// The epoch in which an effect may begin now. Checked again right before each effect.
    pub fn epoch(&self) -> Option<Epoch> {
        if !self.elected {
            return Some(Epoch { term: 0, transitions: 0 });
        }
        let tenure = (*self.tenure.borrow())?;
        (clock::instant() < tenure.until).then_some(tenure.epoch)
    }
}

// === impl Candidate ===

impl Candidate {
    pub fn new(
        client: Client,
        (namespace, name): (String, String),
        identity: String,
        terms: LeaseDurations,
    ) -> (Self, Leadership) {
        let (sender, tenure) = watch::channel(None);
        let candidate = Self { client, namespace, name, identity, terms, tenure: sender };
        (candidate, Leadership { tenure, elected: true })
    }

    /// Competes for the lease and holds it until `over`, then releases it.
    pub async fn run(self, over: CancellationToken, notify: impl Fn(LeaderEvent<'_>)) {
        let mut election = Election::new(self.identity.clone(), self.terms, clock::instant());
        while !over.is_cancelled() {
            let wait = election.due().saturating_duration_since(clock::instant());
            if over.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                break;
            }
            let lapsed = election.expire(clock::instant());
            self.take_in(&election, lapsed, &notify);
            if election.due() > clock::instant() {
                continue;
            }
            let ask = election.ask(clock::now());
            let began = clock::instant();
            let limit = election.tenure().map_or(MAX_REQUEST_TIME, |tenure| {
                tenure.until.saturating_duration_since(began).min(MAX_REQUEST_TIME)
            });
            // The shutdown does not cancel the request: its response shows whether the lease must be released.
            let answer = self.send(&ask, limit, &notify).await;
            let change = election.handle(&ask, answer, began, clock::instant());
            notify(LeaderEvent::OtherLeads(election.other_leads(clock::instant())));
            self.take_in(&election, change, &notify);
        }
        self.give_back(election, &notify).await;
    }

    fn take_in(&self, election: &Election, change: Option<Change>, notify: &impl Fn(LeaderEvent<'_>)) {
        self.tenure.send_replace(election.tenure());
        let (lease, identity) = (self.name.as_str(), self.identity.as_str());
        match change {
            Some(Change::Acquired(epoch)) => {
                tracing::info!(
                    lease,
                    identity,
                    epoch = epoch.transitions,
                    "acquired the lease; this replica leads"
                );
                notify(LeaderEvent::Leads);
            }
            Some(Change::Lost(epoch, why)) => {
                let epoch = epoch.transitions;
                tracing::warn!(lease, identity, epoch, why, "lost the lease; this replica no longer leads");
                notify(LeaderEvent::Follows);
            }
            None => {}
        }
    }

    fn api(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Sends one request and interprets its response.
    pub async fn send(
        &self,
        ask: &LeaseRequest,
        limit: Duration,
        notify: &impl Fn(LeaderEvent<'_>),
    ) -> LeaseResponse {
        let api = self.api();
        let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        let request = async {
            match ask {
                LeaseRequest::Read => api.get(&self.name).await,
                LeaseRequest::Create(lease) => {
                    let mut lease = lease.clone();
                    lease.metadata.name = Some(self.name.clone());
                    api.create(&params, &lease).await
                }
                LeaseRequest::Replace(lease) => api.replace(&self.name, &params, lease).await,
            }
        };
        let answer = tokio::time::timeout(limit, request).await;
        let (why, refused) = match answer {
            Ok(Ok(lease)) => match ask {
                LeaseRequest::Create(sent) | LeaseRequest::Replace(sent) if !lease::is_stored(sent, &lease) => {
                    ("the API server did not keep what was written: an admission policy or webhook changes the lease".to_owned(), true)
                }
                _ => {
                    notify(LeaderEvent::Reachable);
                    return LeaseResponse::Found(Box::new(lease));
                }
            },
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => return LeaseResponse::Conflict,
            Ok(Err(kube::Error::Api(status))) if status.code == 404 && !matches!(ask, LeaseRequest::Create(_)) => {
                return LeaseResponse::Missing;
            }
            Ok(Err(error)) => {
                let refused = matches!(&error, kube::Error::Api(status) if (400..500).contains(&status.code));
                (crate::kubernetes::error::describe(&error), refused)
            }
            Err(_) => ("no answer in time".to_owned(), false),
        };
        notify(LeaderEvent::Unreachable { why: &why, refused });
        LeaseResponse::Failed
    }

    /// Stops acting, then releases the lease, so that a standby need not wait until it expires.
    async fn give_back(&self, mut election: Election, notify: &impl Fn(LeaderEvent<'_>)) {
        let tenure = election.tenure();
        let mut lease = election.release();
        self.take_in(&election, None, notify);
        let Some(tenure) = tenure else { return };
        notify(LeaderEvent::Follows);
        let epoch = tenure.epoch;
        for _ in 0..RELEASE_ATTEMPTS {
            let Some(released) = lease.take() else { return };
            match self.send(&LeaseRequest::Replace(released), MAX_REQUEST_TIME, notify).await {
                LeaseResponse::Found(_) => {
                    let (lease, epoch) = (self.name.as_str(), epoch.transitions);
                    tracing::info!(lease, identity = self.identity, epoch, "released the lease");
                    return;
                }
                LeaseResponse::Missing => return,
                LeaseResponse::Conflict | LeaseResponse::Failed => {
                    match self.send(&LeaseRequest::Read, MAX_REQUEST_TIME, notify).await {
                        LeaseResponse::Found(found) => lease = election.release_again(&found, epoch),
                        _ => break,
                    }
                }
            }
        }
        tracing::warn!(
            lease = self.name,
            "the lease was not released; standby replicas wait until it expires"
        );
    }
}
