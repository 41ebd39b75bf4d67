"""The scenarios: the same story on an emulated and on a real SLURM, told by the unmodified agent."""

import datetime
import json
import os
import subprocess
import sys
import uuid

from agent import Agent
from checks import run, tail
from cluster import CPUS, NODES, Cluster
from left import settled_by_the_next_resource
from proxy import Nginx
from service import RESOURCES, Api, Service, Site

ACCOUNT, RENAMED = "hpc_climate", "hpc_weather"
# Users of the system that every Debian has: SLURM starts jobs as them.
USER, OTHER = "games", "news"

SITE = """
customers: [{slug: uni-a, name: University A, owners: [{username: news, email: owner@uni-a.example}]}]
projects: [{slug: climate, name: Climate modelling, customer: uni-a, members: [{username: games, email: member@uni-a.example}]}]
offerings:
  - slug: hpc1
    name: Cluster of the test
    customer: uni-a
    components: [{type: COMPONENT, name: COMPONENT, measured_unit: hours, billing_type: limit, limit_period: quarterly}]
    qos: {default: normal, downscaled: slowdown, paused: blocked}
resources:
  - {slug: climate-hpc1, name: climate on hpc1, project: climate, offering: hpc1, backend_id: hpc_climate, limits: {COMPONENT: LIMIT}}
POLICIES
tokens:
  - {user: root, role: staff, key_env: E2E_STAFF}
  - {user: agent-hpc1, role: agent, offering: hpc1, key_env: E2E_AGENT}
"""
POLICY = """policies:
  - slug: hpc1-quarterly
    offering: hpc1
    actions: [notify_organization_owners, request_slurm_resource_downscaling, request_slurm_resource_pausing]
    apply_to_all: true
    grace_ratio: GRACE
    tres_billing_enabled: false
"""


def site(component, limit, policies=POLICY, grace="0.2"):
    text = SITE.replace("COMPONENT", component).replace("LIMIT", str(limit))
    return text.replace("POLICIES\n", policies.replace("GRACE", grace))


def next_quarter(day):
    """Five minutes into the next quarter."""
    month = (day.month - 1) // 3 * 3 + 4
    year, month = (day.year + 1, 1) if month > 12 else (day.year, month)
    return datetime.datetime(year, month, 1, 0, 5, tzinfo=datetime.timezone.utc)


def client_contract(checks, kit, version, folder, broker):
    """A version of the real client against every endpoint of SLURM policies."""
    service = Service(kit.binary, folder, site("node", 1000, ""), broker.variables())
    service.up()
    try:
        resource = service.get("/api/marketplace-provider-resources/?slug=climate-hpc1")[0]["uuid"]
        offering = service.get("/api/marketplace-provider-offerings/?slug=hpc1")[0]["uuid"]
        here = os.path.dirname(os.path.abspath(__file__))
        command = [f"{kit.environments.client(version)}/bin/python", os.path.join(here, "client.py"), service.url, service.env["E2E_STAFF"],
                   offering, resource, "node"]
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=sys.stderr)
        print(done.stdout, end="", flush=True)
        summary = done.stdout.strip().splitlines()[-1:] or [""]
        words = summary[0].replace(",", "").split()
        if len(words) == 4 and words[1] == "passed":
            checks.passed += int(words[0])
            checks.failed += int(words[2])
        else:
            checks.that("the client's run came to its end", False, summary)
    finally:
        service.down()


