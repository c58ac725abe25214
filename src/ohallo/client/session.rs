// I/O
//! The calls of one pass.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder};
use serde::Serialize;
use serde_json::Value;

use super::Inner;
use super::http::authorize;
use super::key::{BUSY, Creating, KeyState};
use super::slots::{Slot, Wake};
use crate::clock;
use crate::heavy::HeavySlot;
use crate::ohallo::answer::{self, ApiError, Class, Kind, Operation};
use crate::ohallo::limiter::Lane;
use crate::ohallo::types::{Changes, Id, NewChannel, RemoteChannel, RemoteWorkspace};
use crate::secret::{ApiKey, Credentials};

/// A token due so soon is waited for within the pass.
const SHORT_WAIT: Duration = Duration::from_millis(200);

/// When a pass comes back whose answer found another large one in memory.
const NO_ROOM: Duration = Duration::from_secs(1);

/// The calls of one pass under one key. Dropped, it gives back what was reserved for the pass, unless the pass
/// was deferred and comes back for it.
pub struct Session {
    inner: Arc<Inner>,
    state: Arc<KeyState>,
    key: ApiKey,
    who: String,
    wake: Wake,
    lane: Lane,
    made: u32,
    deferred: bool,
    preflighted: Option<Instant>,
    /// Kept until the pass has made its last call: between two it would have to begin again for want of one.
    slot: Option<Slot>,
    /// The next call's token was taken before it.
    token: bool,
    /// Where the right to heavy work is kept.
    heavy: HeavySlot,
}

/// The right to make one create now.
pub struct CreatePermit {
    inner: Arc<Inner>,
    heavy: HeavySlot,
    key: ApiKey,
    creating: Creating,
}

/// Why a call of a session brought nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing was sent: the pass ends, and comes back after this time.
    #[error("the call is due in {} ms", .0.as_millis())]
    Deferred(Duration),
    #[error(transparent)]
    Failed(#[from] ApiError),
}

// === impl Session ===

/// Errors of every call: [`CallError::Deferred`] before anything was sent, else what [`answer::judge`] says.
impl Session {
    pub(super) fn new(
        inner: Arc<Inner>,
        state: Arc<KeyState>,
        key: ApiKey,
        who: &str,
        wake: Wake,
        lane: Lane,
    ) -> Self {
        let (who, heavy) = (who.to_owned(), inner.heavy.slot());
        Self {
            inner,
            state,
            key,
            who,
            wake,
            lane,
            made: 0,
            deferred: false,
            preflighted: None,
            slot: None,
            token: false,
            heavy,
        }
    }

    /// With the slot of the pass, which may hold the right to heavy work already, and holds it on.
    pub fn with_slot(mut self, slot: HeavySlot) -> Self {
        self.heavy = slot;
        self
    }

    pub async fn get_channel(&mut self, id: &Id) -> Result<RemoteChannel, CallError> {
        let request = self.channel_request(Method::GET, id, None, true);
        let found = self.call(Operation::GetChannel, request, answer::decode_channel).await?;
        Ok(answer::about(id, found)?.cleaned(self.state.redactor()))
    }

    /// Also the preflight of a create: any good answer below 500 counts, a 404 too.
    pub async fn get_workspace(&mut self, id: &Id) -> Result<RemoteWorkspace, CallError> {
        let url = self.inner.http.url(["api", "workspaces", id.as_str()]);
        let request = self.inner.http.request(Method::GET, url, true);
        let sent = clock::instant();
        let result = self.call(Operation::GetWorkspace, request, answer::decode_workspace).await;
        let result = result.map(|found| found.cleaned(self.state.redactor()));
        if self.state.is_good_since(sent) {
            self.preflighted = Some(sent);
        }
        result
    }

    /// Undocumented: expect `NotFound` or `Unsupported`.
    pub async fn list_channels(&mut self, workspace: &Id) -> Result<Vec<RemoteChannel>, CallError> {
        let request = self.inner.http.request(Method::GET, self.inner.http.channels_url(workspace), true);
        self.call(Operation::ListChannels, request, answer::decode_channels).await
    }

    pub async fn update(&mut self, id: &Id, changes: &Changes) -> Result<RemoteChannel, CallError> {
        let request = json(self.channel_request(Method::PATCH, id, None, true), changes)?;
        let found = self.call(Operation::Update, request, answer::decode_channel).await?;
        Ok(answer::about(id, found)?.cleaned(self.state.redactor()))
    }

    pub async fn store_credentials(&mut self, id: &Id, credentials: &Credentials) -> Result<(), CallError> {
        let request = self.channel_request(Method::POST, id, Some("credentials"), true);
        let body = Bytes::from_owner(credentials.to_body());
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        self.call(Operation::StoreCredentials, request, done).await
    }

    pub async fn delete(&mut self, id: &Id) -> Result<(), CallError> {
        let request = self.channel_request(Method::DELETE, id, None, true);
        self.call(Operation::Delete, request, done).await
    }

    /// Whether the channel works. Never to be repeated: for email it sends a message.
    pub async fn test(&mut self, id: &Id) -> Result<bool, CallError> {
        let request = self.channel_request(Method::POST, id, Some("test"), false);
        self.call(Operation::Test, request, answer::decode_ok).await
    }

    /// Never to be repeated.
    pub async fn retry_provisioning(&mut self, id: &Id) -> Result<(), CallError> {
        let request = self.channel_request(Method::POST, id, Some("retry-provisioning"), false);
        self.call(Operation::RetryProvisioning, request, done).await
    }

