"""A picture is the figure at its size, and pyplot is left as it was."""

import io
import warnings

import matplotlib as mpl
import pytest
from figures import Fragment, draw, html
from matplotlib.figure import Figure
from PIL import Image

import labelnoise_utils as ln
from labelnoise_utils.page.pictures import take


@pytest.fixture
def plt():
    """Pyplot, and the figures that are open left as they are."""
    before = mpl.get_backend()
    mpl.use("agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")
    mpl.use(before)


class TestPicture:
    def test_shows_the_figure_at_its_size_and_opaque(self):
        figure = Figure(figsize=(2, 1), dpi=50)
        figure.patch.set_alpha(0)
        figure.add_axes((0.5, 0, 0.5, 1)).set(facecolor=ln.plots.NOISE, xticks=[], yticks=[])
        picture = take(lambda: figure, {}, "half of it orange")
        image = Image.open(io.BytesIO(picture.png))
        assert image.size == (100, 50) == (picture.width, picture.height)
        assert image.convert("RGBA").getpixel((10, 25)) == (255, 255, 255, 255)
        assert image.convert("RGB").getpixel((75, 25)) == tuple(bytes.fromhex(ln.plots.NOISE[1:]))

    def test_has_the_size_of_the_figure_whatever_savefig_does(self):
        with mpl.rc_context({"savefig.bbox": "tight", "savefig.dpi": 300}):
            picture = take(draw, {}, "")
        assert (picture.width, picture.height) == (300, 200)

    def test_follows_the_style_in_force(self):
        with mpl.rc_context({"figure.figsize": (2, 1), "figure.dpi": 70}):
            picture = take(lambda: Figure(), {}, "")
        assert (picture.width, picture.height) == (140, 70)

    @pytest.mark.parametrize("returned", [True, False])
    def test_closes_what_pyplot_opened_and_nothing_else(self, plt, returned):
        own, current = plt.figure(), plt.figure()

        def with_pyplot(height):
            figure, ax = plt.subplots()
            ax.plot([0, height])
            return figure if returned else None

        images = Fragment(html(with_pyplot, height=[1, 2])).of("img")
        assert images[0]["src"] != images[1]["src"]
        assert plt.get_fignums() == [own.number, current.number]
        assert plt.gcf() is current

    def test_closes_figures_also_after_an_error(self, plt):
        def fails(height):
            plt.figure()
            raise RuntimeError("no")

        with pytest.raises(RuntimeError, match="no"):
            ln.explore(fails, height=[1, 2])
        assert plt.get_fignums() == []

    def test_warns_of_nothing(self, plt):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ln.explore(lambda height: plt.subplots()[0], height=range(30))
