//! Copies that are made while people talk, and what somebody who goes back to one finds: everything as it was at one
//! moment, whole.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    common::{S3, Server, User, in_room},
    media::{bytes, files_in, place, request, upload},
};

const SETTINGS: &str = "registration = \"open\"\nrate_limits = false\n";
const DOWNLOAD: &str = "/_matrix/client/v1/media/download";

/// Runs `hearth backup` for a server.
async fn back_up(server: &Server, to: &Path) -> (bool, String) {
    let mut command = Server::command();
    command.arg("backup").arg(to).arg("--config").arg(server.config()).current_dir(server.dir.path());
    let output = tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("it ends");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// The texts of a room and their event IDs, newest first.
async fn messages(user: &User, room: &str) -> Vec<(String, String)> {
    let (mut out, mut from) = (Vec::new(), String::new());
    loop {
        let page = user.get(&in_room(room, &format!("messages?dir=b&limit=100{from}"))).await.ok();
        let text =
            |event: &Value| Some((event["content"]["body"].as_str()?.into(), event["event_id"].as_str()?.into()));
        out.extend(page["chunk"].as_array().expect("a page").iter().filter_map(text));
        match page["end"].as_str() {
            Some(end) => from = format!("&from={end}"),
            None => return out,
        }
    }
}

/// Says one thing after the other and shares a file with each, until it is told to stop. Answers what was
/// acknowledged: text, event ID, file.
async fn talk(user: User, room: String, stop: Arc<AtomicBool>) -> Vec<(String, String, String)> {
    let mut out = Vec::new();
    while !stop.load(SeqCst) {
        let text = format!("number {}", out.len());
        let file = place(&upload(&user, "", "text/plain", text.clone()).await.ok());
        let event = user.say(&room, &text).await;
        out.push((text, event, file));
    }
    out
}

async fn has(user: &User, place: &str, content: &[u8]) -> bool {
    let (status, _, body) = bytes(request(user, Method::GET, &format!("{DOWNLOAD}/{place}"))).await;
    status == 200 && body == content
}

/// Holds that of each one everything is there that they said up to some moment, and with it the file that they had
/// shared before. Answers how many messages that is.
async fn assert_whole(user: &User, found: &[(String, String)], said: &[Vec<(String, String, String)>]) -> usize {
    let mut count = 1;
    for said in said {
        let is_there = |(text, event, _): &(String, String, String)| found.contains(&(text.clone(), event.clone()));
        let there = said.iter().take_while(|said| is_there(said)).count();
        assert!(!said[there..].iter().any(is_there), "something is missing in the middle");
        for (text, _, file) in &said[..there] {
            assert!(has(user, file, text.as_bytes()).await, "{text}");
        }
        count += there;
    }
    assert_eq!(found.len(), count, "nothing is there twice");
    count
}

#[tokio::test]
async fn a_copy_of_a_server_under_load_is_whole_and_can_be_gone_back_to() {
    let server = Server::start_with(SETTINGS).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    bob.join(&room).await;
    let before = place(&upload(&alice, "", "text/plain", "before").await.ok());
    let old = alice.say(&room, "before").await;
    let stop = Arc::<AtomicBool>::default();
    let talking: Vec<_> =
        [&alice, &bob].map(|user| tokio::spawn(talk(user.clone(), room.clone(), stop.clone()))).into();
    let copies = TempDir::with_prefix("hearth-").expect("a directory");
    let mut made: Vec<PathBuf> = Vec::new();
    for number in 0..3 {
        let (before, to) = (messages(&alice, &room).await.len(), copies.path().join(format!("copy-{number}")));
        let (fine, text) = back_up(&server, &to).await;
        assert!(fine && text.contains("is a whole copy"), "{text}");
        assert!(messages(&alice, &room).await.len() >= before);
        made.push(to);
    }
    stop.store(true, SeqCst);
    let mut said = Vec::new();
    for talk in talking {
        said.push(talk.await.expect("talked"));
    }
    // What happens to the original from now on is nothing to the copies.
    alice.delete(&format!("/_synapse/admin/v1/media/{before}")).await.ok();
    let at = alice.say(&room, "after").await;
    let key = server.guest().get("/_matrix/key/v2/server").await.ok()["verify_keys"].clone();
    let mut least = 0;
    for copy in made {
        let names: Vec<_> =
            fs::read_dir(&copy).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        let restored = Server::start_from(&copy, SETTINGS).await;
        let here = |user: &User| User { url: restored.url.clone(), ..user.clone() };
        let (alice, bob) = (here(&alice), here(&bob));
        assert_eq!(restored.guest().get("/_matrix/key/v2/server").await.ok()["verify_keys"], key);
        assert!(has(&bob, &before, b"before").await);
        let found = messages(&bob, &room).await;
        assert!(found.contains(&("before".into(), old.clone())) && !found.iter().any(|(_, event)| *event == at));
        let count = assert_whole(&alice, &found, &said).await;
        assert!(count >= least, "a later copy has no less");
        least = count;
        // It goes on as a server of its own.
        alice.say(&room, "from the copy").await;
        restored.login("bob").await.sync(None, 0).await;
        let late = place(&upload(&bob, "", "text/plain", "number 0").await.ok());
        assert!(has(&alice, &late, b"number 0").await);
    }
    assert!(least > 3, "hardly anything was said: {least}");
    assert!(!messages(&alice, &room).await.iter().any(|(text, _)| text == "from the copy"));
}

#[tokio::test]
async fn nothing_half_is_called_a_backup() {
    let mut server = Server::start_with(SETTINGS).await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    alice.say(&room, "kept").await;
    upload(&alice, "", "text/plain", "kept").await.ok();
    let copies = TempDir::with_prefix("hearth-").expect("a directory");
    let at = |name: &str| copies.path().join(name);
    fs::create_dir(at("taken")).expect("made");
    let (fine, text) = back_up(&server, &at("taken")).await;
    assert!(!fine && text.contains("is there already and was left as it is"), "{text}");
    let (fine, text) = back_up(&server, &at("no/such/folder")).await;
    assert!(!fine && text.contains("can't write"), "{text}");
    // What an end in the middle left of an earlier one.
    fs::create_dir(at("good.unfinished")).expect("made");
    fs::write(at("good.unfinished/hearth.redb"), "half").expect("written");
    let lost = files_in(&server.data().join("media")).pop().expect("a file");
    let kept = fs::read(&lost).expect("read");
    fs::remove_file(&lost).expect("removed");
    let (fine, text) = back_up(&server, &at("good")).await;
    assert!(fine && text.contains("1 files of media are missing"), "{text}");
    fs::write(&lost, kept).expect("written");
    // A server that does not run is copied by the command itself.
    server.kill9().await;
    let (fine, text) = back_up(&server, &at("still")).await;
    assert!(fine && text.contains("1 files") && !text.contains("missing"), "{text}");
    let names: Vec<_> =
        fs::read_dir(copies.path()).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
    assert!(names.len() == 3 && !names.iter().any(|name| name.to_string_lossy().contains("unfinished")), "{names:?}");
    let restored = Server::start_from(&at("still"), SETTINGS).await;
    let alice = User { url: restored.url.clone(), ..alice };
    assert_eq!(messages(&alice, &room).await[0].0, "kept");
    server.resume().await;
    let (fine, text) = back_up(&server, &at("again")).await;
    assert!(fine, "after a crash too: {text}");
    fs::remove_dir_all(server.data()).expect("removed");
    let (fine, text) = back_up(&server, &at("nothing")).await;
    assert!(!fine && text.contains("there is no"), "{text}");
}

#[tokio::test]
async fn files_in_a_bucket_are_said_to_be_elsewhere() {
    let s3 = S3::start().await;
    let server = Server::start_with(&format!("{SETTINGS}{}", s3.settings())).await;
    let alice = server.register("alice").await;
    let kept = place(&upload(&alice, "", "text/plain", "in the bucket").await.ok());
    let copies = TempDir::with_prefix("hearth-").expect("a directory");
    let copy = copies.path().join("copy");
    let (fine, text) = back_up(&server, &copy).await;
    assert!(fine && text.contains("1 files are in the bucket alone"), "{text}");
    let restored = Server::start_from(&copy, &format!("{SETTINGS}{}", s3.settings())).await;
    assert!(has(&User { url: restored.url.clone(), ..alice }, &kept, b"in the bucket").await);
}
