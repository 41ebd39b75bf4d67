"""A real SLURM of our own on the loopback: munge, MariaDB, slurmdbd, slurmctld and two nodes that pretend to have many CPUs.

Everything is in one folder and ended by process id. Needs root, since nodes start jobs as other users; the packages are
those of Debian. Commands that change accounts are written down, so that a test can say how often each one ran.
"""

import os
import pwd
import shutil
import socket
import time

from checks import Process, free_ports, run

NODES = 2
CPUS = 128
PACKAGES = {
    "munged": "munge", "mariadbd": "mariadb-server", "mariadb-install-db": "mariadb-server", "slurmdbd": "slurmdbd",
    "slurmctld": "slurmctld", "slurmd": "slurmd", "sacctmgr": "slurm-client",
}
# Without "safe", as a job may then cross a limit and later ones wait: with it nobody ever reaches the limit.
ENFORCE = "associations,limits,qos"


def missing():
    """Debian packages of programs that are not there."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    return sorted({package for program, package in PACKAGES.items() if not shutil.which(program, path=path)})


class Cluster:
    """The daemons, and what a test asks of them."""

    def __init__(self, folder):
        self.folder = folder
        self.daemons = []
        self.host = socket.gethostname().split(".")[0]
        self.ctl, self.dbd, *self.nodes = free_ports(2 + NODES)
        self.conf = f"{folder}/etc/slurm.conf"
        self.env = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "SLURM_CONF": self.conf, "HOME": "/tmp", "LANG": "C"}
        self.bin = f"{folder}/bin"
        self.record = f"{folder}/record/sacctmgr.log"

    # Files

    def _folder(self, name, owner=None, mode=0o755):
        path = f"{self.folder}/{name}"
        os.makedirs(path, exist_ok=True)
        os.chmod(path, mode)
        if owner:
            entry = pwd.getpwnam(owner)
            os.chown(path, entry.pw_uid, entry.pw_gid)
        return path

    def _file(self, name, text, owner=None, mode=0o644):
        path = f"{self.folder}/{name}"
        with open(path, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
        os.chmod(path, mode)
        if owner:
            entry = pwd.getpwnam(owner)
            os.chown(path, entry.pw_uid, entry.pw_gid)
        return path

    def _files(self):
        os.makedirs(self.folder, exist_ok=True)
        os.chmod(self.folder, 0o755)
        for name in ("etc", "log", "bin"):
            self._folder(name)
        # Whoever runs sacctmgr writes here, the agent and the test.
        self._folder("record", mode=0o1777)
        for name in ("munge", "munge/run", "munge/key", "munge/log"):
            self._folder(name, "munge", 0o700 if name.endswith(("key", "log")) else 0o755)
        self._file("munge/key/munge.key", os.urandom(128), "munge", 0o400)
        self._folder("mysql", "mysql", 0o700)
        self._folder("mysql-run", "mysql")
        for name in ("slurm", "slurm/state", "slurm/run", "slurm/log"):
            self._folder(name, "slurm")
        munge = f"{self.folder}/munge/run/munge.socket"
        settings = [
            "AuthType=auth/munge", f"AuthInfo=socket={munge}", "SlurmUser=slurm",
        ]
        self._file("etc/slurmdbd.conf", "\n".join([
            *settings, f"DbdHost={self.host}", "DbdAddr=127.0.0.1", f"DbdPort={self.dbd}",
            f"LogFile={self.folder}/slurm/log/slurmdbd.log", f"PidFile={self.folder}/slurm/run/slurmdbd.pid",
            "StorageType=accounting_storage/mysql", "StorageHost=localhost", "StorageUser=slurm", "StorageLoc=accounting",
            "CommunicationParameters=NoInAddrAny", ""]), "slurm", 0o600)
        nodes = [f"NodeName=n{n} NodeHostname={self.host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} RealMemory=500000"
                 for n, port in enumerate(self.nodes)]
        names = ",".join(f"n{n}" for n in range(NODES))
        self._file("etc/slurm.conf", "\n".join([
            *settings, "ClusterName=e2e", f"SlurmctldHost={self.host}(127.0.0.1)", f"SlurmctldPort={self.ctl}",
            "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny", "SlurmdUser=root", "CredType=cred/munge", "MpiDefault=none",
            "ProctrackType=proctrack/linuxproc", "TaskPlugin=task/none", "JobAcctGatherType=jobacct_gather/none",
            f"StateSaveLocation={self.folder}/slurm/state", f"SlurmdSpoolDir={self.folder}/spool.%n",
            f"SlurmctldPidFile={self.folder}/slurm/run/slurmctld.pid", f"SlurmdPidFile={self.folder}/log/slurmd.%n.pid",
            f"SlurmctldLogFile={self.folder}/slurm/log/slurmctld.log", f"SlurmdLogFile={self.folder}/log/slurmd.%n.log",
            "SlurmdParameters=config_overrides", "ReturnToService=2", "MinJobAge=600", "KillWait=2",
            "SchedulerType=sched/builtin", "SchedulerParameters=sched_interval=2,sched_min_interval=0",
            "SelectType=select/cons_tres", "SelectTypeParameters=CR_Core", "PriorityType=priority/multifactor",
            "PriorityDecayHalfLife=0", "PriorityCalcPeriod=1", "PriorityUsageResetPeriod=NONE",
            "AccountingStorageType=accounting_storage/slurmdbd", "AccountingStorageHost=127.0.0.1",
            # With slurmdbd this is the socket of munge.
            f"AccountingStoragePort={self.dbd}", f"AccountingStoragePass={munge}",
            f"AccountingStorageEnforce={ENFORCE}",
            *nodes, f"PartitionName=main Nodes={names} Default=YES State=UP MaxTime=INFINITE DefaultTime=5", ""]))
        self._file("etc/cgroup.conf", "CgroupAutomount=no\n")
        # What the agent calls: the real commands, with a line for each in a record.
        for name in ("sacctmgr", "sacct", "scancel", "sinfo", "squeue", "sreport"):
            real = shutil.which(name, path=self.env["PATH"])
            self._file(f"bin/{name}", f'#!/bin/sh\nexport SLURM_CONF={self.conf}\necho "{name} $*" >>{self.record}\n'
                       f'exec {real} "$@"\n', mode=0o755)

    # Daemons

    def _daemon(self, name, command, user=None, env=None):
        log = f"{self.folder}/log/{name}.out"
        process = Process(name, command, log, env={**self.env, **(env or {})}, user=user)
        self.daemons.append(process)
        return process

    def _wait(self, process, what, ready, within=60):
        end = time.monotonic() + within
        while True:
            try:
                if ready():
                    return
            except (RuntimeError, OSError):
                pass
            if time.monotonic() > end or (process is not None and not process.alive()):
                raise RuntimeError(f"{what} did not come up: {process.text()[-2000:] if process else ''}")
            time.sleep(0.1)

    def up(self):
        self._files()
        munge = f"{self.folder}/munge"
        process = self._daemon("munged", [
            "munged", "--foreground", f"--socket={munge}/run/munge.socket", f"--key-file={munge}/key/munge.key",
            f"--log-file={munge}/log/munged.log", f"--pid-file={munge}/run/munged.pid", f"--seed-file={munge}/key/seed"],
            user="munge")
        self._wait(process, "munged", lambda: os.path.exists(f"{munge}/run/munge.socket"))
        data, sock = f"{self.folder}/mysql", f"{self.folder}/mysql-run/mysqld.sock"
        run(["mariadb-install-db", "--no-defaults", "--user=mysql", f"--datadir={data}", "--skip-test-db",
             "--auth-root-authentication-method=socket", "--innodb-log-file-size=16M"], env=self.env)
        process = self._daemon("mariadbd", [
            "mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={sock}", "--skip-networking",
            f"--pid-file={self.folder}/mysql-run/mysqld.pid", "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M",
            "--innodb-lock-wait-timeout=900", "--innodb-flush-log-at-trx-commit=2", "--skip-log-bin"], user="mysql")
        sql = ("create database if not exists accounting; create user if not exists slurm@localhost identified via unix_socket; "
               "grant all on accounting.* to slurm@localhost")
        self._wait(process, "mariadbd", lambda: run(["mariadb", "--no-defaults", "-S", sock, "-e", sql], env=self.env) or True)
        # The client library takes the socket from the environment; slurmdbd has no setting for it.
        process = self._daemon("slurmdbd", ["slurmdbd", "-D"], user="slurm", env={"MYSQL_UNIX_PORT": sock})
        self._wait(process, "slurmdbd", lambda: self.sacctmgr("-n", "list", "cluster") or True)
        if "e2e" not in self.sacctmgr("-nP", "list", "cluster", "format=cluster"):
            self.sacctmgr("-i", "add", "cluster", "e2e")
        process = self._daemon("slurmctld", ["slurmctld", "-D", "-f", self.conf], user="slurm")
        for n in range(NODES):
            self._folder(f"spool.n{n}")
            self._daemon(f"slurmd.n{n}", ["slurmd", "-D", "-N", f"n{n}", "-f", self.conf])
        self._wait(process, "slurmctld", lambda: "UP" in self.slurm("scontrol", "ping"))
        registered = lambda: str(self.ctl) in self.sacctmgr("-nP", "list", "cluster", "format=controlport")
        self._wait(process, "slurmctld with slurmdbd", registered)
        self._wait(process, "nodes", lambda: self.slurm("sinfo", "-h", "-N", "-o", "%t").split() == ["idle"] * NODES)
        return self

    def down(self):
        try:
            if self.daemons:
                run(["scancel", "-f", "--state=RUNNING"], env=self.env, check=False, timeout=20)
                run(["scancel", "-f", "--state=PENDING"], env=self.env, check=False, timeout=20)
                end = time.monotonic() + 10
                while time.monotonic() < end and self.slurm("squeue", "-h").strip():
                    time.sleep(0.2)
        except (RuntimeError, OSError):
            pass
        # The last started first; jobs ended before their nodes, since a job outlives its slurmd.
        for process in reversed(self.daemons):
            process.stop()
        self.daemons = []

    # Questions and orders

    def slurm(self, *command, user=None, check=True):
        return run(list(command), env=self.env, check=check, user=user, group=user, cwd="/tmp",
                   extra_groups=[] if user else None, timeout=60)

    def sacctmgr(self, *arguments, check=True):
        return self.slurm("sacctmgr", *arguments, check=check)

    def lay_out(self, account, users):
        for qos in ("slowdown", "blocked"):
            self.sacctmgr("-i", "add", "qos", qos)
        self.sacctmgr("-i", "modify", "qos", "blocked", "set", "GrpSubmitJobs=0")
        self.sacctmgr("-i", "add", "account", account, f"Description={account}", "Organization=e2e")
        self.sacctmgr("-i", "modify", "account", account, "set", "qos=normal")
        for user in users:
            self.sacctmgr("-i", "add", "user", user, f"account={account}")

    def account(self, account):
        """QoS, fairshare and limits of an account itself."""
        line = self.sacctmgr("-nP", "list", "associations", f"account={account}", "user=", "format=qos,fairshare,grptresmins")
        qos, fairshare, limits = line.splitlines()[0].split("|")
        return {"qos": qos, "fairshare": int(fairshare), "limits": limits}

    def default_qos(self, account):
        """The class of service that jobs of an account have unless they say another."""
        return self.sacctmgr("-nP", "list", "associations", f"account={account}", "user=", "format=defaultqos").strip()

    def users(self, account):
        lines = self.sacctmgr("-nP", "list", "associations", f"account={account}", "format=user").split()
        return sorted(lines)

    def counted(self, account):
        """Minutes of CPU that count against the account's limit."""
        text = self.slurm("sshare", "-P", "-n", "-A", account, "-o", "Account,User,GrpTRESRaw")
        for line in text.splitlines():
            name, user, raw = line.strip().split("|")
            if name.strip() == account and not user:
                found = [part.split("=")[1] for part in raw.split(",") if part.startswith("cpu=")]
                return int(found[0]) if found else 0
        raise RuntimeError(f"no {account} in {text}")

    def submit(self, user, account, cpus, seconds, *more):
        """Submits a job; gives its id, or raises what SLURM says."""
        text = self.slurm("sbatch", "--parsable", f"--account={account}", f"--ntasks={cpus}", "--time=5", "--output=/dev/null",
                          *more, f"--wrap=sleep {seconds}", user=user)
        return text.strip().splitlines()[-1]

    def job(self, job):
        """State and reason of a job."""
        text = self.slurm("scontrol", "-o", "show", "job", job)
        words = dict(word.split("=", 1) for word in text.split() if "=" in word)
        return words["JobState"], words.get("Reason", "")

    def modifications(self, account):
        """What was set on the account so far, by the record: in order, from the agent and from nobody else."""
        if not os.path.exists(self.record):
            return []
        with open(self.record) as file:
            lines = [line.strip() for line in file]
        marks = f" modify account {account} set "
        return [line.split(" set ", 1)[1] for line in lines if marks in line]
