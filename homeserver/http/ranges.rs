//! Answers that are a file on disk: streamed, in part if the client has the rest, and not at all if it
//! has everything. Knows no Matrix; who asks and what for is settled before.

use std::{io, ops::Range};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use tokio::sync::mpsc;

use super::reply::{Reply, full, stream};
use crate::error::{Error, Result};

/// The pieces of a file as they are read.
type Pieces = mpsc::Receiver<io::Result<Bytes>>;

/// The answer that is a file: of `size` bytes, always the same for the same `tag`, and read by `read`, which is
/// asked only for what is sent. RFC 9110, sections 13 and 14.
///
/// 1. `If-Match`: 412 if it names other content.
/// 2. `If-None-Match`: 304 if it names this content.
/// 3. `If-Range`: without a strong match, the whole is sent.
/// 4. `Range`, of GET alone: a part of it, 416 if there is no such part, and the whole for several parts.
pub async fn answer(
    (method, asked): (&Method, &HeaderMap),
    (size, tag): (u64, &str),
    read: impl AsyncFnOnce(Range<u64>) -> Result<Pieces>,
) -> Result<Reply> {
    let tag = format!("\"{tag}\"");
    let mut reply = Response::new(full(""));
    let tag_value = HeaderValue::try_from(&tag).map_err(Error::internal)?;
    reply.headers_mut().insert(header::ETAG, tag_value);
    reply.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if text(asked, header::IF_MATCH).is_some_and(|wanted| !names(wanted, &tag, false)) {
        *reply.status_mut() = StatusCode::PRECONDITION_FAILED;
        return Ok(reply);
    }
    if text(asked, header::IF_NONE_MATCH).is_some_and(|known| names(known, &tag, true)) {
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(reply);
    }
    let unchanged = text(asked, header::IF_RANGE).is_none_or(|known| known == tag);
    let range = text(asked, header::RANGE).filter(|_| unchanged && method == Method::GET);
    let part = match range.map(|range| parse(range, size)) {
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
    if method != Method::HEAD {
        *reply.body_mut() = stream(read(part).await?);
    }
    Ok(reply)
}

/// Whether a list of tags has this one. A weak tag names the same content weakly.
fn names(list: &str, tag: &str, weakly: bool) -> bool {
    list.split(',').map(str::trim).any(|one| match one.strip_prefix("W/") {
        Some(one) => weakly && one == tag,
        None => one == "*" || one == tag,
    })
}

fn value(text: &str) -> Result<HeaderValue> {
    HeaderValue::try_from(text).map_err(Error::internal)
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
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
    let bytes = range.split_once('=').filter(|(unit, _)| unit.eq_ignore_ascii_case("bytes"));
    let Some((first, last)) = bytes.and_then(|(_, range)| range.trim().split_once('-')) else {
        return Parsed::Ignore;
    };
    // Digits beyond all numbers are beyond the end too.
    let number = |text: &str| match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Some(text.parse::<u64>().unwrap_or(u64::MAX)),
        false => None,
    };
    let part = match (first, last, number(first), number(last)) {
        // The end of nothing is there, and no header can say where.
        ("", _, None, Some(1..)) if size == 0 => return Parsed::Ignore,
        ("", _, None, Some(count)) => size.saturating_sub(count)..size,
        (_, "", Some(first), None) => first..size,
        (_, _, Some(first), Some(last)) if first <= last => first..size.min(last.saturating_add(1)),
        _ => return Parsed::Ignore,
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

    const CONTENT: &str = "0123456789";

    async fn asked(headers: &[(header::HeaderName, &str)]) -> (StatusCode, HeaderMap, Bytes) {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().expect("a value"))).collect();
        let read = async |part: Range<u64>| {
            let (send, pieces) = mpsc::channel(1);
            let part = &CONTENT[part.start as usize..part.end as usize];
            send.send(Ok(Bytes::from_static(part.as_bytes()))).await.map_err(Error::internal)?;
            Ok(pieces)
        };
        let reply = answer((&Method::GET, &headers), (10, "tag"), read).await;
        let (head, body) = reply.expect("answered").into_parts();
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
        for (name, value, wanted) in [
            (header::IF_NONE_MATCH, "W/\"tag\"", 304),
            (header::IF_NONE_MATCH, "\"tags\"", 200),
            (header::IF_NONE_MATCH, "*", 304),
            (header::IF_MATCH, "\"other\", \"tag\"", 200),
            (header::IF_MATCH, "W/\"tag\"", 412),
        ] {
            assert_eq!(asked(&[(name.clone(), value)]).await.0.as_u16(), wanted, "{name}: {value}");
        }
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
            ("bytes=0-99999999999999999999999", Parsed::Part(0..10)),
            ("bytes=99999999999999999999999-", Parsed::Beyond),
            ("Bytes= 1-2", Parsed::Part(1..3)),
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
        assert_eq!(parse("bytes=-0", 0), Parsed::Beyond);
        assert_eq!(parse("bytes=-5", 0), Parsed::Ignore);
    }
}
