"""People for the scenarios: accounts, signed-in clients, rooms that they share, and waiting
for something to become true.

The only file that knows where the server is (HEARTH_URL). It knows no scenario. Nothing here
sleeps to synchronise: a person syncs again and again until what is awaited is there, and gives
up at a deadline that is shorter than a long-poll, so that news which only come when a poll times
out fail the scenario.
"""

import asyncio
import logging
import os
import secrets
from unittest import IsolatedAsyncioTestCase

import nio
from nio.store import SqliteMemoryStore

SERVER = os.environ["HEARTH_URL"].rstrip("/")
DEADLINE_S = 30
POLL_MS = 30_000

# nio says on its own log what it could not parse; a scenario says it by failing.
logging.getLogger("nio").setLevel(logging.CRITICAL)

CONFIG = nio.AsyncClientConfig(
    store=SqliteMemoryStore, max_limit_exceeded=0, max_timeouts=0, request_timeout=DEADLINE_S
)


def done(response):
    """The response, which must not be an error."""
    if isinstance(response, nio.ErrorResponse):
        raise AssertionError(f"the server refused: {response}")
    return response


def refused(response, errcode):
    """That the server refused, with this Matrix error code."""
    if not isinstance(response, nio.ErrorResponse):
        raise AssertionError(f"expected {errcode}, but the request succeeded: {response}")
    if response.status_code != errcode:
        raise AssertionError(f"expected {errcode}, but: {response}")


class Person:
    """Somebody with one client, and what that client has heard."""

    def __init__(self, name, password):
        self.client = nio.AsyncClient(SERVER, name, config=CONFIG, store_path="/nowhere")
        self.password = password
        self.heard = []  # (room ID, event), in the order of arrival
        self.letters = []  # to-device events
        self.presence = {}  # the latest presence event by user ID
        self.left = set()  # rooms that a sync said this person is no longer in
        self.client.add_event_callback(self._hear, nio.Event)
        self.client.add_to_device_callback(self.letters.append, nio.ToDeviceEvent)
        self.client.add_presence_callback(self._see, nio.PresenceEvent)

    async def _hear(self, room, event):
        self.heard.append((room.room_id, event))

    async def _see(self, event):
        self.presence[event.user_id] = event

    @property
    def id(self):
        return self.client.user_id

    @property
    def name(self):
        return self.client.user

    async def sync(self, timeout=0, **options):
        """One sync, and what encryption wants done after it."""
        response = done(await self.client.sync(timeout=timeout, **options))
        self.left |= response.rooms.leave.keys()
        self.left -= response.rooms.join.keys() | response.rooms.invite.keys()
        if self.client.should_upload_keys:
            done(await self.client.keys_upload())
        if self.client.should_query_keys:
            done(await self.client.keys_query())
        if self.client.should_claim_keys:
            done(await self.client.keys_claim(self.client.get_users_for_key_claiming()))
        await self.client.send_to_device_messages()
        return response

    async def until(self, what, probe):
        """Syncs until `probe` gives something true, and gives that."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not (found := probe()):
                    await self.sync(POLL_MS)
                return found
        except TimeoutError:
            late = f"{self.id} waited {DEADLINE_S} s in vain until {what}"
            raise AssertionError(late) from None

    async def hears(self, event_id):
        """Syncs until the event has arrived, and gives it."""
        return await self.until(
            f"{event_id} arrives",
            lambda: next((event for _, event in self.heard if event.event_id == event_id), None),
        )

    async def sees(self, room, member, inside=True):
        """Syncs until the room has, or no longer has, the member."""
        return await self.until(
            f"{member.id} is {'in' if inside else 'out of'} the room",
            lambda: room in self.client.rooms
            and (member.id in self.client.rooms[room].users) == inside,
        )

    async def send(self, room, content, kind="m.room.message", txn=None):
        """Sends an event and gives its ID."""
        response = await self.client.room_send(
            room, kind, content, tx_id=txn, ignore_unverified_devices=True
        )
        return done(response).event_id

    async def say(self, room, body, **options):
        """Sends a text and gives its event ID."""
        return await self.send(room, {"msgtype": "m.text", "body": body}, **options)

    def texts(self, room):
        """The texts that this client has heard in a room."""
        return [
            event.body
            for where, event in self.heard
            if where == room and isinstance(event, nio.RoomMessageText)
        ]


class Scenario(IsolatedAsyncioTestCase):
    """A test case whose people are made by it and go home after it."""

    def visitor(self, name, password=None):
        """Somebody with a client, but not signed in."""
        person = Person(name, password or secrets.token_hex(12))
        self.addAsyncCleanup(person.client.close)
        return person

    async def person(self, name):
        """Somebody with a new account who has synced once."""
        person = self.visitor(f"{name}-{secrets.token_hex(5)}")
        done(await person.client.register(person.name, person.password))
        await person.sync()
        return person

    async def device_of(self, person):
        """The same person, signed in on another device."""
        device = self.visitor(person.name, person.password)
        done(await device.client.login(person.password, device_name="another device"))
        await device.sync()
        return device

    async def room_of(self, owner, *guests, **options):
        """A room of the owner's that all guests have joined, as everybody's client sees."""
        response = await owner.client.room_create(invite=[guest.id for guest in guests], **options)
        room = done(response).room_id
        for guest in guests:
            done(await guest.client.join(room))
        for viewer in (owner, *guests):
            for member in (owner, *guests):
                await viewer.sees(room, member)
        return room
