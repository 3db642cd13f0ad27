"""The report in a browser: it shows, sorts, filters and links without an error and without a request.

Runs in headless Chromium, in Debian `apt-get install chromium`. CELLGAUGE_REQUIRE_CHROMIUM=1 makes a missing one a failure
(CI sets it), CELLGAUGE_SCREENSHOTS=DIR keeps pictures of every page at the width of a phone and of a desktop.
"""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import made_up
import pandas as pd
import pytest
from browser import NAMES, Browser, chromium
from made_up import inputs_of
from seed_titles import TITLES

from cellgauge.plan.manifest import catalogue
from cellgauge.report import render
from cellgauge.results.tables import collect

WIDTHS = {"phone": 390, "desktop": 1280}
EVIL = "<script>window.hacked=1</script>\"'><img src=x onerror=window.hacked=1>"
PAGES = (
    "overview",
    "task-clustering",
    "task-label-prediction",
    "task-cross-species",
    "task-perturbation",
    "splits",
    "cost",
    "published",
    "gaps",
    "catalogue",
    "provenance",
    "guide",
)

if chromium() is None and os.environ.get("CELLGAUGE_REQUIRE_CHROMIUM") == "1":
    pytest.fail(f"none of {', '.join(NAMES)} is on PATH, and CELLGAUGE_REQUIRE_CHROMIUM=1 asks for one", pytrace=False)
