"""The real Python client of Waldur's API through every endpoint of SLURM policies, and what else its users call here. Runs in
the client's own environment.

What is checked is that the client takes each answer as it is (status and model), and that the answer says what was asked for.
Usage: client.py URL TOKEN OFFERING RESOURCE COMPONENT
"""

import importlib
import json
import sys
import uuid

from waldur_api_client import AuthenticatedClient, models
from waldur_api_client.errors import UnexpectedStatus

from checks import Checks

checks = Checks()
url, token, offering, resource, component = sys.argv[1:6]
offering, resource = uuid.UUID(offering), uuid.UUID(resource)
client = AuthenticatedClient(base_url=url, token=token, timeout=30)
stranger = AuthenticatedClient(base_url=url, token="nobody0nobody0nobody0nobody0", timeout=30)
FAMILY = "marketplace_slurm_periodic_usage_policies"


def call(name, how="sync", using=client, family=FAMILY, **arguments):
    module = importlib.import_module(f"waldur_api_client.api.{family}.{family}_{name}")
    return getattr(module, how)(client=using, **arguments)


def taken(what, ask, holds=lambda answer: True):
    """The client takes the answer, and it holds what it should."""
    try:
        answer = ask()
    except Exception as error:
        checks.that(what, False, f"{type(error).__name__}: {error}"[:400])
        return None
    try:
        checks.that(what, holds(answer), repr(answer)[:400])
    except Exception as error:
        checks.that(what, False, f"{type(error).__name__}: {error}; {answer!r}"[:400])
    return answer


def refused(what, ask, status, key):
    """Refused with this status, in the form of Django REST framework."""
    try:
        answer = ask()
    except UnexpectedStatus as error:
        body = json.loads(error.content)
        checks.that(what, error.status_code == status and key in body, f"{error.status_code} {body}")
    else:
        checks.that(what, False, f"not refused: {answer!r}"[:400])


class Sent:
    """A body that the client's own models would not make."""

    def __init__(self, body):
        self.body = body

    def to_dict(self):
        return self.body


def wanted(**more):
    return models.SlurmPeriodicUsagePolicyRequest(
        scope=f"{url}/api/marketplace-provider-offerings/{offering.hex}/", apply_to_all=True, period=models.PolicyPeriodEnum.VALUE_3,
        actions="notify_organization_owners,request_slurm_resource_downscaling,request_slurm_resource_pausing",
        component_limits_set=[models.NestedOfferingComponentLimitRequest(type_=component, limit=500)], **more)


