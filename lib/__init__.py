"""Thin helpers of the collection: each module is a noun that the notebooks measure with or write with."""
