"""The figures: what is drawn is what was said, and nothing that a model writes can break or enter them."""

from __future__ import annotations

import dataclasses
import io
import re
import warnings
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from PIL import Image

from vigorl_lib import figures
from vigorl_lib.grounding import Frame
from vigorl_lib.search.tree import Node, Rollout, Tree
from vigorl_lib.traces import parse_trace, render_answer, render_call, render_single

IMAGE = Image.new("RGB", (200, 100), "#ddeedd")
ORIGINAL = Frame.original(200, 100)
SEEN = Frame.resized(ORIGINAL, 100, 50)
SINGLE = [render_single(["A cup at (10, 20).", "Right: a bowl (60, 20).", "Check: (10, 20)."], "bowl")]
ZOOMED = [
    render_call("The lamp is far away at (50, 25).", (50, 25)),
    render_call("Still unclear.", (90, 40)),
    render_answer("It is red.", "red"),
]
WINDOWS = [(80, 30, 120, 70), (160, 60, 200, 100)]
CROPS = [Image.new("RGB", (56, 56), colour) for colour in ("red", "blue")]
HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    r"$\frac{1}{$ \undefined $x^{2$ % & # _ ^ (5, 5).",
    "<think> " + r"$\frac$ (1, 2). " * 300 + "</think>",
    "<think>" + "(3, 4) " * 15_000 + "</think>",
    "<think> (999999, -999999) and (-5, 7). \x00\x07\x1b[31m </think><answer>\ud800</answer>",
    "\u202edlrow\u202c \U0001f468\u200d\U0001f469 漢字 \u0627\u0644 a\u0301\u0302\u0303 \ufeff\U0010ffff",
    "W" * 100_000,
    "<|im_end|>{{data}}' \" & &lt; `${1}`",
    "",
]


def render(figure: Figure) -> bytes:
    """The figure as PNG; a warning (such as a missing glyph) is an error."""
    with warnings.catch_warnings(), io.BytesIO() as file:
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "constrained_layout not applied")  # names of nothing but W
        figure.savefig(file, format="png", dpi=40)
        return file.getvalue()


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts] + [t.get_text() for t in figure.texts]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


class Tags(HTMLParser):
    """The tags of a snippet, and its text; fails where they do not nest."""

    def __init__(self, page: str):
        super().__init__()
        self.open, self.seen, self.attributes, self.text = [], set(), [], ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.seen.add(tag)
        self.attributes += attributes
        self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.add(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data


def assert_harmless(page: str) -> Tags:
    tags = Tags(page)
    assert tags.seen <= {
        "div",
        "style",
        "svg",
        "image",
        "rect",
        "text",
        "line",
        "polygon",
        "g",
        "circle",
        "p",
        "b",
        "i",
        "span",
    }
    assert not [name for name, _ in tags.attributes if name.startswith("on")]
    assert all(value.startswith("data:image/png;base64,") for name, value in tags.attributes if name in ("href", "src"))
    page.encode()
    return tags


# Traces ----------------------------------------------------------------------------------------------


def test_a_trace_is_drawn_with_its_points_in_the_models_frame():
    figure = figures.draw_trace(IMAGE, SINGLE, SEEN, title="Which?")
    picture, column = figure.axes
    marks = {text.get_text(): text.get_position() for text in picture.texts if text.get_text()}
    assert marks == {"1,3": (20, 40), "2": (120, 40)}  # twice the numbers of the 100 x 50 frame
    arrows = [text for text in picture.texts if isinstance(text, Annotation)]
    assert [(arrow.xyann, arrow.xy) for arrow in arrows] == [((20, 40), (120, 40)), ((120, 40), (20, 40))]
    assert picture.get_xlabel() == "pixels of the resized frame"
    assert [tick.get_text() for tick in picture.get_xticklabels()] == ["0", "50", "100"]
    said = [text.get_text() for text in column.texts]
    assert said[:4] == ["1", "A cup at (10,\xa020).", "2", "Right: a bowl (60,\xa020)."]
    assert said[4:] == ["3", "Check: (10,\xa020).", "answer: bowl"]
    assert "Which?" in texts(figure)
    assert not plt.get_fignums()


def test_a_parsed_trace_is_drawn_like_its_messages():
    assert render(figures.draw_trace(IMAGE, parse_trace(ZOOMED, zoom=True), SEEN)) == render(
        figures.draw_trace(IMAGE, ZOOMED, SEEN)
    )


def test_crop_windows_stand_where_they_were_cut():
    picture = figures.draw_trace(IMAGE, ZOOMED, SEEN, windows=WINDOWS).axes[0]
    boxes = [patch.get_bbox().extents.tolist() for patch in picture.patches]
    assert boxes == [list(window) for window in WINDOWS]
    assert {"zoom 1", "zoom 2"} <= {text.get_text() for text in picture.texts}


def test_an_episode_shows_every_crop_beside_the_image_in_order():
    figure = figures.draw_episode(IMAGE, ZOOMED, SEEN, WINDOWS, CROPS)
    pictures = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title(loc="left") for ax in pictures] == [
        "the image",
        "zoom 1: 40 × 40 px shown at 56 × 56",
        "zoom 2: 40 × 40 px shown at 56 × 56",
    ]
    assert [tuple(ax.images[0].get_array()[0, 0]) for ax in pictures[1:]] == [(255, 0, 0), (0, 0, 255)]
    written = [[text.get_text() for text in ax.texts] for ax in figure.axes if not ax.images]
    assert written[0][-1] == "zoom 1: looks closer at (50,\xa025)"
    assert written[1] == ["2", "Still unclear.", "3", "zoom 2: looks closer at (90,\xa040)"]
    assert written[2] == ["4", "It is red.", "answer: red"]


