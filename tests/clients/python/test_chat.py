"""Talking in a room: messages both ways, edits, reactions, redactions, reading, history, files."""

import asyncio
import io
import os

import nio
from common import POLL_MS, Scenario, done, refused


class Chat(Scenario):
    async def asyncSetUp(self):
        self.alice, self.bob = await self.person("alice"), await self.person("bob")
        self.room = await self.room_of(self.alice, self.bob)

    async def test_chats_in_real_time_both_ways_and_in_order(self):
        for turn in range(10):
            speaker, listener = (self.alice, self.bob) if turn % 2 else (self.bob, self.alice)
            waiting = asyncio.create_task(
                listener.until(
                    f"line {turn} arrives", lambda: f"line {turn}" in listener.texts(self.room)
                )
            )
            await speaker.say(self.room, f"line {turn}")
            await waiting
        last = await self.alice.say(self.room, "that is all")
        wanted = [f"line {turn}" for turn in range(10)] + ["that is all"]
        for person in (self.alice, self.bob):
            await person.hears(last)
            self.assertEqual(person.texts(self.room), wanted)

    async def test_edits_a_message(self):
        message = await self.alice.say(self.room, "helo")
        new = {"msgtype": "m.text", "body": "hello"}
        edit = await self.alice.send(
            self.room,
            {
                "msgtype": "m.text",
                "body": "* hello",
                "m.new_content": new,
                "m.relates_to": {"rel_type": "m.replace", "event_id": message},
            },
        )
        content = (await self.bob.hears(edit)).source["content"]
        self.assertEqual(content["m.new_content"], new)
        self.assertEqual(content["m.relates_to"]["event_id"], message)
        fetched = done(await self.bob.client.room_get_event(self.room, message)).event
        self.assertEqual(fetched.body, "helo")

    async def test_reacts_to_a_message(self):
        message = await self.alice.say(self.room, "cake?")
        relation = {"rel_type": "m.annotation", "event_id": message, "key": "🎂"}
        reaction = await self.bob.send(self.room, {"m.relates_to": relation}, kind="m.reaction")
        heard = await self.alice.hears(reaction)
        self.assertEqual((heard.reacts_to, heard.key, heard.sender), (message, "🎂", self.bob.id))

    async def test_takes_a_message_back_and_its_text_is_gone(self):
        message = await self.bob.say(self.room, "a secret")
        await self.alice.hears(message)
        done(await self.bob.client.room_redact(self.room, message, reason="slip of the tongue"))
        redaction = await self.alice.until(
            "it is taken back",
            lambda: next(
                (e for _, e in self.alice.heard if isinstance(e, nio.RedactionEvent)), None
            ),
        )
        self.assertEqual((redaction.redacts, redaction.reason), (message, "slip of the tongue"))
        fetched = done(await self.alice.client.room_get_event(self.room, message)).event
        self.assertIsInstance(fetched, nio.RedactedEvent)
        self.assertEqual(fetched.source["content"], {})

    async def test_may_take_back_others_messages_only_as_a_moderator(self):
        hers = await self.alice.say(self.room, "the rules of the house")
        his = await self.bob.say(self.room, "something rude")
        refused(await self.bob.client.room_redact(self.room, hers), "M_FORBIDDEN")
        done(await self.alice.client.room_redact(self.room, his))
        fetched = done(await self.bob.client.room_get_event(self.room, his)).event
        self.assertIsInstance(fetched, nio.RedactedEvent)

    async def test_repeats_a_request_that_seemed_lost_and_it_is_still_one_message(self):
        first = await self.alice.say(self.room, "once", txn="the same")
        self.assertEqual(await self.alice.say(self.room, "once", txn="the same"), first)
        other = await self.alice.say(self.room, "twice", txn="another")
        self.assertNotEqual(other, first)
        await self.bob.hears(other)
        self.assertEqual(self.bob.texts(self.room), ["once", "twice"])

    async def test_scrolls_back_through_150_messages_in_order_and_without_a_gap(self):
        wanted = [f"message {number}" for number in range(150)]
        for text in wanted:
            await self.alice.say(self.room, text)
        found, start = [], None
        while True:
            page = done(await self.bob.client.room_messages(self.room, start, limit=30))
            found += [e.body for e in page.chunk if isinstance(e, nio.RoomMessageText)]
            if not page.end:
                break
            start = page.end
        self.assertEqual(found[::-1], wanted)

    async def test_jumps_to_a_message_in_the_middle(self):
        ids = [await self.alice.say(self.room, str(number)) for number in range(7)]
        around = done(await self.bob.client.room_context(self.room, ids[3], limit=4))
        self.assertEqual(around.event.event_id, ids[3])
        self.assertEqual([e.event_id for e in around.events_before], [ids[2], ids[1]])
        self.assertEqual([e.event_id for e in around.events_after], [ids[4], ids[5]])

    async def test_sees_the_other_one_typing_and_stop(self):
        def typing():
            return self.bob.id in self.alice.client.rooms[self.room].typing_users

        done(await self.bob.client.room_typing(self.room, True, timeout=30_000))
        await self.alice.until("bob types", typing)
        done(await self.bob.client.room_typing(self.room, False))
        await self.alice.until("bob stops", lambda: not typing())

    async def test_counts_what_is_unread_until_it_is_read(self):
        shown = self.bob.client.rooms[self.room]

        def counts():
            return shown.unread_notifications, shown.unread_highlights

        await self.alice.say(self.room, "one")
        mention = {"msgtype": "m.text", "body": "bob?", "m.mentions": {"user_ids": [self.bob.id]}}
        last = await self.alice.send(self.room, mention)
        await self.bob.until("two are unread, one to him", lambda: counts() == (2, 1))
        done(await self.bob.client.update_receipt_marker(self.room, last))
        await self.bob.until("nothing is unread", lambda: counts() == (0, 0))

    async def test_shows_how_far_the_other_one_has_read(self):
        first = await self.alice.say(self.room, "one")
        second = await self.alice.say(self.room, "two")

        def main():
            return seen.threaded_read_receipts.get(self.bob.id, {}).get("main")

        def whole():
            return seen.read_receipts.get(self.bob.id)

        # This client's receipts are those of the main timeline, its markers those of no thread.
        seen = self.alice.client.rooms[self.room]
        done(await self.bob.client.update_receipt_marker(self.room, first))
        await self.alice.until(
            "bob has read the first", lambda: main() and main().event_id == first
        )
        done(await self.bob.client.room_read_markers(self.room, second, second))
        await self.alice.until(
            "bob has read the second", lambda: whole() and whole().event_id == second
        )
        shown = self.bob.client.rooms[self.room]
        await self.bob.until("his marker moves", lambda: shown.fully_read_marker == second)

    async def test_sees_who_is_there_and_what_they_say_about_it(self):
        def shown(presence, message):
            seen = self.alice.presence.get(self.bob.id)
            return seen and (seen.presence, seen.status_msg) == (presence, message)

        done(await self.bob.client.set_presence("unavailable", "at tea"))
        await self.alice.until("bob is away", lambda: shown("unavailable", "at tea"))
        done(await self.bob.client.set_presence("online", "back"))
        await self.alice.until("bob is back", lambda: shown("online", "back"))
        now = done(await self.alice.client.get_presence(self.bob.id))
        self.assertEqual((now.presence, now.status_msg), ("online", "back"))

    async def test_sends_a_file_and_the_other_one_gets_it_to_the_byte(self):
        data = os.urandom(300_000)
        uploaded, _ = await self.alice.client.upload(
            io.BytesIO(data), "application/octet-stream", "surprise.bin", filesize=len(data)
        )
        mxc = done(uploaded).content_uri
        file = {"msgtype": "m.file", "body": "surprise.bin", "url": mxc}
        event = await self.bob.hears(await self.alice.send(self.room, file))
        got = done(await self.bob.client.download(event.url))
        self.assertEqual(got.body, data)
        self.assertEqual(got.content_type, "application/octet-stream")
        self.assertEqual(got.filename, "surprise.bin")
        refused(await self.bob.client.download("mxc://localhost/neverUploaded"), "M_NOT_FOUND")


