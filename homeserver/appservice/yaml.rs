//! YAML as registrations are written in it: texts, lists and maps, each with its line. Aliases, further
//! documents and deep nesting are refused, so that a file is never more than it looks. Knows nothing of
//! what a registration says.

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};

/// Lists and maps within each other at most.
const MAX_DEPTH: usize = 16;

/// A value, and the line where it begins.
pub struct Node {
    pub line: usize,
    pub value: Value,
}

pub enum Value {
    /// A text; plain if it stands without quotes, so that it may be meant as something else.
    Text {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The value of a key. None for what is no map or lacks it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// Whether it says that there is nothing.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Text { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The text. Numbers are texts here as they are written.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    pub fn boolean(&self) -> Option<bool> {
        match &self.value {
            Value::Text { text, plain: true } => match text.to_ascii_lowercase().as_str() {
                "true" => Some(true),
                "false" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    pub fn list(&self) -> Option<&[Self]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }
}

/// Reads a text. An error says the line and what is wrong there.
pub fn parse(text: &str) -> Result<Node, (usize, String)> {
    let mut reader = Reader { parser: Parser::new_from_str(text), depth: 0 };
    let root = loop {
        match reader.next()? {
            (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
            (Event::StreamEnd | Event::DocumentEnd, line) => return Err((line, "the file is empty".to_owned())),
            (event, line) => break reader.node(event, line)?,
        }
    };
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => return Ok(root),
            (Event::DocumentEnd | Event::Nothing, _) => {}
            (_, line) => return Err((line, "one document is wanted, and here a further one begins".to_owned())),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, usize), (usize, String)> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(error)) => Err((error.marker().line(), format!("this is not YAML: {}", error.info()))),
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    fn node(&mut self, event: Event<'a>, line: usize) -> Result<Node, (usize, String)> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err((line, format!("this is nested deeper than {MAX_DEPTH} levels")));
        }
        let value = match event {
            Event::Scalar(text, style, ..) => {
                Value::Text { text: text.into_owned(), plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(..) => self.list()?,
            Event::MappingStart(..) => self.map()?,
            Event::Alias(_) => return Err((line, "aliases are not taken: write it out".to_owned())),
            _ => return Err((line, "a value is missing".to_owned())),
        };
        self.depth -= 1;
        Ok(Node { line, value })
    }

    fn list(&mut self) -> Result<Value, (usize, String)> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, line) => items.push(self.node(event, line)?),
            }
        }
    }

    fn map(&mut self) -> Result<Value, (usize, String)> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        loop {
            let (key, line) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Value::Map(entries)),
                (Event::Scalar(text, ..), line) => (text.into_owned(), line),
                (_, line) => return Err((line, "a key is a text".to_owned())),
            };
            if entries.iter().any(|(name, _)| *name == key) {
                return Err((line, format!("{key} is there twice")));
            }
            let (event, line) = self.next()?;
            entries.push((key, self.node(event, line)?));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_lists_and_maps_are_read_with_their_lines() {
        let root = parse("# comment\na: 'null'\nb: null\nc:\n  - x: 1\n  - []\nd: TRUE\n").unwrap_or_else(|_| panic!());
        assert_eq!(root.get("a").and_then(Node::text), Some("null"));
        assert!(root.get("b").is_some_and(|node| node.is_null() && node.text().is_none()));
        let list = root.get("c").and_then(Node::list).expect("a list");
        assert_eq!(list[0].get("x").and_then(Node::text), Some("1"));
        assert_eq!((list[0].line, list[1].line), (5, 6));
        assert_eq!(root.get("d").and_then(Node::boolean), Some(true));
    }

    #[test]
    fn what_may_be_more_than_it_looks_is_refused() {
        let deep = "[".repeat(100);
        for text in ["", "a: &x 1\nb: *x\n", "a: 1\na: 2\n", "a: 1\n---\nb: 2\n", "a: [\n", "a: b: c\n", &deep] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
