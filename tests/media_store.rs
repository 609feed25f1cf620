//! Uploads that are kept in a store that speaks S3: what people notice of it, which is nothing while it is there;
//! and what they are told while it is not.

use std::{collections::BTreeSet, io::Cursor};

use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    common::{S3, S3_SECRET, Server, User, federated, until},
    media::{bytes, files_in, place, request, upload},
};

const DOWNLOAD: &str = "/_matrix/client/v1/media/download";
const UPLOAD: &str = "/_matrix/media/v3/upload";
const DELETE: &str = "/_synapse/admin/v1/media";

async fn server_with(s3: &S3) -> Server {
    Server::start_with(&format!("registration = \"open\"\nrate_limits = false\n{}", s3.settings())).await
}

/// The content of everything that is in the store.
fn contents(s3: &S3) -> BTreeSet<Vec<u8>> {
    s3.objects().into_values().collect()
}

fn numbers(count: usize) -> Vec<u8> {
    (0..count).map(|n| (n % 251) as u8).collect()
}

#[tokio::test]
async fn files_go_to_the_store_and_come_from_it_whole_and_in_part() {
    let s3 = S3::start().await;
    let mut server = server_with(&s3).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let content = numbers(300_000);
    let first = place(&upload(&alice, "?filename=a.txt", "text/plain", content.clone()).await.ok());
    let again = place(&upload(&bob, "", "text/plain", content.clone()).await.ok());
    assert_ne!(first, again);
    assert_eq!(contents(&s3), BTreeSet::from([content.clone()]), "the same content is there once");
    let name = s3.objects().into_keys().next().expect("one");
    assert!(name.starts_with("some/where/"), "{name}");
    assert_eq!(s3.asked("PUT").len(), 1, "and was sent once");
    server.kill9().await;
    server.resume().await;

    let path = format!("{DOWNLOAD}/{first}");
    let (status, headers, body) = bytes(request(&bob, Method::GET, &path)).await;
    assert_eq!((status, &body[..]), (200, &content[..]));
    assert_eq!(headers["content-disposition"], "inline; filename=a.txt");
    assert!(s3.asked("GET").iter().all(|asked| asked.headers["range"] == "bytes=0-299999"));
    let (status, headers, body) = bytes(request(&bob, Method::GET, &path).header("range", "bytes=-10")).await;
    assert_eq!((status, &body[..]), (206, &content[299_990..]));
    assert_eq!(headers["content-range"], "bytes 299990-299999/300000");
    assert_eq!(s3.asked("GET")[0].headers["range"], "bytes=299990-299999", "no more is fetched than is wanted");
    let (status, ..) = bytes(request(&bob, Method::GET, &path).header("range", "bytes=300000-")).await;
    assert_eq!(status, 416);
    let (status, headers, _) = bytes(request(&bob, Method::HEAD, &path)).await;
    assert_eq!((status, &headers["content-length"]), (200, &"300000".parse().expect("a value")));
    assert!(s3.asked("GET").is_empty(), "nothing is fetched that is not wanted");
    let empty = place(&upload(&alice, "", "text/plain", "").await.ok());
    let (status, _, body) = bytes(request(&bob, Method::GET, &format!("{DOWNLOAD}/{empty}"))).await;
    assert_eq!((status, body.len()), (200, 0));
    let log = server.log();
    assert!(!log.contains(S3_SECRET), "{log}");
}

#[tokio::test]
async fn large_files_go_in_parts_and_other_servers_get_them() {
    let s3 = S3::start().await;
    let (server, elsewhere) = (federated("", &s3.settings()).await, federated("", "").await);
    let alice = server.register("alice").await;
    let content = numbers(20 << 20);
    let place = place(&upload(&alice, "", "video/mp4", content.clone()).await.ok());
    assert_eq!(s3.asked("PUT").len(), 4, "of at most five MiB");
    assert_eq!(contents(&s3), BTreeSet::from([content.clone()]));
    let bob = elsewhere.register("bob").await;
    let (status, _, body) = bytes(request(&bob, Method::GET, &format!("{DOWNLOAD}/{place}"))).await;
    assert_eq!(status, 200);
    assert!(body == content, "{} bytes came", body.len());
}

