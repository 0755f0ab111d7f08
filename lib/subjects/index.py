"""What the reader's package index offers: versions, files, hashes. `ranges` reads parts of them.

The index is the one that pip is set to: index-url and extra-index-url over HTTP, cert, client-cert,
a password in the address or in .netrc. What lies on this machine's disk, and what constraints hold
back, is no matter here. The wheel that pip would take is found by pip's own rules, `packaging`, in
the index's list: pip's dry run says the same, and on some indexes downloads the whole wheel for it.
"""

import ast
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache as once
from urllib.parse import urljoin, urlsplit

import requests
from bs4 import BeautifulSoup
from packaging import tags, utils
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from lib import environment
from lib.errors import CollectionError

JSON = "application/vnd.pypi.simple.v1+json"  # https://peps.python.org/pep-0691
PYTHON = "3.12"  # of DGX OS 7 and Ubuntu 24.04, whose glibc is 2.39
NETWORK = "check the network and pip's index (pip config list), and run again"


@dataclass(frozen=True)
class File:
    """A wheel or source archive of the index. Where the index does not say them, `bytes` is None
    and `uploaded` (UTC, ISO 8601) is empty. Its address is the reader's matter, and not shown."""

    project: str
    version: str
    file: str
    sha256: str
    bytes: int | None
    uploaded: str
    yanked: bool
    python: str
    url: str = field(repr=False)


@once
def settings():
    """What pip is set to (dict of str); variables go before files, in which [install] does."""
    asked = [sys.executable, "-m", "pip", "config", "list"]
    said = subprocess.run(asked, capture_output=True, text=True,
                          env=environment.without_pip_settings()).stdout
    rows = [line.partition("=")[::2] for line in said.splitlines() if "='" in line]
    return {name.removeprefix(section): ast.literal_eval(value)
            for section in ("global.", "install.", ":env:.")
            for name, value in rows if name.startswith(section)}


@once
def session():
    """A session (`requests.Session`) with pip's certificates."""
    made = requests.Session()
    made.verify, made.cert = settings().get("cert", True), settings().get("client-cert")
    return made


@once
def files(project):
    """All that the index has of a project (list of `File`), the oldest version first."""
    places = [settings().get("index-url", "https://pypi.org/simple"),
              *settings().get("extra-index-url", "").split()]
    pages = [f"{place.rstrip('/')}/{utils.canonicalize_name(project)}/" for place in places
             if place.startswith("http")]
    found = {each.file: each for page in reversed(pages) for each in listed(project, page)}
    if not found:
        raise CollectionError(f"the package index has no file of {project}",
                              "check its name, and the index that pip is set to")
    return sorted(found.values(), key=lambda each: (Version(each.version), each.file))


def listed(project, page):
    """The files on a page of an index, in JSON or HTML (list of `File`)."""
    try:
        reply = session().get(page, timeout=30, headers={"Accept": f"{JSON}, text/html;q=0.1"})
    except (requests.RequestException, OSError) as error:
        raise CollectionError(f"{project}: the package index does not answer "
                              f"({type(error).__name__})", NETWORK) from error
    if reply.status_code == 404:
        return []
    if not reply.ok:
        raise CollectionError(f"{project}: the package index answers {reply.status_code}", NETWORK)
    if "json" in reply.headers.get("Content-Type", ""):
        rows = reply.json()["files"]
    else:
        links = BeautifulSoup(reply.text, "html.parser").find_all("a", href=True)
        rows = [{"filename": link.text.strip(), "url": link["href"],
                 "hashes": {"sha256": link["href"].rpartition("#sha256=")[2]},
                 "requires-python": link.get("data-requires-python"),
                 "yanked": link.has_attr("data-yanked")} for link in links]
    return [made for row in rows if (made := listing(project, reply.url, row))]


def listing(project, page, row):
    """A row of a page (`File`); None for what is neither a wheel nor a source archive."""
    name = row["filename"]
    parse = utils.parse_wheel_filename if name.endswith(".whl") else utils.parse_sdist_filename
    try:
        version = str(parse(name)[1])
    except (utils.InvalidWheelFilename, utils.InvalidSdistFilename, InvalidVersion):
        return None
    url, here = urlsplit(urljoin(page, row["url"]))._replace(fragment=""), urlsplit(page)
    if "@" in here.netloc and url.hostname == here.hostname:
        url = url._replace(netloc=here.netloc)  # the password for the page is for its files, too
    return File(project, version, name, row["hashes"].get("sha256", ""), row.get("size"),
                (row.get("upload-time") or "")[:19], bool(row.get("yanked")),
                row.get("requires-python") or "", url.geturl())


def versions(project, pre=False):
    """The versions of a project that are not withdrawn (dict to the day of the first file of each,
    the oldest version first); with `pre`, pre-releases too."""
    found = {}
    for each in files(project):
        if not each.yanked and (pre or not Version(each.version).is_prerelease):
            found[each.version] = min(found.get(each.version, "9"), each.uploaded[:10])
    return found


@once
def supported(machine):
    """What a machine (``aarch64`` or ``x86_64``) can use: dict of tag to its rank, 0 the best."""
    oldest = 4 if machine == "x86_64" else 16
    names = [f"manylinux_2_{minor}_{machine}" for minor in range(39, oldest, -1)]
    names += [f"{old}_{machine}" for old in ("manylinux2014", "manylinux2010", "manylinux1")]
    names.append(f"linux_{machine}")
    known = [*tags.cpython_tags((3, 12), abis=["cp312"], platforms=names),
             *tags.compatible_tags((3, 12), "cp312", names)]
    return {tag: rank for rank, tag in enumerate(known)}


def chosen(project, machine, version="", pre=False):
    """The wheel that pip takes for a machine and Python 3.12 (`File`): of the newest version that
    has one, or of the one that is named; None if there is none.

    >>> chosen("torch", "aarch64", "2.13.0").file  # doctest: +SKIP
    'torch-2.13.0-cp312-cp312-manylinux_2_28_aarch64.whl'
    """
    known, found = supported(machine), []
    for each in files(project):
        number = Version(each.version)
        wanted = (number == Version(version) if version
                  else not each.yanked and (pre or not number.is_prerelease))
        if wanted and each.file.endswith(".whl") and PYTHON in SpecifierSet(each.python):
            _, _, build, marks = utils.parse_wheel_filename(each.file)
            ranks = [known[mark] for mark in marks if mark in known]
            found += [(number, -min(ranks), build, each)] if ranks else []
    return max(found, key=lambda row: row[:3])[-1] if found else None
