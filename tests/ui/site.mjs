// A site of 46 allocations and what happens to it in a quarter, played through the API on a simulated clock. Nothing here is
// random: the same numbers come out every time.
import { spawn } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const DAY = 86_400_000;
export const START = Date.parse("2026-01-01T00:00:00Z");
export const NOW = "2026-03-26T09:12:04Z";

const ORGANISATIONS = [
  ["nordhaven", "Nordhaven University", "hanna", "Hanna L. Berg"],
  ["polar", "Institute for Polar Research", "ivar", "Ivar Lunde"],
  ["aurell", "TU Aurell", "tove", "Tove Aas"],
  ["vestland", "Vestland University", "sara", "Sara Vik"],
  ["coastal", "Coastal Observatory", "ola", "Ola Lunde"],
  ["stell", "Stell Institute of Physics", "mei", "Mei Tan"],
  ["harbour", "Harbour Hospital", "jonas", "Jonas Falk"],
  ["meridian", "Meridian Robotics", "lea", "Léa Moreau"],
];

// Name, project, organisation, limit, share of it used by 26 March, and how the pace changes towards the end.
const ALLOCATIONS = `climate|Climate modelling|0|1000|1.56|2.6
genomics|Genome assembly|0|1000|0.755|0.8
nlp|Nordic language models|0|1200|0.793|1
aerosol|Aerosol microphysics|1|800|0.792|0.9
permafrost|Permafrost thaw|1|900|0.785|1.2
glacier|Glacier dynamics|1|1000|0.922|1
turbulence|Wall turbulence|2|1500|1.157|1.7
batteries|Solid-state batteries|2|1120|1.022|1
catalysis|Catalysis|2|600|0.62|1
cryoem|Cryo-EM reconstruction|3|1000|0.965|1
proteins|Protein dynamics|3|700|0.941|1
ocean|Ocean circulation|4|2000|0.942|1.3
landslide|Landslide hazard|4|500|0.898|1.6
acoustics|Room acoustics|4|205|1.013|1
lattice|Lattice QCD|5|4000|0.95|1
plasma|Stellarator design|5|3000|0.93|1.3
fusion|Fusion edge physics|5|4100|1.009|1.2
radiation|Radiation transport|6|900|0.458|1
mlvision|Medical imaging|6|800|0.57|0.7
robotics|Robot learning|7|640|0.81|1.3
seismo|Seismic inversion|4|900|1.24|1.1
tomography|Tomography|6|750|1.22|1
wind|Wind farms|4|1000|0.34|1
soil|Soil moisture|1|400|0.35|1
tides|Tidal energy|4|300|0.22|1
galaxies|Galaxy formation|5|1600|0.87|1
exoplanets|Exoplanet search|5|500|0.84|1
neutrino|Neutrino detectors|5|700|0.88|1
alloys|Alloy design|2|900|0.89|1
polymers|Polymer physics|2|600|0.82|1
combustion|Combustion|2|1100|1.04|1
epidemics|Epidemic models|6|350|0.66|1
pharma|Drug docking|6|900|0.71|1
traffic|Traffic simulation|7|300|0.29|1
grid|Power grids|7|500|0.31|1
drones|Drone swarms|7|400|0.48|1
linguistics|Historical linguistics|0|200|0.18|1
economics|Agent-based economics|0|300|0.41|1
archives|Document restoration|0|250|0.52|1
weather|Ensemble weather|1|2500|1.03|1
ice|Sea ice|1|700|0.68|1
magnets|Permanent magnets|2|450|0.74|1
quantum|Quantum chemistry|3|1300|0.91|1
viruses|Virus evolution|3|600|0.83|1
cells|Cell mechanics|3|500|0.55|1
teaching|Parallel computing course|0|100|0.11|1`
  .split("\n")
  .map((line) => line.split("|"))
  .map(([slug, project, org, limit, used, late]) => ({ slug, project, org: ORGANISATIONS[org], limit: +limit, used: +used, late: +late }));

const KEYS = { staff: "ui-staff-key-0123456789", support: "ui-support-key-0123456789", agent: "ui-agent-key-0123456789", owner: "ui-owner-key-0123456789", one: "ui-single-key-0123456789" };