def everywhere():
    actions = taken("the actions", lambda: call("actions_retrieve"), lambda found: len(found) == 5)
    taken("their count", lambda: call("actions_count"), lambda count: count == len(actions))
    before = taken("the count before", lambda: call("count", scope_uuid=offering))
    made = taken("a policy is made", lambda: call("create", body=wanted(grace_ratio=0.25, carryover_factor=50)),
                 lambda p: p.grace_ratio == 0.25 and p.scope_uuid == offering and p.has_fired is False and p.warnings is not None)
    if made is None:
        return
    one = {"uuid": made.uuid}
    taken("the count after", lambda: call("count", scope_uuid=offering), lambda count: count == before + 1)
    taken("the list of the offering", lambda: call("list", scope_uuid=offering), lambda found: made.uuid in [p.uuid for p in found])
    taken("all pages of the list", lambda: call("list", how="sync_all"), lambda found: made.uuid in [p.uuid for p in found])
    taken("the policy by a dashed id", lambda: call("retrieve", **one), lambda p: p.uuid == made.uuid)
    taken("the policy by a plain id", lambda: call("retrieve", uuid=made.uuid.hex), lambda p: p.uuid == made.uuid)
    taken("a change of one parameter", lambda: call("partial_update", **one, body=models.PatchedSlurmPeriodicUsagePolicyRequest(
        grace_ratio=0.3)), lambda p: p.grace_ratio == 0.3 and p.carryover_factor == 50)
    taken("a change of everything", lambda: call("update", **one, body=wanted(grace_ratio=0.1)), lambda p: p.grace_ratio == 0.1)
    body = models.SlurmPolicyEvaluateRequestRequest
    for name in ("dry_run", "evaluate", "force_period_reset"):
        taken(f"{name} on all resources", lambda: call(name, **one, body=body()), lambda answer: answer.policy_uuid == made.uuid)
    for name in ("dry_run", "evaluate"):
        taken(f"{name} on one resource", lambda: call(name, **one, body=body(resource_uuid=resource)),
              lambda answer: [r.resource_uuid for r in answer.resources] == [resource])
    taken("the evaluation log", lambda: call("evaluation_logs_list", **one), lambda rows: rows[0].resource_uuid is not None)
    taken("all of it", lambda: call("evaluation_logs_list", how="sync_all", **one), lambda rows: len(rows) >= 2)
    history = taken("the command history", lambda: call("command_history_list", **one), lambda rows: isinstance(rows, list))
    taken("all of it", lambda: call("command_history_list", how="sync_all", **one), lambda rows: len(rows) >= len(history))
    result = models.SlurmCommandResultRequest
    report = lambda **said: call("report_command_result", how="sync_detailed", **one, body=result(resource_uuid=resource, **said))
    taken("a report of success", lambda: report(success=True, commands_executed=["sacctmgr modify account x set fairshare=1"]),
          lambda answer: answer.status_code == 200)
    taken("a report of failure on an emulator", lambda: report(
        success=False, error_message="boom", mode=models.SlurmCommandResultModeEnum.EMULATOR),
        lambda answer: answer.status_code == 200)
    taken("the evaluation log after reports", lambda: call("evaluation_logs_list", **one), lambda rows: len(rows) >= 1)
    refused("a report on a resource that is none", lambda: call("report_command_result", how="sync_detailed", **one, body=result(
        resource_uuid=uuid.uuid4(), success=True)), 400, "resource_uuid")
    preview = models.SlurmPolicyPreviewRequestRequest
    taken("a preview on numbers", lambda: call("preview_impact", body=preview(
        allocation=1000.0, previous_usage=400.0, carryover_factor=50, current_usage=1100.0, daily_usage_rate=10.0, grace_ratio=0.2)),
        lambda p: p.carryover.total_allocation == 1500 and p.thresholds.slowdown_threshold == 1500)
    taken("a preview on nothing", lambda: call("preview_impact", body=preview()), lambda p: p.base_allocation == 1000)
    taken("a preview on a resource", lambda: call("preview_impact", body=preview(resource_uuid=resource)),
          lambda p: p.base_allocation > 0)
    taken("which has what is enforced beside it", lambda: call("preview_impact", body=preview(resource_uuid=resource)).to_dict(),
          lambda p: p["enforcement"]["policy_uuid"] == made.uuid.hex and p["enforcement"]["grace_ratio"] == 0.1
          and {"field": "grace_ratio", "previewed": 0.2, "enforced": 0.1} in p["differences"])
    refused("an empty policy", lambda: call("create", body=Sent({})), 400, "scope")
    refused("a token that is none", lambda: call("list", using=stranger), 401, "detail")
    refused("a policy that is none", lambda: call("retrieve", uuid=uuid.uuid4()), 404, "detail")
    taken("the policy goes", lambda: call("destroy", how="sync_detailed", **one), lambda answer: answer.status_code == 204)
    refused("and is gone", lambda: call("retrieve", **one), 404, "detail")
    for kind in ("policy_created", "policy_updated", "policy_deleted"):
        taken(f"the feed has {kind}", lambda: call("list", family="events", event_type=[kind]),
              lambda found: found and {(e.event_type, e.context["policy_uuid"]) for e in found} == {(kind, made.uuid.hex)})