class Emulated:
    """slurm-emulator from PyPI: fast, and not exact."""

    def __init__(self, venv, folder):
        self.bin = os.path.join(venv, "bin")
        self.python = os.path.join(self.bin, "python")
        os.makedirs(folder, exist_ok=True)
        self.variables = {
            "SLURM_EMULATOR_STATE_FILE": os.path.join(folder, "slurm.json"),
            "SLURM_EMULATOR_TIME_FILE": os.path.join(folder, "time.json"),
            "SLURM_EMULATOR_FS_ROOT": os.path.join(folder, "fs"),
        }
        self.env = {"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": folder, **self.variables}
        for qos in ("slowdown", "blocked"):
            self.sacctmgr("-i", "add", "qos", qos)
        for account in (ACCOUNT, RENAMED):
            self.sacctmgr("-i", "add", "account", account, f"description={account}", "organization=root")
        self.sacctmgr("-i", "add", "user", USER, f"account={ACCOUNT}")

    def sacctmgr(self, *arguments):
        return run([os.path.join(self.bin, "sacctmgr"), *arguments], env=self.env)

    def use(self, hours):
        code = ("import sys, datetime\n"
                "from emulator.core.database import SlurmDatabase\n"
                "from emulator.core.time_engine import TimeEngine\n"
                "from emulator.core.usage_simulator import UsageSimulator\n"
                "db = SlurmDatabase(); db.load_state()\n"
                "UsageSimulator(TimeEngine(), db).inject_usage(sys.argv[1], sys.argv[2], float(sys.argv[3]), at_time=datetime.datetime.now())\n"
                "db.save_state()\n")
        run([self.python, "-c", code, ACCOUNT, USER, str(hours)], env=self.env)

    def qos(self, account=ACCOUNT):
        text = self.sacctmgr("--parsable2", "--noheader", "list", "associations", "format=account,qos", "where",
                             f"account={account}")
        return next((line.split("|")[1] for line in text.splitlines() if line.startswith(f"{account}|")), None)


def settled(place, qos):
    """The account has this class of service, and the site has said so."""
    status = place.status()
    return status["site"]["qos_confirmed"] == qos and status["agent_status"] == "confirmed" and status["site"]


def configuration(checks, agent, component, factor):
    """The printed configuration is one that the agent takes."""
    loaded = json.loads(agent.loads())
    checks.equal("the agent's own loader takes the configuration", loaded["backend"], "SlurmBackend")
    names = [loaded["settings"][name] for name in ("qos_default", "qos_downscaled", "qos_paused")]
    checks.equal("with the site's classes of service", names, ["normal", "slowdown", "blocked"])
    checks.equal("with periodic limits", loaded["settings"]["periodic_limits"]["enabled"], True)
    checks.equal("with the component's factor", float(loaded["components"][component]["unit_factor"]), factor)


def emulated(checks, kit, venv, folder, broker):
    """The agent with an emulated SLURM: usage, slowed down, paused, raised, restored."""
    service = Service(kit.binary, os.path.join(folder, "sluice"), site("node", 100), broker.variables())
    slurm = Emulated(venv, os.path.join(folder, "slurm"))
    agent = Agent(venv, service, os.path.join(folder, "agent"), slurm.bin, broker.agent_options(), slurm.variables)
    service.up()
    try:
        configuration(checks, agent, "node", 60.0)
        place = Site(service)
        agent.up("event_process")
        checks.until("the takeover is confirmed", lambda: settled(place, "normal"), within=120)
        slurm.use(105)
        agent.report_once(checks, "usage from sacct slows the account down", lambda: place.shown()["downscaled"])
        checks.until("the account is slowed down in SLURM", slurm.qos, lambda qos: qos == "slowdown")
        checks.until("and that is confirmed", lambda: settled(place, "slowdown"))
        slurm.use(20)
        # The agent says who used it after it has said how much; it is not ended in between.
        agent.report_once(checks, "more usage pauses it",
                          lambda: place.shown()["paused"] and shares(service, place) == [USER])
        checks.until("the account is blocked in SLURM", slurm.qos, lambda qos: qos == "blocked")
        checks.until("and that is confirmed", lambda: settled(place, "blocked"))
        place.set_limit("node", 200, "granted")
        checks.until("a higher limit restores it", slurm.qos, lambda qos: qos == "normal")
        checks.until("and that is confirmed", lambda: settled(place, "normal"))
        checks.until("nothing waits for an answer", place.answered)
        checks.equal("nothing was said that answers nothing", unmatched(service, place), [])
        checks.equal("the shares of users were reported", shares(service, place), [USER])
        further_commands(checks, service, agent, place)
        shipped(checks, service, agent, place)
        if not broker.can_stop and venv == kit.newer():
            forgotten(checks, service, place)
        nowhere(checks, service, agent)
        settled_by_the_next_resource(checks, service, ACCOUNT, RENAMED, "node", slurm.qos)
    finally:
        finish(checks, service, agent)


