"""Makes the fixtures of the tests of core/io. Run by hand, never by the build:
    python3 tests/golden/io/make_fixtures.py
with torch 2.15, numpy 2.4, safetensors 0.8, Pillow. The files are committed."""
import argparse
import collections
import io
import os
import struct
import zlib
import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin
from safetensors.torch import save as safetensors_save, save_file

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


def png(width, height, depth, colour_type, rows, chunks=()):
    """A PNG by hand, for the kinds that Pillow cannot write. rows: bytes of each row."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + r for r in rows))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunk(*c) for c in chunks) + chunk(b"IDAT", data) +
            chunk(b"IEND", b""))


def images():
    """Pictures of many kinds; their pixels as Pillow sees them are in images.safetensors."""
    width, height = 24, 16
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 10, y * 15, (x + y) * 6], -1).astype(np.uint8)
    expected = {}

    def put(name, data, pixels):
        with open(path(name), "wb") as f:
            f.write(data)
        expected[name] = torch.from_numpy(np.array(pixels))

    def saved(image, kind, **options):
        out = io.BytesIO()
        image.save(out, kind, **options)
        return out.getvalue()

    def over_white(image):
        rgba = np.asarray(image.convert("RGBA")).astype(np.float64)
        a = rgba[..., 3:] / 255
        return np.floor(rgba[..., :3] * a + 255 * (1 - a) + 0.5).astype(np.uint8)

    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "steps=50")
    text.add_itxt("title", "b\u00e1tik")
    text.add_text("long", "z" * 300, zip=True)
    im = Image.fromarray(rgb)
    put("rgb8.png", saved(im, "PNG", pnginfo=text), rgb)
    grey = rgb[..., 0]
    put("grey8.png", saved(Image.fromarray(grey), "PNG"), np.repeat(grey[..., None], 3, -1))
    put("grey1.png", saved(Image.fromarray(grey > 90), "PNG"), np.repeat(((grey > 90) * 255).astype(np.uint8)[..., None], 3, -1))
    rgba = Image.fromarray(np.concatenate([rgb, (255 - x * 10)[..., None].astype(np.uint8)], -1), "RGBA")
    put("rgba8.png", saved(rgba, "PNG"), over_white(rgba))
    palette = im.quantize(16)
    put("palette.png", saved(palette, "PNG"), np.asarray(palette.convert("RGB")))
    put("palette_alpha.png", saved(palette, "PNG", transparency=3),
        over_white(Image.open(io.BytesIO(saved(palette, "PNG", transparency=3)))))
    wide = rgb.astype(np.uint16) * 256 + 77
    put("rgb16.png", png(width, height, 16, 2, [r.astype(">u2").tobytes() for r in wide]), rgb)
    put("grey16.png", png(width, height, 16, 0, [r[:, 0].astype(">u2").tobytes() for r in wide]),
        np.repeat(grey[..., None], 3, -1))

    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(im, "JPEG", quality=95, exif=exif)
    put("exif6.jpg", data, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))
    for name, image in (("grey.jpg", Image.fromarray(grey)), ("cmyk.jpg", im.convert("CMYK"))):
        data = saved(image, "JPEG", quality=95)
        put(name, data, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    data = saved(im.resize((240, 160)), "JPEG", quality=80, progressive=True)
    put("large.jpg", data, np.asarray(Image.open(io.BytesIO(data)).resize((30, 20), Image.BOX)))
    save_file(expected, path("images.safetensors"))


def arrays():
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.save(path("f4.npy"), x)
    np.save(path("fortran.npy"), np.asfortranarray(x))
    np.save(path("scalar.npy"), np.array(2.5))
    np.save(path("bool.npy"), np.arange(5) % 2 == 0)
    np.save(path("big.npy"), x.astype(">f4"))
    np.save(path("u2.npy"), np.array([0x3f80, 0xc000], dtype=np.uint16))
    np.savez(path("stored.npz"), mu=x[0].astype(np.float64), sigma=np.arange(3))
    np.savez_compressed(path("deflated.npz"), zeros=np.zeros((64, 64), np.float32), i=np.arange(7, dtype=np.int8))


def checkpoints():
    torch.manual_seed(0)
    base = torch.arange(12, dtype=torch.float32)
    tensors = {name: values(6, dtype).reshape(2, 3) for name, dtype in DTYPES.items()}
    tensors["transposed"] = base.reshape(3, 4).t()
    tensors["view"] = base[2:8].reshape(2, 3)  # shares the storage of "transposed"
    tensors["every_second"] = base[1::2]
    tensors["expanded"] = torch.tensor([7.0]).expand(3, 2)
    tensors["scalar"] = torch.tensor(2.5)
    tensors["empty"] = torch.zeros(0, 4)
    tensors["parameter"] = torch.nn.Parameter(torch.ones(2))
    tensors["complex"] = torch.zeros(2, dtype=torch.complex64)
    tensors["u16"] = torch.zeros(2, dtype=torch.uint16)
    tensors["rank7"] = torch.zeros(1, 1, 1, 1, 1, 1, 2)
    for protocol in (2, 3, 4, 5):
        torch.save(tensors, path(f"tensors_p{protocol}.pt"), pickle_protocol=protocol)

    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    values_only = {"none": None, "yes": True, "no": False, "int": -5, "large": 2 ** 40, "huge": 2 ** 100, "float": 0.125,
                   "text": "b\u00e1tik", "bytes": b"ab", "tuple": (1, (2, 3), 4, 5, 6), "list": [1, [2]], "set": {1},
                   "frozen": frozenset([2]), "size": torch.Size([4, 5]), "device": torch.device("cpu"), "dtype": torch.float32}
    shared = [1, 2]
    torch.save({"epoch": 1, "global_step": 123, "pytorch-lightning_version": "2.4.0", "state_dict": model.state_dict(),
                "loops": {"fit_loop": {"state": {}}}, "optimizer_states": [optimizer.state_dict()], "lr_schedulers": [],
                "hyper_parameters": argparse.Namespace(lr=1e-3, layers=[1, 2]), "values": values_only,
                "shared": [shared, shared], "counter": collections.Counter("aab")}, path("lightning.ckpt"))
    torch.save({"a": torch.ones(2)}, path("legacy.pth"), _use_new_zipfile_serialization=False)
    with open(path("expected_checkpoint.safetensors"), "wb") as f:
        f.write(safetensors_save({"weight": model.weight.detach(), "bias": model.bias.detach(),
                                  "exp_avg": optimizer.state_dict()["state"][0]["exp_avg"]}))


if __name__ == "__main__":
    safetensors_files()
    images()
    arrays()
    checkpoints()
    for name in os.listdir(here):
        os.chmod(path(name), 0o644)