def test_a_point_outside_the_image_is_hollow_and_at_the_border():
    turns = ["<think> (150, 20). (99, 20). </think><answer> x </answer>"]
    discs = figures.draw_trace(IMAGE, turns, SEEN).axes[0].texts[-1:]
    assert discs[0].get_position() == (200, 40)
    assert discs[0].get_bbox_patch().get_facecolor() == (1, 1, 1, 1)
    thirds = Frame.resized(ORIGINAL, 96, 7)  # its pixels are no whole numbers of the original's
    inside = figures.draw_trace(IMAGE, ["<think> (31, 3). </think><answer> x </answer>"], thirds).axes[0].texts[-1]
    assert inside.get_bbox_patch().get_facecolor() != (1, 1, 1, 1)


def test_a_malformed_trace_says_so_and_shows_what_was_written():
    said = texts(figures.draw_trace(IMAGE, ["I just talk."], SEEN))
    assert "written: I just talk." in said
    assert any(text.startswith("not well-formed: ") and "no_think" in text for text in said)


@pytest.mark.parametrize("draw", [figures.draw_trace, figures.show_trace_html])
def test_wrong_frames_and_windows_are_refused(draw):
    with pytest.raises(ValueError, match="covers .* the image has 100 x 50"):
        draw(IMAGE.resize((100, 50)), SINGLE, SEEN)
    with pytest.raises(ValueError, match="2 crop windows for 0 zoom calls"):
        draw(IMAGE, SINGLE, SEEN, windows=WINDOWS)
    with pytest.raises(TypeError, match="sequence of messages"):
        draw(IMAGE, SINGLE[0], SEEN)
    with pytest.raises(ValueError, match="1 crops for 2 windows"):
        figures.draw_episode(IMAGE, ZOOMED, SEEN, WINDOWS, CROPS[:1])
    assert not plt.get_fignums(), "a refused figure stays open"


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_traces_neither_crash_nor_escape(text):
    turns = [text, f"<think> {text} (1, 2). </think><answer> {text} </answer>"]
    render(figures.draw_trace(IMAGE, turns, SEEN, title=text))
    page = figures.show_trace_html(IMAGE, turns, SEEN)
    assert len(page) < 300_000
    shown = assert_harmless(page).text
    assert "\u202e" not in shown and "\x1b" not in shown
    if "script>alert" in text:
        assert text in shown


@settings(max_examples=25)
@given(
    st.lists(
        st.text(max_size=80) | st.sampled_from(["<think>", "</think>", " (3, 9). ", "<answer>x</answer>"]),
        max_size=8,
    )
)
def test_any_text_gives_harmless_html(parts):
    assert_harmless(figures.show_trace_html(IMAGE, ["".join(parts)], SEEN))


