"""Rows of the released data's schemas, written here: questions of four domains, chains in one turn and in several."""

import json

import pytest
from PIL import Image

from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.benchmarks import released as questions
from vigorl_lib.grounding import Frame
from vigorl_lib.prompts import BACKTRACK
from vigorl_lib.rewards import score
from vigorl_lib.search import linearise, released
from vigorl_lib.traces import parse_trace
from vigorl_lib.views import Zoom, view_of

SAT = (
    "<image>\nQuestion: Which way did it move?\nAnswer Choices:\nA. to the Left\nB. to the right\n"
    "Answer with the text of the option."
)
VS = (
    "<image>\nWhat colour is it?\n(A) red\n(B) dark blue\n"
    "Answer with the option's letter from the given choices directly."
)
WG = "<image>\nDescription: the button that saves"
WA = "OBJECTIVE: Buy it.\n\nPREVIOUS ACTIONS: \n1. go_back\n\nIMAGE:\n<image>"
QUESTIONS = {
    "spatial": (SAT, "to the right"),
    "visual_search": (VS, "B"),
    "web_grounding": (WG, "(10, 20, 60, 40)"),
    "action": (WA, "click [12]"),
}
WRONG = {"spatial": "to the Left", "visual_search": "A", "web_grounding": "(70, 30)", "action": "click [1]"}
RIGHT = {kind: answer for kind, (_, answer) in QUESTIONS.items()} | {"web_grounding": "(30, 30)"}


def rl(kind, **changes):
    text, answer = QUESTIONS[kind]
    return {"problem": text, "answer": answer, "images": ["pictures/a.png"], **changes}


def asked(kind, **changes):
    text, answer = QUESTIONS[kind]
    talk = [{"from": "human", "value": text}, {"from": "gpt", "value": answer}]
    return {"id": f"{kind}_7", "image": "pictures/a.png", "conversations": talk, "source": "x", **changes}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (200, 100), "white").save(tmp_path / "pictures/a.png")
    return tmp_path


def write(folder, rows, name="rows.jsonl"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = "".join(json.dumps(row) + "\n" for row in rows) if path.suffix == ".jsonl" else json.dumps(rows)
    path.write_text(whole)
    return path


# --- questions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [rl, asked])
def test_rows_of_four_domains_are_loaded_and_graded(make, folder):
    path = write(folder, [make(kind) for kind in QUESTIONS])
    found = {example.kind: example for example in benchmarks.load("released", path)}
    assert list(found) == list(QUESTIONS)
    assert [example.id for example in found.values()] == [f"released-test-{number}" for number in range(4)]
    for kind, example in found.items():
        assert "<image>" not in example.question and example.question in QUESTIONS[kind][0]
        for said, right in ((RIGHT[kind], 1), (WRONG[kind], 0)):
            reply = f"<think> Look (3, 4). </think>\n<answer> {said} </answer>"
            assert benchmarks.grade("released", reply, example, "clean").score == right
            assert benchmarks.grade("released", reply, example, "vigorl").score == right
            frame = Frame.original(200, 100)
            # The released single-turn reward never pays for a capital, and so for no letter.
            for protocol in ("clean",) if kind == "visual_search" else ("clean", "vigorl"):
                rewarded = score([reply], example, mode="grounded", protocol=protocol, frame=frame)
                assert rewarded.accuracy == right, (kind, protocol)
    assert found["spatial"].options == ("to the Left", "to the right") and found["spatial"].answer == "to the right"
    assert found["visual_search"].options == ("red", "dark blue") and found["visual_search"].answer == "B"
    assert found["web_grounding"].box == (10, 20, 60, 40) and found["web_grounding"].size == (200, 100)
    assert found["action"].answer == "click [12]"
    assert found["spatial"].group == (None if make is rl else "spatial_7")


@pytest.mark.parametrize(
    ("kind", "stored", "answer"),
    [
        ("spatial", "B", "to the right"),
        ("spatial", "B. to the right", "to the right"),
        ("spatial", "to the left", "to the Left"),  # the released reward never pays for a capital
        ("visual_search", "(B)", "B"),
        ("visual_search", "dark blue", "B"),
    ],
)
def test_an_answer_is_a_text_or_a_letter_as_its_domain_has_it(kind, stored, answer, folder):
    (example,) = benchmarks.load("released", write(folder, [rl(kind, answer=stored)]))
    assert example.answer == answer


def test_a_box_stays_on_the_button_in_the_frame_that_the_model_sees(folder):
    (example,) = benchmarks.load("released", write(folder, [rl("web_grounding")]))
    view = view_of(example, {"min_pixels": 784, "max_pixels": 5000, "factor": 28})
    assert view.frame.width < 100
    assert benchmarks.in_frame(example, view.frame).box[2] == 60 * view.frame.width / 200


def test_the_unpacked_folder_and_its_splits(folder):
    write(folder, [rl("spatial")], questions.FILES["sat2_train"])
    write(folder, [asked("visual_search"), asked("visual_search", image=None)], questions.FILES["vstar_test"])
    (picture,) = benchmarks.load("released", folder, split="sat2_train")[0].images
    assert picture == str(folder / "pictures/a.png"), "relative to a folder above the file"
    assert len(benchmarks.load("released", folder, split="vstar_test")) == 1, "a row without a picture is left out"
    with pytest.raises(ValueError, match="unknown split 'train' of the released data; known: sat2_mcts"):
        benchmarks.load("released", folder, split="train")
    with pytest.raises(FileNotFoundError, match="vigorl_sat2_val_RL.jsonl: no such file; unpack the tar"):
        benchmarks.load("released", folder, split="sat2_val")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (rl("spatial", answer="up"), "'up' names none of the options"),
        (rl("spatial", answer=None), "'answer' must hold text"),
        (rl("spatial", problem="Answer Choices:\nB. one\nC. two"), "no options 'A. …'"),
        (rl("spatial", images=["a.png", "b.png"]), "a list of one path"),
        (rl("visual_search", problem="Hello"), "no question with options"),
        (rl("visual_search", answer="E"), "'E' names none"),
        (rl("web_grounding", answer="(30, 30)"), "not a box"),
        (rl("web_grounding", answer="(0.1, 0.2, 0.3, 0.4)"), "not a box"),
        (rl("web_grounding", answer="(60, 20, 10, 40)"), "inside out"),
        (rl("web_grounding", answer="(10, 20, 900, 40)"), "leaves the image of 200 x 100"),
        (rl("action", answer="press [1]"), "not one action"),
        (asked("spatial", conversations=[{"value": "x"}]), "two messages"),
        (asked("spatial", id=" "), "'id' must hold text"),
        ({"image": "pictures/a.png", "text": "x"}, "neither a row for RL"),
        (rl("spatial", images=["/etc/a.png"]), "lies outside of the data set"),
        (rl("spatial", images=["../a.png"]), "lies outside of the data set"),
    ],
)
def test_a_bad_question_is_named(row, message, folder):
    path = write(folder, [rl("spatial"), row])
    with pytest.raises(ValueError, match=rf"rows.jsonl, row 1: .*{message}"):
        benchmarks.load("released", path)


