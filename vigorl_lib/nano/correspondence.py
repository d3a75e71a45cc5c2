"""BLINK's tasks of corresponding points in miniature: a reference in one picture, four points in another.

All places are pixels of the picture that they are in, 672 x 672.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from vigorl_lib.nano import world
from vigorl_lib.nano.drawing import INK, Place, Question, mark, turned
from vigorl_lib.nano.world import COLOURS, NAMES, SIDE

POINTS = ("Point A", "Point B", "Point C", "Point D")


@dataclasses.dataclass(frozen=True)
class Pose:
    """How a drawing around (0, 0) lies in a picture: mirrored, turned clockwise, scaled, moved."""

    middle: Place
    scale: float
    degrees: float
    mirrored: bool = False

    def place(self, at: Place) -> Place:
        x, y = turned((-at[0] if self.mirrored else at[0], at[1]), (0, 0), self.degrees)
        return self.middle[0] + self.scale * x, self.middle[1] + self.scale * y


def _corresponding(
    rng: random.Random, kind: str, text: str, draw: Callable, points: list[Place], ref: Place
) -> Question:
    """REF in the first image; in the second, `points` under shuffled letters, of which the first one is right.

    `draw` makes both pictures without marks.
    """
    answer = rng.choice(POINTS)
    shuffled = rng.sample(points[1:], len(points) - 1)
    shuffled.insert(POINTS.index(answer), points[0])

    def marked() -> list[Image.Image]:
        first, second = draw()
        mark(first, ref, "REF")
        for name, point in zip("ABCD", shuffled, strict=True):
            mark(second, point, name)
        return [first, second]

    places = dict(zip("ABCD", ([round(x), round(y)] for x, y in shuffled), strict=True))
    return Question(kind, text, POINTS, answer, marked, {"ref": [round(ref[0]), round(ref[1])], "points": places})


def visual_correspondence(rng: random.Random, **knobs: Any) -> Question:
    """Where is the same point after the camera was turned, moved and the light has changed? The scene is flat."""
    while True:
        scene = world.make_scene(rng, names=rng.choices(NAMES, k=rng.randint(8, 12)), **knobs)
        middle = SIDE / 2 + rng.randint(-40, 40), SIDE / 2 + rng.randint(-40, 40)
        pose = Pose(middle, rng.uniform(0.75, 1), rng.uniform(-35, 35))
        chosen = rng.sample(scene.things, 4)
        points = [pose.place((thing.x - SIDE / 2, thing.y - SIDE / 2)) for thing in chosen]
        if all(30 <= side <= SIDE - 30 for point in points for side in point):
            break
    light = rng.uniform(0.5, 0.85)

    def draw() -> list[Image.Image]:
        image = world.draw(scene)
        (a, d), (b, e) = (turned(at, (0, 0), -pose.degrees) for at in ((1 / pose.scale, 0), (0, 1 / pose.scale)))
        x, y = pose.middle
        back = (a, b, SIDE / 2 - a * x - b * y, d, e, SIDE / 2 - d * x - e * y)  # where each pixel comes from
        moved = image.transform(image.size, Image.Transform.AFFINE, back, fillcolor=image.getpixel((0, 0)))
        return [image, moved.point(lambda value: round(value * light))]

    text = (
        "A point is circled on the first image, labeled with REF. The camera's position and the light change for the "
        "second image. Which one of the points A, B, C and D in it is the same point?"
    )
    ref = (chosen[0].x, chosen[0].y)
    return _corresponding(rng, "Visual_Correspondence", text, draw, points, ref)


PARTS: dict[str, Place] = {"head": (150, -20), "tail": (-150, 10), "wing": (0, -120), "foot": (10, 120)}


def _creature(pose: Pose, colours: list[str]) -> Image.Image:
    image = Image.new("RGB", (SIDE, SIDE), "#f3efe6")
    pen, place = ImageDraw.Draw(image), pose.place
    outline = lambda corners, colour: pen.polygon([place(at) for at in corners], COLOURS[colour], INK, 3)  # noqa: E731
    outline([(-20, -60), (0, -165), (60, -150), (40, -60)], colours[0])  # wing
    outline([(-90, -20), (-190, -50), (-170, 60), (-90, 30)], colours[1])  # tail
    outline([(-15, 60), (0, 135), (50, 135), (30, 60)], colours[2])  # foot
    outline([(100 * np.cos(a), 70 * np.sin(a)) for a in np.linspace(0, 6.2, 40)], colours[3])
    outline([(145 + 48 * np.cos(a), -20 + 48 * np.sin(a)) for a in np.linspace(0, 6.2, 40)], colours[4])
    outline([(186, -30), (232, -12), (186, 6)], "yellow")  # beak
    return image


def semantic_correspondence(rng: random.Random) -> Question:
    """Which point is on the same part? Two drawn creatures of one plan, with other colours, size, side and posture."""
    names = rng.sample(list(PARTS), len(PARTS))
    poses = [
        Pose((SIDE / 2, SIDE / 2), rng.uniform(0.9, 1.25), rng.uniform(-35, 35), rng.random() < 0.5) for _ in range(2)
    ]
    colours = [rng.choices([name for name in COLOURS if name != "yellow"], k=5) for _ in poses]
    text = (
        "A point is circled on the first image, labeled with REF. Which one of the points A, B, C and D in the second "
        "image is on the same part of its animal?"
    )
    points = [poses[1].place(PARTS[name]) for name in names]
    draw = lambda: [_creature(pose, paint) for pose, paint in zip(poses, colours, strict=True)]  # noqa: E731
    return _corresponding(rng, "Semantic_Correspondence", text, draw, points, poses[0].place(PARTS[names[0]]))


ROLES = ("hang it up", "hold it", "join its ends", "work with it")
HEADS: dict[str, list[Place]] = {  # outlines of what a tool works with, along its axis
    "hammer": [(150, -75), (215, -75), (215, 75), (150, 75)],
    "spade": [(140, -55), (205, -60), (255, 0), (205, 60), (140, 55)],
    "fork": [(140, -50), (250, -50), (250, -30), (175, -30), (175, -10), (250, -10), (250, 10), (175, 10), (175, 30),
             (250, 30), (250, 50), (140, 50)],
    "spoon": [(190 + 60 * np.cos(a), 42 * np.sin(a)) for a in np.linspace(0, 6.2, 30)],
    "knife": [(130, -22), (270, -22), (240, 30), (130, 34)],
}  # fmt: skip


def _tool(pose: Pose, head: str, colours: list[str], grip: int) -> Image.Image:
    image = Image.new("RGB", (SIDE, SIDE), "#eef1ee")
    pen, place = ImageDraw.Draw(image), pose.place
    outline = lambda corners, fill: pen.polygon([place(at) for at in corners], fill, INK, 3)  # noqa: E731
    outline([(grip - 60, -11), (160, -11), (160, 11), (grip - 60, 11)], "#9aa0a6")  # neck
    outline([(-170, -26), (grip, -26), (grip, 26), (-170, 26)], COLOURS[colours[0]])
    outline(HEADS[head], COLOURS[colours[1]])
    ring = [(-195 + 28 * np.cos(a), 28 * np.sin(a)) for a in np.linspace(0, 6.2, 30)]
    pen.line([place(at) for at in (*ring, ring[0])], INK, 9, joint="curve")
    return image


def functional_correspondence(rng: random.Random) -> Question:
    """Which point of another tool is for the same action? Drawn tools with a ring, a grip, a neck and a head.

    The action is not named, and the tools share their plan; BLINK names one, and its tools may differ in all else.
    """
    heads = rng.sample(list(HEADS), 2)
    grips = [rng.randint(-60, 20) for _ in heads]
    places = [
        dict(zip(ROLES, [(-195, -28), ((grip - 170) / 2, 0), ((grip + 135) / 2, 0), (195, -10)], strict=True))
        for grip in grips
    ]
    poses = [Pose((SIDE / 2, SIDE / 2), rng.uniform(0.95, 1.2), rng.uniform(0, 360)) for _ in heads]
    colours = [rng.sample(list(COLOURS), 2) for _ in heads]
    names = rng.sample(ROLES, len(ROLES))
    text = (
        "Points of different tools correspond where they serve the same action. A point is circled on the first image, "
        "labeled with REF. Which one of the points A, B, C and D in the second image corresponds to it?"
    )
    points = [poses[1].place(places[1][name]) for name in names]
    draw = lambda: [_tool(*parts) for parts in zip(poses, heads, colours, grips, strict=True)]  # noqa: E731
    return _corresponding(rng, "Functional_Correspondence", text, draw, points, poses[0].place(places[0][names[0]]))
