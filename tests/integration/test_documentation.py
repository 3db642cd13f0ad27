"""Every YAML block and every command of the documentation is dry-run: it plans the jobs and fetches from where the page says.

What a block or a command plans stands in a comment above a block, or behind a command in a sentence:

    <!-- plans: 76 jobs, downloads: pypi -->    as Snakemake counts jobs; the places that it fetches from, or none
    <!-- fragment -->                           a block that is no file of its own: it is only parsed

Snakemake runs in this process: a second of CPU for each plan, nine for the whole benchmark, 25 seconds for all tests here.
What is planned twice is planned once.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from made_up import inputs_of
from markdown_it import MarkdownIt

from cellgauge.plan import config as settings
from cellgauge.plan.paths import is_remote
from cellgauge.plan.sources import SCRIPTS

pytestmark = pytest.mark.xdist_group("documentation")  # so that what is planned twice is planned once

ROOT = SCRIPTS.parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "config/README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTE = re.compile(r"<!-- (?:plans: (?P<jobs>\d+) jobs?, downloads: (?P<places>[^>]+?)|(?P<fragment>fragment)) -->")
PROGRAMS = ("make", "snakemake", ".venv/bin/snakemake", ".venv/bin/python", ".venv/bin/pip")
ASSIGNMENT = re.compile(r"[A-Z_]+=")


@dataclass(frozen=True)
class Block:
    """A block of code, or the text of a code span that begins as a command does.

    Attributes:
        language: yaml or sh; of indented blocks none.
        text: what the block holds.
        note: the comment that belongs to it.
        settings: the YAML block before it on its page, what mine.yaml stands for.
    """

    place: str
    language: str
    text: str
    note: str
    settings: str

    def __str__(self) -> str:
        return self.place

    @property
    def commands(self) -> list[list[str]]:
        """The commands of the block as words, without variables that are set for them."""
        lines = (shlex.split(line, comments=True) for line in self.text.splitlines())
        words = [word for line in lines for word in [*line, "&&"]]
        commands: list[list[str]] = [[]]
        for word in words:
            if word == "&&":
                commands.append([])
            elif commands[-1] or not ASSIGNMENT.match(word):
                commands[-1].append(word)
        return [command for command in commands if command]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of code and the commands in sentences of a page."""
    last_yaml, note = "{}", ""
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        place = f"{page.relative_to(ROOT)}:{token.map[0] + 1}" if token.map else ""
        if token.type in ("fence", "code_block"):
            if token.info == "yaml":
                last_yaml = token.content
            yield Block(place, token.info, token.content, note, last_yaml)
        elif token.type == "inline":
            for span, behind in zip(token.children, [*token.children[1:], None], strict=True):
                text = " ".join(span.content.split())
                is_command = span.type == "code_inline" and text.partition(" ")[0] in PROGRAMS and "<" not in text
                if is_command and " " in text:
                    said = behind.content if behind and behind.type == "html_inline" else ""
                    yield Block(f"{place}:{text}", "sh", text, said, last_yaml)
        note = token.content if token.type == "html_block" else ""


BLOCKS = [block for page in PAGES for block in blocks(page)]
SETTINGS = [block for block in BLOCKS if block.language == "yaml"]
COMMANDS = [block for block in BLOCKS if block.language == "sh"]


def planned_by(arguments: list[str]) -> tuple[Counter[str], set[str]]:
    """Return how many jobs of each rule a command of Snakemake plans in this folder, and the places that it fetches from."""
    from snakemake.api import DAGApi
    from snakemake.cli import args_to_api, parse_args

    workflows = []
    execute = DAGApi.execute_workflow

    def execute_and_keep(self, *args, **kwargs):
        workflows.append(self.workflow_api._workflow)
        return execute(self, *args, **kwargs)

    folder, path, search = Path.cwd(), list(sys.path), os.environ["PATH"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DAGApi, "execute_workflow", execute_and_keep)
        parser, args = parse_args([*arguments, "--dry-run", "--quiet", "all", "--snakefile", str(ROOT / "Snakefile")])
        try:
            done = args_to_api(args, parser)
        finally:
            os.chdir(folder)
            sys.path[:], os.environ["PATH"] = path, search
    assert done, f"snakemake {shlex.join(arguments)} failed"
    jobs = list(workflows[-1].dag.jobs)
    urls = [job.params.url for job in jobs if job.rule.name.startswith("download")]
    return Counter(job.rule.name for job in jobs), {place_of(url) for url in urls}


