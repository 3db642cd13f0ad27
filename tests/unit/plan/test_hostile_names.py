"""Names of a configuration become paths: whatever they are, no path leaves results/ and resources/, and no two share one."""

import json
import re
from pathlib import PurePosixPath

import made_up
import pytest
from effort import examples
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cellgauge.core.errors import CellgaugeError
from cellgauge.core.yaml_files import read_yaml
from cellgauge.fetch import members
from cellgauge.plan import config as configuration
from cellgauge.plan import paths
from cellgauge.plan.grid import Cell

CATALOGUE = made_up.configuration()
BASE = json.dumps(
    {
        "models": {name: CATALOGUE["models"][name] for name in ("linear", "pca_joint")},
        "datasets": {},
        "tasks": {name: CATALOGUE["tasks"][name] for name in ("clustering", "cross_species")},
        "published": {},
        "run": CATALOGUE["run"] | {"published": [], "also": []},
    }
)
PIECES = (
    *(
        "..",
        ".",
        "/",
        "\\",
        "\x00",
        "\n",
        "\r",
        "\t",
        " ",
        "\u202e",
        "\u200b",
        "\ufeff",
        "\u0430",
        "e\u0301",
        "%2e",
        "%2f",
    ),
    *(
        "a",
        "B",
        "0",
        "_",
        "-",
        "~",
        "*",
        "?",
        "{split}",
        "{",
        "}",
        "$(x)",
        "`x`",
        "'",
        '"',
        ";",
        "&",
        "|",
        "!",
        "#",
        ":",
    ),
    *(".part", ".tmp"),
)
EXAMPLES = examples(25)
names = st.lists(st.sampled_from(PIECES) | st.characters(), min_size=1, max_size=6).map("".join)


def entry(url="https://host.example/cells.h5ad", split="lung"):
    columns = {"label": "cell_type"}
    return {"modality": "expression", "organism": "human", "columns": columns, "splits": {split: {"url": url}}}


def with_name(kind, name):
    """Return a configuration that has a name in one place where names become paths."""
    config = json.loads(BASE)
    models, dataset, run = {}, "dataset", {"models": ["linear"], "tasks": ["clustering"]}
    data = entry()
    if kind == "model":
        models[name] = {"adapter": "linear"}
        run["models"] = [name]
    elif kind == "dataset":
        dataset = name
    elif kind == "split":
        data = entry(split=name)
    elif kind == "set":
        data |= {"splits": {"lung": {"url": "https://h.example/a.h5ad"}, "liver": {"url": "https://h.example/b.h5ad"}}}
        data["sets"] = {name: ["lung", "liver"]}
        run |= {"models": ["pca_joint"], "tasks": ["cross_species"]}
    elif kind == "object":
        data = entry(f"https://host.example/{name}")
    elif kind == "member":
        data = entry(f"https://host.example/a.zip!{name}")
    elif kind == "orthologues":
        data["orthologues"] = {"url": f"s3://bucket/{name}", "columns": {"human": "h", "mouse": "m"}}
    elif kind == "source":
        config["published"][name] = {"title": "t", "url": f"https://host.example/{name}", "format": "vcp"}
        run["published"] = [name]
    else:
        weights = {name: "https://host.example/w.pt"} if kind == "file" else {"w.pt": f"hf://o/r@1/{name}"}
        models["mine"] = {"adapter": "geneformer", "weights": weights}
        if kind == "folder":
            models["mine"] |= {"weights_folder": name, "weights": {"w.pt": "https://host.example/w.pt"}}
        run["models"] = ["mine"]
    config["models"] |= models
    config["datasets"][dataset] = data
    config["run"] |= run | {"datasets": [dataset]}
    return config


KINDS = ("model", "dataset", "split", "set", "object", "member", "orthologues", "source", "file", "weights", "folder")


def planned(config):
    """Yield every path that a run of a configuration writes, as the rules spell them."""
    inputs = made_up.inputs_of(config)
    yield from inputs.scores()
    yield from inputs.embeddings()
    yield from inputs.layouts()
    yield from inputs.published_rows()
    for dataset, splits in inputs.run.datasets.items():
        for split in splits:
            yield paths.SPLIT.format(dataset=dataset, split=split)
            yield inputs.split_object(Cell("", "", dataset, split))
            source = inputs.run.source(dataset, split)
            for table in inputs.run.orthologue_tables(dataset, source.organism):
                yield paths.local(table["url"], f"{paths.DATASETS}/{dataset}")
    for source in inputs.run.published:
        url = inputs.run.entries["published"][source]["url"]
        yield paths.local(url, f"{paths.PUBLISHED_FILES}/{source}")
    for model in inputs.run.models:
        if "weights" in inputs.run.model(model):
            yield from (f"{path}" for path in inputs.run.checkpoint(model, ["human"]))


