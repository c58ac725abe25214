//! The calls of one reconcile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder};
use serde::Serialize;
use serde_json::Value;

use crate::heavy::{self, HeavySlot};
use crate::http::authorize;
use crate::key_state::{Creating, Rates, Wait};
use crate::{Inner, clock};
use ohallo_core::classify::{self, ApiError, CallError, Class, ErrorKind, Operation};
use ohallo_core::index::WorkspaceKey;
use ohallo_core::priority::Priority;
use ohallo_core::rate_limiter::{Claimant, Namespace, Refusal};
use ohallo_core::remote::{Changes, Id, NewChannel, RemoteChannel, RemoteWorkspace};
use ohallo_core::secret::{ApiKey, Credentials, KeyId, Redactor};
use ohallo_core::shortage::Shortage;
use ohallo_core::surrogates;

/// The maximum wait for a token within a reconcile.
const SHORT_WAIT: Duration = Duration::from_millis(200);

/// The calls of one reconcile with one API key.
pub struct Session {
    inner: Arc<Inner>,
    rates: Rates,
    key: ApiKey,
    claimant: Claimant,
    priority: Priority,
    /// Tokens that were taken before the reconcile started.
    permit: Option<Permit>,
    made: u32,
    /// Why a call was deferred.
    shortage: Option<Shortage>,
    preflighted: Option<Instant>,
    /// The token of the next call is already taken.
    token: bool,
    /// Holds the heavy-work permit.
    heavy: HeavySlot,
}

/// The object that makes the calls.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The object's namespace.
    pub namespace: Namespace,
    /// The Workspace of the API key.
    pub workspace: WorkspaceKey,
    pub priority: Priority,
}

/// Tokens for the first calls of a reconcile, taken before it starts. A drop refunds unused tokens.
pub struct Permit {
    inner: Arc<Inner>,
    rates: Rates,
    key: KeyId,
    namespace: Namespace,
    tokens: u32,
}

/// Why a reconcile can't start yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotYet {
    /// The API key or its Workspace has no token, or is paused.
    Key(Refusal),
    /// The rate of all keys is exhausted.
    AllKeys(Refusal),
}

/// The permit for one create.
pub struct CreatePermit {
    inner: Arc<Inner>,
    heavy: HeavySlot,
    key: ApiKey,
    creating: Creating,
}

// === impl Session ===

/// Errors of every call: [`CallError::Deferred`] before anything was sent, else the result of [`classify::classify`].
impl Session {
    pub(super) fn new(inner: Arc<Inner>, key: ApiKey, caller: Caller, permit: Option<Permit>) -> Self {
        let rates = inner.keys.get(key.id(), &caller.workspace, clock::instant());
        let heavy = inner.heavy.slot();
        Self {
            permit: permit.filter(|permit| permit.key == key.id()),
            claimant: Claimant { namespace: caller.namespace, running: true },
            priority: caller.priority,
            inner,
            rates,
            key,
            made: 0,
            shortage: None,
            preflighted: None,
            token: false,
            heavy,
        }
    }

    /// Uses the slot of the reconcile, which may already hold the heavy-work permit, and keeps it.
    pub fn with_slot(mut self, slot: HeavySlot) -> Self {
        self.heavy = slot;
        self
    }

    /// How many tokens the next reconcile needs at its start to get past the deferred call; 0 where no call was deferred.
    pub fn needed(&self) -> u32 {
        if self.shortage.is_some() { self.made.saturating_add(1) } else { 0 }
    }

    /// Why a call was deferred, if one was.
    pub fn shortage(&self) -> Option<Shortage> {
        self.shortage
    }

    /// Reads one object at this path; `decode` reads the body of a success.
    pub async fn read<T>(
        &mut self,
        operation: Operation,
        path: [&str; 3],
        decode: fn(Value) -> Result<T, ApiError>,
    ) -> Result<T, CallError> {
        let request = self.inner.http.request(Method::GET, self.inner.http.url(path), true)?;
        self.call(operation, request, decode).await
    }

    pub async fn get_channel(&mut self, id: &Id) -> Result<RemoteChannel, CallError> {
        let path = ["api", "channels", id.as_str()];
        let found = self.read(Operation::GetChannel, path, classify::decode_channel).await?;
        Ok(classify::expect_id(id, found)?.cleaned(self.redactor()))
    }

