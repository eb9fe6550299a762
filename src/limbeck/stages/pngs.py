"""pngs: a distilled set as a PNG ImageFolder in canonical class order, for people; and that as one file, for object storage."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from limbeck.commit import committed, digest, replacing, scratch
from limbeck.data.encoding import png
from limbeck.data.folders import class_entry
from limbeck.records import write_json
from limbeck.stages.common import Spec, by_class, classes_of, params, progress


def run(spec: Spec, distilled: Sequence[Path], classes: Path, archive: Path) -> None:
    """Write ``<folder of classes>/<class>/<image>.png`` and ``classes``, replacing the folder as a whole, and ``archive`` of it."""
    target = classes.parent
    with scratch(target) as part:
        names = classes_of(distilled[0])
        table, files = [], {}
        with progress("pngs") as report:
            for label, images in by_class(distilled):
                table.append(class_entry(label, names[label], len(names)))
                folder = part / table[-1]["folder"]
                folder.mkdir()
                for number, image in enumerate(images):
                    file = folder / f"{number:05d}.png"
                    file.write_bytes(png(image))
                    files[f"{folder.name}/{file.name}"] = digest(file)
                report(len(table), len(names))
        write_json(part / classes.name, "classes", params(spec), {"classes": table, "sha256": files})
        _pack(part, archive)
        part.chmod(0o755)
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
        committed(classes)


def _pack(folder: Path, archive: Path) -> None:
    """A zip of a folder's files: of equal ones equal bytes, and uncompressed, as PNG is already."""
    with replacing(archive) as part, ZipFile(part, "w") as out:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            about = ZipInfo(str(file.relative_to(folder)))  # of 1980
            about.external_attr = 0o644 << 16
            out.writestr(about, file.read_bytes())
