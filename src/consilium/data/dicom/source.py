"""A table of labels, and beside each row the image of its accession number: from a folder, or by DICOMweb."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from consilium import plugins
from consilium.core.contract import Image
from consilium.core.errors import DataUnusable, MappingInvalid
from consilium.core.ids import canonical, digest
from consilium.data import base
from consilium.data.access import authority, signed
from consilium.data.base import Asked, Rows, Source
from consilium.data.choosing import without
from consilium.data.clock import Clock
from consilium.data.counts import hidden
from consilium.data.databases import expanded
from consilium.data.dicom import dicomweb
from consilium.data.dicom.images import Found, read
from consilium.data.dicom.kept import Images, key_of, veiled
from consilium.data.extracts import Extract, held
from consilium.data.source import TableSource
from consilium.data.web import Web

WHERE, FILE = "source.url", "Images.npz"
BYTES = 32
"""Of memory, for each value of an image: as it is read, in the table, and as input of the model."""
FLAWS = {
    "burned-in": "may have a name burned into the image (Burned In Annotation)",
    "frames": "have several frames",
    "photometric": "are not greyscale (Photometric Interpretation)",
    "pixels": "cannot be decoded",
    "size": "have another size than the contract allows",
    "spacing": "have another distance of pixels, or none",
    "view": "do not say their View Position",
    "orientation": "do not say their Patient Orientation, or it is another one",
    "rescale": "have no Rescale Slope and Intercept that could be applied",
    "patient": "are of another patient than the table says",
}


class DicomSource:
    """The columns of the labels' table, and beside each row the values of its image, row by row."""

    def __init__(self, source: TableSource, folder: Path) -> None:
        if source.dicom is None or (source.path is None) == (source.url is None):
            raise MappingInvalid(
                "source.dicom: a source of type dicom needs it, and a folder (`path`) or a server (`url`)",
                "name one of both",
            )
        if source.dicom.labels.type == "dicom":
            raise MappingInvalid("source.dicom.labels: is a table, and no images", "such as csv or sql")
        self._source, self._given, self._folder = source, source.dicom, folder
        kinds = plugins.names("consilium.sources")
        self._labels: Source = base.source(source.dicom.labels, folder, kinds)
        self._asked = Asked()
        if source.url is not None:
            self._web()

    def told(self, asked: Asked) -> None:
        """What an image must be, and where what is fetched may be kept."""
        self._asked = asked
        if isinstance(self._labels, base.Told):
            given = self._given
            columns = asked.columns | {given.accession, given.patient or given.accession}
            below = asked.extracts / "labels" if asked.extracts is not None else None
            self._labels.told(Asked(columns if asked.columns else frozenset(), below, None, asked.without))

    def count(self) -> int:
        """Number of rows."""
        return self._labels.count()

    def rows(self) -> Rows:
        """All rows, as text; none has values where no image is asked for. A row without an image has none of them."""
        wanted, labels = self._asked.image, without(self._labels.rows(), *self._asked.without)
        if wanted is None:
            return labels
        orders = self._column(labels, self._given.accession, "accession")
        named = [one.strip() for one in orders if one and one.strip()]
        if len(set(named)) < len(named):
            raise DataUnusable("source.dicom.accession: an accession number stands twice", "give one row per patient")
        patients = self._column(labels, self._given.patient, "patient") if self._given.patient else None
        _fits(wanted, len(labels))
        with self._images(wanted, frozenset(named)) as (secret, images):
            chosen = self._chosen(secret, images, orders, patients)
            values = np.full((len(labels), wanted.size), np.nan, np.float32)
            for row, one in enumerate(chosen):
                if one is not None:
                    values[row] = images.pixels[one]
        return replace(labels, image=values)

    def _column(self, labels: Rows, name: str | None, what: str) -> list[str | None]:
        if name not in labels.columns:
            raise MappingInvalid(f"source.dicom.{what}: the table has no column {name!r}", "correct its name")
        return labels.columns[name]

    def _chosen(
        self, key: bytes, images: Images, orders: list[str | None], patients: list[str | None] | None
    ) -> list[int | None]:
        """Per row which image, or None. Raises: DataUnusable: flaws that are not left out, or several images."""
        rows = {veiled(key, "accession", one.strip()): number for number, one in enumerate(orders) if one}
        found: dict[int, list[int]] = {}
        flaws: Counter[str] = Counter()
        for at, (order, flaw) in enumerate(zip(images.accession, images.flaw)):
            row = rows.get(order)
            if row is None or flaw == "passed":
                continue
            who = patients[row] if patients is not None else None
            if not flaw and patients is not None and images.patient[at] != veiled(key, "patient", (who or "").strip()):
                flaw = "patient"
            if flaw:
                flaws[flaw] += 1
            else:
                found.setdefault(row, []).append(at)
        self._told(flaws)
        several = sum(1 for one in found.values() if len(one) > 1)
        if several and self._given.take == "only":
            raise DataUnusable(
                f"{hidden(several)} accession numbers have several images",
                "write `take: first` or `last`, or name a view",
            )
        place = -1 if self._given.take == "last" else 0
        return [found[row][place] if row in found else None for row in range(len(orders))]

    def _told(self, flaws: Counter[str]) -> None:
        stops = {flaw: count for flaw, count in flaws.items() if flaw not in self._given.leave_out}
        if stops:
            words = "; ".join(f"{hidden(count)} {FLAWS[flaw]}" for flaw, count in sorted(stops.items()))
            names = ", ".join(sorted(stops))
            raise DataUnusable(
                f"images do not fit the contract: {words}",
                f"narrow `query`, correct them, or leave them out: source.dicom.leave_out: [{names}]",
            )

    @contextmanager
    def _images(self, wanted: Image, orders: frozenset[str]) -> Iterator[tuple[bytes, Images]]:
        if self._source.path is not None:
            with held(None, 1.0) as extract:
                key = key_of(extract.folder)
                yield key, _of_folder((self._folder / self._source.path).resolve(), wanted, orders, key)
            return
        given, of = self._given, self._of(wanted)
        with held(self._asked.extracts, given.time_limit_s) as extract:
            fresh = extract.fresh(of, given.fresh_h, datetime.now(UTC))
            if not fresh or not self._covers(extract, of, orders):
                self._fetch(extract, of, wanted, orders, fresh)
            (path,) = extract.files(of)
            yield key_of(extract.folder), Images.load(path)

    def _covers(self, extract: Extract, of: str, orders: frozenset[str]) -> bool:
        """Whether the rows of the table are those for which images were fetched."""
        found = extract.index(of)
        return found is not None and found.mark == _mark(key_of(extract.folder), orders)

    def _of(self, wanted: Image) -> str:
        asked = [3, self._source.url, self._given.query, wanted.model_dump(mode="json")]  # 3: the form of `Images`
        return str(digest(canonical(asked)))

    def _web(self) -> Web:
        given = self._given
        clock = Clock(given.time_limit_s, "source.dicom.time_limit_s")
        web = Web(expanded(str(self._source.url)), WHERE, clock, authority(given.access, self._folder), given.hosts)
        return signed(web, given.access, self._folder)

    def _fetch(self, extract: Extract, of: str, wanted: Image, orders: frozenset[str], fresh: bool) -> None:
        """Fetch what is not here, and all of it anew once it is old: no search tells whether an image was corrected.

        Args:    fresh: whether what is here may be used as it is. It gets no younger by what is fetched beside it.
        """
        web, key = self._web(), key_of(extract.folder)
        before, since = self._pruned(extract, of, wanted, orders), extract.index(of)
        known, images = before.by_study() if fresh else {}, Images()
        at = datetime.fromisoformat(since.at) if fresh and since is not None else datetime.now(UTC)
        for study in dicomweb.studies(web, self._given.query):
            if study.accession not in orders:
                continue
            name = veiled(key, "study", "\n".join((study.uid, study.accession, study.patient, study.count)))
            if study.count and name in known:
                images.take(before, known[name])
                continue
            for found in _read(dicomweb.instances(web, study), wanted, study):
                images.add(key, name, found)
        path = extract.new / FILE
        images.save(path, wanted.size)
        extract.put(of, [path], at, _mark(key, orders))

    def _pruned(self, extract: Extract, of: str, wanted: Image, orders: frozenset[str]) -> Images:
        """What is here, without images of orders that are not asked for any more, such as of who opted out: they go
        before anything is fetched, which may fail.
        """
        extract.forget_others(of)
        index = extract.index(of)
        if index is None:
            return Images()
        before, key, images = Images.load(extract.files(of)[0]), key_of(extract.folder), Images()
        asked = {veiled(key, "accession", order) for order in orders}
        images.take(before, [at for at, order in enumerate(before.accession) if order in asked])
        if len(images.accession) < len(before.accession):
            path = extract.new / FILE
            images.save(path, wanted.size)
            extract.put(of, [path], datetime.fromisoformat(index.at), "")
        return images