    /// Also the preflight of a create: any well-formed response below 500 counts, including a 404.
    pub async fn get_workspace(&mut self, id: &Id) -> Result<RemoteWorkspace, CallError> {
        let sent = clock::instant();
        let path = ["api", "workspaces", id.as_str()];
        let result = self.read(Operation::GetWorkspace, path, classify::decode_workspace).await;
        let result = result.map(|found| found.cleaned(self.redactor()));
        if self.rates.key.is_good_since(sent) {
            self.preflighted = Some(sent);
        }
        result
    }

    /// Undocumented: expect `NotFound` or `Unsupported`.
    pub async fn list_channels(&mut self, workspace: &Id) -> Result<Vec<RemoteChannel>, CallError> {
        let request = self.inner.http.request(Method::GET, self.inner.http.channels_url(workspace), true)?;
        self.call(Operation::ListChannels, request, classify::decode_channels).await
    }

    pub async fn update(&mut self, id: &Id, changes: &Changes) -> Result<RemoteChannel, CallError> {
        let request = json(self.channel_request(Method::PATCH, id, None, true)?, changes)?;
        let found = self.call(Operation::Update, request, classify::decode_channel).await?;
        Ok(classify::expect_id(id, found)?.cleaned(self.redactor()))
    }

    pub async fn store_credentials(&mut self, id: &Id, credentials: &Credentials) -> Result<(), CallError> {
        let request = self.channel_request(Method::POST, id, Some("credentials"), true)?;
        let body = Bytes::from_owner(credentials.to_body());
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        self.call(Operation::StoreCredentials, request, done).await
    }

    pub async fn delete(&mut self, id: &Id) -> Result<(), CallError> {
        let request = self.channel_request(Method::DELETE, id, None, true)?;
        self.call(Operation::Delete, request, done).await
    }

    /// Tests the channel's connection. Must not be repeated: for email it sends a message.
    pub async fn test(&mut self, id: &Id) -> Result<bool, CallError> {
        let request = self.channel_request(Method::POST, id, Some("test"), false)?;
        self.call(Operation::Test, request, classify::decode_ok).await
    }

    /// Must not be repeated.
    pub async fn retry_provisioning(&mut self, id: &Id) -> Result<(), CallError> {
        let request = self.channel_request(Method::POST, id, Some("retry-provisioning"), false)?;
        self.call(Operation::RetryProvisioning, request, done).await
    }

    /// Takes the token of the next call now, so that a status is not written before a call that is then deferred.
    ///
    /// # Errors
    /// [`CallError::Deferred`] only.
    pub async fn ready(&mut self) -> Result<(), CallError> {
        if !self.token {
            self.take_token().await?;
            self.token = true;
        }
        Ok(())
    }

    /// Takes the token of a create before its intent is written: a crash while waiting must not leave an intent
    /// behind. Deferred for 1 s while the outcome of the key's last create is unknown and another one is in flight.
    ///
    /// # Errors
    /// [`CallError::Deferred`] only.
    pub fn permit_create(&mut self) -> Result<CreatePermit, CallError> {
        let creating = self.rates.key.permit_create().map_err(|wait| self.defer(Shortage::Slot, wait))?;
        let taken = if self.use_permit() { Ok(()) } else { self.take(clock::instant()) };
        self.inner.observer.waited(self.priority, taken.err().unwrap_or_default());
        taken.map_err(|wait| self.defer(Shortage::Token, wait))?;
        self.made = self.made.saturating_add(1);
        let (inner, heavy, key) = (Arc::clone(&self.inner), self.heavy.clone(), self.key.clone());
        Ok(CreatePermit { inner, heavy, key, creating })
    }

    /// Whether this key got a well-formed response below 500 within the last 30 s.
    pub fn fresh(&self, now: Instant) -> bool {
        self.rates.key.is_fresh(now)
    }

    /// Whether the workspace must be read before a create can be sent: the key is not fresh, or the outcome of its last
    /// create is unknown and this session has not read the workspace since.
    pub fn must_preflight(&self, now: Instant) -> bool {
        let unread = |since| self.preflighted.is_none_or(|read| read < since);
        !self.fresh(now) || self.rates.key.ambiguous_since().is_some_and(unread)
    }

    fn channel_request(
        &self,
        method: Method,
        id: &Id,
        action: Option<&str>,
        reuse: bool,
    ) -> Result<RequestBuilder, ApiError> {
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
        let (state, heavy) = (&self.rates.key, &self.heavy);
        match self.inner.exchange(state, &self.key, operation, request, heavy, decode).await {
            Some(result) => Ok(result?),
            None => Err(self.defer(Shortage::Slot, heavy::AGAIN)),
        }
    }

