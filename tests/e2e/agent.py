"""The site agent from PyPI, unmodified: its configuration comes from `sluice agent-config`, with the token put in."""

import os

from checks import Process, run
from service import AGENT


class Agent:
    """The agent in one mode, with the SLURM commands of a folder of ours."""

    def __init__(self, venv, service, folder, slurm, options=(), variables=None, url=None):
        self.venv, self.service, self.folder, self.slurm = venv, service, folder, slurm
        self.variables = variables or {}
        os.makedirs(folder, exist_ok=True)
        text = service.cli("agent-config", "--offering", "hpc1", "--url", url or service.url, "--slurm-bin-path", slurm, *options)
        text = text.replace("REPLACE-WITH-THE-TOKEN-OF-THE-AGENT", AGENT)
        self.config = os.path.join(folder, "waldur-site-agent-config.yaml")
        with open(self.config, "w") as file:
            file.write(text)
        self.processes = {}

    def env(self):
        env = {"PATH": f"{self.slurm}:{os.environ['PATH']}", "HOME": self.folder, "PYTHONUNBUFFERED": "1",
               "REQUESTS_CA_BUNDLE": "", **self.variables}
        return {k: v for k, v in env.items() if v != ""}

    def loads(self):
        """What the agent's own loader makes of the configuration."""
        code = ("import json, sys\n"
                "from waldur_site_agent.common.utils import init_configuration_from_file, get_backend_for_offering\n"
                "offering = init_configuration_from_file(sys.argv[1]).waldur_offerings[0]\n"
                "backend, version = get_backend_for_offering(offering, 'order_processing_backend')\n"
                "print('LOADED ' + json.dumps({'backend': type(backend).__name__, 'settings': offering.backend_settings,\n"
                "  'components': offering.backend_components_dict, 'host': offering.stomp_ws_host,\n"
                "  'port': offering.stomp_ws_port, 'path': offering.stomp_ws_path}, default=str))\n")
        output = run([f"{self.venv}/bin/python", "-c", code, self.config], env=self.env())
        return output[output.rindex("LOADED ") + 7:]

    def command(self, name):
        """Runs one of the agent's further commands to its end, and gives what it said."""
        return run([f"{self.venv}/bin/{name}", "-c", self.config], env=self.env(), check=False)

    def up(self, mode):
        log = os.path.join(self.folder, f"agent-{mode}.log")
        command = [f"{self.venv}/bin/waldur_site_agent", "-m", mode, "-c", self.config]
        self.processes[mode] = Process(f"agent {mode}", command, log, env=self.env())
        return self.processes[mode]

    def down(self, mode):
        process = self.processes.pop(mode, None)
        if process is not None:
            process.stop()

    def kill(self, mode):
        self.processes.pop(mode).kill()

    def report_once(self, checks, what, seen, within=90):
        """Runs the agent's report mode until its report is seen, then ends it."""
        self.up("report")
        found = checks.until(what, seen, within=within)
        self.down("report")
        return found

    def all_down(self):
        for mode in list(self.processes):
            self.down(mode)
