"""The site that is put under load, and who speaks for it."""

import uuid

STAFF = "c4a05staff0key0000000000000000000000000a"
AGENT = "c4a05agent0key0000000000000000000000000b"

RESOURCES = 12
COMPONENT = "node_hours"
# Where the simulated clock begins.
BEGIN = "2026-01-10T08:00:00Z"

# Ids of objects that a site file names come of their kind and slug.
NAMES = uuid.uuid5(uuid.NAMESPACE_DNS, "sluice")


def id_of(kind, slug):
    return uuid.uuid5(NAMES, f"{kind}/{slug}").hex


POLICY = id_of("policy", "monthly")
OFFERING = id_of("offering", "hpc1")
RESOURCE_IDS = [id_of("resource", f"r{number}") for number in range(RESOURCES)]


def yaml():
    resources = "\n".join(
        f"  - {{slug: r{n}, name: r{n}, project: climate, offering: hpc1, backend_id: acc{n}, "
        f"limits: {{{COMPONENT}: 1000}}, created: 2025-11-01}}" for n in range(RESOURCES))
    return f"""
customers:
  - {{slug: uni-a, name: University A, owners: [{{username: alice, email: alice@uni-a.example, full_name: Alice A}}]}}
projects: [{{slug: climate, name: Climate modelling, customer: uni-a}}]
offerings:
  - slug: hpc1
    name: SLURM HPC cluster
    customer: uni-a
    components: [{{type: {COMPONENT}, name: Node-hours, measured_unit: hours, billing_type: limit, limit_period: month, slurm_tres: node}}]
    qos: {{default: normal, downscaled: slowdown, paused: blocked}}
policies:
  - {{slug: monthly, offering: hpc1, actions: [notify_organization_owners, request_slurm_resource_downscaling, request_slurm_resource_pausing], apply_to_all: true, grace_ratio: 0.2}}
resources:
{resources}
tokens:
  - {{user: root, role: staff, key: {STAFF}}}
  - {{user: agent-hpc1, role: agent, offering: hpc1, key: {AGENT}}}
"""
