"""Check a GPU: golden vectors, speed of every family at its published size, scoring, tests, memory. No network is needed.

    python bench/gpu_check.py [--folder .gpu-check] [--output results/bench/gpu.json] [--minutes 8]

`bench/gpu_bundle.py` makes the folder, on a machine with network. Every step (`bench/gpu_steps.py`) is a process with a time of
its own: one that fails or takes too long costs its own results alone. The output is written anew after each step, and a
short table is printed last. docs/performance.md says what the numbers mean and where to send them.
`--rehearse` goes through all of it on the CPU, with tiny networks.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

# Only the standard library here: packages come from the folder.
ROOT = Path(__file__).resolve().parents[1]
STEPS_FILE = ROOT / "bench" / "gpu_steps.py"
FAMILIES = ("scgpt", "uce", "geneformer", "transcriptformer", "aido_cell", "uce_33l")
BESIDE = 12  # processor cores from which the CPU's scoring runs beside the steps on the GPU
SLOWER = 8  # times as long as on a GPU may a step of a rehearsal take
THREADS = 4  # of a job, as Snakemake grants them: one starts the kernels, the others prepare cells
FORMAT = 1


@dataclass(frozen=True)
class Step:
    """A process of the check: its arguments and the seconds that it may take."""

    arguments: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        return " ".join(self.arguments)


STEPS = (
    Step(("machine",), 60),
    Step(("golden",), 90),
    *(Step(("family", family), 75) for family in FAMILIES[:-1]),
    Step(("memory",), 40),
    Step(("tests",), 120),
    Step(("scoring", "gpu"), 45),
    Step(("family", FAMILIES[-1]), 60),
    *(Step(("compiled", family), 75) for family in FAMILIES[:-1]),  # last: what no time is left for is not missed
)
ON_THE_CPU = Step(("scoring", "cpu"), 240)


@dataclass
class Check:
    """A check while it runs.

    Attributes:
        environment: of all steps; it leads to the unpacked wheels.
        done: what became of each step.
    """

    folder: Path
    scratch: Path
    output: Path
    device: str
    rehearse: bool
    deadline: float
    environment: dict[str, str]
    done: list[dict[str, Any]] = field(default_factory=list)

    def run(self, step: Step) -> bool:
        """Run a step until it ends or its time is up; return whether it ended well."""
        seconds = min(step.seconds * (SLOWER if self.rehearse else 1), self.deadline - time.monotonic())
        name = str(step).replace(" ", "_")
        began = time.monotonic()
        status = "no time was left" if seconds < 5 else self._ended(step, name, seconds)
        row = {"step": str(step), "seconds": round(time.monotonic() - began, 1), "status": status}
        if status != "done":
            log = self.scratch / f"{name}.log"
            row["log"] = log.read_text(encoding="utf-8", errors="replace")[-1500:] if log.exists() else ""
        self.done.append(row)
        self.write()
        print(f"{row['seconds']:7.1f} s  {step}: {status}", flush=True)
        return status == "done"

    def _ended(self, step: Step, name: str, seconds: float) -> str:
        command = [sys.executable, str(STEPS_FILE), *step.arguments, "--folder", str(self.folder)]
        command += ["--scratch", str(self.scratch), "--lines", str(self.scratch / f"{name}.jsonl")]
        command += ["--device", self.device, "--seconds", str(max(1.0, seconds - 5))]
        command += ["--rehearse"] if self.rehearse else []
        n_threads = 1 if step is ON_THE_CPU else min(THREADS, os.cpu_count() or 1)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(n_threads))
        with (self.scratch / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=self.environment | threads, cwd=ROOT, start_new_session=True
            )
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                return f"stopped after {seconds:.0f} s"
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)  # with what it started
                    process.wait()
        return "done" if code == 0 else f"failed (exit {code})"

    def prepare(self, family: str) -> None:
        """Make the cells and the checkpoint of a family; where that fails, say so to who waits for them."""
        if not self.run(Step(("prepare", family), 150)):
            (self.scratch / family).mkdir(exist_ok=True)
            (self.scratch / family / "failed").touch()

    def write(self) -> None:
        """Write all results so far, whole or not at all."""
        results: dict[str, list[dict[str, Any]]] = {}
        for path in sorted(self.scratch.glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    continue  # cut short as the step was stopped
                results.setdefault(row.pop("kind"), []).append(row)
        about = {
            "format": FORMAT,
            "date": datetime.now(UTC).date().isoformat(),
            "cellgauge": _commit(),
            "threads": min(THREADS, os.cpu_count() or 1),
            "rehearsal": self.rehearse,
        }
        self.output.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.output.with_name(f".{self.output.name}.tmp")
        temporary.write_text(json.dumps({**about, **results, "steps": self.done}, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self.output)


def _commit() -> str:
    """Return the commit of the code, "" where that is not known."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def unpack_wheels(wheels: Path, target: Path) -> list[str]:
    """Unpack the packages that this Python lacks, or has in another major release; return their files' names."""
    unpacked = []
    for wheel in sorted(wheels.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        try:
            present = metadata.version(name).partition(".")[0] == version.partition(".")[0]
        except metadata.PackageNotFoundError:
            present = False
        if not present:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(target)
            unpacked.append(wheel.name)
    return unpacked


def check(folder: Path, output: Path, minutes: float, *, rehearse: bool, steps: Sequence[Step] = STEPS) -> Check:
    """Run all steps; return what became of them."""
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as name:
        scratch = Path(name)
        site = scratch / "site"
        unpacked = unpack_wheels(folder / "wheels", site)
        print(f"unpacked {len(unpacked)} packages: {', '.join(unpacked) or 'all are here'}", flush=True)
        paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH", "")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
        environment |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "TOKENIZERS_PARALLELISM": "false"}
        environment |= {"HF_HUB_OFFLINE": "1"}
        deadline = time.monotonic() + 60 * minutes
        device = "cpu" if rehearse else "cuda:0"
        run = Check(folder, scratch, output, device, rehearse, deadline, environment)
        needed = {argument for step in steps for argument in step.arguments}
        needed |= {"scgpt"} if "memory" in needed else set()
        families = [family for family in FAMILIES if family in needed]
        cores = os.cpu_count() or 1
        beside = cores >= BESIDE
        with ThreadPoolExecutor(max(1, cores // 2)) as pool:
            for family in families:
                pool.submit(run.prepare, family)
            scored = any(step.arguments[0] == "scoring" for step in steps)
            if scored and beside:
                pool.submit(run.run, ON_THE_CPU)
            for step in steps:
                if step.arguments == ("scoring", "gpu") and not beside:
                    run.run(ON_THE_CPU)
                run.run(step)
        run.write()
        return run


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--folder", type=Path, default=ROOT / ".gpu-check")
    cli.add_argument("--output", type=Path, default=ROOT / "results" / "bench" / "gpu.json")
    cli.add_argument("--minutes", type=float, default=8)
    cli.add_argument("--rehearse", action="store_true", help="on the CPU, with tiny networks")
    cli.add_argument("--only", nargs="+", metavar="STEP", help="such as machine golden family:scgpt")
    args = cli.parse_args()
    if not (args.folder / "cells").is_dir():
        sys.exit(f"error: {args.folder} holds no cells; make it with `make gpu-bundle` where there is a network")
    names = args.only or [step.arguments[0] for step in STEPS]
    chosen = [step for step in STEPS if {step.arguments[0], ":".join(step.arguments)} & set(names)]
    done = check(args.folder, args.output, args.minutes, rehearse=args.rehearse, steps=chosen)
    sys.path.insert(0, str(ROOT / "bench"))
    import gpu_table

    print(f"\n{gpu_table.summary(json.loads(args.output.read_text(encoding='utf-8')))}\nAll numbers: {args.output}")
    if any(row["status"] != "done" for row in done.done):
        sys.exit("error: some steps did not end well, see above")


if __name__ == "__main__":
    main()
