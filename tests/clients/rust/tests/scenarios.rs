//! What people do in Element X, through its own library (matrix-sdk and matrix-sdk-ui), against the server at
//! HEARTH_URL. Each test is one thing that somebody does.

// The library's futures are deep.
#![recursion_limit = "512"]

mod common;

use common::{Person, Talk, until};
use matrix_sdk::room::edit::EditedContent;
use matrix_sdk::{
    RoomState,
    attachment::AttachmentConfig,
    ruma::{
        api::client::{
            receipt::create_receipt::v3::ReceiptType, room::create_room::v3::RoomPreset, sync::sync_events::v5,
        },
        events::{
            AnyInitialStateEvent, InitialStateEvent, Mentions,
            room::{
                encryption::RoomEncryptionEventContent,
                message::{RoomMessageEventContent, RoomMessageEventContentWithoutRelation},
            },
        },
    },
};
use matrix_sdk_ui::timeline::{TimelineBuilder, TimelineFocus};

fn encrypted() -> matrix_sdk::ruma::serde::Raw<AnyInitialStateEvent> {
    let content = RoomEncryptionEventContent::with_recommended_defaults();
    InitialStateEvent::with_empty_state_key(content).to_raw_any()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_chat_edit_react_reply_and_take_back() {
    let (alice, bob) = (Person::new("alice").await, Person::new("bob").await);
    let room = alice.room_with(&[&bob], |_| {}).await;
    let (hers, his) = (alice.open(room.room_id()).await, bob.open(room.room_id()).await);
    hers.say("good morning").await;
    let heard = his.hears("good morning").await;
    his.toggle_reaction(&heard.identifier(), "👋").await.expect("reacted");
    let event = heard.event_id().expect("an ID").to_owned();
    let reply = RoomMessageEventContentWithoutRelation::text_plain("and to you");
    his.send_reply(reply, event.clone()).await.expect("replied");
    hers.sees("bob's wave", |item| item.content().reactions()?.get("👋").map(drop)).await;
    let replied = hers.hears("and to you").await;
    assert_eq!(replied.content().in_reply_to().map(|to| to.event_id), Some(event));

    let own = hers.hears("good morning").await;
    let edited = RoomMessageEventContentWithoutRelation::text_plain("good evening");
    hers.edit(&own.identifier(), EditedContent::RoomMessage(edited)).await.expect("edited");
    let item = his.hears("good evening").await;
    assert!(item.content().as_message().is_some_and(|message| message.is_edited()));

    hers.redact(&own.identifier(), None).await.expect("taken back");
    his.sees("that it is gone", |item| item.content().is_redacted().then_some(())).await;
    assert!(!his.texts().await.iter().any(|text| text.contains("good")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_room_is_read_by_its_members_and_by_who_comes_later() {
    let (alice, bob, carol) = (Person::new("alice").await, Person::new("bob").await, Person::new("carol").await);
    let room = alice.room_with(&[&bob], |request| request.initial_state = vec![encrypted()]).await;
    let (hers, his) = (alice.open(room.room_id()).await, bob.open(room.room_id()).await);
    for turn in 0..3 {
        hers.say(&format!("secret {turn} of alice")).await;
        let heard = his.hears(&format!("secret {turn} of alice")).await;
        assert!(heard.encryption_info().is_some(), "it came in the clear");
        his.say(&format!("secret {turn} of bob")).await;
        hers.hears(&format!("secret {turn} of bob")).await;
    }
    room.invite_user_by_id(carol.client.user_id().expect("signed in")).await.expect("invited");
    carol.room(room.room_id(), RoomState::Invited).await.join().await.expect("joined");
    let theirs = carol.open(room.room_id()).await;
    let three = async || (room.joined_user_ids().await.ok()?.len() == 3).then_some(());
    until("alice knows of carol", three).await;
    hers.say("welcome, carol").await;
    assert!(theirs.hears("welcome, carol").await.encryption_info().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_device_reads_old_secrets_by_the_recovery_key() {
    let (alice, bob) = (Person::new("alice").await, Person::new("bob").await);
    let key = alice.client.encryption().recovery().enable().wait_for_backups_to_upload().await.expect("enabled");
    let room = alice.room_with(&[&bob], |request| request.initial_state = vec![encrypted()]).await;
    let (hers, his) = (alice.open(room.room_id()).await, bob.open(room.room_id()).await);
    his.say("remember this").await;
    hers.hears("remember this").await;
    alice.client.encryption().backups().wait_for_steady_state().await.expect("all is in the backup");

    let phone = alice.another_device().await;
    let opened = phone.open(room.room_id()).await;
    opened.sees("what it can't read", |item| item.content().is_unable_to_decrypt().then_some(())).await;
    phone.client.encryption().recovery().recover(&key).await.expect("the key fits");
    opened.hears("remember this").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_is_read_back_to_its_beginning() {
    let (alice, bob) = (Person::new("alice").await, Person::new("bob").await);
    let room = alice.room_with(&[], |request| request.preset = Some(RoomPreset::PublicChat)).await;
    for number in 0..60 {
        room.send(RoomMessageEventContent::text_plain(format!("number {number}"))).await.expect("sent");
    }
    bob.client.join_room_by_id(room.room_id()).await.expect("joined");
    let timeline = bob.open(room.room_id()).await;
    timeline.hears("number 59").await;
    while !timeline.paginate_backwards(20).await.expect("a page") {}
    let numbers: Vec<_> = (0..60).map(|number| format!("number {number}")).collect();
    // What was fetched is put into the timeline by another task.
    let whole = async || (timeline.texts().await == numbers).then_some(());
    until("all of it, in order", whole).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_messages_and_mentions_are_counted_until_they_are_read() {
    let (alice, bob) = (Person::new("alice").await, Person::new("bob").await);
    let room = alice.room_with(&[&bob], |_| {}).await;
    let his = bob.room(room.room_id(), RoomState::Joined).await;
    room.send(RoomMessageEventContent::text_plain("anybody?")).await.expect("sent");
    let mention = RoomMessageEventContent::text_plain("you, for one").add_mentions(Mentions::with_user_ids([bob
        .client
        .user_id()
        .expect("signed in")
        .to_owned()]));
    let last = room.send(mention).await.expect("sent").response.event_id;
    let counts = async || {
        let counts = his.unread_notification_counts();
        (counts.notification_count == 2 && counts.highlight_count == 1).then_some(())
    };
    until("two are unread, and one is a mention", counts).await;
    let timeline = bob.open(room.room_id()).await;
    timeline.hears("you, for one").await;
    timeline.send_single_receipt(ReceiptType::Read, last.clone()).await.expect("read");
    until("nothing is unread", async || (his.unread_notification_counts().notification_count == 0).then_some(())).await;
    let hers = alice.open(room.room_id()).await;
    let read = |item: &matrix_sdk_ui::timeline::EventTimelineItem| {
        let whose = item.read_receipts().contains_key(bob.client.user_id()?);
        (item.event_id() == Some(&last) && whose).then_some(())
    };
    hers.sees("that bob has read it", read).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_is_summed_up_and_read_by_itself() {
    let (alice, bob) = (Person::new("alice").await, Person::new("bob").await);
    let room = alice.room_with(&[&bob], |_| {}).await;
    let root = room.send(RoomMessageEventContent::text_plain("a topic")).await.expect("sent").response.event_id;
    let his = bob.room(room.room_id(), RoomState::Joined).await;
    bob.open(room.room_id()).await.hears("a topic").await;
    let focus = TimelineFocus::Thread { root_event_id: root.clone() };
    let thread = TimelineBuilder::new(&his).with_focus(focus).build().await.expect("a thread");
    thread.say("the first reply").await;
    thread.hears("the first reply").await;
    let hers = alice.open(room.room_id()).await;
    let summary = |item: &matrix_sdk_ui::timeline::EventTimelineItem| {
        let summary = item.content().thread_summary()?;
        (item.event_id() == Some(&root)).then_some(summary.num_replies)
    };
    // The newest came first, perhaps without what it answers.
    while !hers.paginate_backwards(20).await.expect("a page") {}
    assert_eq!(hers.sees("the thread's summary", summary).await, 1);
    let reply = hers.hears("the first reply").await;
    assert_eq!(reply.content().thread_root(), Some(root));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_sent_and_fetched() {
    let (alice, bob) = (Person::new("alice").await, Person::new("bob").await);
    let room = alice.room_with(&[&bob], |request| request.initial_state = vec![encrypted()]).await;
    let his = bob.open(room.room_id()).await;
    let data = b"a letter of some length".repeat(1000);
    let mime = "text/plain".parse().expect("a type");
    room.send_attachment("letter.txt", &mime, data.clone(), AttachmentConfig::new()).await.expect("sent");
    let item = his.hears("letter.txt").await;
    let matrix_sdk::ruma::events::room::message::MessageType::File(file) =
        item.content().as_message().expect("a message").msgtype().clone()
    else {
        panic!("no file: {item:?}");
    };
    let fetched = bob.client.media().get_file(&file, false).await.expect("fetched").expect("there is one");
    assert!(fetched == data, "it is another file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_are_marked_left_and_named() {
    let (alice, bob) = (Person::new("alice").await, Person::new("bob").await);
    let room = alice.room_with(&[&bob], |request| request.name = Some("Kitchen".to_owned())).await;
    let his = bob.room(room.room_id(), RoomState::Joined).await;
    let name = async |wanted: &str| (his.display_name().await.ok()?.to_string() == wanted).then_some(());
    until("its name", async || name("Kitchen").await).await;
    room.set_name("Garden".to_owned()).await.expect("named");
    until("its new name", async || name("Garden").await).await;
    his.set_is_favourite(true, None).await.expect("marked");
    until("the mark", async || his.is_favourite().then_some(())).await;
    his.leave().await.expect("left");
    bob.room(room.room_id(), RoomState::Left).await;
    let alone = async || (room.joined_user_ids().await.ok()?.len() == 1).then_some(());
    until("alice is alone", alone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_loses_its_position_goes_on() {
    let (alice, bob) = (Person::new("alice").await, Person::new("bob").await);
    let room = alice.room_with(&[&bob], |_| {}).await;
    let his = bob.open(room.room_id()).await;
    alice.open(room.room_id()).await.say("before").await;
    his.hears("before").await;
    // A device has so many connections; with these, the older ones are forgotten.
    for number in 0..20 {
        let mut request = v5::Request::new();
        request.conn_id = Some(format!("other-{number}"));
        bob.client.send(request).await.expect("another connection");
    }
    for turn in 0..3 {
        room.send(RoomMessageEventContent::text_plain(format!("after {turn}"))).await.expect("sent");
        let look = async || {
            bob.keep_syncing().await;
            his.texts().await.contains(&format!("after {turn}")).then_some(())
        };
        until("what came after", look).await;
    }
    // What is older than the new beginning is read back, as when one scrolls up.
    let whole = async || {
        his.paginate_backwards(20).await.ok()?;
        (his.texts().await == ["before", "after 0", "after 1", "after 2"]).then_some(())
    };
    until("each once, and in order", whole).await;
}
