"""What a web agent may do: VisualWebArena's id-based actions, read from a reply in time linear in its length.

The grammar, from `create_id_based_action` (case counts; what follows the last bracket does not):
`click [id]`, `hover [id]`, `type [id] [text] [0|1]` (1, the default: Enter afterwards), `clear [id]`, `press [keys]`,
`scroll [up|down]`, `goto [url]`, `new_tab`, `tab_focus [k]`, `close_tab`, `go_back`, `go_forward`, `stop [answer]`.
`benchmarks.visualwebarena.parse_action` is the narrower grammar of the offline steps, where all of the text counts.

Departures: text may span lines; `upload`, which the official parser can never read, is left out.
"""

from __future__ import annotations

import dataclasses
import re

from vigorl_lib.answers import last_answer

_NUMBERED = re.compile(r"(?:click|hover|clear|tab_focus) ?\[([0-9]{1,6}+)\]")
_TYPE = re.compile(r"type ?\[([0-9]{1,6}+)\] ?\[")
_SCROLL = re.compile(r"scroll ?\[?(up|down)")
_TEXT = re.compile(r"(?:press|goto|stop) ?\[")
BARE = ("new_tab", "close_tab", "go_back", "go_forward")
FLAGS = ("] [0", "] [1", "][0", "][1")


@dataclasses.dataclass(frozen=True)
class Action:
    """One action.

    verb     as in the grammar
    element  the number of an element, or of a tab (from 0); None where there is none
    content  what is typed, pressed, visited or answered, or the direction
    enter    whether Enter follows what is typed
    """

    verb: str
    element: int | None = None
    content: str = ""
    enter: bool = True

    def __str__(self) -> str:
        """The action in the grammar: `parse_action` reads it back."""
        if self.verb == "type":
            return f"type [{self.element}] [{self.content}] [{int(self.enter)}]"
        if self.element is not None:
            return f"{self.verb} [{self.element}]"
        return self.verb if self.verb in BARE else f"{self.verb} [{self.content}]"


def parse_action(text: str) -> Action | None:
    """The action that a text is; None for anything else."""
    text = text.strip()
    verb = text.partition("[")[0].strip() if "[" in text else text.split(maxsplit=1)[0] if text else ""
    if verb in BARE:
        return Action(verb)
    if verb == "type":
        return _typing(text)
    if verb == "scroll" or verb.startswith("scroll "):
        found = _SCROLL.match(text)
        return Action("scroll", content=found[1]) if found else None
    if verb in ("click", "hover", "clear", "tab_focus"):
        found = _NUMBERED.match(text)
        return Action(verb, int(found[1])) if found else None
    if verb in ("press", "goto", "stop"):
        found, end = _TEXT.match(text), text.rfind("]")
        content = text[found.end() : end] if found else ""
        return Action(verb, content=content) if content or verb == "stop" else None
    return None


def reply_action(reply: str) -> Action | None:
    """The action of a model's reply: in its last `<answer>`, else in its first ``` block, else the reply itself."""
    answer = last_answer(reply)
    text = reply if answer is None else answer
    if "```" in text:
        text = text.split("```", 2)[1]
    return parse_action(text)


def _typing(text: str) -> Action | None:
    found, end = _TYPE.match(text), text.rfind("]")
    if not found or end < found.end():
        return None
    content, enter = text[found.end() : end], True
    if content.endswith(FLAGS):
        content, enter = content[: content.rindex("]")], content.endswith("1")
    return Action("type", int(found[1]), content, enter) if content else None