#[tokio::test]
async fn thumbnails_are_made_of_pictures_in_the_store() {
    let s3 = S3::start().await;
    let server = server_with(&s3).await;
    let alice = server.register("alice").await;
    let mut png = Vec::new();
    let picture = image::RgbImage::from_fn(900, 600, |x, y| image::Rgb([(x % 256) as u8, (y % 256) as u8, 9]));
    picture.write_to(&mut Cursor::new(&mut png), image::ImageFormat::Png).expect("encoded");
    let picture = place(&upload(&alice, "", "image/png", png).await.ok());
    let thumbnail = |place: &str, query: &str| format!("/_matrix/client/v1/media/thumbnail/{place}?{query}");
    for (query, size) in [("width=300&height=200", (320, 213)), ("width=2000&height=2000", (900, 600))] {
        for _ in 0..2 {
            let (status, _, body) = bytes(request(&alice, Method::GET, &thumbnail(&picture, query))).await;
            let made = image::load_from_memory(&body).expect("a picture");
            assert_eq!((status, (made.width(), made.height())), (200, size), "{query}");
        }
    }
    _ = s3.asked("GET");
    let (status, ..) = bytes(request(&alice, Method::GET, &thumbnail(&picture, "width=300&height=200"))).await;
    assert_eq!((status, s3.asked("GET").len()), (200, 0), "what was made is kept here");
    let text = place(&upload(&alice, "", "image/png", vec![b'x'; 100_000]).await.ok());
    alice.get(&thumbnail(&text, "width=5&height=5")).await.fails(400, "M_UNKNOWN");
    assert_eq!(s3.asked("GET")[0].headers["range"], "bytes=0-63", "what is no picture is not fetched");
    let left = std::fs::read_dir(server.data().join("media/incoming")).expect("a folder");
    assert_eq!(left.count(), 0, "nothing is left of what was fetched");
}

#[tokio::test]
async fn a_store_that_is_down_is_said_and_nothing_is_lost() {
    let mut s3 = S3::start().await;
    let mut server = server_with(&s3).await;
    let mut alice = server.register("alice").await;
    let kept = place(&upload(&alice, "", "text/plain", "kept").await.ok());
    s3.stop().await;
    server.restart().await;
    alice.url = server.url.clone();
    let path = format!("{DOWNLOAD}/{kept}");
    alice.get(&path).await.fails(503, "M_UNKNOWN");
    upload(&alice, "", "text/plain", "refused").await.fails(503, "M_UNKNOWN");
    let room = alice.create_room(json!({})).await;
    alice.say(&room, "all else works").await;
    s3.resume().await;
    s3.fails(true);
    upload(&alice, "", "text/plain", "refused").await.fails(503, "M_UNKNOWN");
    s3.fails(false);
    let (status, _, body) = bytes(request(&alice, Method::GET, &path)).await;
    assert_eq!((status, &body[..]), (200, &b"kept"[..]));
    let late = place(&upload(&alice, "", "text/plain", "refused").await.ok());
    let (status, _, body) = bytes(request(&alice, Method::GET, &format!("{DOWNLOAD}/{late}"))).await;
    assert_eq!((status, &body[..]), (200, &b"refused"[..]));
    let log = server.log();
    assert!(log.contains("the store of files") && log.contains("SlowDown"), "{log}");
    assert!(!log.contains(S3_SECRET), "{log}");
    s3.empty();
    alice.get(&path).await.fails(502, "M_UNKNOWN");
    assert!(server.log().contains("the store of files has lost"));
    upload(&alice, "", "text/plain", "kept").await.ok();
    let (status, _, body) = bytes(request(&alice, Method::GET, &path)).await;
    assert_eq!((status, &body[..]), (200, &b"kept"[..]), "what was lost is there again once somebody brings it");
}

#[tokio::test]
async fn what_nothing_refers_to_is_removed_from_the_store() {
    let mut s3 = S3::start().await;
    let server = server_with(&s3).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let mut places = Vec::new();
    for user in [&alice, &bob] {
        places.push(place(&upload(user, "", "text/plain", "shared").await.ok()));
    }
    bob.delete(&format!("{DELETE}/{}", places[1])).await.fails(403, "M_FORBIDDEN");
    let answer = alice.delete(&format!("{DELETE}/{}", places[0])).await.ok();
    assert_eq!(answer["total"], 1);
    alice.get(&format!("{DOWNLOAD}/{}", places[0])).await.fails(404, "M_NOT_FOUND");
    let (status, ..) = bytes(request(&alice, Method::GET, &format!("{DOWNLOAD}/{}", places[1]))).await;
    assert_eq!(status, 200, "somebody else has uploaded the same");
    alice.delete(&format!("{DELETE}/{}", places[1])).await.ok();
    assert!(s3.objects().is_empty());
    alice.delete(&format!("{DELETE}/{}", places[1])).await.fails(404, "M_NOT_FOUND");

    let last = place(&upload(&alice, "", "text/plain", "last").await.ok());
    s3.stop().await;
    alice.delete(&format!("{DELETE}/{last}")).await.ok();
    alice.get(&format!("{DOWNLOAD}/{last}")).await.fails(404, "M_NOT_FOUND");
    s3.resume().await;
    let other = place(&upload(&alice, "", "text/plain", "other").await.ok());
    alice.delete(&format!("{DELETE}/{other}")).await.ok();
    until("what could not be removed is", async || s3.objects().is_empty().then_some(())).await;
}

