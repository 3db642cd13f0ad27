"""The headline of every task is won by the better model in every planted world; and the gauge of gauges can tell.

This is the fast part: one seed, and label prediction without forests. `make calibrate` is the whole of it, for every score.
"""

import math
import re
from dataclasses import replace

import calibrate
import numpy as np
import pytest
import scoring
from claims import (
    ALLOWED,
    BLIND,
    NONE,
    RIGHT,
    WRONG,
    Scores,
    collect,
    entry,
    faults_of_headline,
    headline,
    judge_alike,
    judge_order,
    metrics,
)
from hypothesis import given
from hypothesis import strategies as st
from scoring import ROOT, Value, score_world
from worlds import WORLDS, Alike, Better, CellWorld, Expected

from cellgauge import tasks as task_package
from cellgauge.core.plugins import module_names
from cellgauge.results.entries import Metric, Variant

FAST = {"label_prediction": {"classifiers": ["logistic_regression", "knn"]}}
WIDE = {"label_prediction": {"classifiers": ["knn"]}}  # on 2,000 axes a logistic regression takes ten seconds
HERE = [(task, name) for name, planted in WORLDS.items() for task in planted.tasks if task not in calibrate.APART]
SCORE, ERROR = Metric("score", "Score", higher_is_better=True, low=0, high=1), Metric("e", "E", higher_is_better=False)
values = st.lists(st.floats(-1, 1, allow_nan=False), min_size=1, max_size=5).map(np.asarray)


@pytest.mark.parametrize(("task", "name"), HERE)
def test_the_better_model_wins_the_headline(task, name):
    params = WIDE if name == "ten_to_two_thousand_dimensions" else FAST
    scores = collect(score_world(WORLDS[name], [task], 0, **params.get(task, {})))
    assert not [calibrate.sentence(fault) for fault in faults_of_headline(scores[task, name])]


def test_every_task_has_a_world():
    same_as_scib = {"scib_species"}  # with species for batches
    tasks = set(module_names(task_package)) - same_as_scib
    assert {task for planted in WORLDS.values() for task in planted.tasks} == tasks


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_is_made_of_its_seed_and_claims_speak_of_its_models(name):
    first, again, other = (WORLDS[name].at(seed) for seed in (1, 1, 2))
    arrays = (lambda made: list(made.models.values())) if isinstance(first, CellWorld) else (lambda made: [made.counts])
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(arrays(first), arrays(again), strict=True))
    assert not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(arrays(first), arrays(other), strict=True))
    assert WORLDS[name].text
    for claim in first.claims:
        named = {value for key, value in vars(claim).items() if key in ("better", "worse", "first", "second", "model")}
        assert named <= set(first.models)
    assert any(isinstance(claim, Better | Alike) for claim in first.claims)


# --- the judge ---


@given(values, st.sampled_from([SCORE, ERROR]), st.data())
def test_who_is_ahead_for_one_order_is_behind_for_the_other(first, metric, data):
    second = np.asarray(data.draw(st.lists(st.floats(-1, 1), min_size=len(first), max_size=len(first))))
    forth, back = (
        judge_order(Better("a", "b"), metric, first, second),
        judge_order(Better("b", "a"), metric, second, first),
    )
    assert {RIGHT: WRONG, WRONG: RIGHT, BLIND: BLIND}[forth.state] == back.state
    assert forth.difference == -back.difference


@given(values, st.sampled_from([SCORE, ERROR]))
def test_equal_values_are_no_win(same, metric):
    assert judge_order(Better("a", "b"), metric, same, same).state == BLIND
    assert judge_order(Better("a", "b", "why"), metric, same, same).state == ALLOWED
    assert judge_alike(Alike("a", "b"), metric, same.mean(), same.mean()).state == RIGHT


def test_one_seed_against_is_enough_to_be_blind():
    assert judge_order(Better("a", "b"), SCORE, np.asarray([0.9, 0.9]), np.asarray([0.5, 0.91])).state == BLIND


