"""How the stand-in misbehaves, by STANDIN in the environment."""

import os
import subprocess
import sys
import time

IS = os.environ.get("STANDIN", "").split()
SM = int(os.environ.get("STANDIN_SM", "121"))


def at_import():
    """What happens when the package is imported."""
    if "rubbish" in IS:
        os.write(1, b"[TensorRT-LLM] a banner\n\xff\xfe no text\n[1, 2]\nnull\n\"text\"\n" + b"[" * 100_000 + b"\n"
                 b'{"probe": 1}\n{"probe": 9, "case": "", "status": "ok", "message": "", "seconds": 0, "values": {}}\n'
                 b'{"probe": 1, "case": "", "status": "fine", "message": "", "seconds": 0, "values": {}}\n'
                 b'{"probe": 1, "case": "", "status": "ok", "message": "", "seconds": 0, "values": 3}\n')


def at_launch(tactic):
    """What happens when a kernel is launched."""
    if tactic == 2 and "crash" in IS:
        os.abort()
    if tactic == 2 and "hang" in IS:
        # Children of its own, one of them in another session, as MPI's workers are.
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        for apart in (False, True):
            subprocess.Popen(command, start_new_session=apart)
        time.sleep(600)
