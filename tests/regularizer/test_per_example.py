"""What is refused because h(x_i) is no function of x_i and theta: chance, running statistics, buffers."""

import pytest
import torch
from architectures import Function, numbers, through
from refusals import WAYS, refused, regularize
from torch import nn

import labelnoise_utils as ln
from labelnoise_utils.regularizer.hypothesis import check_per_example


class Dropped(nn.Linear):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.5, training=self.training)


class Counting(nn.Module):
    """Counts its calls in a buffer, in place or by another tensor."""

    def __init__(self, in_place):
        super().__init__()
        self.layer, self.in_place = nn.Linear(3, 2), in_place
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        if self.in_place:
            self.calls += 1
        else:
            self.calls = self.calls + 1
        return self.layer(x) * self.calls


class TestRefused:
    """Where h(x_i) is not a function of x_i and theta, there is no gradient of one example."""

    @pytest.mark.parametrize(
        "layer",
        [
            nn.BatchNorm1d(4),
            nn.SyncBatchNorm(4),
            nn.Dropout(0.5),
            nn.AlphaDropout(0.5),
            nn.FeatureAlphaDropout(0.5),
            nn.RReLU(),
        ],
        ids=lambda layer: type(layer).__name__,
    )
    def test_layer_in_training_mode(self, layer):
        model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(layer), nn.Linear(4, 1)).double()
        message = rf"{type(layer).__name__} '1.0' is in training mode.*call model.eval\(\) first"
        refused(model, numbers(3), ValueError, message)

    def test_the_model_itself_is_such_a_layer(self):
        refused(nn.BatchNorm1d(3), torch.zeros(5, 3), ValueError, "BatchNorm1d 'model' is in training mode")

    def test_batch_norm_without_running_statistics(self):
        """It reads the batch in eval mode too."""
        model = nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3, track_running_stats=False)).double()
        refused(model.eval(), numbers(2, 4), ValueError, "BatchNorm1d '1' keeps no running statistics and reads the batch")
        refused(model.train(), numbers(2, 4), ValueError, "BatchNorm1d '1' is in training mode")

    @pytest.mark.parametrize(
        "build, shape",
        [
            (lambda: Dropped(3, 2), (3,)),
            (
                lambda: Function(
                    lambda self, x: self.cell(x)[0][:, -1],
                    cell=nn.LSTM(2, 3, num_layers=2, dropout=0.5, batch_first=True),
                ),
                (4, 2),
            ),
            (
                lambda: Function(
                    lambda self, x: self.attend(x, x, x)[0].sum(dim=(1, 2)),
                    attend=nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True),
                ),
                (3, 4),
            ),
        ],
        ids=["functional dropout", "dropout in an lstm", "dropout in attention"],
    )
    def test_chance_that_no_layer_tells(self, build, shape):
        """Falling back on a loop would give another number every time."""
        model, x = build().double(), numbers(*shape)
        with pytest.raises(ValueError, match=r"draws random numbers.*call model.eval\(\) first"):
            check_per_example(model, x)
        before = torch.get_rng_state()
        for way in WAYS:
            with pytest.raises(ValueError, match="draws random numbers"):
                regularize(model, x, way)
        assert torch.equal(torch.get_rng_state(), before)
        model.eval()
        values = [ln.implicit_regularizer(model, x) for _ in range(2)]
        assert torch.equal(*values)

    @pytest.mark.parametrize("in_place", [True, False])
    def test_model_that_changes_a_buffer(self, in_place):
        refused(Counting(in_place), torch.zeros(5, 3), ValueError, "model changes its buffer 'calls' when it is called")

    @pytest.mark.parametrize("in_place", [True, False])
    def test_model_that_changes_a_buffer_and_then_fails(self, in_place):
        model = nn.Sequential(Counting(in_place), nn.Linear(3, 1))
        refused(model, torch.zeros(5, 3), ValueError, r"x of shape \(5, 3\) and torch.float32 is not what model takes")
        assert model[0].calls == 0

    def test_spectral_norm_in_training_mode(self):
        """It goes one power iteration further whenever it is called."""
        model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4)), nn.Linear(4, 1)).double()
        refused(model, numbers(3), ValueError, r"changes its buffer '0.parametrizations.weight.0._[uv]'.*call model.eval\(\)")
        assert ln.implicit_regularizer(model.eval(), numbers(3)) > 0

    def test_instance_norm_in_training_mode(self):
        layer = nn.InstanceNorm1d(3, affine=True, track_running_stats=True)
        model = nn.Sequential(nn.Conv1d(2, 3, 2), layer).double()
        refused(model, numbers(2, 4), ValueError, r"changes its buffer '1.running_mean'.*call model.eval\(\)")

    @pytest.mark.parametrize("layer", [nn.Embedding, nn.EmbeddingBag])
    @pytest.mark.parametrize(
        "option, message",
        [
            (dict(max_norm=0.1), "has max_norm, and rescales its own weight"),
            (dict(scale_grad_by_freq=True), "has scale_grad_by_freq"),
        ],
    )
    def test_embedding_options(self, layer, option, message):
        model = nn.Sequential(layer(6, 3, **option), nn.Flatten())
        refused(model, torch.arange(10).reshape(5, 2) % 6, ValueError, rf"{layer.__name__} '0' {message}")

    def test_errors_of_the_model_that_are_no_matter_of_x(self):
        """Are not dressed up as one."""

        def forward(h):
            raise KeyError("a mistake in forward")

        refused(through(forward), torch.zeros(5, 3), KeyError, "a mistake in forward")
