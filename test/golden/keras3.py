"""Models as Keras 3 writes them, and what it makes of three examples: keras3.json, made with Keras 3.15.1 on jax.

KERAS_BACKEND=jax python3 test/golden/keras3.py > test/golden/keras3.json
"""

import json
import sys

import keras
import numpy as np
from keras import layers as L

golden = {}


def add(name, model, inputs):
    random = np.random.default_rng(1)
    values = []
    for weight in model.weights:
        is_variance = weight.path.endswith("variance")
        drawn = random.uniform(0.5, 1.5, weight.shape) if is_variance else random.normal(0, 0.5, weight.shape)
        values.append(np.round(drawn, 3).astype("float32"))
    model.set_weights(values)
    outputs = np.array(model(inputs, training=False))
    golden[name] = {
        "keras": keras.__version__,
        "topology": json.loads(model.to_json()),
        "weights": [{"name": w.path, "shape": list(w.shape), "dtype": "float32"} for w in model.weights],
        "params": [round(float(x), 3) for value in values for x in value.ravel()],
        "inputs": [round(float(x), 3) for x in np.ravel(inputs)],
        "outputs": [float(f"{x:.7g}") for x in outputs.ravel()],
    }


random = np.random.default_rng(2)


def words(*shape):
    return np.floor(random.uniform(0, 6, shape)).astype("float32")


def numbers(*shape):
    return np.round(random.normal(0, 1, shape), 3).astype("float32")


x = keras.Input((4,), name="words")
t = L.Embedding(6, 4)(x)
n = L.LayerNormalization()(t)
t = L.Add()([t, L.MultiHeadAttention(2, 2)(n, n)])
n = L.LayerNormalization()(t)
n = L.Dense(4, activation="gelu")(n)
n = L.Dropout(0.1, name="dropout")(n)
t = t + L.Dense(4, activation=keras.activations.silu)(n)
t = L.GlobalAveragePooling1D()(t)
add("functional transformer", keras.Model(x, L.Dense(3, activation="softmax")(t)), words(3, 4))

recurrent = keras.Sequential(
    [
        keras.Input((6,)),
        L.Embedding(6, 3),
        L.Bidirectional(L.LSTM(2, return_sequences=True)),
        L.GRU(2, reset_after=False),
        L.Dense(3, activation="softmax"),
    ]
)
add("recurrent", recurrent, words(3, 6))

convolutional = keras.Sequential(
    [
        keras.Input((6, 6, 1)),
        L.Conv2D(2, 3, activation="relu"),
        L.BatchNormalization(),
        L.MaxPooling2D(),
        L.Flatten(),
        L.Dropout(0.25),
        L.Dense(3, activation="softmax"),
    ]
)
add("convolutional", convolutional, numbers(3, 6, 6, 1))

x = keras.Input((4, 6))
t = L.Concatenate()([L.Dense(3, activation="elu")(x), x])
t = L.Permute((2, 1))(t)
a = L.MultiHeadAttention(1, 2, use_bias=False)(t, value=t, key=t)
t = L.Average()([t, a]) * L.Multiply()([t, a])
merges = keras.Model([x], [L.Activation("softmax")(L.Dense(3)(L.Flatten()(t)))])
add("merges", merges, numbers(3, 4, 6))

x = keras.Input((7, 7, 2))
t = L.Conv2D(4, 3, padding="same", use_bias=False)(x)
t = L.BatchNormalization()(t)
b = L.ReLU(6.0)(t)
t = L.ZeroPadding2D(((0, 1), (0, 1)))(b)
t = L.DepthwiseConv2D(3, strides=2, use_bias=False, name="depthwise")(t)
t = L.BatchNormalization()(t)
t = L.ReLU()(t)
t = L.Conv2D(4, 1)(t)
t = L.Add()([t, L.SeparableConv2D(4, 2, strides=2)(b)])
t = L.GlobalAveragePooling2D()(t)
mobile = keras.Model(x, L.Dense(3, activation="softmax", name="head")(L.Dropout(0.2)(t)))
for layer in mobile.layers[:-1]:
    layer.trainable = False
add("mobile, frozen but for its head", mobile, numbers(3, 7, 7, 2))

json.dump(golden, sys.stdout, indent=None)