def identities(service):
    return service.get("/api/marketplace-site-agent-identities/")


def further_commands(checks, service, agent, place):
    """What the agent's package has besides the agent: components are told, limits are read back, and nothing changes."""
    offering = f"/api/marketplace-provider-offerings/{place.offering}/"
    before = (service.get(offering)["components"], place.shown()["limits"])
    said = agent.command("waldur_site_load_components")
    checks.that("the components of the configuration are taken", "already exists" in said and "Unable to" not in said, said[-2000:])
    said = agent.command("waldur_sync_resource_limits")
    checks.that("the limits in SLURM are taken", "Syncing resource limits" in said and "Traceback" not in said
                and "Failed to sync" not in said, said[-2000:])
    checks.equal("neither changes anything", (service.get(offering)["components"], place.shown()["limits"]), before)


def shipped(checks, service, agent, place):
    """The log that the agent ships in its report mode, where its configuration says so."""
    with open(agent.config, "a") as file:
        file.write("\nlog_shipping: {enabled: true, ship_interval_seconds: 10, log_level: INFO}\n")
    lines = f"/api/marketplace-site-agent-logs/?offering_uuid={place.offering}"
    agent.report_once(checks, "the agent's log comes in", lambda: service.get(lines), within=60)
    rows = service.get(lines)
    known = identities(service)[0]
    checks.equal("under its identity", {row["agent_identity_uuid"] for row in rows}, {known["uuid"]})
    checks.equal("whose version is one that is tested", known["compatibility"]["status"], "compatible")


def forgotten(checks, service, place):
    """An agent that was forgotten while it runs: it learns that its queue is gone, and registers it again."""
    service.call("DELETE", f"/api/marketplace-site-agent-identities/{identities(service)[0]['uuid']}/")
    checks.equal("the agent is forgotten", identities(service), [])
    place.set_limit("node", 300, "granted")
    checks.until("it registers its queue again by itself", lambda: identities(service), within=90)
    checks.until("and does what waited for it", place.answered, within=90)


def proxied(checks, kit, venv, folder):
    """The agent behind the sample of a proxy: everything it asks goes through nginx and TLS, its WebSocket too."""
    service = Service(kit.binary, os.path.join(folder, "sluice"), site("node", 100))
    slurm = Emulated(venv, os.path.join(folder, "slurm"))
    nginx = Nginx(os.path.join(folder, "nginx"), service.port)
    agent = Agent(venv, service, os.path.join(folder, "agent"), slurm.bin, (), {**slurm.variables, **nginx.trusted()},
                  nginx.url)
    service.up()
    nginx.up()
    try:
        place = Site(service)
        agent.up("event_process")
        checks.until("the takeover is confirmed", lambda: settled(place, "normal"), within=120)
        place.set_limit("node", 200, "granted")
        checks.until("a higher limit reaches the agent and comes back", place.answered)
        agent.down("event_process")
        checks.until("its WebSocket went through the proxy", lambda: nginx.passed_on("GET /rmqws-stomp", 101))
        policy = str(uuid.UUID(place.policy))
        report = f"POST /api/marketplace-slurm-periodic-usage-policies/{policy}/report-command-result/"
        checks.that("its reports did", nginx.passed_on(report, 200))
        address = Api(nginx.url, nginx.context()).get("/api/marketplace-provider-offerings/")[0]["url"]
        checks.that("addresses in answers are those of the proxy", address.startswith(f"{nginx.url}/api/"), address)
    finally:
        finish(checks, service, agent)
        nginx.down()


def shares(service, place):
    """Who used the account, as the agent has said."""
    rows = service.get(f"/api/marketplace-component-user-usages/?resource_uuid={place.resource}")
    return [row["username"] for row in rows]


