"""Where the service lives: a process of its own on a database of its own, files or a PostgreSQL server, on a disk of its own
where the system lets us mount one."""

import datetime
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time

from checks import PATIENCE, Process, free_ports, run
from wire import call
from world import BEGIN, STAFF, yaml

CLOCK = "/api/simulation/clock/"

EVENTS = ("SELECT e.position AS position, s.name AS stream, e.version AS version, k.name AS type, e.payload AS payload "
          "FROM {events} e JOIN {streams} s ON s.stream_id = e.stream_id JOIN {kinds} k ON k.kind_id = e.kind_id "
          "ORDER BY e.position")


class Died(Exception):
    """The service did not start, or ended by itself."""


class Place:
    """A service that can be killed, frozen and started again on what it left."""

    engine = None
    disk_bytes = 0

    def __init__(self, binary, folder):
        self.binary = os.path.abspath(binary)
        self.folder = folder
        os.makedirs(folder)
        os.chmod(folder, 0o711)
        self.disk = os.path.join(folder, "disk")
        os.makedirs(self.disk)
        self.mounted = self.mount()
        self.port = free_ports(1)[0]
        self.log = os.path.join(folder, "sluice.log")
        self.diary = open(os.path.join(folder, "diary"), "w")
        self.notes = threading.Lock()
        self.process = None
        self.now = datetime.datetime.fromisoformat(BEGIN.replace("Z", "+00:00"))
        self.slowest_start = 0.0

    def mount(self):
        """A small disk of our own, which can be full without anybody else's being so. Only root may mount one."""
        if os.geteuid() != 0:
            return False
        options = f"size={self.disk_bytes},mode=755"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "sluice-chaos", self.disk], capture_output=True)
        return done.returncode == 0

    def variables(self):
        data = os.path.join(self.disk, "data")
        return {
            "PATH": os.environ["PATH"], "HOME": self.folder, "SLUICE_DATA_DIR": data, "NO_COLOR": "1",
            "SLUICE_LISTEN": f"127.0.0.1:{self.port}", "SLUICE_LOG__LEVEL": "warn", "SLUICE_RETENTION_DAYS": "3650",
            "SLUICE_DISPATCH_WINDOW": "1000", "SLUICE_MAIL__FOLDER": os.path.join(self.folder, "mail"),
        }

    def prepare(self):
        path = os.path.join(self.folder, "site.yaml")
        with open(path, "w") as file:
            file.write(yaml())
        run([self.binary, "apply", "-f", path], env={**self.variables(), "SLUICE_SIMULATED_CLOCK": BEGIN})

    def month(self):
        return f"{self.now:%Y-%m}"

    def begin(self):
        """Starts the process and waits for nothing."""
        self.process = Process("sluice", [self.binary, "serve"], self.log, env=self.variables())

    def start(self, within=60):
        """Starts it and waits until it answers; the answer to whether it is ready."""
        self.begin()
        started = time.monotonic()
        while True:
            ready = call(self.port, "GET", "/health/ready", timeout=5)
            if ready is not None:
                break
            if not self.process.alive() or time.monotonic() - started > within * PATIENCE:
                raise Died(f"the service did not start:\n{self.process.text()[-4000:]}")
            time.sleep(0.02)
        self.slowest_start = max(self.slowest_start, time.monotonic() - started)
        self.read_clock()
        return ready.json()

    def read_clock(self):
        clock = call(self.port, "GET", CLOCK, key=STAFF)
        if clock is not None and clock.status == 200:
            self.now = datetime.datetime.fromisoformat(clock.json()["now"].replace("Z", "+00:00"))

    def alive(self):
        return self.process is not None and self.process.alive()

    def kill(self):
        self.process.kill()

    def stop(self):
        """Ends it as an operator does; its status."""
        self.process.stop(signal.SIGTERM, within=60 * PATIENCE)
        return self.process.child.returncode

    def signal(self, number):
        self.process.child.send_signal(number)

    def ready(self):
        answer = call(self.port, "GET", "/health/ready")
        return answer.json() if answer is not None else {}

    def said(self, since=0):
        with open(self.log, errors="replace") as file:
            file.seek(since)
            return file.read()

    def said_so_far(self):
        return os.path.getsize(self.log) if os.path.exists(self.log) else 0

    def cli(self, *arguments):
        """Status and output of a command."""
        done = subprocess.run([self.binary, *arguments], env=self.variables(), text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout

    def get(self, path, key=STAFF):
        answer = call(self.port, "GET", path, key=key, timeout=60)
        if answer is None or answer.status != 200:
            raise RuntimeError(f"GET {path}: {'no answer' if answer is None else (answer.status, answer.text[:500])}")
        return answer

    def pages(self, path):
        """Every row of a list."""
        rows, page, sign = [], 1, "&" if "?" in path else "?"
        while True:
            answer = self.get(f"{path}{sign}page_size=100&page={page}")
            rows.extend(answer.json())
            if len(rows) >= int(answer.headers["x-result-count"]):
                return rows
            page += 1

    def fill(self):
        """Leaves no room on the disk; the path of what takes it."""
        ballast = os.path.join(self.disk, "ballast")
        with open(ballast, "wb", buffering=0) as file:
            for size in (1 << 20, 1 << 16, 1 << 12):
                block = b"\0" * size
                while True:
                    try:
                        if file.write(block) < size:
                            break
                    except OSError:
                        break
        return ballast

    def note(self, line):
        """Keeps a line for somebody who has to find out why."""
        with self.notes:
            self.diary.write(f"{time.time():.3f} {line}\n")

    def close(self, keep=False):
        if self.alive():
            self.signal(signal.SIGCONT)
            self.kill()
        self.diary.flush()
        if self.mounted and not keep:
            subprocess.run(["umount", "-l", self.disk], capture_output=True)


class OnFiles(Place):
    """SQLite."""

    engine = "sqlite"
    disk_bytes = 512 << 20

    @property
    def file(self):
        return os.path.join(self.disk, "data", "sluice.db")

    @property
    def models(self):
        return os.path.join(self.disk, "data", "sluice-read.db")

    def events(self):
        """Every event of the log, as the tables have it, whatever it says."""
        database = sqlite3.connect(f"file:{self.file}?mode=ro", uri=True)
        database.text_factory = lambda raw: raw.decode(errors="replace")
        try:
            names = {"events": "events", "streams": "streams", "kinds": "event_kinds"}
            return [dict(zip(("position", "stream", "version", "type", "payload"), row))
                    for row in database.execute(EVENTS.format(**names))]
        finally:
            database.close()

    def rewrite(self, position, payload):
        """Changes an event as nobody may: the trigger that guards the log is away meanwhile."""
        database = sqlite3.connect(self.file, isolation_level=None)
        try:
            [guard] = database.execute("SELECT sql FROM sqlite_master WHERE name = 'events_append_only'").fetchone()
            database.execute("BEGIN IMMEDIATE")
            database.execute("DROP TRIGGER events_append_only")
            database.execute("UPDATE events SET payload = ? WHERE position = ?", (payload, position))
            database.execute(guard)
            database.execute("COMMIT")
        finally:
            database.close()

    def harms(self):
        """What may happen to the file of the read models: name and deed."""
        def over(change):
            def deed(random):
                with open(self.models, "rb") as file:
                    data = bytearray(file.read())
                data = change(random, data)
                with open(self.models, "wb") as file:
                    file.write(data)
            return deed

        def flipped(random, data):
            for place in range(random.randrange(8_192, 10_000), len(data), random.randrange(500, 3_000)):
                data[place] ^= 1 << random.randrange(8)
            return data

        def header(random, data):
            data[:100] = random.randbytes(100)
            return data

        def newer(random):
            database = sqlite3.connect(self.models)
            with database:
                database.execute("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) "
                                 "VALUES (99999999, 'of a later version', 1, x'00', 0)")
            database.close()

        def gone(random):
            for suffix in ("", "-wal", "-shm"):
                if os.path.exists(self.models + suffix):
                    os.remove(self.models + suffix)

        return {
            "garbage": over(lambda random, data: random.randbytes(len(data))),
            "truncated": over(lambda random, data: data[:random.randrange(len(data))]),
            "bits flipped": over(flipped),
            "header overwritten": over(header),
            "of a newer version": newer,
            "removed": gone,
        }

    def put_back(self, backup):
        """The log is what the backup has. The read models stay beside it, and are newer: `restore` would take them away."""
        kept = os.path.join(self.folder, "kept")
        os.makedirs(kept)
        for suffix in ("", "-wal", "-shm"):
            if os.path.exists(self.file + suffix):
                os.remove(self.file + suffix)
            if os.path.exists(self.models + suffix):
                shutil.move(self.models + suffix, kept)
        done = self.cli("restore", backup)
        for name in os.listdir(kept):
            shutil.move(os.path.join(kept, name), os.path.dirname(self.models))
        os.rmdir(kept)
        return done


class OnServer(Place):
    """PostgreSQL, a server of our own."""

    engine = "postgres"
    disk_bytes = 1 << 30

    def __init__(self, binary, folder):
        super().__init__(binary, folder)
        self.server = None
        self.url = None
        self.server_up()
        self.psql("CREATE DATABASE chaos", "postgres")
        self.url = self.server_url("chaos")

    def variables(self):
        return {**super().variables(), "SLUICE_DATABASE": self.url, "SLUICE_LIMITS__LEASE_SECONDS": "2", "SLUICE_DATA_DIR": os.path.join(self.folder, "own")}

    def server_up(self):
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "services", "postgres")
        place = os.path.join(self.disk, "pg")
        options = "-c max_wal_size=192MB -c shared_buffers=64MB"
        ready = os.path.join(place, "ready")
        if os.path.exists(ready):
            os.remove(ready)
        end = time.monotonic() + 60 * PATIENCE
        while not os.path.exists(ready):
            if self.server is None or not self.server.alive():
                self.server = Process("postgres", [program, place], os.path.join(self.folder, "postgres.log"),
                                      env={**os.environ, "SLUICE_POSTGRES_OPTIONS": options})
            if time.monotonic() > end:
                raise Died(f"PostgreSQL did not start:\n{self.server.text()[-2000:]}")
            time.sleep(0.05)

    def server_down(self):
        """It ends as at a crash: nothing is finished, and the next start recovers from its log."""
        self.server.stop(signal.SIGQUIT, within=60)

    def server_url(self, name):
        with open(os.path.join(self.disk, "pg", "ready")) as file:
            return file.read().strip().rsplit("/", 1)[0] + f"/{name}"

    def psql(self, sql, name="chaos"):
        return run(["psql", self.server_url(name), "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-c", sql])

    def events(self):
        names = {"events": "sluice.events", "streams": "sluice.streams", "kinds": "sluice.event_kinds"}
        rows = self.psql(f"SELECT row_to_json(t) FROM ({EVENTS.format(**names)}) t")
        return [json.loads(row) for row in rows.splitlines()]

    def rewrite(self, position, payload):
        quoted = payload.replace("'", "''")
        self.psql("SET session_replication_role = replica; "
                  f"UPDATE sluice.events SET payload = E'{quoted.replace(chr(92), chr(92) * 2)}' WHERE position = {position}")

    def harms(self):
        def table(random):
            tables = self.psql("SELECT tablename FROM pg_tables WHERE schemaname = 'sluice_read' "
                               "AND tablename <> '_sqlx_migrations' ORDER BY 1").split()
            self.psql(f"DROP TABLE sluice_read.{random.choice(tables)} CASCADE")

        def newer(random):
            self.psql("INSERT INTO sluice_read._sqlx_migrations (version, description, success, checksum, execution_time) "
                      "VALUES (99999999, 'of a later version', true, '\\x00', 0)")

        return {
            "removed": lambda random: self.psql("DROP SCHEMA sluice_read CASCADE"),
            "a table dropped": table,
            "of a newer version": newer,
        }

    def cut(self):
        """Every connection of the service to its database ends."""
        self.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'chaos' AND pid <> pg_backend_pid()")

    def close(self, keep=False):
        if self.alive():
            self.signal(signal.SIGCONT)
            self.kill()
        if self.server is not None and self.server.alive():
            self.server.stop(signal.SIGQUIT)
        super().close(keep)


ENGINES = {"sqlite": OnFiles, "postgres": OnServer}


def removed(folder):
    shutil.rmtree(folder, ignore_errors=True)
