"""The face for a live notebook: one picture, drawn anew at each move."""

import importlib.util
import sys
import time

from figures import Fragment, draw, html
from jupyter_client.manager import start_new_kernel

import labelnoise_utils as ln
from labelnoise_utils.page import live

VIEW = "application/vnd.jupyter.widget-view+json"


class TestLive:
    def test_draws_one_picture_and_says_how_to_get_more(self, somebody_there):
        calls = []

        def counted(height):
            calls.append(height)
            return draw(height)

        exploration = ln.explore(counted, height=[1, 2, 3], start={"height": 2})
        bundle = exploration._repr_mimebundle_()
        assert calls == [2]
        assert set(bundle) == {"text/plain", "text/html", VIEW}
        assert bundle["text/plain"] == "figure with controls, drawn for height = 2"
        fragment = Fragment(bundle["text/html"])
        assert [image["alt"] for image in fragment.of("img")] == ["Figure; height = 2"]
        assert fragment.of("input") == fragment.of("script") == []
        assert "Drawn for height = 2. Run the notebook to choose other values." in bundle["text/html"]
        assert bundle[VIEW]["model_id"] == exploration.widget.model_id

    def test_a_move_draws_anew(self, somebody_there):
        calls = []

        def counted(**chosen):
            calls.append(chosen)
            return draw(**chosen)

        exploration = ln.explore(counted, height=[1, 2], colour=["red", "blue"], labels={"height": "of the bar"})
        picture, status, height, colour = exploration.widget.children
        assert [entry.description for entry in (height, colour)] == ["of the bar", "colour"]
        before = picture.value
        height.value = 2
        colour.value = "blue"
        assert calls == [
            dict(height=1, colour="red"),
            dict(height=2, colour="red"),
            dict(height=2, colour="blue"),
        ]
        (image,) = Fragment(picture.value).of("img")
        assert image["alt"] == "Figure; of the bar = 2, colour = blue"
        assert image["src"] not in before
        assert status.value == '<p role="status">of the bar = 2, colour = blue</p>'

    def test_an_error_is_shown_and_the_next_move_works(self, somebody_there):
        def fails(height):
            if height == 2:
                raise ValueError("lr < bound")
            return draw(height)

        picture, status, height = ln.explore(fails, height=[1, 2, 3]).widget.children
        height, _ = height.children
        before = picture.value
        height.value = 2
        assert picture.value == before
        assert status.value == '<p role="alert">ValueError: lr &lt; bound</p>'
        height.value = 3
        assert picture.value != before and "alert" not in status.value

    def test_play_moves_the_slider_and_follows_it(self, somebody_there):
        seen = []

        def slow(height):
            time.sleep(1)
            seen.append(height)
            return draw(height)

        _, status, row = ln.explore(slow, height=[1, 2, 4], start={"height": 2}).widget.children
        slider, play = row.children
        assert (play.value, play.min, play.max, play.repeat) == (1, 0, 2, False)
        assert 1500 <= play.interval <= 6000  # longer than the first picture took
        play.value = 2
        assert slider.value == 4 and "height = 4" in status.value
        slider.value = 1
        assert play.value == 0
        assert seen == [2, 4, 1]

    def test_shows_the_page_where_ipywidgets_is_missing(self, monkeypatch):
        class Shell:
            def get_parent(self):
                return {"content": {"allow_stdin": True}}

        class IPython:
            get_ipython = Shell

        monkeypatch.setitem(sys.modules, "IPython", IPython)
        assert live.is_possible()
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        assert not live.is_possible()
        assert len(Fragment(html(draw, height=[1, 2])).of("img")) == 2

    def test_the_kernel_knows_whether_somebody_is_there(self):
        """As a notebook's front end asks it, and as a program that executes notebooks does."""
        setup = "from matplotlib.figure import Figure\nimport labelnoise_utils as ln"
        manager, client = start_new_kernel()
        try:
            client.execute_interactive(setup, timeout=120)
            shown = {}
            for somebody in (True, False):
                messages = []
                client.execute_interactive(
                    "ln.explore(lambda height: Figure(), height=[1, 2, 3])",
                    allow_stdin=somebody, output_hook=messages.append, timeout=120,
                )  # fmt: skip
                (shown[somebody],) = [m["content"]["data"] for m in messages if m["msg_type"] == "execute_result"]
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
        assert VIEW in shown[True] and VIEW not in shown[False]
        assert [len(Fragment(shown[somebody]["text/html"]).of("img")) for somebody in (True, False)] == [1, 3]
