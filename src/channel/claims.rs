//! Finds other Channels that claim the channel of a terminating object: in the cache, or from the API server if
//! the cache may lag behind a relevant event.

use kube::api::{Api, ListParams};
use kube::{Resource, ResourceExt};

use crate::channel::reconciliation::Reconciliation;
use crate::kubernetes::error;
use ohallo_client::clock;
use ohallo_core::api::channel::{Channel, version};
use ohallo_core::api::same_id;
use ohallo_core::channel::in_memory_state::CACHE_LAG;
use ohallo_core::channel::model::{Claims, Plan, Step};
use ohallo_core::channel::plan::delete::claims::{note, waiting_message};
use ohallo_core::channel::plan::plan;
use ohallo_core::failure::Failure;
use ohallo_core::index::{Claim, Elsewhere, Index, NamespacedName, Rivals, Shown};

/// How many objects one page of a list holds: the whole page is in memory at once.
const PAGE: u32 = 20;

/// Runs at the start of a reconcile: checks Channels of the same namespace, and all Channels if the deletion
/// already waits.
pub async fn first(reconciliation: &mut Reconciliation, id: &str) -> Result<(), Failure> {
    let (me, now) = (NamespacedName::of(&reconciliation.channel), clock::instant());
    if reconciliation.memory.delete_unsure.is_some_and(|at| now.saturating_duration_since(at) >= CACHE_LAG) {
        release(reconciliation);
    }
    let rivals = reconciliation.ctx.index().rivals(id, &me);
    let heir = match &rivals.heir {
        None => None,
        Some(name) if bound_afresh(reconciliation, name, id).await? => Some(name.clone()),
        // The cache and the API server disagree on which Channel is bound: nothing is deleted until they agree.
        Some(_) => return Err(Failure::deferred(std::time::Duration::from_secs(1))),
    };
    let waits = reconciliation.memory.wait.is_some() || waiting_message(&reconciliation.status).is_some();
    found(reconciliation, id, &rivals, heir, waits.then_some(rivals.elsewhere));
    Ok(())
}

/// Checks again right before the DELETE, and reserves the id for it. Returns `false` if the plan has changed.
pub async fn last(reconciliation: &mut Reconciliation, id: &str, fresh: &Channel) -> Result<bool, Failure> {
    let listed = match must_list(reconciliation, fresh) {
        true => Some(list(reconciliation, id).await?),
        false => None,
    };
    let (ctx, me, uid) =
        (reconciliation.ctx.clone(), NamespacedName::of(&reconciliation.channel), reconciliation.uid());
    // The lock is held from the check to the reservation.
    let mut index = ctx.index();
    let rivals = listed.as_ref().unwrap_or(&index).rivals(id, &me);
    if rivals.heir.is_some() {
        return Err(Failure::deferred(std::time::Duration::from_millis(300)));
    }
    found_in(reconciliation, &index, id, &rivals, None, Some(rivals.elsewhere));
    if !matches!(plan(&reconciliation.input()), Plan::Work(Step::Delete { .. })) {
        return Ok(false);
    }
    if index.claim(id, &me, &uid, Claim::Delete) {
        return Ok(true);
    }
    Err(Failure::deferred(std::time::Duration::from_secs(1)))
}

/// Ends this object's reservations, because oHallo answered its DELETE.
pub fn release(reconciliation: &mut Reconciliation) {
    reconciliation.memory.delete_unsure = None;
    let requeues = reconciliation.ctx.index().unclaim(&reconciliation.uid());
    reconciliation.ctx.requeue(requeues);
}

fn found(
    reconciliation: &mut Reconciliation,
    id: &str,
    rivals: &Rivals,
    heir: Option<NamespacedName>,
    elsewhere: Option<Elsewhere>,
) {
    let ctx = reconciliation.ctx.clone();
    let index = ctx.index();
    found_in(reconciliation, &index, id, rivals, heir, elsewhere);
}

