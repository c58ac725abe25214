//! Builds the inputs of decision tests.

#![expect(clippy::unwrap_used, clippy::panic, reason = "data for tests")]

pub mod arbitrary;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::channel::{
    AppliedStatus, Channel, ChannelStatus, CredentialSource, CredentialsStatus, SecretRef, SecretVersion,
};
use crate::api::conditions::Reason;
use crate::api::{annotation, finalizer};
use crate::channel::consistency::Window;
use crate::channel::in_memory_state::{self, Absence, AttemptOutcome, InMemoryState};
use crate::channel::model::{
    Claims, Conclusion, ConclusionKind, DesiredCredentials, Observed, Outcome, Plan, PlanInput, Remote, Step,
    WorkspaceAccess,
};
use crate::channel::plan::plan;
use crate::channel::status::{Summary, SummaryInput, summarize};
use crate::conditions;
use crate::failure::Failure;
use crate::remote::{Id, RemoteChannel};
use crate::secret::{ApiKey, ContentDigest, Credentials, Redactor};

pub const UID: &str = "uid-1";
pub const ID: &str = "c1";
pub const INTENT: &str = "uid-1/1/2026-01-10T07:00:00Z";
pub const INTERVAL: Duration = Duration::from_secs(600);

/// A plan input and everything it borrows.
#[derive(Clone)]
pub struct Sample {
    pub channel: Channel,
    pub status: ChannelStatus,
    pub observed: Observed,
    pub memory: InMemoryState,
    pub now: Timestamp,
    pub instant: Instant,
}

pub const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn id() -> Id {
    Id::parse(ID).unwrap()
}

