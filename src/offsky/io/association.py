"""Level-2 association files: which exposures make which product."""

import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any

from offsky.errors import AssociationError, MissingFileError, reason_of, shown
from offsky.io.json_text import parse_json
from offsky.io.names import product_root
from offsky.io.regular import read_text

log = logging.getLogger(__name__)

_KINDS = ("science", "background", "imprint")

# A comma before a closing bracket, outside of texts: allowed where `jwst` reads YAML.
_NEEDLESS_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[\]}])')

# Lines about single members, and characters of a type that are shown.
_MOST_TOLD, _MOST_KIND = 20, 40


@dataclass(frozen=True, slots=True)
class AssociationProduct:
    """One product of an association.

    Attributes
    ----------
    name : str
        The root of its files' names: without an ending or a suffix such as ``_rate``.
    target : Path
        The science member.
    backgrounds : tuple of Path
        The background members, in the association's order.
    imprints : tuple of Path
        The imprint members.
    """

    name: str
    target: Path
    backgrounds: tuple[Path, ...]
    imprints: tuple[Path, ...] = ()


def read_association(path: Path, *, allow_outside: bool = False) -> list[AssociationProduct]:
    """Read a level-2 association.

    Parameters
    ----------
    path : Path
        The JSON file; members are relative to its folder.
    allow_outside : bool
        Whether members may lie outside that folder, links followed. An association
        from elsewhere could otherwise name any file of this machine.

    Returns
    -------
    list of AssociationProduct
        All products; members other than science, background and imprint are left out.

    Raises
    ------
    MissingFileError
        If the association is not there. A member that is not there is the business of the
        products that need it.
    AssociationError
        If it is no level-2 association, with the place in it.
    """
    try:
        # Windows editors begin with a byte-order mark.
        content = _parsed(read_text(path).removeprefix("\ufeff"))
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such file; check the name") from error
    except OSError as error:
        raise AssociationError(f"{path}: cannot be read ({reason_of(error)})") from error
    except ValueError as error:
        raise AssociationError(
            f"{path}: not JSON ({error}); expected a level-2 association"
        ) from error
    reader = _Reader(path, allow_outside)
    reader.check_object(content, "the association")
    products = content.get("products")
    if not isinstance(products, list) or not products:
        raise AssociationError(f"{path}: no products; expected a list of at least one")
    read = [reader.product(product, f"products[{i}]") for i, product in enumerate(products)]
    reader.tell_the_rest()
    for name, n in Counter(product.name for product in read).items():
        if n > 1:
            raise AssociationError(
                f"{path}: {n} products are called {shown(name)} and would be one "
                "file; give each a name of its own"
            )
    return read


def _parsed(text: str) -> Any:
    """Return what a JSON text holds; a comma too many is none of our business."""
    try:
        return parse_json(text)
    except ValueError:
        without = _NEEDLESS_COMMA.sub(lambda found: found[1] or "", text)
        if without == text:
            raise
        return parse_json(without)


class _Reader:
    """Turns parts of one association into values, or says where it is wrong."""

    def __init__(self, path: Path, allow_outside: bool) -> None:
        self._path = path
        self._allow_outside = allow_outside
        # Members by their names: products share them. And what tells each file from others.
        self._members: dict[str, Path] = {}
        self._files: dict[Path, object] = {}
        self._n_ignored = 0

    def _wrong(self, place: str, found: str) -> AssociationError:
        return AssociationError(f"{self._path}: {place}: {found}")

    def check_object(self, part: Any, place: str) -> None:
        """Refuse what is no object; the schema of `jwst` allows any further keys."""
        if not isinstance(part, dict):
            raise self._wrong(place, f"{type(part).__name__} where an object is expected")

    def product(self, part: Any, place: str) -> AssociationProduct:
        self.check_object(part, place)
        name = part.get("name")
        # What cannot be printed no file name should have, and some no file can.
        plain = isinstance(name, str) and Path(name).name == name and name.isprintable()
        # stpipe makes prod_bsub.fits of prod_rate and of prod.fits.
        root = product_root(Path(name)) if plain else ""
        if not root:
            raise self._wrong(f"{place}.name", f"{shown(name)}; expected a plain file name")
        members = part.get("members")
        if not isinstance(members, list) or not members:
            raise self._wrong(f"{place}.members", "expected a list of at least one member")
        of_kind: dict[str, list[Path]] = {kind: [] for kind in _KINDS}
        for i, member in enumerate(members):
            where = f"{place}.members[{i}]"
            self.check_object(member, where)
            kind = member.get("exptype")
            if not isinstance(kind, str):
                raise self._wrong(where, "no exptype; expected science, background or another")
            if kind.lower() not in _KINDS:
                self._ignore(where, kind)
                continue
            found = self._member_path(member.get("expname"), where)
            of_kind[kind.lower()].append(found)
        science, backgrounds, imprints = of_kind.values()
        if len(science) != 1:
            raise self._wrong(
                f"{place}.members", f"{len(science)} science members; expected exactly one"
            )
        for kind, others in of_kind.items():
            for other in others if kind != "science" else ():
                if self._same(other, science[0]):
                    raise self._wrong(
                        f"{place}.members", f"{other.name} is both science and {kind}"
                    )
        return AssociationProduct(root, science[0], tuple(backgrounds), tuple(imprints))

    def _ignore(self, place: str, kind: str) -> None:
        """Tell of a member of another type; of thousands only how many."""
        self._n_ignored += 1
        if self._n_ignored <= _MOST_TOLD:
            log.warning("%s: %s: %r member ignored", self._path, place, kind[:_MOST_KIND])

    def tell_the_rest(self) -> None:
        """Tell how many more members were ignored."""
        if self._n_ignored > _MOST_TOLD:
            n_more = self._n_ignored - _MOST_TOLD
            log.warning("%s: %d more members of other types ignored", self._path, n_more)

    def _member_path(self, expname: Any, place: str) -> Path:
        if not isinstance(expname, str) or not expname:
            raise self._wrong(f"{place}.expname", f"{shown(expname)}; expected a file name")
        if "://" in expname:
            raise self._wrong(
                f"{place}.expname",
                f"{shown(expname)} is an address, not a file; download it beside the "
                "association and give its name",
            )
        if expname not in self._members:
            self._members[expname] = self._find_member(expname, place)
        return self._members[expname]

    def _find_member(self, expname: str, place: str) -> Path:
        folder = self._path.parent
        found = folder / expname
        try:
            # A file that is no link, under a plain name, can only be in the folder.
            simple = found.name == expname and S_ISREG(found.lstat().st_mode)
        except (OSError, ValueError):
            simple = False
        try:
            is_inside = simple or found.resolve().is_relative_to(folder.resolve())
            self._files[found] = self._identity(found)
        except (OSError, RuntimeError, ValueError) as error:
            # Links in a circle, and names that no file can have.
            raise MissingFileError(
                f"{self._path}: {place}.expname: no such file {str(found)!r}; fetch it or "
                "correct it"
            ) from error
        # One that is not there stops the products that need it, when they are made.
        if not is_inside and not self._allow_outside:
            raise self._wrong(
                f"{place}.expname",
                f"{shown(expname)} leaves the association's folder; move the file there, or allow "
                "it with --allow-outside",
            )
        return found

    def _identity(self, path: Path) -> object:
        """Return what tells a file from others; its path where it is not there."""
        try:
            status = path.stat()
        except FileNotFoundError:
            return path
        return status.st_dev, status.st_ino

    def _same(self, one: Path, other: Path) -> bool:
        """Tell whether two members are one file."""
        return self._files[one] == self._files[other]
