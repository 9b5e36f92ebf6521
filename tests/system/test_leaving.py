"""Ending with all that was started."""

import signal
import subprocess
import sys

import psutil

PROGRAM = """
import subprocess, threading
from falcon_runtime.system.leaving import leave_at_signals

leave_at_signals()
for new_session in (True, False):
    print(subprocess.Popen(["sleep", "1000"], start_new_session=new_session).pid, flush=True)
threading.Event().wait()
"""


def test_what_was_started_a_moment_ago_is_ended_too() -> None:
    """By a thread that has not come to note it, and suspended, as it might be: it would not see its parent end."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        started = [psutil.Process(int(process.stdout.readline())) for _ in range(2)]
        started[0].suspend()
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    assert not [child for child in started if child.is_running()]