def test_the_html_viewer_links_steps_and_points():
    page = figures.show_trace_html(IMAGE, ZOOMED, SEEN, windows=WINDOWS)
    tags = assert_harmless(page)
    assert 'viewBox="0 0 336 168"' in page
    assert ("cx", "168.0") in tags.attributes and ("cx", "302.4") in tags.attributes  # (50, 25) and (90, 40)
    assert page.count("<rect ") == 2 and page.count("<polygon ") == 1
    scope = re.search(r'<div class="(trace-[0-9a-f]+)">', page)[1]
    for number in (1, 3):
        assert f".{scope}:has(.s{number}:hover) g.s{number} circle" in page
        assert f'<g class="s{number}">' in page and f' s{number}">' in page
    assert "points in pixels of the resized frame, 100 × 50" in tags.text
    assert "http" not in page and "<script" not in page


def test_drawing_twice_gives_the_same():
    def draw():
        return render(figures.draw_trace(IMAGE, ZOOMED, SEEN, windows=WINDOWS)), figures.show_trace_html(
            IMAGE, ZOOMED, SEEN
        )

    assert draw() == draw()


def test_a_data_url_is_a_small_png():
    assert figures.data_url(IMAGE, 50).startswith("data:image/png;base64,iVBOR")
    assert IMAGE.size == (200, 100)


# Results ---------------------------------------------------------------------------------------------

ROWS = [
    {"name": "base", "value": 0.3, "low": 0.25, "high": 0.36},
    {"name": "ViGoRL", "value": 0.6, "low": 0.55, "high": 0.64},
]


def test_bars_have_intervals_chance_and_plain_figures():
    figure = figures.bars_with_intervals(
        ROWS, label="accuracy (fraction)", chance=0.25, references={"paper": 0.5}, title="$x$"
    )
    (ax,) = figure.axes
    assert [patch.get_width() for patch in ax.patches] == [0.3, 0.6]
    segments = [segment[:, 0].tolist() for segment in ax.collections[0].get_segments()]
    assert np.allclose(segments, [[0.25, 0.36], [0.55, 0.64]])
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["base", "ViGoRL"]
    assert ax.get_ylim() == (1.5, -0.5), "the first row stands on top"
    assert ax.get_xlabel() == "accuracy (fraction); lines: 95 % intervals"
    assert "0.60  [0.55, 0.64]" in texts(figure)
    assert legend(figure) == ["chance 0.25", "paper 0.50"]
    assert ax.get_title(loc="left") == "$x$"
    assert not plt.get_fignums()


def test_rows_that_were_left_out_are_counted_under_the_axes():
    asked = {"gqa": ["example"] * 198, "pope": ["example"] * 210, "ai2d": []}
    damaged = {"gqa": ["row 3: no image", "row 5: torn"], "pope": [], "ai2d": ["row 0: no answer"]}
    groups = [{**row, "group": group} for row in ROWS for group in ("near", "far")]
    plain = figures.bars_with_intervals(groups, label="accuracy")
    before = texts(plain)
    assert texts(figures.note_left_out(plain, {"gqa": [], "pope": []}, asked)) == before
    figure = figures.note_left_out(plain, damaged, asked)
    assert texts(figure) == [*before, "left out, damaged: gqa 2 of 200, ai2d 1 of 1"]
    render(figure)
    figure.draw_without_rendering()  # at the figure's own resolution, in which the extents are
    (ax,) = figure.axes
    note, label, names = (part.get_window_extent() for part in (ax.texts[-1], ax.xaxis.label, figure.legends[0]))
    assert 0 < names.y0 and names.y1 < note.y0 and note.y1 < label.y0, "from bottom to top: legend, note, label"
    with pytest.raises(KeyError, match="gqa"):
        figures.note_left_out(plain, damaged, {})
    assert not plt.get_fignums()


def test_grouped_bars_have_a_colour_a_group():
    rows = [{**row, "group": group} for row in ROWS for group in ("near", "far")]
    figure = figures.bars_with_intervals(rows, label="accuracy (fraction)")
    (ax,) = figure.axes
    assert legend(figure) == ["near", "far"]
    assert len({patch.get_facecolor() for patch in ax.patches}) == 2
    assert len({patch.get_y() for patch in ax.patches}) == 4


