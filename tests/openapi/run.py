#!/usr/bin/env python3
"""Holds the API and its description against each other, and ends with one line: "N passed, N failed".

usage: run.py --sluice BINARY [--seconds N] [--seed N] [--keep]

Schemathesis sends every operation what the description allows, and what it does not, with the token of staff and with the
token of an agent, and compares each answer with the description. Its examples and its edge cases (coverage) run to their
end; generated bodies (fuzzing) run for --seconds with each token. The seed is fixed, so that a run can be repeated; another
one (--seed) looks elsewhere.

openapi-python-client makes a client of the description, without a warning, and drive.py goes the main way with it.

Python environments are kept in the cache folder ($XDG_CACHE_HOME/sluice); everything else is in a folder of its own that
goes at the end.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))

from checks import Checks, run  # noqa: E402
from service import AGENT, STAFF, Refused, Service  # noqa: E402
from versions import Environments  # noqa: E402

SCHEMATHESIS = "4.32.5"
GENERATOR = "0.29.1"
# What Schemathesis generates with, and a module of its own: a newer one may find, or send, other things.
TRIED_WITH = [f"schemathesis=={SCHEMATHESIS}", "hypothesis==6.170.17", "jsonschema_rs==0.60.3"]
MADE_WITH = [f"openapi-python-client=={GENERATOR}", "ruff==0.17.6", "httpx==0.28.1"]

# A WebSocket, and a stream that does not end: neither is a request with an answer.
ENDLESS = "^/(rmqws-stomp$|api/events/stream/)"
# What ends tokens and forgets users, those of the run among them: tried last.
LAST = "^/api/(tokens/[{]uuid[}]/|users/erase/)$"
# Operations of the description at least: a description that is cut short finds nothing either.
OPERATIONS_MIN = 120


def tried(checks, what, tool, service, key, folder, *arguments):
    """Runs Schemathesis, and shows what it says if it finds something."""
    report = os.path.join(folder, "report.json")
    command = [
        os.path.join(tool, "bin", "schemathesis"), "--no-color", "--config-file", os.path.join(HERE, "schemathesis.toml"),
        "run", f"{service.url}/api/schema/", "--url", service.url, "--header", f"Authorization: Token {key}",
        "--generation-database", "none", "--continue-on-failure", "--warnings", "off",
        "--report", "json", "--report-json-path", report, *arguments,
    ]
    done = subprocess.run(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        print(done.stdout, flush=True)
    checks.equal(f"{what}: Schemathesis finds nothing", done.returncode, 0)
    with open(report) as file:
        return json.load(file)


def conform(checks, tool, binary, site, folder, role, key, options):
    """Everything that is described, with one token."""
    os.makedirs(folder)
    # So many requests at a time, some of them without a token, are what the bounds of a site are there to refuse.
    unbounded = {f"SLUICE_LIMITS__{name}_PER_MINUTE": "1000000" for name in ("ADDRESS_REQUESTS", "TOKEN_REQUESTS", "TOKEN_EVENTS")}
    service = Service(binary, folder, site, {"SLUICE_SIMULATED_CLOCK": None, **unbounded})
    try:
        service.up()
        main = ["--exclude-path-regex", f"{ENDLESS}|{LAST}"]
        seed = ["--seed", str(options.seed)]
        edges = tried(checks, f"{role}, edge cases", tool, service, key, folder, "--phases", "examples,coverage", *seed, *main)
        counted = edges["operations"]
        checks.that(f"{role}: every operation was tried", counted["tested"] == counted["selected"] >= OPERATIONS_MIN, counted)
        tried(checks, f"{role}, generated", tool, service, key, folder, "--phases", "fuzzing", "--no-shrink",
              "--max-time", str(options.seconds), *seed, *main)
        # All of it was tried with a token that was good.
        service.call("GET", "/api/users/me/", key=key)
        checks.that(f"{role}: the token is good to the end", True)
        tried(checks, f"{role}, what ends tokens", tool, service, key, folder, "--phases", "coverage,fuzzing",
              "--max-examples", "20", "--include-path-regex", LAST, *seed)
        failures = [line for line in service.process.text().splitlines() if " ERROR " in line]
        checks.equal(f"{role}: the service logs no failure of its own", failures[:5], [])
        checks.that(f"{role}: the service is ready at the end", service.get("/health/ready")["status"] == "ready")
    except (Refused, OSError, RuntimeError) as error:
        checks.that(f"{role}: the run goes to its end", False, error)
    finally:
        service.down()


def generated(checks, environments, binary, site, folder):
    """A client made of the description goes the main way."""
    tool = environments.environment(f"openapi-client-venv-{GENERATOR}", MADE_WITH)
    os.makedirs(folder)
    service = Service(binary, folder, site)
    try:
        service.up()
        description = os.path.join(folder, "openapi.json")
        with open(description, "w") as file:
            json.dump(service.get("/api/schema/"), file)
        env = {"PATH": os.path.join(tool, "bin") + os.pathsep + os.environ["PATH"], "HOME": folder}
        said = run([os.path.join(tool, "bin", "openapi-python-client"), "generate", "--path", description, "--output-path",
                    os.path.join(folder, "sluice_client"), "--meta", "none", "--fail-on-warning"], env=env, check=False)
        made = os.path.exists(os.path.join(folder, "sluice_client", "client.py")) and "arning" not in said
        if checks.that("a client is generated without a warning", made, said[-3000:]):
            done = subprocess.run([os.path.join(tool, "bin", "python"), os.path.join(HERE, "drive.py"), service.url, STAFF, AGENT],
                                  env={**env, "PYTHONPATH": folder}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            checks.that("the generated client goes the main way", done.returncode == 0, done.stdout[-3000:])
    finally:
        service.down()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--seconds", type=int, default=45, help="for generated bodies, with each token")
    parser.add_argument("--seed", type=int, default=20_260_315)
    parser.add_argument("--only", choices=["staff", "agent", "client"])
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    options = parser.parse_args()
    for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sign, lambda number, frame: sys.exit(128 + number))
    with open(os.path.join(HERE, "site.yaml")) as file:
        site = file.read()
    binary, checks, environments = os.path.abspath(options.sluice), Checks(), Environments()
    work = tempfile.mkdtemp(prefix="sluice-openapi.")
    try:
        if options.only in (None, "client"):
            generated(checks, environments, binary, site, os.path.join(work, "client"))
        for role, key in (("staff", STAFF), ("agent", AGENT)):
            if options.only in (None, role):
                tool = environments.environment(f"schemathesis-venv-{SCHEMATHESIS}", TRIED_WITH)
                conform(checks, tool, binary, site, os.path.join(work, role), role, key, options)
    finally:
        if options.keep:
            print(f"kept: {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    return checks.summary()


if __name__ == "__main__":
    sys.exit(main())