def _fits(wanted: Image, rows: int) -> None:
    """Raises: DataUnusable: so many images have no room in this machine's memory."""
    needed = rows * wanted.size * BYTES
    if needed > (there := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
        raise DataUnusable(
            f"{rows} images of {wanted.rows} x {wanted.columns} take {needed / 2**30:.0f} GiB of memory, and this "
            f"machine has {there / 2**30:.0f} GiB",
            "ask the study's owner for a smaller image, give the agent more memory, or fewer rows in the labels' table",
        )


def _mark(key: bytes, orders: frozenset[str]) -> str:
    return veiled(key, "orders", "\n".join(sorted(orders)))


def _read(files: list[bytes], wanted: Image, study: dicomweb.Study) -> list[Found]:
    """The images of a study, in their order. Raises: DataUnusable: a file is none, or of another study."""
    found = []
    for data in files:
        one = read(data, wanted)
        if one is None or (one.study, one.accession) != (study.uid, study.accession):
            raise DataUnusable(
                f"{WHERE}: a study holds a file that is no DICOM, or of another study",
                "`consilium site check`, in a terminal, names it; see the server's log",
                which=(f"StudyInstanceUID {study.uid}",),
            )
        found.append(one)
    found.sort(key=lambda one: one.order)
    return found or [Found(study.accession, "", study.uid, (), passed=True)]


def _of_folder(place: Path, wanted: Image, orders: frozenset[str], key: bytes) -> Images:
    """The images of all DICOM files below a folder. Raises: DataUnusable: there is none, or one is damaged."""
    if not place.is_dir():
        raise DataUnusable("there is no folder of images beside the mapping", "correct source.path")
    found: list[Found] = []
    damaged: list[str] = []
    for path in sorted(place.rglob("*")):
        if path.is_file() and path.name != "DICOMDIR":
            try:
                one = read(path.read_bytes(), wanted)
            except OSError:
                one = None
            damaged += [str(path)] if one is None else []
            found += [one] if one is not None and one.accession in orders else []
    if damaged:
        raise DataUnusable(
            f"source.path: {hidden(len(damaged))} files are no DICOM, or were cut",
            "`consilium site check`, in a terminal, names them: copy them anew, or take them out",
            which=tuple(damaged),
        )
    images = Images()
    for one in sorted(found, key=lambda one: one.order):
        images.add(key, "", one)
    return images
