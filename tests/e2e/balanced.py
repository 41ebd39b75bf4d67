"""Three processes on one PostgreSQL behind the samples of balancers: the agent's story and reports without a pause, while a
process is killed and the database goes and comes back."""

import collections
import http.client
import json
import os
import signal
import threading
import time
import uuid

from agent import Agent
from checks import Process, tail
from proxy import NAMES, Haproxy, NginxBalancer
from scenarios import Emulated, settled, site
from service import POLICIES, STAFF, Api, Refused, Service, Site

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../services/postgres")
# What says that a request may not have been done, and is to be sent again.
AGAIN = (409, 502, 503, 504)
# A resource beside the agent's, which reports go on for all the time.
OFFERING = """offerings:
  - slug: hpc2
    name: Cluster beside it
    customer: uni-a
    components: [{type: node, name: node, measured_unit: hours, billing_type: limit, limit_period: quarterly}]
"""
RESOURCE = """resources:
  - {slug: climate-hpc2, name: climate on hpc2, project: climate, offering: hpc2, backend_id: hpc_beside, limits: {node: 1000000}}
"""
USAGES = "/api/marketplace-component-usages/"


class PostgreSql:
    """A private server in a folder of its own, which can be stopped and comes back with what it had."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.ready = os.path.join(folder, "ready")
        self.process = None

    def up(self):
        if os.path.exists(self.ready):
            os.remove(self.ready)
        self.process = Process("postgres", [SCRIPT, self.folder], os.path.join(os.path.dirname(self.folder), "postgres.log"))
        end = time.monotonic() + 60
        while not os.path.exists(self.ready):
            if time.monotonic() > end or not self.process.alive():
                raise RuntimeError(f"PostgreSQL did not start (install the package postgresql): {self.process.text()[-1000:]}")
            time.sleep(0.1)
        with open(self.ready) as file:
            return file.read().strip()

    def down(self):
        """As if the machine were shut down: nobody is waited for."""
        if self.process is not None:
            self.process.stop(signal.SIGINT)


class Caller(Api):
    """Somebody who repeats what did not reach a process, or may not have."""

    def call(self, method, path, body=None, key=STAFF):
        end = time.monotonic() + 60
        while True:
            try:
                return super().call(method, path, body, key)
            except (Refused, OSError, http.client.HTTPException) as error:
                if time.monotonic() > end or (isinstance(error, Refused) and error.status not in AGAIN):
                    raise
                time.sleep(0.2)


class Reporter(threading.Thread):
    """Reports a growing total without a pause over one connection, each until it is acknowledged, and reads it back at once,
    from whichever process answers."""

    def __init__(self, proxy, resource, first=1):
        super().__init__(daemon=True)
        self.proxy, self.resource = proxy, resource
        self.context = proxy.context()
        self.connection = None
        self.total = first - 1
        self.refused = collections.Counter()
        self.wrong = []
        self.over = threading.Event()

    def run(self):
        while not self.over.is_set() and not self.wrong:
            amount = self.total + 1
            usages = {"resource": self.resource, "usages": [{"type": "node", "amount": str(amount)}]}
            self.until("POST", f"{USAGES}set_usage/", 201, usages)
            self.total = amount
            text = self.until("GET", f"{USAGES}?resource_uuid={self.resource}&field=usage", 200)
            if text is not None and [float(row["usage"]) for row in json.loads(text)] != [amount]:
                self.wrong.append(f"{text!r} after {amount} was acknowledged")

    def until(self, method, path, wanted, body=None):
        """Asks until it is answered; whatever else than what asks to be repeated is wrong."""
        while not self.wrong:
            try:
                if self.connection is None:
                    self.connection = http.client.HTTPSConnection("localhost", self.proxy.port, timeout=60, context=self.context)
                self.connection.request(method, path, None if body is None else json.dumps(body),
                                        {"Authorization": f"Token {STAFF}", "Content-Type": "application/json"})
                answer = self.connection.getresponse()
                text = answer.read()
                if answer.status == wanted:
                    self.over.wait(0.05)
                    return text
                if answer.status not in AGAIN:
                    self.wrong.append(f"{method} {path}: {answer.status} {text[:300]!r}")
                self.refused[answer.status] += 1
            except (OSError, http.client.HTTPException) as error:
                self.connection = None
                self.refused[type(error).__name__] += 1
            self.over.wait(0.2)
        return None

    def stop(self):
        self.over.set()
        self.join()


class Balanced:
    """The story behind haproxy, and what nginx does in the same places."""

    def __init__(self, checks, kit, folder):
        self.checks, self.kit, self.folder = checks, kit, folder
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o755)
        self.postgres = PostgreSql(os.path.join(folder, "postgres"))
        self.venv = kit.older()
        self.slurm = Emulated(self.venv, os.path.join(folder, "slurm"))
        self.services, self.proxies, self.agents, self.reporters = {}, [], [], []

    def run(self):
        try:
            self.begin()
            for step in (self.takeover, self.usage, self.killed, self.back, self.outage, self.nothing_lost, self.nginx):
                print(f" {step.__doc__}", flush=True)
                step()
        finally:
            self.end()

    def begin(self):
        """The database with the site on it, three processes that do not run yet, and haproxy in front of them."""
        variables = {"SLUICE_DATABASE": self.postgres.up(), "SLUICE_SIMULATED_CLOCK": None,
                     "SLUICE_MAIL__FOLDER": os.path.join(self.folder, "mail")}
        text = site("node", 100).replace("offerings:\n", OFFERING).replace("resources:\n", RESOURCE)
        for name in NAMES:
            here = text if name == NAMES[0] else None
            self.services[name] = Service(self.kit.binary, os.path.join(self.folder, f"sluice-{name}"), here, variables)
        self.balancer = self.proxy(Haproxy)

    def proxy(self, kind):
        proxy = kind(os.path.join(self.folder, kind.program), *(service.port for service in self.services.values()))
        self.proxies.append(proxy)
        proxy.up()
        return proxy

    def agent(self, proxy):
        """The agent with its WebSocket, and a caller, behind a proxy."""
        folder = os.path.join(self.folder, f"agent-{proxy.program}")
        agent = Agent(self.venv, self.services["a"], folder, self.slurm.bin, (),
                      {**self.slurm.variables, **proxy.trusted()}, proxy.url)
        self.agents.append(agent)
        agent.up("event_process")
        self.place = Site(Caller(proxy.url, proxy.context()))
        return agent

    def reports(self, proxy, first):
        beside = Site(Caller(proxy.url, proxy.context()), "hpc2", "climate-hpc2").resource
        reporter = Reporter(proxy, beside, first)
        self.reporters.append(reporter)
        reporter.start()
        return reporter

    # What is asked again and again

    def leader(self, *names):
        """Which of these leads."""
        leads = lambda name: b"sluice_leader 1\n" in self.services[name].text("GET", "/metrics")
        return [name for name in names if leads(name)]

    def states(self, what, expected):
        self.checks.until(what, self.balancer.states, lambda states: states == expected)

    def confirmed(self, what, limit):
        """A limit that is set through the balancer reaches SLURM, and the agent's report of it is recorded."""
        self.place.set_limit("node", limit, "granted")
        self.checks.until(what, lambda: self.place.answered() and settled(self.place, "normal"), within=90)
        self.checks.equal("as the newest that was commanded", self.place.shown()["limits"], {"node": limit})

    def report_on(self, what):
        """Reports are acknowledged from now on."""
        before = self.reporter.total
        self.checks.until(what, lambda: self.reporter.total, lambda total: total >= before + 3)

    # The story

    def takeover(self):
        """the agent comes while only one process runs: that one leads and has the WebSocket"""
        self.services["a"].up()
        self.agent_here = self.agent(self.balancer)
        self.checks.until("the takeover is confirmed", lambda: settled(self.place, "normal"), within=120)
        self.checks.equal("the first process leads", self.leader("a"), ["a"])
        self.checks.until("and has the agent's WebSocket", self.balancer.websockets, lambda found: found == ["a"])
        for name in ("b", "c"):
            self.services[name].up()
        self.states("the others are used once they are ready", "a:UP b:UP c:UP")
        url = self.place.service.get("/api/marketplace-provider-offerings/?slug=hpc1")[0]["url"]
        self.checks.that("addresses in answers are those of the balancer", url.startswith(f"{self.balancer.url}/api/"), url)

    def usage(self):
        """usage, while others report without a pause"""
        self.reporter = self.reports(self.balancer, 1)
        self.slurm.use(105)
        self.agent_here.report_once(self.checks, "usage from sacct slows the account down", lambda: self.place.shown()["downscaled"])
        self.checks.until("the account is slowed down in SLURM", self.slurm.qos, lambda qos: qos == "slowdown")
        self.checks.until("and that is confirmed", lambda: settled(self.place, "slowdown"))

    def killed(self):
        """the process that leads and has the WebSocket is killed"""
        self.services["a"].kill()
        self.confirmed("a higher limit reaches the agent and comes back", 200)
        self.checks.equal("the account is as it was in SLURM", self.slurm.qos(), "normal")
        self.checks.equal("another process leads", len(self.leader("b", "c")), 1)
        self.checks.until("another one has the WebSocket", self.balancer.websockets, lambda found: found in (["b"], ["c"]))
        self.report_on("reports went on")
        self.states("the balancer has taken it out", "a:DOWN b:UP c:UP")

    def back(self):
        """the process comes back"""
        self.services["a"].up()
        self.states("the balancer takes it in again", "a:UP b:UP c:UP")
        answers = lambda: int(self.balancer.servers()["a"]["hrsp_2xx"])
        before = answers()
        self.checks.until("and it answers", answers, lambda count: count > before)

    def outage(self):
        """the database goes and comes back"""
        self.postgres.down()
        self.states("all are out of the balancer", "a:DOWN b:DOWN c:DOWN")
        try:
            said = Api(self.balancer.url, self.balancer.context()).get("/api/marketplace-provider-offerings/")
        except Refused as error:
            said = (error.status, error.retry_after, "No process is ready; try again." in str(error))
        self.checks.equal("which says so, and when to ask again", said, (503, "2", True))
        self.postgres.up()
        self.states("all are back in it", "a:UP b:UP c:UP")
        self.report_on("reports go on")
        self.confirmed("the next limit reaches the agent and comes back", 300)

    def nothing_lost(self):
        """nothing is lost or wrong"""
        self.finished(self.reporter)
        agent = self.agents[0]
        agent.down("event_process")
        report = f"POST {POLICIES}{uuid.UUID(self.place.policy)}/report-command-result/"
        self.checks.until("the agent's WebSocket went through the balancer", lambda: self.balancer.passed_on("GET /rmqws-stomp", 101))
        self.checks.that("its reports did", self.balancer.passed_on(report, 200))

    def finished(self, reporter):
        reporter.stop()
        print(f"        {reporter.total} reports acknowledged; refused: {dict(reporter.refused)}", flush=True)
        self.checks.equal("no answer was wrong", reporter.wrong, [])
        reported = self.place.service.events("usage_reported", reporter.resource)
        totals = [int(event["payload"]["amounts"]["node"]["amount"]) for event in reported]
        self.checks.equal("each total is one fact, in order", totals, list(range(1, reporter.total + 1)))

    def nginx(self):
        """the same processes behind nginx: the one that leads is killed, and the database goes and comes back"""
        proxy = self.proxy(NginxBalancer)
        self.agent(proxy)
        self.reporter = self.reports(proxy, self.reporter.total + 1)
        self.confirmed("a limit reaches the agent and comes back", 400)
        for name in self.leader(*NAMES):
            self.services[name].kill()
        self.confirmed("and so does one after the kill", 500)
        self.report_on("reports went on")
        before = self.reporter.refused.total()
        self.postgres.down()
        self.checks.until("without the database they are refused", self.reporter.refused.total, lambda count: count > before)
        self.postgres.up()
        self.report_on("and go on when it is back")
        url = self.place.service.get("/api/marketplace-provider-offerings/?slug=hpc1")[0]["url"]
        self.checks.that("addresses in answers are those of the balancer", url.startswith(f"{proxy.url}/api/"), url)
        self.finished(self.reporter)
        self.agents[-1].down("event_process")
        self.checks.until("the WebSocket went through it", lambda: proxy.passed_on("GET /rmqws-stomp", 101))

    def end(self):
        """Ends everything; where something failed, shows what was said."""
        for reporter in self.reporters:
            reporter.stop()
        for agent in self.agents:
            agent.all_down()
        for proxy in self.proxies:
            proxy.down()
        for service in self.services.values():
            service.down()
        self.postgres.down()
        if self.checks.failed:
            for service in self.services.values():
                tail(os.path.join(service.folder, "sluice.log"))
            for proxy in self.proxies:
                tail(proxy.log, 60)
            for agent in self.agents:
                for mode in ("event_process", "report"):
                    tail(os.path.join(agent.folder, f"agent-{mode}.log"), 60)
