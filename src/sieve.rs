// pure, but for `before`, which puts it before a client.
//! Takes out of the API server's answers what a user can put into an object so that it can't be read: one that can't
//! be read stops the list, and with it every other object of the cluster.
//!
//! A `spec.config` may have thousands of levels, and serde_json reads 127. The times in `managedFields` may be ones
//! that jiff does not take, such as the last day of the year 9999; nobody here looks at them.

use axum::body::Bytes;
use http_body_util::BodyExt;
use kube::Client;

/// The levels that are let through: fewer than serde_json reads, and many more than any object has that is acted on.
const LEVELS: usize = 100;
const MANAGED_FIELDS: &[u8] = b"managedFields";

/// Puts null for what is taken out, in JSON that comes in any pieces.
#[derive(Default)]
struct Sieve {
    level: usize,
    in_string: bool,
    escaped: bool,
    /// The last string, as far as it is short enough to be one of the names.
    word: Vec<u8>,
    /// Whose value comes next.
    name: Name,
    /// Under which name each of the outer levels began.
    names: [Name; 4],
    /// The level of the object whose `managedFields` are being left out, and whether null stands for them.
    leaving_out: Option<(usize, bool)>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Name {
    #[default]
    Other,
    Items,
    Object,
    Metadata,
}

enum Byte {
    Kept,
    Dropped,
    /// Null stands for it and for what is dropped after it.
    Null,
}

/// A client whose answers come through a sieve.
pub fn before(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request| {
        let client = client.clone();
        async move {
            let response = client.send(request).await?;
            Ok::<_, kube::Error>(response.map(|body| {
                let mut sieve = Sieve::default();
                body.map_frame(move |frame| frame.map_data(|bytes| sieve.pass(bytes)))
            }))
        }
    });
    Client::new(service, namespace)
}

// === impl Sieve ===

impl Sieve {
    fn pass(&mut self, bytes: Bytes) -> Bytes {
        let mut out = Vec::new();
        let mut kept_from = Some(0);
        for (at, byte) in bytes.iter().enumerate() {
            match (self.judge(*byte), kept_from) {
                (Byte::Kept, Some(_)) | (Byte::Dropped, None) => {}
                (Byte::Kept, None) => kept_from = Some(at),
                (byte, from) => {
                    out.extend_from_slice(from.and_then(|from| bytes.get(from..at)).unwrap_or_default());
                    kept_from = None;
                    if matches!(byte, Byte::Null) {
                        out.extend_from_slice(b"null");
                    }
                }
            }
        }
        match kept_from {
            // The usual case: a copy would be in vain.
            Some(0) => bytes,
            from => {
                out.extend_from_slice(from.and_then(|from| bytes.get(from..)).unwrap_or_default());
                out.into()
            }
        }
    }

    fn judge(&mut self, byte: u8) -> Byte {
        let before = self.level;
        if let Some((level, told)) = self.leaving_out {
            let ends = !self.in_string && before == level && matches!(byte, b',' | b'}');
            if !ends {
                self.read(byte);
                self.leaving_out = Some((level, true));
                return if told { Byte::Dropped } else { Byte::Null };
            }
            self.leaving_out = None;
        }
        self.read(byte);
        match (before > LEVELS, self.level > LEVELS) {
            (false, true) => Byte::Null,
            (true, _) => Byte::Dropped,
            (false, false) => Byte::Kept,
        }
    }

    fn read(&mut self, byte: u8) {
        match (self.in_string, byte) {
            (true, _) if self.escaped => self.escaped = false,
            (true, b'\\') => self.escaped = true,
            (true, b'"') => self.in_string = false,
            (true, _) if self.word.len() <= MANAGED_FIELDS.len() => self.word.push(byte),
            (true, _) => {}
            (false, b'"') => {
                self.in_string = true;
                self.word.clear();
            }
            (false, b':') => self.named(),
            (false, b',') => self.name = Name::Other,
            (false, b'{' | b'[') => {
                if let Some(name) = self.names.get_mut(self.level) {
                    *name = self.name;
                }
                self.name = Name::Other;
                self.level = self.level.saturating_add(1);
            }
            (false, b'}' | b']') => self.level = self.level.saturating_sub(1),
            (false, _) => {}
        }
    }

    fn named(&mut self) {
        if self.word == MANAGED_FIELDS && self.leaving_out.is_none() && self.in_metadata() {
            self.leaving_out = Some((self.level, false));
        }
        self.name = match self.word.as_slice() {
            b"items" => Name::Items,
            b"object" => Name::Object,
            b"metadata" => Name::Metadata,
            _ => Name::Other,
        };
    }

    /// Of an object by itself, in the event of a watch, or in a list: nowhere else, as in a config.
    fn in_metadata(&self) -> bool {
        matches!(
            (self.level, self.names),
            (2, [_, Name::Metadata, ..])
                | (3, [_, Name::Object, Name::Metadata, _])
                | (4, [_, Name::Items, _, Name::Metadata])
        )
    }
}

#[cfg(test)]
mod tests;
