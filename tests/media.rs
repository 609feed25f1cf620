//! Files that people share, as clients meet them: uploads within bounds, downloads that only sessions
//! get and that browsers can't be harmed by, thumbnails.

use std::io::Cursor;

use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::common::{Answer, Server, User};

const UPLOAD: &str = "/_matrix/media/v3/upload";

pub fn request(user: &User, method: Method, path: &str) -> reqwest::RequestBuilder {
    let request = user.http.request(method, format!("{}{path}", user.url));
    match &user.token {
        Some(token) => request.bearer_auth(token),
        None => request,
    }
}

pub async fn upload(user: &User, query: &str, kind: &str, bytes: impl Into<Bytes>) -> Answer {
    let path = format!("{UPLOAD}{query}");
    let request = request(user, Method::POST, &path).header("content-type", kind).body(bytes.into());
    user.send_request(request).await
}

/// The files below a folder.
pub fn files_in(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}

/// The path of a file from what an upload answered.
pub fn place(answer: &Value) -> String {
    answer["content_uri"].as_str().and_then(|uri| uri.strip_prefix("mxc://")).expect("a URI").to_owned()
}

/// A picture of this size.
fn png(width: u32, height: u32) -> Vec<u8> {
    let mut png = Vec::new();
    let picture = image::RgbImage::from_fn(width, height, |x, y| image::Rgb([(x % 256) as u8, (y % 256) as u8, 9]));
    picture.write_to(&mut Cursor::new(&mut png), image::ImageFormat::Png).expect("encoded");
    png
}

pub async fn bytes(request: reqwest::RequestBuilder) -> (u16, reqwest::header::HeaderMap, Bytes) {
    let response = request.send().await.expect("the server answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.bytes().await.expect("a body"))
}

#[tokio::test]
async fn what_is_uploaded_is_served_to_sessions_alone_and_after_a_crash() {
    let mut server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let content: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    let place = place(&upload(&alice, "?filename=k%C3%A4se.html", "text/html", content.clone()).await.ok());
    server.kill9().await;
    server.resume().await;
    let bob = User { url: server.url.clone(), ..bob };
    let path = format!("/_matrix/client/v1/media/download/{place}");
    let (status, headers, body) = bytes(request(&bob, Method::GET, &path)).await;
    assert_eq!((status, &body[..]), (200, &content[..]));
    assert_eq!(headers["content-type"], "text/html");
    assert_eq!(headers["content-disposition"], "attachment; filename*=utf-8''k%C3%A4se.html");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["cross-origin-resource-policy"], "cross-origin");
    assert!(headers["content-security-policy"].to_str().expect("text").starts_with("sandbox;"));
    let (_, headers, _) = bytes(request(&bob, Method::GET, &format!("{path}/other.txt"))).await;
    assert_eq!(headers["content-disposition"], "attachment; filename=other.txt");
    let part = request(&bob, Method::GET, &path).header("range", "bytes=299990-");
    let (status, _, body) = bytes(part).await;
    assert_eq!((status, &body[..]), (206, &content[299_990..]));
    let (status, headers, body) = bytes(request(&bob, Method::HEAD, &path)).await;
    assert_eq!((status, &headers["content-length"], body.len()), (200, &"300000".parse().expect("a value"), 0));

    server.guest().get(&path).await.fails(401, "M_MISSING_TOKEN");
    server.guest().get(&format!("/_matrix/media/v3/download/{place}")).await.fails(404, "M_NOT_FOUND");
    server
        .guest()
        .get(&format!("/_matrix/media/v3/thumbnail/{place}?width=1&height=1"))
        .await
        .fails(404, "M_NOT_FOUND");
    for other in ["localhost/nothing", "localhost/..%2f..%2fhearth.redb", "..%2f/x"] {
        bob.get(&format!("/_matrix/client/v1/media/download/{other}")).await.fails(404, "M_NOT_FOUND");
    }
}

/// As Nheko 0.11 does: it asks where media were before version 1.11, and says who asks.
#[tokio::test]
async fn an_older_app_that_says_who_asks_is_served_where_media_used_to_be() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let text = place(&upload(&alice, "", "text/plain", "some words").await.ok());
    let photo = place(&upload(&alice, "", "image/png", png(64, 48)).await.ok());
    for version in ["v3", "r0"] {
        for name in ["", "/other.txt"] {
            let old = format!("/_matrix/media/{version}/download/{text}{name}?allow_remote=true");
            let (status, _, body) = bytes(request(&bob, Method::GET, &old)).await;
            assert_eq!((status, &body[..]), (200, &b"some words"[..]), "{old}");
        }
        let small = format!("/_matrix/media/{version}/thumbnail/{photo}?width=32&height=32&method=crop");
        let (status, _, body) = bytes(request(&bob, Method::GET, &small)).await;
        assert!(status == 200 && image::load_from_memory(&body).is_ok(), "{status} for {small}");
        let stranger = User { token: Some("none".into()), ..bob.clone() };
        stranger.get(&small).await.fails(401, "M_UNKNOWN_TOKEN");
    }
}