pub fn map(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

pub fn digest(content: &str) -> ContentDigest {
    let value = content.to_owned().into();
    Credentials::from_map([("apiKey".to_owned(), value)].into()).digest(|_| "uid/apiKey".into())
}

pub fn source(version: &str) -> SecretVersion {
    SecretVersion { name: "s".into(), uid: "su".into(), resource_version: version.into() }
}

/// Credentials as a reconcile reads them: their content, and the version of their Secret.
pub fn ready(content: &str, version: &str) -> DesiredCredentials {
    DesiredCredentials::Ready {
        digest: digest(content),
        keys: vec!["apiKey".into()],
        sources: vec![source(version)],
    }
}

/// An absence that a DELETE found once.
pub fn absence(since: Instant) -> Option<Absence> {
    Some(Absence { id: ID.into(), to_delete: true, since })
}

pub fn missing() -> DesiredCredentials {
    DesiredCredentials::Invalid(Failure::missing_input(Reason::SecretNotFound, "The Secret is not there."))
}

pub fn invalid() -> DesiredCredentials {
    DesiredCredentials::Invalid(Failure::user_action(Reason::SecretInvalid, "The Secret is not UTF-8."))
}

pub fn attempt(number: i64, outcome: AttemptOutcome) -> Option<in_memory_state::CreateAttempt> {
    let intent = Some(INTENT.to_owned());
    Some(in_memory_state::CreateAttempt {
        intent,
        last: true,
        ..in_memory_state::CreateAttempt::new(number, outcome)
    })
}

// === impl Sample ===

impl Sample {
    /// A Channel that was just applied; its workspace is usable.
    pub fn unbound() -> Self {
        let mut channel = Channel::new("support", Default::default());
        channel.metadata.namespace = Some("ns".into());
        channel.metadata.uid = Some(UID.into());
        channel.metadata.generation = Some(1);
        channel.spec.channel_type = Some("chat".into());
        channel.spec.display_name = Some("Support".into());
        let place = WorkspaceAccess {
            workspace_id: Id::parse("ws1").unwrap(),
            key: ApiKey::new("sf_test_v1_key".into()).id(),
            read_with: "0123456789abcdef".into(),
            has_read: true,
            create_unsupported: false,
            has_created: false,
        };
        Self {
            channel,
            status: ChannelStatus::default(),
            observed: Observed { claims: Some(Claims::default()), ..Observed::unread(Ok(place), false) },
            memory: InMemoryState::default(),
            now: "2026-01-10T08:00:00Z".parse().unwrap(),
            instant: crate::test_clock::instant() + s(36_000),
        }
    }

    /// A Channel whose channel was created and read as declared.
    pub fn bound() -> Self {
        let mut sample = Self::unbound();
        sample.channel.metadata.finalizers = Some(vec![finalizer::CHANNEL.into()]);
        sample.annotate(annotation::CREATE_INTENT, INTENT);
        sample.status = ChannelStatus {
            channel_id: Some(ID.into()),
            bound_uid: Some(UID.into()),
            workspace_id: Some("ws1".into()),
            origin: Some("Created".into()),
            ..ChannelStatus::default()
        };
        sample.observed.remote = Remote::Found(Box::new(RemoteChannel {
            id: id(),
            workspace_id: Some("ws1".into()),
            channel_type: Some("chat".into()),
            display_name: Some("Support".into()),
            status: Some("active".into()),
            config: Map::new(),
            created_at: Some("2026-01-10T07:00:01.000Z".into()),
        }));
        sample.applied();
        sample
    }

    /// A Channel that adopts an existing channel.
    pub fn adopting() -> Self {
        let mut sample = Self::bound();
        sample.status = ChannelStatus::default();
        sample.channel.metadata.finalizers = None;
        sample.channel.metadata.annotations = None;
        sample.channel.spec.channel_id = Some(ID.into());
        sample
    }

    /// A bound Channel that is being deleted.
    pub fn terminating() -> Self {
        let mut sample = Self::bound();
        sample.terminate();
        sample
    }

    pub fn with(mut self, edit: impl FnOnce(&mut Self)) -> Self {
        edit(&mut self);
        self
    }

    pub fn terminate(&mut self) {
        let at = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now);
        self.channel.metadata.deletion_timestamp = Some(at);
        self.observed.remote = Remote::Unread;
    }

    pub fn annotate(&mut self, name: &str, value: &str) {
        self.channel.metadata.annotations.get_or_insert_default().insert(name.into(), value.into());
    }

    /// The declared values count as applied.
    pub fn applied(&mut self) {
        let digest = Some(self.view().digest());
        self.status.applied = Some(AppliedStatus { enabled: self.channel.spec.enabled, digest });
    }

    pub fn remote(&mut self) -> &mut RemoteChannel {
        match &mut self.observed.remote {
            Remote::Found(remote) => remote,
            other => panic!("nothing was read: {other:?}"),
        }
    }

    pub fn place(&mut self) -> &mut WorkspaceAccess {
        self.observed.workspace.as_mut().unwrap()
    }

    pub fn config(&mut self, declared: Value, actual: Value) {
        self.channel.spec.config = Some(map(declared));
        self.remote().config = map(actual);
    }

    /// Credentials are declared, and were pushed as `sent`: content and version.
    pub fn credentials(&mut self, declared: DesiredCredentials, sent: Option<(&str, &str)>) {
        let secret_ref = Some(SecretRef { name: "s".into(), optional: None });
        self.channel.spec.credentials = vec![CredentialSource { secret_ref, ..Default::default() }];
        self.observed.credentials = declared;
        if let Some((content, version)) = sent {
            self.memory.last_push_digest = Some(digest(content));
            self.status.credentials = Some(CredentialsStatus {
                keys: vec!["apiKey".into()],
                pushed_at: None,
                sources: vec![source(version)],
            });
        }
    }

    pub fn view(&self) -> PlanInput<'_> {
        PlanInput {
            channel: &self.channel,
            status: &self.status,
            observed: &self.observed,
            memory: &self.memory,
            now: self.now,
            instant: self.instant,
        }
    }

    pub fn plan(&self) -> Plan {
        plan(&self.view())
    }

    pub fn step(&self) -> Step {
        match self.plan() {
            Plan::Work(step) => step,
            Plan::Settled(verdict) => panic!("settled: {verdict:?}"),
        }
    }

    pub fn verdict(&self) -> Conclusion {
        match self.plan() {
            Plan::Settled(verdict) => verdict,
            Plan::Work(step) => panic!("work: {step:?}"),
        }
    }

    pub fn says(&self) -> (ConclusionKind, Reason) {
        let verdict = self.verdict();
        (verdict.kind, verdict.reason)
    }

    pub fn summarize(&self, outcome: &Outcome) -> Summary {
        let redactor = Redactor::none();
        summarize(
            &self.view(),
            outcome,
            &SummaryInput { random: 0.5, redactor: &redactor, interval: INTERVAL },
        )
    }

    /// The summary of the plan, which is settled.
    pub fn settle(&self) -> Summary {
        self.summarize(&Outcome::Settled(self.verdict()))
    }

    /// The sample at the next reconcile: with the status after this outcome.
    pub fn after(mut self, outcome: &Outcome) -> Self {
        let summary = self.summarize(outcome);
        self.status = summary.status;
        self.memory.failures = summary.failures;
        self
    }
}

/// Status and reason of a condition.
pub fn condition<'a>(status: &'a ChannelStatus, kind: &str) -> Option<(&'a str, &'a str)> {
    let found = conditions::find(&status.conditions, kind)?;
    Some((found.status.as_str(), found.reason.as_str()))
}

/// A config above the size limit.
pub fn too_large() -> Map<String, Value> {
    map(json!({ "text": "x".repeat(crate::channel::config::MAX_BYTES) }))
}
