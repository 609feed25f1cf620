//! Previews of pages on the web: what they say of themselves, and what the server doesn't let itself be led to.

use std::io::Cursor;

use serde_json::{Value, json};

use crate::common::{Answer, Peer, Says, Server, User, encode, federated, free_address};

async fn preview(user: &User, url: &str) -> Answer {
    user.get(&format!("/_matrix/client/v1/media/preview_url?url={}", encode(url))).await
}

fn says(kind: &str, body: &[u8]) -> Says {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len());
    Says::Bytes([head.as_bytes(), body].concat())
}

fn sent_to(url: &str) -> Says {
    Says::Bytes(format!("HTTP/1.1 302 Found\r\nlocation: {url}\r\ncontent-length: 0\r\n\r\n").into_bytes())
}

fn picture() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image::RgbImage::new(40, 30).write_to(&mut bytes, image::ImageFormat::Png).expect("written");
    bytes.into_inner()
}

#[tokio::test]
async fn a_page_is_shown_by_what_it_says_of_itself() {
    let server = federated("url_previews = true\n", "").await;
    let alice = server.register("alice").await;
    let web = Peer::start().await;
    let url = |path: &str| format!("https://{}{path}", web.name());
    let page = "<html><head><title>no</title><meta property=\"og:title\" content=\"Soup &amp; bread\">\
                <meta property=og:image content=\"pictures/soup.png\"></head>";
    web.says("/pictures/soup.png", says("image/png", &picture()));
    web.says("/kitchen", says("text/html; charset=utf-8", page.as_bytes()));
    web.says("/moved", sent_to(&url("/kitchen")));
    let shown = preview(&alice, &url("/moved")).await.ok();
    assert_eq!((&shown["og:title"], &shown["og:image:width"]), (&json!("Soup & bread"), &json!(40)), "{shown}");
    assert_eq!(shown["matrix:image:size"], json!(picture().len()));
    let place = shown["og:image"].as_str().and_then(|uri| uri.strip_prefix("mxc://")).expect("a picture").to_owned();
    for path in [format!("download/{place}"), format!("thumbnail/{place}?width=32&height=32")] {
        let answer = alice.get(&format!("/_matrix/client/v1/media/{path}")).await;
        assert_eq!((answer.status, &answer.headers["content-type"]), (200, &"image/png".parse().expect("a value")));
    }
    assert_eq!(preview(&alice, &url("/moved")).await.ok(), shown);
    assert_eq!(web.asked("/kitchen").len(), 1, "it is remembered");
    web.says("/file", says("application/pdf", b"%PDF"));
    assert_eq!(preview(&alice, &url("/file")).await.ok(), json!({}));
    assert_eq!(preview(&alice, &url("/pictures/soup.png")).await.ok()["og:image"], shown["og:image"]);
    server.guest().get("/_matrix/client/v1/media/preview_url?url=x").await.fails(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn nobody_is_led_where_they_may_not_go_or_kept_for_long() {
    let server = federated("url_previews = true\n", "").await;
    let alice = server.register("alice").await;
    let web = Peer::start().await;
    let url = |path: &str| format!("https://{}{path}", web.name());
    for bad in ["http://localhost/", "file:///etc/passwd", "ftp://localhost/", "nonsense", ""] {
        let answer = preview(&alice, bad).await;
        answer.fails(400, "M_INVALID_PARAM");
    }
    web.says("/loop", sent_to(&url("/loop")));
    web.says("/down", sent_to("http://127.0.0.1/"));
    web.says("/huge", Says::Endless(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\nxxxxxxxxxxxxxxxx".to_vec()));
    web.says("/gone", Says::Json(404, json!({})));
    for path in ["/loop", "/down", "/huge", "/gone"] {
        preview(&alice, &url(path)).await.fails(502, "M_UNKNOWN");
    }
    preview(&alice, &format!("https://localhost:{}/", free_address().port())).await.fails(502, "M_UNKNOWN");
    let closed = federated("url_previews = true\n", "allow_private_addresses = false\n").await;
    let bob = closed.register("bob").await;
    web.says("/secret", says("text/html", b"<title>secret</title>"));
    for host in [web.name().to_owned(), web.name().replace("localhost", "127.0.0.1"), "[::1]:8008".to_owned()] {
        let answer = preview(&bob, &format!("https://{host}/secret")).await;
        assert!(matches!(answer.status, 400 | 502), "{host}: {}", answer.body);
    }
    assert!(web.asked("/secret").is_empty(), "private addresses are not called");
    let off = Server::start().await;
    let carol = off.register("carol").await;
    preview(&carol, "https://example.org/").await.fails(404, "M_UNRECOGNIZED");
}

#[tokio::test]
async fn addresses_and_numbers_are_no_part_of_an_account() {
    let server = Server::start().await;
    let root = server.register("root").await;
    let none: Value = json!({"client_secret": "s", "email": "a@b.example", "send_attempt": 1});
    root.post("/_matrix/client/v3/account/3pid/email/requestToken", none.clone()).await.fails(403, "M_THREEPID_DENIED");
    root.post("/_matrix/client/v3/account/password/email/requestToken", none).await.fails(400, "M_THREEPID_NOT_FOUND");
    let address = json!({"medium": "email", "address": "a@b.example"});
    let gone = root.post("/_matrix/client/v3/account/3pid/delete", address).await.ok();
    assert_eq!(gone["id_server_unbind_result"], "no-support");
}
