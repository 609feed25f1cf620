//! A JSON object that arrives in pieces, taken apart as it comes: the items of its long lists one by one,
//! its other members whole. Holds no more than the item that is arriving.

use memchr::memchr2;
use serde_json::value::RawValue;

use crate::{
    base::json,
    error::{Error, Result},
};

/// An item of a list at most.
const MAX_ITEM: usize = 2 * 65_536;
/// Another member of the object at most.
const MAX_MEMBER: usize = 4 << 20;
/// The name of a member at most.
const MAX_NAME: usize = 255;

/// Something that has arrived whole.
#[derive(Debug)]
pub enum Piece {
    /// The next item of one of the lists, by the index of its name.
    Item(usize, Box<RawValue>),
    /// Another member, by its name.
    Member(String, Box<RawValue>),
}

/// What is expected next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Start,
    Name { first: bool },
    InName,
    Colon,
    Value,
    InValue,
    AfterValue,
    Item { first: bool },
    InItem,
    AfterItem,
    End,
}

/// Takes an object apart.
pub struct Splitter {
    lists: &'static [&'static str],
    at: At,
    name: Vec<u8>,
    list: usize,
    held: Vec<u8>,
    scan: Scan,
}

/// How far into a value the scan has come.
#[derive(Default)]
struct Scan {
    depth: usize,
    deepest: usize,
    in_string: bool,
    escaped: bool,
    /// The value is a number or a word, which ends before the byte that is no part of it.
    bare: bool,
}

enum Step {
    /// The byte belongs to the value, which goes on.
    More,
    /// The byte is the value's last.
    Last,
    /// The value ended before this byte.
    Before,
}

impl Scan {
    fn begin(byte: u8) -> Self {
        let depth = usize::from(matches!(byte, b'{' | b'['));
        Self {
            depth,
            deepest: depth,
            in_string: byte == b'"',
            escaped: false,
            bare: !matches!(byte, b'{' | b'[' | b'"'),
        }
    }

    fn step(&mut self, byte: u8) -> Step {
        if self.bare {
            return match byte {
                b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t' => Step::Before,
                _ => Step::More,
            };
        }
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_string => self.escaped = true,
            b'"' => self.in_string = !self.in_string,
            b'{' | b'[' if !self.in_string => {
                self.depth += 1;
                self.deepest = self.deepest.max(self.depth);
            }
            b'}' | b']' if !self.in_string => self.depth -= 1,
            _ => return Step::More,
        }
        match self.depth == 0 && !self.in_string {
            true => Step::Last,
            false => Step::More,
        }
    }

    /// How many of some bytes belong to the value, if it ends with them.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.in_string && !self.escaped {
                // Most of all text is text, in which nothing else has a meaning.
                at += memchr2(b'"', b'\\', &bytes[at..])?;
            }
            match self.step(bytes[at]) {
                Step::More => at += 1,
                Step::Last => return Some(at + 1),
                Step::Before => return Some(at),
            }
        }
        None
    }
}

