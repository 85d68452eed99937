"""Small models, one for each way of wiring that the tests ask about."""

from __future__ import annotations

import functools
import itertools

import torch
from torch import nn
from torch.nn import functional as F

import cntgraph as cnt


class Dense(nn.Module):
    def __init__(self, sizes=(12, 8, 6, 3)):
        super().__init__()
        pairs = itertools.pairwise(sizes)
        self.fc = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)

    def forward(self, image):
        x = image.flatten(1)
        for layer in self.fc[:-1]:
            x = torch.relu(layer(x))
        return self.fc[-1](x)


class Residual(nn.Module):
    """Padding, stride, groups, batch norms before and after, a skip, a concatenation, pooling."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.bn3 = nn.BatchNorm2d(16)
        self.up = nn.ConvTranspose2d(16, 4, 3, stride=2, padding=1, output_padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(4 * 8 * 8 + 8, 5)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(x)) + x)
        z = self.pool(self.up(torch.relu(self.bn3(torch.cat([y, x], 1)))))
        return self.fc(torch.cat([z.flatten(1), y.mean((2, 3))], 1))


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(16, 20), nn.Linear(20, 12), nn.Linear(12, 10)

    def forward(self, x):
        x = F.avg_pool2d(torch.tanh(self.conv1(x)), 2)
        x = F.max_pool2d(torch.tanh(self.conv2(x)), 2)
        x = torch.tanh(self.fc1(x.flatten(1)))
        return F.log_softmax(self.fc3(torch.tanh(self.fc2(x))), 1)


class PaddingModes(nn.Module):
    def __init__(self):
        super().__init__()
        self.circular = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")
        self.reflect = nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect")
        self.replicate = nn.Conv2d(2, 2, 3, padding=1, padding_mode="replicate")
        self.same = nn.Conv2d(2, 3, 4, padding="same", dilation=1)

    def forward(self, x):
        return self.same(F.pad(self.replicate(self.reflect(self.circular(x))), (1, 0, 2, 1)))


class Sequence1d(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3, dilation=2, padding=2)
        self.act = nn.PReLU(4)
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.drop(self.norm(self.act(self.conv(x)))).transpose(1, 2))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(6, 4)
        self.again = nn.Linear(6, 6)
        self.twin = nn.Linear(6, 6)
        self.twin.weight = self.again.weight

    def forward(self, x):
        hidden = torch.relu(self.encoder(self.again(self.twin(self.again(x)))))
        return F.linear(hidden, self.encoder.weight.t())


class Shuffled(nn.Module):
    """Everything that only moves values, some of it in place."""

    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        y = self.inner(x).view(len(x), 2, 4).permute(0, 2, 1)
        y = F.relu(y).flip(1).roll(1, 2).contiguous().view(len(x), -1).clone()
        y[:, 0] = 0
        y[:, 1:3] += 1
        return {"head": self.head(y), "parts": (y.unbind(1)[3], y.chunk(2, 1)[1].repeat(1, 2))}


class Attention(nn.Module):
    """Products, a softmax, a group norm and a gate: joins without weights."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.norm = nn.GroupNorm(2, 4)
        self.gate = nn.Linear(8, 8)

    def forward(self, tokens, scale):
        y = self.norm(self.encoder(tokens))
        return y * torch.sigmoid(self.gate(scale)).unsqueeze(1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Distances(nn.Module):
    """An operator that nobody has written down, with a parameter."""

    def __init__(self):
        super().__init__()
        self.prototypes, self.head = nn.Parameter(torch.randn(5, 4)), nn.Linear(5, 2)

    def forward(self, x):
        return self.head(torch.cdist(x, self.prototypes))


class Reparametrised(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight_norm = nn.utils.parametrizations.weight_norm(nn.Linear(5, 4))
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3))
        self.scale = nn.Parameter(torch.randn(3))
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return (self.spectral(self.weight_norm(x)) - 1) * self.scale / 3


class Twice(nn.Module):
    """Parallel links: a layer read twice over, and an identity beside trained links."""

    def __init__(self):
        super().__init__()
        self.one, self.head = nn.Linear(12, 5), nn.Linear(5, 5)

    def forward(self, x):
        y = torch.relu(self.one(torch.cat([x, x], 1)))
        return self.head(y) + y


ZOO = {
    "dense": (Dense, (1, 3, 4)),
    "residual": (Residual, (1, 3, 16, 16)),
    "lenet": (LeNet, (1, 1, 12, 12)),
    "padding modes": (PaddingModes, (1, 1, 7, 6)),
    "sequence": (Sequence1d, (1, 3, 9)),
    "tied": (Tied, (1, 6)),
    "shuffled": (Shuffled, (1, 8)),
    "attention": (Attention, (torch.zeros(1, 4, 8), torch.zeros(1, 8))),
    "recurrent": (Recurrent, (1, 3, 4)),
    "distances": (Distances, (1, 4)),
    "reparametrised": (Reparametrised, (1, 5)),
}


@functools.cache
def traced_network(name, batch_norm="raw"):
    """The traced network of a model of the zoo: never changed, so traced once for all tests."""
    return cnt.trace(*build(name), batch_norm=batch_norm)


def build(name):
    """A model of the zoo with its example input, its running statistics made uneven."""
    torch.manual_seed(len(name))
    kind, example = ZOO[name]
    model = kind()
    for buffer in model.buffers():
        if buffer.is_floating_point() and buffer.ndim == 1 and buffer.numel() > 4:
            buffer.uniform_(0.5, 2)
    return model, example
