"""Decoding, probing and encoding of audio and video files. Knows no jobs and no HTTP."""
