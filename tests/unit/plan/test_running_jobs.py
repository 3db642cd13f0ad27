"""Which jobs of a cluster are those of an earlier run in a folder."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellgauge.plan import slurm

HERE = Path("/data/a|b")  # a folder may have the separator in its name
RUNS = st.builds(lambda prefix, run: f"{prefix}{run}", st.sampled_from(["", "cellgauge_", "my-run_"]), st.uuids())
OTHERS = st.from_regex(r"[a-zA-Z0-9_.-]{0,30}", fullmatch=True).filter(lambda name: not slurm.RUN.fullmatch(name))
FOLDERS = st.sampled_from([str(HERE), "/data/a", "/data/a|b/c", "/home"])


@given(st.lists(st.tuples(st.one_of(RUNS, OTHERS), FOLDERS)))
def test_jobs_of_runs_in_this_folder_are_named_and_no_others(jobs):
    message = slurm.running_jobs("".join(f"{name}|{folder}\n" for name, folder in jobs), HERE)
    names = [name for name, folder in jobs if slurm.RUN.fullmatch(name) and folder == str(HERE)]
    if not names:
        assert message == ""
        return
    assert message.startswith(f"{len(names)} SLURM job{'s' if len(names) > 1 else ''} ")
    assert f"`scancel --name={','.join(sorted(set(names)))}`" in message


@pytest.mark.parametrize(
    ("answer", "words"),
    [("exit 1", "does not say"), ("echo 'cellgauge_3494e0dc-e3e8-4a1e-9725-f0c55093f0a4|'$PWD", "scancel")],
)
def test_a_run_ends_where_jobs_run_or_nobody_says(answer, words, tmp_path, monkeypatch):
    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\n{answer}\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=words):
        slurm.stop_beside_running_jobs()
    squeue.write_text("#!/bin/sh\necho 'interactive|'$PWD\n")
    slurm.stop_beside_running_jobs()
