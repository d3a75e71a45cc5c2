"""BLINK's 14 tasks in miniature: the same numbers of pictures, the same kinds of options, drawn things in them.

What a miniature keeps is its task's form, and that words alone do not help: options are fixed or drawn first, the
answer is one of them by chance, the pictures come last. What it does not keep is said at each maker. All places are
pixels of the picture that they are in; pictures are 672 x 672 where nothing else is said.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from vigorl_lib.nano import correspondence, general, world
from vigorl_lib.nano.drawing import INK, Pen, Place, Question, arrow, label, mark, png, shape, turned
from vigorl_lib.nano.world import COLOURS, NAMES, RADII, SHAPES, SIDE, Scene

SECOND_OR_THIRD = ("the second image", "the third image")
IMAGES = ("the first image", "the second image", "the third image", "the fourth image")
CORNER = 420  # where the missing corner of a jigsaw begins: through the middle of the grid's third row and column
FRAME = 448  # width of a camera's picture of a scene


def _scene(rng: random.Random, count: int, **knobs: Any) -> Scene:
    return world.make_scene(rng, names=rng.choices(NAMES, k=count), **knobs)


# --- whole pictures ------------------------------------------------------------------------------------


def _mosaic(image: Image.Image) -> Image.Image:
    return image.resize((42, 42), Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)


def _dots(image: Image.Image) -> Image.Image:
    step = 14
    y, x = np.mgrid[: image.height, : image.width] % step - step // 2
    inside = Image.fromarray(x**2 + y**2 <= (0.45 * step) ** 2)
    coarse = image.resize((image.width // step, image.height // step), Image.Resampling.BOX)
    page = Image.new("RGB", image.size, "white")
    page.paste(coarse.resize(image.size, Image.Resampling.NEAREST), mask=inside)
    return page


def _lines(image: Image.Image) -> Image.Image:
    fine, coarse = (image.filter(ImageFilter.GaussianBlur(radius)) for radius in (4, 8))
    edges = ImageChops.difference(fine, coarse).convert("L")
    return edges.point(lambda value: 50 if value > 9 else 250).convert("RGB")


STYLES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "mosaic": _mosaic,
    "dots": _dots,
    "soft": lambda image: image.filter(ImageFilter.GaussianBlur(12)),
    "lines": _lines,
}


def art_style(rng: random.Random, **knobs: Any) -> Question:
    """Which of two pictures is made like the first? Four ways of drawing stand for styles of painting."""
    answer = rng.choice(SECOND_OR_THIRD)
    style, other = rng.sample(list(STYLES), 2)
    styles = (style, style, other) if answer == SECOND_OR_THIRD[0] else (style, other, style)
    scenes = [_scene(rng, rng.randint(4, 8), **knobs) for _ in styles]
    return Question(
        "Art_Style",
        "Use the first image as the reference. Which one of the second or the third image has the same style?",
        SECOND_OR_THIRD,
        answer,
        lambda: [STYLES[name](world.draw(scene)) for name, scene in zip(styles, scenes, strict=True)],
        {"styles": list(styles)},
    )


def _retouched(scene: Scene, index: int) -> Image.Image:
    """The scene with a piece of one thing's border mirrored, as a bad paste would leave it."""
    image, thing = world.draw(scene), scene.things[index]
    x = thing.x + thing.radius * (-1 if thing.x > SIDE / 2 else 1)  # the side that faces the middle
    half = round(0.8 * thing.radius)
    box = (x - half, thing.y - half, x + half, thing.y + half)
    image.paste(image.crop(box).transpose(Image.Transpose.FLIP_LEFT_RIGHT), box)
    return image


