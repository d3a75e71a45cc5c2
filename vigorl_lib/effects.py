"""What a disagreement of paper and released code is worth at nano size: one function for a row of `params/ledger.yaml`.

Each takes a `Lab`, which says how much is measured and where replies are kept, and returns a `Pair`: the means of the
row's metric under its two settings, `first` and `second`, on the same questions. Models are the shipped checkpoints;
where a row is about training, the shipped SFT or base is trained a little further under each setting.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from PIL import Image

from vigorl_lib import prompts, rewards, training
from vigorl_lib.answers import released_string_match
from vigorl_lib.behaviours import count_behaviours
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.evaluation import load_predictions, predict
from vigorl_lib.faithfulness import follows_route, with_other_crops
from vigorl_lib.grounding import Point, crop_window
from vigorl_lib.images import cut_crop
from vigorl_lib.policy import Completion, LocalPolicy, load_policy, step_policy
from vigorl_lib.prompts import Mode
from vigorl_lib.records import Example, Prediction
from vigorl_lib.runs import PACKAGE
from vigorl_lib.search import linearise
from vigorl_lib.search.gather import gather, read_trees
from vigorl_lib.search.mcts import SearchSettings, search
from vigorl_lib.search.tree import Tree, steps_along
from vigorl_lib.traces import parse_trace
from vigorl_lib.training import GRPOSettings, SFTSettings
from vigorl_lib.views import Zoom

CHECKPOINTS = PACKAGE / "checkpoints"
GROUP = 6  # episodes of one question, as in notebooks 04 and 05
BATCH = 16  # chains in one SFT step
LIMIT = 260  # tokens of an episode, crops included: notebook 05
DOTTED = prompts.OBSERVATION.removesuffix(":") + ", with a red dot at the coordinate location:"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much one seed of a row measures.

    items  held-out questions of a twin
    trees  training questions that are searched
    groups questions of which `GROUP` episodes with a zoom are sampled
    steps  updates of a GRPO run, and of one pass of SFT over its chains
    """

    items: int
    trees: int
    groups: int
    steps: int


@dataclasses.dataclass(frozen=True)
class Lab:
    """Where one seed is measured: replies and trees go to `folder` as they come, and are not made twice."""

    seed: int
    folder: Path
    sizes: Sizes


@dataclasses.dataclass(frozen=True)
class Pair:
    """The means of a metric under a row's two settings, over `n` items."""

    first: float
    second: float
    n: int


def _pair(first: Iterable[float], second: Iterable[float]) -> Pair:
    one, other = [float(value) for value in first], [float(value) for value in second]
    return Pair(mean(one), mean(other), len(one))


# --- questions, models, replies -----------------------------------------------------------------------------


@functools.cache
def shipped(name: str) -> LocalPolicy:
    """The policy of a shipped checkpoint, loaded once."""
    return load_policy(CHECKPOINTS / name)


@functools.lru_cache(maxsize=8)
def questions(lab: Lab, benchmark: str, split: str = "test") -> tuple[Example, ...]:
    """The lab's questions: held-out ones, or of the training split as many as it searches."""
    limit = lab.sizes.items if split == "test" else lab.sizes.trees
    source = "nano" if benchmarks.FAMILIES[benchmark].nano else "twin"
    return tuple(benchmarks.load(benchmark, source, split=split, limit=limit, seed=lab.seed))


def replies(
    lab: Lab,
    name: str,
    policy: Callable[[], LocalPolicy],
    examples: Sequence[Example],
    mode: Mode,
    *,
    temperature: float = 0.5,
    zoom: Zoom | None = None,
) -> list[Prediction]:
    """What a policy says to each example, kept under `name`; made (trained, say) only where a reply is missing."""
    path = lab.folder / f"{name}.jsonl"
    known = load_predictions(path)
    if all(example.id in known for example in examples):
        return [known[example.id] for example in examples]
    sampling = {"max_new_tokens": 96, "temperature": temperature, "seed": lab.seed}
    return predict(policy(), examples, mode, path, zoom=zoom, title=name, **sampling)


def scores(given: Sequence[Prediction], examples: Sequence[Example], protocol: str = "clean") -> list[float]:
    """The grade of each reply."""
    pairs = zip(given, examples, strict=True)
    return [benchmarks.grade(item.benchmark, reply.turns, item, protocol).score for reply, item in pairs]


