"""The fault suite: a real cluster under load, of which parts are killed, frozen and cut off at random."""