    /// The redactor for oHallo's responses to this key.
    pub fn redactor(&self) -> &Redactor {
        self.rates.key.redactor(&self.key)
    }

    fn use_permit(&mut self) -> bool {
        let left = self.permit.as_mut().filter(|permit| permit.tokens > 0);
        left.map(|permit| permit.tokens -= 1).is_some()
    }

    fn take(&self, now: Instant) -> Result<(), Duration> {
        let taken = self.inner.keys.take(&self.rates, &self.claimant, 1, now);
        taken.map_err(|(Wait::Key(refusal) | Wait::All(refusal))| refusal.wait)
    }

    async fn take_token(&mut self) -> Result<(), CallError> {
        let mut waited = Duration::ZERO;
        let mut taken = if self.use_permit() { Ok(()) } else { self.take(clock::instant()) };
        if let Err(wait) = taken
            && wait <= SHORT_WAIT
        {
            tokio::time::sleep(wait).await;
            waited = wait;
            taken = self.take(clock::instant());
        }
        self.inner.observer.waited(self.priority, waited + taken.err().unwrap_or_default());
        taken.map_err(|wait| self.defer(Shortage::Token, wait))?;
        self.made = self.made.saturating_add(1);
        Ok(())
    }

    fn defer(&mut self, shortage: Shortage, wait: Duration) -> CallError {
        self.shortage = Some(shortage);
        CallError::Deferred(wait)
    }
}

// === impl Permit ===

impl Permit {
    pub(super) fn take(
        inner: &Arc<Inner>,
        key: KeyId,
        caller: &Caller,
        tokens: u32,
        now: Instant,
    ) -> Result<Self, NotYet> {
        let rates = inner.keys.get(key, &caller.workspace, now);
        let claimant = Claimant { namespace: caller.namespace.clone(), running: false };
        match inner.keys.take(&rates, &claimant, tokens, now) {
            Ok(()) => {
                let namespace = claimant.namespace;
                Ok(Self { inner: Arc::clone(inner), rates, key, namespace, tokens })
            }
            Err(Wait::Key(refusal)) => Err(NotYet::Key(refusal)),
            Err(Wait::All(refusal)) => Err(NotYet::AllKeys(refusal)),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.inner.keys.refund(&self.rates, &self.namespace, self.tokens);
    }
}

// === impl CreatePermit ===

impl CreatePermit {
    /// Sends the create, once. Await it in a task that no reconcile timeout cancels. If it is dropped while in flight, the
    /// outcome of the key's last create is unknown.
    ///
    /// # Errors
    /// The result of [`classify::classify`]; a success without a valid id is ambiguous.
    pub async fn create(
        mut self,
        workspace: &Id,
        body: &NewChannel,
        idempotency_key: &str,
    ) -> Result<RemoteChannel, ApiError> {
        let http = &self.inner.http;
        let request = http.request(Method::POST, http.channels_url(workspace), false)?;
        let request = json(authorize(request, &self.key)?, body)?
            .header("Idempotency-Key", idempotency_key)
            .timeout(self.inner.options.create_timeout);
        self.creating.sending();
        let (state, heavy) = (self.creating.state(), &self.heavy);
        let exchange = self.inner.exchange(
            state,
            &self.key,
            Operation::Create,
            request,
            heavy,
            classify::decode_channel,
        );
        // A create waits for the heavy-work permit, so that it always has a result.
        let lost =
            || Err(ApiError::new(Class::Ambiguous, ErrorKind::TimedOut, "oHallo did not respond in time"));
        let result = exchange.await.unwrap_or_else(lost);
        let result = result.map(|found| found.cleaned(self.creating.state().redactor(&self.key)));
        match &result {
            Ok(_) => self.creating.done(),
            Err(error) if error.class == Class::Ambiguous => {}
            Err(_) => self.creating.without_effect(),
        }
        result
    }
}

fn json(request: RequestBuilder, body: &impl Serialize) -> Result<RequestBuilder, ApiError> {
    let body = serde_json::to_vec(body).map_err(|_| {
        ApiError::new(Class::NotSent, ErrorKind::Invalid, "the request can't be encoded as JSON")
    })?;
    Ok(request.header(CONTENT_TYPE, "application/json").body(surrogates::restored(body)))
}

/// The classification has already checked that `ok` is true.
fn done(_: Value) -> Result<(), ApiError> {
    Ok(())
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
