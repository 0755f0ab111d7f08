"""The five architectures, and what CUTLASS's and CCCL's headers state of them, with the line."""

import re
from dataclasses import dataclass
from pathlib import Path

from lib.errors import CollectionError

HEADERS = {".h", ".hpp", ".inl"}


@dataclass(frozen=True)
class Architecture:
    """An architecture by its number, a part that has it, and its family's name."""

    sm: int
    part: str
    family: str

    @property
    def target(self) -> str:
        """Architecture-specific target of ptxas, the only kind with every instruction."""
        return f"sm_{self.sm}a"


ARCHITECTURES = (
    Architecture(90, "H100", "Hopper"),
    Architecture(100, "B200", "datacenter Blackwell"),
    Architecture(103, "B300", "datacenter Blackwell"),
    Architecture(120, "RTX 5090", "desktop Blackwell"),
    Architecture(121, "GB10", "desktop Blackwell"),
)


def read_capacities(cutlass: Path) -> dict[int, tuple[int, str, int]]:
    """Shared-memory capacities that CUTLASS states: ``sm -> (bytes, file, line)``.

    Reads ``constexpr int smNNN_smem_capacity_bytes = N;`` wherever it stands; a constant that only
    names another is passed over. Raises CollectionError if none is found or two disagree.
    """
    found: dict[int, tuple[int, str, int]] = {}
    stated = r"\bsm(\d+)_smem_capacity_bytes\s*=\s*(\d+)\s*;"
    for sm, size, file, line in scan(cutlass, "cutlass", stated):
        other, where, _ = found.setdefault(int(sm), (int(size), file, line))
        if other != int(size):
            raise CollectionError(f"{file}:{line} says {size} B for SM{sm}, {where} says {other} B",
                                  "read both: CUTLASS changed")
    if not found:
        raise CollectionError(f"no smem_capacity_bytes constant under {cutlass}",
                              "name the include folder of CUTLASS 3.0 or later")
    return found


def arch_tags(cutlass: Path) -> dict[int, tuple[str, int]]:
    """Architecture tags (``struct SmNNN``) of cutlass/arch/arch.h: ``sm -> (file, line)``."""
    found = scan(cutlass, "cutlass/arch", r"^struct Sm(\d+)\b(?!.*;)")
    return {int(sm): (file, line) for sm, file, line in found}


def tensor_memory(cutlass: Path) -> tuple[int, str, int]:
    """Bytes of tensor memory a multiprocessor of SM100 has in CUTLASS, with file and line."""
    stated = r"MAX_CAPACITY_BITS\s*=\s*Int<(\d+)\*(\d+)\*(\d+)>"
    for lanes, columns, bits, file, line in scan(cutlass, "cute/arch", stated):
        return int(lanes) * int(columns) * int(bits) // 8, file, line
    raise CollectionError(f"no MAX_CAPACITY_BITS under {cutlass}",
                          "name the include folder of CUTLASS 4.0 or later")


def per_multiprocessor(cccl: Path) -> dict[int, tuple[int, str, int]]:
    """Shared memory of a multiprocessor in CCCL's arch_traits.h: ``sm -> (bytes, file, line)``.

    Empty for a CUDA without that header.
    """
    header = cccl / "cuda/__device/arch_traits.h"
    if not header.is_file():
        return {}
    found, sm = {}, 0
    for number, line in enumerate(header.read_text().splitlines(), 1):
        if match := re.search(r"arch_traits_t arch_traits<arch_id::sm_(\d+)>\(\)", line):
            sm = int(match[1])
        elif match := re.search(r"= ::cuda::arch_traits<arch_id::sm_(\d+)>\(\)", line):
            found.setdefault(sm, (*found[int(match[1])][:2], number))
        elif match := re.search(r"max_shared_memory_per_multiprocessor = (\d+) \* 1024;", line):
            found[sm] = int(match[1]) * 1024, header.name, number
    return found


def scan(include: Path, folder: str, pattern: str):
    """What a pattern finds in the headers of a folder: its groups, the file and the line."""
    headers = (path for path in (include / folder).rglob("*") if path.suffix in HEADERS)
    for path in sorted(headers):
        text = path.read_text(errors="replace")
        for match in re.finditer(pattern, text, re.MULTILINE):
            line = text.count("\n", 0, match.start()) + 1
            yield *match.groups(), str(path.relative_to(include)), line
