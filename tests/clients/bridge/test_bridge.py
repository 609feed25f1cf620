"""What a bridge does all day, by mautrix, of which most bridges are made."""

import secrets

from mautrix.client import Client
from mautrix.crypto import OlmMachine
from mautrix.crypto.store import MemoryCryptoStore
from mautrix.errors import MExclusive, MForbidden
from mautrix.types import (
    EncryptionAlgorithm,
    EventType,
    MessageType,
    RoomCreatePreset,
    RoomEncryptionStateEventContent,
    TextMessageEventContent,
    TrustState,
)

from common import SERVER, Heard, Rooms, Scenario


class Bridge(Scenario):
    async def test_the_bridge_finds_that_the_server_reaches_it(self):
        self.assertGreaterEqual(await self.service.ping_self(txn_id="meow"), 0)

    async def test_a_bot_is_invited_comes_and_answers(self):
        async def answer(event):
            if event.type == EventType.ROOM_MESSAGE and event.content.body == "!ping":
                await self.bot.send_text(event.room_id, "pong")

        self.service.matrix_event_handler(answer)
        room = await self.room_with_bot()
        await self.alice.client.send_text(room, "!ping")
        said = await self.alice.heard.text(room, "pong")
        self.assertEqual(said.sender, self.bot.mxid)

    async def test_people_of_another_network_come_and_talk(self):
        room = await self.room_with_bot(name="A bridged room")
        anna = self.service.intent.user(f"@_python_anna{secrets.token_hex(3)}:localhost")
        await anna.ensure_registered()
        await anna.set_displayname("Anna of elsewhere")
        await anna.ensure_joined(room, bot=self.bot)
        await anna.send_text(room, "hello from elsewhere")
        said = await self.alice.heard.text(room, "hello from elsewhere")
        self.assertEqual(said.sender, anna.mxid)
        profile = await self.alice.client.get_profile(anna.mxid)
        self.assertEqual(profile.displayname, "Anna of elsewhere")
        await self.alice.client.send_text(room, "hello back")
        heard = await self.heard.text(room, "hello back")
        self.assertEqual(heard.sender, self.alice.id)
        await anna.mark_read(room, heard.event_id)
        await self.alice.client.set_typing(room, timeout=20_000)
        await self.heard.wait(
            "who types",
            lambda event: event.type == EventType.TYPING and self.alice.id in event.content.user_ids,
        )

    async def test_somebody_is_made_when_they_are_invited(self):
        name = f"@_python_bea{secrets.token_hex(3)}:localhost"

        async def make(user_id):
            if user_id != name:
                return None
            await self.service.intent.user(user_id).ensure_registered()
            return {"made": True}

        self.service.query_user = make
        room = await self.alice.client.create_room()
        await self.alice.client.invite_user(room, name)
        bea = self.service.intent.user(name)
        await bea.join_room_by_id(room)
        await bea.send_text(room, "here I am")
        await self.alice.heard.text(room, "here I am")

    async def test_a_room_is_made_when_its_alias_is_asked_for(self):
        name = f"_python_{secrets.token_hex(4)}"

        async def make(alias):
            if alias != f"#{name}:localhost":
                return None
            return {"room": await self.bot.create_room(alias_localpart=name, preset=RoomCreatePreset.PUBLIC)}

        self.service.query_alias = make
        room = await self.alice.client.join_room(f"#{name}:localhost")
        await self.alice.client.send_text(room, "found it")
        await self.heard.text(room, "found it")

    async def test_nobody_takes_its_names_and_it_takes_no_others(self):
        stranger = self.service.intent.user(self.alice.id)
        with self.assertRaises(MForbidden):
            await stranger.whoami()
        with self.assertRaises(MExclusive):
            await self.alice.client.add_room_alias(await self.alice.client.create_room(), "_python_mine")

    async def test_what_is_said_in_secret_is_read_by_the_bridge_and_answered(self):
        rooms, store = Rooms(), MemoryCryptoStore("bot", secrets.token_hex(8))
        client = Client(
            mxid=self.bot.mxid, base_url=SERVER, client_session=self.http, sync_store=store, state_store=rooms
        )
        client.api.token = self.service.as_token
        await client.create_device_msc4190(device_id="", initial_display_name="The bridge")
        machine = OlmMachine(client, store, rooms)
        machine.share_keys_min_trust = TrustState.UNVERIFIED
        client.crypto = machine
        await machine.load()
        await machine.share_keys()
        self.service.otk_handler = machine.handle_as_otk_counts
        self.service.device_list_handler = machine.handle_as_device_lists
        self.service.to_device_handler = machine.handle_as_to_device_event
        read = Heard()

        async def decrypt(event):
            if event.type == EventType.ROOM_ENCRYPTED and event.sender != self.bot.mxid:
                await machine.wait_for_session(event.room_id, event.content.session_id, timeout=20)
                await read(await machine.decrypt_megolm_event(event))
            elif event.type in (EventType.ROOM_MEMBER, EventType.ROOM_ENCRYPTION):
                await rooms.update_state(event)

        self.service.matrix_event_handler(decrypt)
        room = await self.room_with_bot()
        await self.alice.client.send_state_event(
            room,
            EventType.ROOM_ENCRYPTION,
            RoomEncryptionStateEventContent(algorithm=EncryptionAlgorithm.MEGOLM_V1),
        )
        await self.alice.heard.wait(
            "encryption", lambda event: event.type == EventType.ROOM_ENCRYPTION and event.room_id == room
        )
        secret = TextMessageEventContent(msgtype=MessageType.TEXT, body="between us")
        await self.alice.client.send_message_event(room, EventType.ROOM_MESSAGE, secret)
        await read.text(room, "between us")
        self.assertFalse(any(getattr(event.content, "body", None) == "between us" for event in self.heard.all))

        answer = TextMessageEventContent(msgtype=MessageType.TEXT, body="I keep it")
        await client.send_message_event(room, EventType.ROOM_MESSAGE, answer)
        said = await self.alice.heard.text(room, "I keep it")
        self.assertEqual(said.sender, self.bot.mxid)