pytestmark = pytest.mark.skipif(
    chromium() is None, reason=f"none of {', '.join(NAMES)} is on PATH (Debian: apt-get install chromium)"
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The address of the demo's report, with a failed model, a hostile name and a very long one."""
    folder = tmp_path_factory.mktemp("report")
    config = made_up.demo()
    config["models"]["linear"]["title"] = EVIL
    config["models"]["hvg"]["title"] = "a name of three hundred letters " * 10
    tables = made_up.write_tables(folder, config, failed={"harmony": f"out of memory {EVIL}"})
    render(tables, folder / "report.html")
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser():
    with Browser() as one:
        yield one


@pytest.fixture
def page(browser, report):
    """Open the report at an address; afterwards nothing went wrong and nothing was asked for."""

    def open_(anchor: str = "") -> Browser:
        browser.open(report + anchor)
        return browser

    yield open_
    assert browser.errors == []
    assert {url.partition("#")[0] for url in browser.requests if not url.startswith("data:")} <= {report}
    assert browser.run("window.hacked") is None


def turn_to(browser: Browser, address: str) -> None:
    """Go to a page of the report that is open, as its links do: its file is not read again."""
    browser.run(
        f"""new Promise((done) => {{
          addEventListener("hashchange", () => done(0), {{ once: true }});
          location.hash = "{address}";
        }})"""
    )


def column(browser: Browser, key: str, rows: str = "tr") -> list[str]:
    """The texts of a column of the first visible table that has it, of the rows that a selector names."""
    return browser.run(
        f"""(() => {{
          const table = [...document.querySelectorAll("table")].find(
            (t) => t.checkVisibility() && [...t.tHead.rows].at(-1).querySelector('[data-key="{key}"]'));
          const at = [...[...table.tHead.rows].at(-1).cells].findIndex((h) => h.dataset.key === "{key}");
          const rows = [...table.tBodies[0].rows].filter((r) => r.checkVisibility() && r.matches("{rows}"));
          return rows.map((r) => r.cells[at].firstChild?.textContent.trim() ?? "");
        }})()"""
    )


def captions(browser: Browser) -> list[str]:
    """The captions of the visible tables."""
    return browser.run(
        '[...document.querySelectorAll("caption")].filter((c) => c.checkVisibility()).map((c) => c.textContent.trim())'
    )


def choose(browser: Browser, name: str, value: str) -> None:
    """Choose an option of a visible select, as a user does."""
    browser.run(
        f"""(() => {{
          const select = [...document.querySelectorAll('select[name="{name}"]')].find((s) => s.checkVisibility());
          select.value = "{value}";
          if (select.value !== "{value}") throw new Error("no such option");
          select.dispatchEvent(new Event("change", {{ bubbles: true }}));
        }})()"""
    )


def click(browser: Browser, selector: str) -> None:
    browser.run(f"[...document.querySelectorAll('{selector}')].find((e) => e.checkVisibility()).click()")


def numbers(texts: list[str]) -> list[float]:
    return [
        float(text.replace("\N{MINUS SIGN}", "-").replace(",", ""))
        for text in texts
        if text not in ("failed", "n/a", "")
    ]


def test_every_page_shows_by_its_address_alone(page):
    for name in PAGES:
        browser = page(f"#{name}")
        visible = browser.run(
            '[...document.querySelectorAll("section.page")].filter((s) => s.checkVisibility()).map((s) => s.id)'
        )
        assert visible == [name]
        assert browser.run('document.querySelector("nav [aria-current=page]").dataset.page') == name
        assert browser.errors == []


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_no_page_is_wider_than_the_screen(page, width):
    browser = page()
    browser.resize(width, 900)
    try:
        for name in PAGES:
            turn_to(browser, name)
            assert browser.run("document.documentElement.scrollWidth") <= width, name
            folder = os.environ.get("CELLGAUGE_SCREENSHOTS")
            if folder:
                browser.screenshot(Path(folder) / f"{name}-{width}.png", whole=True)
    finally:
        browser.resize(1280, 900)


def test_hostile_names_are_text_and_long_ones_keep_their_end(page):
    browser = page("#overview")
    assert EVIL in browser.run('document.querySelector("#overview").innerText')
    assert browser.run("document.scripts.length") == 1
    assert browser.run("document.images.length") == 0
    longest = '[...document.querySelectorAll(".long")].sort((a, b) => b.title.length - a.title.length)[0]'
    title, text = browser.run(f"[{longest}.title, {longest}.textContent]")
    assert title == text and len(text) > 300


def test_a_click_on_a_heading_sorts_turns_and_undoes(page):
    browser = page("#overview")
    free = "tr:not(.control)"
    before = column(browser, "clustering.ari")
    assert numbers(column(browser, "clustering.ari", free)) == sorted(
        numbers(column(browser, "clustering.ari", free)), reverse=True
    ), "the best first"
    controls = browser.run(
        '[...[...document.querySelectorAll("#overview table")].find((t) => t.checkVisibility()).tBodies[0].rows]'
        '.map((r) => r.matches(".control"))'
    )
    assert controls == sorted(controls) and sum(controls) == 3, "controls at the end"
    assert (
        browser.run(
            "getComputedStyle(document.querySelector('th[data-key=\"clustering.ari\"] button'), '::after').content"
        )
        == '" \u21c5"'
    )
    click(browser, 'th[data-key="clustering.ari"] button')
    down = column(browser, "clustering.ari", free)
    assert numbers(down) == sorted(numbers(down), reverse=True)
    assert set(down[-3:]) == {"failed", "n/a"}  # Harmony, and what joins species: no numbers
    assert browser.run('document.querySelector("th[aria-sort]").getAttribute("aria-sort")') == "descending"
    assert "sort=-clustering.ari" in browser.run("location.hash")
    assert browser.run("document.getElementById('status').textContent").startswith("Sorted by Adjusted Rand index")
    click(browser, 'th[data-key="clustering.ari"] button')
    up = column(browser, "clustering.ari", free)
    assert numbers(up) == sorted(numbers(down)) != numbers(down) and set(up[-3:]) == {"failed", "n/a"}
    assert sorted(column(browser, "clustering.ari")[-3:]) == sorted(before[-3:]), "controls stay at the end"
    click(browser, 'th[data-key="clustering.ari"] button')
    assert column(browser, "clustering.ari") == before
    assert browser.run('document.querySelector("th[aria-sort]")') is None


def test_the_keyboard_sorts(page):
    browser = page("#cost")
    before = numbers(column(browser, "speed"))
    for _ in range(60):
        browser.press("Tab")
        if browser.run('document.activeElement.closest("th")?.dataset.key') == "speed":
            break
    browser.press("Enter")
    assert numbers(column(browser, "speed")) == sorted(before, reverse=True)
    assert browser.run('document.activeElement.closest("th").getAttribute("aria-sort")') == "descending"


def test_text_sorts_by_alphabet(page):
    browser = page("#cost?sort=stage")
    stages = column(browser, "stage")
    assert stages == sorted(stages, key=str.lower) and len(set(stages)) == 6


def test_filters_narrow_what_is_shown_and_stand_in_the_address(page):
    browser = page("#overview")
    assert len(captions(browser)) == 3 and all("recommended scores" in text for text in captions(browser))
    choose(browser, "profile", "reference")
    assert len(captions(browser)) == 3 and all("cz-benchmarks scores" in text for text in captions(browser))
    choose(browser, "dataset", "baron_pancreas")
    assert [text.partition(":")[0] for text in captions(browser)] == ["Baron pancreas"]
    browser.run(
        """(() => { const i = document.querySelector("input[name=model]"); i.value = "ORACLE";
           i.dispatchEvent(new Event("input", { bubbles: true })); })()"""
    )
    assert column(browser, "model") == ["Oracle (positive control)"]
    hash_ = browser.run("location.hash")
    again = page(hash_)
    assert column(again, "model") == ["Oracle (positive control)"]
    assert again.run('document.querySelector("select[name=profile]").value') == "reference"
    click(browser, "button[type=reset]")
    assert len(captions(browser)) == 3 and len(column(browser, "model")) == 9


def test_the_search_finds_everything_by_its_name_at_cz_benchmarks(browser, tmp_path):
    names = {kind: list(made_up.configuration()[kind]) for kind in ("models", "datasets", "tasks")}
    collect([], tmp_path / "tables", catalogue=catalogue(inputs_of(made_up.configuration({"run": names})).grid))
    render(tmp_path / "tables", tmp_path / "report.html")
    browser.open((tmp_path / "report.html").as_uri() + "#catalogue")
    code = """[...document.querySelectorAll("#catalogue [data-search]")].filter((e) => e.checkVisibility()).map((e) => [
      e.dataset.model, e.dataset.dataset, e.closest("[data-task]")?.dataset.task, e.querySelector("dt code")?.textContent])"""
    everything = len(browser.run(code))
    for title, kind, key in TITLES:
        search(browser, title)
        models, datasets, tasks, metrics = zip(*browser.run(code) or [[None] * 4], strict=True)
        shown = {"model": models, "dataset": datasets, "task": tasks}
        shown["metric"] = [f"{task}/{metric}" for task, metric in zip(tasks, metrics, strict=True)]
        assert key in shown[kind], (title, shown[kind])
        assert len(models) < everything / 2, title
    search(browser, "no such thing")
    assert browser.run(code) == [] and browser.run('document.querySelector("#catalogue .nothing").checkVisibility()')
    browser.open((tmp_path / "report.html").as_uri() + "#catalogue?search=geneformer+gf")
    assert [model for model, *_ in browser.run(code)] == ["geneformer_12l_95m"]
    browser.open((tmp_path / "report.html").as_uri() + "#catalogue?model=whole+human")
    assert [model for model, *_ in browser.run(code) if model] == ["scgpt_human"]


def search(browser, text):
    browser.run(
        f"""(() => {{ const i = document.querySelector("input[name=search]"); i.value = {json.dumps(text)};
           i.dispatchEvent(new Event("input", {{ bubbles: true }})); }})()"""
    )


def test_the_task_filter_hides_the_other_tasks_columns(page):
    browser = page("#overview?task=cross_species&dataset=baron_pancreas")
    heads = browser.run(
        '[...document.querySelectorAll("#overview thead th")].filter((h) => h.checkVisibility()).map((h) => h.dataset.key)'
    )
    assert [head for head in heads if head] == [
        "model", "cross-species.transfer_f1", "cross-species.transfer_balanced_accuracy", "cross-species.bras",
        "cross-species.entropy_ratio", "about.licence",
    ]  # fmt: skip
    cells = browser.run(
        """[...document.querySelectorAll("#overview .panel:not(.answer)")].find((p) => p.checkVisibility())
           .querySelector("tbody tr").querySelectorAll("td:not([hidden])").length"""
    )
    assert cells == 5


def test_nothing_left_is_said(page):
    browser = page("#overview?model=no+such+model")
    assert captions(browser) == []
    assert browser.run('document.querySelector("#overview .nothing").checkVisibility()')


def test_choices_on_a_task_page(page):
    browser = page("#task-label-prediction")
    assert captions(browser)[0] == "Baron pancreas: F1, mean of the classifiers, donors held out, recommended scores"
    choose(browser, "metric", "f1")
    choose(browser, "classifier", "knn")
    choose(browser, "subset", "random_folds")
    assert captions(browser)[0] == "Baron pancreas: F1, k nearest neighbors, random folds, recommended scores"
    choose(browser, "profile", "reference")
    assert captions(browser)[0] == "Baron pancreas: F1, k nearest neighbors, cz-benchmarks scores"
    subset = '[...document.querySelectorAll("#task-label-prediction [name=subset]")][0].closest("label")'
    assert not browser.run(f"{subset}.checkVisibility()")
    choose(browser, "profile", "corrected")
    assert captions(browser)[0] == "Baron pancreas: F1, k nearest neighbors, random folds, recommended scores"
    assert (
        browser.run(
            '[...document.querySelectorAll("#task-label-prediction dt")].filter((d) => d.checkVisibility()).length'
        )
        == 1
    )


def test_a_gap_names_its_reason_without_a_pointer_and_with_one(page):
    browser = page("#task-clustering?dataset=baron_pancreas")
    title = browser.run('[...document.querySelectorAll("td.failed")].find((c) => c.checkVisibility()).title')
    assert title == f"failed: out of memory {EVIL}"
    assert title in browser.run('document.querySelector("#task-clustering .notes").innerText')


def test_going_back_and_links_keep_the_filters(page):
    browser = page("#overview")
    choose(browser, "dataset", "transcriptformer_tests")
    click(browser, 'nav a[data-page="cost"]')
    shown = (
        '[...document.querySelectorAll("#cost tbody tr[data-dataset]")].filter((r) => r.checkVisibility())'
        ".map((r) => r.dataset.dataset)"
    )
    assert set(browser.run(shown)) == {"transcriptformer_tests"}
    browser.run(
        "new Promise((done) => { addEventListener('hashchange', done, { once: true }); history.back(); }).then(() => 0)"
    )
    assert browser.run("document.querySelector('nav [aria-current]').dataset.page") == "overview"
    assert len(captions(browser)) == 1


def test_the_overview_begins_with_what_each_task_says(page):
    browser = page("#overview")
    lines = (
        '[...document.querySelectorAll("#overview .answer")].filter((d) => d.checkVisibility())'
        ".map((d) => [d.dataset.task, d.innerText])"
    )
    assert {task for task, _ in browser.run(lines)} == {
        "clustering", "label_prediction", "cross_species", "perturbation",
    }  # fmt: skip
    top, table = browser.run(
        '["#overview svg.dots", "#overview table"].map((s) => document.querySelector(s).getBoundingClientRect().top)'
    )
    assert top < 700 and top < table
    choose(browser, "task", "perturbation")
    corrected = browser.run(lines)
    assert len(corrected) == 1 and "Explained change (R2)" in corrected[0][1]
    choose(browser, "profile", "reference")
    assert len(browser.run(lines)) == 1 and browser.run(lines) != corrected


def test_the_diagram_of_ranks_scrolls_in_its_own_box(page):
    browser = page("#task-perturbation")
    browser.resize(WIDTHS["phone"], 900)
    try:
        shown = '[...document.querySelectorAll("svg.ranks")].find((s) => s.checkVisibility())'
        assert browser.run(f"{shown}.getBoundingClientRect().width") > WIDTHS["phone"]
        assert browser.run("document.documentElement.scrollWidth") <= WIDTHS["phone"]
        box = f'{shown}.closest(".scroll")'
        assert browser.run(f"[{box}.tabIndex, {box}.getAttribute('aria-label').startsWith('Diagram, ')]") == [0, True]
        assert browser.run(f"{box}.scrollLeft = 1e4, {box}.scrollLeft") > 100
        cut = f"""[...{shown}.querySelectorAll("text")].filter((t) => {{
          const [own, all] = [t.getBoundingClientRect(), {shown}.getBoundingClientRect()];
          return own.left < all.left || own.right > all.right || own.bottom > all.bottom; }}).length"""
        assert browser.run(cut) == 0
    finally:
        browser.resize(1280, 900)


def test_no_row_of_text_is_taller_than_a_phone(page):
    browser = page("#gaps")
    browser.resize(WIDTHS["phone"], 900)
    try:
        for name in ("published", "task-perturbation", "gaps"):
            turn_to(browser, name)
            rows = '[...document.querySelectorAll(".plain tbody tr")].filter((r) => r.offsetHeight > 300)'
            tall = browser.run(f"{rows}.map((r) => r.innerText)")
            assert [text for text in tall if "three hundred letters" not in text] == [], name
    finally:
        browser.resize(1280, 900)


def drawn(browser: Browser) -> list[str]:
    """What the visible pictures of embeddings say that they show."""
    return browser.run(
        """[...document.querySelectorAll(".plots canvas")].filter((c) => c.checkVisibility()).map((c) => c.ariaLabel)"""
    )


def ink(browser: Browser) -> list[int]:
    """How many pixels of the first picture have each of two colors: the first label's, and that of pale cells."""
    return browser.run(
        """(() => {
          const canvas = [...document.querySelectorAll(".plots canvas")].find((c) => c.checkVisibility());
          const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          let [blue, grey] = [0, 0];
          for (let at = 0; at < data.length; at += 4) {
            const [r, g, b, a] = data.slice(at, at + 4);
            if (a > 150 && r < 20 && Math.abs(g - 114) < 20 && Math.abs(b - 178) < 20) blue += 1;
            if (a > 20 && a < 150 && Math.abs(r - 138) < 20 && Math.abs(b - 152) < 20) grey += 1;
          }
          return [blue, grey];
        })()"""
    )


def test_pictures_of_a_split(page):
    browser = page("#splits")
    assert len(drawn(browser)) == 9 and all("colored by label" in text for text in drawn(browser))
    blue, grey = ink(browser)
    assert blue > 100 and grey < 20
    click(browser, ".key li:nth-child(2) button")
    assert "only=cell+type+B" in browser.run("location.hash")
    assert browser.run('document.querySelector(".key [aria-pressed=true]").textContent') == "cell type B"
    assert ink(browser)[0] < 10 and ink(browser)[1] > 100
    choose(browser, "color", "batch")
    assert all("colored by batch" in text for text in drawn(browser))
    choose(browser, "split", "transcriptformer_tests/mouse_brain")
    assert "TranscriptFormer's test cells: mouse brain" in browser.run("document.querySelector('#splits').innerText")
    assert "split=transcriptformer_tests%2Fmouse_brain" in browser.run("location.hash")
    again = page(browser.run("location.hash"))
    assert len(drawn(again)) == 8 and "colored by batch" in drawn(again)[0]
    again = page("#splits?dataset=transcriptformer_tests&model=hvg")
    assert len(drawn(again)) == 1
    offered = again.run('[...document.querySelectorAll("[name=split] option:not([hidden])")].map((o) => o.value)')
    assert len(offered) == 3 and all(value.startswith("transcriptformer_tests/") for value in offered)


def test_mistakes_of_a_model(page):
    browser = page("#splits")
    cells = (
        '[...document.querySelectorAll(".confusion tbody tr")].filter((r) => r.checkVisibility())'
        ".map((r) => [...r.cells].map((c) => c.textContent))"
    )
    choose(browser, "of", "oracle")
    rows = browser.run(cells)
    assert [row[0] for row in rows][:2] == ["cell type A", "cell type B"]
    assert all(80 <= float(row[1 + place]) <= 100 for place, row in enumerate(rows))
    choose(browser, "of", "random")
    assert browser.run(cells) != rows and "Random" in next(text for text in captions(browser) if "percentage" in text)


def test_values_are_read_as_measured_or_between_the_controls(page):
    browser = page("#overview?dataset=baron_pancreas")
    shown = """[...document.querySelectorAll("#overview .answer")].filter((a) => a.checkVisibility()).map((a) =>
      [".raw", ".scaled"].map((s) => [...a.querySelectorAll(`g[data-row] text${s}`)].filter((t) => t.checkVisibility())
        .map((t) => t.textContent)))"""
    raw = column(browser, "clustering.ari")
    assert all(len(first) > 2 and not second for first, second in browser.run(shown))
    choose(browser, "scale", "controls")
    assert all(not first and len(second) > 2 for first, second in browser.run(shown))
    names, scaled = column(browser, "model"), column(browser, "clustering.ari")
    between = dict(zip(names, scaled, strict=True))
    assert between["Oracle (positive control)"] == "1.000"
    assert "0.000" in (between["Random (negative control)"], between["Shuffled (negative control)"])
    assert len(page(browser.run("location.hash")).run(shown)[0][1]) > 2, "the address holds it"
    choose(browser, "scale", "")
    assert column(browser, "clustering.ari") == raw != scaled


def test_columns_can_be_hidden_and_stay_hidden_in_the_address(page):
    browser = page("#overview?dataset=baron_pancreas")
    heads = """[...document.querySelectorAll("#overview thead th[data-key]")].filter((h) => h.checkVisibility())
      .map((h) => h.dataset.key)"""
    before = browser.run(heads)
    browser.run("document.querySelector('.columns').open = true")
    click(browser, '.columns input[value="clustering.nmi"]')
    assert browser.run(heads) == [key for key in before if key != "clustering.nmi"]
    assert browser.run("document.querySelector('#overview th[scope=colgroup]').colSpan") == 2
    again = page(browser.run("location.hash"))
    assert "clustering.nmi" not in again.run(heads)


def downloaded(browser: Browser, folder: Path, selector: str, ends: str) -> str:
    """The text of the file that a click on a button gives."""
    click(browser, selector)
    for _ in range(200):
        browser.run("new Promise((done) => setTimeout(() => done(0), 20))")
        files = list(folder.glob(f"*.{ends}"))
        if files and files[0].stat().st_size:
            return files.pop().read_bytes().decode()
    raise AssertionError(f"no file *.{ends} in {list(folder.iterdir())}")


def test_tables_and_pictures_can_be_downloaded_from_the_file_alone(page, tmp_path):
    browser = page("#overview?dataset=baron_pancreas")
    browser.save_to(tmp_path)
    button = '#overview .downloads button[aria-label^="{}"]'
    names, values = column(browser, "model"), column(browser, "clustering.ari")
    head, *lines = csv.reader(downloaded(browser, tmp_path, button.format("CSV"), "csv").splitlines())
    assert [line[head.index("Adjusted Rand index")] for line in lines] == values
    assert [line[0].removesuffix(" baseline").removesuffix(" control") for line in lines] == [
        " ".join(n.split()) for n in names
    ]
    assert "Silhouette of the labels interval" in head and all(len(line) == len(head) for line in lines)
    rows = downloaded(browser, tmp_path, button.format("Markdown"), "md").splitlines()
    assert len(rows) == len(names) + 2 and all(value in row for value, row in zip(values, rows[2:], strict=True))
    assert "<script>" not in rows[2].replace("\\<", "") + "".join(rows).replace("\\<script", "")
    svg = ElementTree.fromstring(downloaded(browser, tmp_path, button.format("SVG"), "svg"))
    fills = {path.get("fill") for path in svg.iter() if "mark" in (path.get("class") or "")}
    assert svg.tag.endswith("svg") and len(fills) > 1 and None not in fills, "the colors are in the file"
    assert not [element for element in svg.iter() if "href" in element.attrib]


def test_a_picture_of_cells_enlarges_and_names_the_cell_below_the_pointer(page):
    browser = page("#splits")
    click(browser, ".plots button")
    large = 'document.querySelector("dialog.large canvas")'
    assert browser.run(f"{large}.getBoundingClientRect().width") > 500
    name = browser.run(
        f"""(() => {{
          const canvas = {large}, box = canvas.getBoundingClientRect();
          const tip = () => document.querySelector(".tip:not([hidden])")?.textContent;
          for (let y = 5; y < box.height; y += 5) for (let x = 5; x < box.width; x += 5) {{
            canvas.dispatchEvent(new PointerEvent("pointermove", {{ clientX: box.left + x, clientY: box.top + y }}));
            if (tip()) return tip();
          }}
        }})()"""
    )
    assert name.startswith("cell type ")
    click(browser, "dialog.large button")
    assert browser.run('document.querySelector("dialog[open]")') is None


def test_a_strange_address_shows_the_overview(page):
    browser = page("#%3Cscript%3E?sort=__proto__&profile=none&dataset=%22")
    assert browser.run('document.querySelector("select[name=profile]").value') == "corrected"
    assert browser.run("document.querySelector('nav [aria-current]').dataset.page") == "overview"


def test_dark_mode_and_print(page):
    browser = page("#overview")
    try:
        browser.emulate(dark=True)
        lightness = (
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b) / 765"
        )
        assert browser.run(lightness) < 0.2
        best = 'getComputedStyle(document.querySelector("td.v12")).backgroundColor'
        dark = browser.run(best)
        browser.emulate(dark=True, printed=True)
        assert browser.run(lightness) == 1
        assert browser.run(best) != dark
        assert not browser.run('document.querySelector("nav").checkVisibility()')
        # Chromium leaves buttons out where it repeats the head of a table on the next page
        assert browser.run('getComputedStyle(document.querySelector("th button")).display') == "contents"
    finally:
        browser.emulate()