function site() {
  return {
    organization_groups: [{ slug: "research", name: "Research organisations" }],
    customers: [
      { slug: "alpine", name: "Alpine HPC Centre" },
      ...ORGANISATIONS.map(([slug, name, username, full_name]) => ({ slug, name, groups: ["research"], owners: [{ username, full_name, email: `${username}@${slug}.example` }] })),
    ],
    projects: ALLOCATIONS.map(({ slug, project, org }) => ({ slug, name: project, customer: org[0] })),
    offerings: [
      {
        slug: "alpine-hpc",
        name: "Alpine",
        customer: "alpine",
        components: [{ type: "node_hours", name: "Node-hours", measured_unit: "node-hours", limit_period: "quarterly", slurm_tres: "node" }],
        qos: { default: "normal", downscaled: "slowdown", paused: "blocked" },
      },
    ],
    resources: ALLOCATIONS.map(({ slug, limit }) => ({ slug, name: slug, project: slug, offering: "alpine-hpc", backend_id: `hpc_${slug}`, limits: { node_hours: limit }, created: "2026-01-01" })),
    policies: [
      {
        slug: "alpine-quarterly",
        offering: "alpine-hpc",
        actions: ["notify_organization_owners", "request_slurm_resource_downscaling", "request_slurm_resource_pausing"],
        organization_groups: ["research"],
        tres_billing_enabled: false,
        grace_ratio: 0.2,
        carryover_factor: 50,
      },
    ],
    tokens: [
      { user: "runa", role: "staff", key_env: "UI_STAFF" },
      { user: "siv", role: "support", key_env: "UI_SUPPORT" },
      { user: "agent-alpine", role: "agent", offering: "alpine-hpc", key_env: "UI_AGENT" },
      { user: "hanna", role: "owner", key_env: "UI_OWNER" },
      { user: "lea", role: "owner", key_env: "UI_ONE" },
    ],
  };
}

// Used by a day, as a share of what is used by the end: slower in the first weeks, and faster or slower in the last ten days.
function share(day, days, late) {
  const tail = 10;
  const weight = (d) => (d >= days - tail ? late : 1) * (0.75 + 0.5 * (((d * 37) % 11) / 10));
  let sum = 0;
  let all = 0;
  for (let d = 0; d < days; d++) {
    all += weight(d);
    if (d <= day) sum += weight(d);
  }
  return sum / all;
}

export class Service {
  constructor(binary) {
    this.binary = binary;
    this.folder = mkdtempSync(join(tmpdir(), "sluice-ui-"));
    this.env = { ...process.env, SLUICE_DATABASE: `sqlite://${this.folder}/sluice.db`, UI_STAFF: KEYS.staff, UI_SUPPORT: KEYS.support, UI_AGENT: KEYS.agent, UI_OWNER: KEYS.owner, UI_ONE: KEYS.one };
    this.keys = KEYS;
  }

  async start() {
    writeFileSync(join(this.folder, "site.yaml"), JSON.stringify(site()));
    const clock = ["--simulated-clock", new Date(START).toISOString()];
    await this.run(["apply", "-f", join(this.folder, "site.yaml"), ...clock]);
    this.process = spawn(this.binary, ["serve", "--listen", "127.0.0.1:0"], { env: this.env, stdio: ["ignore", "pipe", openSync(join(this.folder, "log"), "w")] });
    this.base = await new Promise((resolve, reject) => {
      let text = "";
      this.process.stdout.on("data", (bytes) => {
        text += bytes;
        const found = text.match(/listening on (http:\S+)/);
        if (found) resolve(found[1]);
      });
      this.process.on("exit", (status) => reject(new Error(`sluice serve ended with ${status}:\n${readFileSync(join(this.folder, "log"), "utf8").slice(-4000)}`)));
    });
  }

  run(args) {
    return new Promise((resolve, reject) => {
      const child = spawn(this.binary, args, { env: this.env, stdio: ["ignore", "pipe", "inherit"] });
      let text = "";
      child.stdout.on("data", (bytes) => (text += bytes));
      child.on("exit", (status) => (status === 0 ? resolve(text) : reject(new Error(`sluice ${args[0]} ended with ${status}`))));
    });
  }

