"""Random changes of bytes, of JSON and of lines: what becomes of files on their way, and what an attacker writes."""

import copy
import math
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, -0.5, 1e-320, 1e300, math.nan, math.inf),
    *("", " ", "x\n" * 5000, "\0", "\u202e", "nan", "../../etc", "[", [], [[]], [1.5, -1], [None], {}, {"a": {"b": 1}}),
)
HOSTILE: tuple[dict[str, Any], ...] = (
    {"module": "evil_module", "class_name": "Evil", "registered_name": "evil>Evil", "config": {}},
    {"module": "subprocess", "class_name": "Popen", "registered_name": None, "config": {"args": "true"}},
    {"module": "os", "class_name": "function", "registered_name": "system", "config": "system"},
    {"class_name": "__lambda__", "config": {"value": "4wEAAAA="}},
    {"class_name": "Lambda", "config": {"function": ["4wEAAAA=", None, None], "function_type": "lambda"}},
    {"class_name": "TFOpLambda", "config": {"name": "io.write_file", "function": "io.write_file"}},
)
TOKENS = (
    *("", " ", "nan", "inf", "-inf", "1e400", "-1", "0", "1", "2", "9" * 400, "0x10", "1,5", "007", "a|b", "\u0663"),
    *(
        '"',
        '""',
        "'",
        "\\",
        "\0",
        "\ufeff",
        "\u202e",
        "NULL",
        "true",
        ":",
        "::",
        "1:",
        ":1",
        "1:1:1",
        "-",
        "#",
        "\t",
        ";",
    ),
)


def changed_bytes(data: bytes, random: Random) -> bytes:
    """Returns bytes with some of them flipped, cut off, zeroed, repeated, put in or in another order."""
    start, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
    middle = (start + end) // 2
    changes: tuple[Callable[[], bytes], ...] = (
        lambda: _flipped(data, random),
        lambda: data[:start],
        lambda: data[:start] + bytes(end - start) + data[end:],
        lambda: data[:end] + data[start:],
        lambda: data[:start] + random.randbytes(random.randint(1, 64)) + data[start:],
        lambda: data[:start] + data[middle:end] + data[start:middle] + data[end:],
        lambda: random.randbytes(random.randint(0, 200)),
    )
    return random.choices(changes, [6, 2, 1, 1, 1, 1, 1])[0]()


def changed_json(written: Any, random: Random) -> Any:
    """Returns plain JSON types with one to three values replaced, left out, added, or in the place of others."""
    for _ in range(random.choice((1, 1, 2, 3))):
        place = random.choice(list(_places(written)))
        value = random.choice((*ODD, *HOSTILE)) if random.random() < 0.8 else _any(written, random)
        if not place:
            continue
        written = copy.deepcopy(written)
        inside = written
        for key in place[:-1]:
            inside = inside[key]
        change = random.random()
        if change < 0.1:
            del inside[place[-1]]
        elif change < 0.2 and isinstance(inside, dict):
            inside[random.choice(("odd", "class_name", "module", ""))] = value
        else:
            inside[place[-1]] = copy.deepcopy(value)
    return written


def changed_lines(text: str, separators: str, random: Random) -> str:
    """Returns lines of which some have other tokens, are left out, doubled, or in each other's place."""
    lines = text.split("\n")
    for _ in range(random.choice((1, 1, 2, 5))):
        at, other = random.randrange(len(lines)), random.randrange(len(lines))
        change = random.random()
        if change < 0.7:
            separator = random.choice(separators)
            tokens = lines[at].split(separator)
            token = random.choice(TOKENS) if random.random() < 0.9 else random.choice(tokens) * random.randint(2, 9)
            tokens[random.randrange(len(tokens))] = token
            lines[at] = separator.join(tokens)
        elif change < 0.8:
            lines[at], lines[other] = lines[other], lines[at]
        elif change < 0.9:
            lines.insert(at, lines[other])
        else:
            del lines[at]
            lines = lines or [""]
    return random.choices(("\n", "\r\n", "\r"), [8, 1, 1])[0].join(lines)


def _flipped(data: bytes, random: Random) -> bytes:
    flipped = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8)) if data else 0):
        flipped[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(flipped)


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of each value, the whole included, as the keys and positions that lead there."""
    yield place
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield from _places(one, (*place, key))


def _any(written: Any, random: Random) -> Any:
    """The value at some place."""
    for key in random.choice(list(_places(written))):
        written = written[key]
    return written
