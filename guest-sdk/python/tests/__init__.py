"""Tests of the SDK, under plain Python: `python3 -m unittest discover -s guest-sdk/python`."""
