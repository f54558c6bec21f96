"""The yardstick of bench `train`: the same models in PyTorch on the CPU.

Reads one JSON line per request, {"model": an expression over nn, "input": shape without the batch, "classes": n,
"batch": n, "optimizer": "sgd" or "adam", "threads": n, "seconds": at least so long}, and answers one line each:
{"cpuSeconds": CPU time per step of the whole process, "seconds": the clock's}. A model is built when it first comes, and kept.
"""
import ctypes
import json
import sys
import time

import torch
from torch import nn
import torch.nn.functional as F

made = {}


def keep_blas_single():
    """OpenBLAS has a pool of its own, which PyTorch does not set. Beside PyTorch's threads it only makes both slower."""
    try:
        ctypes.CDLL("libblas.so.3").openblas_set_num_threads(1)
    except (OSError, AttributeError):
        pass


def make(request):
    torch.manual_seed(1)
    model = eval(request["model"], {"nn": nn, "torch": torch, **blocks})
    batch = request["batch"]
    if request.get("vocabulary"):
        x = torch.randint(0, request["vocabulary"], (batch, *request["input"]))
    else:
        x = torch.randn(batch, *request["input"])
    y = torch.randint(0, request["classes"], (batch,))
    kind = torch.optim.Adam if request["optimizer"] == "adam" else torch.optim.SGD
    optimizer = kind(model.parameters(), lr=0.01)

    def step():
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    for _ in range(3):
        step()
    return step


def measure(step, seconds):
    steps = 0
    began, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        step()
        steps += 1
    seconds = time.perf_counter() - began
    return {"cpuSeconds": (time.process_time() - cpu) / steps, "seconds": seconds / steps}


class Last(nn.Module):
    """The last output of a recurrent layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0][:, -1]


class Mean(nn.Module):
    """The mean over one axis."""

    def __init__(self, axis):
        super().__init__()
        self.axis = axis

    def forward(self, x):
        return x.mean(self.axis)


class Attention(nn.Module):
    """As Keras' MultiHeadAttention: four projections with biases."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        batch, steps, width = x.shape
        size = width // self.heads

        def split(layer):
            return layer(x).view(batch, steps, self.heads, size).transpose(1, 2)

        scores = split(self.query) @ split(self.key).transpose(-1, -2) * size**-0.5
        mixed = torch.softmax(scores, -1) @ split(self.value)
        return self.out(mixed.transpose(1, 2).reshape(batch, steps, width))


def feed(width, inner):
    return nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))


class TransformerBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.LayerNorm(64, eps=1e-3), nn.LayerNorm(64, eps=1e-3)
        self.attention, self.feed = Attention(64, 4), feed(64, 128)

    def forward(self, x):
        x = x + self.attention(self.first(x))
        return x + self.feed(self.second(x))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(1000, 64)
        self.places = nn.Parameter(0.05 * torch.randn(32, 64))
        self.blocks = nn.Sequential(TransformerBlock(), TransformerBlock())
        self.head = nn.Linear(64, 10, bias=False)

    def forward(self, x):
        return self.head(self.blocks(self.words(x) + self.places).mean(1))


class MixerBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.LayerNorm(64, eps=1e-3), nn.LayerNorm(64, eps=1e-3)
        self.patches, self.values = feed(16, 32), feed(64, 128)

    def forward(self, x):
        x = x + self.patches(self.first(x).transpose(1, 2)).transpose(1, 2)
        return x + self.values(self.second(x))


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(49, 64), MixerBlock(), MixerBlock())
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.body(x).mean(1))


blocks = {"Last": Last, "Mean": Mean, "Transformer": Transformer, "Mixer": Mixer}


def matmul_per_second():
    """Multiply-adds of a plain matrix product: what its BLAS can do."""
    torch.set_num_threads(1)
    a, b = torch.randn(512, 512), torch.randn(512, 512)
    return 512**3 / measure(lambda: a @ b, 0.5)["cpuSeconds"]


keep_blas_single()
print(json.dumps({"version": torch.__version__, "matmul": matmul_per_second()}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    torch.set_num_threads(request["threads"])
    key = json.dumps([request["model"], request["optimizer"], request["batch"]])
    if key not in made:
        made[key] = make(request)
    print(json.dumps(measure(made[key], request["seconds"])), flush=True)
