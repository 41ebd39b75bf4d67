"""Sluice as a process on a database and a port of its own, with its clock in our hands, and its API."""

import datetime
import json
import os
import signal
import time
import urllib.error
import urllib.request

from checks import Process, free_ports, run

STAFF = "e2e0staff0key00000000000000000000000000a"
AGENT = "e2e0agent0key00000000000000000000000000b"
POLICIES = "/api/marketplace-slurm-periodic-usage-policies/"
RESOURCES = "/api/marketplace-provider-resources/"


class Refused(RuntimeError):
    """An answer that is an error."""

    def __init__(self, method, path, error):
        super().__init__(f"{method} {path}: {error.code} {error.read()[:500]!r}")
        self.status = error.code
        self.retry_after = error.headers.get("Retry-After")


class Api:
    """The API at an address."""

    def __init__(self, url, context=None):
        self.url = url
        self.context = context

    def text(self, method, path, body=None, key=STAFF):
        request = urllib.request.Request(
            self.url + path, method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Token {key}", "Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60, context=self.context) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise Refused(method, path, error) from None

    def call(self, method, path, body=None, key=STAFF):
        text = self.text(method, path, body, key)
        return json.loads(text) if text else None

    def get(self, path):
        return self.call("GET", path)

    def post(self, path, body):
        return self.call("POST", path, body)

    def patch(self, path, body):
        return self.call("PATCH", path, body)

    def advance_to(self, instant):
        return self.call("PUT", "/api/simulation/clock/", {"now": instant.isoformat()})

    def advance(self, **by):
        now = self.get("/api/simulation/clock/")["now"]
        now = datetime.datetime.fromisoformat(now.replace("Z", "+00:00"))
        return self.advance_to(now + datetime.timedelta(**by))

    def events(self, kind, resource=None):
        """Every event of a type, on one resource or all."""
        found, after = [], None
        of = f"&resource_uuid={resource}" if resource else ""
        while True:
            page = self.get(f"/api/events/?type={kind}&page_size=100{of}" + (f"&after={after}" if after else ""))
            found.extend(page)
            if len(page) < 100:
                return found
            after = page[-1]["position"]


class Service(Api):
    """A server that can be killed and started again on what it left. A variable that is None is not set; without a site it
    serves what is there."""

    def __init__(self, binary, folder, site=None, variables=None):
        self.binary = binary
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.port = free_ports(1)[0]
        super().__init__(f"http://127.0.0.1:{self.port}")
        self.start = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        env = {
            "PATH": os.environ["PATH"], "HOME": folder, "SLUICE_DATA_DIR": os.path.join(folder, "data"),
            "SLUICE_SIMULATED_CLOCK": self.start.isoformat(), "SLUICE_LISTEN": f"127.0.0.1:{self.port}",
            "E2E_STAFF": STAFF, "E2E_AGENT": AGENT, **(variables or {}),
        }
        self.env = {name: value for name, value in env.items() if value is not None}
        self.process = None
        if site is not None:
            path = os.path.join(folder, "site.yaml")
            with open(path, "w") as file:
                file.write(site)
            self.cli("apply", "-f", path)

    def cli(self, *arguments):
        # The clock is kept in the database, and may have moved on since.
        env = {k: v for k, v in self.env.items() if k != "SLUICE_SIMULATED_CLOCK" or self.process is None}
        return run([self.binary, *arguments], env=env)

    def up(self):
        log = os.path.join(self.folder, "sluice.log")
        env = dict(self.env)
        if self.process is not None:
            env.pop("SLUICE_SIMULATED_CLOCK", None)
        self.process = Process("sluice", [self.binary, "serve"], log, env=env)
        end = time.monotonic() + 60
        while True:
            try:
                self.get("/health/ready")
                return self
            except (Refused, OSError):
                if time.monotonic() > end or not self.process.alive():
                    raise RuntimeError(f"sluice did not start:\n{self.process.text()[-3000:]}") from None
                time.sleep(0.1)

    def kill(self):
        self.process.kill()

    def down(self):
        if self.process is not None and self.process.alive():
            self.process.stop(signal.SIGTERM)


class Site:
    """One resource under one policy, as the API shows them."""

    def __init__(self, service, offering="hpc1", resource="climate-hpc1"):
        self.service = service
        self.resource = service.get(f"{RESOURCES}?slug={resource}")[0]["uuid"]
        self.policy = service.get(f"{POLICIES}?page_size=1")[0]["uuid"]
        self.offering = service.get(f"/api/marketplace-provider-offerings/?slug={offering}")[0]["uuid"]

    def shown(self):
        return self.service.get(f"{RESOURCES}{self.resource}/")

    def status(self):
        answer = self.service.get(f"{POLICIES}{self.policy}/status/?resource_uuid={self.resource}")
        return answer["resources"][0]

    def evaluations(self):
        return self.service.get(f"{POLICIES}{self.policy}/evaluation-logs/?page_size=100")

    def commands(self):
        """Every intended command, newest dispatch first."""
        found, page = [], 1
        while True:
            some = self.service.get(f"{POLICIES}{self.policy}/command-history/?page_size=100&page={page}")
            found.extend(some)
            if len(some) < 100:
                return found
            page += 1

    def set_limit(self, component, amount, reason):
        return self.service.patch(f"{RESOURCES}{self.resource}/", {"limits": {component: amount}, "reason": reason})

    def answered(self):
        """Nothing that was commanded waits for an answer."""
        return all(row["success"] is True or row["status"] == "superseded" for row in self.commands())