def forensic_detection(rng: random.Random, **knobs: Any) -> Question:
    """Which of four pictures is untouched? Bad pastes stand for generated photographs, so shapes are the clue."""
    answer = rng.choice(IMAGES)
    scenes = [_scene(rng, rng.randint(4, 7), **knobs) for _ in IMAGES]
    pasted = [None if name == answer else rng.randrange(len(s.things)) for name, s in zip(IMAGES, scenes, strict=True)]
    return Question(
        "Forensic_Detection",
        "Three of the four images were retouched: a piece of each was pasted in. Which one was not retouched?",
        IMAGES,
        answer,
        lambda: [world.draw(s) if k is None else _retouched(s, k) for s, k in zip(scenes, pasted, strict=True)],
        {"pasted": pasted},
    )


def jigsaw(rng: random.Random, **knobs: Any) -> Question:
    """Which of two pieces is the missing corner? The other one is of another picture on the same ground.

    Things are cut by the seam, so that shape, colour and place decide.
    """
    answer = rng.choice(SECOND_OR_THIRD)
    scene, other = (_scene(rng, world.CELLS**2, **knobs) for _ in range(2))
    other = dataclasses.replace(other, seed=scene.seed)
    box = (CORNER, CORNER, SIDE, SIDE)

    def draw() -> list[Image.Image]:
        image, wrong = world.draw(scene), world.draw(other).crop(box)
        right = image.crop(box)
        image.paste("black", box)
        return [image, right, wrong] if answer == SECOND_OR_THIRD[0] else [image, wrong, right]

    return Question(
        "Jigsaw",
        "The lower right corner of the first image is missing. Which one of the second image or the third image is it?",
        SECOND_OR_THIRD,
        answer,
        draw,
        general.truth(scene),
    )


def multi_view(rng: random.Random, **knobs: Any) -> Question:
    """Does the camera move left or right? It slides along a flat scene: no depth, so no parallax."""
    answer = rng.choice(("left", "right"))
    scene, shift = _scene(rng, rng.randint(9, 14), **knobs), rng.randint(60, 150)
    start = rng.randint(0, SIDE - FRAME - shift)
    starts = (start + shift, start) if answer == "left" else (start, start + shift)
    return Question(
        "Multi-view_Reasoning",
        "The images are frames from a video: the first is from its beginning, the second from its end. Is the camera "
        "moving left or right?",
        ("left", "right"),
        answer,
        lambda: [world.draw(scene).crop((left, 0, left + FRAME, SIDE)) for left in starts],
        {"starts": list(starts)},
    )


def visual_similarity(rng: random.Random, **knobs: Any) -> Question:
    """Which of two pictures is more like the first? One thing differs in the one, most things in the other."""
    answer = rng.choice(SECOND_OR_THIRD)
    scene = _scene(rng, rng.randint(7, 10), **knobs)
    names = [thing.name for thing in scene.things]

    def changed(count: int) -> Scene:
        chosen = rng.sample(range(len(names)), count)
        return general.with_names(scene, {k: rng.choice([name for name in NAMES if name != names[k]]) for k in chosen})

    scenes = [scene, changed(1), changed(len(names) - 2)]
    if answer == SECOND_OR_THIRD[1]:
        scenes = [scene, scenes[2], scenes[1]]
    return Question(
        "Visual_Similarity",
        "Take the first image as the reference. Which one of the other two images is most similar to it?",
        SECOND_OR_THIRD,
        answer,
        lambda: [world.draw(found) for found in scenes],
        {"names": [[thing.name for thing in found.things] for found in scenes]},
    )


# --- one scene -----------------------------------------------------------------------------------------


def counting(rng: random.Random, **knobs: Any) -> Question:
    """How many are there? The counted things differ from all others in name; none hides another."""
    options = tuple(map(str, rng.sample(range(1, 8), 4)))
    answer, asked = rng.choice(options), rng.choice(NAMES)
    names = [asked] * int(answer) + general.others(rng, rng.randint(3, 8), asked)
    text = f"How many {asked}{'es' if asked.endswith('cross') else 's'} are in the image?"
    return general.about(world.make_scene(rng, names=names, **knobs), "Counting", text, options, answer, asked=asked)


