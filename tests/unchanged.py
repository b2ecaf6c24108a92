"""What a call can leave behind in a module, and that it left nothing."""

import copy

import torch


def snapshot(model):
    """All that a call can leave behind in a module: values, objects, modes, hooks, gradients."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    kept = {name: (tensor, id(tensor), tensor.data_ptr()) for name, tensor in tensors.items()}
    flags = {name: (tensor.requires_grad, copy.deepcopy(tensor.grad)) for name, tensor in tensors.items()}
    values = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    attributes = [(name, module.training, dict(vars(module))) for name, module in model.named_modules()]
    # Dictionaries and the like by what they hold, and by the identity of it.
    shallow = [
        (name, training, {key: _frozen(value) for key, value in attributes.items()})
        for name, training, attributes in attributes
    ]
    return kept, flags, values, shallow


def _frozen(value):
    if isinstance(value, dict):
        return [(key, id(held)) for key, held in value.items()]
    return id(value)


def assert_as_it_was(model, before):
    kept, flags, values, shallow = snapshot(model)
    assert {name: rest for name, (_, *rest) in kept.items()} == {name: rest for name, (_, *rest) in before[0].items()}
    assert shallow == before[3]
    for name in values:
        assert torch.equal(values[name], before[2][name])
        for one, other in zip(flags[name], before[1][name], strict=True):
            assert one is other or torch.equal(one, other)
