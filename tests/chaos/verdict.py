"""What has to hold when the faults are over: acknowledged = logged = shown = rebuilt."""

import datetime
import json
import time
from decimal import Decimal

from checks import PATIENCE
from faults import logged, set_aside
from place import CLOCK
from wire import call
from world import COMPONENT, POLICY, RESOURCE_IDS, STAFF

POLICIES = f"/api/marketplace-slurm-periodic-usage-policies/{POLICY}/"


def judge(checks, place, load):
    """Judges a service that runs, after its load has ended. The agent goes on until it has been told everything."""
    settle(checks, place, load)
    load.end()
    checks.equal("no answer was one that nothing explains", load.wrong[:5], [])
    events = place.events()
    acknowledged = load.ledger.copy()
    checks.that("acknowledged = logged", acknowledged == logged(events), differences(acknowledged, logged(events)))
    expected, found = last(acknowledged), totals(place)
    checks.that(f"logged = shown: {len(expected)} totals", found == expected, wrong_totals(expected, found))
    evaluations = [event for event in alive(events) if event["type"] == "policy_evaluated.v1"]
    shown = int(place.get(f"{POLICIES}evaluation-logs/?page_size=1").headers["x-result-count"])
    checks.equal("logged = shown: every evaluation", shown, len(evaluations))
    answers = sum(event["type"].startswith("command_result_") for event in alive(events))
    # Of those that stood in a log which an operator replaced by an older one nobody knows the number.
    low, high = 0 if load.counts["older logs"] else load.counts["results acknowledged"], load.counts["results sent"]
    checks.that(f"results of an agent: {low} acknowledged or more, {high} sent or fewer are logged", low <= answers <= high, answers)
    before, head = dump(place), events[-1]["position"]
    again(checks, place, "rebuilt", "rebuild", before, head)
    again(checks, place, "made again from nothing", "discard", before, head)
    status, said = place.cli("store", "verify")
    checks.that("every event of the log is what was committed to", status == 0, said)
    return len(events)


def alive(events):
    aside = set_aside(events)
    return [event for event in events if event["position"] not in aside]


def settle(checks, place, load):
    """Lets time pass, with the agent there, until it has been told everything and has said so. What it died over is sent again
    when nobody answered in time. What was given up, since weeks passed on the simulated clock before the agent could say a
    word, an operator has sent again."""
    for _ in range(12):
        until_idle(place)
        if not waiting(place):
            break
        letters = place.get("/api/dead-letters/?page_size=1").headers["x-result-count"]
        if letters != "0":
            load.counts["dead letters that an operator had sent again"] += int(letters)
            status, said = place.cli("agent", "resend", "--all")
            checks.that("dead letters are sent again", status == 0, said)
            continue
        to = place.now + datetime.timedelta(minutes=16)
        call(place.port, "PUT", CLOCK, {"now": to.isoformat()}, STAFF, timeout=60 * PATIENCE)
        place.read_clock()
    checks.until("the agent was told everything, and has said so", lambda: waiting(place), lambda left: left == [], within=30)
    newest = newest_settings(place.events())
    missing = [stream for stream, dispatch in newest.items() if dispatch not in load.agent.received]
    checks.equal("the newest settings of every resource reached the agent", missing, [])
    ready = checks.until("the service is ready", place.ready, lambda ready: ready.get("status") == "ready", within=60)
    checks.equal("no read model is behind", [c for c in ready.get("consumers", []) if c["lag"] or c["stalled"]], [])


def until_idle(place):
    """A moment for what the jump of the clock set off to reach the agent."""
    end = time.monotonic() + 3
    while time.monotonic() < end and waiting(place):
        time.sleep(0.1)


def waiting(place):
    """Resources whose newest settings, or class of service, the agent has not confirmed."""
    standing = [(row["resource_name"], row["agent_status"], row["site"]["qos_status"]) for row in resources(place)]
    return [one for one in standing if one[1:] != ("confirmed", "confirmed")]


def resources(place):
    """Every resource in the policy's status."""
    rows = place.get(f"{POLICIES}status/?page_size=100").json()["resources"]
    if len(rows) != len(RESOURCE_IDS):
        raise RuntimeError(f"{len(rows)} of {len(RESOURCE_IDS)} resources are shown")
    return rows


def newest_settings(events):
    """The dispatch of the newest settings of each resource."""
    newest = {}
    for event in alive(events):
        if event["type"].startswith("settings_commanded."):
            newest[event["stream"].split("-")[1]] = json.loads(event["payload"])["dispatch"]
    return newest


def last(entries):
    """The total that stands of each resource and month."""
    return {(RESOURCE_IDS[n], month): amount for n, of in enumerate(entries) for month, amount in of}


def totals(place):
    rows = place.pages("/api/marketplace-component-usages/")
    return {(row["resource_uuid"], row["billing_period"][:7]): Decimal(str(row["usage"])).normalize()
            for row in rows if row["type"] == COMPONENT}


def wrong_totals(expected, shown):
    wrong = [key for key in {*expected, *shown} if expected.get(key) != shown.get(key)]
    return f"{len(wrong)} differ: " + "; ".join(f"{key}: {shown.get(key)} is shown, {expected.get(key)} was acknowledged"
                                               for key in wrong[:5])


def differences(acknowledged, found):
    said = []
    for number, (ours, theirs) in enumerate(zip(acknowledged, found)):
        if ours != theirs:
            lost = [entry for entry in ours if entry not in theirs]
            more = [entry for entry in theirs if entry not in ours]
            said.append(f"r{number}: {len(ours)} acknowledged, {len(theirs)} logged; lost {lost[:3]}, unknown {more[:3]}")
    return "; ".join(said)


def dump(place):
    """Everything that is shown."""
    return {
        "usage": place.pages("/api/marketplace-component-usages/"),
        "evaluations": place.pages(f"{POLICIES}evaluation-logs/"),
        "commands": place.pages(f"{POLICIES}command-history/"),
        "resources": place.pages("/api/marketplace-provider-resources/"),
        "status": resources(place),
    }


def again(checks, place, what, how, before, head):
    """Has the read models made again with the service stopped, and compares what is shown."""
    place.stop()
    status, said = place.cli("projections", how)
    checks.that(f"projections {how}", status == 0, said)
    place.start()
    checks.until(f"the service is ready: {what}", place.ready, lambda ready: ready.get("status") == "ready", within=60)
    after = dump(place)
    for name, rows in before.items():
        checks.that(f"shown = {what}: {len(rows)} rows of {name}", after[name] == rows, first_difference(rows, after[name]))
    checks.equal(f"nothing was recorded by it: {what}", place.events()[-1]["position"], head)


def first_difference(before, after):
    if len(before) != len(after):
        return f"{len(before)} rows before, {len(after)} after"
    for one, other in zip(before, after):
        if one != other:
            return {key: (one.get(key), other.get(key)) for key in one if one.get(key) != other.get(key)}
    return ""
