"""Checkpoints in the configuration: which files a job needs, where they lie, what must be accepted."""

import copy
import json
import re

import pytest
from made_up import inputs_of
from small_run import CONFIG, w

from cellgauge.plan import config as settings

FILES = {"best_model.pt": "s3://b/scgpt/best_model.pt", "more/vocab.json": "hf://o/r@1/vocab.json"}
UCE = {
    "adapter": "uce",
    "weights_folder": "shared",
    "weights": {"4l.torch": "s3://b/4l.torch", "genes.csv": "https://h/genes.tar.gz!genes.csv"},
    "species_weights": {"human": {"h.pt": "s3://b/h.pt"}, "Mus musculus": {"m.pt": "s3://b/m.pt"}},
}


def configuration(**run):
    config = copy.deepcopy(CONFIG)
    config["models"] |= {
        "scgpt": {"adapter": "scgpt", "weights": FILES, "params": {"max_length": 5}},
        "uce": UCE,
        "uce_33": {**UCE, "weights": {"33l.torch": "s3://b/33l.torch", "genes.csv": UCE["weights"]["genes.csv"]}},
        "local": {"adapter": "scgpt", "weights": "my/scgpt"},
        "asks": {
            "adapter": "aido_cell",
            "weights": {"a": "s3://b/a"},
            "needs_acceptance": "non-commercial",
            "licence": "X",
        },
    }
    config["run"] |= {"models": ["scgpt", "uce", "uce_33", "local", "asks", "linear"], **run}
    return config


def inputs(**run):
    return inputs_of(configuration(**run))


def job(model, split="human"):
    return w(model=model, dataset="pair", split=split)


def test_a_job_needs_the_files_of_its_model_and_species():
    folder = "resources/weights"
    assert inputs().weights(job("scgpt")) == [f"{folder}/scgpt/best_model.pt", f"{folder}/scgpt/more/vocab.json"]
    assert inputs().weights(job("uce")) == [f"{folder}/shared/{name}" for name in ("4l.torch", "genes.csv", "h.pt")]
    assert inputs().weights(job("uce_33", "mouse")) == [
        f"{folder}/shared/{name}" for name in ("33l.torch", "genes.csv", "m.pt")
    ]
    assert inputs().weights(job("scgpt@7")) == inputs().weights(job("scgpt"))
    assert inputs().weights(job("local")) == ["my/scgpt"] and inputs().weights(job("linear")) == []


def test_the_script_is_given_the_folder():
    argument = {name: inputs().weights_argument(job(name)) for name in ("scgpt@7", "uce", "local", "linear", "mine")}
    assert argument == {
        "scgpt@7": ["resources/weights/scgpt"],
        "uce": ["resources/weights/shared"],
        "local": ["my/scgpt"],
        "linear": [],
        "mine": ["mine/pair/human.npy"],
    }


def test_every_file_is_fetched_once_from_its_url():
    chosen = inputs()
    paths = {
        path
        for model in ("scgpt", "uce", "uce_33")
        for s in ("human", "mouse")
        for path in chosen.weights(job(model, s))
    }
    assert len(paths) == 7
    for path in paths:
        found = re.fullmatch(rf"resources/weights/(?P<file>{chosen.patterns()['file']})", path)
        url = chosen.weights_url(w(**found.groupdict()))
        assert url.endswith(found["file"].rpartition("/")[2])
    assert re.fullmatch(chosen.patterns()["file"], "shared/another.pt") is None
    assert (
        re.fullmatch(inputs_of(CONFIG).patterns()["file"], "scgpt/m.pt") is None
    )  # where no model has a checkpoint nothing matches


def test_a_failed_download_is_found_behind_a_missing_score():
    cell = next(c for c in inputs().grid.cells if c.model == "uce" and c.split == "mouse")
    rules = [(rule, result, log) for rule, result, log in inputs().jobs(cell) if rule == "download_weights"]
    assert ("download_weights", "resources/weights/shared/m.pt", "logs/download_weights/shared/m.pt.log") in rules
    assert len(rules) == 3


def test_where_the_files_lie_is_no_option_of_the_model():
    assert json.loads(inputs().model_options(job("scgpt"))) == {"max_length": 5, "seed": 42}


def test_a_licence_must_be_accepted():
    refused, accepted = inputs(), inputs(accept_licences=["non-commercial"])
    reasons = {skipped.reason for skipped in refused.grid.skipped if skipped.model == "asks"}
    assert any(
        reason == "the licence non-commercial must be accepted: read it (X), then add it to accept_licences"
        for reason in reasons
    )
    assert not [cell for cell in refused.grid.cells if cell.model == "asks"]
    assert [cell for cell in accepted.grid.cells if cell.model == "asks"]


def test_the_configuration_is_right():
    settings.check(configuration(accept_licences=["non-commercial"]))
    config = configuration()
    settings.check(config)
    assert config["run"]["accept_licences"] == []