def test_bad_rows_are_counted_where_asked_for(folder):
    left_out = []
    path = write(folder, [rl("spatial"), rl("spatial", answer="up"), rl("action")])
    assert len(benchmarks.load("released", path, left_out=left_out)) == 2
    assert len(left_out) == 1 and "row 1" in left_out[0]
    with pytest.raises(FileNotFoundError, match="no such image"):
        benchmarks.load("released", write(folder, [rl("web_grounding", images=["gone.png"])]))


# --- chains -----------------------------------------------------------------------------------------------

DIRECT = "<think>\nThe cup is at (20, 30). It stands right of the plate (120, 40). So it moved.\n</think>\n"
CORRECTED = (
    f"<think>\nThe cup is at (20, 30). It is gone (50, 60).\n{BACKTRACK}\n"
    "The cup is at (20, 30). It is here (120, 40).\n</think>\n"
)


def chain_row(kind="spatial", think=DIRECT, **changes):
    text, answer = QUESTIONS[kind]
    said = "(30, 30)" if kind == "web_grounding" else answer
    return {
        "id": "3_1",
        "metadata": {},
        "messages": [
            {"role": "system", "content": "You answer."},
            {"role": "user", "content": text},
            {"role": "assistant", "content": f"{think}<answer> {said} </answer>"},
        ],
        "images": ["pictures/a.png"],
        "gt_answer": answer,
        **changes,
    }


@pytest.mark.parametrize("kind", QUESTIONS)
@pytest.mark.parametrize(("think", "name"), [(DIRECT, "direct"), (CORRECTED, "corrected")])
def test_a_chain_says_again_what_the_row_says(kind, think, name, folder):
    row = chain_row(kind, think)
    ((example, chain),) = released.chains(write(folder, [row], "chains.json"))
    assert (chain.kind, chain.tree_id, example.id, example.kind) == (name, "3", "3", kind)
    assert linearise.to_single(chain).split() == row["messages"][-1]["content"].split()
    assert (BACKTRACK in chain.steps) == (name == "corrected")
    assert chain.points[0] == (20, 30) and benchmarks.right(example, chain.answer)


def test_points_of_a_chain_are_written_in_the_frame_that_the_model_sees(folder):
    ((example, chain),) = released.chains(write(folder, [chain_row("web_grounding")], "chains.json"))
    original, seen = Frame.original(200, 100), Frame.resized(Frame.original(200, 100), 56, 28)
    moved = released.chain_in(chain, original, seen)
    assert moved.points == ((6, 8), (34, 11)) and moved.answer == "(8, 8)"
    assert released.chain_in(chain, original, original) == chain
    assert benchmarks.right(example, moved.answer, frame=seen)


def call(x, y, think="Closer at"):
    arguments = json.dumps({"name": "search_coordinate", "arguments": {"coordinate": [x, y]}})
    return f"<think> {think} ({x}, {y}). </think>\n<tool_call>\n{arguments}\n</tool_call>"


