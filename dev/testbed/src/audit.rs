//! The API server's audit log: the source for "which verbs were used" and "how many writes".

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// One request as the API server saw it; `ResponseComplete` of all but watches, `ResponseStarted` of watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; else the HTTP method.
    pub verb: String,
    /// The user name; compare with [`crate::User::name`].
    pub user: String,
    /// Plural, e.g. `configmaps`; empty for what is no resource, e.g. `/version`.
    pub resource: String,
    pub subresource: Option<String>,
    /// Empty for the core group.
    pub api_group: String,
    pub namespace: Option<String>,
    /// Absent for lists, and for objects whose name the server generates.
    pub name: Option<String>,
    /// HTTP status.
    pub code: u16,
    pub user_agent: String,
    pub request_uri: String,
    /// RFC 3339 with microseconds: when the response was complete (for a watch: began).
    pub stage_timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    stage: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: LineUser,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
    stage_timestamp: String,
}

#[derive(Deserialize)]
struct LineUser {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    resource: String,
    subresource: Option<String>,
    api_group: String,
    namespace: Option<String>,
    name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

/// No line of the log is longer, in bytes.
const LONGEST_LINE: u64 = 1 << 20;

// === impl AuditEvent ===

/// Where the next line will begin: a line that is being written now belongs to what comes.
pub(crate) fn end(log: &Path) -> Result<u64> {
    let mut file = match File::open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error).context("the audit log can't be read"),
    };
    let length = file.metadata()?.len();
    let from = length.saturating_sub(LONGEST_LINE);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(length - from).read_to_end(&mut tail)?;
    let torn = tail.iter().rev().take_while(|byte| **byte != b'\n').count();
    Ok(length - u64::try_from(torn)?)
}

/// Reads the complete lines from `offset` on and moves it behind them.
pub(crate) fn read(log: &Path, offset: &mut u64) -> Result<Vec<AuditEvent>> {
    let mut file = match File::open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context("the audit log can't be read"),
    };
    file.seek(SeekFrom::Start(*offset))?;
    let mut reader = BufReader::new(file);
    let mut events = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Ok(events);
        }
        let parsed: Line = serde_json::from_slice(&line).context("the audit log has an unreadable line")?;
        events.extend(event(parsed));
        *offset += u64::try_from(length)?;
    }
}

fn event(line: Line) -> Option<AuditEvent> {
    // A watch ends long after the test that asks for it.
    let stage = if line.verb == "watch" { "ResponseStarted" } else { "ResponseComplete" };
    (line.stage == stage).then_some(AuditEvent {
        verb: line.verb,
        user: line.user.username,
        resource: line.object_ref.resource,
        subresource: line.object_ref.subresource,
        api_group: line.object_ref.api_group,
        namespace: line.object_ref.namespace,
        name: line.object_ref.name,
        code: line.response_status.code,
        user_agent: line.user_agent,
        request_uri: line.request_uri,
        stage_timestamp: line.stage_timestamp,
    })
}
