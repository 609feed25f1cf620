"""End-to-end encryption: what the server must carry for it, seen from two people's devices."""

import nio
from common import Scenario, done

ENCRYPTION = {
    "type": "m.room.encryption",
    "state_key": "",
    "content": {"algorithm": "m.megolm.v1.aes-sha2"},
}


class Encryption(Scenario):
    async def asyncSetUp(self):
        self.alice, self.bob = await self.person("alice"), await self.person("bob")
        self.room = await self.room_of(self.alice, self.bob, initial_state=[ENCRYPTION])

    async def reads(self, person, event_id, text):
        """Until the person has the message, decrypted."""
        event = await person.hears(event_id)
        self.assertIsInstance(event, nio.RoomMessageText, event)
        self.assertTrue(event.decrypted)
        self.assertEqual(event.body, text)

    async def knows(self, person, device):
        """Until the person's client knows the other's device."""
        await person.until(
            "the device is known",
            lambda: device.client.device_id in person.client.device_store[device.id],
        )

    async def test_two_people_write_to_each_other_in_secret_both_ways(self):
        await self.knows(self.alice, self.bob)
        question = await self.alice.say(self.room, "can anybody hear us?")
        await self.reads(self.bob, question, "can anybody hear us?")
        await self.knows(self.bob, self.alice)
        await self.reads(self.alice, await self.bob.say(self.room, "nobody"), "nobody")
        self.alice.client.olm = None
        sealed = done(await self.alice.client.room_get_event(self.room, question)).event
        self.assertIsInstance(sealed, nio.MegolmEvent)

    async def test_a_device_signed_in_later_reads_what_is_written_from_then_on(self):
        await self.knows(self.alice, self.bob)
        await self.reads(self.bob, await self.alice.say(self.room, "before"), "before")
        phone = await self.device_of(self.bob)
        await self.knows(self.alice, phone)
        # A new session, as after any change in a room's devices.
        self.alice.client.invalidate_outbound_session(self.room)
        later = await self.alice.say(self.room, "welcome, phone")
        await self.reads(phone, later, "welcome, phone")
        await self.reads(self.bob, later, "welcome, phone")
