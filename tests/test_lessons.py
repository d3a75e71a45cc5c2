"""The base is taught to see and to speak the format, and never that a chain is right."""

from __future__ import annotations

import collections
import random

import pytest
from PIL import Image

from vigorl_lib import prompts
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.benchmarks import sources
from vigorl_lib.nano import exam, lessons, twins, world
from vigorl_lib.stats import wilson
from vigorl_lib.traces import find_points, parse_trace, parse_turn
from vigorl_lib.views import View, Zoom


@pytest.fixture
def blank(monkeypatch):
    """Lessons without the cost of drawing, where only their text matters."""
    monkeypatch.setattr(world, "draw", lambda scene: Image.new("RGB", (8, 8)))


def formats(count: int) -> list[tuple[twins.Item, list[dict]]]:
    rng = random.Random(3)
    modes = rng.choices(list(lessons.MODES), list(lessons.MODES.values()), k=count)
    return [lessons.format_conversation(rng, mode) for mode in modes]


def written(messages: list[dict]) -> list[str]:
    return [message["content"] for message in messages if message["role"] == "assistant"]


def test_a_seed_gives_one_lesson():
    first, again = lessons.lesson(11), lessons.lesson(11)
    assert [message["role"] for message in first] == [message["role"] for message in again]
    assert written(first) == written(again) != written(lessons.lesson(12))


def test_every_image_is_one_view(blank):
    for seed in range(60):
        for message in lessons.lesson(seed):
            for block in message["content"] if isinstance(message["content"], list) else []:
                if block["type"] == "image":
                    assert block["image"].size == (world.VIEW_SIDE, world.VIEW_SIDE)


def test_formats_are_well_formed(blank):
    for item, messages in formats(400):
        mode = next(mode for mode, text in prompts.NANO_SYSTEM.items() if text == messages[0]["content"])
        if mode == "direct":
            assert parse_turn(f"<think> </think>\n{written(messages)[0]}", zoom=False).well_formed
            continue
        trace = parse_trace(written(messages), zoom=mode == "zoom")
        assert trace.well_formed, trace.problems
        assert trace.answer in item.options or (not item.options and find_points(trace.answer))
        assert bool(trace.points) == (mode != "vanilla")


def is_answer(item: twins.Item, answer: str) -> bool:
    """Whether an answer, in the words of the lessons, is the item's."""
    end = item.scene.things[item.route[-1]]
    if not item.options:
        return exam.pointed_at(item.scene, answer) == end
    return answer == item.answer


def test_formats_do_not_teach_the_answer(blank):
    """Several-step questions: the shown answer is right no more often than chance + 0.10 (upper 95 % limit).

    Not so in dialogues with a look closer: whoever looks where a question leads reads the answer off the crop.
    """
    rng, right = random.Random(3), collections.defaultdict(list)
    for mode in rng.choices(("direct", "vanilla", "grounded"), k=6000):
        item, messages = lessons.format_conversation(rng, mode)
        answer = parse_turn(written(messages)[-1], zoom=False).answer
        if len(item.route) > 2:
            right[item.kind, len(item.options)].append(is_answer(item, answer))
    assert {kind for kind, _ in right} == {"goal_aim", "action_consequence", "direct_attributes", "route"}
    for (kind, options), hits in right.items():
        chance = 1 / options if options else 1 / 7  # of seven things
        assert wilson(sum(hits), len(hits)).high <= chance + 0.10, kind


def test_a_screen_s_pattern_is_not_guessed(blank):
    """Which of two or three icons alike has the pattern: no format says it more often than blind choice."""
    rng, right, blind = random.Random(4), [], []
    for mode in ("grounded", "zoom"):
        for _ in range(3000):
            item, messages = lessons.format_conversation(rng, mode)
            if item.kind == "pattern":
                right.append(is_answer(item, parse_turn(written(messages)[-1], zoom=mode == "zoom").answer))
                name = item.scene.things[0].name
                blind.append(1 / sum(thing.name == name for thing in item.scene.things))
    assert wilson(sum(right), len(right)).low < sum(blind) / len(blind)


@pytest.mark.parametrize("grounded", [True, False])
def test_narration_says_what_is_there(grounded):
    rng = random.Random(5)
    for _ in range(200):
        scene = lessons.skill_scene(rng, 6)
        first = rng.randrange(len(scene.things))
        steps, seen, end = lessons.narrate(rng, scene, grounded=grounded, first=first, hops=3)
        assert len(steps) == len(seen) and seen[0] == first and end in seen
        for step, index in zip(steps, seen, strict=True):
            if step == prompts.BACKTRACK:
                continue
            assert scene.things[index].name in step
            points = find_points(step)
            assert len(points) == grounded
            for point in points:
                x, y = ((value + 0.5) * world.SCALE for value in (point.x, point.y))
                assert world.thing_at(scene, x, y) == scene.things[index]


def test_rates_are_the_stated_ones(blank):
    rng, said = random.Random(8), collections.Counter()
    count = 3000
    for _ in range(count):
        scene = twins.route_scene(rng)
        steps, _, _ = lessons.narrate(rng, scene, grounded=True, first=0, hops=2)
        said["sub_goal"] += steps[0].startswith("First find")
        said["wait"] += prompts.BACKTRACK in steps
    assert abs(said["sub_goal"] / count - lessons.SUB_GOAL) < 0.03
    assert abs(said["wait"] / count - lessons.WAIT * (1 - lessons.CHECK)) < 0.02  # only where no check came first