    /// Takes slot and token of the next call now, so that what is written down before it is not written in vain.
    ///
    /// # Errors
    /// [`CallError::Deferred`] only.
    pub async fn ready(&mut self) -> Result<(), CallError> {
        self.take_slot()?;
        if !self.token {
            self.take_token().await?;
            self.token = true;
        }
        Ok(())
    }

    /// Takes slot and token for a create, before its intent is written: a crash while waiting must not leave an
    /// intent behind. Deferred for 1 s while the key's last create is unknown and another is under way.
    ///
    /// # Errors
    /// [`CallError::Deferred`] only.
    pub fn permit_create(&mut self) -> Result<CreatePermit, CallError> {
        self.take_slot()?;
        let permit = self.state.permit_create(&self.who, self.made, self.lane, clock::instant());
        self.inner.metrics.limiter_wait(self.lane.name(), permit.as_ref().err().copied().unwrap_or_default());
        match permit {
            Ok(creating) => {
                self.made = self.made.saturating_add(1);
                let (inner, heavy, key) = (Arc::clone(&self.inner), self.heavy.clone(), self.key.clone());
                Ok(CreatePermit { inner, heavy, key, creating })
            }
            Err(wait) => Err(self.defer(wait)),
        }
    }

    /// Whether this key had a well-formed answer below 500 within the last 30 s.
    pub fn fresh(&self, now: Instant) -> bool {
        self.state.is_fresh(now)
    }

    /// Whether the workspace must be read before a create may be sent: the key is not fresh, or its last create
    /// is unknown and this session has not read the workspace since.
    pub fn must_preflight(&self, now: Instant) -> bool {
        let unread = |since| self.preflighted.is_none_or(|read| read < since);
        !self.fresh(now) || self.state.ambiguous_since().is_some_and(unread)
    }

    fn channel_request(&self, method: Method, id: &Id, action: Option<&str>, reuse: bool) -> RequestBuilder {
        let url = self.inner.http.url(["api", "channels", id.as_str()].into_iter().chain(action));
        self.inner.http.request(method, url, reuse)
    }

    async fn call<T>(
        &mut self,
        operation: Operation,
        request: RequestBuilder,
        decode: fn(Value) -> Result<T, ApiError>,
    ) -> Result<T, CallError> {
        let request = authorize(request, &self.key)?.timeout(self.inner.options.request_timeout);
        self.ready().await?;
        self.token = false;
        match self.inner.exchange(&self.state, operation, request, &self.heavy, decode).await {
            Some(result) => Ok(result?),
            None => Err(self.defer(NO_ROOM)),
        }
    }

    fn take_slot(&mut self) -> Result<(), CallError> {
        if self.slot.is_none() {
            self.slot = self.state.slot(&self.who, &self.wake);
        }
        if self.slot.is_some() { Ok(()) } else { Err(self.defer(BUSY)) }
    }

    async fn take_token(&mut self) -> Result<(), CallError> {
        let mut waited = Duration::ZERO;
        let mut taken = self.state.take(&self.who, self.lane, clock::instant());
        if let Err(wait) = taken
            && wait <= SHORT_WAIT
        {
            tokio::time::sleep(wait).await;
            waited = wait;
            taken = self.state.take(&self.who, self.lane, clock::instant());
        }
        if taken.is_err() {
            taken = Err(self.state.reserve(&self.who, self.made, self.lane, clock::instant()));
        }
        self.inner.metrics.limiter_wait(self.lane.name(), waited + taken.err().unwrap_or_default());
        taken.map_err(|wait| self.defer(wait))?;
        self.made = self.made.saturating_add(1);
        Ok(())
    }

    fn defer(&mut self, wait: Duration) -> CallError {
        self.deferred = true;
        CallError::Deferred(wait)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.deferred {
            self.state.release(&self.who);
        }
    }
}

// === impl CreatePermit ===

impl CreatePermit {
    /// Sends the create, once. To be awaited by a task that no pass timeout cancels; dropped while under way, the
    /// key counts as one with an unknown create.
    ///
    /// # Errors
    /// What [`answer::judge`] says; a success without a fit id is ambiguous.
    pub async fn create(
        mut self,
        workspace: &Id,
        body: &NewChannel,
        idempotency_key: &str,
    ) -> Result<RemoteChannel, ApiError> {
        let http = &self.inner.http;
        let request = http.request(Method::POST, http.channels_url(workspace), false);
        let request = json(authorize(request, &self.key)?, body)?
            .header("Idempotency-Key", idempotency_key)
            .timeout(self.inner.options.create_timeout);
        self.creating.sending();
        let (state, heavy) = (self.creating.state(), &self.heavy);
        let exchange = self.inner.exchange(state, Operation::Create, request, heavy, answer::decode_channel);
        // It waits for room, so that it always has a result.
        let lost = || Err(ApiError::new(Class::Ambiguous, Kind::TimedOut, "oHallo did not answer in time"));
        let result = exchange.await.unwrap_or_else(lost);
        let result = result.map(|found| found.cleaned(self.creating.state().redactor()));
        match &result {
            Ok(_) => self.creating.done(),
            Err(error) if error.class == Class::Ambiguous => {}
            Err(_) => self.creating.without_effect(),
        }
        result
    }
}

fn json(request: RequestBuilder, body: &impl Serialize) -> Result<RequestBuilder, ApiError> {
    let body = serde_json::to_vec(body)
        .map_err(|_| ApiError::new(Class::NotSent, Kind::Invalid, "the request can't be written as JSON"))?;
    Ok(request.header(CONTENT_TYPE, "application/json").body(body))
}

/// The class table has already seen that `ok` is true.
fn done(_: Value) -> Result<(), ApiError> {
    Ok(())
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