def _walks(lab: Lab) -> list[Prediction]:
    """ViGoRL's replies to the SAT-2 twin, one turn."""
    return replies(lab, "sat2", lambda: shipped("grpo"), questions(lab, "sat2"), "grounded")


def _zoomed(lab: Lab, name: str = "zoom", *, zoom: Zoom | None = None, **changes: Any) -> list[float]:
    """The zoom model's accuracy on the V* twin, item by item; `changes` is one of the interventions below."""

    def policy() -> LocalPolicy:
        found = shipped("zoom")
        if "cut" in changes:
            return with_other_crops(found, changes["cut"])
        return with_other_words(found, changes["rewrite"]) if "rewrite" in changes else found

    examples = questions(lab, "vstar")
    return scores(replies(lab, name, policy, examples, "zoom", zoom=zoom or Zoom()), examples)


def with_other_words(policy: LocalPolicy, rewrite: Callable[[str], str]) -> LocalPolicy:
    """The policy, but every text that is not its own is rewritten before it reads it."""

    def block(found: Mapping[str, Any]) -> dict[str, Any]:
        return {**found, "text": rewrite(found["text"])} if found["type"] == "text" else dict(found)

    def message(found: Mapping[str, Any]) -> dict[str, Any]:
        content = found["content"]
        if found["role"] == "assistant":
            return dict(found)
        return {**found, "content": rewrite(content) if isinstance(content, str) else [block(b) for b in content]}

    return _listening(policy, lambda talks, **how: policy.complete([[message(m) for m in t] for t in talks], **how))


def with_forced_answer(policy: LocalPolicy, looks: int) -> LocalPolicy:
    """The policy, but after its last look its turn begins with the fixed thought and an opened answer, as released."""
    opening = f"<think> {linearise.FINAL_THOUGHT} </think>\n<answer>"

    def complete(talks: Sequence[Sequence[Mapping[str, Any]]], **how: Any) -> list[Completion]:
        begun = [opening if sum(m["role"] == "tool" for m in talk) == looks else "" for talk in talks]
        written = policy.complete(talks, prefixes=begun, **how)
        return [dataclasses.replace(w, text=b + w.text) for b, w in zip(begun, written, strict=True)]

    return _listening(policy, complete)


def _listening(policy: LocalPolicy, complete: Callable[..., list[Completion]]) -> LocalPolicy:
    other = LocalPolicy(policy.model, policy.processor, batch_size=policy.batch_size)
    other.complete = complete
    return other


# --- what is read ----------------------------------------------------------------------------------------------


def literal_newlines(lab: Lab) -> Pair:
    """Accuracy on the SAT-2 twin with line ends in the question, and with a backslash and an n in their place."""
    examples = questions(lab, "sat2")
    literal = replies(
        lab,
        "sat2_literal",
        lambda: with_other_words(shipped("grpo"), lambda text: text.replace("\n", "\\n")),
        examples,
        "grounded",
    )
    return _pair(scores(_walks(lab), examples), scores(literal, examples))


def observation_words(lab: Lab) -> Pair:
    """Accuracy on the V* twin where the observation speaks as in training, and where it tells of a red dot."""
    dotted = _zoomed(lab, "zoom_dotted", rewrite=lambda text: text.replace(prompts.OBSERVATION, DOTTED))
    return _pair(_zoomed(lab), dotted)


def forced_answer(lab: Lab) -> Pair:
    """Accuracy on the V* twin where the observation says that the answer is due, and where it is forced open."""
    examples = questions(lab, "vstar")
    zoom = Zoom()
    forced = replies(
        lab, "zoom_forced", lambda: with_forced_answer(shipped("zoom"), zoom.looks), examples, "zoom", zoom=zoom
    )
    return _pair(_zoomed(lab), scores(forced, examples))


def crop_window_of_evaluation(lab: Lab) -> Pair:
    """Accuracy on the V* twin with the crop's window of the training, and with one of twice its side."""
    wide = _zoomed(lab, "zoom_wide", zoom=Zoom(offset=2 * Zoom().offset))
    return _pair(_zoomed(lab), wide)