def test_one_arm_has_one_colour_everywhere():
    bars = figures.bars_with_intervals(ROWS, label="accuracy").axes[0].patches
    curve = figures.learning_curves(
        {"other": [{"step": 1, "value": 1}], "vigorl": [{"step": 1, "value": 1}]}, label="y"
    )
    other, vigorl = curve.axes[0].lines
    assert vigorl.get_color() == "#d55e00" != other.get_color()
    assert bars[1].get_facecolor() == pytest.approx((0xD5 / 255, 0x5E / 255, 0, 1))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"name": "a", "value": 0.5}, "low"),
        ({"name": "a", "value": None, "low": 0, "high": 1}, "must be numbers"),
        ({"name": "a", "value": 0.5, "low": 0.6, "high": 0.7}, "low <= value <= high"),
        ({"name": "a", "value": float("nan"), "low": 0, "high": 1}, "low <= value <= high"),
        (ROWS[0], "name and group of another"),
    ],
)
def test_bars_refuse_rows_without_a_proper_interval(row, message):
    with pytest.raises(ValueError, match=message):
        figures.bars_with_intervals([*ROWS, row], label="accuracy")
    assert not plt.get_fignums()


def test_learning_curves_show_the_points_behind_the_mean():
    rows = [{"step": k, "reward": float(k)} for k in range(5)] + [{"step": 5, "train_runtime": 9.0}]
    figure = figures.learning_curves({"ViGoRL": rows}, label="reward", value="reward", window=3, chance=0.5)
    points, mean, chance = figure.axes[0].lines
    assert points.get_ydata().tolist() == [0, 1, 2, 3, 4]
    assert mean.get_ydata().tolist() == [0, 0.5, 1, 2, 3]
    assert points.get_alpha() < 0.5 < mean.get_linewidth()
    assert figure.axes[0].get_xlabel() == "training step; thick: mean of the last 3 points"
    assert legend(figure) == ["ViGoRL", "chance 0.50"]
    with pytest.raises(ValueError, match="curve 'ViGoRL': no row has the key 'loss'"):
        figures.learning_curves({"ViGoRL": rows}, label="loss", value="loss")
    with pytest.raises(ValueError, match="window is 0"):
        figures.learning_curves({"ViGoRL": rows}, label="loss", value="reward", window=0)


def test_budget_curves_have_bands_and_a_logarithmic_budget():
    rows = [{"x": x, "value": 0.5, "low": 0.4, "high": 0.7} for x in (16, 1, 4)]
    figure = figures.budget_curve({"MCTS": rows}, x_label="calls", label="accuracy", chance=0.2)
    (ax,) = figure.axes
    assert ax.get_xscale() == "log" and ax.lines[0].get_xdata().tolist() == [1, 4, 16]
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (0.4, 0.7)
    assert ax.get_ylim()[0] < 0.2, "the chance line is inside"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "4", "16"]


