#!/usr/bin/env python3
"""What a user would run instead of Tenun: PyTorch on the same machine, timed for side-by-side ratios.

    python3 torch_peers.py gemm   [--device cpu|cuda] [--dtype f32|bf16] [--threads 2]
    python3 torch_peers.py sdpa   [--seq 1024,4096,16384] [--heads 12] [--dim 64] [--batch 1]
    python3 torch_peers.py jit    [--preset B] [--image 256] [--patch 16] [--batch 4] [--steps 5] [--compile]
    python3 torch_peers.py op     [--op softmax,rms_norm,gelu,...]

Prints one JSON object per measurement: {"peer": "torch 2.x", "what": ..., "shape": ..., "dtype": ...,
"direction": "fwd"|"fwd+bwd"|"train", "ms": median, "ms_min": ..., "gflops": ..., "rss_mib": ...}.
Times are medians of repeated calls after a warm-up; on CUDA by events. FLOPs of attention are the dense
4*B*H*N*N*D forward, x3.5 forward+backward. The model is JiT, written with PyTorch's own modules and fused attention (its best ordinary form).
"""
import argparse, json, math, resource, statistics, sys, time
import torch
import torch.nn as nn
import torch.nn.functional as F

DT = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def timed(fn, device, min_s=1.0, most=50):
    for _ in range(2):
        fn()
    out, end = [], time.perf_counter() + min_s
    while len(out) < 3 or (time.perf_counter() < end and len(out) < most):
        if device == "cuda":
            a, b = torch.cuda.Event(True), torch.cuda.Event(True)
            a.record(); fn(); b.record(); torch.cuda.synchronize()
            out.append(a.elapsed_time(b))
        else:
            t = time.perf_counter(); fn(); out.append((time.perf_counter() - t) * 1e3)
    return statistics.median(out), min(out)