def crop_border(lab: Lab) -> Pair:
    """Accuracy on the V* twin with windows moved inside the picture, and clipped at its border and stretched."""
    return _pair(_zoomed(lab), _zoomed(lab, "zoom_clipped", cut=_clipped))


def crop_frame(lab: Lab) -> Pair:
    """Accuracy on the V* twin with points read in the frame that the model writes, and as pixels of the file."""
    return _pair(_zoomed(lab), _zoomed(lab, "zoom_unscaled", cut=_unscaled))


def looks(lab: Lab) -> Pair:
    """Accuracy on the V* twin with at most five looks, and with at most four."""
    five, four = (_zoomed(lab, f"zoom_{count}", zoom=Zoom(looks=count)) for count in (5, 4))
    return _pair(five, four)


def _clipped(example: Example, point: tuple[int, int], zoom: Zoom) -> Image.Image:
    return _cut(example, point, zoom, "clip", unscaled=False)


def _unscaled(example: Example, point: tuple[int, int], zoom: Zoom) -> Image.Image:
    return _cut(example, point, zoom, "shift", unscaled=True)


def _cut(example: Example, point: tuple[int, int], zoom: Zoom, border: Any, *, unscaled: bool) -> Image.Image:
    view = shipped("zoom").view_of(example)
    original = view.original_frame
    place = Point(*point, original if unscaled else view.frame)
    window = crop_window(place, offset=zoom.offset, original=original, border=border)
    return cut_crop(view.original, window, (zoom.size, zoom.size))


# --- how it is graded ------------------------------------------------------------------------------------------


def substring_judge(lab: Lab) -> Pair:
    """Accuracy on the V* twin, whole answers compared, and the gold letter looked for inside the answer."""
    examples = questions(lab, "vstar")
    given = replies(lab, "zoom", lambda: shipped("zoom"), examples, "zoom", zoom=Zoom())
    return _pair(scores(given, examples), scores(given, examples, "vigorl"))


def missing_rows(lab: Lab) -> Pair:
    """The base's accuracy on the SAT-2 twin over all questions, and over those that it answered."""
    examples = questions(lab, "sat2")
    given = replies(lab, "sat2_base", lambda: shipped("base"), examples, "grounded", temperature=1.0)
    pairs = zip(given, examples, strict=True)
    grades = [benchmarks.grade("sat2", reply.turns, item) for reply, item in pairs]
    return _pair([g.score for g in grades], [g.score for g in grades if g.extracted is not None])


def gold_case(lab: Lab) -> Pair:
    """The accuracy reward of the same replies, both sides without case, and the gold as it stands, with capitals."""
    earned = []
    for reply, item in zip(_walks(lab), questions(lab, "sat2"), strict=True):
        options = tuple(option.capitalize() for option in item.options)
        raised = dataclasses.replace(item, options=options, answer=item.answer.capitalize())
        earned.append([_reward(reply, raised, "grounded", protocol).accuracy for protocol in rewards.PROTOCOLS])
    return _pair([clean for _, clean in earned], [released for released, _ in earned])


def boxes_not_rescaled(lab: Lab) -> Pair:
    """Accuracy on ScreenSpot's twin with boxes in the frame of the points, and left in pixels of the original."""
    examples = questions(lab, "screenspot")
    policy = shipped("grpo")
    given = replies(lab, "screenspot", lambda: policy, examples, "grounded")
    framed = [
        benchmarks.grade("screenspot", reply.turns, item, frame=policy.frame_of(item)).score
        for reply, item in zip(given, examples, strict=True)
    ]
    return _pair(framed, scores(given, examples))


def behaviours_of_right(lab: Lab) -> Pair:
    """Regions named in a trace of ViGoRL on the SAT-2 twin: of right traces, and of all."""
    examples = questions(lab, "sat2")
    given = _walks(lab)
    regions = [count_behaviours(r.turns, x.truth["names"]).regions for r, x in zip(given, examples, strict=True)]
    right = [count for count, score in zip(regions, scores(given, examples), strict=True) if score]
    return _pair(right, regions)


