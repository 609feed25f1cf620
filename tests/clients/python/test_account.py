"""Having an account: registering, signing in, sessions, one's name and picture."""

from common import Scenario, done, refused


class Account(Scenario):
    async def test_registers_and_is_told_who_they_are(self):
        alice = await self.person("alice")
        self.assertEqual(alice.id, f"@{alice.name}:localhost")
        me = done(await alice.client.whoami())
        self.assertEqual((me.user_id, me.device_id), (alice.id, alice.client.device_id))

    async def test_cannot_take_a_name_that_is_taken(self):
        alice = await self.person("alice")
        thief = self.visitor(alice.name)
        refused(await thief.client.register(alice.name, "another password"), "M_USER_IN_USE")

    async def test_signs_in_with_the_password_on_a_device_of_its_own(self):
        alice = await self.person("alice")
        self.assertIn("m.login.password", done(await alice.client.login_info()).flows)
        phone = await self.device_of(alice)
        self.assertEqual(phone.id, alice.id)
        self.assertNotEqual(phone.client.device_id, alice.client.device_id)
        self.assertEqual(done(await phone.client.whoami()).device_id, phone.client.device_id)

    async def test_cannot_sign_in_with_a_wrong_password(self):
        alice = await self.person("alice")
        refused(await self.visitor(alice.name).client.login("wrong"), "M_FORBIDDEN")
        refused(await self.visitor("nobody-of-that-name").client.login("wrong"), "M_FORBIDDEN")

    async def test_signs_out_and_the_token_is_worth_nothing_afterwards(self):
        alice = await self.person("alice")
        phone = await self.device_of(alice)
        token = phone.client.access_token
        done(await phone.client.logout())
        phone.client.restore_login(alice.id, phone.client.device_id or "gone", token)
        refused(await phone.client.whoami(), "M_UNKNOWN_TOKEN")
        refused(await phone.client.sync(), "M_UNKNOWN_TOKEN")
        done(await alice.client.whoami())

    async def test_signs_out_everywhere(self):
        alice = await self.person("alice")
        phone = await self.device_of(alice)
        done(await phone.client.logout(all_devices=True))
        refused(await alice.client.whoami(), "M_UNKNOWN_TOKEN")
        await self.device_of(alice)

    async def test_changes_name_and_picture_and_the_others_in_the_room_see_it(self):
        alice, bob = await self.person("alice"), await self.person("bob")
        room = await self.room_of(alice, bob)
        face = "mxc://localhost/bobs-face"
        done(await bob.client.set_displayname("Bob the Baker"))
        done(await bob.client.set_avatar(face))
        member = alice.client.rooms[room].users[bob.id]
        await alice.until(
            "bob's new face shows",
            lambda: (member.display_name, member.avatar_url) == ("Bob the Baker", face),
        )
        profile = done(await alice.client.get_profile(bob.id))
        self.assertEqual((profile.displayname, profile.avatar_url), ("Bob the Baker", face))
        self.assertEqual(done(await alice.client.get_displayname(bob.id)).displayname, "Bob the Baker")
        self.assertEqual(done(await alice.client.get_avatar(bob.id)).avatar_url, face)
