"""Goes the main way with a client that was generated from the description: reads the site, reports usage as the agent,
evaluates the policy, reads how it stands, and is refused where it should be.

usage: drive.py URL STAFF_KEY AGENT_KEY, with the package sluice_client on the path
"""

import importlib
import pkgutil
import sys

import sluice_client
from sluice_client import AuthenticatedClient, models
from sluice_client.types import UNSET

url, staff_key, agent_key = sys.argv[1:]
staff = AuthenticatedClient(base_url=url, token=staff_key, prefix="Token", raise_on_unexpected_status=True)
agent = AuthenticatedClient(base_url=url, token=agent_key, prefix="Token", raise_on_unexpected_status=True)


def modules():
    """Every module of the package, imported."""
    found = pkgutil.walk_packages(sluice_client.__path__, "sluice_client.")
    return {each.name.rsplit(".", 1)[1]: importlib.import_module(each.name) for each in found}


operations = modules()


def call(name, status=200, client=staff, **arguments):
    answer = operations[name].sync_detailed(client=client, **arguments)
    assert answer.status_code == status, (name, answer.status_code, answer.content)
    return answer.parsed


def equal(found, expected):
    assert found == expected, (found, expected)


POLICIES = "marketplace_slurm_periodic_usage_policies"
[customer] = call("customers_list", slug="uni-a")
[project] = call("projects_list", slug="climate")
[offering] = call("marketplace_provider_offerings_list", slug=["hpc1"])
[resource] = call("marketplace_provider_resources_list", slug="climate-hpc1")
[policy] = call(f"{POLICIES}_list", scope_uuid=offering.uuid)
equal((project.customer_uuid, offering.customer_uuid, resource.project_uuid), (customer.uuid, customer.uuid, project.uuid))
equal([component.type_ for component in offering.components], ["node_hours"])
equal((resource.limits["node_hours"], policy.actions.count(","), policy.notification_threshold), (1000, 2, 80))

usage = models.SetUsageRequest(resource=resource.uuid, usages=[models.UsageItem(type_="node_hours", amount="2600.50")])
call("marketplace_component_usages_set_usage_create", 201, agent, body=usage)
[total] = call("marketplace_component_usages_list", resource_uuid=resource.uuid)
equal((total.type_, total.usage), ("node_hours", 2600.5))

evaluated = call(f"{POLICIES}_evaluate_create", uuid=policy.uuid, body=models.EvaluateRequest(reason="a generated client"))
[result] = [row for row in evaluated.resources if row.resource_uuid == resource.uuid]
equal((result.new_state.paused, result.new_state.downscaled), (True, True))
status = call(f"{POLICIES}_status_retrieve", uuid=policy.uuid, resource_uuid=resource.uuid)
[row] = status.resources
assert row.paused and row.usage_percentage > 100, row
shown = call("marketplace_provider_resources_retrieve", uuid=resource.uuid)
assert shown.paused is True, shown

# What is left out is left out, and what is refused says why.
brief = call("marketplace_provider_resources_retrieve", uuid=resource.uuid, field=["name"])
equal((brief.name, brief.uuid), ("climate on hpc1", UNSET))
usage = models.SetUsageRequest(resource=resource.uuid, usages=[models.UsageItem(type_="node_hours", amount=-1)])
refused = call("marketplace_component_usages_set_usage_create", 400, agent, body=usage)
assert "usages" in refused.additional_properties, refused
call("customers_create", 403, agent, body=models.CustomerRequest(name="X"))
print("ok")
