#!/usr/bin/env python3
"""The mail server of a full test run: aiosmtpd on three free ports of the loopback interface, with a certificate of its own.

    smtp.py FOLDER

Into FOLDER go `plain.port`, `starttls.port` (STARTTLS and a password are required), `implicit.port` (TLS from the first
byte), `ca.pem`, the Maildir `mailbox`, and at last `ready`. Ends with SIGTERM.
"""

import signal
import ssl
import sys
from pathlib import Path

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import AuthResult, LoginPassword

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)


def authenticate(_server, _session, _envelope, _mechanism, data):
    known = isinstance(data, LoginPassword) and (data.login, data.password) == (b"sluice", b"correct horse")
    # Not handled: the server itself is to answer, 235 or 535.
    return AuthResult(success=known, handled=False)


authority = trustme.CA()
authority.cert_pem.write_to_path(folder / "ca.pem")
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
authority.issue_cert("localhost").configure_cert(context)

servers = {
    "plain": {},
    "starttls": {
        "tls_context": context,
        "require_starttls": True,
        "authenticator": authenticate,
        "auth_required": True,
    },
    "implicit": {"ssl_context": context},
}


class AnyPort(Controller):
    """A controller that takes any free port and says which."""

    def _trigger_server(self):
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


mailbox = folder / "mailbox"
controllers = []
for name, settings in servers.items():
    controller = AnyPort(Mailbox(str(mailbox)), hostname="localhost", port=0, server_hostname="localhost", **settings)
    controller.start()
    (folder / f"{name}.port").write_text(f"{controller.port}\n")
    controllers.append(controller)

(folder / "ready").touch()
signal.sigwait({signal.SIGTERM, signal.SIGINT})
for controller in controllers:
    controller.stop()