def nowhere(checks, service, agent):
    """An account that SLURM does not know: what the agent reports proves nothing, and what is missing is seen all the same."""
    made = service.post(RESOURCES, {"name": "nowhere on hpc1", "slug": "nowhere-hpc1", "offering": "hpc1", "project": "climate",
                                    "backend_id": "hpc_nowhere", "limits": dict(Site(service).shown()["limits"])})
    place = Site(service, resource="nowhere-hpc1")
    checks.until("a message with a reset on an unknown account is answered", lambda: place.status()["agent_status"],
                 lambda status: status in ("failed", "confirmed"), within=120)
    component, limit = next(iter(made["limits"].items()))
    place.set_limit(component, limit * 2, "granted")
    found = checks.until("and so is the next one", place.status, lambda status: status["agent_status"] in ("failed", "confirmed"),
                         within=120)
    site = found["site"]
    # It is told of its class of service, and asked for, from the take-over on.
    checks.that("its class of service is not confirmed", site["qos_confirmed"] is None and site["qos_status"] != "confirmed", site)
    if found["agent_status"] == "confirmed":
        # An emulated SLURM resets what is not there.
        checks.that("which the status says", any("does SLURM know the account" in text for text in site["differences"]),
                    site["differences"])
        whole = service.get(f"/api/marketplace-slurm-periodic-usage-policies/{place.policy}/status/")
        checks.equal("and counts", whole["qos_unknown"], 1)
        checks.that("and so does the command line", "does SLURM know the account" in service.cli("slurm_policy_status"))
    else:
        # The reset that came to nothing goes with each further message.
        newest = next(row for row in place.commands() if row["resource_uuid"] == place.resource)
        checks.that("SLURM's own words say what is missing", "association" in newest["error_message"], newest["error_message"])
    with open(os.path.join(agent.folder, "agent-event_process.log"), errors="replace") as log:
        checks.that("the agent has met \"Nothing modified\"", "Nothing modified" in log.read())


def unmatched(service, place):
    return service.get(f"/api/marketplace-slurm-periodic-usage-policies/{place.policy}/unmatched-results/")


def finish(checks, service, agent):
    """Ends agent and server; where something failed, shows what they said."""
    agent.all_down()
    service.down()
    if checks.failed:
        tail(os.path.join(service.folder, "sluice.log"))
        for mode in ("event_process", "report"):
            tail(os.path.join(agent.folder, f"agent-{mode}.log"), 60)


# A job on all processors takes so many seconds for an hour of CPU.
SECONDS_PER_HOUR = 3600 / (CPUS * NODES)


