"""LSTM and GRU cells as PyTorch computes them, in Keras' layout: recurrent.json, made with PyTorch 1.13.

python3 test/golden/recurrent.py > test/golden/recurrent.json

Each case has its weights, an input, weights of the outputs, and what PyTorch makes of them in Float64: the outputs of every step,
and the gradients of sum(outputs * weights of the outputs) by the input and by each weight.

Gates stand as i f c o (LSTM) and z r h (GRU) in Keras, as i f g o and r z n in PyTorch, which keeps kernels turned. PyTorch's
LSTM has two biases where Keras has their sum; its GRU is Keras' with reset_after. The one without has no layer in PyTorch: it is
written out from the equations of Keras' GRUCell, and autograd goes through them.
"""

import json
import sys

import torch

BATCH, STEPS, WIDTH, UNITS = 3, 5, 4, 6

torch.set_default_dtype(torch.float64)


def drawn(*shape):
    """Of three decimals, so that Float32 readers start from the same numbers; they ask for gradients."""
    return torch.round(torch.randn(*shape), decimals=3).requires_grad_()


def swapped(matrix):
    """From Keras' z r h to PyTorch's r z n along the last axis, or back."""
    z, r, h = matrix.split(UNITS, -1)
    return torch.cat([r, z, h], -1)


def lstm(x, kernel, recurrent_kernel, bias):
    layer = torch.nn.LSTM(WIDTH, UNITS, batch_first=True)
    fill(layer, kernel.T, recurrent_kernel.T, bias, torch.zeros_like(bias))
    outputs = layer(x)[0]
    return outputs, lambda: [layer.weight_ih_l0.grad.T, layer.weight_hh_l0.grad.T, layer.bias_ih_l0.grad]


def gru_after(x, kernel, recurrent_kernel, bias):
    layer = torch.nn.GRU(WIDTH, UNITS, batch_first=True)
    fill(layer, swapped(kernel).T, swapped(recurrent_kernel).T, *swapped(bias))
    outputs = layer(x)[0]

    def gradients():
        biases = torch.stack([layer.bias_ih_l0.grad, layer.bias_hh_l0.grad])
        return [swapped(grad) for grad in (layer.weight_ih_l0.grad.T, layer.weight_hh_l0.grad.T, biases)]

    return outputs, gradients


def fill(layer, kernel, recurrent_kernel, bias, second_bias):
    with torch.no_grad():
        layer.weight_ih_l0.copy_(kernel)
        layer.weight_hh_l0.copy_(recurrent_kernel)
        layer.bias_ih_l0.copy_(bias)
        layer.bias_hh_l0.copy_(second_bias)


def gru_before(x, kernel, recurrent_kernel, bias):
    h = torch.zeros(BATCH, UNITS)
    outputs = []
    for t in range(STEPS):
        z, r, c = (x[:, t] @ kernel + bias).split(UNITS, -1)
        of_z, of_r, of_c = recurrent_kernel.split(UNITS, -1)
        z = torch.sigmoid(z + h @ of_z)
        r = torch.sigmoid(r + h @ of_r)
        c = torch.tanh(c + (r * h) @ of_c)
        h = z * h + (1 - z) * c
        outputs.append(h)
    return torch.stack(outputs, 1), lambda: [kernel.grad, recurrent_kernel.grad, bias.grad]


def case(class_name, settings, gates, biases, run):
    torch.manual_seed(1)
    x = drawn(BATCH, STEPS, WIDTH)
    weights = {
        "kernel": drawn(WIDTH, gates * UNITS),
        "recurrent_kernel": drawn(UNITS, gates * UNITS),
        "bias": drawn(*biases, gates * UNITS),
    }
    of_outputs = drawn(BATCH, STEPS, UNITS).detach()
    outputs, gradients = run(x, **weights)
    (outputs * of_outputs).sum().backward()
    return {
        "layer": class_name,
        "config": {"units": UNITS, "recurrent_activation": "sigmoid", "return_sequences": True, **settings},
        "inputShape": [STEPS, WIDTH],
        "batch": BATCH,
        "weights": {name: {"shape": list(w.shape), "values": flat(w)} for name, w in weights.items()},
        "input": flat(x),
        "ofOutputs": flat(of_outputs),
        "outputs": flat(outputs),
        "gradients": {"input": flat(x.grad), **dict(zip(weights, map(flat, gradients())))},
    }


def flat(tensor):
    return [float(f"{x:.9g}") for x in tensor.detach().ravel().tolist()]


golden = {
    "LSTM": case("LSTM", {}, 4, [], lstm),
    "GRU, reset after the product": case("GRU", {"reset_after": True}, 3, [2], gru_after),
    "GRU, reset before it": case("GRU", {"reset_after": False}, 3, [], gru_before),
}
json.dump(golden, sys.stdout, indent=None)