def object_localization(rng: random.Random, **knobs: Any) -> Question:
    """Which of two drawn boxes is right? The other one is moved and of another size, and overlaps by half at most."""
    options = ("Box A", "Box B")
    answer, names = rng.choice(options), rng.sample(NAMES, rng.randint(4, 8))
    scene = world.make_scene(rng, names=names, **knobs)
    left, top, right, bottom = true = scene.things[0].box
    while True:
        dx, dy = (rng.choice((-1, 1)) * rng.randint(0, 40) for _ in range(2))
        more_x, more_y = (rng.randint(-20, 20) for _ in range(2))
        wrong = (left + dx - more_x, top + dy - more_y, right + dx + more_x, bottom + dy + more_y)
        if 0.2 < overlap(true, wrong) < 0.5 and min(wrong) >= 30 and max(wrong) < SIDE - 30:
            break
    boxes = [true, wrong] if answer == options[0] else [wrong, true]

    def draw() -> list[Image.Image]:
        image = world.draw(scene)
        pen = ImageDraw.Draw(image)
        for name, box, ink in zip("AB", boxes, ("#e000b0", "black"), strict=True):
            pen.rectangle(box, outline=ink, width=4)
            place = (box[0] + 12, box[1] - 18) if name == "A" else (box[2] - 12, box[3] + 18)
            label(pen, place, name, size=26, ink=ink)
        return [image]

    text = f"Two boxes, A and B, are drawn on the image. Which one is the better bounding box of the {names[0]}?"
    return Question(
        "Object_Localization", text, options, answer, draw, general.truth(scene, drawn=list(map(list, boxes)))
    )


def overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Intersection over union of two boxes."""
    width, height = (min(a[k + 2], b[k + 2]) - max(a[k], b[k]) for k in (0, 1))
    both = max(width, 0) * max(height, 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return both / (areas - both)


def spatial_relation(rng: random.Random, **knobs: Any) -> Question:
    """Is it so, yes or no? Places in the picture's plane only."""
    return general.relation(rng, "Spatial_Relation", **knobs)


HORIZON, NEAREST = 190, 440  # pixels: the horizon's height, and how far below it a thing at depth 1 stands


def relative_depth(rng: random.Random) -> Question:
    """Which of two points is nearer? Things stand on a floor in perspective; their own sizes differ by chance.

    Where a thing stands on the floor decides, and what hides what; sizes mislead a little. No photograph.
    """
    options = ("A is closer", "B is closer")
    answer = rng.choice(options)
    while True:
        standing = []
        for lane in rng.sample(range(5), 5):  # beside each other, so that no marked point is hidden
            depth, size = rng.uniform(1.1, 3.5), rng.uniform(0.8, 1.25)
            radius = 88 * size / depth
            x = 90 + 123 * lane + rng.uniform(-20, 20)
            standing.append((depth, x, HORIZON + NEAREST / depth - radius, radius))
        a, b = sorted(standing[:2]) if answer == options[0] else sorted(standing[:2])[::-1]
        near, far = sorted((a, b))
        hidden = any(
            depth < point[0] and abs(x - point[1]) < radius + 14
            for point in (a, b)
            for depth, x, _, radius in standing
            if x != point[1]
        )
        if far[0] >= 1.35 * near[0] and not hidden:
            break
    looks = [(rng.choice(SHAPES), rng.choice(list(COLOURS))) for _ in standing]
    ground = (rng.randint(190, 220), rng.randint(180, 205), rng.randint(160, 190))

    def draw() -> list[Image.Image]:
        image = Image.new("RGB", (SIDE, SIDE), "#dfe8f0")
        pen = ImageDraw.Draw(image)
        pen.rectangle((0, HORIZON, SIDE, SIDE), ground)
        for k in range(-14, 15):
            pen.line((SIDE / 2, HORIZON, SIDE / 2 + 160 * k, SIDE), "#8d867c", 1)
        for k in range(1, 12):
            pen.line((0, HORIZON + NEAREST / (0.4 * k), SIDE, HORIZON + NEAREST / (0.4 * k)), "#8d867c", 1)
        for (_, x, y, radius), (name, colour) in sorted(zip(standing, looks, strict=True), reverse=True):
            pen.ellipse((x - radius, y + 0.8 * radius, x + radius, y + 1.15 * radius), "#6f695f")
            shape(pen, name, (x, y), radius, COLOURS[colour])
        mark(image, a[1:3], "A")
        mark(image, b[1:3], "B")
        return [image]

    text = "Two points are circled on the image, labeled by A and B. Which point is closer to the camera?"
    return Question("Relative_Depth", text, options, answer, draw, {"depths": {"A": a[0], "B": b[0]}})