def place_of(url: str) -> str:
    parts = urlsplit(url)
    return "pypi" if parts.scheme == "pypi" else f"{parts.scheme}://{parts.netloc}"


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Return a function that plans what a command of Snakemake would do with `mine` as mine.yaml, on a fresh checkout."""

    @cache
    def plan_once(mine: str, arguments: tuple[str, ...]) -> tuple[Counter[str], set[str]]:
        folder = tmp_path_factory.mktemp("checkout")
        for name in ("config", "profiles"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "mine.yaml").write_text(mine, encoding="utf-8")
        make_files(folder, mine)
        before = Path.cwd()
        os.chdir(folder)
        try:
            return planned_by(list(arguments))
        finally:
            os.chdir(before)

    def plan(mine: str, *arguments: str) -> tuple[Counter[str], set[str]]:
        """Plan; what a run asks of the machine, not of the configuration, changes no plan and is taken out."""
        words = list(arguments)
        if "--cores" in words:
            del words[words.index("--cores") : words.index("--cores") + 2]
        return plan_once(mine if "mine.yaml" in words else "{}", (*words, "--cores", "1"))

    return plan


def make_files(folder: Path, mine: str) -> None:
    """Make, empty, the files of the user's that mine.yaml names."""
    inputs = inputs_of(settings.read([folder / "mine.yaml"]))
    for text in strings(yaml.safe_load(mine)):
        if Path(text).suffix and "/" in text and not is_remote(text):
            for dataset, splits in inputs.run.datasets.items():
                for split in splits:
                    file = folder / text.replace("{dataset}", dataset).replace("{split}", split)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.touch()