#[tokio::test]
async fn too_large_a_file_is_refused_before_and_while_it_comes() {
    let server = Server::start_with("registration = \"open\"\nrate_limits = false\nmax_upload = \"100 KiB\"\n").await;
    let alice = server.register("alice").await;
    let config = alice.get("/_matrix/client/v1/media/config").await.ok();
    assert_eq!(config["m.upload.size"], 102_400);
    assert_eq!(alice.get("/_matrix/media/v3/config").await.ok(), config);
    upload(&alice, "", "a/b", vec![0; 102_400]).await.ok();
    let token = alice.token.as_deref().expect("signed in");
    let head = format!("POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n");
    for body in ["Content-Length: 102401\r\n\r\n".to_owned(), chunks(102_401)] {
        let mut stream = TcpStream::connect(server.address()).await.expect("connects");
        stream.write_all(format!("{head}{body}").as_bytes()).await.expect("written");
        let mut answer = vec![0; 4096];
        let read = stream.read(&mut answer).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..read]);
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("M_TOO_LARGE"), "{answer}");
    }
    server.guest().post(UPLOAD, Value::Null).await.fails(401, "M_MISSING_TOKEN");
    let incoming = std::fs::read_dir(server.data().join("media/incoming")).expect("a folder");
    assert_eq!(incoming.count(), 0, "nothing is left of what was refused");
}

#[tokio::test]
async fn files_leave_the_room_that_messages_need() {
    // Files want more than 512 MiB to be free beside what they take, messages a sixteenth of that.
    let settings = "registration = \"open\"\nrate_limits = false\nmin_free_disk = \"32 MiB\"\n";
    let server = Server::start_on_small_disk("560m", settings).await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    upload(&alice, "", "a/b", vec![1; 1 << 20]).await.ok();
    let refused = upload(&alice, "", "a/b", vec![2; 20 << 20]).await;
    assert!(refused.status >= 500 && refused.body["errcode"].is_string(), "{refused:?}");
    alice.say(&room, "still here").await;
}

/// The rest of a request whose body comes in one chunk of so many bytes.
fn chunks(size: usize) -> String {
    format!("Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{}\r\n", "x".repeat(size))
}

#[tokio::test]
async fn pictures_have_thumbnails_and_other_files_have_none() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let png = png(900, 600);
    let place_of = place(&upload(&alice, "", "image/png", png.clone()).await.ok());
    let thumbnail = |query: &str| format!("/_matrix/client/v1/media/thumbnail/{place_of}?{query}");
    for (query, size) in [
        ("width=300&height=200&method=scale", (320, 213)),
        ("width=64&height=64&method=crop", (96, 96)),
        ("width=2000&height=2000", (900, 600)),
    ] {
        let (status, headers, body) = bytes(request(&alice, Method::GET, &thumbnail(query))).await;
        let made = image::load_from_memory(&body).expect("a picture");
        assert_eq!((status, (made.width(), made.height())), (200, size), "{query}");
        assert!(headers["content-disposition"].to_str().expect("text").starts_with("inline"));
    }
    alice.get(&thumbnail("width=0&height=5")).await.fails(400, "M_INVALID_PARAM");
    alice.get(&thumbnail("width=5")).await.fails(400, "M_INVALID_PARAM");
    let text = place(&upload(&alice, "", "image/png", "<script>").await.ok());
    let path = format!("/_matrix/client/v1/media/thumbnail/{text}?width=5&height=5");
    alice.get(&path).await.fails(400, "M_UNKNOWN");
}