def relative_reflectance(rng: random.Random) -> Question:
    """Which of two discs has the darker surface? A shadow falls across a chequered ground of two known greys.

    Judged against the tiles around it, as in the chequer-shadow illusion. No photograph, no colours, no gloss.
    """
    options = ("A is darker", "B is darker", "About the same")
    answer = rng.choice(options)
    dark, light = rng.uniform(0.3, 0.5), rng.uniform(0.75, 0.95)
    same = rng.choice((dark, light))
    albedos = {"A is darker": (dark, light), "B is darker": (light, dark), "About the same": (same, same)}[answer]
    places = [(rng.randint(90, 250), rng.randint(90, 580)), (rng.randint(420, 580), rng.randint(90, 580))]
    rng.shuffle(places)
    left_light, right_light = rng.sample((1.0, rng.uniform(0.4, 0.6)), 2)
    edge, softness = rng.uniform(300, 370), rng.uniform(12, 40)

    def draw() -> list[Image.Image]:
        y, x = np.mgrid[:SIDE, :SIDE]
        surface = np.where((x // 56 + y // 56) % 2, 0.8, 0.45)
        for (across, down), albedo in zip(places, albedos, strict=True):
            surface[(x - across) ** 2 + (y - down) ** 2 <= 48**2] = albedo
        shade = left_light + (right_light - left_light) / (1 + np.exp(-(x - edge) / softness))
        image = Image.fromarray((245 * surface * shade).astype(np.uint8)).convert("RGB")
        for name, place in zip("AB", places, strict=True):
            mark(image, place, name)
        return [image]

    return Question(
        "Relative_Reflectance",
        "Two points, A and B, are marked on the image. Consider the color of the surfaces without the effect of light "
        "and shadow. Which point has the darker surface, or is it about the same?",
        options,
        answer,
        draw,
        {"albedos": dict(zip("AB", albedos, strict=True)), "points": dict(zip("AB", map(list, places), strict=True))},
    )


# --- a series ------------------------------------------------------------------------------------------


def _dots_on_die(pen: Pen, at: Place, count: int) -> None:
    for k in range(count):
        x, y = at[0] - 30 + 30 * (k % 3), at[1] - 30 + 30 * (k // 3)
        pen.ellipse((x - 9, y - 9, x + 9, y + 9), INK)


def _hand(pen: Pen, at: Place, eighth: int) -> None:
    pen.ellipse((at[0] - 44, at[1] - 44, at[0] + 44, at[1] + 44), outline=INK, width=2)
    arrow(pen, at, turned((at[0], at[1] - 42), at, 45 * eighth), width=4)


SERIES: dict[str, tuple[Callable[[Pen, Place, int], None], int]] = {  # how to draw a figure, how many there are
    "count": (_dots_on_die, 9),
    "turn": (_hand, 8),
    "form": (lambda pen, at, k: shape(pen, SHAPES[k], at, 36, "#8fa6c4"), 4),
    "size": (lambda pen, at, k: shape(pen, "square", at, 8 + 5 * k, "#c4a68f"), 8),
}


def iq_test(rng: random.Random) -> Question:
    """Which figure continues the series? One rule of four: one more, one turn on, one form on, one size on.

    BLINK's are sheets of many kinds of puzzles, most of them with two rules at once.
    """
    options = ("picture A", "picture B", "picture C", "picture D")
    answer, rule = rng.choice(options), rng.choice(list(SERIES))
    kinds = SERIES[rule][1]
    if rule in ("turn", "form"):  # rules that go round
        step, start = rng.choice((1, 3)), rng.randrange(kinds)
        series = [(start + step * k) % kinds for k in range(5)]
    else:
        step, start = rng.choice((-1, 1)), rng.randrange(5, kinds) if rule == "count" else rng.randrange(4, kinds)
        series = [start - 4 + k for k in range(5)][::step]
    lowest = 1 if rule == "count" else 0
    wrong = [value for value in range(lowest, kinds + lowest) if value != series[4]]
    choices = rng.sample(wrong, 3)
    choices.insert(options.index(answer), series[4])

    def draw() -> list[Image.Image]:
        image = Image.new("RGB", (SIDE, 420), "white")
        pen, figure = ImageDraw.Draw(image), SERIES[rule][0]
        for k in range(5):
            x = 72 + 132 * k
            pen.rectangle((x - 58, 32, x + 58, 148), outline=INK, width=2)
            if k < 4:
                figure(pen, (x, 90), series[k])
        label(pen, (72 + 132 * 4, 90), "?", size=54)
        for k, value in enumerate(choices):
            x = 138 + 132 * k
            pen.rectangle((x - 58, 232, x + 58, 348), outline=INK, width=2)
            figure(pen, (x, 290), value)
            label(pen, (x, 382), "ABCD"[k], size=28)
        return [image]

    text = "The upper row is a series. Which one of the pictures A, B, C and D comes next?"
    return Question("IQ_Test", text, options, answer, draw, {"rule": rule, "series": series, "choices": choices})


TASKS: dict[str, Callable[..., Question]] = {
    "Art_Style": art_style,
    "Counting": counting,
    "Forensic_Detection": forensic_detection,
    "Functional_Correspondence": correspondence.functional_correspondence,
    "IQ_Test": iq_test,
    "Jigsaw": jigsaw,
    "Multi-view_Reasoning": multi_view,
    "Object_Localization": object_localization,
    "Relative_Depth": relative_depth,
    "Relative_Reflectance": relative_reflectance,
    "Semantic_Correspondence": correspondence.semantic_correspondence,
    "Spatial_Relation": spatial_relation,
    "Visual_Correspondence": correspondence.visual_correspondence,
    "Visual_Similarity": visual_similarity,
}
OF_SCENES = (
    "Art_Style", "Counting", "Forensic_Detection", "Jigsaw", "Multi-view_Reasoning", "Object_Localization",
    "Spatial_Relation", "Visual_Correspondence", "Visual_Similarity",
)  # fmt: skip
SMALLEST = 20  # pixels, of a radius


def blink(rng: random.Random, task: str, *, radii: tuple[int, int] = RADII) -> Question:
    """A question of one task; `radii` are those of the things (original pixels) in the tasks of `OF_SCENES`."""
    if radii[0] < SMALLEST:
        raise ValueError(f"radii {radii}: below {SMALLEST} pixels a mark hides what it is set on")
    return TASKS[task](rng, radii=radii) if task in OF_SCENES else TASKS[task](rng)


def blink_row(question: Question) -> dict[str, Any]:
    """The question with the columns of `BLINK-Benchmark/BLINK`."""
    images: list[bytes | None] = [png(image) for image in question.draw()]
    images += [None] * (4 - len(images))
    return {
        "question": question.text,
        "sub_task": question.kind,
        **{f"image_{number}": image for number, image in enumerate(images, start=1)},
        "choices": list(question.options),
        "answer": f"({chr(ord('A') + question.place)})",
    }