#[tokio::test]
async fn what_was_on_disk_before_is_served_from_there() {
    let mut server = Server::start().await;
    let alice = server.register("alice").await;
    let old = place(&upload(&alice, "", "text/plain", "old").await.ok());
    let s3 = S3::start().await;
    server.configure(&format!("registration = \"open\"\nrate_limits = false\n{}", s3.settings()));
    server.restart().await;
    let alice = User { url: server.url.clone(), ..alice };
    let new = place(&upload(&alice, "", "text/plain", "new").await.ok());
    for (place, content) in [(old, "old"), (new, "new")] {
        let (status, _, body) = bytes(request(&alice, Method::GET, &format!("{DOWNLOAD}/{place}"))).await;
        assert_eq!((status, &body[..]), (200, content.as_bytes()));
    }
    assert_eq!(contents(&s3), BTreeSet::from([b"new".to_vec()]));
}

#[tokio::test]
async fn check_says_what_is_wrong_with_the_store() {
    let mut s3 = S3::start().await;
    let dir = TempDir::new().expect("a directory");
    let check = async |settings: &str| {
        std::fs::write(dir.path().join("hearth.toml"), settings).expect("written");
        let mut command = Server::command();
        command.args(["check", "hearth.toml"]).current_dir(dir.path());
        let output = tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("it ends");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let settings = s3.settings();
    assert_eq!(check(&settings).await, (true, String::new()));
    assert!(s3.objects().is_empty(), "nothing is left of the trial");
    let in_file = settings.replace(&format!("secret_key = \"{S3_SECRET}\""), "secret_key_file = \"s3.secret\"");
    for (settings, said) in [
        (settings.replace("the-key-of", "a-key-of"), "can't keep files: it says InvalidAccessKeyId"),
        (settings.replace("hearth-test", "nothing"), "can't keep files: it says NoSuchBucket"),
        (settings.replace("hearth-test", "No/Bucket"), "is not a bucket"),
        (settings.replace("secret_key", "# secret_key"), "[s3] needs \"secret_key\" or \"secret_key_file\""),
        (settings.replace("bucket", "# bucket"), "[s3] needs \"bucket\""),
        (in_file.clone(), "s3.secret can't be read"),
    ] {
        let (fine, text) = check(&settings).await;
        assert!(!fine && text.contains(said), "{settings}\n{text}");
        assert!(!text.contains(S3_SECRET), "{text}");
    }
    std::fs::write(dir.path().join("s3.secret"), format!("{S3_SECRET}\n")).expect("written");
    assert_eq!(check(&in_file).await, (true, String::new()));
    s3.stop().await;
    let (fine, text) = check(&settings).await;
    assert!(!fine && text.contains("can't connect"), "{text}");
}

/// A server ends sharply while a large file goes to the store in parts: nothing of it is to be seen, nothing stays in
/// the store, and it can be sent again.
#[tokio::test]
async fn an_upload_that_a_crash_cuts_off_leaves_nothing_and_can_be_sent_again() {
    let s3 = S3::start().await;
    let mut server = server_with(&s3).await;
    let alice = server.register("alice").await;
    let content = numbers(12 << 20);
    for answered in [0, 1, 2] {
        s3.answers_parts(answered);
        let sending = tokio::spawn({
            let (alice, content) = (alice.clone(), content.clone());
            async move { request(&alice, Method::POST, UPLOAD).body(content).send().await.map(drop) }
        });
        let parts = answered as usize;
        until("a part that waits", async || (s3.waiting() == 1).then_some(())).await;
        assert_eq!(s3.unfinished(), [parts]);
        server.kill9().await;
        assert!(sending.await.expect("it ends").is_err(), "nobody was told that it is there");
        assert!(s3.objects().is_empty(), "nothing is to be seen of it");
        s3.answers_parts(u32::MAX);
        server.resume().await;
        until("nothing is left in the store", async || s3.unfinished().is_empty().then_some(())).await;
        assert!(s3.objects().is_empty());
    }
    let place = place(&upload(&alice, "", "video/mp4", content.clone()).await.ok());
    assert_eq!(contents(&s3), BTreeSet::from([content.clone()]));
    let (status, _, body) = bytes(request(&alice, Method::GET, &format!("{DOWNLOAD}/{place}"))).await;
    assert!(status == 200 && body == content);
    let incoming = std::fs::read_dir(server.data().join("media/incoming")).expect("a folder");
    assert_eq!(incoming.count(), 0);
}

/// Runs `hearth media move` on a server's data.
async fn move_media(server: &Server, to: &str) -> (bool, String) {
    let mut command = Server::command();
    command.args(["media", "move", to, "--config"]).arg(server.config()).current_dir(server.dir.path());
    let output = tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("it ends");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Holds that these files can be had.
async fn assert_there(user: &User, files: &[(String, Vec<u8>)]) {
    for (place, content) in files {
        let (status, _, body) = bytes(request(user, Method::GET, &format!("{DOWNLOAD}/{place}"))).await;
        assert!(status == 200 && body == content[..], "{place}: {status}");
    }
}

#[tokio::test]
async fn files_are_moved_into_the_store_and_back() {
    let mut server = Server::start().await;
    let alice = server.register("alice").await;
    let mut files = Vec::new();
    for number in 0..8 {
        let content = numbers(1000 + number);
        files.push((place(&upload(&alice, "", "text/plain", content.clone()).await.ok()), content));
    }
    let large = numbers(11 << 20);
    files.push((place(&upload(&alice, "", "video/mp4", large.clone()).await.ok()), large));
    let (fine, text) = move_media(&server, "bucket").await;
    assert!(!fine && text.contains("[s3]"), "{text}");
    let mut s3 = S3::start().await;
    server.configure(&format!("registration = \"open\"\nrate_limits = false\n{}", s3.settings()));
    server.restart().await;
    let (fine, text) = move_media(&server, "bucket").await;
    assert!(!fine && text.contains("is in use") && text.contains("Stop it first"), "{text}");

    // The store goes away in the middle, and what was brought stays.
    server.stop().await;
    s3.answers_parts(1);
    let mut command = Server::command();
    command.args(["media", "move", "bucket", "--config"]).arg(server.config()).current_dir(server.dir.path());
    let mut child = command.stdout(std::process::Stdio::null()).spawn().expect("it runs");
    until("the large file is on its way", async || (s3.waiting() == 1).then_some(())).await;
    assert_eq!(s3.unfinished(), [1]);
    child.kill().expect("our child");
    child.wait().expect("our child");
    s3.answers_parts(u32::MAX);
    server.resume().await;
    assert_there(&alice, &files).await;
    until("what was begun is given up", async || s3.unfinished().is_empty().then_some(())).await;
    server.stop().await;
    s3.stop().await;
    let (fine, text) = move_media(&server, "bucket").await;
    assert!(!fine && text.contains("start it again to go on") && !text.contains(S3_SECRET), "{text}");
    s3.resume().await;
    let (fine, text) = move_media(&server, "bucket").await;
    assert!(fine && text.contains("Brought"), "{text}");
    assert_eq!(contents(&s3), files.iter().map(|(_, content)| content.clone()).collect());
    let on_disk = || files_in(&server.data().join("media")).len();
    assert_eq!(on_disk(), 0);
    server.resume().await;
    assert_there(&alice, &files).await;
    files.push((place(&upload(&alice, "", "text/plain", "added").await.ok()), b"added".to_vec()));
    server.stop().await;

    let (fine, text) = move_media(&server, "disk").await;
    assert!(fine && text.contains("Brought 10 files"), "{text}");
    assert!(s3.objects().is_empty());
    server.configure("registration = \"open\"\nrate_limits = false\n");
    server.resume().await;
    assert_there(&alice, &files).await;
}

#[tokio::test]
async fn what_is_damaged_or_unknown_is_left_where_it_is() {
    let s3 = S3::start().await;
    let mut server = server_with(&s3).await;
    let alice = server.register("alice").await;
    upload(&alice, "", "text/plain", "good").await.ok();
    upload(&alice, "", "text/plain", "bad").await.ok();
    s3.change(b"bad", b"bed");
    s3.put("some/where/else/not-ours", b"mine");
    server.stop().await;
    let (fine, text) = move_media(&server, "disk").await;
    assert!(!fine && text.contains("1 files are damaged") && text.contains("Brought 1 files"), "{text}");
    assert!(text.contains("1 files in the bucket are not this server's"), "{text}");
    assert_eq!(contents(&s3), BTreeSet::from([b"bed".to_vec(), b"mine".to_vec()]));
    s3.change(b"bed", b"bad");
    let (fine, text) = move_media(&server, "disk").await;
    assert!(fine && text.contains("Brought 1 files"), "{text}");
    let path = files_in(&server.data().join("media"))
        .into_iter()
        .find(|path| std::fs::read(path).is_ok_and(|is| is == b"bad"));
    std::fs::write(path.expect("it is here"), "bid").expect("written");
    let (fine, text) = move_media(&server, "bucket").await;
    assert!(!fine && text.contains("1 files are damaged") && text.contains("Brought 1 files"), "{text}");
    assert_eq!(contents(&s3), BTreeSet::from([b"good".to_vec(), b"mine".to_vec()]));
}
