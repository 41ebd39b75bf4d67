"""Counts what was checked, waits for conditions, and keeps processes that are ended by their ids."""

import os
import signal
import socket
import subprocess
import sys
import time


# Bounds are those of a quiet machine with two cores; one that is busy with other things gets so many times as long.
PATIENCE = 4


class Checks:
    """What held and what did not. A check that fails is said and counted; the run goes on."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    def that(self, what, holds, detail=""):
        if holds:
            self.passed += 1
            print(f"  ok    {what}", flush=True)
        else:
            self.failed += 1
            print(f"  FAIL  {what}: {detail}", flush=True)
        return bool(holds)

    def equal(self, what, found, expected):
        return self.that(what, found == expected, f"{found!r}, expected {expected!r}")

    def until(self, what, read, holds=bool, within=60):
        """Reads until the condition holds; what was read last is the answer."""
        within *= PATIENCE
        end = time.monotonic() + within
        found, error = None, ""
        while True:
            try:
                found, error = read(), ""
                if holds(found):
                    self.that(what, True)
                    return found
            except Exception as problem:  # what cannot be read yet
                error = f"{type(problem).__name__}: {problem}"
            if time.monotonic() >= end:
                self.that(what, False, f"not within {within} s; last: {error or repr(found)[:1500]}")
                return found
            time.sleep(0.2)

    def summary(self):
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 0 if self.failed == 0 else 1


def free_ports(count):
    """Ports of the loopback that nobody has at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Process:
    """A process with its output in a file. It is ended by its id and nothing else is."""

    def __init__(self, name, command, log, env=None, user=None):
        self.name = name
        self.log = log
        self.output = open(log, "ab")
        self.child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output, env=env, user=user, group=user,
            extra_groups=[] if user else None, start_new_session=True)

    def alive(self):
        return self.child.poll() is None

    def stop(self, how=signal.SIGTERM, within=15):
        """Ends it; one that does not end in time is killed."""
        if self.alive():
            self.child.send_signal(how)
            try:
                self.child.wait(within)
            except subprocess.TimeoutExpired:
                self.child.kill()
        self.child.wait()
        self.output.close()

    def kill(self):
        self.stop(signal.SIGKILL)

    def text(self):
        with open(self.log, errors="replace") as file:
            return file.read()


def run(command, env=None, check=True, **more):
    """Runs a command to its end and gives its output."""
    done = subprocess.run(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: status {done.returncode}: {done.stdout.strip()}")
    return done.stdout


def tail(path, lines=40):
    """The end of a log, for somebody who has to find out why."""
    if os.path.exists(path):
        with open(path, errors="replace") as file:
            for line in file.read().splitlines()[-lines:]:
                print(f"    {os.path.basename(path)}: {line}", file=sys.stderr, flush=True)
