"""Makes the fixtures of the tests of core/io. Run by hand, never by the build:
    python3 tests/golden/io/make_fixtures.py
with torch 2.15, numpy 2.4, safetensors 0.8, Pillow. The files are committed."""
import os
import torch
from safetensors.torch import save_file

here = os.path.dirname(os.path.abspath(__file__))


def path(name):
    return os.path.join(here, name)


def values(n, dtype):
    if dtype == torch.bool:
        return torch.arange(n) % 3 == 0
    return (torch.arange(n, dtype=torch.float64) * 1.5 - 4).to(torch.int64 if dtype == torch.uint8 else dtype).to(dtype)


DTYPES = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "f16": torch.float16, "i8": torch.int8,
          "u8": torch.uint8, "i32": torch.int32, "i64": torch.int64, "bool": torch.bool}


def safetensors_files():
    tensors = {f"x.{name}": values(6, dtype).reshape(2, 3) for name, dtype in DTYPES.items()}
    tensors["scalar"] = torch.tensor(2.5)
    tensors["empty"] = torch.zeros(0, 4)
    save_file(tensors, path("all_dtypes.safetensors"), metadata={"format": "pt"})
    save_file({"a": torch.arange(4, dtype=torch.int16)}, path("i16.safetensors"))


if __name__ == "__main__":
    safetensors_files()