@pytest.mark.parametrize(
    ("model", "changes", "words"),
    [
        ("scgpt", {"weights": {"a/../b": "s3://b/c"}}, "a/../b"),
        ("scgpt", {"weights": {"/etc/passwd": "s3://b/c"}}, "/etc/passwd"),
        ("scgpt", {"weights": {}}, "models.scgpt.weights"),
        (
            "scgpt",
            {"weights": {"a": "my/a"}},
            "models.scgpt.weights: 'a' must be a URL; give files on this machine as a folder",
        ),
        ("scgpt", {"weights": {"a": "ftp://h/a"}}, "models.scgpt.weights: unknown kind of URL 'ftp://'"),
        ("scgpt", {"weights": "s3://b/folder"}, "models.scgpt.weights: a folder on this machine, or {file name: URL}"),
        ("scgpt", {"path": "x.npy"}, "models.scgpt: `path` is for embeddings, `weights` for checkpoints"),
        ("scgpt", {"weigths": {}}, "models.scgpt: unknown key 'weigths', did you mean 'weights'?"),
        (
            "uce",
            {"species_weights": {"martian": {"a": "s3://b/a"}}},
            "models.uce.species_weights: unknown organism 'martian'",
        ),
        (
            "uce_33",
            {"weights": {"genes.csv": "s3://b/other.csv"}},
            "models.uce_33.weights: 'genes.csv' is another file than that of models.uce in their shared folder 'shared'",
        ),
    ],
)
def test_mistakes(model, changes, words):
    config = configuration()
    config["models"][model] = {**config["models"][model], **changes}
    with pytest.raises(settings.ConfigError) as error:
        settings.check(config)
    assert words in str(error.value)


def test_an_unknown_licence_is_a_mistake():
    with pytest.raises(settings.ConfigError, match="no model asks for 'non-comercial', did you mean 'non-commercial'"):
        settings.check(configuration(accept_licences=["non-comercial"]))


# --- species that are added to UCE -----------------------------------------------------------------------------------


def with_gorilla(**changes):
    config = configuration(models=["uce", "uce_33"], datasets=["apes"])
    config["datasets"]["apes"] = {
        "modality": "expression",
        "columns": {"label": "ct"},
        "splits": {name: {"organism": name, "url": f"{name}.h5ad"} for name in ("human", "gorilla")},
    }
    files = {"proteins": "my/gorilla.pt", "genes": "https://h/pep.all.fa.gz"}
    config["models"]["uce"] = {**UCE, "organisms": ["human"], "new_species": {"Gorilla gorilla": files}, **changes}
    config["models"]["uce_33"]["organisms"] = ["human"]
    return config


def test_an_added_species_is_taken_and_its_files_are_built():
    config = with_gorilla(params={"checkpoint": "4l.torch"})
    settings.check(config)
    chosen = inputs_of(config)
    assert [(s.model, s.split) for s in chosen.grid.skipped if s.task == "clustering"] == [("uce_33", "gorilla")]
    jobs = {split: w(model="uce", dataset="apes", split=split) for split in ("human", "gorilla")}
    folder = "resources/species/uce/gorilla"
    assert chosen.weights(jobs["gorilla"])[2:] == [folder]
    assert json.loads(chosen.model_options(jobs["gorilla"]))["species_files"] == {"gorilla": folder}
    assert "species_files" not in chosen.model_options(jobs["human"])
    assert chosen.weights_argument(jobs["gorilla"]) == ["resources/weights/shared"]
    build = w(model="uce", species="gorilla")
    genes = "resources/weights/shared/new_species/gorilla/pep.all.fa.gz"
    assert chosen.species_inputs(build) == ["my/gorilla.pt", genes]
    made_of = {"proteins": "my/gorilla.pt", "genes": genes}
    assert json.loads(chosen.species_options(build)) == {"checkpoint": "4l.torch", **made_of}
    assert "resources/weights/shared/4l.torch" in chosen.species_weights(build)
    assert chosen.weights_folder(build) == "resources/weights/shared"
    url = chosen.weights_url(w(file="shared/new_species/gorilla/pep.all.fa.gz"))
    assert url == "https://h/pep.all.fa.gz"
    cell = next(c for c in chosen.grid.cells if c.split == "gorilla")
    jobs = list(chosen.jobs(cell))
    assert ("build_species", folder, "logs/build_species/uce/gorilla.log") in jobs
    assert ("download_weights", genes) in [job[:2] for job in jobs]


@pytest.mark.parametrize("params", [{}, {"checkpoint": "4l.torch"}])
def test_a_species_is_added_to_a_checkpoint_of_the_users(params):
    chosen = inputs_of(with_gorilla(weights="my/uce", params=params))
    job = w(model="uce", dataset="apes", split="gorilla")
    assert chosen.weights(job) == ["my/uce", "resources/species/uce/gorilla"]
    assert chosen.weights_argument(job) == ["my/uce"]
    build = w(model="uce", species="gorilla")
    assert chosen.species_weights(build) == ["my/uce"] and chosen.weights_folder(build) == "my/uce"
    options = json.loads(chosen.species_options(build))
    assert {name: options[name] for name in options if name not in ("proteins", "genes")} == params


@pytest.mark.parametrize(
    ("model", "added", "words"),
    [
        ("uce", {"gorila": {"proteins": "a", "genes": "b"}}, "models.uce.new_species: unknown organism 'gorila'"),
        ("uce", {"gorilla": {"proteins": "a"}}, "models.uce.new_species.gorilla: key 'genes' is missing"),
        (
            "uce",
            {"gorilla": {"proteins": "ftp://h/a", "genes": "b"}},
            "models.uce.new_species.gorilla.proteins: unknown kind of URL 'ftp://'",
        ),
        (
            "scgpt",
            {"gorilla": {"proteins": "a", "genes": "b"}},
            "models.scgpt.new_species: the adapter 'scgpt' does not support additional species",
        ),
        (
            "uce",
            {"gorilla": {"proteins": "a", "genes": "b", "gene": "c"}},
            "models.uce.new_species.gorilla: unknown key 'gene', did you mean 'genes'?",
        ),
    ],
)
def test_mistakes_in_added_species(model, added, words):
    config = configuration()
    config["models"][model] = {**config["models"][model], "new_species": added}
    with pytest.raises(settings.ConfigError) as error:
        settings.check(config)
    assert words in str(error.value)
