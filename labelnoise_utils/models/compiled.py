"""What the compiled SGD steps share: compiler settings, and activations that vectorise."""

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

SETTINGS = {"cache": True, "nogil": True, "error_model": "numpy"}
# Sums may be reordered and multiply-adds fused, so loops vectorise; NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "nsz", "arcp"}

jit = numba.njit(fastmath=FAST, **SETTINGS)
# For a step inside its loop: no call, and what does not change from step to step is worked out once.
inlined = numba.njit(fastmath=FAST, forceinline=True, **SETTINGS)
exact = numba.njit(fastmath={"contract"}, **SETTINGS)


@intrinsic
def prefetch(typing_context, address):
    """Ask for the cache line at an address, ``array.ctypes.data`` plus octets, which will be read soon; returns at once."""

    def code(context, builder, signature, arguments):
        pointer, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        of_llvm = ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
        ask = builder.module.declare_intrinsic("llvm.prefetch", fnty=of_llvm)
        # To read, keep it in the second cache and beyond, data.
        builder.call(ask, [builder.inttoptr(arguments[0], pointer), flag(0), flag(2), flag(1)])
        return context.get_dummy_value()

    return numba.void(numba.intp), code


LOG2_E = 1.4426950408889634
HALF_LN2_HIGH, HALF_LN2_LOW = 0.346573590184561908245, 9.54107464635293851350e-11
# Added to a number below 2^51 it leaves no room for a fraction, and its integer part in the last bits.
ROUNDING = 1.5 * 2.0**52


@exact
def exp_parts(t: float) -> tuple[float, float, float]:
    """The three parts of exp(-2t) = scale (q + u) / (q - u), for 0 <= t <= 20.

    -2t = k ln 2 + 2z with |z| <= ln(2) / 4, scale = 2^k, exp(2z) = (1 + tanh z) / (1 - tanh z), and tanh z = u / q is Lambert's
    continued fraction ``z / (1 + z^2 / (3 + z^2 / (5 + ...)))`` up to the 11, which is below 1e-18 off, relative to tanh z.
    No branch, no table, and one division for all that is made of the parts: a loop over it vectorises.

    Returns:
        scale, u and q.
    """
    shifted = t * (-2 * LOG2_E) + ROUNDING
    k = shifted - ROUNDING
    z = -t - k * HALF_LN2_HIGH - k * HALF_LN2_LOW
    square = z * z
    u = z * ((21 * square + 1260) * square + 10395)
    q = ((square + 210) * square + 4725) * square + 10395
    scale = np.int64((np.float64(shifted).view(np.int64) << 52) + (1023 << 52)).view(np.float64)
    return scale, u, q


@exact
def tanh(x: float) -> float:
    """Hyperbolic tangent, (1 - e) / (1 + e) with e = exp(-2|x|), within a few units in the last place; NaN stays NaN."""
    t = abs(x)
    t = 20.0 if t > 20.0 else t
    scale, u, q = exp_parts(t)
    return np.copysign(((1 - scale) * q - (1 + scale) * u) / ((1 + scale) * q - (1 - scale) * u), x)


@exact
def logistic(x: float) -> float:
    """Logistic function, within a few units in the last place for |x| <= 40, 4e-18 off beyond; NaN stays NaN."""
    t = abs(x)
    t = 40.0 if t > 40.0 else t
    scale, u, q = exp_parts(0.5 * t)
    small, large = scale * (q + u), q - u
    return (small if x < 0 else large) / (small + large)