class TrueRun:
    """The story on a real SLURM.

    Two hours are 100 %, which all processors use up in less than half a minute. The grace is wide, since a busy machine may
    take some seconds to begin and end a job: slowed down from 28 s on, paused from 42 s on.
    """

    LIMIT, HARD = 2, 180
    RAISED, RAISED_HARD = 5, 450

    def __init__(self, checks, kit, version, folder, broker):
        self.checks, self.broker = checks, broker
        # The older agent leaves an account's DefaultQOS where it is, and SLURM then refuses to take that class away.
        self.moves_default = version != kit.environments.older
        self.slurm = Cluster(os.path.join(kit.short, f"slurm-{broker.name}"))
        self.service = Service(kit.binary, os.path.join(folder, "sluice"), site("cpu", self.LIMIT, grace="0.5"), broker.variables())
        self.agent = Agent(kit.environments.agent(version), self.service, os.path.join(folder, "agent"), self.slurm.bin,
                           broker.agent_options())

    def run(self):
        try:
            self.slurm.up()
            self.slurm.lay_out(ACCOUNT, [USER])
            self.service.up()
            self.place = Site(self.service)
            for step in (self.takeover, self.slowed, self.paused, self.restored, self.quarter, self.nothing_lost, self.accounting,
                         self.unknown, self.left):
                print(f" {self.broker.name}: {step.__doc__}", flush=True)
                step()
        finally:
            finish(self.checks, self.service, self.agent)
            self.slurm.down()

    # What is asked again and again

    def account(self, what, qos, limits):
        self.checks.until(what, lambda: self.slurm.account(ACCOUNT), lambda a: (a["qos"], a["limits"]) == (qos, f"cpu={limits}"),
                          within=90)
        self.checks.until("the site says so", lambda: settled(self.place, qos), within=90)
        site = self.place.status()["site"]
        self.checks.equal("and nothing differs from what was meant", (site["qos_expected"], site["differences"]), (qos, []))
        newest = self.place.evaluations()[0]["new_state"]
        flags = {"paused": qos == "blocked", "downscaled": qos in ("slowdown", "blocked")}
        self.checks.equal("the newest evaluation agrees with SLURM", newest, flags)

    def finished(self, job):
        self.checks.until(f"job {job} is over", lambda: self.slurm.job(job)[0], lambda s: s not in ("PENDING", "RUNNING", "COMPLETING"),
                          within=120)

    def all_processors(self, seconds):
        return self.slurm.submit(USER, ACCOUNT, CPUS * NODES, seconds)

    def report(self, what, seen):
        # The record of a job can be incomplete for some seconds; the next report has it then.
        return self.agent.report_once(self.checks, what, seen, within=180)

    def resets(self):
        return self.slurm.modifications(ACCOUNT).count("RawUsage=0")

    # The story

    def takeover(self):
        """the account is taken over"""
        self.slurm.sacctmgr("-i", "add", "user", "mail", f"account={ACCOUNT}")
        if self.moves_default:
            self.slurm.sacctmgr("-i", "modify", "account", ACCOUNT, "set", "defaultqos=normal")
        configuration(self.checks, self.agent, "cpu", 60.0)
        self.agent.up("event_process")
        self.account("limits with grace are set, QoS as it should be", "normal", self.HARD)
        self.checks.equal("fairshare is set", self.slurm.account(ACCOUNT)["fairshare"], 1)
        self.checks.equal("raw usage was reset once", self.resets(), 1)
        self.checks.until("the account's users are those of the site", lambda: self.slurm.users(ACCOUNT),
                          lambda users: users == sorted([OTHER, USER]), within=60)

    def slowed(self):
        """usage from real jobs slows it down"""
        self.finished(self.all_processors(round(SECONDS_PER_HOUR * self.LIMIT) + 1))
        if self.broker.can_stop:
            self.broker.kill()
        seen = lambda: self.place.shown()["downscaled"]
        self.report("a report of 100 % and more slows it down", seen)
        if self.broker.can_stop:
            self.checks.equal("with the broker dead SLURM knows nothing of it", self.slurm.account(ACCOUNT)["qos"], "normal")
            self.broker.up()
        self.account("the account is slowed down in SLURM", "slowdown", self.HARD)

    def paused(self):
        """more usage pauses it while the agent is dead"""
        self.agent.kill("event_process")
        self.finished(self.all_processors(20))
        self.report("a report of 150 % and more pauses it", lambda: self.place.shown()["paused"])
        if self.broker.can_stop:
            self.checks.until("the broker has the messages that nobody reads", lambda: self.place.status()["agent_status"],
                              lambda status: status == "sent")
            self.broker.kill()
            self.broker.up()
        self.agent.up("event_process")
        self.account("the account is blocked in SLURM", "blocked", self.HARD)
        try:
            said = f"took it as job {self.slurm.submit(USER, ACCOUNT, 1, 1)}"
        except RuntimeError as error:
            said = str(error)
        self.checks.that("SLURM refuses a job", "Job violates accounting/QOS policy" in said, said)

    def restored(self):
        """a higher limit restores it, and Sluice is killed right after"""
        self.place.set_limit("cpu", self.RAISED, "granted")
        self.service.kill()
        self.service.up()
        # What the agent could not answer for, as nobody was there, is told again when its time is over.
        self.service.advance(minutes=30)
        self.account("the account is as it was, with the higher limit", "normal", self.RAISED_HARD)
        self.checks.equal("raw usage was not reset for that", self.resets(), 1)
        self.finished(self.all_processors(60))
        self.held = self.slurm.submit(USER, ACCOUNT, 2, 1)
        self.checks.until("a job waits, since the limit is reached", lambda: self.slurm.job(self.held),
                          lambda job: job == ("PENDING", "AssocGrpCPUMinutesLimit"))

    def quarter(self):
        """the quarter turns"""
        before = len(self.service.events("settings_commanded"))
        self.service.advance_to(next_quarter(self.service.start))
        evaluation = self.place.evaluations()[0]
        self.checks.that("the new quarter begins with what was not used", "carried over" in evaluation["explanation"],
                         evaluation["explanation"])
        commanded = self.service.events("settings_commanded")
        self.checks.equal("one message says so", len(commanded) - before, 1)
        limits = commanded[-1]["payload"]["settings"]["limits"]["cpu"]
        self.checks.that("with more than the base", limits > self.RAISED_HARD, limits)
        self.account("limits with carryover are set", "normal", limits)
        self.checks.equal("raw usage was reset once more", self.resets(), 2)
        self.checks.until("and counts from nothing", lambda: self.slurm.counted(ACCOUNT), lambda minutes: minutes < 30)
        self.finished(self.held)
        self.checks.equal("the job that waited has run", self.slurm.job(self.held)[0], "COMPLETED")

    def nothing_lost(self):
        """nothing is lost, and nothing was done twice that must not be"""
        self.checks.until("nothing waits for an answer", self.place.answered)
        resets = [row for row in self.place.commands() if row["command_type"] == "reset_usage"]
        self.checks.equal("two resets were meant and confirmed", [row["success"] for row in resets], [True, True])
        self.checks.equal("two were run", self.resets(), 2)
        self.checks.equal("no allocation was changed by limits that were read back", self.place.shown()["limits"], {"cpu": self.RAISED})
        verbs = [row["new_state"] for row in reversed(self.place.evaluations()) if row["previous_state"] != row["new_state"]]
        states = [("paused" if v["paused"] else "downscaled" if v["downscaled"] else "free") for v in verbs]
        self.checks.equal("the evaluation log tells the story", states, ["downscaled", "paused", "free"])
        set_qos = [m for m in self.slurm.modifications(ACCOUNT) if m.startswith("qos=") and not m.startswith("qos=normal")]
        told = sorted(set(set_qos))
        with_default = lambda qos: f"qos={qos} defaultqos={qos}" if self.moves_default else f"qos={qos}"
        self.checks.equal("the classes of service that were set", told, [with_default("blocked"), with_default("slowdown")])
        if self.moves_default:
            self.checks.equal("and the account's default came back with its class", self.slurm.default_qos(ACCOUNT), "normal")

    def accounting(self):
        """SLURM's own accounting is imported"""
        month = self.service.start.strftime("%Y-%m")
        asked = ["import", "sacct", "--offering", "hpc1", "--month", month, "--sacct", f"{self.slurm.bin}/sacct", "--format", "json"]
        rows = self.slurm.slurm("sacct", "-a", "-D", "-X", "-P", "-n", "-S", f"{month}-01", "-A", ACCOUNT, "-o", "ElapsedRaw,AllocTRES")
        cells = [row.split("|") for row in rows.split() if row.split("|")[1]]
        seconds = sum(int(elapsed) * int(dict(t.split("=") for t in tres.split(","))["cpu"]) for elapsed, tres in cells)
        total = lambda done: [line for line in done["totals"] if line["month"] == month]
        # What a command remarks on standard error comes before its document.
        document = lambda text: json.JSONDecoder().raw_decode(text[text.index("{"):])[0]
        # The agent counts what was asked for, the import what was allocated.
        done = document(self.service.cli(*asked, "--restate"))
        found = float(total(done)[0]["amount"])
        self.checks.that(f"sacct through --month counts {seconds} seconds of CPU", abs(found - seconds / 3600) < 0.000001, found)
        again = document(self.service.cli(*asked))
        self.checks.equal("and the same once more", [line["outcome"] for line in total(again)], ["unchanged"])
        self.checks.equal("with nothing to look at", again["needs_restate"], [])

    def unknown(self):
        """an account that SLURM does not know is seen"""
        nowhere(self.checks, self.service, self.agent)

    def left(self):
        """an account that is left restricted is settled by its next live resource"""
        self.slurm.sacctmgr("-i", "add", "account", RENAMED, f"Description={RENAMED}", "Organization=e2e")
        self.slurm.sacctmgr("-i", "modify", "account", RENAMED, "set", "qos=normal")
        qos = lambda account: self.slurm.account(account)["qos"]
        settled_by_the_next_resource(self.checks, self.service, ACCOUNT, RENAMED, "cpu", qos)