#[tokio::test]
async fn a_part_of_a_file_is_asked_for_as_http_says() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let place_of = place(&upload(&alice, "", "text/plain", "0123456789").await.ok());
    let path = format!("/_matrix/client/v1/media/download/{place_of}");
    let (_, headers, _) = bytes(request(&alice, Method::GET, &path)).await;
    assert_eq!(headers["accept-ranges"], "bytes");
    let tag = headers["etag"].to_str().expect("text").to_owned();
    let ask = async |method: Method, asked: &[(&str, &str)]| {
        let request =
            asked.iter().fold(request(&alice, method, &path), |request, (name, value)| request.header(*name, *value));
        let (status, headers, body) = bytes(request).await;
        let text = |name: &str| headers.get(name).map(|value| value.to_str().expect("text").to_owned());
        (status, text("content-range").unwrap_or_default(), text("content-length"), body)
    };
    let whole = (200, String::new(), Some("10".to_owned()), Bytes::from("0123456789"));
    for (range, part, body) in [
        ("bytes=2-4", "bytes 2-4/10", "234"),
        ("bytes=7-", "bytes 7-9/10", "789"),
        ("bytes=-2", "bytes 8-9/10", "89"),
        ("bytes=-99", "bytes 0-9/10", "0123456789"),
        ("bytes=8-99", "bytes 8-9/10", "89"),
    ] {
        let wanted = (206, part.to_owned(), Some(body.len().to_string()), Bytes::from(body));
        assert_eq!(ask(Method::GET, &[("range", range)]).await, wanted, "{range}");
        assert_eq!(ask(Method::GET, &[("range", range), ("if-range", &tag)]).await, wanted, "{range}");
        let (status, part, length, _) = ask(Method::HEAD, &[("range", range)]).await;
        assert_eq!((status, part, length), (200, String::new(), whole.2.clone()), "parts are of GET alone");
    }
    for range in ["bytes=0-1,4-5", "bytes=4-2", "bytes=x-", "lines=1-2", "bytes"] {
        assert_eq!(ask(Method::GET, &[("range", range)]).await, whole, "{range}");
    }
    for other in ["\"other\"", &format!("W/{tag}"), "Sat, 28 Nov 2026 12:00:00 GMT"] {
        assert_eq!(ask(Method::GET, &[("range", "bytes=2-4"), ("if-range", other)]).await, whole, "{other}");
    }
    for range in ["bytes=10-", "bytes=99-100", "bytes=-0"] {
        let (status, part, ..) = ask(Method::GET, &[("range", range)]).await;
        assert_eq!((status, &*part), (416, "bytes */10"), "{range}");
    }
    assert_eq!(ask(Method::GET, &[("if-none-match", &tag), ("range", "bytes=2-4")]).await.0, 304);
    assert_eq!(ask(Method::GET, &[("if-match", "\"other\""), ("range", "bytes=2-4")]).await.0, 412);
}

/// A GIF of so many frames, each of one colour.
fn gif(frames: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
    for number in 0..frames {
        let picture = image::RgbaImage::from_pixel(900, 600, image::Rgba([number * 50, 9, 9, 255]));
        encoder.encode_frame(image::Frame::new(picture)).expect("encoded");
    }
    drop(encoder);
    bytes
}

/// How many frames a picture has.
fn frames(body: &[u8]) -> usize {
    use image::AnimationDecoder;
    let decoder = image::codecs::gif::GifDecoder::new(Cursor::new(body)).expect("a GIF");
    decoder.into_frames().collect_frames().expect("frames").len()
}

#[tokio::test]
async fn thumbnails_move_if_that_is_wanted_and_stand_otherwise() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let moving = place(&upload(&alice, "", "image/gif", gif(3)).await.ok());
    let one = place(&upload(&alice, "", "image/gif", gif(1)).await.ok());
    let thumbnail = async |place: &str, query: &str| {
        let path = format!("/_matrix/client/v1/media/thumbnail/{place}?{query}");
        let (status, headers, body) = bytes(request(&alice, Method::GET, &path)).await;
        assert_eq!(status, 200, "{query}");
        let made = image::load_from_memory(&body).expect("a picture");
        (headers["content-type"].to_str().expect("text").to_owned(), (made.width(), made.height()), body)
    };
    for (query, wanted) in
        [("width=300&height=200&method=scale", (320, 213)), ("width=64&height=64&method=crop", (96, 96))]
    {
        for _ in 0..2 {
            let (kind, size, body) = thumbnail(&moving, &format!("{query}&animated=true")).await;
            assert_eq!((&*kind, size, frames(&body)), ("image/gif", wanted, 3), "{query}");
        }
        for still in [query.to_owned(), format!("{query}&animated=false")] {
            let (kind, size, _) = thumbnail(&moving, &still).await;
            assert_eq!((&*kind, size), ("image/png", wanted), "{still}");
        }
        let (kind, size, _) = thumbnail(&one, &format!("{query}&animated=true")).await;
        assert_eq!((&*kind, size), ("image/png", wanted), "one frame does not move");
    }
    let (kind, size, body) = thumbnail(&moving, "width=900&height=600&animated=true").await;
    assert_eq!((&*kind, size, frames(&body)), ("image/gif", (900, 600), 3), "as large as it is");
    let (kind, size, _) = thumbnail(&moving, "width=900&height=600").await;
    assert_eq!((&*kind, size), ("image/png", (900, 600)));
}

