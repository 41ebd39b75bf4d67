"""The load: a reporter for each resource, who repeats a total until it is acknowledged, and a site agent.

What each of them says is drawn from the seed. When it is said depends on the machine, as it does in life.
"""

import contextlib
import json
import random
import threading
from collections import Counter
from decimal import Decimal

from wire import Gone, Stomp, call
from world import AGENT, COMPONENT, OFFERING, POLICY, RESOURCE_IDS

SET_USAGE = "/api/marketplace-component-usages/set_usage/"
RESULT = f"/api/marketplace-slurm-periodic-usage-policies/{POLICY}/report-command-result/"
IDENTITIES = "/api/marketplace-site-agent-identities/"
RESOURCES = "/api/marketplace-provider-resources/"

# Answers after which the same report is sent again: busy, not available, too fast.
AGAIN = (409, 429, 503)


class Ledger:
    """Every total that was acknowledged, by resource, in order: (month, amount)."""

    def __init__(self):
        self.lock = threading.Lock()
        self.acknowledged = [[] for _ in RESOURCE_IDS]
        self.known = [set() for _ in RESOURCE_IDS]
        self.set_aside = []

    def put(self, resource, entry):
        with self.lock:
            # What was acknowledged for an older log, and is in the one that was put back, is there already.
            if entry not in self.known[resource]:
                self.known[resource].add(entry)
                self.acknowledged[resource].append(entry)

    def remove(self, resource, entry):
        with self.lock:
            if entry in self.known[resource]:
                self.known[resource].remove(entry)
                self.acknowledged[resource].remove(entry)
            self.set_aside.append((resource, entry))

    def replace(self, logged):
        with self.lock:
            self.acknowledged = [list(entries) for entries in logged]
            self.known = [set(entries) for entries in logged]

    def copy(self):
        with self.lock:
            return [list(entries) for entries in self.acknowledged]

    def count(self):
        with self.lock:
            return sum(len(entries) for entries in self.acknowledged)


class Worker(threading.Thread):
    """Somebody who goes on until told to stop, and stands still while the load is held."""

    def __init__(self, load, name):
        super().__init__(name=name, daemon=True)
        self.load = load
        self.turn = threading.Lock()
        self.random = random.Random(f"{load.seed}/{name}")

    def rest(self, most):
        self.load.stopping.wait(self.random.uniform(0, most))


class Reporter(Worker):
    """Reports totals of one resource, each until it is acknowledged."""

    def __init__(self, load, number):
        super().__init__(load, f"reporter {number}")
        self.number = number
        self.said = set()

    def amount(self):
        while True:
            amount = (Decimal(self.random.randrange(1, 14_000_000)) / 10_000).normalize()
            if amount not in self.said:
                self.said.add(amount)
                return amount

    def run(self):
        while not self.load.stopping.is_set():
            amount = self.amount()
            month = None
            while True:
                with self.turn:
                    # The month in which it was said first: the same report later is the same report.
                    month = month or self.load.place.month()
                    if self.attempt(month, amount):
                        break
                self.rest(0.2)
            self.rest(0.1)

    def attempt(self, month, amount):
        body = {"usages": [{"type": COMPONENT, "amount": f"{amount:f}"}], "resource": RESOURCE_IDS[self.number],
                "date": f"{month}-01"}
        answer = call(self.load.place.port, "POST", SET_USAGE, body, AGENT)
        if answer is not None and answer.status == 201:
            self.load.ledger.put(self.number, (month, amount))
            self.load.counts["reports acknowledged"] += 1
            return True
        self.load.refused(answer, f"set_usage {body}")
        return False


