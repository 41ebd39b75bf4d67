"""The versions of the site agent and of the API client that the run drives, each in a Python environment of its own.

An environment is made once and kept in the cache folder under its name and version. `--newest` puts the newest
pre-releases of the package index in the place of the newer ones, to see what comes before it is there.
"""

import os
import re
import shutil
import sys

from checks import run

# The agent and its SLURM plugin have the same version, and pin their client.
AGENTS = ("1.0.7", "1.0.8rc12")
CLIENTS = ("8.1.3", "8.1.4rc3.dev20261026214427")
EMULATOR = "slurm-emulator==0.9.10"


def newest(package):
    """The newest version in the package index, pre-releases included."""
    said = run([sys.executable, "-m", "pip", "index", "versions", "--pre", "--disable-pip-version-check", package])
    found = re.search(rf"^{re.escape(package)} \(([^)]+)\)", said, re.MULTILINE)
    if not found:
        raise RuntimeError(f"the package index names no version of {package}: {said.strip()}")
    return found.group(1)


class Environments:
    """What was asked for, made when it is wanted."""

    def __init__(self, take_newest=False):
        self.cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "sluice")
        self.older, self.newer = AGENTS
        self.clients = list(CLIENTS)
        if take_newest:
            self.newer = newest("waldur-site-agent")
            self.clients[-1] = newest("waldur-api-client")
            print(f"== newest: agent {self.newer}, client {self.clients[-1]}", flush=True)

    def agent(self, version):
        """An environment with the agent, its SLURM plugin and an emulated SLURM."""
        packages = [f"waldur-site-agent=={version}", f"waldur-site-agent-slurm=={version}", EMULATOR]
        return self.environment(f"agent-venv-{version}", packages)

    def client(self, version):
        """An environment with the client."""
        return self.environment(f"client-venv-{version}", [f"waldur-api-client=={version}"])

    def environment(self, name, packages):
        """A Python environment with these packages, made once. Another name goes with other versions."""
        path = os.path.join(self.cache, name)
        done = os.path.join(path, "complete")
        if not os.path.exists(done):
            print(f"== installing {', '.join(packages)} into {path}", flush=True)
            shutil.rmtree(path, ignore_errors=True)
            os.makedirs(self.cache, exist_ok=True)
            run([sys.executable, "-m", "venv", path])
            run([os.path.join(path, "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
            with open(done, "w") as file:
                file.write("\n".join(packages))
        return path