  async call(method, path, body, key = KEYS.staff) {
    const answer = await fetch(this.base + path, { method, headers: { Authorization: `Token ${key}`, "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  clock(at) {
    return this.call("PUT", "/api/simulation/clock/", { now: new Date(at).toISOString() });
  }

  // Plays the quarter up to the 26th of March.
  async play() {
    const listed = [];
    for (let page = 1; page <= 1; page++) listed.push(...(await this.call("GET", `/api/marketplace-provider-resources/?page_size=100&page=${page}`)));
    const ids = new Map(listed.map((row) => [row.slug, row.uuid]));
    this.ids = ids;
    await this.agentComes();
    const days = Math.floor((Date.parse(NOW) - START) / DAY) + 1;
    const answered = new Set();
    for (const id of ids.values()) await this.call("POST", `/api/marketplace-provider-resources/${id}/set_backend_metadata/`, { backend_metadata: { qos: "normal" } }, KEYS.agent);
    for (let day = 0; day < days; day++) {
      const at = START + day * DAY;
      const date = new Date(at);
      const last = day === days - 1;
      if (date.toISOString().startsWith("2026-03-18")) {
        await this.clock(at + 9.5 * 3_600_000);
        await this.call("PATCH", `/api/marketplace-provider-resources/${ids.get("climate")}/`, { limits: { node_hours: 1500 }, reason: "Deadline of the assessment report, granted by the allocation board" });
        await this.answer(answered);
      }
      await this.clock(at + (last ? 8.66 : 23.8) * 3_600_000);
      for (const { slug, limit, used, late } of ALLOCATIONS) {
        const firstOfMonth = Math.round((Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1) - START) / DAY);
        const by = (d) => (d < 0 ? 0 : share(d, days, late) * limit * used);
        const amount = by(day) - by(firstOfMonth - 1);
        await this.call("POST", "/api/marketplace-component-usages/set_usage/", { resource: ids.get(slug), usages: [{ type: "node_hours", amount: amount.toFixed(2) }] }, KEYS.agent);
      }
      await this.answer(answered);
    }
    await this.call("PATCH", `/api/marketplace-slurm-periodic-usage-policies/${this.policy}/`, { notification_threshold: [80, 95], reason: "Owners asked to be told a second time, shortly before they are slowed down" });
    await this.answer(answered);
    await this.call("POST", `/api/marketplace-provider-resources/${ids.get("mlvision")}/holds/`, { kind: "pause", reason: "SEC-1182: credentials leaked", expires_at: "2026-03-27T12:00:00Z" });
    await this.call("POST", `/api/marketplace-provider-resources/${ids.get("tomography")}/holds/`, { kind: "exemption", reason: "Clinical trial, agreed with the board" });
    await this.clock(Date.parse(NOW));
    const restricted = await this.call("GET", `/api/events/?o=-created&type=restriction_changed&resource_uuid=${ids.get("climate")}&page_size=1`);
    this.slowed = restricted[0].position;
    this.dispatches = new Map();
    for (let page = 1; page <= 10; page++) {
      for (const row of await this.call("GET", `/api/dispatches/?page_size=100&page=${page}`).catch(() => [])) {
        if (!this.dispatches.has(row.resource_name)) this.dispatches.set(row.resource_name, row.uuid);
      }
    }
  }

  // Registers the site agent as it registers itself, and ships some lines of its log.
  async agentComes() {
    const identities = "/api/marketplace-site-agent-identities/";
    const { uuid } = await this.call("POST", identities, { offering: "alpine-hpc", name: "agent-alpine", version: "1.0.7", last_restarted: new Date(START).toISOString(), dependencies: [{ package: "waldur-site-agent-slurm", version: "1.0.7" }] }, KEYS.agent);
    this.agent = uuid;
    for (const mode of ["report", "membership_sync", "event_process"]) await this.call("POST", `${identities}${uuid}/register_service/`, { name: mode, mode }, KEYS.agent);
    const line = (level, message, second) => ({ agent_identity_uuid: uuid, timestamp: START / 1000 + second, level, message, module: "waldur_site_agent.backend" });
    await this.call("POST", "/api/marketplace-site-agent-logs/", [line("INFO", "Starting the agent in the mode event_process", 4), line("WARNING", "The account hpc_acoustics has no association for the user mtan", 61), line("ERROR", "sacctmgr: error: This cluster alpine does not know the account hpc_seismo", 125)], KEYS.agent);
  }

  // Answers in the place of a site agent: all commands as meant, but for one account that SLURM does not know and one agent
  // that says nothing.
  async answer(answered) {
    const [policy] = await this.call("GET", "/api/marketplace-slurm-periodic-usage-policies/");
    this.policy = policy.uuid;
    const base = `/api/marketplace-slurm-periodic-usage-policies/${policy.uuid}`;
    const rows = await this.call("GET", `${base}/command-history/?page_size=100&outcome=sent`);
    const queued = await this.call("GET", `${base}/command-history/?page_size=100&outcome=queued`);
    for (const row of [...rows, ...queued]) {
      if (row.resource_name === "acoustics" || (answered.has(row.dispatch_uuid) && row.resource_name !== "seismo")) continue;
      answered.add(row.dispatch_uuid);
      const of = [...rows, ...queued].filter((other) => other.dispatch_uuid === row.dispatch_uuid);
      const success = row.resource_name !== "seismo";
      await this.call("POST", `${base}/report-command-result/`, { resource_uuid: row.resource_uuid, success, error_message: success ? "" : "Cluster account hpc_seismo does not exist.", mode: "production", commands_executed: success ? of.map((one) => one.shell_command) : [] }, KEYS.agent);
      const qos = of.map((one) => /qos=?\s*(\w+)/i.exec(one.shell_command)).find(Boolean);
      if (success && qos) await this.call("POST", `/api/marketplace-provider-resources/${row.resource_uuid}/set_backend_metadata/`, { backend_metadata: { qos: qos[1] } }, KEYS.agent);
    }
  }

  stop() {
    this.process?.removeAllListeners("exit");
    this.process?.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