def test_paired_lines_join_the_two_values_of_every_seed():
    one = figures.Paired("C2b: shown", ("SFT", "ViGoRL"), [(0.3, 0.5), (0.4, 0.8)], "accuracy")
    figure = figures.paired_lines([one, *[dataclasses.replace(one, title="<b>", pairs=[(0.1, 0.2)])] * 4], title="C2")
    assert [ax.axison for ax in figure.axes] == [True] * 5 + [False] * 3
    ax = figure.axes[0]
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0.3, 0.5], [0.4, 0.8]]
    assert [text.get_text() for text in ax.texts] == ["0.35", "0.65"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["SFT", "ViGoRL"]
    ax = figures.paired_lines([figures.Paired("", ("screens_no_points", "vigorl"), [(0.004, 0.02)], "")]).axes[0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["screens\nno_points", "vigorl"]
    assert [text.get_text() for text in ax.texts] == ["0.004", "0.02"]
    with pytest.raises(ValueError, match="at least one panel"):
        figures.paired_lines([])
    with pytest.raises(ValueError, match="panel 'C2b: shown' has none"):
        figures.paired_lines([dataclasses.replace(one, pairs=[])])


def test_distributions_are_shares_of_each_group():
    figure = figures.distributions({"a": [1, 1, 2], "b": [2, 3, 3, 3]}, label="points", of="traces")
    outlines = [patch for patch in figure.axes[0].patches if not patch.get_fill()]
    assert np.allclose([patch.get_data().values for patch in outlines], [[2 / 3, 1 / 3, 0], [0, 0.25, 0.75]])
    assert legend(figure) == ["a (n = 3)", "b (n = 4)"]
    with pytest.raises(ValueError, match="'b' is empty"):
        figures.distributions({"a": [1], "b": []}, label="points")


def test_confusion_counts_other_and_missing_answers():
    figure = figures.confusion(["a", "a", "b", "b"], ["a", "b", None, "<script>$"])
    ax, _ = figure.axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "b", "other", "no answer"]
    assert [text.get_text() for text in ax.texts] == ["1", "1", "0", "0", "0", "0", "1", "1"]
    with pytest.raises(ValueError, match="2 truths and 1 answers"):
        figures.confusion(["a", "b"], ["a"])


def test_hostile_names_are_drawn_as_plain_text():
    for name in HOSTILE[1:3] + HOSTILE[6:8]:
        interval = {"value": 1, "low": 1, "high": 1}
        render(
            figures.bars_with_intervals([{"name": name, "group": name, **interval}], label=name, references={name: 1})
        )
        render(figures.learning_curves({name: [{"step": 1, "value": 1}]}, label=name, title=name))
        render(figures.confusion([name], [name]))


def test_tokens_show_what_is_trained():
    page = figures.tokens_by_mask(["<|pad|>"] * 9 + ["a<b", "\n", "</script>"], [0] * 9 + [1, True, 1])
    assert "trained: 3 tokens" in page and "not trained: 9 tokens" in page
    assert "&lt;|pad|&gt;<i> × 9</i>" in page and page.count("&lt;|pad|&gt;") == 1
    spans = re.findall(r'<span style="background:(#\w+)[^"]*isolate">([^<]*)', page)
    assert spans == [
        ("#eee", "&lt;|pad|&gt;"),
        ("#ffd9a8", "a&lt;b"),
        ("#ffd9a8", "↵\n"),
        ("#ffd9a8", "&lt;/script&gt;"),
    ]
    assert_harmless(page)
    for text in HOSTILE:
        assert_harmless(figures.tokens_by_mask([text, text], [1, 0]))
    with pytest.raises(ValueError, match="2 tokens, but a mask of 1"):
        figures.tokens_by_mask(["a", "b"], [1])


# Search trees ----------------------------------------------------------------------------------------


def small_tree(text: str = "I see a cup at (3, 4).") -> Tree:
    right = Node("A bowl (9, 9).", ((9, 9),), True, "bowl", 1.0, 2, rollouts=(Rollout(answer="bowl", reward=1.0),) * 2)
    wrong = Node(text, ((3, 4),), True, None, 0.0, 1, rollouts=(Rollout(forced=True),))
    first = Node("First.", (), False, None, 0.5, 4, (right, wrong), (Rollout(("step",), "cup", 0.0),))
    second = Node("Second.", (), False, None, 0.0, 1, rollouts=(Rollout(),))
    root = Node("Bowl or cup?", (), False, None, 0.4, 5, (second, first))
    return Tree("t", "Bowl or cup?", "bowl", root, 2, 9, 50)


def test_a_tree_is_laid_out_without_overlap():
    places = figures.tree_layout(small_tree().root)
    assert places == {(): (0, 0.75), (0,): (1, 0), (1,): (1, 1.5), (1, 0): (2, 1), (1, 1): (2, 2)}
    assert figures.most_visited_path(small_tree().root) == (1, 0)


def test_a_tree_shows_visits_as_size_and_value_as_colour():
    figure = figures.tree_figure(small_tree())
    dots = [item for item in figure.axes[0].collections if isinstance(item, PathCollection)]
    sizes = [dot.get_sizes()[0] for dot in dots]
    assert sizes == sorted(sizes, reverse=True)[:1] + sizes[1:] and sizes[2] > sizes[1]
    assert sizes[1] == sizes[4] < sizes[3], "equal visits, equal areas"
    assert tuple(dots[3].get_facecolor()[0]) != tuple(dots[4].get_facecolor()[0])
    said = texts(figure)
    assert {"5", "4", "2", "→ bowl", "→ no answer", "question"} <= set(said)
    heavy = [line for line in figure.axes[0].lines if line.get_linewidth() > 2]
    assert len(heavy) == 2
    assert figure.axes[0].get_title(loc="left") == "Bowl or cup? (truth: bowl)"
    assert figure.axes[1].get_ylabel() == "value (mean reward, 0 … 1)"


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_trees_are_drawn(text):
    render(figures.tree_figure(small_tree(text), title=text))


def test_a_tree_of_one_node_is_drawn():
    render(figures.tree_figure(Tree("t", "q", "a", Node("q"), 1, 0, 0)))


def test_the_theme_can_be_made_the_default():
    with plt.rc_context():
        figures.use_theme()
        assert plt.rcParams["text.parse_math"] is False
        assert plt.rcParams["axes.prop_cycle"].by_key()["color"] == list(figures.PALETTE)
