"""Sluice behind nginx with TLS, as docs/config/nginx.conf has it, with names, ports and certificates of the test."""

import os
import re
import shutil

from checks import Process, free_ports, run

SAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/config/nginx.conf")


class Nginx:
    """A private nginx in a folder and on a port of its own."""

    def __init__(self, folder, service_port):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.port = free_ports(1)[0]
        self.url = f"https://localhost:{self.port}"
        self.authority = os.path.join(folder, "authority.pem")
        self.process = None
        self.certify()
        self.configure(service_port)

    def certify(self):
        """An authority that nobody else knows, and its certificate for localhost."""
        at = lambda name: os.path.join(self.folder, name)
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        run(["openssl", "req", "-x509", *key, "-keyout", at("authority.key"), "-out", self.authority, "-days", "2", "-subj", "/CN=test"])
        run(["openssl", "req", *key, "-keyout", at("sluice.key"), "-out", at("sluice.csr"), "-subj", "/CN=localhost"])
        with open(at("names"), "w") as file:
            file.write("subjectAltName=DNS:localhost\n")
        run(["openssl", "x509", "-req", "-in", at("sluice.csr"), "-CA", self.authority, "-CAkey", at("authority.key"),
             "-CAcreateserial", "-days", "2", "-extfile", at("names"), "-out", at("sluice.pem")])

    def configure(self, service_port):
        with open(SAMPLE) as file:
            sample = file.read()
        for pattern, ours in (("listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl"), ("sluice.example", "localhost"),
                              ("/etc/nginx/", f"{self.folder}/"), ("127.0.0.1:8000", f"127.0.0.1:{service_port}")):
            if pattern not in sample:
                raise RuntimeError(f"{SAMPLE} has no {pattern!r}")
            sample = re.sub(re.escape(pattern), ours, sample)
        temporary = "".join(f"  {kind}_temp_path {self.folder}/{kind};\n"
                            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open(os.path.join(self.folder, "main.conf"), "w") as file:
            file.write(f"daemon off;\nworker_processes 1;\npid {self.folder}/pid;\nerror_log {self.folder}/error.log;\n"
                       f"events {{}}\nhttp {{\n  access_log {self.folder}/access.log;\n{temporary}{sample}}}\n")

    def up(self):
        binary = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        if binary is None:
            raise RuntimeError("there is no nginx: install the package nginx-light")
        command = [binary, "-p", self.folder, "-e", f"{self.folder}/error.log", "-c", f"{self.folder}/main.conf"]
        self.process = Process("nginx", command, os.path.join(self.folder, "output.log"))

    def down(self):
        if self.process is not None:
            self.process.stop()

    def trusted(self):
        """What the agent needs in its environment to trust the authority."""
        return {"SSL_CERT_FILE": self.authority}

    def passed_on(self, request, status):
        """Whether it has passed on such a request, which got such an answer; a WebSocket is noted when it ends."""
        with open(os.path.join(self.folder, "access.log")) as file:
            return any(f'"{request} HTTP/1.1" {status} ' in line for line in file)