@pytest.mark.parametrize(("metric", "state"), [(SCORE, RIGHT), (ERROR, WRONG)])
def test_lower_may_be_better(metric, state):
    assert judge_order(Better("a", "b"), metric, np.asarray([0.9]), np.asarray([0.5])).state == state


def test_a_better_model_without_a_value_is_not_ahead_of_one_that_has_one():
    some, none = np.asarray([0.5]), np.asarray([math.nan])
    assert judge_order(Better("a", "b", "why"), SCORE, none, some).state == BLIND
    assert judge_order(Better("a", "b"), SCORE, some, none).state == NONE
    assert judge_order(Better("a", "b"), SCORE, none, none).state == NONE


def test_a_score_that_noise_wins_is_found_out():
    """A score that rises with the entropy of a model's guesses: the page says so in words, and the run fails."""
    variant = Variant("corrected", "ari", "", "")
    worth = {"labels apart": 0.2, "labels blurred": 0.3, "noise": 0.9}
    rows = [
        Value("clustering", "more_or_less_is_known", variant, model, seed, value)
        for model, value in worth.items()
        for seed in range(3)
    ]
    scores = collect(rows)
    (problem,) = calibrate.disagreements(scores)
    assert "“noise” beats “labels blurred”" in problem and "“noise” gets 0.90, not 0" in problem
    text = calibrate.page(scores_of_all(scores), 3)
    assert "should not be, see below" in text and "**0.90** (not 0)" in text


def scores_of_all(scores):
    """Return `scores`, and empty ones of all other worlds: the page is of all of them."""
    variant = Variant("corrected", "", "", "")
    empty = {(task, name): Scores(task, name, {}) for name, p in WORLDS.items() for task in (*p.tasks, *p.shown)}
    firsts = {task: entry(task)["headline"] for task, _ in empty}
    empty = {key: replace(s, values={replace(variant, metric=firsts[key[0]]): {}}) for key, s in empty.items()}
    return empty | dict(scores)


def test_the_page_does_not_depend_on_the_order_of_the_work():
    rows = list(score_world(WORLDS["all_cells_on_one_point"], ["clustering"], 0))
    pages = [
        calibrate.page(scores_of_all(collect(part)), 1) for part in (rows, rows, sorted(rows, key=lambda v: v.model))
    ]
    assert len(set(pages)) == 1


def test_values_of_another_python_come_back_as_they_were(monkeypatch, capsys):
    rows = list(score_world(WORLDS["all_cells_on_one_point"], ["clustering"], 0))
    monkeypatch.setattr(scoring, "WORLDS", {"all_cells_on_one_point": WORLDS["all_cells_on_one_point"]})
    monkeypatch.setattr(scoring.sys, "argv", ["scoring.py", "clustering", "0"])
    scoring.main()
    assert scoring.parse(capsys.readouterr().out) == rows


def test_the_page_is_of_these_worlds():
    page = (ROOT / "docs/calibration.md").read_text(encoding="utf-8")
    assert re.findall("^## (?!Task)(.*)$", page, re.M) == [planted.title for planted in WORLDS.values()]
    assert all(planted.text in page for planted in WORLDS.values()), "type `make calibrate`"


def test_expected_values_are_of_scores_that_there_are():
    """An expectation of a score that is called otherwise would never be looked at."""
    for planted in WORLDS.values():
        known = {metric for task in planted.tasks for metric in metrics(task)}
        expected = {claim.metric for claim in planted.known[1] if isinstance(claim, Expected)}
        assert expected <= known | {"ami", "balanced_accuracy"}, planted.name


def test_the_headline_is_the_usual_variant_of_the_score_that_the_catalogue_names():
    kinds = [("accuracy", "random_folds"), ("f1", "random_folds"), ("f1", "donor_folds")]
    variants = [Variant("corrected", metric, "mean", subset) for metric, subset in kinds]
    scores = Scores("label_prediction", "more_or_less_is_known", {v: {} for v in variants})
    assert (headline(scores).metric, headline(scores).subset) == ("f1", "donor_folds")
