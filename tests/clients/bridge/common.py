"""The bridge and people for the scenarios, all by mautrix: an application service as bridges are made of, and
clients with end-to-end encryption.

The only file that knows where the server is (HEARTH_URL) and which registration it has (HEARTH_BRIDGE).
Nothing here sleeps to synchronise: what is awaited comes as an event, or not before the deadline.
"""

import asyncio
import logging
import os
import secrets
import tempfile
from pathlib import Path
from unittest import IsolatedAsyncioTestCase
from urllib.parse import urlsplit

import aiohttp
from mautrix.appservice import AppService
from mautrix.appservice.state_store import FileASStateStore
from mautrix.client import Client
from mautrix.client.state_store import MemoryStateStore
from mautrix.crypto import OlmMachine
from mautrix.crypto.store import MemoryCryptoStore
from mautrix.types import EventType, Membership, TrustState

import registration

SERVER = os.environ["HEARTH_URL"].rstrip("/")
REGISTRATION = registration.read(os.environ["HEARTH_BRIDGE"])
DEADLINE_S = 30

# A scenario says what went wrong by failing.
logging.getLogger("mau").setLevel(logging.CRITICAL)


class Rooms(MemoryStateStore):
    """What somebody knows of rooms, as encryption asks for it."""

    async def find_shared_rooms(self, user_id):
        return [room for room, people in self.members.items() if user_id in people]


class Heard:
    """Events as they come, to wait for one of them."""

    def __init__(self):
        self.all = []
        self.news = asyncio.Condition()

    async def __call__(self, event):
        async with self.news:
            self.all.append(event)
            self.news.notify_all()

    async def wait(self, what, fits):
        def found():
            return next((event for event in self.all if fits(event)), None)

        async with self.news:
            try:
                await asyncio.wait_for(self.news.wait_for(found), DEADLINE_S)
            except asyncio.TimeoutError:
                raise AssertionError(f"never came: {what}; but {self.all}") from None
            return found()

    async def text(self, room, text):
        """The message with this text."""

        def fits(event):
            return getattr(event, "room_id", None) == room and getattr(event.content, "body", None) == text

        return await self.wait(text, fits)


async def encrypted(client, rooms):
    """Gives a client keys, and has it publish them."""
    client.crypto = OlmMachine(client, client.crypto_store, rooms)
    client.crypto.share_keys_min_trust = TrustState.UNVERIFIED
    await client.crypto.load()
    await client.crypto.share_keys()


class Person:
    """Somebody who syncs."""

    def __init__(self, client, rooms):
        self.client, self.rooms, self.heard = client, rooms, Heard()
        self.id = client.mxid
        client.add_event_handler(EventType.ALL, self.heard)

    @classmethod
    async def registered(cls, http):
        name, password = f"p{secrets.token_hex(6)}", secrets.token_hex(16)
        wish = {"username": name, "password": password, "auth": {"type": "m.login.dummy"}, "inhibit_login": True}
        async with http.post(f"{SERVER}/_matrix/client/v3/register", json=wish) as answer:
            answer.raise_for_status()
            mxid = (await answer.json())["user_id"]
        rooms, store = Rooms(), MemoryCryptoStore(name, secrets.token_hex(8))
        client = Client(mxid=mxid, base_url=SERVER, client_session=http, sync_store=store, state_store=rooms)
        client.crypto_store = store
        await client.login(identifier=mxid, password=password, device_name="test")
        person = cls(client, rooms)
        await encrypted(client, rooms)
        client.start(None)
        return person


class Scenario(IsolatedAsyncioTestCase):
    """A bridge that runs, and Alice."""

    async def asyncSetUp(self):
        self.http = aiohttp.ClientSession()
        self.addAsyncCleanup(self.http.close)
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.service = AppService(
            server=SERVER,
            domain="localhost",
            id=REGISTRATION["id"],
            as_token=REGISTRATION["as_token"],
            hs_token=REGISTRATION["hs_token"],
            bot_localpart=REGISTRATION["sender_localpart"],
            state_store=FileASStateStore(path=Path(folder, "state.json"), binary=False),
            ephemeral_events=True,
            encryption_events=True,
        )
        self.heard = Heard()
        self.service.matrix_event_handler(self.heard)
        self.service.matrix_event_handler(self.enter)
        await self.service.start("127.0.0.1", urlsplit(REGISTRATION["url"]).port)
        self.addAsyncCleanup(self.service.stop)
        self.bot = self.service.intent
        await self.bot.ensure_registered()
        self.alice = await Person.registered(self.http)
        self.addCleanup(self.alice.client.stop)

    async def enter(self, event):
        """The bot comes wherever it is invited."""
        invited = event.type == EventType.ROOM_MEMBER and event.content.membership == Membership.INVITE
        if invited and event.state_key == self.bot.mxid:
            await self.bot.join_room_by_id(event.room_id)

    async def room_with_bot(self, **settings):
        """A room of Alice's in which the bot is."""
        room = await self.alice.client.create_room(invitees=[self.bot.mxid], **settings)
        await self.heard.wait("the bot's own coming", lambda event: self.comes(event, room, self.bot.mxid))
        return room

    @staticmethod
    def comes(event, room, user):
        is_member = event.type == EventType.ROOM_MEMBER and getattr(event, "room_id", None) == room
        return is_member and event.state_key == user and event.content.membership == Membership.JOIN
