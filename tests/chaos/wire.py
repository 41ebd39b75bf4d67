"""HTTP with a connection for each request, and STOMP 1.2 in a WebSocket (RFC 6455) as a site agent speaks it: both small
enough to be broken off anywhere."""

import base64
import http.client
import json
import os
import socket
import struct


class Answer:
    """Status, head and body of an answer."""

    def __init__(self, status, headers, text):
        self.status = status
        self.headers = headers
        self.text = text

    def json(self):
        return json.loads(self.text) if self.text else None


def call(port, method, path, body=None, key=None, timeout=15):
    """The answer; none if nobody answered, in time and to the end."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Token {key}"
    try:
        connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, headers, answer.read().decode())
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class Gone(Exception):
    """The other side is gone, or says nothing that can be used."""


class Stomp:
    """A connection to the built-in broker."""

    def __init__(self, port, vhost, login, passcode, timeout=15):
        self.bytes = b""
        self.text = b""
        try:
            self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
            key = base64.b64encode(os.urandom(16)).decode()
            self.socket.sendall((
                f"GET /rmqws-stomp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: v12.stomp\r\n\r\n").encode())
            while b"\r\n\r\n" not in self.bytes:
                self.receive()
            head, self.bytes = self.bytes.split(b"\r\n\r\n", 1)
            if b" 101 " not in head.split(b"\r\n")[0]:
                raise Gone(head.decode(errors="replace"))
            self.send("CONNECT", {"accept-version": "1.2", "heart-beat": "0,0", "host": vhost, "login": login,
                                  "passcode": passcode})
            command, _, text = self.frame()
            if command != "CONNECTED":
                raise Gone(f"{command} {text}")
        except OSError as error:
            raise Gone(str(error)) from None

    def receive(self):
        some = self.socket.recv(65536)
        if not some:
            raise Gone("closed")
        self.bytes += some

    def send(self, command, headers, body=""):
        head = "".join(f"{name}:{value}\n" for name, value in headers.items())
        payload = f"{command}\n{head}\n{body}\0".encode()
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + struct.pack(">H", size)
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        try:
            self.socket.sendall(b"\x81" + length + mask + masked)
        except OSError as error:
            raise Gone(str(error)) from None

    def websocket(self):
        """The payload of the next message; what controls the connection is passed over."""
        while True:
            while len(self.bytes) < 2:
                self.receive()
            code, size, begin = self.bytes[0] & 0x0F, self.bytes[1] & 0x7F, 2
            more = {126: 2, 127: 8}.get(size, 0)
            while len(self.bytes) < begin + more:
                self.receive()
            if more:
                size = int.from_bytes(self.bytes[begin:begin + more], "big")
                begin += more
            while len(self.bytes) < begin + size:
                self.receive()
            payload, self.bytes = self.bytes[begin:begin + size], self.bytes[begin + size:]
            if code == 8:
                raise Gone("closed")
            if code in (0, 1, 2):
                return payload

    def frame(self):
        """The next frame: command, headers, body."""
        try:
            while b"\0" not in self.text.lstrip(b"\n"):
                self.text += self.websocket()
        except OSError as error:
            raise Gone(str(error)) from None
        frame, self.text = self.text.lstrip(b"\n").split(b"\0", 1)
        head, _, body = frame.decode().partition("\n\n")
        command, *lines = head.split("\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(name, value.replace("\\c", ":").replace("\\n", "\n").replace("\\\\", "\\"))
        return command, headers, body

    def break_off(self):
        """Ends the connection as a power cut does: without a word, and with a reset where there is something unread."""
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Whoever waits in another thread for what comes next is woken.
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()
