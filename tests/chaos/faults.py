"""What is done to the service, one fault at a time, under load. After each of them the load has to go on."""

import datetime
import json
import os
import re
import signal
import time
from collections import Counter

from checks import PATIENCE
from load import entry_of
from place import CLOCK, Died
from wire import call
from world import COMPONENT, RESOURCE_IDS, STAFF

# How often each fault comes in one deal; a deal is shuffled, and then the next one is dealt.
DECK = {
    "kill": 4, "kill_while_it_starts": 1, "stop": 1, "freeze": 2, "cut_the_agent": 2, "move_the_clock": 2,
    "spoil_the_read_models": 2, "spoil_the_log": 2, "rebuild": 1, "fill_the_disk": 1, "put_an_older_log_back": 1,
    "cut_the_database": 2, "crash_the_database": 1,
}

# Events that may be spoilt: what somebody reported, what was decided, what became of messages. Without the first event of
# its stream a stream cannot be read, which only a backup helps against.
SPOILT = ("usage_reported.v1", "policy_evaluated.v1", "restriction_changed.v1", "settings_commanded.v2",
          "stomp_message_sent.v1", "command_result_reported.v1", "qos_confirmed.v1")


class Stuck(Exception):
    """Something that has to hold after a fault does not."""


class Faults:
    """The faults of one run, and how often each happened."""

    def __init__(self, place, load, random):
        self.place = place
        self.load = load
        self.random = random
        self.counts = Counter()
        self.notes = Counter()
        self.dealt = []
        self.passed_over = []

    def possible(self, name):
        if name in ("cut_the_database", "crash_the_database"):
            return self.place.engine == "postgres"
        if name == "put_an_older_log_back":
            return self.place.engine == "sqlite"
        if name == "fill_the_disk":
            return self.place.mounted
        return True

    def next(self):
        if not self.dealt:
            self.dealt = [name for name, times in DECK.items() for _ in range(times)]
            self.random.shuffle(self.dealt)
        name = self.dealt.pop()
        if not self.possible(name):
            return None
        return name

    def do(self, name):
        getattr(self, name)()
        self.counts[name] += 1
        self.progress(20)

    def progress(self, reports, within=60):
        """So many further reports are acknowledged."""
        wanted = self.load.counts["reports acknowledged"] + reports
        end = time.monotonic() + within * PATIENCE
        while self.load.counts["reports acknowledged"] < wanted:
            if not self.place.alive():
                raise Died(f"the service ended by itself:\n{self.place.said()[-3000:]}")
            if time.monotonic() > end:
                raise Stuck(f"no {reports} reports were acknowledged within {within * PATIENCE} s; ready: "
                            f"{self.place.ready()}; {dict(self.load.counts)}")
            time.sleep(0.02)

    def until(self, what, holds, within=60):
        end = time.monotonic() + within * PATIENCE
        while True:
            found = holds()
            if found:
                return found
            if time.monotonic() > end:
                raise Stuck(f"{what}: not within {within * PATIENCE} s; ready: {self.place.ready()}")
            time.sleep(0.05)

    def pause(self, least, most):
        time.sleep(self.random.uniform(least, most))

    # --- the process ---

    def kill(self):
        """kill -9, under load."""
        self.place.kill()
        self.place.start()

    def kill_while_it_starts(self):
        """kill -9 again and again before it has come up."""
        self.place.kill()
        for _ in range(self.random.randrange(2, 5)):
            self.place.begin()
            self.pause(0, 0.4)
            self.place.kill()
        self.place.start()

    def stop(self):
        """SIGTERM: what has begun is finished."""
        status = self.place.stop()
        if status != 0:
            raise Stuck(f"asked to end, the service ended with status {status}")
        self.place.start()

    def freeze(self):
        """SIGSTOP, on PostgreSQL past the lease of the process, and SIGCONT."""
        self.place.signal(signal.SIGSTOP)
        self.pause(0.2, 4)
        self.place.signal(signal.SIGCONT)

    def cut_the_agent(self):
        """The agent's connection is reset."""
        for _ in range(self.random.randrange(1, 4)):
            self.load.agent.cut()
            self.pause(0, 0.3)

    # --- time ---

    def move_the_clock(self):
        """The simulated clock jumps ahead, by minutes or into other months; back it never goes. The call answers when
        everything that was due on the way is done and shown, so nobody adds to it meanwhile."""
        now = self.place.now
        by = self.random.choice([dict(minutes=self.random.randrange(1, 60)), dict(hours=self.random.randrange(1, 48)),
                                 dict(days=self.random.randrange(1, 12)), dict(days=self.random.randrange(20, 40))])
        to = now + datetime.timedelta(**by)
        put = lambda instant: call(self.place.port, "PUT", CLOCK, {"now": instant.isoformat()}, STAFF, timeout=120 * PATIENCE)
        with self.load.held():
            moved = put(to)
        if moved is None or moved.status != 200:
            raise Stuck(f"the clock cannot be moved to {to}: {moved and (moved.status, moved.text[:500])}")
        back = put(now)
        if back is None or back.status != 400:
            raise Stuck(f"the clock goes back to {now}: {back and (back.status, back.text[:500])}")
        self.place.read_clock()

    # --- what is made from the log ---

    def spoil_the_read_models(self):
        """The service is killed, and its read models are damaged in one of several ways."""
        self.place.kill()
        name, deed = self.random.choice(sorted(self.place.harms().items()))
        with self.load.held():
            deed(self.random)
        since = self.place.said_so_far()
        ready = self.place.start()
        remade = "they are made again from the log" in self.place.said(since)
        self.notes[f"read models {name}: {'made again' if remade else 'not noticed' if name != 'removed' else 'made'}"] += 1
        if not remade and name != "removed":
            # As the manual says of a change that leaves the file well-formed.
            self.rebuild()
        self.until("read models that were made again are up to date", lambda: self.caught_up(ready))

    def caught_up(self, _):
        ready = self.place.ready()
        return ready.get("status") in ("ready", "degraded") and all(c["lag"] < 1_000 for c in ready["consumers"])

    def rebuild(self):
        """The read models are made again beside the running service."""
        for _ in range(3):
            status, said = self.place.cli("projections", "rebuild")
            if status == 0:
                return
            # On a busy machine PostgreSQL ends a transaction that rests too long; the old tables are still there.
            self.notes["rebuilds that were tried again"] += 1
        raise Stuck(f"projections rebuild: {status} {said}")

    def discard(self):
        """The read models are thrown away."""
        status, said = self.place.cli("projections", "discard")
        if status != 0:
            raise Stuck(f"projections discard: {status} {said}")

    # --- the log ---

    def spoil_the_log(self):
        """One byte of an event is changed, or its end is cut off. It has to be named, and set aside by a recorded act."""
        self.place.kill()
        with self.load.held():
            event, payload = self.victim()
            if event is None:
                self.place.start()
                return
            self.place.rewrite(event["position"], payload)
        self.load.damaged = True
        ready = self.place.start()
        position = str(event["position"])
        named = [unsound["position"] for unsound in ready.get("unsound_events", [])]
        self.notes[f"damaged event {'named by readiness at the start' if position in named else 'not among the sample of a start'}"] += 1
        status, said = self.place.cli("store", "verify")
        if status != 1 or not re.search(rf"position {position}\b", said):
            raise Stuck(f"store verify does not name position {position}: {status} {said}")
        status, said = self.place.cli("store", "quarantine", "--position", position, "--reason", "spoilt by the test")
        if status != 0:
            raise Stuck(f"store quarantine: {status} {said}")
        with self.load.held():
            self.forget(event)
        self.until("an event that was set aside keeps nobody back", self.sound)
        if "projections discard" in said:
            self.place.stop()
            self.discard()
            self.place.start()
        else:
            self.rebuild()
        self.load.damaged = False
        status, said = self.place.cli("store", "verify")
        if status != 0:
            raise Stuck(f"store verify after the event was set aside: {status} {said}")

    def sound(self):
        ready = self.place.ready()
        return ready.get("status") == "ready" or ready.get("status") == "degraded" and not ready.get("unsound_events")

    def victim(self):
        events = self.place.events()
        aside = set_aside(events)
        possible = [event for event in events if event["type"] in SPOILT and event["version"] > 1
                    and event["position"] not in aside]
        if not possible:
            return None, None
        # Each type as often as the next: of some there are few.
        kind = self.random.choice(sorted({event["type"] for event in possible}))
        event = self.random.choice([event for event in possible if event["type"] == kind])
        self.notes[f"damaged events of the type {kind}"] += 1
        payload = event["payload"]
        if self.random.random() < 0.5:
            self.notes["events cut off"] += 1
            return event, payload[:self.random.randrange(1, len(payload))]
        self.notes["events with a digit changed"] += 1
        places = [place for place, byte in enumerate(payload) if byte.isdigit()]
        place = self.random.choice(places)
        return event, payload[:place] + str((int(payload[place]) + 1) % 10) + payload[place + 1:]

    def forget(self, event):
        for resource, entry in reports([event]):
            self.load.ledger.remove(resource, entry)

    def put_an_older_log_back(self):
        """A backup is made under load, and put back beside newer read models after more was recorded."""
        before = self.load.ledger.copy()
        backup = os.path.join(self.place.folder, f"backup-{self.counts['put_an_older_log_back']}")
        status, said = self.place.cli("backup", backup)
        if status != 0:
            raise Stuck(f"backup: {status} {said}")
        self.progress(20)
        self.place.kill()
        with self.load.held():
            acknowledged = self.load.ledger.copy()
            status, said = self.place.put_back(backup)
            if status != 0:
                raise Stuck(f"restore: {status} {said}")
            there = logged(self.place.events())
            for resource, (first, found, all_) in enumerate(zip(before, there, acknowledged)):
                if found[:len(first)] != first:
                    raise Stuck(f"the backup lacks what was acknowledged before it was made, of r{resource}")
                if found[:len(all_)] != all_[:len(found)]:
                    raise Stuck(f"the backup has other reports than were acknowledged, of r{resource}")
            lost = sum(map(len, acknowledged)) - sum(map(len, there))
            self.notes["reports that went with the newer log, as an operator decided"] += max(lost, 0)
            self.load.ledger.replace(there)
        since = self.place.said_so_far()
        self.place.start()
        if "they are made again from the log" not in self.place.said(since):
            raise Stuck("read models newer than the log were taken for its own")

    # --- what it rests on ---

    def fill_the_disk(self):
        """The disk is full for some time."""
        refused = self.load.counts["answers 503"] + self.load.counts["requests without an answer"]
        ballast = self.place.fill()
        end = time.monotonic() + 10
        while time.monotonic() < end:
            if self.load.counts["answers 503"] + self.load.counts["requests without an answer"] > refused:
                self.notes["full disks that refused reports"] += 1
                self.notes[f"readiness on a full disk: {self.place.ready().get('status', 'no answer')}"] += 1
                break
            time.sleep(0.05)
        self.pause(0.5, 2)
        os.remove(ballast)
        if self.place.engine == "postgres" and not self.place.server.alive():
            # Its server ended over it.
            self.notes["PostgreSQL ended over a full disk"] += 1
            self.place.server_up()

    def cut_the_database(self):
        """Every connection to the database ends."""
        self.place.cut()

    def crash_the_database(self):
        """The database ends as at a crash, and comes back after a while."""
        self.place.server_down()
        self.pause(0.1, 3)
        self.place.server_up()


def set_aside(events):
    """Positions that were set aside."""
    return {int(json.loads(event["payload"])["position"].split("-")[0], 16) for event in events if event["type"] == "event_set_aside.v1"}


def reports(events):
    """Which resource each report is of, and its month and amount."""
    for event in events:
        if event["type"] == "usage_reported.v1":
            yield RESOURCE_IDS.index(event["stream"].split("-")[1]), entry_of(event["payload"], COMPONENT)


def logged(events):
    """Every report that stands in the log and was not set aside, by resource, in order."""
    aside = set_aside(events)
    found = [[] for _ in RESOURCE_IDS]
    for resource, entry in reports(event for event in events if event["position"] not in aside):
        found[resource].append(entry)
    return found
