"""Embedding jobs of several splits: what they hold, and what an attempt leaves to the next one."""

import copy
from pathlib import Path
from typing import ClassVar

import made_up
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import inputs_of

from cellgauge.core.errors import CellgaugeError
from cellgauge.inference.several_splits import embed_several
from cellgauge.plan import paths

FULL = made_up.configuration()


def inputs(splits_per_job, models=("uce_33l", "random"), datasets=("tabula_sapiens_v2", "spermatogenesis")):
    config = copy.deepcopy(FULL)
    config["models"]["uce_33l"]["splits_per_job"] = splits_per_job
    tasks = ["clustering", "cross_species"]
    config["run"] |= {"models": list(models), "datasets": list(datasets), "tasks": tasks, "seeds": [42], "also": []}
    config["run"].setdefault("profiles", ["corrected"])
    return inputs_of(config)


@settings(max_examples=examples(20), deadline=None)
@given(st.integers(1, 40))
def test_every_embedding_of_the_model_is_made_by_one_job(splits_per_job):
    planned = inputs(splits_per_job)
    expected = [path for path in planned.embeddings() if "/uce_33l/" in path]
    shared = [path for job in planned.shared_jobs for path in job.each(paths.EMBEDDING)]
    assert len(shared) == len(set(shared)) and set(shared) <= set(expected)
    assert all(1 < len(job.splits) <= splits_per_job for job in planned.shared_jobs)
    if splits_per_job > 1:
        alone = set(expected) - set(shared)  # what remains of a dataset may be a single split
        assert len(alone) <= len(planned.run.datasets)
    assert len({job.name for job in planned.shared_jobs}) == len(planned.shared_jobs)


def test_a_shared_job_reads_the_checkpoint_and_the_files_of_all_its_species():
    planned = inputs(26)
    tissues, species = planned.shared_jobs
    assert len(tissues.splits) == 26 and species.splits == ("human", "mouse", "rhesus_macaque")
    assert not any("Mus_musculus" in path for path in planned.shared_weights(tissues))
    assert {"Mus_musculus", "Homo_sapiens", "Macaca_mulatta"} == {
        Path(path).name.partition(".")[0] for path in planned.shared_weights(species) if "protein_embeddings" in path
    }


def test_the_log_of_a_shared_job_is_that_of_each_of_its_scores():
    planned = inputs(26)
    job = planned.shared_jobs[0]
    cells = [cell for cell in planned.grid.cells if (cell.model, cell.dataset) == (job.model, job.dataset)]
    logs = {log for cell in cells for rule, _, log in planned.jobs(cell) if rule == "embed"}
    assert len(cells) == 26 and logs == {job.log}


@pytest.fixture
def job(tmp_path):
    """Return a job of three splits, whose second split fails while `job.faults` holds it; `job.calls` counts."""

    class Job:
        splits: ClassVar = [tmp_path / f"{name}.h5ad" for name in ("a", "b", "c")]
        outputs: ClassVar = [tmp_path / "out" / f"{name}.h5ad" for name in ("a", "b", "c")]
        benchmarks: ClassVar = [tmp_path / "benchmarks" / f"{name}.tsv" for name in ("a", "b", "c")]
        faults: ClassVar = {"b"}
        calls: ClassVar = []

        def run(self, **options):
            about = {"weights": tmp_path / "weights", "model": "m", "options": options, "code": "1"}
            embed_several(embed, "random", self.splits, self.outputs, benchmarks=self.benchmarks, **about)

    def embed(adapter, split_paths, output, **about):
        (split,) = split_paths
        Job.calls.append(split.stem)
        if split.stem in Job.faults:
            raise CellgaugeError("the GPU is gone")
        output.parent.mkdir(exist_ok=True)
        output.write_text(split.stem + str(about["options"]))

    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.pt").write_text("1")
    for split in Job.splits:
        split.write_text(split.stem)
    return Job()


def test_what_an_attempt_embedded_is_taken_up_by_the_next(job):
    with pytest.raises(CellgaugeError, match="the GPU is gone"):
        job.run()
    assert not any(path.exists() for path in job.outputs)
    job.faults.clear()
    job.run()
    assert job.calls == ["a", "b", "b", "c"]
    assert [path.read_text()[0] for path in job.outputs] == ["a", "b", "c"]
    assert sorted(path.name for path in job.outputs[0].parent.iterdir()) == ["a.h5ad", "b.h5ad", "c.h5ad"]
    header, values = job.benchmarks[2].read_text().splitlines()
    assert header.split("\t") == ["s", "max_rss", "cpu_time"] and all(float(value) >= 0 for value in values.split("\t"))


@pytest.mark.parametrize("change", ["options", "split", "weights"])
def test_what_an_attempt_embedded_of_something_else_is_made_again(job, change):
    with pytest.raises(CellgaugeError):
        job.run()
    job.faults.clear()
    if change == "split":
        job.splits[0].write_text("another")
    if change == "weights":
        (job.splits[0].parent / "weights" / "model.pt").write_text("22")
    job.run(**({"seed": 7} if change == "options" else {}))
    assert job.calls == ["a", "b", "a", "b", "c"]
    assert len(list(job.outputs[0].parent.iterdir())) == 3