def coordinate_reward(lab: Lab) -> Pair:
    """The coordinate reward of the SFT model's samples: all points inside the picture, and one point anywhere."""
    examples = questions(lab, "sat2")
    given = replies(lab, "sat2_sft", lambda: shipped("sft"), examples, "grounded", temperature=1.0)
    earned = [
        [_reward(reply, item, "grounded", protocol).coordinate for protocol in rewards.PROTOCOLS]
        for reply, item in zip(given, examples, strict=True)
    ]
    return _pair([clean for _, clean in earned], [released for released, _ in earned])


def _reward(reply: Prediction, item: Example, mode: Mode, protocol: rewards.Protocol) -> rewards.Reward:
    frame = shipped("zoom" if mode == "zoom" else "sft").view_of(item).frame
    return rewards.score(reply.turns, item, mode=mode, protocol=protocol, frame=frame)


# --- what is paid in several turns ------------------------------------------------------------------------------


def _episodes(lab: Lab) -> tuple[list[Example], list[Prediction]]:
    """Groups of `GROUP` sampled episodes of the zoom model, as GRPO would draw them."""
    asked = [
        dataclasses.replace(item, id=f"{item.id}#{k}")
        for item in benchmarks.load("vstar", split="train", limit=lab.sizes.groups, seed=lab.seed)
        for k in range(GROUP)
    ]
    given = replies(lab, "episodes", lambda: shipped("zoom"), asked, "zoom", temperature=1.0, zoom=Zoom())
    return asked, given


def _encouraged(totals: Sequence[float], accuracies: Sequence[float]) -> list[float]:
    """For each wrong episode, whether it earned more than the mean of its group: then it is made likelier."""
    flags = []
    for start in range(0, len(totals), GROUP):
        group = totals[start : start + GROUP]
        level = mean(group) + 1e-9
        rights = accuracies[start : start + GROUP]
        flags += [float(total > level) for total, right in zip(group, rights, strict=True) if not right]
    return flags or [0.0]


def first_look_paid(lab: Lab) -> Pair:
    """Wrong episodes that training makes likelier (share): with the bonus for every look, and beyond the first."""
    asked, given = _episodes(lab)
    earned = [_reward(reply, item, "zoom", "vigorl") for reply, item in zip(given, asked, strict=True)]
    calls = [parse_trace(reply.turns, zoom=True).calls for reply in given]
    every = [r.total + 0.4 * 0.2 * r.format * bool(found) for r, found in zip(earned, calls, strict=True)]
    accuracies = [r.accuracy for r in earned]
    return _pair(_encouraged(every, accuracies), _encouraged([r.total for r in earned], accuracies))


def reward_weights(lab: Lab) -> Pair:
    """Wrong episodes that training makes likelier (share): with .5 and .5 for answer and form, and with .6 and .4."""
    asked, given = _episodes(lab)
    earned = [_reward(reply, item, "zoom", "vigorl") for reply, item in zip(given, asked, strict=True)]
    accuracies = [r.accuracy for r in earned]
    halves = [0.5 * r.accuracy + 0.5 * (r.format + r.diversity) for r in earned]
    return _pair(_encouraged(halves, accuracies), _encouraged([r.total for r in earned], accuracies))


def bonus_of_wrong(lab: Lab) -> Pair:
    """Wrong episodes that training makes likelier (share): the bonus to right ones only, and to all."""
    asked, given = _episodes(lab)
    clean, released = (
        [_reward(reply, item, "zoom", protocol) for reply, item in zip(given, asked, strict=True)]
        for protocol in ("clean", "vigorl")
    )
    accuracies = [r.accuracy for r in clean]
    return _pair(*(_encouraged([r.total for r in found], accuracies) for found in (clean, released)))


