"""Random quantised matrices: as bytes for a kernel, and as float64 for its reference."""

from dataclasses import dataclass

import numpy as np
import torch

# The values of E2M1's codes: OCP Microscaling Formats (MX) 1.0, table 5.
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Operands:
    """Matrices as `files` of a program (name to bytes), and in float64: (m, k) and (n, k)."""

    files: dict
    a: np.ndarray
    b: np.ndarray

    @property
    def size(self):
        """m, n and k."""
        return len(self.a), *self.b.shape

    def product(self, rows):
        """Rows (sequence of int) of A times B transposed, in float64."""
        return self.a[rows] @ self.b.T


def e4m3(codes):
    """The values of E4M3 codes (uint8 array) in float64; unsigned E4M3 has the same positive."""
    return torch.tensor(codes).view(torch.float8_e4m3fn).to(torch.float64).numpy()


def draw(kind, m, n, k, random):
    """Random operands of a numpy Generator; k is a multiple of 32, scales are of 1/4 to 3.75."""
    files, values = {}, []
    for name, rows in (("A", m), ("B", n)):
        if kind == "fp8":
            codes = random.integers(0x28, 0x48, (rows, k), dtype=np.uint8)
            codes |= random.choice([0, 0x80], (rows, k)).astype(np.uint8)
            files[name] = codes.tobytes()
            values.append(e4m3(codes))
            continue
        codes = random.integers(0, 16, (rows, k), dtype=np.uint8)
        scales = random.integers(0x28, 0x48, (rows, k // 16), dtype=np.uint8)
        files[name] = (codes[:, ::2] | codes[:, 1::2] << 4).tobytes()
        files[f"SF{name}"] = scales.tobytes()
        values.append(E2M1[codes] * e4m3(scales).repeat(16, axis=1))
    return Operands(files, *values)


def compare(operands, result, d, sample, random):
    """Rows of a result (row-major bytes): relative Frobenius ``error``, and NaNs ``unwritten``."""
    m, n, _ = operands.size
    found = torch.frombuffer(bytearray(result), dtype=DTYPES[d]).reshape(m, n)
    rows = np.sort(random.choice(m, min(sample, m), replace=False))
    expected = operands.product(rows)
    difference = found[rows].to(torch.float64).numpy() - expected
    return {"error": float(np.linalg.norm(difference) / np.linalg.norm(expected)),
            "unwritten": int(found.isnan().sum())}