def observed(dot=""):
    return f"<observation>\nHere is the crop of the image centered on the coordinate{dot}:\n<image>\n</observation>"


DOT = ", with a red dot at the coordinate location"


def dialogue_row(kind="visual_search", dot="", **changes):
    text, answer = QUESTIONS[kind]
    said = [call(20, 30), call(120, 40), f"<think> I have seen it. </think>\n<answer> {RIGHT[kind]} </answer>"]
    messages = [{"role": "system", "content": "You answer."}, {"role": "user", "content": text}]
    for turn in said[:-1]:
        messages += [{"role": "assistant", "content": turn}, {"role": "user", "content": observed(dot)}]
    messages.append({"role": "assistant", "content": said[-1]})
    pictures = ["pictures/a.png", "crops/1.png", "crops/2.png"]
    return {"messages": messages, "images": pictures, "gt_answer": answer, **changes}


def test_a_dialogue_keeps_turns_and_crops(folder):
    rows = [dialogue_row(), dialogue_row(gt_answer=None), dialogue_row("web_grounding", DOT, id="12_0")]
    first, second, third = released.dialogues(write(folder, rows, "chains.json"))
    assert first.turns == tuple(m["content"] for m in rows[0]["messages"] if m["role"] == "assistant")
    assert [crop.removeprefix(str(folder)) for crop in first.crops] == ["/crops/1.png", "/crops/2.png"]
    assert (first.dot, third.dot, third.example.id) == (False, True, "12_0")
    assert first.example.answer == second.example.answer == "B", "what the search judged right stands for a lost answer"
    assert third.example.box == (10, 20, 60, 40)
    assert parse_trace(first.turns, zoom=True).well_formed


def test_calls_move_with_their_words_and_show_the_same_place(folder):
    (dialogue,) = released.dialogues(write(folder, [dialogue_row()], "chains.json"))
    view = view_of(dialogue.example, {"min_pixels": 784, "max_pixels": 5000, "factor": 28})
    moved = released.dialogue_in(dialogue, view.original_frame, view.frame)
    trace = parse_trace(moved.turns, zoom=True)
    assert trace.well_formed and trace.calls == trace.points != parse_trace(dialogue.turns, zoom=True).calls
    zoom, cell = Zoom(offset=20), 200 / view.frame.width
    for there, (x, y) in zip(parse_trace(dialogue.turns, zoom=True).calls, trace.calls, strict=True):
        left, top, right, bottom = view.window((x, y), zoom)
        assert abs((left + right) / 2 - there[0]) <= cell and abs((top + bottom) / 2 - there[1]) <= cell
    assert released.dialogue_in(dialogue, view.original_frame, view.original_frame) == dialogue


def spoilt(number, content, row=None):
    row = row or dialogue_row()
    row["messages"][number]["content"] = content
    return row


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (dialogue_row(images=["pictures/a.png", "crops/1.png"]), "2 observations, but 1 crops"),
        (spoilt(3, "Go on."), "message 3 is no observation: 'Go on.'"),
        (spoilt(3, observed(DOT)), "some observations speak of a red dot"),
        (spoilt(2, call(500, 30)), r"\(500, 30\) is not in the picture of 200 x 100"),
        (spoilt(2, "Closer."), "breaks the grammar: text_outside, no_think"),
        (dialogue_row(messages=dialogue_row()["messages"][:-1]), "must take turns"),
        (dialogue_row(messages=[{"role": "user"}]), "with role and content"),
        (spoilt(2, [{"type": "text"}]), "must be text"),
        (dialogue_row(images=[]), "a list of paths"),
        (dialogue_row("web_grounding", gt_answer=None), "not a box"),
    ],
)
def test_a_bad_dialogue_is_named(row, message, folder):
    path = write(folder, [dialogue_row(), row], "chains.json")
    with pytest.raises(ValueError, match=rf"chains.json, row 1: .*{message}"):
        released.dialogues(path)
    left_out = []
    assert len(released.dialogues(path, left_out=left_out)) == 1 and "row 1" in left_out[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (chain_row(think="No thought. "), "breaks the grammar"),
        (chain_row(think="<think>\nIt is at (20, 300).\n</think>\n"), r"\(20, 300\) is not in the picture"),
        (chain_row(gt_answer="up"), "names none"),
        (dialogue_row(), "one user's and one assistant's message"),
        (chain_row(images=["../a.png"]), "lies outside of the data set"),
    ],
)
def test_a_bad_chain_is_named(row, message, folder):
    with pytest.raises(ValueError, match=rf"chains.json, row 0: .*{message}"):
        released.chains(write(folder, [row], "chains.json"))


def test_a_file_that_is_no_list_is_named(folder):
    with pytest.raises(ValueError, match="chains.json: not a list of rows but dict"):
        released.chains(write(folder, {"a": 1}, "chains.json"))
    (folder / "chains.json").write_text("[{")
    with pytest.raises(ValueError, match="chains.json, row 0: not a JSON line"):
        released.chains(folder / "chains.json")
    with pytest.raises(FileNotFoundError, match="unpack the tar"):
        released.chains(folder / "none.json")