def episode_limit(lab: Lab) -> Pair:
    """Episodes that do not end in time (share): with the limit of notebook 05, and with half of it."""
    asked, given = _episodes(lab)
    lengths = [_length(item, reply) for item, reply in zip(asked, given, strict=True)]
    return _pair([n > LIMIT for n in lengths], [n > LIMIT // 2 for n in lengths])


def _length(item: Example, reply: Prediction) -> int:
    """Tokens of an episode behind its prompt, crops included."""
    policy = shipped("zoom")
    talk = training.episode(item, policy.view_of(item), reply.turns, Zoom(), policy.dialect)
    prompt, whole = (
        policy.processor.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
        for messages in ([talk[:2]], [talk])
    )
    return len(whole[0]) - len(prompt[0])


# --- search ----------------------------------------------------------------------------------------------------


def _right(example: Example, answer: str) -> float:
    return float(benchmarks.right(example, answer))


@functools.lru_cache(maxsize=4)
def _trees(lab: Lab, name: str, settings: SearchSettings) -> tuple[Tree, ...]:
    """The trees of the lab's training questions of the SAT-2 twin, grown by the base."""
    examples = questions(lab, "sat2", "train")

    def grow(items: Iterable[Example]) -> Iterable[Any]:
        propose = step_policy(shipped("base"), "grounded", max_new_tokens=32)
        return search(items, propose, _right, settings, seed=lab.seed, batch_size=64, trees_in_flight=48)

    path = lab.folder / f"{name}.jsonl"
    for _ in gather(path, examples, grow):
        pass
    found = {tree.id: tree for tree in read_trees(path)}
    return tuple(found[example.id] for example in examples)


def _released_trees(lab: Lab) -> tuple[Tree, ...]:
    return _trees(lab, "trees", SearchSettings(simulations=20, max_depth=7))


def _solved(lab: Lab, trees: Iterable[Tree], simulations: int = 8) -> list[bool]:
    """Whether so many simulations found a right answer by the true route.

    What comes later in a tree does not change what was before.
    """
    items = {example.id: example for example in questions(lab, "sat2", "train")}
    view = shipped("base").view_of(next(iter(items.values())))  # all pictures of the twin are of one size
    return [
        any(
            ending.reward == 1 and follows_route(steps_along(tree.root, path) + ending.steps, items[tree.id], view)
            for path, node in tree.nodes()
            if node.simulation <= simulations
            for ending in node.rollouts
        )
        for tree in trees
    ]


def simulations(lab: Lab) -> Pair:
    """Questions of the SAT-2 twin that are solved by the true route (share), after 20 simulations and after 8."""
    trees = _released_trees(lab)
    return _pair(_solved(lab, trees, 20), _solved(lab, trees, 8))


def selection_score(lab: Lab) -> Pair:
    """The same in 8 simulations, by the paper's selection score and by the code's."""
    paper = _trees(lab, "trees_paper", SearchSettings(simulations=8, max_depth=7, ucb="paper"))
    return _pair(_solved(lab, paper), _solved(lab, _released_trees(lab)))


def search_judge(lab: Lab) -> Pair:
    """Endings of a search that count as right (share): whole answers compared, and the gold as a substring.

    Of an ending without an answer the released judge reads the last thought.
    """
    by_id = {example.id: example for example in questions(lab, "sat2", "train")}
    clean, released = [], []
    for tree in _released_trees(lab):
        for _, node in tree.nodes():
            for ending in node.rollouts:
                said = ending.answer if ending.answer is not None else (node.text, *ending.steps)[-1]
                clean.append(ending.reward == 1)
                released.append(released_string_match(by_id[tree.id].answer, said))
    return _pair(clean, released)


# --- short trainings ------------------------------------------------------------------------------------------


def _after(lab: Lab, name: str, train: Callable[[], LocalPolicy]) -> list[float]:
    """Accuracy on the SAT-2 twin after a training, item by item."""
    examples = questions(lab, "sat2")
    return scores(replies(lab, name, train, examples, "grounded"), examples)


def _sft(lab: Lab, name: str, *, passes: int, restart: bool = False) -> list[float]:
    """The base after so many passes over chains of the lab's trees."""

    def train() -> LocalPolicy:
        policy, _ = training.load_to_train(CHECKPOINTS / "base", lab.folder / name)
        pictures = {item.id: (item, policy.view_of(item)) for item in questions(lab, "sat2", "train")}
        found = [chain for tree in _released_trees(lab) for chain in linearise.chains(tree, restart=restart)]
        kept = [chain for chain in found if chain.points]
        rng = random.Random(lab.seed)
        kept = rng.sample(kept, min(len(kept), lab.sizes.steps * BATCH))
        if not kept:
            raise ValueError(f"{lab.folder}: the {lab.sizes.trees} trees hold no right chain; search more questions")
        steps = max(1, len(kept) // BATCH)
        order = [k for _ in range(passes + 1) for k in rng.sample(range(len(kept)), len(kept))]

        def talk(k: int) -> list[dict[str, Any]]:
            item, view = pictures[kept[k].tree_id]
            written = {"role": "assistant", "content": linearise.to_single(kept[k])}
            return [*policy.conversation(item, view.image, "grounded"), written]

        rows = training.lazy_rows(talk, (order * BATCH)[: passes * steps * BATCH])
        settings = SFTSettings(
            max_steps=passes * steps, learning_rate=5.0e-4, batch_size=BATCH, warmup_steps=3, seed=lab.seed
        )
        progress = [training.Progress(name)]
        trainer = training.sft_trainer(
            policy.model, policy.processor, rows, settings, lab.folder / name, callbacks=progress
        )
        training.train(trainer, None)
        return policy

    return _after(lab, name, train)


def _grpo(lab: Lab, name: str = "grpo", **changes: Any) -> list[float]:
    """The SFT model after a short GRPO run with the settings of notebook 04, but for `changes`."""

    def train() -> LocalPolicy:
        settings = GRPOSettings(
            max_steps=lab.sizes.steps,
            learning_rate=4.0e-4,
            prompts_per_step=8,
            group_size=GROUP,
            max_completion_length=80,
            warmup_steps=3,
            seed=lab.seed,
        )
        settings = dataclasses.replace(settings, **changes)
        policy, _ = training.load_to_train(CHECKPOINTS / "sft", lab.folder / name)
        count = max(settings.max_steps, settings.steps_per_generation) * settings.prompts_per_step
        examples = benchmarks.load("sat2", split="train", limit=count, seed=lab.seed)
        progress = [training.Progress(name, shown="reward")]
        trainer = training.grpo_trainer(policy, examples, "grounded", settings, lab.folder / name, callbacks=progress)
        training.train(trainer, None)
        return policy

    return _after(lab, name, train)


def epochs(lab: Lab) -> Pair:
    """Accuracy on the SAT-2 twin after three passes over the chains, and after one."""
    return _pair(_sft(lab, "sft", passes=3), _sft(lab, "sft_one_pass", passes=1))


def repeated_prefix(lab: Lab) -> Pair:
    """Accuracy on the SAT-2 twin after SFT where corrected chains go on, and where they begin again at the root."""
    return _pair(_sft(lab, "sft", passes=3), _sft(lab, "sft_restarts", passes=3, restart=True))


def warm_up(lab: Lab) -> Pair:
    """Accuracy on the SAT-2 twin after GRPO with a warm-up of three steps, and without."""
    return _pair(_grpo(lab), _grpo(lab, "grpo_cold", warmup_steps=0))


def update_batch(lab: Lab) -> Pair:
    """Accuracy on the SAT-2 twin after GRPO with four updates on a batch of rollouts, and with two twice as large."""
    half = max(1, lab.sizes.steps // 2)
    return _pair(_grpo(lab), _grpo(lab, "grpo_large", max_steps=half, prompts_per_step=16, steps_per_generation=2))


def advantage(lab: Lab) -> Pair:
    """Accuracy on the SAT-2 twin after GRPO with centred advantages, and with those divided by their spread."""
    return _pair(_grpo(lab, "grpo_centred", scale_rewards="none"), _grpo(lab))


def clip(lab: Lab) -> Pair:
    """Accuracy on the SAT-2 twin after GRPO clipped at .2 on both sides, and at .28 above."""
    return _pair(_grpo(lab, "grpo_clip", epsilon_high=0.2), _grpo(lab))


MEASURES: dict[str, Callable[[Lab], Pair]] = {
    measure.__name__: measure
    for measure in (
        literal_newlines, observation_words, forced_answer, crop_window_of_evaluation, crop_border, crop_frame, looks,
        substring_judge, missing_rows, gold_case, boxes_not_rescaled, behaviours_of_right, coordinate_reward,
        first_look_paid, reward_weights, bonus_of_wrong, episode_limit, simulations, selection_score, search_judge,
        epochs, repeated_prefix, warm_up, update_batch, advantage, clip,
    )
}  # fmt: skip
