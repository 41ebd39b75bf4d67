"""Accounts that are left restricted: after the end of a paused resource, and after a rename. No agent can be told to free such an
account; the next live resource on it does."""

from service import RESOURCES, Site

LEFT = "/api/accounts-left-restricted/"


def settled_by_the_next_resource(checks, service, account, other, component, qos):
    """`qos` says which class of service an account has in SLURM; `account` has a live resource, `other` is known to SLURM."""

    def register(slug):
        made = service.post(RESOURCES, {"name": slug, "slug": slug, "offering": "hpc1", "project": "climate", "backend_id": account,
                                        "limits": {component: 50}})
        return made["uuid"]

    def pause(resource, named):
        service.post(f"{RESOURCES}{resource}/holds/", {"kind": "pause", "reason": "an incident"})
        checks.until(f"a hold pauses {named} in SLURM", lambda: qos(account), lambda found: found == "blocked", within=90)
        confirmed(named, "blocked")

    def confirmed(named, expected):
        place = Site(service, resource=named)
        checks.until(f"the site says {expected} of {named}", lambda: place.status()["site"]["qos_confirmed"],
                     lambda found: found == expected, within=90)

    def listed(because, resource):
        found = checks.until(f"the account is listed: {because}", lambda: [row for row in service.get(LEFT) if row["account"] == account],
                             within=30)
        row = found[0]
        checks.equal("with the resource, and why", (row["resource_uuid"], row["because"], row["taken_by"]), (resource, because, None))
        checks.equal("with the command that frees it", row["command"],
                     f"sacctmgr --immediate modify account {account} set qos=normal")
        checks.that("the command line lists it too", account in service.cli("agent", "left-restricted"))
        checks.equal("SLURM still restricts it", qos(account), "blocked")

    def settled(named):
        checks.until(f"{named} frees it in SLURM", lambda: qos(account), lambda found: found == "normal", within=90)
        confirmed(named, "normal")
        checks.until("and it is listed no more", lambda: service.get(LEFT), lambda rows: rows == [], within=30)

    first = next(row["uuid"] for row in service.get(f"{RESOURCES}?page_size=100")
                 if row["backend_id"] == account and row["state"] != "Terminated")
    named = service.get(f"{RESOURCES}{first}/")["slug"]
    pause(first, named)
    service.post(f"{RESOURCES}{first}/terminate/", {"reason": "the project is over"})
    listed("ended", first)
    second = register("second")
    settled("second")

    pause(second, "second")
    service.patch(f"{RESOURCES}{second}/", {"backend_id": other, "reason": "renamed"})
    listed("renamed", second)
    checks.until("the account that it has now is paused", lambda: qos(other), lambda found: found == "blocked", within=90)
    register("third")
    settled("third")
    checks.equal("which leaves the other one as it is", qos(other), "blocked")