impl Splitter {
    /// For an object whose members of these names are lists that are taken apart.
    pub fn new(lists: &'static [&'static str]) -> Self {
        Self { lists, at: At::Start, name: Vec::new(), list: 0, held: Vec::new(), scan: Scan::default() }
    }

    /// Takes in what has come. 400 `M_NOT_JSON` for what is no object, or more than there may be.
    pub fn push(&mut self, bytes: &[u8], mut take: impl FnMut(Piece) -> Result<()>) -> Result<()> {
        let mut rest = bytes;
        while let Some(byte) = rest.first() {
            let taken = match self.at {
                At::InValue | At::InItem => self.in_value(rest, &mut take)?,
                _ => self.between(*byte)?,
            };
            rest = &rest[taken..];
        }
        Ok(())
    }

    /// The object must be whole.
    pub fn finish(self) -> Result<()> {
        match self.at {
            At::End => Ok(()),
            _ => Err(wrong("it ends early")),
        }
    }

    /// Takes a byte that is part of no value.
    fn between(&mut self, byte: u8) -> Result<usize> {
        match self.at {
            At::InName => self.in_name(byte)?,
            _ if matches!(byte, b' ' | b'\n' | b'\r' | b'\t') => {}
            At::Start if byte == b'{' => self.at = At::Name { first: true },
            At::Name { .. } if byte == b'"' => {
                self.name.clear();
                (self.at, self.scan) = (At::InName, Scan::begin(byte));
            }
            At::Name { first: true } if byte == b'}' => self.at = At::End,
            At::Colon if byte == b':' => self.at = At::Value,
            At::Value => match self.list_named().filter(|_| byte == b'[') {
                Some(list) => (self.list, self.at) = (list, At::Item { first: true }),
                None => self.begin(byte, At::InValue),
            },
            At::Item { first: true } if byte == b']' => self.at = At::AfterValue,
            At::Item { .. } => self.begin(byte, At::InItem),
            At::AfterItem if byte == b',' => self.at = At::Item { first: false },
            At::AfterItem if byte == b']' => self.at = At::AfterValue,
            At::AfterValue if byte == b',' => self.at = At::Name { first: false },
            At::AfterValue if byte == b'}' => self.at = At::End,
            _ => return Err(wrong("it is not JSON")),
        }
        Ok(1)
    }

    fn in_name(&mut self, byte: u8) -> Result<()> {
        match self.scan.step(byte) {
            Step::Last => self.at = At::Colon,
            _ if self.name.len() >= MAX_NAME => return Err(wrong("a name is too long")),
            _ => self.name.push(byte),
        }
        Ok(())
    }

    fn list_named(&self) -> Option<usize> {
        self.lists.iter().position(|list| list.as_bytes() == self.name)
    }

    fn begin(&mut self, byte: u8, at: At) {
        self.held.clear();
        self.held.push(byte);
        (self.at, self.scan) = (at, Scan::begin(byte));
    }

    /// Takes the bytes that belong to the value which has begun, and the value if it ends with them. How many that
    /// are: a bare value is known to have ended only by what follows it.
    fn in_value(&mut self, bytes: &[u8], take: &mut impl FnMut(Piece) -> Result<()>) -> Result<usize> {
        let end = self.scan.end(bytes);
        let taken = end.unwrap_or(bytes.len());
        let most = if self.at == At::InItem { MAX_ITEM } else { MAX_MEMBER };
        if self.held.len() + taken > most {
            return Err(wrong("a part of it is too large"));
        }
        self.held.extend_from_slice(&bytes[..taken]);
        match end {
            Some(_) => self.ended(take).map(|()| taken),
            None => Ok(taken),
        }
    }

    fn ended(&mut self, take: &mut impl FnMut(Piece) -> Result<()>) -> Result<()> {
        let text = String::from_utf8(std::mem::take(&mut self.held)).map_err(|_| wrong("it is not UTF-8"))?;
        if self.scan.deepest > json::MAX_DEPTH {
            // An event stands by itself: this one is left out, as whatever is none.
            if self.at != At::InItem {
                return Err(wrong("it is nested too deeply"));
            }
            self.at = At::AfterItem;
            return Ok(());
        }
        let value = RawValue::from_string(text).map_err(|_| wrong("it is not JSON"))?;
        match self.at {
            At::InItem => {
                self.at = At::AfterItem;
                take(Piece::Item(self.list, value))
            }
            _ => {
                self.at = At::AfterValue;
                let name = String::from_utf8(std::mem::take(&mut self.name)).map_err(|_| wrong("it is not UTF-8"))?;
                take(Piece::Member(name, value))
            }
        }
    }
}