def around():
    """What agents and their commands read through the same client."""
    def rows(name, **arguments):
        # In 8.1.4rc3 these two operations know no status at all, and raise whatever they are answered.
        try:
            return json.loads(call(name, how="sync_detailed", family="marketplace_resources", **arguments).content)
        except UnexpectedStatus as error:
            if error.status_code != 200:
                raise
            return json.loads(error.content)
    found = taken("the resources of the offering", lambda: rows("list", offering_uuid=[offering], state=list(models.ResourceState)),
                  lambda found: resource.hex in [row["uuid"] for row in found])
    taken("their count", lambda: call("count", how="sync_detailed", family="marketplace_resources"),
          lambda answer: answer.headers["x-result-count"] == str(len(found)))
    taken("one of them", lambda: rows("retrieve", uuid=resource), lambda row: row["uuid"] == resource.hex)
    identities = "marketplace_site_agent_identities"
    agent = taken("an agent registers", lambda: call("create", family=identities, body=models.AgentIdentityRequest(
        offering=offering, name="a-client", version="1.0.8rc12")), lambda a: a.compatibility.status.value == "compatible")
    if agent is None:
        return
    taken("agents are listed", lambda: call("list", how="sync_all", family=identities), lambda rows: agent.uuid in [a.uuid for a in rows])
    line = models.SiteAgentLogCreateRequest(agent_identity_uuid=agent.uuid, timestamp=1.5, level=models.LevelEnum.ERROR,
                                            message="it failed", module="client")
    logs = "marketplace_site_agent_logs"
    taken("a line of a log", lambda: call("create", family=logs, body=[line]), lambda rows: rows[0].offering_uuid == offering)
    taken("lines of logs", lambda: call("list", family=logs, agent_identity_uuid=agent.uuid, level="ERROR"),
          lambda rows: [(row.message, row.timestamp) for row in rows] == [("it failed", 1.5)])
    offerings = "marketplace_provider_offerings"
    known = taken("the offering's components", lambda: call("retrieve", family=offerings, uuid=offering),
                  lambda o: o.components[0].type_ == component).components[0]
    taken("a component is changed", lambda: call(
        "update_offering_component", how="sync_detailed", family=offerings, uuid=offering,
        body=models.UpdateOfferingComponentRequest(uuid=known.uuid, billing_type=known.billing_type, type_=component, name="Nodes")),
        lambda answer: answer.status_code == 200)
    taken("which shows", lambda: call("retrieve", family=offerings, uuid=offering), lambda o: o.components[0].name == "Nodes")
    if hasattr(models, "EventConsumerWebhookRequest"):
        webhooks()
    taken("the agent goes", lambda: call("destroy", how="sync_detailed", family=identities, uuid=agent.uuid),
          lambda answer: answer.status_code == 204)


def webhooks():
    """Webhook consumers, which the newer client knows."""
    consumers = "event_consumers"
    made = taken("a webhook is registered", lambda: call("register_webhook", family=consumers, body=models.EventConsumerWebhookRequest(
        webhook_url="http://127.0.0.1:9/in?key=secret", object_types=[models.ObservableObjectTypeEnum.RESOURCE], scopes=[])),
        lambda w: w.delivery.value == "webhook" and w.webhook_destination == "http://127.0.0.1" and w.is_global)
    if made is None:
        return
    taken("consumers are listed", lambda: call("list", how="sync_all", family=consumers), lambda rows: made.uuid in [w.uuid for w in rows])
    taken("their count", lambda: call("count", family=consumers), lambda count: count >= 1)
    taken("it is changed", lambda: call("update_webhook", family=consumers, uuid=made.uuid, body=models.EventConsumerWebhookUpdateRequest(
        object_types=[])), lambda w: w.object_types == [])
    taken("a resync is asked for", lambda: call("resync", family=consumers, uuid=made.uuid),
          lambda answer: answer.object_types == ["resource", "resource_periodic_limits"])
    taken("it goes", lambda: call("destroy", how="sync_detailed", family=consumers, uuid=made.uuid), lambda a: a.status_code == 204)


everywhere()
around()
sys.exit(checks.summary())
