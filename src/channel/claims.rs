//! Finds other Channels that claim the channel of a terminating object: in the cache, or from the API server if
//! the cache may lag behind a relevant event.

use kube::api::{Api, ListParams};
use kube::{Resource, ResourceExt};

use crate::channel::io::Io;
use crate::kubernetes::error;
use ohallo_core::api::channel::Channel;
use ohallo_core::api::same_id;
use ohallo_core::channel::model::Claims;
use ohallo_core::channel::state::State;
use ohallo_core::failure::Failure;
use ohallo_core::index::{Index, NamespacedName, Shown};

/// How many objects one page of a list holds: the whole page is in memory at once.
const PAGE: u32 = 20;

/// The claims at the start of a reconcile: of Channels of the same namespace, and of all Channels if the deletion already
/// waits.
///
/// # Errors
/// The API server's, or a deferral: nothing is deleted until it and the cache agree on which Channel is bound.
pub async fn first(io: &Io, state: &State, id: &str) -> Result<Claims, Failure> {
    let rivals = io.ctx.index().rivals(id, &io.name);
    let heir = match &rivals.heir {
        None => None,
        Some(name) if bound_afresh(io, name, id).await? => Some(name.clone()),
        Some(_) => return Err(Failure::deferred(std::time::Duration::from_secs(1))),
    };
    let elsewhere = state.waits_for_claims().then_some(rivals.elsewhere);
    Ok(Claims::of(&rivals, &io.name.namespace, heir, elsewhere))
}

/// The claims right before the DELETE.
///
/// # Errors
/// The API server's.
pub async fn last(io: &Io, state: &State, id: &str) -> Result<Claims, Failure> {
    let listed = if must_list(io, state) { Some(list(io, id).await?) } else { None };
    let rivals = match &listed {
        Some(listed) => listed.rivals(id, &io.name),
        None => io.ctx.index().rivals(id, &io.name),
    };
    let (heir, elsewhere) = (rivals.heir.clone(), rivals.elsewhere);
    Ok(Claims::of(&rivals, &io.name.namespace, heir, Some(elsewhere)))
}

/// Whether this Channel is living and bound to the id, read from the API server.
async fn bound_afresh(io: &Io, name: &NamespacedName, id: &str) -> Result<bool, Failure> {
    let api: Api<Channel> = Api::namespaced(io.ctx.client.clone(), &name.namespace);
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
fn must_list(io: &Io, state: &State) -> bool {
    io.ctx.listing_channels() || io.ctx.settings.namespaces.len() > 1 || state.is_restored()
}

/// The Channels that refer to this id, by a consistent list of each watched namespace.
async fn list(io: &Io, id: &str) -> Result<Index, Failure> {
    let settings = &io.ctx.settings;
    let client = &io.ctx.client;
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
                if io.ctx.index().has_right(id, &name, &uid) {
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