def strings(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from strings(each)
    elif isinstance(value, str):
        yield value


def check_note(block: Block, rules: Counter[str], places: set[str]) -> None:
    """Fail unless the comment of a block says what was planned."""
    jobs = rules.total()
    note = f"<!-- plans: {jobs} job{'' if jobs == 1 else 's'}, downloads: {' '.join(sorted(places)) or 'none'} -->"
    said = NOTE.fullmatch(block.note.strip())
    assert said and not said["fragment"], f"{block}: no comment says what is planned; if it should be: {note}"
    announced = set(said["places"].split()) - {"none"}
    assert (int(said["jobs"]), announced) == (jobs, places), f"{block}: {block.note.strip()} should be {note}"


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_says_what_language_it_is_in(block):
    assert block.language in ("yaml", "sh", "text"), f"{block}: begin the block with ```yaml, ```sh or ```text"


@pytest.mark.parametrize("block", SETTINGS, ids=str)
def test_a_block_of_settings_is_a_file_that_plans_what_the_page_says(block, plan):
    assert isinstance(yaml.safe_load(block.text), dict)
    if block.note.strip() != "<!-- fragment -->":
        check_note(block, *plan(block.text, "--configfile", "mine.yaml"))


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_a_command_can_be_typed(block, plan, tmp_path):
    if block.note.strip() == "<!-- fragment -->":  # a command of another program, which needs the network
        assert shlex.split(block.text)
        return
    assert block.commands
    for program, *words in block.commands:
        assert program in PROGRAMS, f"{block}: {program} is checked by nobody; teach this test"
        if program == "make":
            check_make(block, words, tmp_path)
        elif program == ".venv/bin/python":
            files = [word for word in words if word.endswith(".py")]
            assert files and all((ROOT / file).is_file() for file in files), f"{block}: no such file"
        elif program == ".venv/bin/snakemake":
            check_note(block, *plan(block.settings, *words))
        elif program == "snakemake":  # in a sentence, of an option
            from snakemake.cli import parse_args

            parse_args(words)


def check_make(block: Block, words: list[str], folder: Path) -> None:
    done = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block}: {done.stderr}"
    if words[0] == "plan":
        (folder / "mine.yaml").write_text(block.settings, encoding="utf-8")
        make_files(folder, block.settings)
        options = next((shlex.split(word.removeprefix("ARGS=")) for word in words[1:]), [])
        script = [sys.executable, str(SCRIPTS / "plan_run.py"), *options]
        done = subprocess.run(script, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "CPU h" in done.stdout, f"{block}: {done.stderr}"


def test_every_page_is_read():
    """What the tests above are about is there."""
    assert {block.place.partition(":")[0] for block in SETTINGS} >= {"README.md", "config/README.md"}
    assert len(SETTINGS) >= 7 and len(COMMANDS) >= 10
    assert not [block for block in SETTINGS if block.text.startswith(("    ", "\t"))]


def test_every_profile_that_a_page_names_can_be_planned_with(plan, monkeypatch, tmp_path):
    """Without what the page says to install first: the executor's plugin and its options, and conda, which has a stand-in."""
    text = " ".join(" ".join(page.read_text(encoding="utf-8").split()) for page in PAGES)
    named = re.findall(r"--profile\s+(profiles/\w+)", text)
    profiles = {Path(name): yaml.safe_load((ROOT / name / "config.yaml").read_text(encoding="utf-8")) for name in named}
    assert {*profiles, Path("profiles/default")} == {path.relative_to(ROOT) for path in (ROOT / "profiles").iterdir()}
    monkeypatch.setenv("PATH", f"{ROOT / 'tests/conda/bin'}{os.pathsep}{os.environ['PATH']}")
    for profile, facts in profiles.items():
        executor = facts.get("executor", "local")
        assert executor == "local" or f"make setup-{executor}" in text
        of_all = {key: value for key, value in facts.items() if not key.startswith(f"{executor}-")}
        (tmp_path / profile.name).mkdir()
        (tmp_path / profile.name / "config.yaml").write_text(yaml.safe_dump(of_all))
        words = ("results/splits/baron_pancreas/human.h5ad", "--profile", str(tmp_path / profile.name))
        words += ("--executor", "local")
        rules, places = plan("{}", *words)
        assert (rules.total(), places) == (3, {"pypi"})


def test_a_wrong_number_and_an_unannounced_download_are_told():
    """The check itself can fail: of jobs, of places, and where nothing is said."""
    for note, words in (
        ("<!-- plans: 3 jobs, downloads: pypi -->", "should be <!-- plans: 2 jobs, downloads: pypi -->"),
        ("<!-- plans: 2 jobs, downloads: none -->", "should be <!-- plans: 2 jobs, downloads: pypi -->"),
        ("<!-- plans: 2 jobs, downloads: pypi s3://bucket -->", "should be <!-- plans: 2 jobs, downloads: pypi -->"),
        ("", "no comment says what is planned"),
    ):
        with pytest.raises(AssertionError, match=re.escape(words)):
            check_note(Block("page.md:1", "sh", "", note, ""), Counter(split=2), {"pypi"})
    check_note(
        Block("page.md:1", "sh", "", "<!-- plans: 2 jobs, downloads: pypi -->\n", ""), Counter(split=2), {"pypi"}
    )


# --- what the sentences say -------------------------------------------------------------------------------------------


def spans(page: Path) -> Iterator[str]:
    """Yield the code spans of a page, those of tables too."""
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")):
        for span in token.children or ():
            if span.type == "code_inline":
                yield " ".join(span.content.split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_of_the_repository_that_a_page_names_exist(page):
    named = {
        span for span in spans(page) if re.fullmatch(r"(workflow|tests|docs|config|bench|profiles)/[\w./-]+", span)
    }
    named |= set(re.findall(r"docs/adr/\d{4}", page.read_text(encoding="utf-8")))
    missing = [name for name in named if not (ROOT / name).exists() and not list(ROOT.glob(f"{name}-*.md"))]
    assert not missing, f"{page.name} names files that are not there: {missing}"


def test_the_page_of_results_names_the_tables_that_are_written():
    """All of them, and none besides."""
    rules = (ROOT / "workflow/rules/publish.smk").read_text(encoding="utf-8")
    written = set(re.findall(r"\b\w+\.(?:csv|parquet|md|tex)\b", rules))
    text = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    table = text[text.index("| table | content |") : text.index("\n\n", text.index("| table | content |"))]
    names = [re.findall(r"`([^`]+)`", first) for first in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)]
    # `scores.csv`, `.parquet`: an ending belongs to the name before it
    named = {
        f"{Path(first).stem}{name}" if name.startswith(".") else name
        for first, *more in names
        for name in (first, *more)
    }
    assert named == {name for name in written if not name.startswith("manifest")}


def test_the_tutorial_counts_the_jobs_of_the_demo(plan):
    rules, _ = plan("{}", "--configfile", "config/demo.yaml")
    text = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \| (\d+) \|", text, re.MULTILINE)
    left = Counter(rules)
    for names, n in rows:
        steps = re.findall(r"`(\w+)`", names)
        counted = left if "..." in names else {step: left[step] for step in steps}
        assert int(n) == sum(counted.values()), f"{names}: {dict(counted)}"
        left -= Counter(counted)
    assert not left and f"runs {rules.total()} jobs" in text


def test_the_tutorial_calls_models_as_the_report_does():
    titles = [entry["title"] for entry in settings.read()["models"].values()]
    text = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    section = text[text.index("## 2.") : text.index("## 4.")]
    named = [" ".join(name.split()) for name in re.findall(r"`([A-Z][^`]+)`", section)]
    assert named and set(named) <= set(titles)


def test_the_questions_quote_messages_that_exist():
    import snakemake

    sources = [*(SCRIPTS / "cellgauge").rglob("*.py"), Path(snakemake.__file__).with_name("exceptions.py")]
    code = re.sub(r"\"\s*f?\"", "", " ".join(path.read_text(encoding="utf-8") for path in sources)).replace("`", "")
    text = " ".join((ROOT / "docs/faq.md").read_text(encoding="utf-8").split())
    quotes = [quote for quote in re.findall(r"\*\*`([^`]+)`", text) if not quote.startswith("make")]
    assert len(quotes) >= 4
    for quote in quotes:
        for part in re.split(r"\.\.\.|'\w+'", quote):
            assert part.strip().replace("matrix", "{kind}") in code or part.strip() in code, (
                f"{quote}: no message says it"
            )