fn wrong(why: &str) -> Error {
    Error::not_json(format!("the other server's answer can't be read: {why}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// What comes of a text that arrives in pieces of a size.
    fn split(text: &str, size: usize) -> Result<Vec<(String, Value)>> {
        let mut splitter = Splitter::new(&["state", "auth_chain"]);
        let mut out = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            splitter.push(piece, |piece| {
                let (name, value) = match piece {
                    Piece::Item(list, value) => (["state", "auth_chain"][list].to_owned(), value),
                    Piece::Member(name, value) => (name, value),
                };
                out.push((name, serde_json::from_str(value.get()).expect("JSON")));
                Ok(())
            })?;
        }
        splitter.finish()?;
        Ok(out)
    }

    #[test]
    fn lists_come_item_by_item_and_the_rest_whole() {
        let text = r#" { "auth_chain" : [ {"a":"]}\"["} , {"b":[1,{}]} ], "n":12 ,"state":[],"t":true,
            "servers":["x","y"],"o":{"state":[1]}, "s":"\\" } "#;
        let wanted = [
            ("auth_chain", json!({"a": "]}\"["})),
            ("auth_chain", json!({"b": [1, {}]})),
            ("n", json!(12)),
            ("t", json!(true)),
            ("servers", json!(["x", "y"])),
            ("o", json!({"state": [1]})),
            ("s", json!("\\")),
        ];
        let wanted: Vec<_> = wanted.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        for size in [1, 2, 3, 7, 1000] {
            assert_eq!(split(text, size).expect("splits"), wanted, "{size}");
        }
        assert_eq!(split("{}", 1).expect("splits"), []);
        assert_eq!(split(r#"{"state":{"a":1}}"#, 1).expect("splits"), [("state".to_owned(), json!({"a": 1}))]);
    }

    #[test]
    fn what_is_no_object_or_not_whole_is_refused() {
        for text in [
            "",
            "[",
            "{",
            "}",
            "{,}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a":1}x"#,
            r#"{"state":[1,]}"#,
            r#"{"state":[1}"#,
            r#"{"state":[tru]}"#,
            r#"{"a":"x}"#,
            r#"{"a":{]}"#,
            r#"{a:1}"#,
            r#"{"a":01}"#,
            r#"{"state":[1 2]}"#,
            r#"{"a":1 "b":2}"#,
            r#"{"state":[,1]}"#,
        ] {
            assert!(split(text, 1).is_err(), "{text}");
        }
        let deep = format!(r#"{{"state":[{}{}]}}"#, "[".repeat(500), "]".repeat(500));
        assert!(split(&deep, 64).is_ok(), "what is nested too deeply in a list is left out");
        assert!(split(&deep.replace("\"state\":[", "\"else\":[").replace("]]}", "]}"), 64).is_err());
        let long = format!(r#"{{"state":["{}"]}}"#, "x".repeat(MAX_ITEM));
        assert!(split(&long, 4096).is_err());
        assert!(split(&format!(r#"{{"{}":1}}"#, "x".repeat(1000)), 64).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_bring_it_down(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1usize..20) {
            let mut splitter = Splitter::new(&["state"]);
            for piece in bytes.chunks(size) {
                if splitter.push(piece, |_| Ok(())).is_err() {
                    break;
                }
            }
        }

        #[test]
        fn json_that_a_parser_takes_is_taken(keys in prop::collection::vec(("[a-c\\PC]{0,3}", any::<i32>(), ".{0,5}"), 0..6), size in 1usize..9) {
            let object: serde_json::Map<String, Value> =
                keys.into_iter().map(|(key, n, text)| (format!("k{key}"), json!([n, {"t": text}]))).collect();
            let text = serde_json::to_string_pretty(&object).expect("JSON");
            let back = split(&text, size).expect("splits");
            prop_assert_eq!(back.len(), object.len());
            for (name, value) in back {
                // Names are compared as they are written.
                let name: String = serde_json::from_str(&format!("\"{name}\"")).expect("a name");
                prop_assert_eq!(Some(&value), object.get(&name));
            }
        }
    }
}
