//! Answers that are a file on disk: streamed, in part if the client has the rest, and not at all if it
//! has everything. Knows no Matrix; who asks and what for is settled before.

use std::{io, ops::Range, path::Path};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
    sync::mpsc,
};

use super::reply::{Reply, full, stream};
use crate::error::{Error, Result};

/// Bytes read at once.
const PIECE: usize = 64 * 1024;
/// Pieces that wait for a slow client.
const AHEAD: usize = 4;

/// The answer that is the file at `path`: of `size` bytes, and always the same for the same `tag`.
pub async fn answer(asked: &HeaderMap, path: &Path, size: u64, tag: &str) -> Result<Reply> {
    let tag = format!("\"{tag}\"");
    let mut reply = Response::new(full(""));
    let tag_value = HeaderValue::try_from(&tag).map_err(Error::internal)?;
    reply.headers_mut().insert(header::ETAG, tag_value);
    reply.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if text(asked, header::IF_NONE_MATCH).is_some_and(|known| known == "*" || known.contains(&tag)) {
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(reply);
    }
    let unchanged = text(asked, header::IF_RANGE).is_none_or(|known| known == tag);
    let part = match text(asked, header::RANGE).filter(|_| unchanged).map(|range| parse(range, size)) {
        None | Some(Parsed::Ignore) => 0..size,
        Some(Parsed::Beyond) => {
            *reply.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            reply.headers_mut().insert(header::CONTENT_RANGE, value(&format!("bytes */{size}"))?);
            return Ok(reply);
        }
        Some(Parsed::Part(part)) => {
            *reply.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {}-{}/{size}", part.start, part.end - 1);
            reply.headers_mut().insert(header::CONTENT_RANGE, value(&range)?);
            part
        }
    };
    reply.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(part.end - part.start));
    *reply.body_mut() = stream(read(path, part).await?);
    Ok(reply)
}

fn value(text: &str) -> Result<HeaderValue> {
    HeaderValue::try_from(text).map_err(Error::internal)
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// Reads a part of a file, no faster than it is taken.
pub async fn read(path: &Path, part: Range<u64>) -> Result<mpsc::Receiver<io::Result<Bytes>>> {
    let gone = |error| Error::internal(format!("a file can't be read: {error}"));
    let mut file = File::open(path).await.map_err(gone)?;
    if part.start > 0 {
        file.seek(io::SeekFrom::Start(part.start)).await.map_err(gone)?;
    }
    let (pieces, taken) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let mut left = part.end - part.start;
        while left > 0 {
            let mut piece = BytesMut::with_capacity(PIECE.min(usize::try_from(left).unwrap_or(PIECE)));
            let read = (&mut file).take(left).read_buf(&mut piece).await;
            let sent = match read {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    left -= count as u64;
                    Ok(())
                }
                Err(error) => Err(error),
            };
            let ends = sent.is_err();
            // Nobody takes it: the client has gone.
            if pieces.send(sent.map(|()| piece.freeze())).await.is_err() || ends {
                break;
            }
        }
    });
    Ok(taken)
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The part that is wanted.
    Part(Range<u64>),
    /// There is no such part.
    Beyond,
    /// Not understood, or several parts: the whole file is a good answer too. RFC 9110, section 14.2.
    Ignore,
}

/// Reads a `Range` header for a file of `size` bytes. RFC 9110, section 14.1.2.
pub fn parse(range: &str, size: u64) -> Parsed {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Parsed::Ignore;
    };
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok());
    let part = match (first, last) {
        ("", last) => match number(last) {
            Some(Some(count)) => size.saturating_sub(count)..size,
            _ => return Parsed::Ignore,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(Some(first)), Some(None)) if last.is_empty() => first..size,
            (Some(Some(first)), Some(Some(last))) if first <= last => first..size.min(last.saturating_add(1)),
            _ => return Parsed::Ignore,
        },
    };
    match part.is_empty() {
        true => Parsed::Beyond,
        false => Parsed::Part(part),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn asked(headers: &[(header::HeaderName, &str)]) -> (StatusCode, HeaderMap, Bytes) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        std::fs::write(&path, "0123456789").expect("written");
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().expect("a value"))).collect();
        let (head, body) = answer(&headers, &path, 10, "tag").await.expect("answered").into_parts();
        (head.status, head.headers, body.collect().await.expect("read").to_bytes())
    }

    #[tokio::test]
    async fn the_whole_a_part_and_nothing() {
        let (status, headers, body) = asked(&[]).await;
        assert_eq!((status.as_u16(), &body[..]), (200, &b"0123456789"[..]));
        assert_eq!(headers[header::CONTENT_LENGTH], "10");
        let (status, headers, body) = asked(&[(header::RANGE, "bytes=2-4")]).await;
        assert_eq!((status.as_u16(), &body[..]), (206, &b"234"[..]));
        assert_eq!(headers[header::CONTENT_RANGE], "bytes 2-4/10");
        let (status, headers, _) = asked(&[(header::RANGE, "bytes=10-")]).await;
        assert_eq!(status.as_u16(), 416);
        assert_eq!(headers[header::CONTENT_RANGE], "bytes */10");
        let (status, _, body) = asked(&[(header::IF_NONE_MATCH, "\"other\", \"tag\"")]).await;
        assert_eq!((status.as_u16(), body.len()), (304, 0));
        let (status, ..) = asked(&[(header::RANGE, "bytes=2-4"), (header::IF_RANGE, "\"other\"")]).await;
        assert_eq!(status.as_u16(), 200);
    }

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        for (range, parsed) in [
            ("bytes=0-0", Parsed::Part(0..1)),
            ("bytes=5-", Parsed::Part(5..10)),
            ("bytes=5-99", Parsed::Part(5..10)),
            ("bytes=-3", Parsed::Part(7..10)),
            ("bytes=-99", Parsed::Part(0..10)),
            ("bytes=0-18446744073709551615", Parsed::Part(0..10)),
            ("bytes=-0", Parsed::Beyond),
            ("bytes=10-12", Parsed::Beyond),
            ("bytes=4-2", Parsed::Ignore),
            ("bytes=0-1,3-4", Parsed::Ignore),
            ("bytes=-", Parsed::Ignore),
            ("bytes=+1-2", Parsed::Ignore),
            ("lines=1-2", Parsed::Ignore),
        ] {
            assert_eq!(parse(range, 10), parsed, "{range}");
        }
        assert_eq!(parse("bytes=0-", 0), Parsed::Beyond);
    }
}
