"""Runs under every law of noise, with momentum and with a penalty."""

import labelnoise_utils as ln

# Arguments of `train`.
SETTINGS = {
    "parameters": dict(noise=ln.ParameterNoise(0.03)),
    "parameters, momentum": dict(noise=ln.ParameterNoise(0.03, "uniform"), momentum=0.6),
    "Langevin": dict(noise=ln.LangevinNoise(0.003, "rademacher")),
    "Langevin, momentum": dict(noise=ln.LangevinNoise(0.003), momentum=0.6),
    "inputs": dict(noise=ln.InputNoise(0.1)),
    "inputs, momentum": dict(noise=ln.InputNoise(0.1, "uniform"), momentum=0.6),
    "two copies": dict(noise=ln.TwoCopies(0.4)),
    "reshuffled": dict(noise=ln.TwoCopies(0.4, reshuffled=True)),
    "frozen": dict(noise=ln.FrozenNoise(0.4, "gaussian")),
    "momentum": dict(noise=ln.LabelNoise(0.4), momentum=0.9),
    "penalty": dict(noise=None, penalty=0.01),
    "all": dict(noise=ln.ParameterNoise(0.03), momentum=0.5, penalty=0.003),
}


def slowed(lr, settings):
    """A rate at which a run with momentum moves as far as one without."""
    return lr * (1 - settings.get("momentum", 0.0))
