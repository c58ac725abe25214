//! Computes the memory of a decoded JSON text without decoding it: the tree takes up to 95 times the size of its text.

/// The levels that are counted; serde_json reads no more than 127.
const LEVELS: usize = 128;

/// The first entry of an object allocates a B-tree node for eleven; a full tree has about six in each node.
const FIRST_ENTRY: u64 = 656;
const NEXT_ENTRY: u64 = 116;
/// A list starts with a capacity of four values and doubles.
const FIRST_ITEM: u64 = 144;
const NEXT_ITEM: u64 = 64;
/// A string's allocation, without its bytes.
const STRING: u64 = 32;

/// Counts a text that arrives in chunks. Linear time, bounded state.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    levels: Vec<Level>,
    /// The number of levels that are not in `levels`.
    deeper: usize,
    in_string: bool,
    escaped: bool,
    /// The missing hexadecimal digits of a `\u` escape, and those that were read.
    digits: u8,
    code: u32,
    value_begun: bool,
    cost: u64,
    compact: u64,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    list: bool,
    any: bool,
}

/// The memory of a decoded text, in bytes.
pub fn decoded_size(text: &[u8]) -> u64 {
    let mut meter = Meter::default();
    text.iter().for_each(|byte| meter.take(*byte));
    meter.cost()
}

// === impl Meter ===

impl Meter {
    /// An upper bound of the memory, in bytes.
    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// Bytes of the shortest equivalent JSON; a server may send more escapes than necessary.
    pub fn compact(&self) -> u64 {
        self.compact
    }

    pub fn take(&mut self, byte: u8) {
        if self.in_string {
            return self.string_byte(byte);
        }
        match byte {
            b'"' => {
                self.begin();
                self.in_string = true;
                self.cost += STRING;
            }
            b'{' | b'[' => {
                self.begin();
                if self.levels.len() < LEVELS {
                    self.levels.push(Level { list: byte == b'[', any: false });
                } else {
                    self.deeper = self.deeper.saturating_add(1);
                }
                self.value_begun = false;
            }
            b'}' | b']' => {
                if self.deeper > 0 {
                    self.deeper -= 1;
                } else {
                    self.levels.pop();
                }
                self.value_begun = true;
            }
            b',' => self.value_begun = false,
            b' ' | b'\n' | b'\r' | b'\t' => return,
            b':' => {}
            _ => self.begin(),
        }
        self.compact += 1;
    }

    /// The first byte of a list's item, or of an object's key.
    fn begin(&mut self) {
        if std::mem::replace(&mut self.value_begun, true) {
            return;
        }
        if let Some(level) = self.levels.last_mut() {
            let first = !std::mem::replace(&mut level.any, true);
            self.cost += match (level.list, first) {
                (true, true) => FIRST_ITEM,
                (true, false) => NEXT_ITEM,
                (false, true) => FIRST_ENTRY,
                (false, false) => NEXT_ENTRY,
            };
        }
    }

    fn string_byte(&mut self, byte: u8) {
        if self.digits > 0 {
            self.digits -= 1;
            self.code = self.code * 16 + char::from(byte).to_digit(16).unwrap_or_default();
            if self.digits == 0 {
                let (decoded, written) = match self.code {
                    0..=0x1f => (1, 6),
                    0x20..=0x7f => (1, 1),
                    0x80..=0x7ff => (2, 2),
                    // Half a pair takes eight, see [`crate::surrogates`].
                    0xd800..=0xdfff => (8, 2),
                    _ => (3, 3),
                };
                self.cost += decoded;
                self.compact += written;
            }
            return;
        }
        match (std::mem::take(&mut self.escaped), byte) {
            (true, b'u') => (self.digits, self.code) = (4, 0),
            (true, _) => {
                self.cost += 1;
                self.compact += 2;
            }
            (false, b'\\') => self.escaped = true,
            (false, b'"') => {
                self.in_string = false;
                self.compact += 1;
            }
            (false, _) => {
                self.cost += 1;
                self.compact += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::fuzz::{body, bytes, config, object};

    fn compact(text: &str) -> u64 {
        let mut meter = Meter::default();
        text.bytes().for_each(|byte| meter.take(byte));
        meter.compact()
    }

    /// The allocated memory of a tree, from the sizes of its types.
    fn allocated(value: &Value) -> u64 {
        match value {
            Value::String(text) => text.capacity() as u64,
            Value::Array(items) => {
                let slots = (items.capacity() * size_of::<Value>()) as u64;
                slots + items.iter().map(allocated).sum::<u64>()
            }
            Value::Object(fields) => {
                // Eleven entries per node; every node except the first is at least half full.
                let nodes = fields.len().div_ceil(6) as u64;
                let node = (11 * (size_of::<Value>() + size_of::<String>()) + 16) as u64;
                let keys: u64 =
                    fields.iter().map(|(key, value)| key.capacity() as u64 + allocated(value)).sum();
                nodes * node + keys
            }
            _ => 0,
        }
    }

    #[test]
    fn a_tree_of_small_objects_counts_with_its_real_size_and_plain_text_with_its_own() {
        let many = format!("[{}]", vec![r#"{"":0}"#; 1000].join(","));
        assert!(
            decoded_size(many.as_bytes()) > 90 * many.len() as u64
                && decoded_size(many.as_bytes()) < 120 * many.len() as u64
        );
        let plain = json!({"a": "x".repeat(10_000)}).to_string();
        assert!(decoded_size(plain.as_bytes()) < 11_000);
    }

    #[test]
    fn what_a_server_escapes_without_need_counts_as_it_would_be_sent() {
        for value in [json!("<a href=\"x\">&\u{2028}\u{7f}é😀\n\u{1}"), json!({"<": [1, 2.5, null, true]})]
        {
            let escaped = value.to_string();
            let escaped_more = ["<", ">", "&", "\u{2028}"].iter().fold(escaped.clone(), |text, each| {
                let code = each.chars().next().map(u32::from).unwrap_or_default();
                text.replace(each, &format!("\\u{code:04x}"))
            });
            assert_eq!(compact(&escaped_more), escaped.len() as u64);
            assert_eq!(compact(&serde_json::to_string_pretty(&value).unwrap()), escaped.len() as u64);
        }
        assert_eq!(compact(r#""\ud83d\ude00""#), "\"😀\"".len() as u64);
    }

    proptest! {
        #![proptest_config(config(500))]

        #[test]
        fn no_tree_takes_more_than_was_counted(fields in object()) {
            let text = Value::Object(fields).to_string();
            let decoded: Map<String, Value> = serde_json::from_str(&text).unwrap();
            let taken = allocated(&Value::Object(decoded));
            prop_assert!(decoded_size(text.as_bytes()) >= taken, "{taken} for {text}");
            prop_assert_eq!(compact(&text), text.len() as u64);
        }

        #[test]
        fn any_input_is_counted_and_bounded_by_its_size(body in prop_oneof![body(), bytes()]) {
            prop_assert!(decoded_size(&body) <= 700 * (body.len() as u64 + 1));
        }
    }
}
