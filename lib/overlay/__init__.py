"""Patches on an installed package that change no file of it: for a block, or for a command."""

from lib.overlay.overlay import Overlay, locate, module, patched, run, shadow

__all__ = ["Overlay", "locate", "module", "patched", "run", "shadow"]
