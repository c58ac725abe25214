//! Answers as HTTP: the right ones and the spoilt ones.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use futures::stream;
use serde_json::json;

use crate::api::Answer;

const CHUNK: usize = 64 * 1024;
const BOMB: usize = 64 * 1024 * 1024;

/// An answer as the documentation has it.
pub(crate) fn plain(answer: &Answer) -> Response<Body> {
    with_type(answer.status, "application/json", answer.body.to_string())
}

/// A status with oHallo's error body, or any body, and any headers. Headers that HTTP can't carry are left out.
pub(crate) fn status(code: u16, body: Option<String>, headers: &[(String, String)]) -> Response<Body> {
    let reason = status_code(code).canonical_reason().unwrap_or("Error");
    let body = body.unwrap_or_else(|| json!({"error": reason}).to_string());
    let mut response = with_type(code, "application/json", body);
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

pub(crate) fn with_type(code: u16, content_type: &str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status_code(code);
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    response
}

pub(crate) fn garbage() -> Response<Body> {
    with_type(200, "application/json", "<!doctype html><p>\u{0}{\"id\": ] not JSON")
}

pub(crate) fn redirect(code: u16, location: &str) -> Response<Body> {
    status(code, None, &[("Location".to_owned(), location.to_owned())])
}

/// The beginning of a JSON text, then so many bytes of a string that does not end.
pub(crate) fn huge(bytes: u64) -> Response<Body> {
    let head = Bytes::from_static(b"{\"id\":\"");
    let filling = Bytes::from(vec![b'a'; CHUNK]);
    let chunks = stream::unfold((head, bytes), move |(next, left)| {
        let filling = filling.clone();
        async move {
            if left == 0 || next.is_empty() {
                return None;
            }
            let len = next.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let rest = left.saturating_sub(len as u64);
            Some((Ok::<_, std::convert::Infallible>(next.slice(..len)), (filling, rest)))
        }
    });
    with_type(200, "application/json", Body::from_stream(chunks))
}

/// A JSON text that never ends, under any status.
pub(crate) fn endless(code: u16) -> Response<Body> {
    let mut response = huge(u64::MAX);
    *response.status_mut() = status_code(code);
    response
}

/// The right answer, byte after byte.
pub(crate) fn slow(answer: &Answer, bytes_per_second: u64) -> Response<Body> {
    let rate = bytes_per_second.max(1);
    // Up to 20 pieces a second, so that a high rate does not become a timer per byte.
    let piece = usize::try_from(rate.div_ceil(20)).unwrap_or(usize::MAX);
    let pause = Duration::from_secs_f64(piece as f64 / rate as f64);
    let body = Bytes::from(answer.body.to_string());
    let pieces = stream::unfold(body, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(pause).await;
        let next = rest.split_to(piece.min(rest.len()));
        Some((Ok::<_, std::convert::Infallible>(next), rest))
    });
    with_type(answer.status, "application/json", Body::from_stream(pieces))
}

/// Gzip of a JSON string of 64 MiB, written without a compressor: one block with fixed codes, a literal, and
/// copies of the byte before it. The checksum is left zero; whoever gets that far has swallowed the bomb.
pub(crate) fn gzip_bomb() -> Response<Body> {
    const HEAD: &[u8] = b"{\"id\":\"a";
    const COPY: usize = 258;
    let copies = BOMB / COPY;
    let mut bits = Bits { bytes: vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff], used: 8 };
    bits.push(0b011, 3);
    for byte in HEAD {
        bits.push(reversed(0x30 + u32::from(*byte), 8), 8);
    }
    for _ in 0..copies {
        bits.push(reversed(0b1100_0101, 8), 8);
        bits.push(0, 5);
    }
    bits.push(0, 7);
    let size = u32::try_from(HEAD.len() + copies * COPY).unwrap_or(u32::MAX);
    bits.bytes.extend([0; 4]);
    bits.bytes.extend(size.to_le_bytes());
    let mut response = with_type(200, "application/json", bits.bytes);
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response
}

fn status_code(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Deflate packs from the lowest bit, but its codes from their highest.
fn reversed(code: u32, len: u32) -> u32 {
    code.reverse_bits() >> (32 - len)
}

struct Bits {
    bytes: Vec<u8>,
    /// Bits used of the last byte.
    used: u32,
}

impl Bits {
    fn push(&mut self, value: u32, len: u32) {
        for at in 0..len {
            if self.used == 8 {
                self.bytes.push(0);
                self.used = 0;
            }
            let bit = u8::from(value >> at & 1 == 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= bit << self.used;
            }
            self.used += 1;
        }
    }
}
