#!/usr/bin/env python3
"""Runs the whole loop with the unmodified site agent and the real API client, both from PyPI, and ends with one line:
"N passed, N failed".

usage: run.py --sluice BINARY [--only NAME]... [--broker NAME]... [--keep]

  client     the real client through every endpoint of SLURM policies
  emulated   the agent with slurm-emulator: report, slow down, pause, restore
  proxy      the agent with slurm-emulator, behind nginx with TLS (built-in broker; Debian's package nginx-light)
  balancer   the agent with slurm-emulator, and three processes on one PostgreSQL behind haproxy and nginx with TLS, with a kill
             and a database that goes away (built-in broker; Debian's packages haproxy, nginx-light, postgresql)
  true       the agent with a real SLURM of our own, with kills on the way (root, Debian's packages)

Each is run with each broker: the one that is built in, and a RabbitMQ of our own (Debian's package).

Python environments are kept in the cache folder ($XDG_CACHE_HOME/sluice); everything else is in a folder of its own that
goes at the end. What cannot run for want of something is a failure that says what to install.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import traceback

import scenarios
from balanced import Balanced
from brokers import BuiltIn, RabbitMq
from checks import Checks, run
from cluster import missing

AGENT = ("agent-venv-1.0.7", ["waldur-site-agent==1.0.7", "waldur-site-agent-slurm==1.0.7", "slurm-emulator==0.9.10"])
CLIENT = ("client-venv-8.1.3", ["waldur-api-client==8.1.3"])
SCENARIOS = ["client", "emulated", "proxy", "balancer", "true"]
BROKERS = {"builtin": BuiltIn, "rabbitmq": RabbitMq}


class Kit:
    """What the scenarios are run with."""

    def __init__(self, binary, work):
        self.binary = os.path.abspath(binary)
        self.short = work
        self.cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "sluice")
        self.agent_venv = self.environment(*AGENT)
        self.client_venv = self.environment(*CLIENT)

    def environment(self, name, packages):
        """A Python environment with these packages, made once. Another name goes with other versions."""
        path = os.path.join(self.cache, name)
        done = os.path.join(path, "complete")
        if not os.path.exists(done):
            print(f"== installing {', '.join(packages)} into {path}", flush=True)
            shutil.rmtree(path, ignore_errors=True)
            os.makedirs(self.cache, exist_ok=True)
            run([sys.executable, "-m", "venv", path])
            run([os.path.join(path, "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
            with open(done, "w") as file:
                file.write("\n".join(packages))
        return path


def attempt(checks, what, scenario):
    print(f"== {what}", flush=True)
    try:
        scenario()
    except Exception as error:
        checks.that(what, False, f"{type(error).__name__}: {error}")
        traceback.print_exc()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--only", action="append", choices=SCENARIOS)
    parser.add_argument("--broker", action="append", choices=sorted(BROKERS))
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    options = parser.parse_args()
    # Whoever ends this run ends what it started.
    for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sign, lambda number, frame: sys.exit(128 + number))
    wanted = options.only or SCENARIOS
    names = options.broker or sorted(BROKERS)
    checks = Checks()
    # A short path: sockets of databases and of munge lie below it.
    work = tempfile.mkdtemp(prefix="sluice-e2e.", dir="/tmp")
    os.chmod(work, 0o755)
    try:
        kit = Kit(options.sluice, work)
        for name in names:
            broker = BROKERS[name](f"{work}/{name}")
            attempt(checks, f"broker {name}", lambda: with_broker(checks, kit, work, broker, wanted))
    finally:
        if options.keep:
            print(f"kept: {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    return checks.summary()


def with_broker(checks, kit, work, broker, wanted):
    try:
        broker.up()
        name = broker.name
        if "client" in wanted:
            attempt(checks, f"the real client, broker {name}",
                    lambda: scenarios.client_contract(checks, kit, f"{work}/client-{name}", broker))
        if "emulated" in wanted:
            attempt(checks, f"the agent with an emulated SLURM, broker {name}",
                    lambda: scenarios.emulated(checks, kit, f"{work}/emulated-{name}", broker))
        if "proxy" in wanted and name == "builtin":
            attempt(checks, "the agent behind a proxy", lambda: scenarios.proxied(checks, kit, f"{work}/proxy"))
        if "balancer" in wanted and name == "builtin":
            attempt(checks, "the agent behind a balancer", lambda: Balanced(checks, kit, f"{work}/balancer").run())
        if "true" in wanted:
            attempt(checks, f"the agent with a real SLURM, broker {name}", lambda: true_run(checks, kit, work, broker))
    finally:
        broker.down()


def true_run(checks, kit, work, broker):
    if os.geteuid() != 0:
        raise RuntimeError("a real SLURM starts jobs as other users: run this as root")
    if packages := missing():
        raise RuntimeError(f"install the packages {' '.join(packages)} (and slurm-wlm-mysql-plugin)")
    scenarios.TrueRun(checks, kit, f"{work}/true-{broker.name}", broker).run()


if __name__ == "__main__":
    sys.exit(main())