class Devices(Scenario):
    """One person, several devices and visits."""

    async def asyncSetUp(self):
        self.alice, self.bob = await self.person("alice"), await self.person("bob")
        self.room = await self.room_of(self.alice, self.bob)

    async def test_signs_in_on_a_second_device_which_shows_what_was_said(self):
        await self.alice.say(self.room, "one")
        await self.bob.say(self.room, "two")
        phone = await self.device_of(self.bob)
        self.assertEqual(phone.texts(self.room), ["one", "two"])
        await self.bob.hears(await phone.say(self.room, "three, by phone"))

    async def test_comes_back_with_the_token_of_the_last_visit(self):
        await self.bob.hears(await self.alice.say(self.room, "heard"))
        since = self.bob.client.next_batch
        missed = ["missed 1", "missed 2", "missed 3"]
        for text in missed:
            await self.alice.say(self.room, text)
        back = self.visitor(self.bob.name)
        client = self.bob.client
        back.client.restore_login(client.user_id, client.device_id, client.access_token)
        back.client.olm = None  # its keys were those of the earlier visit
        await back.sync(since=since)
        self.assertEqual(back.texts(self.room), missed)
        await back.sync()
        self.assertEqual(back.texts(self.room), missed)

    async def test_waits_for_news_and_is_answered_as_soon_as_there_are_some(self):
        while (await self.bob.sync()).rooms.join:
            pass
        waiting = asyncio.create_task(self.bob.sync(POLL_MS))
        await self.alice.say(self.room, "news")
        async with asyncio.timeout(20):
            await waiting
        await self.bob.until("it is there", lambda: self.bob.texts(self.room) == ["news"])

    async def test_stores_a_filter_and_sees_only_what_it_lets_through(self):
        await self.alice.say(self.room, "not shown")
        await self.alice.say(self.room, "shown")
        timeline = {"limit": 1, "types": ["m.room.message"], "lazy_load_members": True}
        stored = await self.bob.client.upload_filter(room={"timeline": timeline})
        phone = self.visitor(self.bob.name, self.bob.password)
        done(await phone.client.login(self.bob.password))
        response = await phone.sync(sync_filter=done(stored).filter_id)
        self.assertEqual(phone.texts(self.room), ["shown"])
        self.assertTrue(response.rooms.join[self.room].timeline.limited)

    async def test_asks_for_the_full_state_again(self):
        response = await self.bob.sync(full_state=True)
        state = {type(event) for event in response.rooms.join[self.room].state}
        self.assertIn(nio.RoomCreateEvent, state)
        self.assertIn(nio.PowerLevelsEvent, state)

    async def test_gets_a_message_to_the_device_itself_once(self):
        letter = nio.ToDeviceMessage(
            "com.example.ping", self.bob.id, self.bob.client.device_id, {"number": 1}
        )
        phone = await self.device_of(self.bob)
        done(await self.alice.client.to_device(letter))

        def got(person):
            return [e for e in person.letters if e.source["type"] == "com.example.ping"]

        await self.bob.until("it arrives", lambda: got(self.bob))
        await self.bob.hears(await self.alice.say(self.room, "and now?"))
        self.assertEqual([e.source["content"] for e in got(self.bob)], [{"number": 1}])
        await phone.hears(await self.alice.say(self.room, "and you?"))
        self.assertEqual(got(phone), [])