fn found_in(
    reconciliation: &mut Reconciliation,
    index: &Index,
    id: &str,
    rivals: &Rivals,
    heir: Option<NamespacedName>,
    elsewhere: Option<Elsewhere>,
) {
    let namespace = reconciliation.channel.namespace().unwrap_or_default();
    let claims = Claims {
        heir: heir.map(|heir| (heir.namespace == namespace).then_some(heir.name)),
        outranked: rivals.outranked,
        beside: rivals.beside.iter().map(|name| name.name.clone()).collect(),
        more: rivals.more,
        elsewhere,
    };
    let waited = reconciliation.memory.wait.is_some();
    let said = waiting_message(&reconciliation.status).map(str::to_owned);
    note(&mut reconciliation.memory, said.as_deref(), &claims, clock::instant());
    if !waited && reconciliation.memory.wait.is_some() {
        let others = index.claimants_elsewhere(id, &namespace);
        let all = rivals.beside.iter().chain(&others);
        let claimants: Vec<_> = all.map(|name| format!("{}/{}", name.namespace, name.name)).collect();
        tracing::info!(
            channel = reconciliation.channel.name_any(),
            namespace,
            channel_id = id,
            claimants = claimants.join(", "),
            "the deletion waits: other Channels claim the channel in oHallo"
        );
    }
    reconciliation.observed.claims = Some(claims);
}

/// Whether this Channel is living and bound to the id, read from the API server.
async fn bound_afresh(
    reconciliation: &Reconciliation,
    name: &NamespacedName,
    id: &str,
) -> Result<bool, Failure> {
    let api: Api<Channel> = Api::namespaced(reconciliation.ctx.client.clone(), &name.namespace);
    match api.get(&name.name).await {
        Ok(heir) => {
            let uid = heir.uid().unwrap_or_default();
            let bound = heir.status.as_ref().and_then(|status| status.bound_to(&uid));
            Ok(heir.meta().deletion_timestamp.is_none() && bound.is_some_and(|bound| same_id(bound, id)))
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error::to_failure(&error)),
    }
}

/// Whether the cache may lack a claimant that existed when the object was deleted. True during a list, and if each
/// namespace has its own watch. Also true if the API server's object is older than the cached one, as after a restore
/// from a backup.
fn must_list(reconciliation: &Reconciliation, fresh: &Channel) -> bool {
    reconciliation.ctx.listing_channels()
        || reconciliation.ctx.settings.namespaces.len() > 1
        || version(fresh) < version(&reconciliation.channel)
}

/// The Channels that refer to this id, by a consistent list of each watched namespace.
async fn list(reconciliation: &Reconciliation, id: &str) -> Result<Index, Failure> {
    let settings = &reconciliation.ctx.settings;
    let client = &reconciliation.ctx.client;
    let apis: Vec<Api<Channel>> = if settings.namespaces.is_empty() {
        vec![Api::all(client.clone())]
    } else {
        settings.namespaces.iter().map(|namespace| Api::namespaced(client.clone(), namespace)).collect()
    };
    let mut found = Index::default();
    for api in apis {
        let mut params =
            ListParams { label_selector: settings.channel_selector.clone(), ..ListParams::default() };
        params = params.limit(PAGE);
        loop {
            let page = api.list(&params).await.map_err(|error| error::to_failure(&error))?;
            for channel in &page.items {
                let status = channel.status.as_ref().and_then(|status| status.channel_id.as_deref());
                let named = [status, channel.spec.channel_id.as_deref()];
                if !named.into_iter().flatten().any(|named| same_id(named, id)) {
                    continue;
                }
                found.put(channel);
                let (name, uid) = (NamespacedName::of(channel), channel.uid().unwrap_or_default());
                if reconciliation.ctx.index().has_right(id, &name, &uid) {
                    found.judge(&name, &uid, id, Shown::Reads);
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(found)
}
