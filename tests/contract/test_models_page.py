"""docs/models.md says of training and leakage what the catalogue says, and names every foundation model."""

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
MODELS = yaml.safe_load((ROOT / "config/models.yaml").read_text(encoding="utf-8"))["models"]
DATASETS = yaml.safe_load((ROOT / "config/datasets.yaml").read_text(encoding="utf-8"))["datasets"]
PAGE = (ROOT / "docs/models.md").read_text(encoding="utf-8")
FOUNDATION = {name: entry for name, entry in MODELS.items() if entry["kind"] == "foundation"}


def leakage_table() -> list[str]:
    """Return the table of the page: one line for models that say the same."""
    datasets = list(dict.fromkeys(dataset for entry in FOUNDATION.values() for dataset in entry.get("leakage", ())))
    lines = [
        "| models | trained on | " + " | ".join(DATASETS[dataset]["title"] for dataset in datasets) + " |",
        "|---" * (2 + len(datasets)) + "|",
    ]
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, entry in FOUNDATION.items():
        said = (entry.get("leakage", {}).get(dataset) for dataset in datasets)
        states = (f"**{each['state']}**: {each['source']}" if each else "**unknown**" for each in said)
        groups.setdefault((entry.get("training", "not stated"), *states), []).append(f"`{name}`")
    return [*lines, *(f"| {', '.join(names)} | {' | '.join(cells)} |" for cells, names in groups.items())]


def test_the_page_has_the_table_of_the_catalogue():
    expected = "\n".join(leakage_table())
    assert expected in PAGE, f"put this table into docs/models.md:\n{expected}"


def test_every_foundation_model_says_what_it_was_trained_on():
    for name, entry in FOUNDATION.items():
        assert entry.get("training") and entry.get("leakage"), name
        assert set(entry["leakage"]) <= set(DATASETS), name
        assert all(each["source"] for each in entry["leakage"].values()), name


def test_the_page_tells_of_every_family():
    for entry in FOUNDATION.values():
        assert f"`{entry['adapter']}`" in PAGE