class SiteAgent(Worker):
    """Reads its queue, does what it is told, and says so. It dies over some messages, before or after it has taken them."""

    def __init__(self, load):
        super().__init__(load, "agent")
        self.stomp = None
        self.received = set()

    def run(self):
        while not self.load.finished.is_set():
            try:
                queue = self.register()
                if queue is not None:
                    self.listen(queue)
            except Gone:
                pass
            self.load.finished.wait(self.random.uniform(0, 0.3))

    def register(self):
        port = self.load.place.port
        identity = call(port, "POST", IDENTITIES, {"offering": OFFERING, "name": "chaos"}, AGENT)
        if identity is None or identity.status != 201:
            return None
        path = f"{IDENTITIES}{identity.json()['uuid']}/register_queue/"
        queue = call(port, "POST", path, {}, AGENT)
        return queue.json() if queue is not None and queue.status in (200, 201) else None

    def listen(self, queue):
        self.stomp = Stomp(self.load.place.port, queue["vhost"], queue["rmq_username"], AGENT, timeout=None)
        self.stomp.send("SUBSCRIBE", {"id": "0", "ack": "client-individual",
                                      "destination": f"/amq/queue/{queue['queue_name']}"})
        self.load.counts["agent connected"] += 1
        while not self.load.finished.is_set():
            command, headers, body = self.stomp.frame()
            if command == "MESSAGE":
                with self.turn:
                    self.take(headers, json.loads(body))

    def take(self, headers, message):
        self.load.counts["messages received"] += 1
        self.load.place.note(f"agent: {headers['message-id']} {message['object_type']} {message['resource_uuid']}")
        dies = not self.load.stopping.is_set() and self.random.random()
        if dies and dies < 0.05:
            self.load.counts["agent died before it took a message"] += 1
            self.stomp.break_off()
            raise Gone("died")
        if message["object_type"] == "resource_periodic_limits":
            self.received.add(message["dispatch_uuid"])
        self.stomp.send("ACK", {"id": headers["ack"]})
        if dies and dies < 0.1:
            self.load.counts["agent died before it answered"] += 1
            self.stomp.break_off()
            raise Gone("died")
        self.answer(message)

    def answer(self, message):
        resource = message["resource_uuid"]
        if message["object_type"] == "resource":
            qos = "blocked" if message["paused"] else "slowdown" if message["downscaled"] else "normal"
            what, path, body = "classes of service", f"{RESOURCES}{resource}/set_backend_metadata/", {"backend_metadata": {"qos": qos}}
        else:
            reset = message["settings"].get("reset_raw_usage")
            ran = [f"sacctmgr --immediate modify account {message['backend_id']} set RawUsage=0"] if reset else []
            what, path, body = "results", RESULT, {"resource_uuid": resource, "success": True, "commands_executed": ran,
                                  "dispatch_uuid": message["dispatch_uuid"]}
        self.load.counts[f"{what} sent"] += 1
        # An agent says it once, whatever is answered.
        answer = call(self.load.place.port, "POST", path, body, AGENT)
        if answer is not None and answer.status == 200:
            self.load.counts[f"{what} acknowledged"] += 1
        else:
            self.load.place.note(f"agent: not taken: {path} {answer and answer.status}")
            self.load.refused(answer, f"{path} {body}")

    def cut(self):
        if self.stomp is not None:
            self.stomp.break_off()


class Load:
    """Everybody who asks something of the service."""

    def __init__(self, place, seed):
        self.place = place
        self.seed = seed
        self.ledger = Ledger()
        self.counts = Counter()
        self.wrong = []
        # An event of the log cannot be relied on just now, so a report on its resource may be answered 500.
        self.damaged = False
        self.stopping = threading.Event()
        self.finished = threading.Event()
        self.agent = SiteAgent(self)
        self.reporters = [Reporter(self, number) for number in range(len(RESOURCE_IDS))]

    def start(self):
        for worker in [self.agent, *self.reporters]:
            worker.start()

    def refused(self, answer, what):
        """Counts an answer that is none of those wanted; one that nothing explains is a failure of the run."""
        if answer is None:
            self.counts["requests without an answer"] += 1
        elif answer.status in AGAIN:
            self.counts[f"answers {answer.status}"] += 1
        elif answer.status == 500 and self.damaged and "cannot be read" in answer.text:
            self.counts["answers 500 that name a damaged event"] += 1
        else:
            self.wrong.append(f"{answer.status} {answer.text[:300]} to {what[:300]}")

    @contextlib.contextmanager
    def held(self):
        """Nobody is in the middle of anything: what was sent was answered, or is not known to anybody."""
        with contextlib.ExitStack() as stack:
            for worker in [self.agent, *self.reporters]:
                stack.enter_context(worker.turn)
            yield

    def quiet(self):
        """Reporters end, each with its last total acknowledged. The agent goes on."""
        self.stopping.set()
        for reporter in self.reporters:
            reporter.join(120)
        return not any(reporter.is_alive() for reporter in self.reporters)

    def end(self):
        self.stopping.set()
        self.finished.set()
        self.agent.cut()
        self.agent.join(30)


def entry_of(payload, component):
    """What a stored report says: (month, amount)."""
    report = json.loads(payload)
    amount = report["amounts"][component]["amount"]
    return report["month"], Decimal(amount).normalize()
