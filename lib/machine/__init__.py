"""The machine before the bugs: what its architecture states, source beside source."""
