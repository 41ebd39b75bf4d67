#!/usr/bin/env python3
"""Puts the service under load, does to it what happens to services, and asks at the end whether
acknowledged = logged = shown = rebuilt. Prints its figures, and as its last line "N passed, N failed".

usage: run.py --sluice BINARY [--minutes M | --faults N] [--engine sqlite|postgres]... [--only FAULT]... [--seed N] [--keep]

  --minutes M   how long each engine is put under faults (default 1); hours are as good
  --faults N    so many faults for each engine, however long they take: with --seed the same ones in the same order
  --seed N      what is reported, and which faults come in which order, is drawn from it; it is printed. When they meet is
                up to the machine
  --only FAULT  these faults alone

A disk of its own, which can be full, needs root (a tmpfs). PostgreSQL needs its server programs and psql. What cannot be done
is named.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

from checks import Checks
from faults import DECK, Faults
from load import Load
from place import ENGINES
from verdict import judge


def figures(name, place, load, faults, began, events):
    print(f"-- {name}: {time.monotonic() - began:.0f} s under load and judged")
    for title, counts in (("faults", faults.counts), ("what came of them", faults.notes), ("requests", load.counts)):
        print(f"   {title}: " + ("; ".join(f"{what} {count}" for what, count in sorted(counts.items())) or "none"))
    print(f"   acknowledged in the end {load.ledger.count()}, set aside by hand {len(load.ledger.set_aside)}, events in the log "
          f"{events}, the slowest start {place.slowest_start:.1f} s, the site's clock from 2026-01-10 to {place.now:%F}")
    for fault in sorted(fault for fault in DECK if not faults.possible(fault)):
        why = "needs a disk of its own, which root alone may mount" if fault == "fill_the_disk" else "is none of this engine's"
        print(f"   not done: {fault}: it {why}")


def under(checks, name, binary, work, options):
    """One engine, from an empty folder to the verdict."""
    print(f"== {name}", flush=True)
    place = ENGINES[name](binary, os.path.join(work, name))
    load = Load(place, f"{options.seed}/{name}")
    faults = Faults(place, load, random.Random(f"{options.seed}/{name}/faults"))
    began, events = time.monotonic(), 0
    try:
        place.prepare()
        place.start()
        load.start()
        faults.progress(20)
        end = time.monotonic() + options.minutes * 60
        while sum(faults.counts.values()) < options.faults if options.faults else time.monotonic() < end:
            fault = faults.next()
            if fault is None or options.only and fault not in options.only:
                continue
            print(f"  {time.monotonic() - began:6.1f} s  {fault}", flush=True)
            place.note(fault)
            faults.do(fault)
        load.counts["older logs"] = faults.counts["put_an_older_log_back"]
        checks.that(f"{name}: every report was acknowledged in the end", load.quiet())
        events = judge(checks, place, load)
    except Exception as error:
        checks.that(f"{name}: the run goes to its end", False, f"{type(error).__name__}: {error}")
        traceback.print_exc()
    finally:
        figures(name, place, load, faults, began, events)
        load.end()
        place.close(options.keep)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--faults", type=int, default=0)
    parser.add_argument("--engine", action="append", choices=sorted(ENGINES))
    parser.add_argument("--only", action="append", choices=sorted(DECK))
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--keep", action="store_true", help="keep the folder, and what is mounted there")
    options = parser.parse_args()
    # Whoever ends this run ends what it started.
    for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sign, lambda number, frame: sys.exit(128 + number))
    print(f"seed {options.seed}", flush=True)
    checks = Checks()
    work = tempfile.mkdtemp(prefix="sluice-chaos.")
    os.chmod(work, 0o755)
    try:
        for name in options.engine or sorted(ENGINES, reverse=True):
            under(checks, name, options.sluice, work, options)
    finally:
        if options.keep:
            print(f"kept: {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    if checks.failed == 0:
        print(f"acknowledged = logged = shown = rebuilt (seed {options.seed})")
    else:
        print(f"what failed can be tried again with --seed {options.seed}")
    return checks.summary()


if __name__ == "__main__":
    sys.exit(main())