#[tokio::test]
async fn pictures_that_are_not_decoded_are_refused_by_name_and_served_whole() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let avif = b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miafMA1A and so on".to_vec();
    let place_of = place(&upload(&alice, "", "image/avif", avif.clone()).await.ok());
    let refused = alice.get(&format!("/_matrix/client/v1/media/thumbnail/{place_of}?width=32&height=32")).await;
    let said = refused.body["error"].as_str().unwrap_or_default().to_owned();
    refused.fails(400, "M_UNKNOWN");
    assert!(said.contains("image/avif is not decoded here"), "{said}");
    let (status, headers, body) =
        bytes(request(&alice, Method::GET, &format!("/_matrix/client/v1/media/download/{place_of}"))).await;
    assert_eq!((status, &body[..]), (200, &avif[..]));
    assert_eq!(headers["content-disposition"], "inline", "browsers show it themselves");
}

#[tokio::test]
async fn what_is_removed_is_gone_for_all_and_counts_no_more() {
    let server = Server::start_with("registration = \"open\"\nrate_limits = false\nmedia_quota = \"10 KiB\"\n").await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let mut png = Vec::new();
    image::RgbImage::new(400, 400).write_to(&mut Cursor::new(&mut png), image::ImageFormat::Png).expect("encoded");
    assert!(png.len() < 6000, "{}", png.len());
    png.resize(6000, 0);
    let place_of = place(&upload(&bob, "", "image/png", png.clone()).await.ok());
    let thumbnail = format!("/_matrix/client/v1/media/thumbnail/{place_of}?width=32&height=32");
    assert_eq!(bytes(request(&alice, Method::GET, &thumbnail)).await.0, 200);
    upload(&bob, "", "text/plain", vec![1; 6000]).await.fails(403, "M_FORBIDDEN");
    let path = format!("/_synapse/admin/v1/media/{place_of}");
    bob.delete(&path).await.fails(403, "M_FORBIDDEN");
    alice.delete(&path).await.ok();
    alice.delete(&path).await.fails(404, "M_NOT_FOUND");
    for gone in [thumbnail, format!("/_matrix/client/v1/media/download/{place_of}")] {
        bob.get(&gone).await.fails(404, "M_NOT_FOUND");
    }
    let files = files_in(&server.data().join("media"));
    assert!(files.is_empty(), "neither the file nor what was made of it is left: {files:?}");
    upload(&bob, "", "text/plain", vec![1; 6000]).await.ok();
}

#[tokio::test]
async fn a_file_can_be_named_before_it_is_there() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let announced = alice.post("/_matrix/media/v1/create", json!({})).await.ok();
    assert!(announced["unused_expires_at"].as_u64().is_some());
    let place = place(&announced);
    let (path, put) = (format!("/_matrix/client/v1/media/download/{place}"), format!("{UPLOAD}/{place}"));
    bob.get(&format!("{path}?timeout_ms=10")).await.fails(504, "M_NOT_YET_UPLOADED");
    let waiting = tokio::spawn({
        let (bob, path) = (bob.clone(), path.clone());
        async move { bytes(request(&bob, Method::GET, &path)).await }
    });
    bob.put(&put, json!({})).await.fails(403, "M_FORBIDDEN");
    let bring = || request(&alice, Method::PUT, &format!("{put}?filename=a.txt")).header("content-type", "text/plain");
    alice.send_request(bring().body("here it is")).await.ok();
    let (status, headers, body) = waiting.await.expect("answered");
    assert_eq!(
        (status, &body[..], &headers["content-disposition"]),
        (200, &b"here it is"[..], &"inline; filename=a.txt".parse().expect("a value"))
    );
    alice.send_request(bring().body("something else")).await.fails(409, "M_CANNOT_OVERWRITE_MEDIA");
    alice.put(&format!("{UPLOAD}/localhost/nothing"), json!({})).await.fails(404, "M_NOT_FOUND");
    for _ in 0..10 {
        alice.post("/_matrix/media/v1/create", json!({})).await.ok();
    }
    alice.post("/_matrix/media/v1/create", json!({})).await.fails(429, "M_LIMIT_EXCEEDED");
    bob.post("/_matrix/media/v1/create", json!({})).await.ok();
}

#[tokio::test]
async fn nobody_uploads_more_than_their_quota() {
    let settings = "registration = \"open\"\nrate_limits = false\nmedia_quota = \"10 KiB\"\n";
    let mut server = Server::start_with(settings).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    upload(&alice, "", "text/plain", vec![1; 6000]).await.ok();
    upload(&alice, "", "text/plain", vec![2; 6000]).await.fails(403, "M_FORBIDDEN");
    upload(&alice, "", "text/plain", vec![3; 3000]).await.ok();
    server.restart().await;
    upload(&alice, "", "text/plain", vec![4; 3000]).await.fails(403, "M_FORBIDDEN");
    upload(&bob, "", "text/plain", vec![5; 6000]).await.ok();
}
