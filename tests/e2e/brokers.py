"""The two brokers: the one that is built in, and a RabbitMQ of our own."""

import os
import signal
import time

from checks import run

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../services/rabbitmq.sh")


class BuiltIn:
    """Sluice itself is the broker; it cannot be stopped on its own."""

    name = "builtin"
    can_stop = False

    def __init__(self, folder):
        pass

    def variables(self):
        return {}

    def agent_options(self):
        return []

    def up(self):
        return self

    def down(self):
        pass


class RabbitMq:
    """A RabbitMQ with a folder, ports and a node name of its own, which can be killed and comes back with what it had."""

    name = "rabbitmq"
    can_stop = True

    def __init__(self, folder):
        self.folder = folder
        self.known = {}

    def up(self):
        run([SCRIPT, "start", self.folder])
        with open(os.path.join(self.folder, "env")) as file:
            lines = (line.strip().split("=", 1) for line in file if "=" in line)
            self.known = {name.removeprefix("SLUICE_TEST_RABBITMQ_"): value for name, value in lines}
        return self

    def kill(self):
        """As a power cut would: no queue is put in order first."""
        path = os.path.join(self.folder, "pid")
        with open(path) as file:
            pid = int(file.read())
        os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 30
        while running(pid):
            if time.monotonic() > end:
                raise RuntimeError(f"process {pid} of RabbitMQ does not end")
            time.sleep(0.05)
        os.remove(path)

    def down(self):
        run([SCRIPT, "stop", self.folder])

    def variables(self):
        return {
            "SLUICE_BROKER__KIND": "rabbitmq", "SLUICE_BROKER__MANAGEMENT_URL": self.known["MANAGEMENT"],
            "SLUICE_BROKER__USERNAME": self.known["USER"], "SLUICE_BROKER__PASSWORD_ENV": "E2E_RABBITMQ_PASSWORD",
            "E2E_RABBITMQ_PASSWORD": self.known["PASSWORD"],
            "SLUICE_BROKER__STOMP_HOST": "127.0.0.1", "SLUICE_BROKER__STOMP_PORT": self.known["STOMP_PORT"],
        }

    def agent_options(self):
        return ["--stomp-host", "127.0.0.1", "--stomp-port", self.known["WEB_PORT"], "--stomp-path", "/ws"]


def running(pid):
    """Whether a process is there and no mere entry of the process table that nobody has read."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False
