"""Sluice behind nginx or haproxy with TLS, as the samples in docs/config have it, with names, ports and certificates of the
test."""

import csv
import os
import re
import shutil
import socket
import ssl

from checks import Process, free_ports, run

SAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/config")
# The processes that the samples of balancers name.
NAMES = ("a", "b", "c")


class Proxy:
    """A private proxy in a folder and on a port of its own, with an authority that nobody else knows."""

    program, package, sample = "", "", ""

    def __init__(self, folder, *ports):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.port = free_ports(1)[0]
        self.url = f"https://localhost:{self.port}"
        self.authority = self.at("authority.pem")
        self.log = self.at("output.log")
        self.process = None
        self.certify()
        self.configure(self.ours(ports))

    def at(self, name):
        return os.path.join(self.folder, name)

    def certify(self):
        """An authority, and its certificate for localhost."""
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        run(["openssl", "req", "-x509", *key, "-keyout", self.at("authority.key"), "-out", self.authority, "-days", "2",
             "-subj", "/CN=test"])
        run(["openssl", "req", *key, "-keyout", self.at("sluice.key"), "-out", self.at("sluice.csr"), "-subj", "/CN=localhost"])
        with open(self.at("names"), "w") as file:
            file.write("subjectAltName=DNS:localhost\n")
        run(["openssl", "x509", "-req", "-in", self.at("sluice.csr"), "-CA", self.authority, "-CAkey", self.at("authority.key"),
             "-CAcreateserial", "-days", "2", "-extfile", self.at("names"), "-out", self.at("sluice.pem")])

    def ours(self, ports):
        """What the sample has, and what stands there in the test."""
        raise NotImplementedError

    def configure(self, ours):
        with open(os.path.join(SAMPLES, self.sample)) as file:
            text = file.read()
        for theirs, here in ours:
            if theirs not in text:
                raise RuntimeError(f"{self.sample} has no {theirs!r}")
            text = text.replace(theirs, here)
        with open(self.at("proxy.conf"), "w") as file:
            file.write(self.whole(text))

    def whole(self, text):
        return text

    def arguments(self):
        raise NotImplementedError

    def up(self):
        binary = shutil.which(self.program, path=f"{os.environ['PATH']}:/usr/sbin")
        if binary is None:
            raise RuntimeError(f"there is no {self.program}: install the package {self.package}")
        self.process = Process(self.program, [binary, *self.arguments()], self.log)

    def down(self):
        if self.process is not None:
            self.process.stop()

    def trusted(self):
        """What the agent needs in its environment to trust the authority."""
        return {"SSL_CERT_FILE": self.authority}

    def context(self):
        """The same for a client of our own."""
        return ssl.create_default_context(cafile=self.authority)

    def noted(self, holds):
        """Whether it has noted something; a WebSocket is noted when it ends."""
        with open(self.log, errors="replace") as file:
            return any(holds(line) for line in file)


class Nginx(Proxy):
    """A private nginx in front of one process."""

    program, package, sample = "nginx", "nginx-light", "nginx.conf"

    def __init__(self, folder, *ports):
        super().__init__(folder, *ports)
        self.log = self.at("access.log")

    def ours(self, ports):
        return [("127.0.0.1:8000", f"127.0.0.1:{ports[0]}"), *self.names()]

    def names(self):
        return [("listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl"), ("server_name sluice.example", "server_name localhost"),
                ("/etc/nginx/", f"{self.folder}/")]

    def whole(self, text):
        temporary = "".join(f"  {kind}_temp_path {self.folder}/{kind};\n"
                            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        return (f"daemon off;\nworker_processes 1;\npid {self.folder}/pid;\nerror_log {self.folder}/error.log;\n"
                f"events {{}}\nhttp {{\n  access_log {self.folder}/access.log;\n{temporary}{text}}}\n")

    def arguments(self):
        return ["-p", self.folder, "-e", self.at("error.log"), "-c", self.at("proxy.conf")]

    def passed_on(self, request, status):
        """Whether it has passed on such a request, which got such an answer."""
        return self.noted(lambda line: f'"{request} HTTP/1.1" {status} ' in line)


class NginxBalancer(Nginx):
    """A private nginx in front of three processes."""

    sample = "nginx-balancer.conf"

    def ours(self, ports):
        servers = [(f"{name}.site.example:8000", f"127.0.0.1:{port}") for name, port in zip(NAMES, ports, strict=True)]
        return [*servers, *self.names()]


class Haproxy(Proxy):
    """A private haproxy in front of three processes."""

    program, package, sample = "haproxy", "haproxy", "haproxy.cfg"

    def ours(self, ports):
        servers = [(f"{name}.site.example:8000", f"127.0.0.1:{port}") for name, port in zip(NAMES, ports, strict=True)]
        # Without a user of its own, with a way to ask it, and with its notes where the test reads them.
        return [*servers, ("bind :443 ", f"bind 127.0.0.1:{self.port} "), ("/etc/haproxy/sluice.pem", self.at("both.pem")),
                ("log /dev/log local0", "log stdout format raw local0"),
                ("user haproxy\n    group haproxy\n", f"stats socket {self.at('socket')}\n")]

    def certify(self):
        super().certify()
        with open(self.at("both.pem"), "w") as both:
            for name in ("sluice.pem", "sluice.key"):
                with open(self.at(name)) as part:
                    both.write(part.read())

    def arguments(self):
        return ["-db", "-f", self.at("proxy.conf")]

    def ask(self, command):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.at("socket"))
            connection.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def servers(self):
        """What it counts of each process, by name."""
        rows = csv.DictReader(self.ask("show stat -1 4 -1").removeprefix("# ").strip().splitlines())
        return {row["svname"]: row for row in rows}

    def states(self):
        """UP or DOWN of each process, without how many checks it has passed or failed since."""
        return "".join(f"{name}:{row['status'].split()[0]} " for name, row in sorted(self.servers().items())).strip()

    def websockets(self):
        """The processes that something has been open to for seconds."""
        found = re.findall(r" srv=(\w+) .* age=(\w+) ", self.ask("show sess"))
        return [name for name, age in found if age not in ("0s", "1s")]

    def passed_on(self, request, status):
        """Whether it has passed on such a request, which got such an answer."""
        return self.noted(lambda line: f" {status} " in line and f'"{request} HTTP/1.1"' in line)
