"""Rooms and who is in them: creating, inviting, joining, leaving, moderating, finding."""

import secrets

import nio
from common import Scenario, done, refused

KNOCK = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}


class Rooms(Scenario):
    async def asyncSetUp(self):
        self.alice, self.bob = await self.person("alice"), await self.person("bob")

    async def invited(self, room):
        """Until bob is invited."""
        return await self.bob.until(
            "he is invited", lambda: self.bob.client.invited_rooms.get(room)
        )

    async def test_creates_a_room_with_a_name_and_a_topic_and_administers_it(self):
        room = await self.room_of(self.alice, self.bob, name="Hearth", topic="Warm talk")
        shown = self.bob.client.rooms[room]
        self.assertEqual((shown.name, shown.topic), ("Hearth", "Warm talk"))
        state = done(await self.bob.client.room_get_state(room)).events
        self.assertIn("m.room.create", [event["type"] for event in state])
        name = {"name": "Bob's"}
        refused(await self.bob.client.room_put_state(room, "m.room.name", name), "M_FORBIDDEN")
        name = {"name": "Hearth and home"}
        done(await self.alice.client.room_put_state(room, "m.room.name", name))
        await self.bob.until("the name changes", lambda: shown.name == "Hearth and home")
        got = done(await self.bob.client.room_get_state_event(room, "m.room.name"))
        self.assertEqual(got.content, name)

    async def test_invites_a_friend_who_joins(self):
        room = done(await self.alice.client.room_create(name="Tea")).room_id
        refused(await self.bob.client.join(room), "M_FORBIDDEN")
        done(await self.alice.client.room_invite(room, self.bob.id))
        invitation = await self.invited(room)
        self.assertEqual((invitation.name, invitation.inviter), ("Tea", self.alice.id))
        done(await self.bob.client.join(room))
        await self.alice.sees(room, self.bob)
        await self.bob.sees(room, self.alice)
        self.assertIn(room, done(await self.bob.client.joined_rooms()).rooms)
        members = done(await self.bob.client.joined_members(room)).members
        self.assertEqual({m.user_id for m in members}, {self.alice.id, self.bob.id})

    async def test_declines_an_invitation(self):
        room = done(await self.alice.client.room_create(invite=[self.bob.id])).room_id
        await self.invited(room)
        done(await self.bob.client.room_leave(room))
        await self.bob.until("it is gone", lambda: room in self.bob.left)
        refused(await self.bob.client.join(room), "M_FORBIDDEN")

    async def test_leaves_and_speaks_there_no_more(self):
        room = await self.room_of(self.alice, self.bob)
        done(await self.bob.client.room_leave(room))
        await self.alice.sees(room, self.bob, inside=False)
        await self.bob.until("the room is gone", lambda: room in self.bob.left)
        text = {"msgtype": "m.text", "body": "am I here?"}
        # Without encryption's bookkeeping, which would ask for the room first.
        self.bob.client.olm = None
        refused(await self.bob.client.room_send(room, "m.room.message", text), "M_FORBIDDEN")

    async def test_kicks_somebody_who_may_be_invited_again(self):
        room = await self.room_of(self.alice, self.bob)
        refused(await self.bob.client.room_kick(room, self.alice.id), "M_FORBIDDEN")
        done(await self.alice.client.room_kick(room, self.bob.id, reason="calm down"))
        await self.bob.until("he is out", lambda: room in self.bob.left)
        done(await self.alice.client.room_invite(room, self.bob.id))
        await self.invited(room)
        done(await self.bob.client.join(room))
        await self.alice.sees(room, self.bob)

    async def test_bans_somebody_who_cannot_come_back_until_forgiven(self):
        room = await self.room_of(self.alice, self.bob, preset=nio.RoomPreset.public_chat)
        done(await self.alice.client.room_ban(room, self.bob.id, reason="spam"))
        await self.bob.until("he is out", lambda: room in self.bob.left)
        answer = await self.bob.client.join(room)
        self.assertIsInstance(answer, nio.JoinError)
        done(await self.alice.client.room_unban(room, self.bob.id))
        done(await self.bob.client.join(room))
        await self.bob.sees(room, self.alice)

    async def test_knocks_and_is_let_in(self):
        room = done(await self.alice.client.room_create(initial_state=[KNOCK])).room_id
        refused(await self.bob.client.join(room), "M_FORBIDDEN")
        done(await self.bob.client.room_knock(room, reason="may I?"))
        knock = await self.alice.until(
            "bob knocks",
            lambda: next(
                (
                    event
                    for where, event in self.alice.heard
                    if where == room
                    and isinstance(event, nio.RoomMemberEvent)
                    and event.membership == "knock"
                ),
                None,
            ),
        )
        self.assertEqual((knock.state_key, knock.content["reason"]), (self.bob.id, "may I?"))
        done(await self.alice.client.room_invite(room, self.bob.id))
        await self.invited(room)
        done(await self.bob.client.join(room))
        await self.alice.sees(room, self.bob)

    async def test_finds_a_room_by_its_alias_and_joins_by_it(self):
        name = f"kitchen-{secrets.token_hex(5)}"
        alias = f"#{name}:localhost"
        made = await self.alice.client.room_create(alias=name, preset=nio.RoomPreset.public_chat)
        room = done(made).room_id
        self.assertEqual(done(await self.bob.client.room_resolve_alias(alias)).room_id, room)
        self.assertEqual(done(await self.bob.client.join(alias)).room_id, room)
        await self.bob.sees(room, self.alice)
        self.assertEqual(self.bob.client.rooms[room].canonical_alias, alias)

    async def test_gives_a_room_a_second_alias_and_takes_it_away(self):
        alias = f"#cellar-{secrets.token_hex(5)}:localhost"
        room = await self.room_of(self.alice, self.bob)
        done(await self.alice.client.room_put_alias(alias, room))
        self.assertEqual(done(await self.bob.client.room_resolve_alias(alias)).room_id, room)
        done(await self.alice.client.room_delete_alias(alias))
        refused(await self.bob.client.room_resolve_alias(alias), "M_NOT_FOUND")