def is_inside(path):
    pure = PurePosixPath(path)
    plain = re.fullmatch(r"[ -~]+", path) and not re.search(r"[\\'\"`$;|<>{}]", path)
    short = all(len(part) <= 200 for part in pure.parts)
    return plain and short and ".." not in pure.parts and "//" not in path and pure.parts[0] in ("results", "resources")


@pytest.mark.reliability(
    fault="a name leads out of results/ and resources/",
    provoked="names of models, data, splits, sets, objects, members and weights: .., NUL, ends of lines, controls, bidi",
    outcome="a sentence that names the key, or a path inside",
    tries=len(KINDS) * EXAMPLES,
)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(name=names)
@example("..")
@example("a\n")
@example("x/../../../etc/passwd")
@example("/etc/passwd")
@example("a.h5ad")
@example("a")
@example("a" * 300)
def test_no_name_leads_out(kind, name):
    config = with_name(kind, name)
    try:
        configuration.check(config)
    except configuration.ConfigError as error:
        assert str(error).strip()
        return
    paths_of_run = list(planned(config))
    assert paths_of_run
    for path in paths_of_run:
        assert is_inside(path), path


def test_a_host_that_is_none_is_one_sentence():
    with pytest.raises(configuration.ConfigError, match=r"splits\.lung: a URL cannot hold '\['"):
        configuration.check(with_name("object", "") | {"datasets": {"dataset": entry("https://ho[st/a.h5ad")}})


@pytest.mark.parametrize("name", ["..", ".", "", ".hidden", "a/.."])
def test_a_url_that_ends_in_no_name_is_refused(name):
    with pytest.raises(configuration.ConfigError, match=r"does not end in the name of a file|begin with a dot"):
        configuration.check(with_name("object", name))


def test_an_object_and_what_is_on_its_way_share_no_path(tmp_path):
    """`x` is written in a folder beside it whose name begins with a dot, which no object's does."""
    from cellgauge.core.atomic import workplace

    with workplace(tmp_path / "x") as first, workplace(tmp_path / "x.part") as second:
        assert first != second
        assert {first.name[0], second.name[0]} == {"."}
        assert not (tmp_path / "x.part").exists()


@settings(max_examples=examples(50))
@given(names)
def test_a_member_of_an_archive_has_a_plain_name(name):
    try:
        _, inside = members.split(f"https://host.example/a.zip!{name}")
    except CellgaugeError:
        return
    for member in inside:
        assert not {"", ".", ".."} & set(member.split("/"))
        assert "\\" not in member


# --- YAML that grows --------------------------------------------------------------------------------------------------


def bomb(kind, levels=14, times=10):
    lines = ["x0: &a0 {a: 1, b: 2}"]
    for level in range(1, levels):
        before = [f"*a{level - 1}"] * times
        body = {
            "list": f"[{', '.join(before)}]",
            "mapping": f"{{{', '.join(f'k{n}: {each}' for n, each in enumerate(before))}}}",
            "merge": f"{{<<: [{', '.join(before)}], z{level}: 1}}",
        }[kind]
        lines.append(f"x{level}: &a{level} {body}")
    return "\n".join(lines)


GROWING = {
    **{kind: (bomb(kind), "aliases") for kind in ("list", "mapping", "merge")},
    "deep list": ("a: " + "[" * 5000 + "]" * 5000, "nested"),
    "deep mapping": ("\n".join("  " * depth + "a:" for depth in range(300)), "nested"),
    "itself": ("a: &a [*a]", "nested"),
}


@pytest.mark.reliability(
    fault="a configuration of a few lines stands for more than memory holds",
    provoked="aliases of aliases in lists, mappings and merges; values inside themselves; 5,000 levels",
    outcome="one sentence in seconds, of a file that cellgauge reads (what Snakemake reads: docs/adr/0038)",
    tries=len(GROWING),
)
@pytest.mark.parametrize("kind", GROWING)
def test_yaml_cannot_grow(tmp_path, kind):
    text, words = GROWING[kind]
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(configuration.ConfigError, match=rf"mine\.yaml: .*{words}"):
        configuration._settings(path)


def test_what_snakemake_has_read_cannot_grow_either():
    value = ["x"]
    for _ in range(30):
        value = [value] * 10
    with pytest.raises(configuration.ConfigError, match="aliases"):
        configuration.check({"models": {"mine": {"adapter": "linear", "params": {"a": value}}}})


def test_aliases_and_merges_of_a_usual_size_are_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("a: &a {x: 1}\nb: {<<: *a, y: [*a, *a]}\n")
    assert read_yaml(path) == {"a": {"x": 1}, "b": {"x": 1, "y": [{"x": 1}, {"x": 1}]}}
    path.write_text("# nothing\n")
    assert read_yaml(path) is None
    for file in made_up.CONFIG.glob("*.yaml"):
        read_yaml(file)
