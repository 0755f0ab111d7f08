"""The five architectures, and what CUTLASS's and CCCL's headers state of them, with the line."""

import re
from dataclasses import dataclass
from pathlib import Path

from lib.errors import CollectionError

HEADERS = {".h", ".hpp", ".inl"}


@dataclass(frozen=True)
class Architecture:
    """An architecture by its number, and a part that has it."""

    sm: int
    part: str

    @property
    def target(self) -> str:
        """Architecture-specific target of ptxas, the only kind with every instruction."""
        return f"sm_{self.sm}a"

    @property
    def title(self) -> str:
        """What it is called in a heading."""
        return f"SM{self.sm} ({self.part})"


ARCHITECTURES = (Architecture(90, "H100"), Architecture(100, "B200"), Architecture(103, "B300"),
                 Architecture(120, "RTX 5090"), Architecture(121, "GB10"))


def read_capacities(cutlass: Path) -> dict[int, tuple[int, str]]:
    """Shared-memory capacities that CUTLASS states: ``sm -> (bytes, "file:line")``.

    Reads ``constexpr int smNNN_smem_capacity_bytes = N;`` wherever it stands; a constant that only
    names another is passed over. Raises CollectionError if none is found or two disagree.
    """
    found: dict[int, tuple[int, str]] = {}
    stated = r"\bsm(\d+)_smem_capacity_bytes\s*=\s*(\d+)\s*;"
    for sm, size, where in scan(cutlass, "cutlass", stated):
        other, before = found.setdefault(int(sm), (int(size), where))
        if other != int(size):
            raise CollectionError(f"{where} says {size} B for SM{sm}, {before} says {other} B",
                                  "read both: CUTLASS changed")
    if not found:
        raise CollectionError(f"no smem_capacity_bytes constant under {cutlass}",
                              "name the include folder of CUTLASS 3.0 or later")
    return found


def per_multiprocessor(cccl: Path) -> dict[int, tuple[int, str]]:
    """Shared memory of a multiprocessor in CCCL's arch_traits.h: ``sm -> (bytes, "file:line")``.

    Empty for a CUDA without that header.
    """
    header = cccl / "cuda/__device/arch_traits.h"
    found, sm = {}, 0
    for number, line in enumerate(header.read_text().splitlines() if header.is_file() else [], 1):
        where = f"{header.name}:{number}"
        if match := re.search(r"arch_traits_t arch_traits<arch_id::sm_(\d+)>\(\)", line):
            sm = int(match[1])
        elif match := re.search(r"= ::cuda::arch_traits<arch_id::sm_(\d+)>\(\)", line):
            found.setdefault(sm, (found[int(match[1])][0], where))
        elif match := re.search(r"max_shared_memory_per_multiprocessor = (\d+) \* 1024;", line):
            found[sm] = int(match[1]) * 1024, where
    return found


def scan(include: Path, folder: str, pattern: str):
    """What a pattern finds in the headers of a folder: its groups, and ``file:line``."""
    headers = (path for path in (include / folder).rglob("*") if path.suffix in HEADERS)
    for path in sorted(headers):
        text = path.read_text(errors="replace")
        for match in re.finditer(pattern, text, re.MULTILINE):
            line = text.count("\n", 0, match.start()) + 1
            yield *match.groups(), f"{path.relative_to(include)}:{line}"
