"""A Debian for aarch64 with this repository in it, run by emulation: ``python -m tests.environment.arm64 COMMAND`` runs a command there.

Packages are unpacked and never configured.
Outside the cache's folder one thing changes while a command runs: the kernel's list of binary formats, if aarch64 is not in it.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from lib import cache
from tests.conftest import ROOT

EMULATOR = Path("/usr/bin/qemu-aarch64-static")
FORMATS = Path("/proc/sys/fs/binfmt_misc")
# The first 20 bytes of an ELF file for aarch64, and which of their bits count: QEMU's scripts/qemu-binfmt-conf.sh.
# O, C: the emulator gets the open file and its rights; F: it is opened now, so that it is found inside another root.
FORMAT = (r":sm12x-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:"
          r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:" f"{EMULATOR}:OCF")
PACKAGES = ("python3 python3-venv python3-pip g++ make git bash dash coreutils util-linux grep sed findutils ca-certificates").split()
# The newest torch whose wheels for aarch64 need no CUDA, and what it needs: pip would ask this machine's own architecture for that.
TORCH = "torch==2.9.1 numpy==1.26.4 filelock typing-extensions sympy mpmath<1.4 networkx jinja2 markupsafe fsspec".split()
PLATFORMS = [word for each in ("manylinux_2_28", "manylinux_2_17", "manylinux2014") for word in ("--platform", f"{each}_aarch64")]


def missing():
    """What this machine lacks for it (str), or an empty one."""
    if sys.platform != "linux" or os.geteuid():
        return "root is needed, on Linux, for another root and its mounts"
    if not shutil.which("apt-get") or not Path("/etc/apt").is_dir():
        return "apt-get is needed: packages of Debian for arm64 make the root"
    if not EMULATOR.is_file():
        return "an emulator is needed: apt-get install qemu-user-static"
    return ""


def say(*words):
    print("arm64:", *words, flush=True)


def root():
    """The unpacked Debian with torch (Path), made once; some 300 MB are fetched, in half a minute."""
    def unpack(folder):
        apt, debian = folder / "apt", folder / "root"
        for each in ("lists/partial", "archives/partial"):
            (apt / each).mkdir(parents=True)
        debian.mkdir()
        (apt / "status").touch()
        options = {"APT::Architecture": "arm64", "APT::Architectures": "arm64", "Dir::State": apt, "Dir::State::lists": apt / "lists",
                   "Dir::State::status": apt / "status", "Dir::Cache": apt, "Dir::Cache::archives": apt / "archives",
                   "Debug::NoLocking": 1, "APT::Sandbox::User": "root"}
        words = ["apt-get", "-qq", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
        say("Debian's packages")
        subprocess.run([*words, "update"], check=True)
        subprocess.run([*words, "install", "--yes", "--download-only", "--no-install-recommends", *PACKAGES], check=True, stdout=subprocess.DEVNULL)
        archives = sorted((apt / "archives").glob("*.deb"))
        for archive in archives:
            subprocess.run(["dpkg", "-x", archive, debian], check=True)
        say(f"{len(archives)} packages unpacked; torch for aarch64")
        (debian / "usr/bin/c++").symlink_to("g++")  # else made when g++ is configured
        [packages] = (path for path in (debian / "usr/lib").glob("python3.*") if path.is_dir())
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", *PLATFORMS,
                        "--python-version", packages.name.removeprefix("python"),
                        "--target", debian / "usr/local/lib" / packages.name / "dist-packages", *TORCH], check=True)
        shutil.rmtree(apt)
    # Not an entry of the cache: what runs there writes into it, and an entry is checked to the byte.
    place = cache.root() / "arm64" / cache.digest([PACKAGES, TORCH])
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            unpack(Path(folder))
            Path(folder, "root").rename(place)
    return place


@contextmanager
def emulated():
    """The kernel starts programs for aarch64, as long as this lasts."""
    mounted = (FORMATS / "register").exists()
    if not mounted:
        subprocess.run(["mount", "-t", "binfmt_misc", "none", FORMATS], check=True)
    ours = not any((FORMATS / name).exists() for name in ("qemu-aarch64", "sm12x-aarch64"))
    if ours:
        (FORMATS / "register").write_text(FORMAT)
    try:
        yield
    finally:
        if ours:
            (FORMATS / "sm12x-aarch64").write_text("-1")
        if not mounted:
            subprocess.run(["umount", FORMATS], check=True)


def refresh(debian):
    """The tree as git lists it, wheels that are here already (linked), and this machine's name servers and pip settings into a root."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (debian / "sm12x" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, debian / "sm12x" / name)
    kept = debian / "cache/wheels"
    for path in (cache.root() / "wheels").glob("*/*"):
        if not (link := kept / path.parent.name / path.name).exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, link)
    settings = [Path("/etc/resolv.conf"), Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf"]
    for path in filter(Path.is_file, settings):
        (debian / path.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, debian / path.relative_to("/"))


def run(command, **keywords):
    """A shell's command in the root's copy of this repository (subprocess.CompletedProcess); its mounts end with it."""
    debian = root()
    refresh(debian)
    inside = ["env", "-i", f"HOME={Path.home()}", "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LANG=C.UTF-8", "SM12X_CACHE=/cache", "SM12X_START_TIMEOUT=1200",
              *(f"{name}={os.environ[name]}" for name in ("PIP_INDEX_URL", "PIP_CERT", "SSL_CERT_FILE") if name in os.environ),
              "sh", "-c", f"cd /sm12x && {command}"]
    for name in ("proc", "sys", "dev", "tmp"):
        (debian / name).mkdir(exist_ok=True)
    here = shlex.quote(str(debian))
    mounts = f"mount -t proc none {here}/proc && mount --rbind /sys {here}/sys && mount --rbind /dev {here}/dev"
    with emulated():
        return subprocess.run(["unshare", "--mount", "sh", "-c", f'{mounts} && exec nice -n 10 chroot {here} "$@"', "sh", *inside], **keywords)


if __name__ == "__main__":
    sys.exit(missing() or run(" ".join(sys.argv[1:]) or "uname -m").returncode)
