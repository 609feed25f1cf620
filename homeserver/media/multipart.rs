//! The second part of a `multipart/mixed` body, as it comes: what one server sends another of a file. Holds no
//! more of it than a piece. spec: server-server-api#get_matrixfederationv1mediadownloadmediaid

use bytes::{Buf, Bytes, BytesMut};

/// Bytes before the content begins, at most: the first part and all headers.
const MAX_HEAD: usize = 64 * 1024;
/// Letters of a boundary at most. RFC 2046, section 5.1.1.
const MAX_BOUNDARY: usize = 70;

/// What the head of the second part says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// What the content is.
    pub content_type: Option<String>,
    /// What it is called and how it is to be shown.
    pub disposition: Option<String>,
    /// Where it is, instead of here.
    pub location: Option<String>,
}

/// Reads a body.
pub struct Parts {
    /// A line end, two dashes and the boundary.
    delimiter: Vec<u8>,
    held: BytesMut,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Before,
    Content,
    End,
}

/// Why a body is none.
pub type Broken = &'static str;

impl Parts {
    /// Of a body with this content type.
    pub fn new(content_type: &str) -> Result<Self, Broken> {
        let mut words = content_type.split(';').map(str::trim);
        if !words.next().is_some_and(|kind| kind.eq_ignore_ascii_case("multipart/mixed")) {
            return Err("the answer is no multipart/mixed");
        }
        let boundary = words.find_map(|word| {
            let (name, value) = word.split_once('=')?;
            name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
        });
        let boundary = boundary.filter(|boundary| (1..=MAX_BOUNDARY).contains(&boundary.len()));
        let delimiter = format!("\r\n--{}", boundary.ok_or("the answer has no boundary")?).into_bytes();
        // The first delimiter may stand at the very beginning.
        Ok(Self { delimiter, held: BytesMut::from(&b"\r\n"[..]), state: State::Before })
    }

    /// Takes the next bytes in. Answers the head once it is whole.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Head>, Broken> {
        match self.state {
            State::End => return Ok(None),
            State::Content | State::Before => self.held.extend_from_slice(bytes),
        }
        if self.state == State::Content {
            return Ok(None);
        }
        let found = self.head();
        match found {
            Some((head, length)) => {
                self.held.advance(length);
                self.state = State::Content;
                Ok(Some(head))
            }
            None if self.held.len() > MAX_HEAD => Err("the answer's head is too long"),
            None => Ok(None),
        }
    }

    /// The head of the second part and where its content begins, if all of it is there.
    fn head(&self) -> Option<(Head, usize)> {
        let first = find(&self.held, &self.delimiter, 0)? + self.delimiter.len();
        let second = find(&self.held, &self.delimiter, first)? + self.delimiter.len();
        let mut at = find(&self.held, b"\n", second)? + 1;
        let mut head = Head::default();
        loop {
            let end = find(&self.held, b"\n", at)?;
            let line = String::from_utf8_lossy(&self.held[at..end]).trim().to_owned();
            at = end + 1;
            if line.is_empty() {
                return Some((head, at));
            }
            let Some((name, value)) = line.split_once(':') else { continue };
            let place = match &*name.trim().to_ascii_lowercase() {
                "content-type" => &mut head.content_type,
                "content-disposition" => &mut head.disposition,
                "location" => &mut head.location,
                _ => continue,
            };
            *place = Some(value.trim().to_owned());
        }
    }

    /// The content that is certain to be content by now.
    pub fn take(&mut self) -> Option<Bytes> {
        if self.state != State::Content {
            return None;
        }
        if let Some(end) = find(&self.held, &self.delimiter, 0) {
            self.state = State::End;
            let content = self.held.split_to(end).freeze();
            self.held.clear();
            return Some(content).filter(|content| !content.is_empty());
        }
        // What may be the beginning of the delimiter stays.
        let certain = self.held.len().saturating_sub(self.delimiter.len() - 1);
        (certain > 0).then(|| self.held.split_to(certain).freeze())
    }

    /// Whether the end of the content has come.
    pub fn is_whole(&self) -> bool {
        self.state == State::End
    }
}

fn find(text: &[u8], what: &[u8], from: usize) -> Option<usize> {
    let text = text.get(from..)?;
    text.windows(what.len()).position(|window| window == what).map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &[u8], piece: usize) -> Result<(Head, Vec<u8>, bool), Broken> {
        let mut parts = Parts::new("multipart/mixed; charset=x; boundary=\"abc\"")?;
        let (mut head, mut content) = (Head::default(), Vec::new());
        for piece in body.chunks(piece) {
            if let Some(found) = parts.push(piece)? {
                head = found;
            }
            while let Some(bytes) = parts.take() {
                content.extend_from_slice(&bytes);
            }
        }
        Ok((head, content, parts.is_whole()))
    }

    #[test]
    fn the_content_comes_whole_in_pieces_of_any_size() {
        let content = b"\r\n--ab\r\n\r\n--abd--\0\xff";
        let mut body = b"\r\n--abc\r\nContent-Type: application/json\r\n\r\n{}\r\n--abc\r\ncontent-TYPE: image/png\r\n\
            Content-Disposition: inline; filename=a.png\r\n\r\n"
            .to_vec();
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n--abc--\r\nafter");
        for begin in [0, 2] {
            for piece in [1, 2, 3, 7, 64, 1000] {
                let (head, found, whole) = read(&body[begin..], piece).expect("good");
                assert_eq!(head.content_type.as_deref(), Some("image/png"));
                assert_eq!(head.disposition.as_deref(), Some("inline; filename=a.png"));
                assert_eq!((&found[..], whole), (&content[..], true), "{piece}");
            }
        }
    }

    #[test]
    fn what_breaks_off_is_not_whole_and_what_is_no_multipart_is_refused() {
        let (_, content, whole) = read(b"--abc\r\n\r\n{}\r\n--abc\r\n\r\nhalf of i", 5).expect("so far");
        assert!(!whole && b"half of i".starts_with(&content));
        assert!(read(&[b'x'; MAX_HEAD + 1], 1000).is_err());
        for bad in ["application/json", "multipart/mixed", "multipart/mixed; boundary=", ""] {
            assert!(Parts::new(bad).is_err(), "{bad}");
        }
        let (head, ..) = read(b"--abc\n\n{}\r\n--abc\nLocation: https://x/y\n\n\r\n--abc--", 9).expect("good");
        assert_eq!(head.location.as_deref(), Some("https://x/y"));
    }
}
