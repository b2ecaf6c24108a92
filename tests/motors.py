"""The motor in NumPy: its fits, its measurements, and the drift in full, projected and read as an angle."""

import numpy as np
import torch
from scipy.linalg import solve_continuous_lyapunov

U = np.array([[1, 0], [0.6, 0.5]])
MIRROR = np.diag([1.0, -1.0])
MEASUREMENTS = torch.tensor([[[1, 0], [0, 0]], [[0, 1], [0, 0]], [[0, 0], [0, 1]]], dtype=torch.float64)
LABELS = torch.tensor([1.0, 0.6, 0.61], dtype=torch.float64)
PRESETS = {
    "Equal noise": (0.5, 0.5, 0.5),
    "Most on X₁₁": (0.9, 0.2, 0.2),
    "Most on X₁₂": (0.2, 0.9, 0.2),
    "Most on X₂₂": (0.2, 0.2, 0.9),
}


def rotation(angle):
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def angle_of(u, v):
    """The angle of a step by lr^2, for a drift v by lr^2."""
    return np.ravel(v) @ (u @ rotation(np.pi / 2)).ravel() / (u**2).sum()


def law(u, levels):
    """That angle for the drift under these levels, and the covariance of the misfits by lr."""
    measured = (MEASUREMENTS + MEASUREMENTS.mT).numpy()
    gradients = (measured @ u).reshape(3, 4)
    hessians = np.stack([np.kron(one, np.eye(2)) for one in measured])
    gram = gradients @ gradients.T
    cloud = solve_continuous_lyapunov(gram, 2 * np.diag(np.square(levels)))
    tangent = np.eye(4) - gradients.T @ np.linalg.solve(gram, gradients)
    v = -2 / 3 * tangent @ np.einsum("ai,ipq,aq->p", cloud @ gram, hessians, gradients)
    return angle_of(u, v), gram @ cloud @ gram


def flat(u):
    return np.ravel(u).tolist()