def report(what, shape, dtype, direction, ms, flops=None, **more):
    row = dict(peer=f"torch {torch.__version__}", what=what, shape=shape, dtype=dtype, direction=direction,
               ms=round(ms[0], 4), ms_min=round(ms[1], 4))
    if flops:
        row["gflops"] = round(flops / ms[0] / 1e6, 2)
    row["rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    if torch.cuda.is_available():
        row["cuda_peak_mib"] = torch.cuda.max_memory_allocated() // 2**20
    row.update(more)
    print(json.dumps(row), flush=True)


def gemm(a):
    for m, n, k in [(256, 768, 768), (1152, 768, 768), (1152, 2304, 768), (1152, 4096, 768), (1152, 768, 2048), (2304, 768, 1152), (4096, 768, 1152),
                    (1024, 1024, 1024), (2048, 2048, 2048)]:  # those of tenun bench gemm
        x = torch.randn(m, k, device=a.device, dtype=DT[a.dtype]); w = torch.randn(k, n, device=a.device, dtype=DT[a.dtype])
        report("gemm", [m, n, k], a.dtype, "fwd", timed(lambda: x @ w, a.device), 2.0 * m * n * k)


def backends():
    """(name, context) of the attention backends that this build can be asked for one by one."""
    try:
        from torch.nn.attention import SDPBackend, sdpa_kernel
        names = ["FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION"]
        return [(n.lower(), sdpa_kernel(getattr(SDPBackend, n))) for n in names if hasattr(SDPBackend, n)]
    except ImportError:
        return []


def sdpa(a):
    import contextlib
    for n in [int(s) for s in a.seq.split(",")]:
        shape = (a.batch, a.heads, n, a.dim)
        q, k, v, g = (torch.randn(shape, device=a.device, dtype=DT[a.dtype], requires_grad=i < 3) for i in range(4))
        flops = 4.0 * a.batch * a.heads * n * n * a.dim
        picks = backends() if a.device == "cuda" else [("default", contextlib.nullcontext())]
        for name, ctx in picks:
            def fwd():
                with torch.no_grad():
                    F.scaled_dot_product_attention(q, k, v)

            def both():
                q.grad = k.grad = v.grad = None
                F.scaled_dot_product_attention(q, k, v).backward(g)
            try:
                with ctx:
                    report("sdpa", list(shape), a.dtype, "fwd", timed(fwd, a.device), flops, backend=name)
                    report("sdpa", list(shape), a.dtype, "fwd+bwd", timed(both, a.device), 3.5 * flops, backend=name)
            except RuntimeError as e:
                print(json.dumps(dict(what="sdpa", shape=list(shape), backend=name, error=str(e).splitlines()[0])), flush=True)


class RMSNorm(nn.Module):
    def __init__(self, c):
        super().__init__(); self.weight = nn.Parameter(torch.ones(c))

    def forward(self, x):
        f = x.float()
        return (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight).to(x.dtype)


def rope_table(d, grid, prefix):
    r = d // 2
    g = (10000.0 ** (-torch.arange(0, r, 2).double() / r)).repeat_interleave(2)
    pos = torch.arange(grid).double()
    ang = torch.cat([(pos[:, None] * g)[:, None].expand(grid, grid, r), (pos[:, None] * g)[None].expand(grid, grid, r)], -1).reshape(grid * grid, d)
    ang = torch.cat([torch.zeros(prefix, d).double(), ang])
    return ang.cos().float(), ang.sin().float()


def rotate(x, cos, sin):
    y = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    return (x * cos + y * sin).to(x.dtype)


class Block(nn.Module):
    def __init__(self, c, h, hid):
        super().__init__()
        self.h = h
        self.norm1, self.norm2 = RMSNorm(c), RMSNorm(c)
        self.qkv, self.proj = nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.q_norm, self.k_norm = RMSNorm(c // h), RMSNorm(c // h)
        self.w12, self.w3 = nn.Linear(c, 2 * hid), nn.Linear(hid, c)
        self.ada = nn.Linear(c, 6 * c)

    def forward(self, x, c, cos, sin):
        s1, m1, g1, s2, m2, g2 = self.ada(F.silu(c))[:, None].chunk(6, -1)
        b, n, w = x.shape
        q, k, v = self.qkv(self.norm1(x) * (1 + m1) + s1).reshape(b, n, 3, self.h, w // self.h).permute(2, 0, 3, 1, 4)
        q, k = rotate(self.q_norm(q), cos, sin), rotate(self.k_norm(k), cos, sin)
        x = x + g1 * self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, w))
        u, t = self.w12(self.norm2(x) * (1 + m2) + s2).chunk(2, -1)
        return x + g2 * self.w3(F.silu(u) * t)


class JiT(nn.Module):
    def __init__(self, image, patch, c, depth, heads, bottleneck, start, classes=20, ctx=32):
        super().__init__()
        self.patch, self.start, self.grid = patch, start, image // patch
        self.p1, self.p2 = nn.Conv2d(3, bottleneck, patch, patch, bias=False), nn.Conv2d(bottleneck, c, 1)
        self.pos = nn.Parameter(torch.zeros(1, self.grid**2, c), requires_grad=False)
        self.ctx_pos = nn.Parameter(0.02 * torch.randn(1, ctx, c))
        self.ctx = ctx
        self.t1, self.t2 = nn.Linear(256, c), nn.Linear(c, c)
        self.y = nn.Embedding(classes + 1, c)
        self.blocks = nn.ModuleList(Block(c, heads, int(int(c * 4.0) * 2 / 3)) for _ in range(depth))
        self.norm, self.ada, self.out = RMSNorm(c), nn.Linear(c, 2 * c), nn.Linear(c, patch * patch * 3)
        for name, pre in (("a", 0), ("b", ctx)):
            cos, sin = rope_table(c // heads, self.grid, pre)
            self.register_buffer("cos" + name, cos, False); self.register_buffer("sin" + name, sin, False)

    def forward(self, x, t, y):
        f = t[:, None] * torch.exp(-math.log(10000) * torch.arange(128, device=t.device) / 128)
        ye = self.y(y)
        c = self.t2(F.silu(self.t1(torch.cat([f.cos(), f.sin()], -1)))) + ye
        h = self.p2(self.p1(x)).flatten(2).transpose(1, 2) + self.pos
        for i, b in enumerate(self.blocks):
            if i == self.start:
                h = torch.cat([ye[:, None] + self.ctx_pos, h], 1)
            h = b(h, c, *((self.cosb, self.sinb) if i >= self.start else (self.cosa, self.sina)))
        s, m = self.ada(F.silu(c))[:, None].chunk(2, -1)
        o = self.out(self.norm(h[:, self.ctx:]) * (1 + m) + s)
        n, g, p = x.shape[0], self.grid, self.patch
        return o.reshape(n, g, g, p, p, 3).permute(0, 5, 1, 3, 2, 4).reshape(n, 3, g * p, g * p)


PRESETS = {"S": (512, 8, 8, 128, 4), "B": (768, 12, 12, 128, 4), "L": (1024, 24, 16, 128, 8), "H": (1280, 32, 16, 256, 10)}


def jit(a):
    c, depth, heads, bn, start = PRESETS[a.preset]
    net = JiT(a.image, a.patch, c, depth, heads, bn, start).to(a.device)
    run = torch.compile(net) if a.compile else net
    opt = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-4, weight_decay=0.0)
    ema = [p.detach().clone() for p in net.parameters()]
    x = torch.randn(a.batch, 3, a.image, a.image, device=a.device).clamp(-1, 1)
    y = torch.randint(0, 20, (a.batch,), device=a.device)
    cast = lambda: torch.autocast(a.device, dtype=torch.bfloat16, enabled=a.dtype == "bf16")

    def forward():
        with torch.no_grad(), cast():
            run(x, torch.full((a.batch,), 0.5, device=a.device), y)

    def train():
        t = torch.sigmoid(torch.randn(a.batch, device=a.device) * 0.8 - 0.8)
        tt = t.view(-1, 1, 1, 1)
        xt = tt * x + (1 - tt) * torch.randn_like(x)
        with cast():
            pred = run(xt, t, y)
        loss = (((pred - x) / (1 - tt).clamp_min(0.05)) ** 2).mean()
        loss.backward(); opt.step(); opt.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_mul_(ema, 0.9999)
            torch._foreach_add_(ema, list(net.parameters()), alpha=1e-4)
    params = sum(p.numel() for p in net.parameters())
    for name, fn in (("fwd", forward), ("train", train)):
        ms = timed(fn, a.device, min_s=0.0 if a.device == "cpu" else 2.0, most=a.steps)
        report(f"JiT-{a.preset}/{a.patch}", [a.batch, 3, a.image, a.image], a.dtype, name, ms, images_per_s=round(a.batch / ms[0] * 1e3, 4),
               params=params, compiled=a.compile)


def op(a):
    x = torch.randn(4, 1024, 768, device=a.device, dtype=DT[a.dtype], requires_grad=True); g = torch.randn_like(x)
    w = torch.ones(768, device=a.device, dtype=DT[a.dtype], requires_grad=True); b = torch.zeros_like(w, requires_grad=True)
    ops = {"softmax": lambda: F.softmax(x, -1), "layer_norm": lambda: F.layer_norm(x, (768,), w, b), "gelu": lambda: F.gelu(x),
           "silu": lambda: F.silu(x), "add": lambda: x + x, "mul": lambda: x * x, "transpose": lambda: x.transpose(1, 2).contiguous(),
           "sum": lambda: x.sum((1, 2), keepdim=True).expand_as(x)}
    for name in (a.op.split(",") if a.op else ops):
        def fwd():
            with torch.no_grad():
                ops[name]()

        def both():
            x.grad = None; ops[name]().backward(g)
        report(name, list(x.shape), a.dtype, "fwd", timed(fwd, a.device))
        report(name, list(x.shape), a.dtype, "fwd+bwd", timed(both, a.device))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["gemm", "sdpa", "jit", "op"])
    p.add_argument("--device", default="cpu"); p.add_argument("--dtype", default="f32", choices=DT); p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seq", default="1024,4096"); p.add_argument("--heads", type=int, default=12); p.add_argument("--dim", type=int, default=64)
    p.add_argument("--batch", type=int, default=1); p.add_argument("--preset", default="B", choices=PRESETS); p.add_argument("--image", type=int, default=256)
    p.add_argument("--patch", type=int, default=16); p.add_argument("--steps", type=int, default=5); p.add_argument("--compile", action="store_true")
    p.add_argument("--op", default="")
    a = p.parse_args()
    torch.manual_seed(0); torch.set_num_threads(a.threads)
    {"gemm": gemm, "sdpa": sdpa, "jit": jit, "op": op}[a.what](a)


if __name__ == "__main__":
    sys.exit(main())