PALE = """(() => {
  const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  const light = (color) => {
    const [r, g, b] = color.match(/[0-9.]+/g).slice(0, 3).map((part) => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const clear = /, 0\\)$/;
  const grounds = new Map();
  const ground = (element) => {
    if (!element) return getComputedStyle(document.body).backgroundColor;
    if (!grounds.has(element)) {
      const color = getComputedStyle(element).backgroundColor;
      grounds.set(element, clear.test(color) ? ground(element.parentElement) : color);
    }
    return grounds.get(element);
  };
  const pale = [];
  const texts = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility() || element.closest("svg, option")) continue;
    const pair = [light(getComputedStyle(element).color), light(ground(element))];
    if (Math.max(...pair) / Math.min(...pair) < 4.5) pale.push(element.outerHTML.slice(0, 200));
  }
  return pale;
})()"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(page, dark):
    browser = page()
    browser.emulate(dark=dark)
    try:
        for name in ("overview", "splits", "cost"):
            turn_to(browser, name)
            assert browser.run(PALE) == [], name
        browser.run("document.querySelector('#cost p').style.color = getComputedStyle(document.body).backgroundColor")
        assert len(browser.run(PALE)) >= 1, "the test finds what is pale"
    finally:
        browser.emulate()


def test_without_javascript_every_table_shows(report):
    with Browser(javascript=False) as browser:
        browser.open(report)
        heights = browser.snapshot()
        text = Path(unquote(report.removeprefix("file://"))).read_text(encoding="utf-8")
        folded = sum(part.count("<table") for part in re.findall(r"<details(?! open).*?</details>", text, re.S))
        assert len(heights) > 100 and heights.count(0) == folded < len(heights) / 4


def test_the_full_grid_is_small_and_opens_quickly(tmp_path, browser):
    tables = made_up.write_tables(tmp_path, made_up.full_grid(n_models=10))
    scores = pd.read_parquet(tables / "scores.parquet")
    n_tissues, n_species, n_screens, n_sets = 26, 9, 1, 2
    assert scores["model"].nunique() == 12
    assert scores["split"].nunique() == n_tissues + n_species + n_screens + n_sets
    assert scores["fold"].notna().sum() > 50_000
    render(tables, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 5_000_000
    uri = (tmp_path / "report.html").as_uri()
    browser.open(f"{uri}#overview")
    took = browser.run("performance.getEntriesByType('navigation')[0].loadEventEnd")
    turn_to(browser, "task-label-prediction?metric=f1&sort=-mean")
    assert browser.errors == []
    means = numbers(column(browser, "mean", "tr:not(.control)"))
    assert means == sorted(means, reverse=True) and len(means) == 10
    turn_to(browser, "splits?split=tabula_sapiens_v2%2Flung")
    assert len(drawn(browser)) == 12 and browser.errors == []
    print(f"{(tmp_path / 'report.html').stat().st_size:,} bytes, opened in {took:.0f} ms")
    assert browser.run("document.querySelectorAll('*').length") < 100_000, (
        "what a browser lays out is bounded, times are not"
    )
