"""The history: what every published wheel of FlashInfer says of the bugs, and since when."""
