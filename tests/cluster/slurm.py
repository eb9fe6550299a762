"""A real Slurm on this host's loopback: two nodes, one of them with eight GPUs that are only character devices.

It installs Debian's packages where they are missing, and starts and stops everything itself. Its configuration is linked into
/etc/slurm for as long as it runs, since Slurm's clients look nowhere else once a job has stripped its environment.
"""

import fcntl
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
ETC = Path("/etc/slurm")
FILES = (ETC / "slurm.conf", ETC / "gres.conf")
PREFIX = "limbeck-slurm-"
MARK = "SLURM_CLUSTER_NAME"  # stands in the environment of every job
LOCK = Path("/tmp/limbeck-slurm.lock")
# memory is watched every second and what exceeds its request is killed, as sites with cgroups do
CONFIG = """
ClusterName={root.name}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={root}/run/munge.sock
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool.%n
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd.%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={root}/log/jobcomp.txt
GresTypes=gpu
MinJobAge=3600
DefMemPerCPU=500
NodeName=n1 NodeHostName={host} NodeAddr=127.0.0.1 Port=16818 CPUs=8 RealMemory=64000
NodeName=n2 NodeHostName={host} NodeAddr=127.0.0.1 Port=16819 CPUs=16 RealMemory=128000 Gres=gpu:h200:8
PartitionName=cpu Nodes=n1 Default=YES MaxTime=UNLIMITED State=UP
PartitionName=gpu Nodes=n2 MaxTime=UNLIMITED State=UP
"""


def impossible() -> str | None:
    """Why no Slurm can run here; None where it can. Debian's packages are installed where that is all that is missing."""
    if os.geteuid() != 0:
        return "a Slurm of its own needs root"
    if any(os.path.lexists(path) and _linked(path) is None for path in FILES):
        return f"{ETC} has a configuration that is not this test's"
    if not all(map(shutil.which, PROGRAMS)):
        if shutil.which("apt-get") is None:
            return f"Slurm is not installed ({', '.join(PACKAGES)}), and there is no apt-get to install it"
        install = ["apt-get", "install", "-y", "-qq", "-o", "Acquire::Retries=3", "--no-install-recommends", *PACKAGES]
        for command in (["apt-get", "update", "-qq"], install):
            done = subprocess.run(
                command, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, capture_output=True, text=True, check=False
            )
        if done.returncode != 0:
            return f"Debian's packages {', '.join(PACKAGES)} cannot be installed: {done.stderr.strip()[-200:]}"
    return None


class Slurm:
    """What a test asks of the running cluster."""

    def __init__(self, root: Path):
        self.root = root
        self.environment = {MARK: root.name}  # for what sends jobs, so that it ends with the cluster

    def jobs(self) -> list[dict[str, str]]:
        """Every job since the start, as ``scontrol show job`` describes it."""
        text = subprocess.run(["scontrol", "show", "job", "-o"], capture_output=True, text=True, check=True).stdout
        return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in text.splitlines() if line.startswith("JobId=")]

    def queued(self) -> list[str]:
        """Names of the jobs that wait, run or are being ended."""
        return subprocess.run(["squeue", "-h", "-o", "%j"], capture_output=True, text=True, check=True).stdout.split()

    def killed(self) -> set[str]:
        """Ids of the jobs that were ended for their memory."""
        return set(re.findall(r"StepId=(\d+)\.\S+ exceeded memory limit", self.log()))

    def log(self) -> str:
        """What the daemons have written."""
        return "\n".join(f"{path}:\n{path.read_text()}" for path in sorted((self.root / "log").glob("*.log")))


@contextmanager
def running() -> Iterator[Slurm]:
    """The cluster, ready; one at a time on a host."""
    with open(LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        root = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
        slurm = Slurm(root)
        handler = signal.signal(signal.SIGTERM, signal.default_int_handler)  # it would leave the cluster behind
        try:
            for left in {folder for path in FILES if (folder := _linked(path))}:  # by a test that was killed: this one has the lock
                _stop(left)
            _configure(root)
            _start(root)
            _wait(slurm)
            yield slurm
        finally:
            _stop(root)
            signal.signal(signal.SIGTERM, handler)


def _linked(path: Path) -> Path | None:
    """The folder of the cluster whose file is linked here; None where there is no link, or somebody else's."""
    folder = Path(os.readlink(path)).parent if path.is_symlink() else ETC
    return folder if folder.name.startswith(PREFIX) else None


def _configure(root: Path) -> None:
    """Folders that munge accepts, a key, devices, and both files where every client looks for them."""
    host = socket.gethostname().split(".")[0]
    root.chmod(0o755)
    for name in ("run", "log", "state", "spool.n1", "spool.n2"):
        (root / name).mkdir()
        (root / name).chmod(0o755)
    for number in range(8):
        os.mknod(root / f"gpu{number}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    key = root / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    (root / "slurm.conf").write_text(CONFIG.format(host=host, root=root))
    (root / "gres.conf").write_text(f"NodeName=n2 Name=gpu Type=h200 File={root}/gpu[0-7]\n")
    ETC.mkdir(exist_ok=True)
    for path in FILES:
        path.symlink_to(root / path.name)


def _start(root: Path) -> None:
    files = [f"--key-file={root}/munge.key", f"--socket={root}/run/munge.sock", f"--pid-file={root}/run/munged.pid"]
    files += [f"--log-file={root}/log/munged.log", f"--seed-file={root}/run/munged.seed"]
    for command in (["munged", *files], ["slurmctld", "-c"], ["slurmd", "-N", "n1"], ["slurmd", "-N", "n2"]):
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)


def _wait(slurm: Slurm, seconds: float = 60.0) -> None:
    """Until both nodes are idle."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done = subprocess.run(["sinfo", "-h", "-N", "-o", "%t"], capture_output=True, text=True, check=False)
        if done.stdout.split() == ["idle", "idle"]:
            return
        time.sleep(0.2)
    raise RuntimeError(f"Slurm's nodes are not idle after {seconds} s: {done.stdout} {done.stderr}\n{slurm.log()[-6000:]}")


def _stop(root: Path, seconds: float = 30.0) -> None:
    """Kill the daemons and what is left of the jobs, then remove all that was written: nothing of the cluster's state is kept."""
    for path in FILES:
        if _linked(path) == root:
            path.unlink()
    end = time.monotonic() + seconds
    while left := _processes(root):
        if time.monotonic() > end:
            raise RuntimeError(f"Slurm's processes {left} do not end")
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    shutil.rmtree(root, ignore_errors=True)


def _processes(root: Path) -> list[int]:
    """Daemons and steps by their folder, jobs and what sends them by their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            environment = (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_bytes()
            works = Path(os.readlink(process / "cwd")).is_relative_to(root)
            if works or f"{root}/".encode() in command or f"{MARK}={root.name}".encode() in environment:
                found.append(int(process.name))
    return found
