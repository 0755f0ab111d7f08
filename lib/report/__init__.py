"""Machinery: commands, runner, evidence.json, scoreboard, site. Nothing here is about a bug."""
