"""Machinery: commands, runner, evidence.json, scoreboard, site; of bugs only bugs.toml tells."""
