"""Deliberate faults in the regularizer, one at a time: do its tests catch them?

    python tests/regularizer/inject_faults.py            # tries all, prints those that no test caught
    python tests/regularizer/inject_faults.py cross      # those whose text or file has the word

Not run by default: it takes some minutes. Each fault is a change of one place in a copy of the package; the tests run until the
first failure, those of the fast files only. A fault whose place is not there any more is an error, so the list stays true.
The exit status is the number of faults that were not caught.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOM = "labelnoise_utils/regularizer"
FAST = (
    "ghost faults exact gradients hypothesis per_example cancelling inputs unchanged_modules penalty threads layer_classes"
    " estimate snapshots"
).split()

# The file, what stands there, what stands there instead, and the tests that should notice first.
FAULTS = [
    ("rules", "return squares(a) * squares(g)", "return squares(a) + squares(g)", "ghost"),
    ("rules", "if positions * (c + d) >= c * d:", "if positions * (c + d) < 0:", "cancelling"),
    ("rules", "return squares(a.mT @ g)\n", "return squares(a.mT @ g.flip(1))\n", "ghost"),
    ("rules", "of_a, of_g = a @ a.mT, g @ g.mT", "of_a, of_g = a @ a.mT, g.abs() @ g.abs().mT", "ghost"),
    ("rules", "small = (norms < bound / 2**10)", "small = (norms < bound / 2**60)", "cancelling"),
    ("rules", "rows = (same @ g) / same.sum(dim=2, keepdim=True).sqrt()", "rows = same @ g", "ghost"),
    (
        "rules",
        "if layer.padding_idx is not None:\n        rows =",
        "if layer.padding_idx is not None and False:\n        rows =",
        "exact",
    ),
    ("rules", '"bias": squares(g.sum(dim=1))}', '"bias": squares(g)}', "ghost"),
    ("rules", "bias = squares(g.flatten(3).sum(dim=(1, 3)))", "bias = squares(g.flatten(3).sum(dim=3))", "exact"),
    ("rules", "c, d = layer.in_channels // layer.groups", "c, d = layer.in_channels", "exact"),
    ("rules", "for side in reversed(padding) for _ in range(2)", "for side in padding for _ in range(2)", "exact"),
    ("rules", "(total // 2, total - total // 2)", "(total - total // 2, total // 2)", "exact"),
    ("rules", "[..., ::dilation]", "[..., :size]", "exact"),
    ("rules", "F.layer_norm(a, layer.normalized_shape, eps=layer.eps)", "F.layer_norm(a, layer.normalized_shape)", "exact"),
    ("rules", "wide(layer.running_mean), wide(layer.running_var), eps", "wide(layer.running_mean), None, eps", "exact"),
    ("rules", "F.group_norm(a.flatten(0, 1), layer.num_groups", "F.group_norm(a.flatten(0, 1), 1", "exact"),
    ("rules", "return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values", "return values", "ghost"),
    ("ghost", "if k in inputs:", "if False:", "ghost"),
    ("ghost", "elif base is not unwrapped(base):", "elif False:", "exact"),
    ("ghost", "if a._version != versions[k]:", "if False:", "ghost"),
    ("ghost", 'reasons.setdefault(name, "is used outside', 'reasons.get(name, "is used outside', "ghost"),
    ("ghost", "return z - roots_i[k]  #", "return z + roots_i[k]  #", "ghost"),
    ("ghost", "handle.remove()", "pass", "ghost"),
    ("ghost", "wide(inputs[k] if differentiable else inputs[k].detach())", "wide(inputs[k].detach())", "ghost"),
    ("ghost", "p.expand_as(p) if differentiable else p.detach()", "p.detach()", "ghost"),
    ("ghost", "norms[name] + share if name in norms else share", "share", "ghost"),
    ("ghost", "    if call.hooks is not None:", "    if False:", "faults"),
    ("ghost", "if not done and not is_close(call.h, rows[0], call.eps):", "if False:", "faults"),
    (
        "ghost",
        'attribute not in covered_attributes(module) or "forward" in vars(module)',
        "attribute not in covered_attributes(module)",
        "ghost",
    ),
    ("ghost", "            if name in places:\n", "            if False:\n", "ghost"),
    ("ghost", "with PaddingHeld() if copies_i else contextlib.nullcontext():", "with contextlib.nullcontext():", "exact"),
    ("ghost", "        done += size", "        done += size + 1", "ghost"),
    (
        "gradients",
        "with torch.enable_grad(), attributes_kept(h.model):\n            row",
        "with torch.enable_grad():\n            row",
        "unchanged_modules",
    ),
    ("gradients", "norms[name] = norms[name] + squares", "norms[name] = squares", "exact"),
    ("gradients", "sums = sums + torch.stack", "sums = torch.stack", "ghost"),
    ("exact", "if not abs(one - other) <= 4", "if not abs(one - other) <= 4e9", "faults"),
    ("exact", "        if changed():  # perhaps", "        if False:  # perhaps", "faults"),
    ("exact", "            except StateError:\n                raise\n", "", "faults"),
    ("exact", "            check_again(h, call)\n            return [summary", "            return [summary", "faults"),
    ("exact", "(name in kinds and kinds[name] not in seen)", "False", "layer_classes"),
    ("exact", 'name.split(".")[:-1][:depth]', 'name.split(".")[:depth]', "exact"),
    ("hypothesis", "changed = watched.put_back(h.model)", "changed = None", "faults"),
    ("hypothesis", "if tensor._version != version or not same(tensor, examples.tensors[key][:1]):", "if False:", "hypothesis"),
    (
        "hypothesis",
        "        if module.training and isinstance(module, batch_norm | CHANCE):",
        "        if False:",
        "hypothesis",
    ),
    ("hypothesis", "if isinstance(module, batch_norm) and module.running_mean is None:", "if False:", "hypothesis"),
    ("hypothesis", "if module.scale_grad_by_freq:", "if False:", "hypothesis"),
    ("hypothesis", "put(state)", "pass", "faults"),
    ("hypothesis", "return 2 * (torch.log_softmax", "return (torch.log_softmax", "exact"),
    ("hypothesis", "for i in sorted({0, len(examples) - 1}):", "for i in []:", "estimate"),
    ("hypothesis", "for i in sorted({0, len(examples) - 1}):", "for i in [0]:", "estimate"),
    ("state", "if can_draw and _is_random(func, args, kwargs):", "if False:", "faults"),
    ("state", "return (any(chances) if chances else True) and", "return", "faults"),
    ("state", "self._keep(args[k]", "self._keep(None and args[k]", "faults"),
    ("state", "alike = not self._before and all(", "alike = all(", "faults"),
    (
        "state",
        "alike = not self._before and all(map(torch.equal, self._samples.values(), self._sampled().values()))",
        "alike = True",
        "faults",
    ),
    ("state", "if alike and not elsewhere:", "if alike:", "faults"),
    (
        "state",
        "                (now.extend if isinstance",
        "                continue\n                (now.extend if isinstance",
        "unchanged_modules",
    ),
    ("state", "        yield from _contents(held)", "        pass", "faults"),
    ("state", 'return f"parameter {name!r} has a hook (register_hook)"', "return None", "faults"),
    ("state", "if function in _CALLS_BACK and self._by is None:", "if False:", "faults"),
    (
        "skeleton",
        "type(value)([(key, copied(held)) for key, held in value.items()]) if value else type(value)()",
        "value",
        "unchanged_modules",
    ),
    ("skeleton", "return types.MethodType(value.__func__, copied(value.__self__))", "return value", "ghost"),
    ("parameters", "if p.requires_grad}", "}", "exact"),
    ("padding", "torch.where(padding[..., None], rows.detach(), rows)", "rows", "exact"),
    ("modes", "self._chosen.enter_context(sdpa_kernel(SDPBackend.MATH))", "pass", "unchanged_modules"),
    ("modes", "torch.set_autocast_cache_enabled(False)", "pass", "hypothesis"),
    ("signs", ".mul_(2).sub_(1)", ".mul_(2)", "estimate"),
    ("estimate", "return functools.reduce(torch.add, sums) / n", "return functools.reduce(torch.add, sums)", "estimate"),
    ("occasion", "return self.times & (self.times - 1) == 0", "return self.times == 2", "estimate"),
]


def caught(fault: tuple[str, str, str, str], folder: Path) -> bool:
    """Whether a test failed, which is not to say that tests could not run; in a process that finds torch imported already."""
    name, old, new, first = fault
    file, original = folder / ROOM / f"{name}.py", ROOT / ROOM / f"{name}.py"
    text = original.read_text("utf-8")
    if text.count(old) < 1:
        sys.exit(f"{name}.py no longer holds {old!r}")
    file.write_text(text.replace(old, new, 1), "utf-8")
    child = os.fork()
    if not child:
        sys.path.insert(0, str(folder))
        sys.dont_write_bytecode = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        import labelnoise_utils

        assert Path(labelnoise_utils.__file__).is_relative_to(folder)
        files = [str(ROOT / "tests" / "regularizer" / f"test_{one}.py") for one in dict.fromkeys([first, *FAST])]
        os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}", *files]))
    _, status = os.waitpid(child, 0)
    shutil.copy(original, file)
    code = os.waitstatus_to_exitcode(status)
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        sys.exit(f"{name}.py with {new!r}: pytest ended with {code}, neither passed nor failed")
    return code == pytest.ExitCode.TESTS_FAILED


def main(word: str = "") -> int:
    """Try the faults, and print what became of each."""
    chosen = [fault for fault in FAULTS if any(word in part for part in fault[:3])]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(
            ROOT / "labelnoise_utils", Path(folder) / "labelnoise_utils", ignore=shutil.ignore_patterns("__pycache__")
        )
        for fault in chosen:
            found = caught(fault, Path(folder))
            missed += not found
            print("caught" if found else "MISSED", f"{fault[0]}.py: {fault[1].strip()!r} -> {fault[2].strip()!r}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} faults caught")
    return missed


if __name__ == "__main__":
    import hypothesis
    import pytest
    import torch

    assert hypothesis and torch  # imported once for all
    torch.set_num_threads(1)
    sys.exit(main(*sys.argv[1:2]))
