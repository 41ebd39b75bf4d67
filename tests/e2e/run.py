#!/usr/bin/env python3
"""Runs the whole loop with the unmodified site agent and the real API client, both from PyPI, and ends with one line:
"N passed, N failed".

usage: run.py --sluice BINARY [--only NAME]... [--broker NAME]... [--newest] [--keep]

  client     both versions of the real client through every endpoint of SLURM policies
  emulated   the agent with slurm-emulator: report, slow down, pause, restore
  proxy      the agent with slurm-emulator, behind nginx with TLS (built-in broker; Debian's package nginx-light)
  balancer   the agent with slurm-emulator, and three processes on one PostgreSQL behind haproxy and nginx with TLS, with a kill
             and a database that goes away (built-in broker; Debian's packages haproxy, nginx-light, postgresql)
  true       the agent with a real SLURM of our own, with kills on the way (root, Debian's packages)

Each is run with each broker: the one that is built in, and a RabbitMQ of our own (Debian's package). The agent is driven in
two versions: emulated has the newer one on the built-in broker and the older one on RabbitMQ, true the other way round, so
that each meets both brokers and both clusters' ways.

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
from checks import Checks
from cluster import missing
from versions import Environments

SCENARIOS = ["client", "emulated", "proxy", "balancer", "true"]
BROKERS = {"builtin": BuiltIn, "rabbitmq": RabbitMq}


class Kit:
    """What the scenarios are run with."""

    def __init__(self, binary, work, environments):
        self.binary = os.path.abspath(binary)
        self.short = work
        self.environments = environments

    def older(self):
        """An environment with the older agent."""
        return self.environments.agent(self.environments.older)

    def newer(self):
        """An environment with the newer agent."""
        return self.environments.agent(self.environments.newer)


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
    parser.add_argument("--newest", action="store_true", help="the newest pre-releases in the place of the newer versions")
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
        kit = Kit(options.sluice, work, Environments(options.newest))
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
            for version in kit.environments.clients:
                attempt(checks, f"the real client {version}, broker {name}",
                        lambda: scenarios.client_contract(checks, kit, version, f"{work}/client-{name}-{version}", broker))
        builtin = name == "builtin"
        if "emulated" in wanted:
            version = kit.environments.newer if builtin else kit.environments.older
            attempt(checks, f"the agent {version} with an emulated SLURM, broker {name}",
                    lambda: scenarios.emulated(checks, kit, kit.environments.agent(version), f"{work}/emulated-{name}", broker))
        if "proxy" in wanted and builtin:
            attempt(checks, "the agent behind a proxy", lambda: scenarios.proxied(checks, kit, kit.newer(), f"{work}/proxy"))
        if "balancer" in wanted and builtin:
            attempt(checks, "the agent behind a balancer", lambda: Balanced(checks, kit, f"{work}/balancer").run())
        if "true" in wanted:
            version = kit.environments.older if builtin else kit.environments.newer
            attempt(checks, f"the agent {version} with a real SLURM, broker {name}",
                    lambda: true_run(checks, kit, version, work, broker))
    finally:
        broker.down()


def true_run(checks, kit, version, work, broker):
    if os.geteuid() != 0:
        raise RuntimeError("a real SLURM starts jobs as other users: run this as root")
    if packages := missing():
        raise RuntimeError(f"install the packages {' '.join(packages)} (and slurm-wlm-mysql-plugin)")
    scenarios.TrueRun(checks, kit, version, f"{work}/true-{broker.name}", broker).run()


if __name__ == "__main__":
    sys.exit(main())