def test_a_narration_heeds_the_question_at_the_stated_rate():
    rng, heeded, expected, count = random.Random(9), 0, 0.0, 0
    for _ in range(4000):
        item = twins.sat2_item(rng)
        start = item.scene.things[0]
        found = [world.next_thing(item.scene, start.x, start.y, direction) for direction in world.DIRECTIONS]
        ways = sum(there is not None and there >= 0 for there in found)
        steps, _, _ = lessons.narrate(rng, item.scene, grounded=True, first=0, hops=1, asked=item.directions)
        heeded += steps[1].startswith(f"first {item.directions[0]}:")
        expected += lessons.FOLLOW + (1 - lessons.FOLLOW) / ways
        count += 1
    assert abs(heeded - expected) / count < 0.02


@pytest.mark.parametrize(
    ("name", "asked"),
    [("screenspot", {"kind": "route"}), ("screenspot_pro", {"kind": "pattern", "pattern": "checked"})],
)
def test_lessons_ask_about_screens_as_the_loader_does(name, asked):
    (example,) = benchmarks.load(name, "nano", split="dev", limit=1)
    rng = random.Random(sources.digest(f"{name}/dev/0/0"))
    item = twins.screen_item(rng, **asked)
    assert lessons.question_for(item) == example.question


def test_a_lesson_s_crop_is_the_policy_s():
    scene = lessons.skill_scene(random.Random(1), 5)
    picture = world.draw(scene)
    view = View(picture, picture.resize((world.VIEW_SIDE, world.VIEW_SIDE)))
    for point in [(0, 0), (95, 95), (50, 3), *(lessons.spot(thing) for thing in scene.things)]:
        assert view.crop(point, Zoom()).tobytes() == lessons.crop(picture, point).tobytes()


def test_the_last_look_of_a_lesson_says_that_the_answer_is_due(blank):
    """As in an episode: a base that never read that sentence answers nothing after its last look."""
    assert Zoom().looks == lessons.LOOKS
    counts = collections.Counter()
    for _, messages in formats(400):
        due = [prompts.ANSWER_IS_DUE in str(m["content"]) for m in messages if m["role"] == "tool"]
        counts[len(due)] += 1
        assert due == [False] * min(len(due), lessons.LOOKS - 1) + [True] * (len(due) == lessons.LOOKS)
    assert counts[1] > counts[lessons.LOOKS] > 10


@pytest.mark.parametrize("subject", exam.SUBJECTS)
def test_the_exam_knows_its_answers(subject, blank):
    """Each item takes the answer that its lesson would teach, and not a wrong one."""
    for item in exam.exam(subject, 5, seed=2):
        assert not item.right("")
        assert not item.right("(0, 0)")
    assert len({str(item.messages[0]["content"][1]) for item in exam.exam(subject, 20, seed=2)}) >= (
        1 if subject == "crop" else 5
    )


def test_the_curriculum_grows_and_groups_kinds(blank, monkeypatch):
    asked = []
    monkeypatch.setattr(lessons, "lesson", lambda seed, *, most, kind: asked.append((most, kind)))
    for index in range(64):
        lessons.curriculum(index, listings=24, ramp=16, group=8)
    assert [most for most, _ in asked[::16]] == [3, 4, 5, 6]
    assert all(kind < lessons.LISTING_SHARE for _, kind in asked[:24])
    assert any(kind > lessons.LISTING_SHARE for _, kind in asked[24:])
    assert all(len({kind for _, kind in asked[start : start + 8]}) == 1 for start in range(0, 64, 8))
    assert len({kind for _, kind in asked}) == 8


def test_a_lesson_names_each_thing_once(blank):
    """What was named before could be copied from the text instead of seen."""
    rng = random.Random(4)
    for _ in range(100):
        answers = [
            text
            for text in written(lessons.skill_conversation(rng, 7, rng.choice((lessons.LISTINGS, lessons.QUESTIONS))))
            if ":" not in text
        ]
        points = [(point.x, point.y) for text in answers for point in find_points(text)]
        assert len(points) == len(set(points))


def test_the_course_of_details_shows_small_things(blank, monkeypatch):
    sizes, make = [], world.make_scene

    def remember(rng, *, radii=world.RADII, **more):
        sizes.append(radii)
        return make(rng, radii=radii, **more)

    monkeypatch.setattr(world, "make_scene", remember)
    drawn, heads = [], set()
    for index in range(0, 16 * 400, 16):
        messages = lessons.details(index, seed=3)
        drawn.append(sizes[-1][0])
        heads.add(messages[0]["content"] if isinstance(messages[0]["content"], str) else "")
        for message in messages:
            for block in message["content"] if isinstance(message["content"], list) else []:
                if block["type"] == "image":
                    assert block["image"].size == (world.VIEW_SIDE, world.VIEW_SIDE)
    small = sum(least < world.RADII[0] for least in drawn)
    rate = wilson(small, len(drawn), confidence=0.999)
    assert rate.low <= lessons.DETAIL_SHARE <= rate.high
    assert set(drawn) == {*lessons.DETAIL_RADII, world.RADII[0]}
    assert heads == {"", *prompts.NANO_SYSTEM.values()}


def test_the_untaught_course_writes_points_under_no_prompt(blank):
    asked = set()
    for index in range(0, 16 * 500, 16):
        head, *turns = lessons.untaught(index, seed=3)
        for mode in lessons.UNTAUGHT:
            if head["content"] == prompts.NANO_SYSTEM[mode]:
                asked.add(mode)
                (reply,) = written(turns)
                thought, answer = reply.split("<answer>")
                assert not find_points(thought) and "tool_call" not in reply and answer
    assert asked == lessons.UNTAUGHT


def test_the_exam_has_things_of_the_size_that_is_asked_for(blank, monkeypatch):
    sizes = []
    make = world.make_scene
    monkeypatch.setattr(world, "make_scene", lambda rng, **more: sizes.append(more["radii"]) or make(rng, **more))
    exam.exam("point", 3, seed=1, radii=(13, 16))
    assert set(sizes) == {(13, 16)}
