"""SLURM for real on this machine: a controller and one node with four made-up cores and two made-up GPUs, no accounting."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

ETC = Path("/etc/slurm")  # clients inside jobs look nowhere else: the plugin takes SLURM's variables from them
GPUS = 2
CORES, MEMORY_MB = 4, 16_000  # what the node says that it has, whatever it has

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort=16917
SlurmdPort=16918
StateSaveLocation={folder}/controller
SlurmdSpoolDir={folder}/node
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
MinJobAge=600
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
KillWait=2
ReturnToService=2
MpiDefault=none
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Return why SLURM cannot be started here, "" if it can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "SLURM's daemons are started by root alone"
    if absent := [name for name in ("slurmctld", "slurmd", "munged", "sbatch", "srun") if not shutil.which(name)]:
        return f"no {', '.join(absent)}: apt-get install slurmctld slurmd slurm-client munge"
    if any((ETC / name).exists() for name in ("slurm.conf", "gres.conf", "cgroup.conf")):
        return f"{ETC} holds the configuration of a cluster"
    return ""


class SlurmMachine:
    """The daemons; `stop` ends them, by their process ids."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.host = folder, socket.gethostname().partition(".")[0]
        for name in ("controller", "node"):
            (folder / name).mkdir()
        folder.chmod(0o755)
        facts = {"folder": folder, "host": self.host, "cores": CORES, "memory": MEMORY_MB, "gpus": GPUS}
        (folder / "slurm.conf").write_text(CONF.format(**facts), encoding="utf-8")
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n", encoding="utf-8")
        gpus = [folder / f"gpu{number}" for number in range(GPUS)]
        for gpu in gpus:  # a device each, of the numbers of /dev/null
            os.mknod(gpu, 0o666 | 0o020000, os.makedev(1, 3))
        lines = [f"NodeName={self.host} Name=gpu File={gpu}\n" for gpu in gpus]
        (folder / "gres.conf").write_text("".join(lines), encoding="utf-8")
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        ETC.mkdir(exist_ok=True)
        self.links = [ETC / name for name in ("slurm.conf", "gres.conf", "cgroup.conf")]
        for link in self.links:
            link.symlink_to(folder / link.name)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        folder = self.folder
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munge.log"}
        options = [f"--{option}={folder / name}" for option, name in {**files, "seed-file": "munge.seed"}.items()]
        self._run("munged", *options, "--num-threads=1", "--force")
        self._run("slurmctld", "-c", "-f", str(folder / "slurm.conf"))
        self._wait_for("sinfo", "-h", "-o", "%P")
        self._run("slurmd", "-f", str(folder / "slurm.conf"), "-N", self.host)
        self._wait_for("sinfo", "-h", "-o", "%T", answer="idle")

    def _run(self, *command: str) -> str:
        # The daemons outlive the command, and would hold a pipe open.
        with (self.folder / "start.log").open("ab") as log:
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True, timeout=60)
        return ""

    def _wait_for(self, *command: str, answer: str = "", seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0 and (done.stdout.strip() == answer if answer else done.stdout.strip()):
                return
            time.sleep(0.2)
        logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.log"))
        raise RuntimeError(f"SLURM did not start within {seconds:.0f} s: {logs}")

    def queue(self, what: str = "%j") -> list[str]:
        """Return a line for each job that has not ended, in squeue's format."""
        done = subprocess.run(["squeue", "-h", "-o", what], capture_output=True, text=True, check=True)
        return done.stdout.split("\n")[:-1]

    def ended(self) -> list[dict[str, str]]:
        """Return what SLURM wrote down of each job that has ended, the first submitted first: JobId, JobState, TimeLimit..."""
        text = (self.folder / "jobs.txt").read_text(encoding="utf-8") if (self.folder / "jobs.txt").exists() else ""
        rows = [dict(word.partition("=")[::2] for word in line.split() if "=" in word) for line in text.splitlines()]
        return sorted(rows, key=lambda row: int(row["JobId"]))

    def stop(self) -> None:
        """End the jobs and the daemons, and take the configuration away."""
        if (self.folder / "slurmctld.pid").exists():
            subprocess.run(["scancel", "--user=root"], capture_output=True, check=False, timeout=30)
        for name in ("slurmd", "slurmctld", "munged"):
            file = self.folder / f"{name}.pid"
            if file.exists() and (text := file.read_text().strip()):
                end(int(text))
        for link in self.links:
            if link.is_symlink() and link.readlink() == self.folder / link.name:
                link.unlink()


def end(pid: int, seconds: float = 10) -> None:
    """Ask a process to end, and wait until it has."""
    try:
        os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            os.kill(pid, 0)
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
